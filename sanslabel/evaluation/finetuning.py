"""Fine-tuning: the encoder goes on learning, now with labels."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from itertools import takewhile
from math import inf

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from sanslabel.batchnorm import synchronize_
from sanslabel.device import autocast, deterministic_kernels, memory_format
from sanslabel.distributed import average_, gather, world_size
from sanslabel.encoders import Encoder
from sanslabel.errors import BadInput
from sanslabel.evaluation.linear import Probe
from sanslabel.optimizers import AdamW
from sanslabel.randomness import Stream, fold
from sanslabel.recipe import Group, Recipe
from sanslabel.sources import Source, batches
from sanslabel.views import View


@dataclass(frozen=True, kw_only=True)
class FineTuning:
    """How an encoder is fine-tuned: numbers fixed beforehand, so that nothing is chosen. Decay of weights and of rates
    by layers are those of He et al. 2022 (MAE), table 9."""

    steps: int = 800
    """as near to these as whole epochs come"""
    batch: int = 128
    lr: float = 1e-3
    weight_decay: float = 0.05
    layer_decay: float = 0.75
    """factor of the rate from each block of a transformer to the one below"""
    crop: tuple[float, float] = (0.5, 1.0)
    flip: float = 0.5

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise BadInput(f"--finetune-steps {self.steps}: must be at least 1.")
        if not 0 < self.lr < inf:
            raise BadInput(f"--finetune-lr {self.lr}: must be a finite number above 0.")

    def epochs(self, samples: int) -> int:
        """Passes over so many samples that come nearest to the steps, at least one."""
        return max(1, round(self.steps / max(1, samples // self.batch)))

    def recipe(self, encoder: Encoder, samples: int) -> Recipe:
        """A tenth of the epochs to warm up, then a cosine to 0."""
        optimizer = AdamW(lr=self.lr, weight_decay=self.weight_decay)
        epochs = self.epochs(samples)
        groups = tuple(Group(match=f"0.{name}", lr_factor=rate) for name, rate in self.rates(encoder).items())
        return Recipe(optimizer=optimizer, epochs=epochs, batch=self.batch, warmup=epochs / 10, groups=groups)

    def rates(self, encoder: Encoder) -> dict[str, float]:
        """Factors of the rate by pattern of parameter names: the head and a transformer's last norm have 1, each block
        `layer_decay` of the one above, tokens below the blocks the least. Convnets have one rate."""
        names = {module: f"{name}." for name, module in encoder.named_modules()}
        units = [names[unit] for unit in encoder.units() if unit is not encoder]
        if not units:
            return {}
        parameters = (name for name, _ in encoder.named_parameters())
        below = takewhile(lambda name: not name.startswith(units[0]), parameters)
        rates = dict.fromkeys(below, self.layer_decay ** (len(units) + 1))
        return rates | {f"{unit}*": self.layer_decay ** (len(units) - i) for i, unit in enumerate(units)}


def finetuned(
    encoder: Encoder,
    probe: Probe,
    source: Source,
    how: FineTuning,
    *,
    image_size: int,
    seed: int,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    workers: int = 0,
) -> nn.Module:
    """Images (N, C, S, S) -> logits (N, classes): a copy of the encoder under a head that starts as its probe,
    after the last step of training both on the source's labels. The encoder itself stays as it is.

    A head that starts as the probe keeps its first steps from spoiling the encoder: Kumar et al. 2022, "Fine-tuning can
    distort pretrained features and underperform out-of-distribution".
    """
    net = nn.Sequential(deepcopy(encoder), Head(probe)).to(device).train()
    net.to(memory_format=memory_format(device))  # pyright: ignore[reportCallIssue]
    recipe, view = how.recipe(encoder, len(source)), View(crop=how.crop, flip=how.flip, size=image_size)
    synchronize_(net)
    (optimizer,) = recipe.optimizers.values()
    descent = optimizer.build(recipe.parameter_groups(net, optimizer))
    order = {"seed": fold(seed, Stream.FINE_TUNING), "epochs": recipe.epochs, "workers": workers, "device": device}
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), deterministic_kernels():
        for clock, batch in batches(source, max(1, recipe.batch // world_size()) * world_size(), **order):
            torch.manual_seed(clock.key)  # of dropout
            with autocast(device, dtype):
                logits = net(view(batch._replace(dtype=dtype), 0))
            descent.zero_grad(set_to_none=True)
            cross_entropy(gather(logits).float(), gather(batch.labels())).backward()
            average_([p.grad for p in net.parameters() if p.grad is not None])
            recipe.adjust_(descent, clock)
            descent.step()
    return net.eval()


class Head(nn.Module):
    """A probe as layers that learn on: standardization and a linear layer, (N, D) -> (N, classes) in float32.

    The standardization follows the features, as BatchNorm without a scale does. Folded into the linear layer it would
    be right for the first step alone: a transformer's features vary little about a large mean, and what moves that
    mean by little would then move the logits by much.
    """

    def __init__(self, probe: Probe) -> None:
        super().__init__()
        width, classes = probe.weight.shape
        self.norm, self.linear = nn.BatchNorm1d(width, eps=1e-8, affine=False), nn.Linear(width, classes)
        for own, fitted in (
            (self.norm.running_mean, probe.mean),
            (self.norm.running_var, torch.where(probe.scale > 0, probe.scale, 1).square().reciprocal()),
            (self.linear.weight.data, probe.weight.T),
            (self.linear.bias.data, probe.bias),
        ):
            assert own is not None
            own.copy_(fitted)

    def forward(self, features: Tensor) -> Tensor:
        with torch.autocast(features.device.type, enabled=False):
            return self.linear(self.norm(features.float()))
