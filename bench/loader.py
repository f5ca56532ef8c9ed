"""How fast images of 224 x 224 come from JPEGs, with and without a cache, beside lightly and torchvision:
python -m bench.loader

Each side is started anew in turns. It runs until the batches are used up that its processes had decoded ahead, and is
then timed over some batches. Figures are medians over the turns.
"""

from __future__ import annotations

import json
import os
import tarfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import torch
from torch.utils.data import DataLoader, RandomSampler

from bench.interleaving import CPU, finish
from bench.markdown import table
from bench.peers import WORKERS, imported
from bench.photos import photos
from bench.running import prepared
from sanslabel import views
from sanslabel.device import autocast, fast_precision
from sanslabel.engine import optimize
from sanslabel.methods.simclr import SimCLR
from sanslabel.sources import Source, batches, open_source
from sanslabel.sources.pictures.cache import cached
from sanslabel.sources.pictures.images import ImagesFrom
from sanslabel.sources.pictures.picture import picture
from sanslabel.stopwatch import Stopwatch, timing
from sanslabel.training.determinism import reproducible

PHOTOS, BATCH, SIDE = 2000, 64, 224
PROCESSES = sorted({1, WORKERS})
TIMED, TURNS = 3 * WORKERS, 3
"""batches, and how often each side takes its turn"""
STEPS = 20
"""steps of training, for the share of waiting"""

Line = dict[str, Any]
Images = Iterator[int]
"""how many came, batch by batch"""


def lines(device: torch.device) -> Iterator[Line]:
    with TemporaryDirectory() as folder:
        root = photos(Path(folder) / "photos", PHOTOS)
        source, packed = open_source(root, image_size=SIDE), open_source(archive(root), image_size=SIDE)
        assert isinstance(source, ImagesFrom)
        yield decoding(source)
        kept = {}
        built(source, "disk", Path(folder) / "first")  # which starts what starts processes
        for kind, (seconds, with_cache) in caches(source, Path(folder)).items():
            if not with_cache.decodes:  # there is room for it, and the system knows how
                speed = {"seconds": seconds, "images_per_second": len(source) / seconds}
                yield {"case": f"build {kind}", **speed, "bytes": source.pixel_bytes}
                kept[kind] = with_cache
        yield from handed_over(source, packed, kept, root, device)
        yield waiting("none", source, device)
        if "ram" in kept:
            yield waiting("ram", kept["ram"], device)


def archive(root: Path) -> Path:
    """Returns a tar archive with the files of a folder."""
    path = root.with_suffix(".tar")
    with tarfile.open(path, "w") as tar:
        tar.add(root, ".")
    return path


def decoding(source: ImagesFrom) -> Line:
    """Returns how many images one thread decodes a second, up to a shorter side of 256 and as they are."""
    from PIL import Image

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in a worker process

    def whole_image(path: Path) -> None:
        with Image.open(path) as image:
            image.convert("RGB")

    paths = [source.store.location / name for name in source.store.names]
    sides = {"ours": lambda path: picture(path, 3, source.side), "whole": whole_image}
    taken: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(TURNS):
        for name, decode in sides.items():
            start = time.perf_counter()
            for path in paths[100 * turn : 100 * turn + 100]:
                decode(path)
            taken[name].append(100 / (time.perf_counter() - start))
    torch.set_num_threads(threads)
    ours, unreduced = median(taken["ours"]), median(taken["whole"])
    return {"case": "decoding", "images_per_second": ours, "whole_images_per_second": unreduced}


def caches(source: ImagesFrom, folder: Path) -> dict[str, tuple[float, Source]]:
    """Returns the seconds in which each kind of cache is made, in turns, and the source with it."""
    taken, sources = defaultdict[str, list[float]](list), dict[str, Source]()
    for turn in range(TURNS):
        for kind in ("ram", "disk"):
            sources.pop(kind, None)  # two in memory at a time are one too many
            seconds, sources[kind] = built(source, kind, folder / str(turn))
            taken[kind].append(seconds)
    return {kind: (median(taken[kind]), sources[kind]) for kind in sources}


def built(source: ImagesFrom, kind: Any, folder: Path) -> tuple[float, Source]:
    with patch.dict(os.environ, XDG_CACHE_HOME=str(folder)):
        start = time.perf_counter()
        with_cache = cached(source, kind, 1)
        return time.perf_counter() - start, with_cache


def handed_over(
    source: Source, packed: Source, kept: dict[str, Source], root: Path, device: torch.device
) -> Iterator[Line]:
    """Yields the images a second of every side: decoded by so many processes, or from a cache without any."""
    cases = {_decoding(workers): (source, workers) for workers in PROCESSES}
    cases |= {f"{_decoding(workers)}, from a tar archive": (packed, workers) for workers in PROCESSES}
    cases |= {f"cache {kind}": (with_cache, 0) for kind, with_cache in kept.items()}
    sides: dict[tuple[str, str], Callable[[], Images]] = {}
    for case, (images, workers) in cases.items():
        sides[case, "images"] = partial(ours, images, workers, device)
        sides[case, "views"] = partial(ours, images, workers, device, rendered=True)
        for name, peer in (("lightly", lightly), ("torchvision", torchvision)):
            if workers and images is source and imported(name) is not None:
                sides[case, name] = partial(peer, root, workers)
    rates: dict[tuple[str, str], list[float]] = {side: [] for side in sides}
    for _ in range(TURNS):
        for side, images in sides.items():
            rates[side].append(rate(images(), 2 * WORKERS + 2))
    for case in cases:
        medians = {side: median(rates[case, side]) for of, side in sides if of == case}
        yield {"case": case, **{f"{side}_per_second": speed for side, speed in medians.items()}}


