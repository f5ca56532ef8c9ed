"""The picture of the README: python -m bench.neighbors RUN PICTURE.png"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn.functional import normalize

import sanslabel
from sanslabel.evaluation import pixels, represent
from sanslabel.sources import open_source

NEIGHBORS, SCALE, GAP, COLUMNS = 8, 2, 6, 2


def nearest(train: Tensor, test: Tensor) -> Tensor:
    """Returns the positions of the nearest training samples by cosine, (n, D) and (q, D) -> (q, NEIGHBORS)."""
    return (normalize(test, dim=1) @ normalize(train, dim=1).T).topk(NEIGHBORS).indices


def main(run: str, picture: str) -> None:
    """Draws test pictures of every class, each with its nearest training pictures by pixels and by the encoder."""
    train, test = open_source("fashion", "train"), open_source("fashion", "test")
    representations = {"pixels": pixels, "encoder": sanslabel.load_encoder(run)}
    options = {"reads": train.image, "device": torch.device("cpu")}
    bank, _ = represent(representations, train, **options)
    features, _ = represent(representations, test, **options)
    neighbors = {name: nearest(bank[name], features[name]) for name in representations}
    correct = {name: train.labels[neighbors[name]] == test.labels[:, None] for name in representations}
    # The first test picture of every class, which no result decides.
    queries = [int((test.labels == c).nonzero()[0]) for c in range(len(test.classes))]

    side = 28 * SCALE
    cell = side + GAP
    block = cell * (NEIGHBORS + 1) + 6 * GAP, 2 * cell + 2 * GAP
    canvas = Image.new("RGB", (COLUMNS * block[0], -(-len(queries) // COLUMNS) * block[1]), "white")
    draw = ImageDraw.Draw(canvas)

    def paste(image: Tensor, x: int, y: int, color: str | None) -> None:
        tile = Image.fromarray(255 - image[0].numpy()).resize((side, side), Image.Resampling.BICUBIC)
        if color:
            draw.rectangle((x - 2, y - 2, x + side + 1, y + side + 1), fill=color)
        canvas.paste(tile, (x, y))

    for place, query in enumerate(queries):
        left, top = place % COLUMNS * block[0] + GAP, place // COLUMNS * block[1] + GAP
        paste(test.images[query], left, top + cell // 2, None)
        for line, name in enumerate(representations):
            for column, index in enumerate(neighbors[name][query].tolist()):
                color = "#4a8" if correct[name][query, column] else "#d22"
                paste(train.images[index], left + cell * (column + 1) + 3 * GAP, top + line * cell, color)
    Path(picture).parent.mkdir(parents=True, exist_ok=True)
    canvas.save(picture, optimize=True)
    for name in representations:
        print(f"{name}: {correct[name].float().mean():.1%} of all neighbors are of the query's class")


if __name__ == "__main__":
    main(*sys.argv[1:])
