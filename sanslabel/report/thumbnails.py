"""Small pictures for the page: each shows a whole picture, and together they take a bounded number of bytes."""

from __future__ import annotations

import os
from base64 import b64encode
from collections.abc import Iterator, Sequence
from io import BytesIO
from itertools import takewhile
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sanslabel.generation.picture import displayable
from sanslabel.inputs import InputSpec
from sanslabel.sources import Request, Source, ordered
from sanslabel.sources.stores.store import Unreadable
from sanslabel.views import plain_view

STEPS = ((96, 80), (96, 60), (80, 50), (64, 50), (48, 40), (32, 30), (24, 20))
"""longer sides in pixels and qualities of thumbnails, from which the first is taken that fits into the bytes"""
SAMPLED = 64
"""pictures whose size decides the step"""
LOADED = 64
"""pictures that are loaded at a time"""


def thumbnails(source: Source, index: Tensor, reads: InputSpec, most_bytes: int) -> list[str]:
    """Returns a WebP of each picture in base64, whole and upright. Sounds are shown as spectrograms.

    index: (n,) positions of pictures in the source. most_bytes: bytes of all thumbnails, about. If pictures take more,
    all of them become smaller and coarser.
    """
    some = torch.linspace(0, len(index) - 1, min(SAMPLED, len(index))).round().long()
    examples = list(_pictures(source, index[some], reads, STEPS[0][0]))
    side, quality = next((step for step in STEPS if _mean_bytes(examples, *step) * len(index) <= most_bytes), STEPS[-1])
    return [_webp(picture, side, quality) for picture in _pictures(source, index, reads, side)]


def links(source: Source, index: Tensor, folder: Path) -> list[str]:
    """Returns the address of each picture's file, relative to a folder. It is empty if the picture is no file of its
    own."""
    if source.pictures is None:
        return [""] * len(index)
    location = source.pictures.store.location
    files = [location / source.id(row) for row in index.tolist()]
    return [_address(file, folder) if file.is_file() else "" for file in files]


def common_folder(names: Sequence[str]) -> str:
    """Returns the folders, with a slash at the end, that all names begin with; "" if there are none."""
    folders = [name.split("/")[:-1] for name in names]
    first, last = min(folders), max(folders)  # all others lie between them, and begin as both do
    shared = [a for a, b in takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False))]
    return "".join(f"{folder}/" for folder in shared)


def _mean_bytes(examples: Sequence[Image.Image], side: int, quality: int) -> float:
    """Returns the bytes that a thumbnail takes on average."""
    return sum(len(_webp(picture, side, quality)) for picture in examples) / len(examples)


def _address(file: Path, folder: Path) -> str:
    try:
        relative = os.path.relpath(file, folder)
    except ValueError:  # on Windows, another drive
        return file.resolve().as_uri()
    return "./" + PurePosixPath("/", relative.replace(os.sep, "/")).as_uri().removeprefix("file:///")


def _pictures(source: Source, index: Tensor, reads: InputSpec, side: int) -> Iterator[Image.Image]:
    """Yields pictures that are at least `side` pixels long if their files are."""
    if "image" not in source.inputs:
        yield from map(_picture, _spectrograms(source, index, reads))
        return
    if source.pictures is not None:
        for row in index.tolist():
            try:
                pixels = torch.from_numpy(source.pictures.whole_picture(row, side).copy())
            except Unreadable:  # it was readable before
                pixels = torch.full((1, 1, 1), 127, dtype=torch.uint8)
            yield _picture(pixels)
        return
    for few in index.split(LOADED):
        images = source.load(Request(few)).images
        sizes = [images.pixels.shape[2:]] * len(few) if images.sizes is None else images.sizes.tolist()
        for pixels, (height, width) in zip(images.pixels, sizes, strict=True):
            yield _picture(pixels[:, :height, :width])


def _spectrograms(source: Source, index: Tensor, reads: InputSpec) -> Tensor:
    """Returns spectrograms (n, 1, mels, frames) in [0, 1], low pitches at the bottom."""
    view, cpu = plain_view(reads), torch.device("cpu")
    batches = ordered(source.subset(index), LOADED, device=cpu)
    full = torch.cat([view.plain(batch).images for batch in batches]).float()
    low, high = full.aminmax()
    return ((full - low) / (high - low).clamp(min=1e-12)).flip(2)


def _picture(pixels: Tensor) -> Image.Image:
    """Returns pixels (C, H, W) as a picture. Of more than three channels, the first three are red, green and blue."""
    pixels = displayable(pixels[None])[0]
    if pixels.dtype != torch.uint8:
        pixels = (pixels.float().clamp(0, 1) * 255).round().byte()
    return Image.fromarray(np.ascontiguousarray(pixels.cpu().permute(1, 2, 0).squeeze(2).numpy()))


def _webp(picture: Image.Image, side: int, quality: int) -> str:
    """Returns a picture as WebP in base64, reduced until its longer side has at most `side` pixels."""
    scale = min(1.0, side / max(picture.size))
    if scale < 1:
        picture = picture.resize(
            (max(1, round(picture.width * scale)), max(1, round(picture.height * scale))), reducing_gap=3
        )
    stream = BytesIO()
    picture.convert("RGB").save(stream, format="WEBP", quality=quality, method=2)
    return b64encode(stream.getvalue()).decode()
