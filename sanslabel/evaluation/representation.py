"""From images to representations: all that evaluation knows of an encoder."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from sanslabel.device import autocast, memory_format
from sanslabel.distributed import gather_ragged, rank, world_size
from sanslabel.errors import BadInput
from sanslabel.randomness import permutation
from sanslabel.sources import Source, ordered
from sanslabel.views import resize_images, resized

Encoder = Callable[[Tensor], Tensor]
"""images (N, C, H, W), float32 in [0, 1] -> representation (N, D)"""

PIXELS = 3072
"""numbers that an image's pixels may be; larger images are reduced to 32x32: it bounds memory and time"""
SETTLED_ON = 4096
"""images: the variances in a random `conv` on Fashion-MNIST are then within 2.5 %, half of them within 0.5 %, of those
over all 60,000"""


@torch.no_grad()
def represent(
    encoders: Mapping[str, Encoder],
    source: Source,
    *,
    image_size: int,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    batch: int = 512,
    workers: int = 0,
) -> tuple[dict[str, Tensor], Tensor]:
    """Each encoder's representation (n, D) float32 of a source, and the rows (n,) that could be read.

    The images, whole and resized to `image_size`, are decoded once for all encoders, which must be on the device. Many
    processes share the batches of one, and each has all features in the end.
    Modules run in evaluation mode, their buffers stay as they are and their mode is restored. `dtype` is what they
    compute in (autocast). The features are on the device if it is a GPU of CUDA, else on the CPU. Raises BadInput when
    a representation is not finite.
    """
    processes, count = world_size(), -(-len(source) // batch)
    begin, end = (rank() * count // processes * batch, (rank() + 1) * count // processes * batch)
    shared = 1 < processes <= count
    part = source.subset(torch.arange(begin, min(end, len(source)))) if shared else source
    features, rows = _represented(encoders, part, image_size, device, dtype, batch, workers)
    if shared:
        features, rows = {name: gather_ragged(h) for name, h in features.items()}, gather_ragged(rows + begin)
    for name, h in features.items():
        if not h.isfinite().all():
            raise BadInput(f"The {name} gives representations that are not finite; train it again.")
    return features, rows


def pixels(images: Tensor) -> Tensor:
    """(N, C, H, W) -> (N, C·H·W), reduced to 32x32 where that is more than 3,072 numbers an image."""
    return (resized(images, 32) if images[0].numel() > PIXELS else images).flatten(1)


def _represented(
    encoders: Mapping[str, Encoder],
    source: Source,
    image_size: int,
    device: torch.device,
    dtype: torch.dtype,
    batch: int,
    workers: int,
) -> tuple[dict[str, Tensor], Tensor]:
    home = device if device.type == "cuda" else torch.device("cpu")
    features: dict[str, Tensor] = {}
    rows, count = torch.empty(len(source), dtype=torch.int64), 0
    with evaluating(encoders.values()), autocast(device, dtype):
        for begin, images, index in _images(source, image_size, batch, device, workers):
            # A sample that could not be read came as a copy of another one, which would then count twice.
            own = index == torch.arange(begin, begin + len(index), device=device)
            read = slice(count, count := count + int(own.sum()))
            rows[read] = index[own].cpu()
            for name, encoder in encoders.items():
                h = encoder(images)[own].to(home, torch.float32)
                if name not in features:
                    features[name] = h.new_empty(len(source), h.shape[1])
                features[name][read] = h
    return {name: h[:count] for name, h in features.items()}, rows[:count]


@torch.no_grad()
def settle_(
    encoder: nn.Module,
    source: Source,
    *,
    image_size: int,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    batch: int = 512,
    workers: int = 0,
) -> None:
    """Gives BatchNorm the mean statistics of batches of whole images, up to 4,096 of them drawn from the source.

    An encoder that was not trained, or was trained on patches, has those of something else. Its mode is restored.
    """
    norms = [m for m in encoder.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    if not norms:
        return
    # Mixed, since a folder lists one class after the other. A last, smaller batch would count as much as a full one.
    drawn = permutation(0, len(source))[:SETTLED_ON]
    if len(drawn) > batch:
        drawn = drawn[: len(drawn) // batch * batch]
    momenta = [norm.momentum for norm in norms]
    with evaluating([encoder]), autocast(device, dtype):
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the mean over all batches
            norm.train()
        for _, images, _ in _images(source.subset(drawn), image_size, batch, device, workers):
            encoder(images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def _images(
    source: Source, size: int, batch: int, device: torch.device, workers: int
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """The first row that a batch is for, its images (n, C, size, size), and the rows (n,) that they are of."""
    begin = 0
    for read in ordered(source, batch, device=device, workers=workers):
        images = resize_images(read.images(), size)
        yield begin, images.contiguous(memory_format=memory_format(device)), read.index
        begin += len(read.index)


@contextmanager
def evaluating(encoders: Iterable[Encoder]) -> Iterator[None]:
    """Evaluation mode; afterwards each module has its own mode again, for some may have been frozen."""
    modules = [m for encoder in encoders if isinstance(encoder, nn.Module) for m in encoder.modules()]
    modes = [m.training for m in modules]
    for m in modules:
        m.training = False
    try:
        yield
    finally:
        for m, mode in zip(modules, modes, strict=True):
            m.training = mode
