"""Networks that train in less memory, changed in place: encoders work in chunks, and blocks are recomputed."""

from __future__ import annotations

from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from sanslabel.encoders import Encoder
from sanslabel.encoders.attention import Block
from sanslabel.errors import BadInput
from sanslabel.memory import without_statistics


def chunk_(net: nn.Module, size: int) -> bool:
    """Makes every encoder in `net` process `size` images at a time, in the forward pass and again in the backward pass.

    This is the gradient cache: it needs the memory of only one chunk, and costs one more forward pass. Without
    BatchNorm in the encoder, the result is exact. With BatchNorm, each chunk is normalized by itself. Heads are small
    and get the full batch, so their statistics stay exact. Returns True if any encoder has BatchNorm.
    """
    encoders = [m for m in net.modules() if isinstance(m, Encoder)]
    for encoder in encoders:
        encoder.forward = _Chunked(encoder, size)
    return any(isinstance(m, _BatchNorm) for encoder in encoders for m in encoder.modules())


class _Chunked:
    """An encoder's forward pass, chunk by chunk."""

    def __init__(self, encoder: Encoder, size: int) -> None:
        self.encoder, self.forward, self.size = encoder, encoder.forward, size

    def __call__(self, images: Tensor, keep: Tensor | None = None, patch: int | None = None) -> Tensor:
        chunks = images.split(self.size)
        keeps = [None] * len(chunks) if keep is None else keep.split(self.size)
        if not torch.is_grad_enabled():
            return torch.cat([self.forward(c, k, patch) for c, k in zip(chunks, keeps, strict=True)])
        contexts = lambda: (nullcontext(), without_statistics(self.encoder))  # noqa: E731
        return torch.cat(
            [
                checkpoint(self.forward, c, k, patch, use_reentrant=False, context_fn=contexts)
                for c, k in zip(chunks, keeps, strict=True)
            ]
        )


def recompute_(net: nn.Module) -> None:
    """Makes the transformers in `net` compute every block again in the backward pass (activation checkpointing, Chen et
    al. 2016).

    This needs the memory of one block and of the input of each block, and costs one more forward pass. Gradients stay
    the same. Raises BadInput for encoders without blocks.
    """
    for encoder in (m for m in net.modules() if isinstance(m, Encoder)):
        if not _blocks(encoder):
            raise BadInput(
                f"--recompute: {encoder.config['name']} has no blocks of attention to compute again; leave it out, or "
                "use --chunk, which saves memory with any encoder."
            )
    for block in _blocks(net):
        block.forward = _Recomputed(block)


def _blocks(net: nn.Module) -> list[nn.Module]:
    """Returns the blocks of all encoders in `net`, and the blocks of attention in heads."""
    blocks = [unit for m in net.modules() if isinstance(m, Encoder) for unit in m.units() if unit is not m]
    return blocks + [m for m in net.modules() if isinstance(m, Block) and m not in blocks]


class _Recomputed:
    """The forward pass of a block that keeps only its input for the backward pass."""

    def __init__(self, block: nn.Module) -> None:
        self.forward = block.forward

    def __call__(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        if not torch.is_grad_enabled():
            return self.forward(tokens, mask)
        # A block draws no random numbers, so the generators' states need not be kept.
        return checkpoint(self.forward, tokens, mask, use_reentrant=False, preserve_rng_state=False)  # pyright: ignore
