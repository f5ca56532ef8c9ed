"""Blocks of attention, with timm's architecture and names."""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Start = Literal["timm", "mae", "data2vec", "moco_v3"]
"""the code that a transformer takes its random weights from"""


def attention(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Returns a soft look-up in a key-value store, for every query at once: softmax(Q Kᵀ / √d) V.

    The store has T pairs of a key and a value. A dictionary returns the value whose key equals the query. Here every
    key counts by its similarity to the query. The softmax over the keys of their dot products with the query gives
    weights, and the result is the weighted mean of the values. Gradients therefore reach queries, keys and values. The
    dot product of two vectors of d independent numbers of variance 1 has variance d. Dividing by √d keeps the softmax
    from saturating.

    queries, keys, values: (N, heads, T, d), a store for each head -> (N, heads, T, d).
    Vaswani et al. 2017, "Attention is all you need", eq. 1.
    """
    # The choice is by device and dtype alone. On CPUs in bf16 the fused kernel's backward is slow for short sequences.
    # Forward + backward of 512 samples, 3 heads, d = 64, on 2 threads: T = 50 takes 48 ms as written out here and 170
    # ms fused; T = 65 takes 67 and 249 ms. In fp32 the fused kernel is faster (T = 50: 63 and 47 ms; T = 65: 85 and 68
    # ms), as it is everywhere for the forward pass alone. It also never keeps the T x T weights.
    if queries.device.type == "cpu" and queries.dtype == torch.bfloat16:
        scores = queries @ keys.mT / math.sqrt(queries.shape[-1])  # (N, heads, T, T)
        return scores.softmax(dim=-1) @ values
    return F.scaled_dot_product_attention(queries, keys, values)


class Attention(nn.Module):
    """Self-attention: every token writes one key and value into each head's store, and reads it with one query."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        queries, keys, values = self.qkv(tokens).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        values = attention(queries, keys, values)  # (N, heads, T, d)
        return self.proj(values.transpose(1, 2).flatten(2))  # (N, T, D)


class Mlp(nn.Module):
    """Two layers that are applied to each token by itself."""

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(tokens)))


class Block(nn.Module):
    """Attention between tokens, then an MLP on each token, both added to their input. (N, T, D) -> (N, T, D)"""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = Mlp(width, 4 * width)

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.attn(self.norm1(tokens))
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
