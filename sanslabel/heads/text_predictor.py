"""Predictors of texts: from a source's tokens and the target so far, they predict what follows at each place."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple, Self, cast

import torch
from torch import Tensor, nn

from sanslabel.encoders.attention import CausalAttention, CrossAttention, Mlp, initialize_

PredictorKind = Literal["transformer", "recurrent"]
"""how a predictor's places learn of the places before them"""


class Recurrence(nn.Module):
    """A gated recurrent unit, which reads the tokens before a place one after the other (Cho et al. 2014).

    Its state is so wide that it has as many weights as `CausalAttention` of the same width, 4D².
    """

    def __init__(self, width: int):
        super().__init__()
        # 3 (D H + H² + 2 H) weights of the unit and (H + 1) D of the projection are 4 D² + 4 D.
        linear = 4 * width + 6
        hidden = round((math.sqrt(linear**2 + 12 * (4 * width**2 + 3 * width)) - linear) / 6)
        self.unit = nn.GRU(width, hidden, batch_first=True)
        self.proj = nn.Linear(hidden, width)

    def forward(self, tokens: Tensor, past: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Returns a summary of the tokens up to each one, (N, T, D) -> (N, T, D), and the state after them.

        past: (1, N, H), the state after the tokens before these.
        """
        with torch.autocast(tokens.device.type, enabled=False):  # the unit has no mixed precision on CPUs
            states, state = self.unit(tokens.to(self.proj.weight.dtype), past)
        return self.proj(states), state


class PredictorBlock(nn.Module):
    """A block that reads the target so far, then the source, then applies an MLP; each is added to its input.

    kind: "transformer" reads the target by causal self-attention, "recurrent" by a gated recurrent unit.
    """

    def __init__(self, width: int, heads: int, kind: PredictorKind):
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.target = CausalAttention(width, heads) if kind == "transformer" else Recurrence(width)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.source = CrossAttention(width, heads)
        self.norm3 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = Mlp(width, 4 * width)

    def forward(
        self, tokens: Tensor, store: Tensor, readable: Tensor, past: Tensor | None = None, weights: bool = False
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Returns the tokens (N, T, D), the memory for later tokens, and the weights (N, heads, T, S) of the source
        if they are requested. The arguments are those of `TextPredictor` and of `CrossAttention`."""
        read, after = self.target(self.norm1(tokens), past)
        tokens = tokens + read
        read, weight = self.source(self.norm2(tokens), store, readable, weights)
        tokens = tokens + read
        return tokens + self.mlp(self.norm3(tokens)), after, weight


class Progress(NamedTuple):
    """The memory that a predictor has of a source, and of the target up to a place, so that it reads a token once."""

    stores: list[Tensor]
    """(2, N, heads, S, d) for each block, the keys and values of the source"""
    readable: Tensor
    """(N, 1, 1, S) bool, True at the real tokens of the source"""
    past: list[Tensor | None]
    """each block's memory of the target so far, with samples as second dimension; None before the first token"""
    place: int = 0
    """tokens of the target so far"""

    def select(self, index: Tensor) -> Self:
        """Returns the samples of `index`, (M,) int64, in that order."""
        stores = [store.index_select(1, index) for store in self.stores]
        past = [None if past is None else past.index_select(1, index) for past in self.past]
        return self._replace(stores=stores, readable=self.readable.index_select(0, index), past=past)


class TextPredictor(nn.Module):
    """The predictor of a translation: blocks over the target so far that read the source by cross-attention.

    width: of the tokens of source and target. heads: of each attention. depth: number of blocks. kind: see
    `PredictorBlock`; both kinds have the same attention to the source, and as many weights within 2 %.
    """

    def __init__(self, width: int, heads: int, depth: int, kind: PredictorKind = "transformer"):
        super().__init__()
        self.blocks = nn.ModuleList([PredictorBlock(width, heads, kind) for _ in range(depth)])
        self.norm = nn.LayerNorm(width, eps=1e-6)
        initialize_(self, "moco_v3")

    def forward(self, target: Tensor, source: Tensor, readable: Tensor) -> Tensor:
        """Returns the prediction of what follows at each place, (N, T, D), from the target up to that place.

        target: (N, T, D), embedded tokens; source: (N, S, D), the encoder's tokens; readable: (N, S) bool, True at the
            real ones.
        """
        return self.advance(target, self.start(source, readable))[0]

    def start(self, source: Tensor, readable: Tensor) -> Progress:
        """Returns the progress before the first token of the target. The arguments are those of `forward`."""
        stores = [block.source.store(source) for block in self._blocks]
        return Progress(stores, readable[:, None, None], [None] * len(stores))

    def advance(self, target: Tensor, progress: Progress) -> tuple[Tensor, Progress]:
        """Returns the predictions at the next places, (N, T, D), and the progress after them.

        target: (N, T, D), the embedded tokens at these places.
        """
        past = []
        for block, store, before in zip(self._blocks, progress.stores, progress.past, strict=True):
            target, after, _ = block(target, store, progress.readable, before)
            past.append(after)
        return self.norm(target), progress._replace(past=past, place=progress.place + target.shape[1])

    def source_weights(self, target: Tensor, source: Tensor, readable: Tensor) -> Tensor:
        """Returns how much each place reads each source token, (N, depth, heads, T, S); rows sum to 1. The arguments
        are those of `forward`."""
        weights, progress = [], self.start(source, readable)
        for block, store in zip(self._blocks, progress.stores, strict=True):
            target, _, weight = block(target, store, progress.readable, weights=True)
            weights.append(weight)
        return torch.stack(weights, dim=1)

    @property
    def _blocks(self) -> list[PredictorBlock]:
        return cast(list[PredictorBlock], list(self.blocks))
