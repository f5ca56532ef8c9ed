"""Encoders of texts: the bidirectional transformer of Vaswani et al. 2017, "Attention is all you need"."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sanslabel.encoders.attention import Block, initialize_
from sanslabel.encoders.encoder import Encoder
from sanslabel.encoders.tokens import sinusoidal_positions
from sanslabel.encoders.vit import Shape
from sanslabel.errors import BadInput
from sanslabel.inputs import PADDING, TextSpec

SHAPES = {
    "text_micro": Shape(3, 128, 4),
    "text_small": Shape(3, 256, 4),
    "text_medium": Shape(6, 512, 8),
    "text_base": Shape(12, 768, 12),
}


class TextEncoder(Encoder):
    """A transformer over the tokens of a text. Micro has 3 blocks of width 128, and small 3 of width 256. Medium is the
    base model of the paper, 6 of width 512, and base that of BERT (Devlin et al. 2019), 12 of width 768.

    ids: (N, T) int64, 0 after the end. The representation is the mean of the real tokens, (N, width).

    Every real token reads all real tokens of its text. Blocks normalize their input (pre-norm), and a last norm follows
    them. Positions are fixed sines and cosines, so that texts may have any length. A token's vector is multiplied by
    √D, since predictions of tokens share these vectors (`scores`).

    vocabulary: number of tokens; length: the most tokens of a text, as the data were cut.
    tokenizer: the SHA-256 of the file that makes the tokens; "" for ids of another origin.
    """

    names = tuple(SHAPES)
    input = TextSpec
    entry_points = ("embed", "scores")

    def __init__(self, name: str, vocabulary: int, length: int, *, tokenizer: str = ""):
        if vocabulary < 1 or length < 1:
            raise BadInput(f"--encoder {name}: vocabulary is {vocabulary} and length {length}; give 1 or more.")
        depth, width, heads = SHAPES[name]
        config: dict[str, Any] = {"name": name, "vocabulary": vocabulary, "length": length}
        super().__init__(config | ({"tokenizer": tokenizer} if tokenizer else {}), width)
        self.heads = heads
        self.embedding = nn.Parameter(torch.empty(vocabulary, width))
        self.blocks = nn.ModuleList([Block(width, heads) for _ in range(depth)])
        self.norm = nn.LayerNorm(width, eps=1e-6)
        nn.init.normal_(self.embedding, std=width**-0.5)
        initialize_(self, "moco_v3")

    def forward(self, ids: Tensor, /, keep: Tensor | None = None, patch: int | None = None) -> Tensor:
        """Returns the representation, (N, D). Texts have no patches, and both further arguments are ignored."""
        return self.pooled(self.tokens(ids))

    def embed(self, ids: Tensor, start: int = 0, masked: Tensor | None = None, fill: Tensor | None = None) -> Tensor:
        """Returns the vectors of tokens with their positions, (N, T) int64 -> (N, T, D).

        start: the position of the first token.
        masked, fill: (N, T) bool and (D,): tokens whose vector is replaced by `fill`, in their places.
        """
        tokens = F.embedding(ids.long(), self.embedding)
        if masked is not None:
            assert fill is not None
            tokens = torch.where(masked[:, :, None], fill.to(tokens.dtype), tokens)
        positions = sinusoidal_positions(ids.shape[1], self.width, start, ids.device)
        return tokens * math.sqrt(self.width) + positions.to(tokens.dtype)

    def scores(self, tokens: Tensor) -> Tensor:
        """Returns the logit of every token of the vocabulary, its product with the token's vector: (…, D) -> (…, V)."""
        return F.linear(tokens, self.embedding)

    def tokens(self, ids: Tensor, masked: Tensor | None = None, fill: Tensor | None = None) -> Tensor:
        """Returns the normalized tokens of the last block, (N, T, D), with zeros after the end. The arguments are those
        of `embed`."""
        tokens, real = self.embed(ids, 0, masked, fill), real_tokens(ids)
        for block in self.blocks:
            tokens = block(tokens, real[:, None, None])
        return self.norm(tokens) * real[:, :, None]

    def stages(self, ids: Tensor, /) -> list[Tensor]:
        """Returns the tokens after each block, (N, T, D), with zeros after the end, those of the last block
        normalized."""
        tokens, real, after = self.embed(ids), real_tokens(ids), []
        for block in self.blocks:
            tokens = block(tokens, real[:, None, None])
            after.append(tokens)
        return [stage * real[:, :, None] for stage in (*after[:-1], self.norm(after[-1]))]

    def pooled(self, stage: Tensor) -> Tensor:
        """Returns the mean of the tokens before the end, (N, D): of those that are not zero."""
        count = stage.detach().any(dim=2).sum(dim=1, keepdim=True)
        return stage.sum(dim=1) / count.clamp(min=1)

    def units(self) -> list[nn.Module]:
        """Returns the blocks."""
        return list(self.blocks)


def real_tokens(ids: Tensor) -> Tensor:
    """Returns where a text has a token, and not the padding after its end: (N, T) int64 -> (N, T) bool."""
    return ids != PADDING


def text_encoder(encoder: Encoder, method: str) -> TextEncoder:
    """Returns the encoder as one of texts, which this method needs. Raises BadInput for any other encoder."""
    if not isinstance(encoder, TextEncoder):
        raise BadInput(f"--encoder {encoder.config['name']}: {method} reads texts; choose one of {', '.join(SHAPES)}.")
    return encoder
