"""A run under way: its networks and players, what is saved of them, and the loop around the engine."""

from __future__ import annotations

import time
import warnings
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sanslabel import checkpoint, encoders
from sanslabel.batch import Clock
from sanslabel.batchnorm import synchronize_
from sanslabel.console import errors
from sanslabel.device import memory_format
from sanslabel.distributed import all_reduce_max, gather, on_first_process, rank, world_size
from sanslabel.engine import Player, Record, optimize, players_of
from sanslabel.errors import Collapsed, CollapseWarning, DiskError, NotFinite, bad_input_as
from sanslabel.heartbeat import followed
from sanslabel.methods.method import Method, Networks
from sanslabel.randomness import Stream, fold
from sanslabel.recipe import Recipe
from sanslabel.run_config import Plan
from sanslabel.sources import Source, batches
from sanslabel.stopwatch import Stopwatch, timing
from sanslabel.training.compilation import compile_
from sanslabel.training.journal import BadSamples, Metrics, NotFiniteSteps
from sanslabel.training.parallel import chunk_, recompute_
from sanslabel.training.progress import Show, shown
from sanslabel.training.sharding import gathered, lying_like, shard_
from sanslabel.training.signals import Enough, Heard, Stopped, asked_to_stop
from sanslabel.training.timesheet import Entry, Timesheet
from sanslabel.training.trace import traced
from sanslabel.training.tracker import Track, Tracker, tracking
from sanslabel.training.weight_monitor import WeightMonitor
from sanslabel.verdict import Verdict

OnCollapse = Literal["warn", "stop"]
LOG_EVERY = 10
"""steps between lines of metrics.jsonl"""
AT_LEAST, AT_MOST = 200, 1.0
"""lines are that dense up to this step; from then on there is one in so many seconds at most, since fast steps of small
networks take less time than what is measured of them"""
SAVE_AFTER = 60.0
"""seconds after which the end of an epoch brings a checkpoint; five times that bring one at any step"""
REFUSALS = 3
"""steps, or saves, in a row that may fail before the run stops"""


@dataclass(frozen=True)
class Session:
    """What `opened` makes of a plan. Nothing of it is on disk before `follow`."""

    run: Path
    plan: Plan
    method: Method
    recipe: Recipe
    source: Source
    net: Networks
    players: dict[str, Player]

    def follow(self, on_collapse: OnCollapse, track: Track | None, profile: bool = False) -> tuple[int, Verdict]:
        """Trains from the newest checkpoint to the end, writes metrics, checkpoints and where asked to a trace on the
        way, and the encoders at the end. The number of samples that could not be read, and what the figures say.
        Raises Stopped, NotFinite, Collapsed, DiskError and BadInput."""
        watch = WeightMonitor(self.net, self.players)
        done = self.restore_()
        steps = len(self.source) // self.plan.batch * self.plan.epochs
        bad = BadSamples(self.run / "bad_samples.jsonl")
        saver, refusals = _Saver(self, bad), _Refusals(self.run, self.source, done)
        device, handed = torch.device(self.plan.device), tracking(track, self.run, done)
        marked, trace = timing(Stopwatch(device, profile)), traced(self.run, steps - done if profile else 0, device)
        with (
            asked_to_stop() as heard,
            shown(self.plan.method, done, steps) as show,
            handed as hand,
            marked as stopwatch,
            trace as traced_step,
        ):
            asked, voice = 0, _Voice(self, done, stopwatch, show, hand, on_collapse)
            try:
                for record in self.records(done, bad, heard):
                    traced_step()
                    refusals.count(record)
                    voice.introduce(record)
                    done = record.clock.step + 1
                    # Signals and clocks are one process's own: all stop at any one's signal, and go by the first clock.
                    asked, line, save = all_reduce_max(heard.first, voice.due(record.clock), saver.due(record.clock))
                    if line or done == steps or record.refused:
                        said = on_first_process(voice.tell, record, watch.figures())
                        if said.failed and on_collapse == "stop":
                            saver.save(done, last=True)
                            raise Collapsed(f"{self.run}: stopped after step {done}. {said.sentence}")
                    if asked:
                        break
                    if done == steps or (save and not record.refused):  # until it goes well again
                        saver.save(done, last=done == steps)
            except Enough:
                asked = heard.first
            if asked:
                saver.save(done, last=True)
                raise Stopped(asked, f"stopped after step {done}; continue with: sanslabel train --resume {self.run}")
        networks = self.method.encoders(self.net)
        weights = {name: gathered(network.state_dict()) for name, network in networks.items()}
        on_first_process(checkpoint.save_encoders, self.run, networks, weights)
        return len(bad.seen), on_first_process(voice.metrics.verdict)

    def records(self, start: int, bad: BadSamples, heard: Heard) -> Iterator[Record]:
        """The engine's records from a step on."""
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
        )
        # Several processes stop together, after a step.
        stream = heard.waited(stream) if world_size() == 1 else followed(stream)
        return optimize(self.method, self.net, self.players, stream, getattr(torch, plan.precision))

    def save(self, done: int) -> None:
        """All state after so many steps."""
        parts = {
            "networks": gathered(self.net.state_dict()),
            "optimizers": gathered(optimizer_state(self.net, self.players)),
        }
        on_first_process(_saved, self.run / "checkpoints", done, parts)

    def restore_(self) -> int:
        """Takes on the state of the newest checkpoint. The steps done then, 0 where there is none."""
        found = on_first_process(checkpoint.newest, self.run / "checkpoints")
        if found is None:
            return 0
        path = found / "networks.safetensors"
        own, saved = self.net.state_dict(), checkpoint.read_tensors(path)
        parted = {name: lying_like(value, own[name]) for name, value in saved.items() if name in own}
        checkpoint.load_strictly_(self.net, saved | parted, path)
        path = found / "optimizers.safetensors"
        with bad_input_as(path, "start a new run"):
            load_optimizer_state_(self.net, self.players, checkpoint.read_tensors(path))
        return checkpoint.read_state(found)["step"]


