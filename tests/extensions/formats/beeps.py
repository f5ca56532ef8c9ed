"""beeps: handwritten digits, each with a sound whose pitch tells the digit."""

from dataclasses import replace
from math import pi

import torch

from sanslabel.batch import Audio
from sanslabel.inputs import SpectrogramSpec
from sanslabel.sources import Source
from sanslabel.sources import open_source as open_other
from sanslabel.sources.source import Wanted

NAMES = ("beeps",)
RATE = 4000


def splits(data) -> tuple[str, ...] | None:
    """Returns the splits of the digits."""
    return ("train", "test") if data in NAMES else None


def open_source(data, split: str, wanted: Wanted) -> Source | None:
    """Returns 256 digits with a quarter of a second of sound each."""
    if data not in NAMES:
        return None
    digits = open_other("digits", split).subset(torch.arange(256))
    time = torch.arange(RATE // 4) / RATE
    waves = torch.sin(2 * pi * (200 + 100 * digits.labels[:, None]) * time)[:, None]
    sound = SpectrogramSpec(mels=16, frames=20, rate=RATE)
    signals = {**digits.signals, "audio": Audio(waves)}
    return replace(digits, name="beeps", signals=signals, inputs={**digits.inputs, "audio": sound})
