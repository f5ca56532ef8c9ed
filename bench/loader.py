"""How fast images of 224 x 224 come from JPEGs, with and without a cache, beside lightly and torchvision:
python -m bench.loader

Each side is started anew in turns, runs until what its processes had decoded ahead is used up, and is then timed over
some batches of 64; medians over the turns.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import torch

from bench.markdown import table
from bench.peers import imported
from bench.photos import photos
from sanslabel import encoders, methods, views
from sanslabel.hardware import fast_precision
from sanslabel.sources import Source, batches, open_source
from sanslabel.sources.cache import cached
from sanslabel.sources.folder import Folder
from sanslabel.sources.picture import picture
from sanslabel.training.engine import optimize, players_of

PHOTOS, BATCH, SIDE = 2000, 64, 224
WORKERS = (1, 2)
TIMED, TURNS = 6, 3
"""batches, and how often each side takes its turn"""
STEPS = 20
"""of training, for the share of waiting"""

Line = dict[str, Any]
Images = Iterator[int]
"""how many came, batch by batch"""


def lines(device: torch.device) -> Iterator[Line]:
    with TemporaryDirectory() as folder:
        root = photos(Path(folder) / "photos", PHOTOS)
        source = open_source(root, image_size=SIDE)
        assert isinstance(source, Folder)
        yield decoding(source)
        kept = {}
        for kind in ("ram", "disk"):
            line, kept[kind] = built(source, kind, Path(folder) / "cache")
            yield line
        for workers in WORKERS:
            yield from handing_over(source, kept, root, workers, device)
        yield waiting("none", source, 1, device)
        yield waiting("ram", kept["ram"], 1, device)


def decoding(source: Folder) -> Line:
    """One core, pixels alone: ours up to a shorter side of 256, and what every loader of whole images does."""
    from PIL import Image

    def whole(path: Path) -> None:
        with Image.open(path) as image:
            image.convert("RGB")

    paths = [source.root / path for path in source.paths]
    sides = {"ours": lambda path: picture(path, 3, source.side), "whole": whole}
    taken: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(TURNS):
        for name, decode in sides.items():
            start = time.perf_counter()
            for path in paths[100 * turn : 100 * turn + 100]:
                decode(path)
            taken[name].append(100 / (time.perf_counter() - start))
    ours, whole_ = median(taken["ours"]), median(taken["whole"])
    return {"case": "decoding", "images_per_second": ours, "whole_images_per_second": whole_}


def built(source: Folder, kind: Any, folder: Path) -> tuple[Line, Source]:
    """What the cache takes once."""
    with patch.dict(os.environ, XDG_CACHE_HOME=str(folder)):
        start = time.perf_counter()
        found = cached(source, kind, 1)
        seconds = time.perf_counter() - start
    assert not found.decodes
    line = {"case": f"build {kind}", "seconds": seconds, "images_per_second": len(source) / seconds}
    return line | {"bytes": source.decoded_bytes}, found


def handing_over(
    source: Source, kept: dict[str, Source], root: Path, workers: int, device: torch.device
) -> Iterator[Line]:
    """Images a second of every side with so many worker processes."""
    sides: dict[str, Callable[[], Images] | None] = {
        "none": lambda: ours(source, workers, device),
        "none, views": lambda: ours(source, workers, device, True),
        "ram": lambda: ours(kept["ram"], workers, device),
        "disk": lambda: ours(kept["disk"], workers, device),
        "ram, views": lambda: ours(kept["ram"], workers, device, True),
        "lightly": lightly(root, workers),
        "torchvision": torchvision(root, workers),
    }
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(TURNS):
        for name, side in sides.items():
            if side is not None:
                rates[name].append(rate(side(), 2 * workers + 2))
    peers = {f"{name}_images_per_second": median(rates[name] or [0]) or None for name in ("lightly", "torchvision")}
    for kind in ("none", "ram", "disk"):
        line = {"case": f"cache {kind}, {workers} worker{'s' * (workers > 1)}", "workers": workers}
        rendered = rates.get(f"{kind}, views")
        line["with_views_images_per_second"] = median(rendered) if rendered else None
        yield line | {"images_per_second": median(rates[kind])} | peers


def rate(images: Images, ahead: int) -> float:
    """Images a second once those are used up that are made ahead."""
    for _ in range(ahead):
        next(images)
    start, count = time.perf_counter(), 0
    for _ in range(TIMED):
        count += next(images)
    taken = time.perf_counter() - start
    images.close()  # type: ignore[attr-defined]
    return count / taken


def ours(source: Source, workers: int, device: torch.device, rendered: bool = False) -> Images:
    """Batches as the loader hands them over, or the two views of SimCLR that a step would make of them."""
    view, precision = replace(views.SIMCLR, size=SIDE), getattr(torch, fast_precision(device))
    with closing(batches(source, BATCH, seed=0, epochs=1000, workers=workers, device=device)) as stream:  # type: ignore
        for _, batch in stream:
            if rendered:
                with torch.autocast(device.type, precision, enabled=precision != torch.float32):
                    for number in (0, 1):
                        view(batch, number)
                if device.type == "cuda":
                    torch.cuda.synchronize()
            yield len(batch.images)


def lightly(root: Path, workers: int) -> Callable[[], Images] | None:
    """Its dataset and transform, in torch's loader as its examples have it: two views of each image."""
    if imported("lightly") is None:
        return None
    from lightly.data import LightlyDataset
    from lightly.transforms import SimCLRTransform

    data = LightlyDataset(str(root), transform=SimCLRTransform(input_size=SIDE))
    return lambda: (len(pair[0]) for (pair, *_) in loader(data, workers))


