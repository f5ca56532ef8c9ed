"""How many crops of photos are enlarged, and what larger photos cost: python -m bench.enlarged FOLDER [FOLDER …]

A crop is enlarged if it has fewer pixels than the view. Photos are first reduced to a factor of the image size
(`--decode-factor`): 8/7 in the recipes `small`, larger in the recipes of papers that draw small crops. The table has
the share of enlarged crops for SimCLR's and SwAV's views of 224 pixels and SwAV's of 96, the memory that a photo takes,
and the CPU time of decoding it and of drawing SimCLR's two views.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import prod

import torch

from bench.markdown import table
from sanslabel import views
from sanslabel.batch import Batch, Images
from sanslabel.inputs import DECODE_FACTOR
from sanslabel.methods.simclr import SimCLR
from sanslabel.methods.swav import SwAV
from sanslabel.sources import Request, open_source
from sanslabel.sources.pictures.images import ImagesFrom
from sanslabel.sources.pictures.picture import bounded
from sanslabel.sources.pictures.stored_picture import size
from sanslabel.views.view import resized_to

SIDE = 224
DRAWS = 20_000
"""crops for each view"""
AS_STORED = 1e6
"""a factor that reduces no photo"""
FACTORS = {
    "8/7": DECODE_FACTOR,
    f"{SwAV.recipe.decode_factor:g} (SwAV)": SwAV.recipe.decode_factor,
    f"{SimCLR.recipe.decode_factor:g} (SimCLR)": SimCLR.recipe.decode_factor,
    "as stored": AS_STORED,
}
SIZES: Mapping[str, Sequence[tuple[int, int]]] = {"500 x 375 pixels": [(500, 375)]}
"""width and height of photos that need no files"""
TIMED = 32
"""photos of a folder that are decoded and drawn from"""


def single_views(view: views.AnyView | views.MultiCrop, side: int) -> list[tuple[int, views.View]]:
    """Returns the stream and the view of each kind of crop of a view whose crops have `side` pixels."""
    match view:
        case views.MultiCrop():
            local = replace(view.local_crop, size=round(side * 3 / 7))
            return [*single_views(view.global_crop, side), (2, local)]
        case views.Pair():
            return [(0, resized_to(side, view.first)), (1, resized_to(side, view.second))]
        case views.Masked():
            return single_views(view.view, side)
        case _:
            return [(0, resized_to(side, view))]


def enlarged(view: views.View, sizes: Sequence[tuple[int, int]], draws: int = DRAWS, stream: int = 0) -> float:
    """Returns the share of crops that are enlarged, of photos with these widths and heights."""
    assert view.size is not None
    pixels = crops(view, sizes, draws, stream).prod(dim=1)
    return (pixels < view.size**2).double().mean().item()


def crops(view: views.View, sizes: Sequence[tuple[int, int]], draws: int, stream: int) -> torch.Tensor:
    """Returns the heights and widths of crops of photos with these widths and heights, (draws, 2) int64."""
    key = torch.arange(draws)
    each = torch.tensor(sizes).flip(1)[key % len(sizes)]  # height and width
    canvas = torch.zeros(1, dtype=torch.uint8).expand(draws, 3, *each.amax(dim=0).tolist())
    batch = Batch(key, key * 2654435761 % 2**32, {"image": Images(canvas, each)})
    return view.draw(batch, stream).boxes[:, 2:]


def decoded_sizes(sizes: Sequence[tuple[int, int]], factor: float) -> list[tuple[int, int]]:
    """Returns the widths and heights of photos after they are reduced to a factor of SIDE."""
    return [bounded(each, round(SIDE * factor)) for each in sizes]


def rows(name: str, sizes: Sequence[tuple[int, int]], photos: ImagesFrom | None = None) -> Iterator[list[str]]:
    """Yields a row of the table for each factor."""
    simclr, swav = single_views(SimCLR().view, SIDE), single_views(SwAV().view, SIDE)
    for title, factor in FACTORS.items():
        reduced = decoded_sizes(sizes, factor)
        shares = [enlarged(view, reduced, stream=stream) for stream, view in (*simclr, *swav)]
        mebibytes = 3 * sum(map(prod, reduced)) / len(reduced) / 2**20
        taken = ["", ""] if photos is None or factor == AS_STORED else milliseconds(photos, factor)
        number = "" if factor == AS_STORED else f"{round(SIDE * factor):,}"
        yield [name, title, number, *(f"{100 * share:.0f} %" for share in shares), f"{mebibytes:.2f}", *taken]


def milliseconds(photos: ImagesFrom, factor: float) -> list[str]:
    """Returns the CPU milliseconds of decoding a photo, and of SimCLR's two views of it, as texts."""
    source, view = replace(photos, decode_factor=factor), replace(SimCLR().view, size=SIDE)
    decoding = drawing = 0.0
    count = min(len(source), TIMED)
    for row in range(count):
        began = time.process_time()
        loaded = source.load(Request(torch.tensor([row])))
        decoding += time.process_time() - began
        key = torch.tensor([row])
        batch = Batch(key, key, loaded.signals)
        began = time.process_time()
        view(batch, 0), view(batch, 1)
        drawing += time.process_time() - began
    return [f"{1000 * taken / count:.0f}" for taken in (decoding, drawing)]


HEAD = (
    "photos",
    "factor",
    "shorter side at most",
    "SimCLR, 224",
    "SwAV, 224",
    "SwAV, 96",
    "MiB a photo",
    "decoding, ms",
    "two views, ms",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", metavar="FOLDER")
    torch.set_num_threads(1)
    lines = [row for name, sizes in SIZES.items() for row in rows(name, sizes)]
    for folder in parser.parse_args().folders:
        source = open_source(folder, image_size=SIDE, channels=3)
        assert isinstance(source, ImagesFrom)
        sizes = [size(source.file(row)) for row in range(len(source))]
        lines += rows(f"{source.name} ({len(source)})", sizes, source)
    print(table(HEAD, lines, right=range(2, len(HEAD))))


if __name__ == "__main__":
    main()
