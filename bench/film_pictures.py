"""Draws the pictures of docs/pairs.md from a run of SimCLR on a film: python -m bench.film_pictures RUN FOLDER

pairs.png has frames of the first batch with their first views, then their partners with their second views, as training
drew them. filmstrip.png has frames of the film, each with its nearest frames by the encoder, at least three seconds
from it and from each other if they are of one shot.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize

from sanslabel.evaluation import represent
from sanslabel.methods.simclr import SimCLR
from sanslabel.report.neighborhoods import filmstrips
from sanslabel.run_folder import RunFolder, data_of_run
from sanslabel.sources import Request, Source, batches, open_source
from sanslabel.views import resize_images

CPU = torch.device("cpu")
ROWS, NEAREST, AWAY = 5, 7, 3.0
"""frames of the filmstrip, the nearest ones of each, and the seconds between those of one shot"""
SHOWN = 8
"""pairs of the sheet"""
SIDE, GAP = 80, 4
"""side of a picture on the sheet, and the space between two"""
COLORS = 160
"""colors of a sheet"""


def sheet(rows: Sequence[Tensor], file: Path) -> None:
    """Writes rows of pictures, (n, 3, H, W) in [0, 1] each, as one picture. The first of each row stands apart."""
    cell = SIDE + GAP
    canvas = Image.new("RGB", (max(map(len, rows)) * cell + 2 * GAP, len(rows) * cell), "white")
    for y, row in enumerate(rows):
        for x, picture in enumerate((255 * row).round().byte().permute(0, 2, 3, 1).numpy()):
            tile = Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
            canvas.paste(tile, (x * cell + 2 * GAP * (x > 0), y * cell))
    file.parent.mkdir(parents=True, exist_ok=True)
    canvas.quantize(COLORS, dither=Image.Dither.NONE).save(file, optimize=True)


def pairs(folder: RunFolder) -> list[Tensor]:
    """Returns frames of the first batch and their first views, then the partners and the second views."""
    plan, method = folder.known_plan, folder.method()
    assert isinstance(method, SimCLR)
    source = folder.training_source(data_of_run(plan))
    _, batch = next(batches(source, plan.batch, seed=plan.seed, epochs=plan.epochs, device=CPU))
    index = torch.linspace(0, plan.batch - 1, SHOWN).long()  # frames of one shot follow each other in a batch
    few = batch.map(lambda tensor: tensor[index])._replace(dtype=getattr(torch, plan.precision))
    rows = []
    for stream in (0, 1):
        rows += [resize_images(few.images(stream), plan.image_size), method.view.input(few, stream).images.float()]
    return rows


def nearest(folder: RunFolder, source: Source) -> list[Tensor]:
    """Returns rows of the middle squares of frames: one and its nearest."""
    encoder = folder.encoder()
    features, index = represent({"": encoder}, source, reads=encoder.reads, device=CPU)
    assert source.group is not None
    assert source.time is not None
    unit, (group, time) = normalize(features[""], dim=1), (source.group[index], source.time[index])
    strips = filmstrips(unit, group, time, ROWS + 2, NEAREST, AWAY)[1:-1]  # the film begins and ends in black
    return [squares(source, index[[strip.frame, *strip.nearest]]) for strip in strips]


def squares(source: Source, index: Tensor) -> Tensor:
    """Returns the middle squares of frames, (n, 3, S, S) in [0, 1]."""
    images = source.load(Request(index)).images
    height, width = images.pixels.shape[2:]
    left = (width - height) // 2
    return images.pixels[..., left : left + height].float() / 255


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("folder", type=Path)
    flags = parser.parse_args()
    run = RunFolder.open(flags.run)
    sheet(pairs(run), flags.folder / "pairs.png")
    source = open_source(data_of_run(run.known_plan), image_size=run.known_plan.image_size)
    sheet(nearest(run, source), flags.folder / "filmstrip.png")


if __name__ == "__main__":
    main()
