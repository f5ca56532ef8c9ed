"""digit-pairs: handwritten digits, each with another digit of its class."""

from dataclasses import replace

import torch

from sanslabel.sources import open_source as open_other
from sanslabel.sources.pairs import Pairs
from sanslabel.sources.source import Wanted

NAMES = ("digit-pairs",)


def splits(data) -> tuple[str, ...] | None:
    """Returns the splits of the digits."""
    return ("train", "test") if data in NAMES else None


def open_source(data, split: str, wanted: Wanted) -> Pairs | None:
    """Returns digits of which those of one class form groups."""
    if data not in NAMES:
        return None
    digits = open_other("digits", split)
    drawn = replace(digits, group=digits.labels, time=torch.zeros(len(digits), dtype=torch.float64))
    return Pairs(base=drawn, near=1)
