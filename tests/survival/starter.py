"""Starts commands of sanslabel in processes of their own, with a place to hold them at: run by path, asked by lines of
JSON on its standard input. Each is a fork of this one, which has imported all that is slow to import.
"""

import json
import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path

import torch
import torch._dynamo

import sanslabel.evaluation
from sanslabel import checkpoint, cli, engine
from sanslabel.sources.pictures.images import ImagesFrom
from sanslabel.training import run, session

torch.set_num_threads(1)


def held(original, mark: Path, call: int, seconds: float):
    """The function, which leaves a mark and takes long in one of its calls."""
    calls = []

    def slow(*args, **kwargs):
        calls.append(1)
        if len(calls) == call:
            mark.touch()
            time.sleep(seconds)
        return original(*args, **kwargs)

    return slow


def hold(place: str, mark: Path, seconds: float) -> None:
    session.SAVE_AFTER = 0.0 if place == "save" else 60.0
    if place == "opening":
        run.open_source = held(run.open_source, mark, 1, seconds)
    elif place == "step":  # of the training, not of its rehearsal
        optimize = session.optimize

        def slow(*args):
            engine.Player.descend = held(engine.Player.descend, mark, 3, seconds)
            yield from optimize(*args)

        session.optimize = slow
    elif place == "save":
        checkpoint._flush = held(checkpoint._flush, mark, 20, seconds)
    elif place == "export":
        checkpoint.save_encoders = held(checkpoint.save_encoders, mark, 1, seconds)
    elif place == "evaluation":
        sanslabel.evaluation.evaluate = held(sanslabel.evaluation.evaluate, mark, 1, seconds)
    elif place == "step 5":  # saved four times before, and the rows of those steps as JSON in the mark
        session.SAVE_AFTER, optimize = 0.0, session.optimize

        def watched(*args):
            seen = {}
            for record in optimize(*args):
                seen[record.clock.step] = record.batch.index.tolist()
                if len(seen) == 5:
                    seen.popitem()
                    mark.with_name("part").write_text(json.dumps(seen))
                    mark.with_name("part").rename(mark)
                    time.sleep(seconds)
                yield record

        session.optimize = watched
    elif place == "data":  # after the third step, images come no more
        optimize = session.optimize

        def starved(*args):
            for record in optimize(*args):
                yield record
                if record.clock.step == 2:
                    if workers := multiprocessing.active_children():
                        for worker in workers:
                            os.kill(worker.pid, signal.SIGSTOP)
                        mark.touch()
                    else:
                        ImagesFrom.load = held(ImagesFrom.load, mark, 1, seconds)

        session.optimize = starved


def main() -> None:
    for line in sys.stdin:
        asked = json.loads(line)
        if "wait" in asked:
            _, status = os.waitpid(asked["wait"], 0)
            print(os.waitstatus_to_exitcode(status), flush=True)
            continue
        if pid := os.fork():
            print(pid, flush=True)
            continue
        said = os.open(asked["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for descriptor in (1, 2):
            os.dup2(said, descriptor)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        sys.argv = ["sanslabel", *asked["arguments"]]
        hold(asked["place"], Path(asked["mark"]), asked["seconds"])
        cli.main()


if __name__ == "__main__":
    main()
