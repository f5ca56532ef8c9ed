"""From images to features: the one place where encoders run in evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypedDict

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from sanslabel.device import autocast, memory_format
from sanslabel.distributed import gather_ragged, rank, world_size
from sanslabel.errors import BadInput
from sanslabel.inputs import InputSpec, TextSpec
from sanslabel.randomness import permutation
from sanslabel.sources import Source, ordered
from sanslabel.views import plain_view, resized

Representation = Callable[[Tensor], Tensor]
"""a function or module: images (N, C, H, W), float32 in [0, 1], or other inputs -> features (N, D)"""


class RepresentOptions(TypedDict):
    """How features are computed: the keyword arguments of `represent` and `settle_`."""

    reads: InputSpec
    """the input that the encoders were built for"""
    device: torch.device
    dtype: torch.dtype
    """the dtype that encoders compute in (autocast)"""
    workers: int
    """processes that load samples; 0 for this one"""


AT_ONCE = 512
"""most samples that are represented at a time"""
PIXELS = 3072
"""the most numbers that raw pixels of an image may have; larger images are reduced to 32x32, which bounds memory and
time"""
SETTLED_ON = 4096
"""images that BatchNorm statistics are settled on. The variances in a random `conv` on Fashion-MNIST are then within
2.5 % of those over all 60,000 images, half of them within 0.5 %"""


@torch.no_grad()
def represent(
    encoders: Mapping[str, Representation],
    source: Source,
    *,
    reads: InputSpec,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    batch: int | None = None,
    workers: int = 0,
) -> tuple[dict[str, Tensor], Tensor]:
    """Returns each encoder's features (n, D) float32 of a source, and the positions (n,) of the images that could be
    read.

    Samples are loaded once for all encoders, which must be on the device. The encoders get the plain view of each
    sample for the input `reads`: of images, the largest central square at that size. Several processes share the
    batches, and each has all features in the end. Modules run in evaluation mode; their buffers stay as they are and
    their mode is restored. Modules compute in `dtype` (autocast). The features are on the device if it is a CUDA
    device, else on the CPU. Raises BadInput if a feature is not finite.
    """
    batch = batch or images_at_once(reads)
    processes, count = world_size(), -(-len(source) // batch)
    begin, end = (rank() * count // processes * batch, (rank() + 1) * count // processes * batch)
    shared = 1 < processes <= count
    local = source.subset(torch.arange(begin, min(end, len(source)))) if shared else source
    features, index = _represented(encoders, local, reads, device, dtype, batch, workers)
    if shared:
        features, index = {name: gather_ragged(h) for name, h in features.items()}, gather_ragged(index + begin)
    for name, h in features.items():
        if not h.isfinite().all():
            raise BadInput(f"The {name} gives features that are not finite; train it again with a lower --lr.")
    return features, index


def images_at_once(reads: InputSpec) -> int:
    """Returns the number of samples that are represented at a time: 512, or as many as have the pixels of 512 images of
    64 x 64, a power of two from 16 on. At 224 pixels, a ResNet-18 would take 4 GiB for 512 images."""
    pixels = 0 if isinstance(reads, TextSpec) else reads.shape[1] * reads.shape[2]
    fitting = AT_ONCE * 64**2 // max(1, pixels)
    return min(AT_ONCE, max(16, 1 << max(0, fitting.bit_length() - 1)))


def pixels(images: Tensor) -> Tensor:
    """Returns the pixels themselves, (N, C, H, W) -> (N, C·H·W). Images of more than 3,072 numbers are reduced to 32x32
    first."""
    return (resized(images, 32) if images[0].numel() > PIXELS else images).flatten(1)


def mel_statistics(spectrograms: Tensor) -> Tensor:
    """Returns the mean and the deviation over time of each mel band: (N, 1, mels, frames) -> (N, 2 mels)."""
    bands = spectrograms.flatten(0, 1).float()
    return torch.cat([bands.mean(dim=2), bands.std(dim=2, correction=0)], dim=1)


def _represented(
    encoders: Mapping[str, Representation],
    source: Source,
    reads: InputSpec,
    device: torch.device,
    dtype: torch.dtype,
    batch: int,
    workers: int,
) -> tuple[dict[str, Tensor], Tensor]:
    """Returns the features and positions of `represent`, computed by this process alone."""
    home = device if device.type == "cuda" else torch.device("cpu")
    features: dict[str, Tensor] = {}
    readable, count = torch.empty(len(source), dtype=torch.int64), 0
    with evaluating(encoders.values()), autocast(device, dtype):
        for begin, images, index in _inputs(source, reads, batch, device, workers):
            # A sample that could not be read was replaced by a copy of another sample, which must not count twice.
            original = index == torch.arange(begin, begin + len(index), device=device)
            written = slice(count, count := count + int(original.sum()))
            readable[written] = index[original].cpu()
            for name, encoder in encoders.items():
                h = encoder(images)[original].to(home, torch.float32)
                if name not in features:
                    features[name] = h.new_empty(len(source), h.shape[1])
                features[name][written] = h
    return {name: h[:count] for name, h in features.items()}, readable[:count]


@torch.no_grad()
def settle_(
    encoder: nn.Module,
    source: Source,
    *,
    reads: InputSpec,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    batch: int | None = None,
    workers: int = 0,
) -> None:
    """Sets BatchNorm's statistics to their mean over batches of full images, up to 4,096 images drawn from the source.

    The statistics of an encoder that was not trained, or that was trained on patches, do not fit full images. The
    encoder's mode is restored.
    """
    batch = batch or images_at_once(reads)
    norms = [m for m in encoder.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    if not norms:
        return
    # In random order, since a folder lists one class after the other. A smaller last batch is left out: it would count
    # as much as a full one.
    drawn = permutation(0, len(source))[:SETTLED_ON]
    if len(drawn) > batch:
        drawn = drawn[: len(drawn) // batch * batch]
    momenta = [norm.momentum for norm in norms]
    with evaluating([encoder]), autocast(device, dtype):
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the mean over all batches
            norm.train()
        for _, images, _ in _inputs(source.subset(drawn), reads, batch, device, workers):
            encoder(images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def _inputs(
    source: Source, reads: InputSpec, batch: int, device: torch.device, workers: int
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Yields for each batch the position of its first sample, the plain views (n, …) of its samples, and their
    positions (n,)."""
    view, begin = plain_view(reads), 0
    for loaded in ordered(source, batch, device=device, workers=workers):
        inputs = view.plain(loaded).images
        if inputs.ndim == 4:  # images and spectrograms; texts have no channels
            inputs = inputs.contiguous(memory_format=memory_format(device))
        yield begin, inputs, loaded.index
        begin += len(loaded.index)


@contextmanager
def evaluating(encoders: Iterable[Representation]) -> Iterator[None]:
    """Context manager that puts modules into evaluation mode. At the end, each gets its own mode back, since some may
    be frozen."""
    modules = [m for encoder in encoders if isinstance(encoder, nn.Module) for m in encoder.modules()]
    modes = [m.training for m in modules]
    for m in modules:
        m.training = False
    try:
        yield
    finally:
        for m, mode in zip(modules, modes, strict=True):
            m.training = mode
