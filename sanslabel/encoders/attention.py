"""Attention, and blocks of it with timm's architecture and names."""

from __future__ import annotations

import math
from typing import Literal, overload

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Start = Literal["timm", "mae", "data2vec", "moco_v3"]
"""the code that a transformer takes its random weights from"""


@overload
def attention(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    mask: Tensor | None = None,
    *,
    coldness: float | None = None,
    hard: bool = False,
    weights: Literal[False] = False,
) -> Tensor: ...


@overload
def attention(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    mask: Tensor | None = None,
    *,
    coldness: float | None = None,
    hard: bool = False,
    weights: Literal[True],
) -> tuple[Tensor, Tensor]: ...


def attention(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    mask: Tensor | None = None,
    *,
    coldness: float | None = None,
    hard: bool = False,
    weights: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """Returns a soft look-up in a key-value store, for every query at once: softmax(β Q Kᵀ) V.

    The store has S pairs of a key and a value. A dictionary returns the value whose key equals the query. Here every
    key counts by its similarity to the query. The softmax over the keys of their dot products with the query gives
    weights, and the result is the weighted mean of the values. Gradients therefore reach queries, keys and values. The
    dot product of two vectors of d' independent numbers of variance 1 has variance d'. Dividing by √d' keeps the
    softmax from saturating. The order of the pairs does not matter: attention maps sets to sets.

    queries: (…, T, d'); keys: (…, S, d'); values: (…, S, d'') -> (…, T, d''). Leading dimensions, such as samples and
        heads, each have a store of their own.
    mask: bool, broadcast to (…, T, S), True where a query may read a key. A query that may read none gets zeros.
    coldness: β, 1 / √d' if it is None. At 0 the result is the mean of the values.
    hard: the value of the key of highest score alone, the limit of a large β. Of equal scores the first one wins,
        where a softmax would share. No gradient reaches queries and keys.
    weights: True to return the weights, too: (…, T, S), whose rows sum to 1.

    Vaswani et al. 2017, "Attention is all you need", eq. 1.
    """
    # The choice is by device and dtype alone. On CPUs in bf16 the fused kernel's backward is slow for short sequences.
    # Forward + backward of 512 samples, 3 heads, d = 64, on 2 threads: T = 50 takes 48 ms as written out here and 170
    # ms fused; T = 65 takes 67 and 249 ms. In fp32 the fused kernel is faster (T = 50: 63 and 47 ms; T = 65: 85 and 68
    # ms), as it is everywhere for the forward pass alone. It also never keeps the T x S weights.
    written_out = hard or weights or (queries.device.type == "cpu" and queries.dtype == torch.bfloat16)
    if not written_out:
        return F.scaled_dot_product_attention(queries, keys, values, mask, scale=coldness)
    scores = queries @ keys.mT  # (…, T, S)
    scores = scores / math.sqrt(queries.shape[-1]) if coldness is None else scores * coldness
    if mask is not None:  # by the least number and not by -inf, whose softmax has no value where all keys are masked
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    weight = _of_the_first_highest(scores) if hard else scores.softmax(dim=-1)
    if mask is not None:
        weight = weight.masked_fill(~mask, 0)
    return (weight @ values, weight) if weights else weight @ values


def _of_the_first_highest(scores: Tensor) -> Tensor:
    """Returns 1 at the first of the highest scores of each row, and 0 elsewhere. (…, S) -> (…, S)"""
    return torch.zeros_like(scores).scatter(-1, scores.argmax(dim=-1, keepdim=True), 1.0)


class Attention(nn.Module):
    """Self-attention: every token writes one key and value into each head's store, and reads it with one query."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """Returns the tokens' reads, (N, T, D) -> (N, T, D). mask: see `attention`, broadcast to (N, heads, T, T)."""
        queries, keys, values = self.qkv(tokens).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        values = attention(queries, keys, values, mask)  # (N, heads, T, d)
        return self.proj(values.transpose(1, 2).flatten(2))


class CausalAttention(nn.Module):
    """Self-attention in which every token reads the tokens up to itself alone.

    Keys and values of tokens that have passed can be handed over, so that a text can be read piece by piece.
    """

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor, past: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Returns the tokens' reads, (N, T, D) -> (N, T, D), and the store for the tokens that follow.

        past: (2, N, heads, P, d), the keys and values of the P tokens before these -> (2, N, heads, P + T, d).
        """
        heads = self.qkv(tokens).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        queries, store = heads[0], heads[1:]
        before = 0 if past is None else past.shape[3]
        if past is not None:
            store = torch.cat([past, store], dim=3)
        passed = torch.ones(tokens.shape[1], store.shape[3], dtype=torch.bool, device=tokens.device).tril(before)
        read = attention(queries, store[0], store[1], passed)
        return self.proj(read.transpose(1, 2).flatten(2)), store


class CrossAttention(nn.Module):
    """Attention to another sequence, such as a source text: its tokens write the store, and these tokens read it."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.proj = nn.Linear(width, width)

    def store(self, source: Tensor) -> Tensor:
        """Returns the keys and values of the source's tokens, (N, S, D) -> (2, N, heads, S, d)."""
        return self.key_value(source).unflatten(2, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)

    def forward(
        self, tokens: Tensor, store: Tensor, mask: Tensor | None = None, weights: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """Returns the tokens' reads, (N, T, D) -> (N, T, D), and the weights (N, heads, T, S) if they are requested.

        mask: bool, broadcast to (N, heads, T, S), True at the source's tokens that can be read.
        """
        queries = self.query(tokens).unflatten(2, (self.heads, -1)).transpose(1, 2)
        if weights:
            read, weight = attention(queries, store[0], store[1], mask, weights=True)
        else:
            read, weight = attention(queries, store[0], store[1], mask), None
        return self.proj(read.transpose(1, 2).flatten(2)), weight


class Mlp(nn.Module):
    """Two layers that are applied to each token by itself."""

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(tokens)))


