"""Bouncing shapes with sound: a test-bed for pictures and sounds, in which it is known what can be found.

A shape moves up and down at a steady speed, and sounds each time that it reaches the floor. Its size is the pitch, the
kind of shape is the timbre, the speed is the loudness, and the moments of its bounces are those of the tones. Nothing
else is shared: the horizontal place, the light and the noise belong to the pictures alone, or to the sounds alone. Each
shared factor has a few levels, so that a sample has doubles in a large set. Where a picture shows the factors that tell
C groups of samples apart, no method can find more than C of n partners at the first place.

    python -m bench.bouncing shapes.npz
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from sanslabel.batch import Audio, Images
from sanslabel.inputs import ImageSpec, SpectrogramSpec
from sanslabel.sources import Arrays

SIZES, SHAPES, SPEEDS, PHASES = 8, 4, 4, 8
"""levels of the shared factors"""
NAMES = ("disk", "square", "triangle", "ring")
HARMONICS = ((1.0,), (1.0, 0.0, 1 / 3, 0.0, 1 / 5), (1.0, 1 / 2, 1 / 3, 1 / 4), (0.3, 1.0))
"""amplitudes of the partial tones of each shape"""
PERIODS = (1.0, 0.7, 0.5, 0.35)
"""seconds between two bounces, by speed"""
LOUDNESS = (0.1, 0.2, 0.4, 0.8)
"""amplitude of a tone, by speed"""
DECAY = 0.1
"""seconds in which a tone falls to 1/e"""
SECONDS = 1.0
CLOUDS, CONTRAST = 0.12, 0.8
"""deviation of the clouds behind cluttered shapes, and contrast of these shapes, as a share of that of plain ones"""


class Factors(NamedTuple):
    """What pictures and sounds share, (n,) int64 each."""

    size: np.ndarray
    shape: np.ndarray
    speed: np.ndarray
    phase: np.ndarray

    @property
    def label(self) -> np.ndarray:
        """Returns the class of each sample: its size and shape."""
        return self.size * SHAPES + self.shape

    def groups(self, frames: int) -> int:
        """Returns the number of groups that the factors which `frames` frames show tell apart. A single frame shows the
        height at the start, which two phases share."""
        if frames > 1:
            return len(np.unique(np.stack(self, axis=1), axis=0))
        height = np.minimum(self.phase, PHASES - self.phase)
        return len(np.unique(np.stack([self.size, self.shape, height], axis=1), axis=0))


def bouncing(
    samples: int, *, frames: int = 4, side: int = 32, rate: int = 8000, seed: int = 0, cluttered: bool = False
) -> dict[str, np.ndarray]:
    """Returns the arrays of a file: images (n, frames, side, side) uint8, waves (n, T) int16, rate, labels and classes,
    and the shared factors with their names.

    cluttered: half of the shapes are darker than their background, and backgrounds are clouds. No pixel is then lighter
    in pictures of larger shapes, and two views of a picture can be recognized by the clouds.
    """
    random = np.random.default_rng(seed)
    factors = Factors(*(random.integers(0, levels, samples) for levels in (SIZES, SHAPES, SPEEDS, PHASES)))
    return {
        "images": _pictures(factors, frames, side, random, cluttered),
        "waves": _waves(factors, rate, random),
        "rate": np.array(rate),
        "labels": factors.label,
        **factors._asdict(),
    }


def with_test(train: int, test: int, **options: Any) -> dict[str, np.ndarray]:
    """Returns the arrays of a file with a training and a test split, and the names of the classes."""
    splits = {"": bouncing(train, seed=0, **options), "test_": bouncing(test, seed=1, **options)}
    arrays = {f"{prefix}{name}": array for prefix, of_split in splits.items() for name, array in of_split.items()}
    del arrays["test_rate"]
    return {**arrays, "classes": np.array([f"{name} {size}" for size in range(SIZES) for name in NAMES])}


def source_of(arrays: Mapping[str, np.ndarray], mels: int = 64, points: int = 96) -> Arrays:
    """Returns the arrays of `bouncing` as a source, whose spectrograms have so many bands and points in time."""
    images, labels = (torch.from_numpy(arrays[name]) for name in ("images", "labels"))
    channels, height, width = images.shape[1:]
    sound = SpectrogramSpec(mels=mels, frames=points, rate=int(arrays["rate"]))
    return Arrays(
        name="bouncing",
        split="train",
        signals={"image": Images(images), "audio": Audio(torch.from_numpy(arrays["waves"])[:, None])},
        labels=labels,
        file_row=torch.arange(len(labels)),
        classes=tuple(f"{name} {size}" for size in range(SIZES) for name in NAMES),
        inputs={"image": ImageSpec(channels=channels, height=height, width=width), "audio": sound},
    )


def small_source(samples: int, side: int) -> Arrays:
    """Returns a few samples with one gray picture of this side and a spectrogram of 8 x 8, for tests of methods."""
    return source_of(bouncing(samples, frames=1, side=side, rate=1000), mels=8, points=8)


def pitch(size: np.ndarray) -> np.ndarray:
    """Returns the frequency (Hz) of a size: three octaves, low for large shapes."""
    return 880.0 * 2.0 ** (-3 * size / (SIZES - 1))


def bound(arrays: Mapping[str, np.ndarray], prefix: str = "") -> float:
    """Returns the largest recall at 1 that is possible among the samples of a split, in %."""
    factors = Factors(*(arrays[f"{prefix}{name}"] for name in Factors._fields))
    return 100 * factors.groups(arrays[f"{prefix}images"].shape[1]) / len(factors.size)


def _pictures(factors: Factors, frames: int, side: int, random: np.random.Generator, cluttered: bool) -> np.ndarray:
    count = len(factors.size)
    radius = side * (0.08 + 0.12 * factors.size / (SIZES - 1))
    period = np.array(PERIODS)[factors.speed]
    x = radius + random.random(count) * (side - 2 * radius)
    dark, light = random.uniform(0.0, 0.3, count), random.uniform(0.7, 1.0, count)
    moments = SECONDS * (np.arange(frames) + 0.5) / frames if frames > 1 else np.zeros(1)
    turns = moments / period[:, None] + (factors.phase / PHASES)[:, None]  # (n, frames), whole at each bounce
    height = 1 - np.abs(2 * (turns % 1) - 1)  # 0 at a bounce, 1 between two
    y = side - radius[:, None] - height * (side - 2 * radius[:, None])
    rows, columns = np.mgrid[:side, :side] + 0.5
    dx = (columns - x[:, None, None])[:, None] / radius[:, None, None, None]
    dy = (rows - y[:, :, None, None]) / radius[:, None, None, None]
    distance = np.hypot(dx, dy)
    masks = [distance < 1, np.maximum(abs(dx), abs(dy)) < 0.9]
    masks += [(dy < 0.8) & (dy > 2 * abs(dx) - 1.0), (distance < 1) & (distance > 0.55)]
    mask = np.choose(factors.shape[:, None, None, None], masks)
    inside, outside = light[:, None, None, None], dark[:, None, None, None]
    if cluttered:
        clouds = CLOUDS * _smooth(random.normal(0, 1, (count, 5, 5)), side)[:, None]
        inside, outside = 0.5 + (inside - 0.5) * CONTRAST, 0.5 + (outside - 0.5) * CONTRAST + clouds
        swapped = random.random((count, 1, 1, 1)) < 0.5
        inside, outside = np.where(swapped, 1 - inside, inside), np.where(swapped, 1 - outside, outside)
    images = np.where(mask, inside, outside)
    noisy = images + random.normal(0, 0.05, images.shape)
    return (255 * noisy.clip(0, 1)).round().astype(np.uint8)


def _smooth(fields: np.ndarray, side: int) -> np.ndarray:
    """Returns fields (n, a, a), enlarged to (n, side, side)."""
    enlarged = F.interpolate(torch.from_numpy(fields)[:, None], size=side, mode="bicubic", align_corners=True)
    return enlarged[:, 0].numpy()


def _waves(factors: Factors, rate: int, random: np.random.Generator) -> np.ndarray:
    count, time = len(factors.size), np.arange(round(SECONDS * rate)) / rate
    period, begin = np.array(PERIODS)[factors.speed], (-factors.phase / PHASES) % 1
    frequency = pitch(factors.size) * random.uniform(0.99, 1.01, count)
    waves = random.normal(0, 0.002, (count, len(time)))
    for row in range(count):
        for bounce in range(-1, int(SECONDS / period[row]) + 1):
            onset = (begin[row] + bounce) * period[row]
            since = time[time >= onset] - onset
            if bounce < 0 or not len(since):
                continue
            partials = [
                amplitude * np.sin(2 * np.pi * number * frequency[row] * since)
                for number, amplitude in enumerate(HARMONICS[factors.shape[row]], 1)
                if amplitude and number * frequency[row] < rate / 2
            ]
            tone = LOUDNESS[factors.speed[row]] * np.exp(-since / DECAY) * sum(partials)
            waves[row, len(time) - len(since) :] += tone
    return (32767 * (0.4 * waves).clip(-1, 1)).round().astype(np.int16)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.bouncing", description=__doc__)
    parser.add_argument("file")
    parser.add_argument("--train", type=int, default=2000)
    parser.add_argument("--test", type=int, default=400)
    parser.add_argument("--frames", type=int, default=4, choices=(1, 4))
    chosen = parser.parse_args()
    arrays: dict[str, Any] = dict(with_test(chosen.train, chosen.test, frames=chosen.frames))
    np.savez(chosen.file, **arrays)
    print(f"{chosen.file}: recall at 1 of the test split is {bound(arrays, 'test_'):.1f} % at most")


if __name__ == "__main__":
    main()