def _decoding(workers: int) -> str:
    return f"decoded by {workers} process{'es' * (workers > 1)}"


def rate(images: Images, ahead: int) -> float:
    """Returns the images a second, once those are used up that are made ahead."""
    for _ in range(ahead):
        next(images)
    start, count = time.perf_counter(), 0
    for _ in range(TIMED):
        count += next(images)
    taken = time.perf_counter() - start
    images.close()  # type: ignore[attr-defined]
    return count / taken


def ours(source: Source, workers: int, device: torch.device, rendered: bool = False) -> Images:
    """Yields the sizes of batches as the loader hands them over, or after SimCLR's two views were made of them."""
    view, precision = replace(views.SIMCLR, size=SIDE), getattr(torch, fast_precision(device))
    with closing(batches(source, BATCH, seed=0, epochs=1000, workers=workers, device=device)) as stream:  # type: ignore
        for _, batch in stream:
            if rendered:
                with autocast(device, precision):
                    for number in (0, 1):
                        view(batch, number)
                finish(device)
            yield len(batch.images().pixels)


def lightly(root: Path, workers: int) -> Images:
    """Returns batches of lightly's dataset and transform, two views of each image, in torch's loader."""
    from lightly.data import LightlyDataset
    from lightly.transforms import SimCLRTransform

    data = LightlyDataset(str(root), transform=SimCLRTransform(input_size=SIDE, normalize=None))
    return (len(pair[0]) for (pair, *_) in loader(data, workers))


def torchvision(root: Path, workers: int) -> Images:
    """Returns batches of a folder of images with a random crop and nothing else: one view."""
    from torchvision import datasets, transforms

    crop = transforms.Compose([transforms.RandomResizedCrop(SIDE), transforms.ToTensor()])
    return (len(images) for images, _ in loader(datasets.ImageImagesFrom(str(root), transform=crop), workers))


def loader(data: Any, workers: int) -> Iterator[Any]:
    """Returns batches without an end, since processes that are started anew for an epoch have made nothing ahead."""
    endless = RandomSampler(data, replacement=True, num_samples=10**9)
    return iter(DataLoader(data, BATCH, sampler=endless, num_workers=workers))


def waiting(kind: str, source: Source, device: torch.device) -> Line:
    """Returns the share of SimCLR's step with a ResNet-18 that waits for the next batch, after the first epoch."""
    method, start = SimCLR.under(SimCLR.small), len(source) // BATCH
    training = prepared(
        method, SimCLR.small, source, "resnet18", size=SIDE, batch=BATCH, device=device, start=start, workers=1
    )
    with reproducible(device), timing(Stopwatch(device)) as watch, closing(training.batches):  # type: ignore[type-var]
        records = optimize(*training)
        for _ in range(2):  # which are not counted
            next(records)
        finish(device)
        watch.lap()
        for _ in range(STEPS):
            next(records)
        finish(device)
        spent = watch.lap()
    total = sum(spent.values())
    return {
        "case": f"waiting, cache {kind}",
        "batch": BATCH,
        "waiting_share": spent.get("waiting", 0) / total,
        "views_share": spent.get("views", 0) / total,
        "seconds": total / STEPS,
    }


def section(results: list[Line]) -> str:
    of = {line["case"]: line for line in results}
    most = max((line.get("lightly_per_second", 0) for line in results), default=0)
    head, cells_by_case = ("", "images/s", "and two views of each", "lightly, two views", "torchvision, one crop"), []
    for line in (line for line in results if "views_per_second" in line):
        cells = [line.get(f"{side}_per_second") for side in ("images", "views", "lightly", "torchvision")]
        shown = ["" if cell is None else f"{cell:,.0f}" for cell in cells]
        cells_by_case.append([line["case"], *shown, f"{line['views_per_second'] / most:.1f}" if most else ""])
    decoded = "".join(
        f" One thread decodes {line['images_per_second']:,.0f} of them a second to a shorter side of 256, and"
        f" {line['whole_images_per_second']:,.0f} as they are."
        for line in results
        if line["case"] == "decoding"
    )
    made = "".join(
        f" All cores decode them once for `--cache {kind}`, in {line['seconds']:.1f} s, to {line['bytes'] / 2**20:,.0f}"
        " MiB."
        for kind in ("ram", "disk")
        if (line := of.get(f"build {kind}"))
    )
    waits = [
        f"{100 * line['waiting_share']:.2f} % of {line['seconds']:.2f} s {how}"
        for kind, how in (("ram", "with the cache in memory"), ("none", "with one process that decodes"))
        if (line := of.get(f"waiting, cache {kind}"))
    ]
    text = f"""## Large images from files

{PHOTOS:,} JPEGs of 500 x 375 and 375 x 500 pixels, made by formulas to cost a decoder what photos cost it, trained at
{SIDE} in batches of {BATCH}.{decoded}{made}

The first column is what the loader hands over: uint8, of which the device that trains makes views. The second one makes
two views of SimCLR of them there; lightly's processes make theirs of single images. The last column holds these two
against each other, each row against the most that lightly has. Medians of {TURNS} turns of all sides.

{table([*head, "times lightly's most"], cells_by_case)}
"""
    if waits:
        step = f"Of a whole step of SimCLR with a ResNet-18 at {SIDE} and a batch of {BATCH}, the wait for data takes"
        text += f"\n{step} {' and '.join(waits)}.\n"
    return text


if __name__ == "__main__":
    for line in lines(CPU):
        print(json.dumps(line), flush=True)
