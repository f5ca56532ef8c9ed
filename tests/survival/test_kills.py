"""SIGKILL at random moments, half of them aimed at a save: what is left ends as if it had not been."""

import json
import re
import subprocess
import sys
from collections import Counter
from multiprocessing import active_children

import pytest

import sanslabel
from sanslabel.training import session

pytestmark = pytest.mark.faults


def test_killed_runs_end_with_the_same_bits(tmp_path):
    """Fifty of them: python -m bench.survive."""
    command = [sys.executable, "-m", "bench.survive", "--kills", "8", "--results", str(tmp_path / "kills.jsonl")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    in_saves = re.search(r"^8 of 8, (\d) of them inside a save$", done.stdout, re.MULTILINE)
    assert in_saves, done.stdout
    assert int(in_saves[1]) >= 3
    lines = [json.loads(line) for line in (tmp_path / "kills.jsonl").read_text().splitlines()]
    assert [line["kill"] for line in lines] == list(range(8))


def test_with_other_numbers_of_workers_it_sees_the_same_samples_and_views(
    start, tmp_path, pictures, state_of, monkeypatch
):
    """0 workers until it is killed, 2 until it is killed again, then 1."""
    options = dict(cache="none", encoder="mlp", epochs=6, batch=16, precision="float32", device="cpu")  # 18 steps
    sanslabel.train(pictures, out=tmp_path / "whole", workers=0, **options)
    run = tmp_path / "run"
    flags = [part for name, value in options.items() for part in (f"--{name}", value)]
    first = start("train", "--data", pictures, *flags, "--workers", 0, "--out", run, place="step 5").reached()
    first.kill()
    assert first.ended() == -9
    second = start("train", "--resume", run, "--workers", 2, place="step 5").reached()
    second.kill()
    assert second.ended() == -9
    seen, workers, optimize = {}, [], session.optimize

    def watched(*args):
        for record in optimize(*args):
            workers.append(len(active_children()))
            seen[record.clock.step] = record.batch.index.tolist()
            yield record

    monkeypatch.setattr(session, "optimize", watched)
    sanslabel.resume(run, workers=1)
    assert sorted(seen) == list(range(8, 18))
    assert workers[0] == 1
    assert state_of(run) == state_of(tmp_path / "whole")
    for process in (first, second):
        seen |= {int(step): rows for step, rows in json.loads(process.mark.read_text()).items()}
    for epoch in range(6):
        visits = Counter(row for step in range(3 * epoch, 3 * epoch + 3) for row in seen[step])
        assert visits == Counter(range(48)), "none is missing, none is doubled"
    assert json.loads((run / "run.json").read_text())["workers"] == 0


@pytest.mark.parametrize("left", [[], [".lock"], [".lock", ".run.json.part"]])
def test_a_run_that_was_killed_before_it_began_can_be_started_again(tmp_path, left):
    (tmp_path / "run").mkdir()
    for name in left:
        (tmp_path / "run" / name).write_text("")
    run = sanslabel.train("digits", encoder="mlp", epochs=1, batch=256, out=tmp_path / "run").path
    assert not list(run.glob(".*.part"))