class Block(nn.Module):
    """Attention between tokens, then an MLP on each token, both added to their input. (N, T, D) -> (N, T, D)

    mask: bool, broadcast to (N, heads, T, T), True where a token may read another; None if all may read all.
    """

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = Mlp(width, 4 * width)

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        tokens = tokens + self.attn(self.norm1(tokens), mask)
        return tokens + self.mlp(self.norm2(tokens))


@torch.no_grad()
def initialize_(module: nn.Module, start: Start = "timm") -> None:
    """Initializes the linear layers of a transformer. Unless it starts as timm's, the embedding of patches is one of
    them.

    timm: N(0, 0.02²). mae: Xavier-uniform, with bound √(6 / (inputs + outputs)). moco_v3: the same, with queries, keys
    and values as three matrices. data2vec: N(0, 0.02²) cut off at one deviation, and the last layers of block l divided
    by √(2l), as in BEiT. Biases are 0, but MAE's embedding keeps torch's.
    """
    cut = 0.02 if start == "data2vec" else 2.0
    for name, layer in module.named_modules():
        if isinstance(layer, nn.Linear) or (isinstance(layer, nn.Conv2d) and start != "timm"):
            for matrix in layer.weight.flatten(1).chunk(3 if start == "moco_v3" and name.endswith("qkv") else 1):
                if start in ("mae", "moco_v3"):
                    nn.init.xavier_uniform_(matrix)
                else:
                    nn.init.trunc_normal_(matrix, std=0.02, a=-cut, b=cut)
            if layer.bias is not None and (isinstance(layer, nn.Linear) or start != "mae"):
                nn.init.zeros_(layer.bias)
    if start == "data2vec":
        for number, block in enumerate((block for block in module.modules() if isinstance(block, Block)), 1):
            for layer in (block.attn.proj, block.mlp.fc2):
                layer.weight.div_(math.sqrt(2 * number))
