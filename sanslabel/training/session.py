"""A run under way: its networks and optimizers, what is saved of them, and the loop around the engine."""

from __future__ import annotations

import time
import warnings
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from sanslabel import checkpoint, encoders
from sanslabel.errors import DiskError, NotFinite
from sanslabel.methods.method import Method, Networks
from sanslabel.randomness import fold
from sanslabel.recipe import Recipe
from sanslabel.sources import Source, batches
from sanslabel.training.engine import Player, optimize, players
from sanslabel.training.journal import BadSamples, Metrics
from sanslabel.training.parallel import chunk_
from sanslabel.training.plan import Plan
from sanslabel.training.progress import shown
from sanslabel.training.signals import Stopped, asked_to_stop

LOG_EVERY = 10
"""steps between lines of metrics.jsonl"""
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

    def follow(self) -> int:
        """Trains from the newest checkpoint to the end, writes metrics and checkpoints on the way and the encoders at
        the end. The number of samples that could not be read. Raises Stopped, NotFinite and DiskError."""
        start = self.restore_()
        bad = BadSamples(self.run / "bad_samples.jsonl")
        metrics = Metrics(self.run / "metrics.jsonl", start)
        plan = self.plan
        device = torch.device(plan.device)
        order = {"seed": plan.seed, "epochs": plan.epochs, "start": start}
        stream = batches(self.source, plan.batch, **order, workers=plan.workers, device=device, report=bad.add)
        records = optimize(self.method, self.net, self.players, stream, getattr(torch, plan.precision))
        steps = len(self.source) // plan.batch * plan.epochs
        refused_steps = refused_saves = 0
        saved_at = time.monotonic()
        with asked_to_stop() as heard, shown(f"{plan.method} on {self.source.name}", start, steps) as show:
            for record in records:
                clock = record.clock
                done = clock.step + 1
                refused_steps = refused_steps + 1 if record.refused else 0
                if refused_steps == REFUSALS:
                    raise NotFinite(
                        f"{self.run}: the loss or its gradient was not finite for {REFUSALS} steps in a row, up to "
                        f"step {done}; lower the learning rate with --rate. The last good checkpoint is kept."
                    )
                last = done == steps
                if done % LOG_EVERY == 0 or last or record.refused:
                    show(clock, metrics.add(record, self.recipe.rate(clock)))
                wait = SAVE_AFTER if done % clock.steps_per_epoch == 0 else 5 * SAVE_AFTER
                if time.monotonic() - saved_at > wait or heard or last:
                    try:
                        checkpoint.save(self.run / "checkpoints", done, self.parts(), {"epoch": clock.epoch})
                        refused_saves = 0
                    except DiskError as error:
                        refused_saves += 1
                        if refused_saves == REFUSALS or heard or last:
                            raise
                        warnings.warn(f"{error} Training goes on.", stacklevel=2)
                    saved_at = time.monotonic()
                if heard:
                    raise Stopped(
                        heard[0], f"stopped after step {done}; continue with: sanslabel train --resume {self.run}"
                    )
        checkpoint.save_encoders(self.run, self.method.encoders(self.net))
        return len(bad.seen)

    def parts(self) -> dict[str, dict[str, Tensor]]:
        """All state, as a checkpoint holds it: the networks', and the optimizers' as player/slot/parameter."""
        names: dict[Tensor, str] = {parameter: name for name, parameter in self.net.named_parameters()}
        memories = {
            f"{side}/{slot}/{names[parameter]}": value
            for side, player in self.players.items()
            for parameter, slots in player.optimizer.state.items()
            for slot, value in slots.items()
        }
        return {"networks": self.net.state_dict(), "optimizers": memories}

    def restore_(self) -> int:
        """Takes on the state of the newest checkpoint. The steps done then, 0 where there is none."""
        found = checkpoint.newest(self.run / "checkpoints")
        if found is None:
            return 0
        path = found / "networks.safetensors"
        checkpoint.load_strictly_(self.net, checkpoint.read_tensors(path), path)
        memories: dict[tuple[str, str], dict[str, Tensor]] = defaultdict(dict)
        for key, value in checkpoint.read_tensors(found / "optimizers.safetensors").items():
            side, slot, name = key.split("/")
            memories[side, name][slot] = value
        names = {parameter: name for name, parameter in self.net.named_parameters()}
        for side, player in self.players.items():
            about = player.optimizer.state_dict()
            about["state"] = {
                i: {slot: _formatted_like(p, value) for slot, value in memories[side, names[p]].items()}
                for i, p in enumerate(player.parameters)
            }
            player.optimizer.load_state_dict(about)
        return checkpoint.read_state(found)["step"]


def _formatted_like(parameter: nn.Parameter, value: Tensor) -> Tensor:
    """The value in the parameter's memory format where it is of its shape: fused kernels take both as they lie."""
    return torch.empty_like(parameter).copy_(value) if value.shape == parameter.shape else value


def opened(run: Path, plan: Plan, method: Method, recipe: Recipe, source: Source) -> Session:
    """The session of a plan, with fresh weights drawn from its seed. BadInput for what does not fit together."""
    torch.manual_seed(fold(plan.seed, 3))
    encoder = encoders.build(**plan.encoder)
    net = method.networks(encoder, source.facts(plan.image_size))
    net.to(torch.device(plan.device)).to(memory_format=torch.channels_last).train()  # pyright: ignore[reportCallIssue]
    if plan.chunk is not None and chunk_(net, plan.chunk):
        warnings.warn("--chunk: BatchNorm in the encoder normalizes each chunk by itself", stacklevel=4)
    return Session(run, plan, method, recipe, source, net, players(net, recipe, plan.batch))