def opened(run: Path, plan: Plan, method: Method, recipe: Recipe, source: Source) -> Session:
    """The session of a plan, with fresh weights drawn from its seed. BadInput for what does not fit together."""
    torch.manual_seed(fold(plan.seed, Stream.WEIGHTS))
    encoder = encoders.build(**plan.encoder)
    net = method.networks(encoder, source.facts(plan.image_size))
    net.to(torch.device(plan.device)).train()
    synchronize_(net)
    if plan.recompute:
        recompute_(net)
    if plan.sharding == "full":
        shard_(net, torch.device(plan.device))
    else:  # parts must be contiguous
        net.to(memory_format=memory_format(torch.device(plan.device)))  # pyright: ignore[reportCallIssue]
    if plan.chunk is not None and chunk_(net, plan.chunk):
        warnings.warn("--chunk: BatchNorm in the encoder normalizes each chunk by itself", stacklevel=4)
    if plan.compile:
        compile_(net)
    return Session(run, plan, method, recipe, source, net, players_of(net, recipe, plan.batch))


def _saved(folder: Path, done: int, parts: Mapping[str, Mapping[str, Tensor]]) -> None:
    checkpoint.save(folder, done, parts, {})


def optimizer_state(net: Networks, players: Mapping[str, Player]) -> dict[str, Tensor]:
    """The optimizers' memories, as player/slot/parameter."""
    names: dict[Tensor, str] = {parameter: name for name, parameter in net.named_parameters()}
    return {
        f"{player}/{slot}/{names[parameter]}": value
        for player, side in players.items()
        for parameter, slots in side.optimizer.state.items()
        for slot, value in slots.items()
    }


def load_optimizer_state_(net: Networks, players: Mapping[str, Player], state: Mapping[str, Tensor]) -> None:
    """The inverse of `optimizer_state`; ValueError for the state of another optimizer."""
    slots: dict[tuple[str, str], dict[str, Tensor]] = defaultdict(dict)
    for key, value in state.items():
        player, slot, name = key.split("/")
        slots[player, name][slot] = value
    names = {parameter: name for name, parameter in net.named_parameters()}
    # An optimizer's parameters remember the same things of the same shapes: each asks for what the others have.
    for player, side in players.items():
        known = {slot for (of, _), own in slots.items() if of == player for slot in own}
        for p in side.parameters:
            own = slots.get((player, names[p]), {})
            if own and (own.keys() != known or any(v.ndim and v.shape != p.shape for v in own.values())):
                raise ValueError(f"the memory of {names[p]!r} is not that of its optimizer")
    for player, side in players.items():
        about = side.optimizer.state_dict()
        about["state"] = {
            i: {slot: _formatted_like(p, value) for slot, value in slots[player, names[p]].items()}
            for i, p in enumerate(side.parameters)
            if (player, names[p]) in slots
        }
        side.optimizer.load_state_dict(about)


def _formatted_like(parameter: nn.Parameter, value: Tensor) -> Tensor:
    """The value in the parameter's memory format where it is of its shape: fused kernels take both as they lie."""
    if value.shape != parameter.shape:
        return value.clone()  # no part of the file, which would stay open
    return torch.empty_like(parameter).copy_(lying_like(value, parameter))


