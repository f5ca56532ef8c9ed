"""JPEGs that cost a decoder what photos cost it: smooth fields, texture and shapes, not noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

SIZES = ((500, 375), (375, 500))


def photos(folder: Path, count: int, seed: int = 0, quality: int = 90) -> Path:
    """Writes so many photos of ImageNet's usual sizes into ten sub-folders."""
    random = np.random.default_rng(seed)
    for row in range(count):
        path = folder / f"{row % 10}" / f"{row:05}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        photo(random, *SIZES[row % 2]).save(path, quality=quality)
    return folder


def photo(random: np.random.Generator, width: int, height: int) -> Image.Image:
    """Returns random fields of six scales with shapes on them; the strength falls with the frequency as in photos."""
    pixels = np.full((height, width, 3), 128.0, np.float32)
    for cells, strength in ((3, 60), (8, 35), (24, 22), (80, 18), (200, 16), (400, 12)):
        field = random.normal(128, strength, (cells, cells, 3)).clip(0, 255).astype(np.uint8)
        pixels += np.asarray(Image.fromarray(field).resize((width, height), Image.Resampling.BICUBIC), np.float32) - 128
    image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for _ in range(12):
        corners = random.integers(0, (width, height), (3, 2))
        draw.polygon([tuple(corner) for corner in corners.tolist()], tuple(random.integers(0, 256, 3).tolist()))
    return image
