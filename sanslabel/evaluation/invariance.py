"""How much of a representation stays when an image is changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from sanslabel.device import autocast
from sanslabel.diagnostics import mean_cosine
from sanslabel.evaluation.representation import Encoder, evaluating
from sanslabel.randomness import Stream, fold, permutation
from sanslabel.sources import Source, ordered
from sanslabel.views import View, resize_images, rotated

IMAGES = 1000
"""of the source, at most"""
UNRELATED = "unrelated"


def kinds(channels: int, size: int) -> dict[str, View | None]:
    """The changes by name; None is a quarter turn. Color is of RGB images."""
    found: dict[str, View | None] = {
        "crop": View(crop=(0.2, 1.0), size=size),
        "flip": View(flip=1.0, size=size),
        "light": View(jitter=1.0, brightness=0.4, contrast=0.4, size=size),
        "blur": View(blur=1.0, size=size),
        "turn": None,
    }
    return found | ({"color": View(jitter=1.0, saturation=0.4, hue=0.1, size=size)} if channels == 3 else {})


@torch.no_grad()
def invariance(
    compared: Mapping[str, Encoder], source: Source, *, image_size: int, seed: int, **options: Any
) -> dict[str, dict[str, float]]:
    """By encoder and kind of change: the mean cosine, times 100, of an image's representation and its changed one's,
    and under "unrelated" that of different images. Of up to 1,000 images drawn by the seed; options are those of
    `represent`."""
    device, dtype = options["device"], options["dtype"]
    drawn = source.subset(permutation(fold(seed, Stream.CHANGES), len(source))[:IMAGES].sort().values)
    changes = kinds(source.channels, image_size)
    found: dict[str, dict[str, list[Tensor]]] = {name: {kind: [] for kind in changes} for name in compared}
    whole: dict[str, list[Tensor]] = {name: [] for name in compared}
    with evaluating(compared.values()), autocast(device, dtype):
        for read in ordered(drawn, 256, device=device, workers=options.get("workers", 0)):
            plain = resize_images(read.images(), image_size)
            batch = read.with_pixels(plain)  # so that all that differs is the change
            seen = {
                kind: _turned(plain, batch.key) if view is None else view(batch, 0) for kind, view in changes.items()
            }
            for name, encoder in compared.items():
                h = encoder(plain).float()
                whole[name].append(h)
                for kind, images in seen.items():
                    other = encoder(images.float()).float()
                    found[name][kind].append((normalize(h, dim=1) * normalize(other, dim=1)).sum(dim=1))
    return {
        name: {kind: 100 * float(torch.cat(parts).mean()) for kind, parts in by_kind.items()}
        | {UNRELATED: 100 * float(mean_cosine(torch.cat(whole[name])))}
        for name, by_kind in found.items()
    }


def _turned(images: Tensor, key: Tensor) -> Tensor:
    """By one, two or three quarter turns."""
    return rotated(images, 1 + key % 3)
