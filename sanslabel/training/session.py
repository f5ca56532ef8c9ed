"""A session of training: its networks and players, the loop around the engine, and the times of checkpoints."""

from __future__ import annotations

import shlex
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from sanslabel import checkpoint
from sanslabel.batch import Clock
from sanslabel.batchnorm import synchronize_
from sanslabel.console import errors
from sanslabel.device import memory_format
from sanslabel.distributed import all_reduce_max, on_first_process, rank, world_size
from sanslabel.engine import Player, Record, optimize, players_of
from sanslabel.errors import Collapsed, DiskError, bad_input_as
from sanslabel.given import start_from_
from sanslabel.heartbeat import with_activity
from sanslabel.methods.method import Method, Networks
from sanslabel.randomness import Stream, fold
from sanslabel.recipe import Recipe
from sanslabel.run_config import Plan
from sanslabel.run_folder import build_encoders, given_networks, open_given
from sanslabel.settings import OnCollapse, Track
from sanslabel.sources import Source, batches
from sanslabel.stopwatch import Stopwatch, timing
from sanslabel.training.compilation import compile_
from sanslabel.training.journal import BadSamples, Metrics
from sanslabel.training.optimizer_state import load_optimizer_state_, optimizer_state
from sanslabel.training.parallel import chunk_, recompute_
from sanslabel.training.progress import display
from sanslabel.training.refusals import LIMIT, Refusals
from sanslabel.training.run_log import RunLog
from sanslabel.training.sharding import full_tensors, fully_shard_, sharded_like
from sanslabel.training.signals import Received, Stopped, StoppedWaiting, stop_signals
from sanslabel.training.timesheet import Timesheet
from sanslabel.training.trace import traced
from sanslabel.training.tracker import tracking
from sanslabel.training.weight_monitor import WeightMonitor
from sanslabel.wording import worded

SAVE_AFTER = 60.0
"""seconds after which a checkpoint is saved at the end of an epoch; after five times as many, at any step"""


@dataclass(frozen=True)
class Session:
    """A plan and everything that is needed to train it. Nothing is written to the disk before `follow`."""

    run: Path
    plan: Plan
    method: Method
    recipe: Recipe
    source: Source
    net: Networks
    players: dict[str, Player]

    def follow(self, on_collapse: OnCollapse, track: Track | None, profile: bool = False) -> None:
        """Trains from the newest checkpoint to the end. Writes metrics and checkpoints on the way, and a trace if
        `profile`. At the end it exports the encoders and keeps the last checkpoint only.

        Raises Stopped, NotFinite, Collapsed, DiskError and BadInput.
        """
        monitor = WeightMonitor(self.net, self.players)
        done = self.restore_()
        steps = len(self.source) // self.plan.batch * self.plan.epochs
        bad = BadSamples.resumed(self.run / "bad_samples.jsonl")
        saver, refusals = Saver(self, bad), Refusals.resumed(self.run, self.source, done)
        device = torch.device(self.plan.device)
        with ExitStack() as stack:
            received = stack.enter_context(stop_signals())
            screen = stack.enter_context(display(done, steps))
            tracker = stack.enter_context(tracking(track, self.run, done))
            stopwatch = stack.enter_context(timing(Stopwatch(device, profile)))
            traced_step = stack.enter_context(traced(self.run, steps - done if profile else 0, device))
            metrics = Metrics.resumed(self.run / "metrics.jsonl", done)
            timesheet = Timesheet(stopwatch, self.plan, self.source)
            log = RunLog(self.plan, metrics, timesheet, screen, tracker, on_collapse == "warn", done)
            signal = 0
            try:
                for record in self.records(done, bad, received):
                    traced_step()
                    refusals.count(record)
                    log.step(record)
                    done = record.clock.step + 1
                    # Signals and clocks differ between processes. All stop at a signal to any of them, and all follow
                    # the clock of the first process.
                    signal, line, save = all_reduce_max(received.first, log.due(record.clock), saver.due(record.clock))
                    if line or done == steps or record.refused:
                        verdict = on_first_process(log.log, record, monitor.figures())
                        if verdict.failed and on_collapse == "stop":
                            saver.save(done, last=True)
                            raise Collapsed(f"{self.run}: stopped after step {done}. {verdict.sentence}")
                    if signal:
                        break
                    if done == steps or (save and not record.refused):  # a refused step is not worth a checkpoint
                        saver.save(done, last=done == steps)
            except StoppedWaiting:
                signal = received.first
            if signal and not done:
                raise Stopped(signal, "stopped before the first step; repeat the command to start again")
            if signal:
                saver.save(done, last=True)
                command = f"sanslabel train --resume {shlex.quote(str(self.run))}"
                raise Stopped(signal, f"stopped after step {done}; continue with: {command}")
        self.export()
        on_first_process(checkpoint.keep_newest, self.run / "checkpoints")

    def records(self, start: int, bad: BadSamples, received: Received) -> Iterator[Record]:
        """Yields the engine's records, beginning with the step `start`."""
        plan, device = self.plan, torch.device(self.plan.device)
        stream = batches(
            self.source,
            plan.batch,
            seed=plan.seed,
            epochs=plan.epochs,
            start=start,
            workers=plan.workers,
            device=device,
            report=bad.add,
            order=self.source.order_of(self.method.stretch),
        )
        # Several processes must stop together, so they stop only after a step.
        stream = received.until_signal(stream) if world_size() == 1 else with_activity(stream)
        return optimize(self.method, self.net, self.players, stream, getattr(torch, plan.precision))

    def save(self, done: int) -> None:
        """Saves a checkpoint with all state after `done` steps."""
        files = {
            "networks": full_tensors(self.net.state_dict()),
            "optimizers": full_tensors(optimizer_state(self.net, self.players)),
        }
        on_first_process(_save, self.run / "checkpoints", done, files)

    def export(self) -> None:
        """Exports the encoders of the method."""
        networks = self.method.encoders(self.net)
        weights = {name: full_tensors(network.state_dict()) for name, network in networks.items()}
        on_first_process(checkpoint.save_encoders, self.run, networks, weights)

    def restore_(self) -> int:
        """Loads the newest checkpoint. Returns the number of steps that it has done, or 0 if there is no checkpoint."""
        newest = on_first_process(checkpoint.newest, self.run / "checkpoints")
        if newest is None:
            return 0
        path = newest / "networks.safetensors"
        state = self.net.state_dict()
        saved = checkpoint.with_new_names(checkpoint.read_tensors(path), state)
        sharded = {name: sharded_like(value, state[name]) for name, value in saved.items() if name in state}
        checkpoint.load_strictly_(self.net, saved | sharded, path)
        path = newest / "optimizers.safetensors"
        with bad_input_as(path, "start a new run"):
            memories = checkpoint.with_new_names(checkpoint.read_tensors(path), state)
            load_optimizer_state_(self.net, self.players, memories)
        return checkpoint.read_state(newest)["step"]


