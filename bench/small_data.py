"""Small data of every kind that methods learn from, for tests and benches that train them all."""

from __future__ import annotations

from dataclasses import replace

import torch

from bench.bouncing import small_source
from bench.sequences import sequences
from sanslabel import methods
from sanslabel.sources import Source, open_source

CLIP = 16
"""frames of a clip"""


def small_data(method: str, samples: int, side: int = 8) -> Source:
    """Returns a few samples for a method.

    They are digits as frames of clips, thirty a second; for a method of two signals, pictures with sound; and for one
    of texts, sequences of 3 to 7 tokens with their reversals.
    """
    row, signals = torch.arange(samples), methods.method_class(method).signals
    if "source" in signals:
        return sequences(samples, least=3, longest=7, reverse=True)
    digits = small_source(samples, side) if "audio" in signals else open_source("digits", "train").subset(row)
    return replace(digits, group=row // CLIP, time=(row % CLIP).double() / 30)
