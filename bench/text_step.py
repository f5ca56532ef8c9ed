"""Compares a training step of translation with torch's nn.Transformer: python -m bench.text_step [--precision float32]

Both have 3 + 3 layers of width 128 with 4 heads, norms before the layers, no dropout, a vocabulary of 4,096 tokens
whose table is also the output, label smoothing, clipping and AdamW. Ours is the whole step of the engine with its
figures and checks; torch's is forward, backward and update. The time is that of the processor on one thread, the median
of turns that alternate. Tokens are those of the targets, with their ends.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator
from functools import partial
from itertools import cycle
from statistics import median
from time import process_time
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.markdown import table
from bench.sequences import sequences
from sanslabel import encoders
from sanslabel.device import autocast
from sanslabel.encoders.text import real_tokens
from sanslabel.encoders.tokens import sinusoidal_positions
from sanslabel.engine import optimize, players_of
from sanslabel.methods.translation import Translation, delayed
from sanslabel.recipe import Recipe
from sanslabel.sources import Source
from sanslabel.sources.loader import batches

VOCABULARY, WIDTH, HEADS, DEPTH = 4096, 128, 4, 3
CASES = ((128, 16), (128, 32), (64, 64))
"""(batch, tokens of a text with its end)"""
TURNS, STEPS = 5, 6
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
CPU = torch.device("cpu")


class Peer(nn.Module):
    """torch's transformer between tied tables of tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Parameter(WIDTH**-0.5 * torch.randn(VOCABULARY, WIDTH))
        self.transformer = nn.Transformer(
            WIDTH,
            HEADS,
            DEPTH,
            DEPTH,
            4 * WIDTH,
            dropout=0.0,
            activation="gelu",
            norm_first=True,
            batch_first=True,
        )

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        length = target.shape[1]
        later = torch.ones(length, length, dtype=torch.bool).triu(1)
        padding = ~real_tokens(source)
        h = self.transformer(
            self.embed(source),
            self.embed(target),
            tgt_mask=later,
            src_key_padding_mask=padding,
            memory_key_padding_mask=padding,
            tgt_is_causal=True,
        )
        return F.linear(h, self.embedding)

    def embed(self, ids: Tensor) -> Tensor:
        positions = sinusoidal_positions(ids.shape[1], WIDTH)
        return F.embedding(ids, self.embedding) * math.sqrt(WIDTH) + positions


def ours(source: Source, batch: int, dtype: torch.dtype, predictor: Any = "transformer") -> Iterator[None]:
    """Yields after each step of this project's engine."""
    torch.manual_seed(0)
    method = Translation(depth=DEPTH, predictor=predictor)
    encoder = encoders.build("text_micro", **source.inputs["source"].arguments)
    net, recipe = method.networks(encoder, source.facts()).train(), Translation.small
    stream = batches(source, batch, seed=0, epochs=1000, device=CPU)
    for record in optimize(method, net, players_of(net, recipe, batch), stream, dtype):
        assert not record.refused
        yield


def torchs(source: Source, batch: int, dtype: torch.dtype) -> Iterator[None]:
    """Yields after each step of torch's transformer, fed by the same loader."""
    torch.manual_seed(0)
    net, recipe = Peer().train(), Translation.small
    optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3, betas=(0.9, 0.98), weight_decay=0.01, fused=True)
    for _, given in batches(source, batch, seed=0, epochs=1000, device=CPU):
        target = given.tokens("target").ids
        with autocast(CPU, dtype):
            logits = net(given.tokens("source").ids, delayed(target))
        loss = F.cross_entropy(logits.float().flatten(0, 1), target.flatten(), ignore_index=0, label_smoothing=0.1)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), _clip(recipe))
        optimizer.step()
        yield


def _clip(recipe: Recipe) -> float:
    assert recipe.clip is not None
    return recipe.clip


def milliseconds(steps: dict[str, Iterator[None]]) -> dict[str, float]:
    """Returns the median time of a step on the processor, by name. Turns of the steps alternate."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for stepper in steps.values():
        for _ in range(3):
            next(stepper)
    for _, (name, stepper) in zip(range(TURNS * len(steps)), cycle(steps.items()), strict=False):
        began = process_time()
        for _ in range(STEPS):
            next(stepper)
        times[name].append((process_time() - began) / STEPS)
    return {name: 1e3 * median(values) for name, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.text_step", description=__doc__)
    parser.add_argument("--precision", choices=DTYPES, default="float32")
    dtype = DTYPES[parser.parse_args().precision]
    torch.set_num_threads(1)
    makers: dict[str, Callable[..., Iterator[None]]] = {
        "this project": ours,
        "recurrent": partial(ours, predictor="recurrent"),
        "nn.Transformer": torchs,
    }
    rows = []
    for batch, length in CASES:
        source = sequences(4 * batch, least=length - 1, longest=length - 1, vocabulary=VOCABULARY)
        times = milliseconds({name: make(source, batch, dtype) for name, make in makers.items()})
        per_second = 1e3 * batch * length / times["this project"]
        ratio = times["nn.Transformer"] / times["this project"]
        rows.append(
            [str(batch), str(length), *(f"{time:.0f}" for time in times.values()), f"{ratio:.2f}", f"{per_second:,.0f}"]
        )
    head = ["batch", "tokens", *(f"{name} (ms)" for name in makers), "torch's / ours", "tokens a second"]
    print(table(head, rows))


if __name__ == "__main__":
    main()