class _Refusals:
    """Steps in a row that were refused, and what they saw."""

    def __init__(self, run: Path, source: Source, start: int) -> None:
        self.run, self.source = run, source
        self.journal = NotFiniteSteps(run / "not_finite.jsonl", start)
        self.row = self.journal.row(start)

    def count(self, record: Record) -> None:
        self.row = self.row + 1 if record.refused else 0
        if record.refused:
            rows = gather(record.batch.index).tolist()
            self.journal.add(record.clock.step + 1, [self.source.id(row) for row in rows])
        if self.row == REFUSALS:
            raise NotFinite(
                f"{self.run}: the loss or its gradient was not finite for {REFUSALS} steps in a row, up to step "
                f"{record.clock.step + 1}; start again with a lower --lr. The last good checkpoint is kept, and"
                f" {self.journal.path} names the samples of those steps."
            )


class _Voice:
    """What a run says on its way, by its first process: a line now and then, where its time goes, and what is wrong
    once of each reason in a row."""

    def __init__(
        self, session: Session, start: int, stopwatch: Stopwatch, show: Show, hand: Tracker, on_collapse: OnCollapse
    ) -> None:
        self.plan, self.show, self.hand = session.plan, show, hand
        self.metrics = Metrics(session.run / "metrics.jsonl", start)
        self.timesheet, self.advised = Timesheet(stopwatch, session.plan, session.source), False
        self.warns, self.last, self.introduced = on_collapse == "warn", "", rank() > 0

    def introduce(self, record: Record) -> None:
        """Says once how large a step is, over how many processes, and among how many negatives a positive is told."""
        if not self.timesheet.begun:
            self.timesheet.begin(record.clock)
        if self.introduced or not record.objectives:
            return
        self.introduced = True
        each = f" on {world_size()} processes, {self.plan.batch // world_size():,} each" if world_size() > 1 else ""
        negatives = max((o.negatives or 0 for o in record.objectives), default=0)
        among = f", {negatives:,} negatives for each positive" if negatives else ""
        print(f"{self.plan.batch:,} images a step{each}{among}", file=errors())

    def due(self, clock: Clock) -> bool:
        """Whether it is time for a line; never for other processes than the first."""
        done = clock.step + 1
        dense = done % LOG_EVERY == 0 and (done <= AT_LEAST or self.metrics.age() >= AT_MOST)
        return rank() == 0 and (dense or self.timesheet.due(clock))

    def tell(self, record: Record, figures: Mapping[str, Any]) -> Verdict:
        """The verdict with this line."""
        entry = self.timesheet.entry(record.clock) if self.timesheet.due(record.clock) else None
        self.show(record.clock, self.metrics.add(record, figures if entry is None else {**figures, **entry.figures}))
        if entry is not None:
            self._account(entry)
        self.hand(self.metrics.recent[-1])
        said = self.metrics.verdict()
        if self.warns and said.failed and said.name != self.last:
            warnings.warn(f"step {record.clock.step + 1}: {said.sentence}", CollapseWarning, stacklevel=4)
        self.last = said.name
        return said

    def _account(self, entry: Entry) -> None:
        """Says where time went, and once what to do about it."""
        print(entry.sentence, file=errors())
        advice = [] if self.advised else list(self.timesheet.advice(entry))
        self.advised = self.advised or bool(advice)
        for sentence in advice:  # no warning: the machine may only have been busy with something else
            print(f"advice: {sentence}", file=errors())


class _Saver:
    """When to save, and what to do about a disk that refuses."""

    def __init__(self, session: Session, bad: BadSamples) -> None:
        self.session, self.bad, self.refusals, self.last = session, bad, 0, time.monotonic()

    def due(self, clock: Clock) -> bool:
        """Whether it is time; never for other processes than the first."""
        wait = SAVE_AFTER if (clock.step + 1) % clock.steps_per_epoch == 0 else 5 * SAVE_AFTER
        return rank() == 0 and time.monotonic() - self.last > wait

    def save(self, done: int, last: bool) -> None:
        """DiskError if it is the last chance or the third refusal; before that a warning."""
        self.bad.share()
        try:
            self.session.save(done)
            self.refusals = 0
        except DiskError as error:
            self.refusals += 1
            if last or self.refusals == REFUSALS:
                raise
            if rank() == 0:
                warnings.warn(f"{error} Training goes on.", stacklevel=2)
        self.last = time.monotonic()
