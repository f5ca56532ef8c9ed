"""A picture of pairs: each image beside the spectrogram of its sound."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from sanslabel.inputs import SpectrogramSpec
from sanslabel.views import LogMel

SIDE, WIDTH, GAP, LINE = 96, 144, 6, 14
"""pixels of an image's side, of a spectrogram's width, between pairs, and of a line of text"""


def pair_picture(
    file: Path, images: np.ndarray, waves: np.ndarray, rate: int, *, titles: Sequence[str], columns: int = 5
) -> None:
    """Writes a gray picture of pairs with their titles.

    images: (n, H, W) or (n, H, W, 3) uint8; waves: (n, T) int16; rate: their samples in a second. Low tones are at the
    bottom, and black is 80 dB or more below the loudest point.
    """
    spectrograms = LogMel.of(SpectrogramSpec(mels=64, frames=96, rate=rate)).spectrogram(
        torch.from_numpy(waves / 32768).float()
    )
    lines = -(-len(images) // columns)
    cell = SIDE + WIDTH + GAP
    page = Image.new("L", (columns * cell + GAP, lines * (SIDE + LINE + GAP) + GAP), 255)
    draw = ImageDraw.Draw(page)
    for number, (image, title) in enumerate(zip(images, titles, strict=True)):
        left, top = GAP + number % columns * cell, GAP + number // columns * (SIDE + LINE + GAP)
        picture = Image.fromarray(image).convert("L").resize((SIDE, SIDE), Image.Resampling.NEAREST)
        decibels = 10 / np.log(10) * (spectrograms[number] - spectrograms[number].max()).numpy()
        gray = (255 * (1 + decibels / 80).clip(0, 1)).round().astype(np.uint8)[::-1]
        page.paste(picture, (left, top + LINE))
        page.paste(Image.fromarray(np.ascontiguousarray(gray)).resize((WIDTH, SIDE)), (left + SIDE, top + LINE))
        draw.text((left, top), title, fill=0)
    file.parent.mkdir(parents=True, exist_ok=True)
    page.quantize(64).save(file, optimize=True)
