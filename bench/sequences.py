"""Generated pairs of sequences: a target is its source, or its source in reverse. Attention can be read off them."""

from __future__ import annotations

import torch
from torch import Tensor

from sanslabel.batch import Tokens
from sanslabel.inputs import END, TextSpec
from sanslabel.randomness import fold, integers
from sanslabel.sources import Arrays
from sanslabel.views.text import FIRST


def sequences(
    samples: int,
    *,
    least: int = 10,
    longest: int = 10,
    vocabulary: int = 20,
    reverse: bool = False,
    seed: int = 0,
    to: int | None = None,
) -> Arrays:
    """Returns pairs of sequences of `least` to `longest` random tokens, without their end.

    vocabulary: with padding, begin and end. reverse: targets run backward. to: the length of the padded texts, by
    default that of the longest with its end.
    """
    row = torch.arange(samples)
    key = fold(torch.full_like(row, seed), row)
    length = least + integers(key, 1, longest - least + 1, 0)[:, 0]  # without the end
    place = torch.arange(to or longest + 1)
    drawn = FIRST + integers(key, longest, vocabulary - FIRST, 1)
    last = (length - 1)[:, None]
    order = (last - place) if reverse else place.expand(samples, -1)

    def tokens(index: Tensor) -> Tokens:
        ids = drawn.gather(1, index.clamp(0, longest - 1))
        ids = torch.where(place < length[:, None], ids, 0).masked_fill(place == length[:, None], END)
        return Tokens(ids, length + 1)

    spec = TextSpec(vocabulary=vocabulary, length=longest + 1)
    return Arrays(
        name="reversals" if reverse else "copies",
        split="train",
        signals={"source": tokens(place.expand(samples, -1)), "target": tokens(order)},
        labels=torch.full((samples,), -1),
        file_row=row,
        classes=(),
        inputs={"source": spec, "target": spec},
    )
