"""A run under way: its networks and players, what is saved of them, and the loop around the engine."""

from __future__ import annotations

import time
import warnings
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from sanslabel import checkpoint, encoders
from sanslabel.batch import Clock
from sanslabel.errors import Collapsed, CollapseWarning, DiskError, NotFinite, reading
from sanslabel.methods.method import Method, Networks
from sanslabel.plan import Plan
from sanslabel.randomness import fold
from sanslabel.recipe import Recipe
from sanslabel.sources import Source, batches
from sanslabel.training.engine import Player, Record, optimize, players_of
from sanslabel.training.journal import BadSamples, Metrics
from sanslabel.training.parallel import chunk_
from sanslabel.training.progress import shown
from sanslabel.training.signals import Stopped, asked_to_stop
from sanslabel.training.tracker import Track, tracking
from sanslabel.training.watch import Watch
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

    def follow(self, on_collapse: OnCollapse, track: Track | None) -> tuple[int, Verdict]:
        """Trains from the newest checkpoint to the end, writes metrics and checkpoints on the way and the encoders at
        the end. The number of samples that could not be read, and what the figures say. Raises Stopped, NotFinite,
        Collapsed, DiskError and BadInput."""
        plan = self.plan
        watch = Watch(self.net, self.players)
        done = self.restore_()
        steps = len(self.source) // plan.batch * plan.epochs
        bad = BadSamples(self.run / "bad_samples.jsonl")
        metrics = Metrics(self.run / "metrics.jsonl", done)
        saver, refusals, alarm = _Saver(self), _Refusals(self.run), _Alarm()
        handed = tracking(track, self.run, done)
        with asked_to_stop() as heard, shown(plan.method, done, steps) as show, handed as hand:
            try:
                for record in self.records(done, bad):
                    refusals.count(record)
                    done = record.clock.step + 1
                    due = done % LOG_EVERY == 0 and (done <= AT_LEAST or metrics.age() >= AT_MOST)
                    if due or done == steps or record.refused:
                        show(record.clock, metrics.add(record, watch.figures()))
                        hand(metrics.recent[-1])
                        if (said := metrics.verdict()).failed and on_collapse == "stop":
                            saver.save(done, last=True)
                            raise Collapsed(f"{self.run}: stopped after step {done}. {said.sentence}")
                        alarm.hear(said, done)
                    if heard:
                        break
                    if done == steps or saver.due(record.clock):
                        saver.save(done, last=done == steps)
            except RuntimeError:  # a signal to the whole group may end the processes that decode, too
                if not heard:
                    raise
            if heard:
                saver.save(done, last=True)
                raise Stopped(
                    heard[0], f"stopped after step {done}; continue with: sanslabel train --resume {self.run}"
                )
        checkpoint.save_encoders(self.run, self.method.encoders(self.net))
        return len(bad.seen), metrics.verdict()

    def records(self, start: int, bad: BadSamples) -> Iterator[Record]:
        """The engine's records from a step on."""
        plan, device = self.plan, torch.device(self.plan.device)
        order = {"seed": plan.seed, "epochs": plan.epochs, "start": start}
        stream = batches(self.source, plan.batch, **order, workers=plan.workers, device=device, report=bad.add)
        return optimize(self.method, self.net, self.players, stream, getattr(torch, plan.precision))

    def save(self, done: int) -> None:
        """All state after so many steps."""
        parts = {"networks": self.net.state_dict(), "optimizers": optimizer_state(self.net, self.players)}
        checkpoint.save(self.run / "checkpoints", done, parts, {})

    def restore_(self) -> int:
        """Takes on the state of the newest checkpoint. The steps done then, 0 where there is none."""
        found = checkpoint.load_networks_(self.net, self.run / "checkpoints")
        if found is None:
            return 0
        path = found / "optimizers.safetensors"
        with reading(path, "start a new run"):
            load_optimizer_state_(self.net, self.players, checkpoint.read_tensors(path))
        return checkpoint.read_state(found)["step"]


def opened(run: Path, plan: Plan, method: Method, recipe: Recipe, source: Source) -> Session:
    """The session of a plan, with fresh weights drawn from its seed. BadInput for what does not fit together."""
    torch.manual_seed(fold(plan.seed, 3))
    encoder = encoders.build(**plan.encoder)
    net = method.networks(encoder, source.facts(plan.image_size))
    net.to(torch.device(plan.device)).to(memory_format=torch.channels_last).train()  # pyright: ignore[reportCallIssue]
    if plan.chunk is not None and chunk_(net, plan.chunk):
        warnings.warn("--chunk: BatchNorm in the encoder normalizes each chunk by itself", stacklevel=4)
    return Session(run, plan, method, recipe, source, net, players_of(net, recipe, plan.batch))


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
    return torch.empty_like(parameter).copy_(value) if value.shape == parameter.shape else value


class _Refusals:
    """Steps in a row that were refused."""

    def __init__(self, run: Path) -> None:
        self.run, self.row = run, 0

    def count(self, record: Record) -> None:
        self.row = self.row + 1 if record.refused else 0
        if self.row == REFUSALS:
            raise NotFinite(
                f"{self.run}: the loss or its gradient was not finite for {REFUSALS} steps in a row, up to step "
                f"{record.clock.step + 1}; start again with a lower --rate. The last good checkpoint is kept."
            )


class _Alarm:
    """Warns when something is wrong, once of each reason in a row."""

    def __init__(self) -> None:
        self.last = ""

    def hear(self, said: Verdict, done: int) -> None:
        if said.failed and said.name != self.last:
            warnings.warn(f"step {done}: {said.sentence}", CollapseWarning, stacklevel=3)
        self.last = said.name


class _Saver:
    """When to save, and what to do about a disk that refuses."""

    def __init__(self, session: Session) -> None:
        self.session, self.refusals, self.last = session, 0, time.monotonic()

    def due(self, clock: Clock) -> bool:
        wait = SAVE_AFTER if (clock.step + 1) % clock.steps_per_epoch == 0 else 5 * SAVE_AFTER
        return time.monotonic() - self.last > wait

    def save(self, done: int, last: bool) -> None:
        """DiskError if it is the last chance or the third refusal; before that a warning."""
        try:
            self.session.save(done)
            self.refusals = 0
        except DiskError as error:
            self.refusals += 1
            if last or self.refusals == REFUSALS:
                raise
            warnings.warn(f"{error} Training goes on.", stacklevel=2)
        self.last = time.monotonic()