def torchvision(root: Path, workers: int) -> Callable[[], Images] | None:
    """A folder of images and a random crop, without anything else: one view."""
    if imported("torchvision") is None:
        return None
    from torchvision import datasets, transforms

    crop = transforms.Compose([transforms.RandomResizedCrop(SIDE), transforms.ToTensor()])
    data = datasets.ImageFolder(str(root), transform=crop)
    return lambda: (len(images) for images, _ in loader(data, workers))


def loader(data: Any, workers: int) -> Iterator[Any]:
    options = {"batch_size": BATCH, "shuffle": True, "drop_last": True, "num_workers": workers}
    while True:
        yield from torch.utils.data.DataLoader(data, **options)


def waiting(kind: str, source: Source, workers: int, device: torch.device) -> Line:
    """The share of SimCLR's step with a ResNet-18 that is spent waiting for the next batch, after the first epoch."""
    chosen = methods.method_class("simclr")
    method = chosen.under(chosen.small).sized(SIDE)
    encoder = encoders.build("resnet18", channels=3, image_size=SIDE, scaling=((0.5,) * 3, (0.25,) * 3))
    net = method.networks(encoder, source.facts(SIDE)).to(device).train()
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    players, waits, steps = players_of(net, chosen.small, BATCH), [], []
    start = len(source) // BATCH
    stream = batches(source, BATCH, seed=0, epochs=10, start=start, workers=workers, device=device)

    def watched() -> Iterator[Any]:
        while True:
            begin = time.perf_counter()
            pair = next(stream)
            waits.append(time.perf_counter() - begin)
            yield pair

    begin = time.perf_counter()
    for record in optimize(method, net, players, watched(), getattr(torch, fast_precision(device))):
        now = time.perf_counter()
        steps.append(now - begin)
        begin = now
        if record.clock.step - start == STEPS + 1:  # the first two are not counted
            break
    stream.close()  # type: ignore[attr-defined]
    waited, whole = sum(waits[2 : STEPS + 2]), sum(steps[2:])
    line = {"case": f"waiting, cache {kind}", "waiting_share": waited / whole, "seconds": whole / STEPS}
    return line | {"batch": BATCH, "workers": workers}


def section(lines: list[Line]) -> str:
    of = {line["case"]: line for line in lines}
    decoded, ram, disk = of["decoding"], of["build ram"], of["build disk"]
    head = ["", "images/s", "and two views of each", "lightly, two views", "torchvision, one crop", "over lightly"]
    rows = []
    for line in lines:
        if "lightly_images_per_second" in line:
            peer = line["lightly_images_per_second"]
            cells = [line["images_per_second"], line["with_views_images_per_second"], peer]
            cells.append(line["torchvision_images_per_second"])
            ratio = "" if peer is None else f"{line['images_per_second'] / peer:.1f}"
            shown = ["" if cell is None else f"{cell:,.0f}" for cell in cells]
            rows.append([line["case"], *shown, ratio])
    waits = [of["waiting, cache none"], of["waiting, cache ram"]]
    none, cached_ = (f"{100 * line['waiting_share']:.1f} %" for line in waits)
    return f"""## Large images from files

{PHOTOS:,} JPEGs of 500 x 375 and 375 x 500 pixels, made by formulas to cost a decoder what photos cost it, trained at
{SIDE} in batches of {BATCH}. One core decodes {decoded["images_per_second"]:,.0f} of them a second to a shorter side of
256, and {decoded["whole_images_per_second"]:,.0f} as they are. All cores decode them once for the cache: in
{ram["seconds"]:.1f} s into main memory, in {disk["seconds"]:.1f} s to disk, {ram["bytes"] / 2**20:,.0f} MiB.

The first column is what the loader hands over: uint8, of which the device that trains makes views. The second one makes
two views of SimCLR of them in the same process, and so is the one to hold against lightly's, whose processes do that.
All sides in turns, with as many worker processes; with a cache there are none, since reading is a copy.

{table(head, rows)}

Of a whole step of SimCLR with a ResNet-18 at {SIDE} and a batch of {BATCH} ({waits[1]["seconds"]:.2f} s), {cached_} is
spent waiting for data with the cache in memory, and {none} with one process that decodes.
"""


if __name__ == "__main__":
    for line in lines(torch.device("cuda" if torch.cuda.is_available() else "cpu")):
        print(json.dumps(line), flush=True)
