"""finetune: the full encoder is trained further with labels; its head starts as the linear probe."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from itertools import takewhile
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from sanslabel.batchnorm import synchronize_
from sanslabel.constraints import Bounds, Fraction, NonNegative, Positive
from sanslabel.device import deterministic_kernels, memory_format
from sanslabel.distributed import world_size
from sanslabel.encoders import Encoder
from sanslabel.engine import optimize, players_of
from sanslabel.errors import BadInput, NotFinite
from sanslabel.evaluation.comparison import Comparison
from sanslabel.evaluation.features import accuracy
from sanslabel.evaluation.linear import Probe
from sanslabel.evaluation.probe import chosen_probe
from sanslabel.evaluation.protocol import NotMeasurable, Protocol
from sanslabel.evaluation.representation import represent
from sanslabel.evaluation.subjects import encoder_of_full_images
from sanslabel.inputs import ImageSpec, InputSpec, SpectrogramSpec
from sanslabel.methods.method import Networks
from sanslabel.methods.supervised import Supervised
from sanslabel.optimizers import AdamW
from sanslabel.randomness import Stream, fold
from sanslabel.recipe import Group, Recipe
from sanslabel.scores import Score
from sanslabel.sources import Source, batches
from sanslabel.views import LogMel, View

WITHOUT_DECAY = ("cls_token", "pos_embed")
"""parameters of transformers, by their last name, that get no weight decay though they are no vectors"""


@dataclass(frozen=True, kw_only=True)
class Finetune(Protocol):
    """The accuracy of an encoder that is trained further by the method `supervised`.

    All settings are fixed beforehand; none is chosen by results. Weight decay and layer decay are those of He et al.
    2022 (MAE), table 9. As in their code, biases, norms, the class token and positions have no weight decay. Drop path,
    mixed images, smoothed labels and random changes of color are left out. The head starts as the linear probe, so that
    its first steps do not spoil the encoder: Kumar et al. 2022, "Fine-tuning can distort pretrained features and
    underperform out-of-distribution".
    """

    steps: Annotated[int, Bounds(least=1)] = 800
    """optimizer steps, rounded to full epochs"""
    batch: Annotated[int, Bounds(least=1)] = 128
    """images in one step"""
    lr: Annotated[float, Positive] = 1e-3
    """learning rate of the head"""
    weight_decay: Annotated[float, NonNegative] = 0.05
    layer_decay: Annotated[float, Bounds(above=0, most=1)] = 0.75
    """factor of the learning rate from each block of a transformer to the one below it"""
    crop: tuple[float, float] = (0.5, 1.0)
    """smallest and largest share of the image's area in a random crop"""
    flip: Annotated[float, Fraction] = 0.5
    """probability that an image is mirrored"""

    title = "Accuracy after fine-tuning, in %"
    identified_by = ("steps", "rate")

    def check_comparison(self, comparison: Comparison) -> None:
        if (comparison.stage, comparison.tokens) != (None, None):
            raise BadInput("--protocols finetune trains the full encoder; leave out --stage and --tokens.")

        self.view(comparison.images.options["reads"])

    def measure(self, comparison: Comparison) -> list[Score]:
        images, seed = comparison.images, comparison.seed
        encoders = {
            name: encoder_of_full_images(encoder, images.train, images.options)
            for name, encoder in comparison.encoders.items()
        }
        features, division = images.represented(encoders)
        scores = []
        for name, encoder in encoders.items():
            comparison.report(f"Fine-tuning {name}")
            probe, choice = chosen_probe(features[name].train, division.train, classes=division.classes, seed=seed)
            net = fine_tuned(encoder, probe, images.train, self, seed=seed, **images.options)
            logits, readable = represent({name: net}, images.test, **images.options)
            labels = images.test.labels[readable].to(logits[name].device)
            value = accuracy(logits[name].argmax(dim=1), labels)
            settings = self.settings() | choice
            scores.append(comparison.score(self, "accuracy", name, value, division, settings, n_test=len(labels)))
        return scores

    def settings(self) -> dict[str, Any]:
        """Returns the fields as score files name them."""
        return {
            "kind": "FineTuning",
            "steps": self.steps,
            "batch": self.batch,
            "rate": self.lr,
            "weight_decay": self.weight_decay,
            "layer_decay": self.layer_decay,
            "crop": list(self.crop),
            "flip": self.flip,
        }

    def view(self, reads: InputSpec) -> View | LogMel:
        """Returns the view for training. Images are cropped and flipped; of a sound, a random window is taken."""
        if isinstance(reads, SpectrogramSpec):
            return LogMel.of(reads)
        if not isinstance(reads, ImageSpec):
            raise NotMeasurable("--protocols finetune needs an encoder of images or of sound; leave it out.")
        return View(crop=self.crop, flip=self.flip, size=reads.side)

    def epochs(self, samples: int) -> int:
        """Returns the epochs over so many samples that come nearest to the steps, at least one."""
        return max(1, round(self.steps / max(1, samples // self.batch)))

    def recipe(self, encoder: Encoder, samples: int) -> Recipe:
        """Returns a recipe that warms up for a tenth of the epochs and then follows a cosine to 0."""
        epochs = self.epochs(samples)
        first = [name for name, _ in encoder.named_parameters() if name.rpartition(".")[2] in WITHOUT_DECAY]
        factors = dict.fromkeys(first, 1.0) | self.lr_factors(encoder)
        groups = tuple(
            Group(match=f"encoder.{pattern}", lr_factor=factor, decay_factor=0.0 if pattern in first else None)
            for pattern, factor in factors.items()
        )
        return Recipe(
            optimizer=AdamW(lr=self.lr, weight_decay=self.weight_decay),
            epochs=epochs,
            batch=self.batch,
            warmup=epochs / 10,
            groups=groups,
        )

    def lr_factors(self, encoder: Encoder) -> dict[str, float]:
        """Returns factors of the learning rate by patterns of parameter names.

        The head and a transformer's last norm have the factor 1. Each block has `layer_decay` times the factor of the
        block above it. The parameters that make tokens of patches have the smallest factor. Convnets have one learning
        rate.
        """
        names = {module: f"{name}." for name, module in encoder.named_modules()}
        blocks = [names[unit] for unit in encoder.units() if unit is not encoder]
        if not blocks:
            return {}
        parameters = (name for name, _ in encoder.named_parameters())
        tokens = takewhile(lambda name: not name.startswith(blocks[0]), parameters)
        factors = dict.fromkeys(tokens, self.layer_decay ** (len(blocks) + 1))
        return factors | {f"{block}*": self.layer_decay ** (len(blocks) - i) for i, block in enumerate(blocks)}


def fine_tuned(
    encoder: Encoder,
    probe: Probe,
    source: Source,
    how: Finetune,
    *,
    reads: InputSpec,
    seed: int,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    workers: int = 0,
) -> nn.Module:
    """Returns a trained copy of the encoder with its head: inputs (N, …) -> logits (N, classes).

    Encoder and head are trained by `supervised` on the source's labels; the given encoder stays as it is. Raises
    NotFinite if a loss or gradient is not finite.
    """
    net = Networks(encoder=deepcopy(encoder), classifier=Head(probe)).to(device).train()
    net.to(memory_format=memory_format(device))  # pyright: ignore[reportCallIssue]
    synchronize_(net)
    recipe = how.recipe(encoder, len(source))
    method = Supervised(view=how.view(reads))
    order = {"seed": fold(seed, Stream.FINE_TUNING), "epochs": recipe.epochs, "workers": workers, "device": device}
    stream = batches(source, max(1, recipe.batch // world_size()) * world_size(), **order)
    players = players_of(net, recipe, recipe.batch)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), deterministic_kernels():
        for record in optimize(method, net, players, stream, dtype):
            if record.refused:
                raise NotFinite(
                    f"--protocols finetune: the loss is not finite in step {record.clock.step}; lower --finetune.lr."
                )
    return nn.Sequential(net.encoder, net.classifier).eval()


class Head(nn.Module):
    """A probe as trainable layers: standardization and a linear layer, (N, D) -> (N, classes) in float32.

    The standardization follows the features, as BatchNorm without a scale does. If it were folded into the linear
    layer, it would be right for the first step only. A transformer's features vary little about a large mean, so a
    small move of that mean would move the logits by much.
    """

    def __init__(self, probe: Probe) -> None:
        super().__init__()
        width, classes = probe.weight.shape
        self.norm, self.linear = nn.BatchNorm1d(width, eps=1e-8, affine=False), nn.Linear(width, classes)
        for tensor, fitted in (
            (self.norm.running_mean, probe.mean),
            (self.norm.running_var, torch.where(probe.scale > 0, probe.scale, 1).square().reciprocal()),
            (self.linear.weight.data, probe.weight.T),
            (self.linear.bias.data, probe.bias),
        ):
            assert tensor is not None
            tensor.copy_(fitted)

    def forward(self, features: Tensor) -> Tensor:
        with torch.autocast(features.device.type, enabled=False):
            return self.linear(self.norm(features.float()))