def open_session(run: Path, plan: Plan, method: Method, recipe: Recipe, source: Source) -> Session:
    """Returns the session of a plan, with fresh weights drawn from its seed. Raises BadInput if method, encoder and
    data do not fit together."""
    device = torch.device(plan.device)
    torch.manual_seed(fold(plan.seed, Stream.WEIGHTS))
    encoder = build_encoders(plan)
    if plan.weights is not None:
        report = start_from_(encoder, open_given(plan.weights), plan.allow_missing)
        if rank() == 0 and not (run / "run.json").exists():
            print(report, file=errors())
    net = method.networks(encoder, source.facts(plan.image_size or None), **given_networks(plan))
    net.to(device).train()
    synchronize_(net)
    if plan.recompute:
        recompute_(net)
    if plan.sharding == "full":
        fully_shard_(net, device)
    else:  # not for sharded weights, whose slices must be contiguous
        net.to(memory_format=memory_format(device))  # pyright: ignore[reportCallIssue]
    if plan.chunk is not None and chunk_(net, plan.chunk):
        warnings.warn(worded("--chunk: BatchNorm in the encoder normalizes each chunk by itself"), stacklevel=4)
    if plan.compile:
        compile_(net)
    return Session(run, plan, method, recipe, source, net, players_of(net, recipe, plan.batch))


class Saver:
    """The times at which a run is saved, and the number of saves in a row that failed."""

    def __init__(self, session: Session, bad: BadSamples) -> None:
        self.session, self.bad, self.refusals, self.last = session, bad, 0, time.monotonic()

    def due(self, clock: Clock) -> bool:
        """Returns True if it is time for a checkpoint. Only the first process may return True."""
        wait = SAVE_AFTER if (clock.step + 1) % clock.steps_per_epoch == 0 else 5 * SAVE_AFTER
        return rank() == 0 and time.monotonic() - self.last > wait

    def save(self, done: int, last: bool) -> None:
        """Saves a checkpoint. A save that fails brings a warning. Raises DiskError if the last save of a run fails, or
        three in a row."""
        self.bad.share()
        try:
            self.session.save(done)
            self.refusals = 0
        except DiskError as error:
            self.refusals += 1
            if last or self.refusals == LIMIT:
                raise
            if rank() == 0:
                warnings.warn(f"{error} Training goes on.", stacklevel=2)
        self.last = time.monotonic()


def _save(folder: Path, done: int, files: Mapping[str, Mapping[str, Tensor]]) -> None:
    checkpoint.save(folder, done, files, {})
