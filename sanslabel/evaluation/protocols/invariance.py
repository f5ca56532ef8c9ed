"""invariance: the cosine of an image's representation and that of a changed image, by kind of change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from sanslabel.device import autocast
from sanslabel.diagnostics import mean_cosine
from sanslabel.evaluation.comparison import Comparison
from sanslabel.evaluation.protocol import NotMeasurable, Protocol
from sanslabel.evaluation.representation import Representation, evaluating
from sanslabel.inputs import ImageSpec, InputSpec
from sanslabel.randomness import Stream, fold, permutation
from sanslabel.scores import Score
from sanslabel.sources import Source, ordered
from sanslabel.views import View, resize_images, rotated

SAMPLES = 1000
"""the most test images that are changed"""
UNRELATED = "unrelated"
"""the name of the figure that compares different images"""


@dataclass(frozen=True, kw_only=True)
class Invariance(Protocol):
    """The mean cosine between the representations of an image and its changed version, beside that of unrelated
    images."""

    title = "What stays of a changed image (100 x cosine)"

    def check_comparison(self, comparison: Comparison) -> None:
        if not isinstance(comparison.images.options["reads"], ImageSpec):
            raise NotMeasurable(
                "--protocols invariance changes images, and the encoder reads something else; leave it out."
            )

    def measure(self, comparison: Comparison) -> list[Score]:
        images = comparison.images
        comparison.report("Changing images")
        count, cosines = mean_cosines(comparison.representations, images.test, seed=comparison.seed, **images.options)
        settings = {"figure": "100 times the mean cosine", "images": count}
        return [
            comparison.score(self, change, name, value, images.all, settings, n_test=count)
            for name, by_change in cosines.items()
            for change, value in by_change.items()
        ]


def changes(channels: int, size: int) -> dict[str, View | None]:
    """Returns the view that makes each kind of change; None stands for quarter turns. Colors change for RGB only."""
    views: dict[str, View | None] = {
        "crop": View(crop=(0.2, 1.0), size=size),
        "flip": View(flip=1.0, size=size),
        "light": View(jitter=1.0, brightness=0.4, contrast=0.4, size=size),
        "blur": View(blur=1.0, size=size),
        "turn": None,
    }
    return views | ({"color": View(jitter=1.0, saturation=0.4, hue=0.1, size=size)} if channels == 3 else {})


@torch.no_grad()
def mean_cosines(
    representations: Mapping[str, Representation], source: Source, *, reads: InputSpec, seed: int, **options: Any
) -> tuple[int, dict[str, dict[str, float]]]:
    """Returns the number of images that could be read, and the mean cosine, times 100, between the representations of
    an image and its changed version.

    The keys are the representation and the kind of change; "unrelated" holds the mean cosine of different images. Up to
    1,000 images are drawn by the seed. The options are those of `represent`.
    """
    assert isinstance(reads, ImageSpec)
    device, dtype = options["device"], options["dtype"]
    drawn = source.subset(permutation(fold(seed, Stream.CHANGES), len(source))[:SAMPLES].sort().values)
    views = changes(reads.channels, reads.side)
    cosines: dict[str, dict[str, list[Tensor]]] = {name: {kind: [] for kind in views} for name in representations}
    features: dict[str, list[Tensor]] = {name: [] for name in representations}
    begin = count = 0
    with evaluating(representations.values()), autocast(device, dtype):
        for loaded in ordered(drawn, 256, device=device, workers=options.get("workers", 0)):
            plain = resize_images(loaded.images(), reads.side)
            # A sample that could not be read was replaced by a copy of another one.
            original = loaded.index == torch.arange(begin, begin := begin + len(plain), device=device)
            count += int(original.sum())
            batch = loaded.with_pixels(plain)  # resized first, so that the change is the only difference
            changed = {
                kind: _turned(plain, batch.key) if view is None else view(batch, 0) for kind, view in views.items()
            }
            for name, encoder in representations.items():
                h = encoder(plain)[original].float()
                features[name].append(h)
                for kind, images in changed.items():
                    other = encoder(images.float())[original].float()
                    cosines[name][kind].append((normalize(h, dim=1) * normalize(other, dim=1)).sum(dim=1))
    return count, {
        name: {kind: 100 * float(torch.cat(batches).mean()) for kind, batches in by_kind.items()}
        | {UNRELATED: 100 * float(mean_cosine(torch.cat(features[name])))}
        for name, by_kind in cosines.items()
    }


def _turned(images: Tensor, key: Tensor) -> Tensor:
    """Returns the images (N, C, S, S) after one, two or three quarter turns, drawn by their keys."""
    return rotated(images, 1 + key % 3)
