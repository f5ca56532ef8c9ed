"""Views a second beside other libraries, and the faster form of resampling: python -m bench.views

All draw SimCLR's view with lightly's default ranges: crops of 0.08 to 1 of the area, mirror images, brightness,
contrast and saturation 0.8, hue 0.2, gray-scale 0.2, a blur every other time. Each reads from memory what it is made
for: sanslabel batches of uint8, kornia batches of float32, lightly and stable-pretraining PIL images. The last two
transform single images, as in their examples, with and without worker processes. Nothing is normalized.

The ranges are the same, but the arithmetic differs. Here the colors are one affine map of the channels, without
clamping in between, and hue rotates the chroma. The others convert to HSV and back. Crops are antialiased here and by
Pillow, which lightly and stable-pretraining use, but not by kornia. The blur's kernel is a tenth of the side here and
in kornia, as in the paper, and unlimited in Pillow. For all of them the allocator keeps freed memory, as in training
here; otherwise kornia makes only a third of its views at 224.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from bench.interleaving import CPU, median_seconds
from bench.markdown import prose, table
from bench.peers import WORKERS, imported
from sanslabel import views
from sanslabel.batch import Batch
from sanslabel.memory_limits import keep_freed_memory
from sanslabel.randomness import fold
from sanslabel.views import resampling

CASES = {
    "32x32 color": (256, 3, 32, 32),
    "28x28 gray": (256, 1, 28, 28),
    "224x224 color from 256x256": (64, 3, 256, 224),
}
"""batch, channels, side of the image, side of the view"""
SIDES = (32, 64, 96, 128, 160, 192, 224)
"""of canvases on which the two forms are compared"""
PER_BATCH, BATCHES = 64, 8
"""images in a batch of another library's loader, and batches that each of its processes makes"""


def noise(n: int, channels: int, side: int, device: torch.device) -> Batch:
    """Returns a batch of n images of noise, (n, channels, side, side) uint8."""
    images = torch.randint(0, 256, (n, channels, side, side), dtype=torch.uint8, device=device)
    index = torch.arange(n, device=device)
    return Batch.of_images(images, index, (index * 2654435761 + 12345) % 2**32, torch.full_like(index, -1))


def with_new_keys(batch: Batch) -> Iterator[Batch]:
    """Yields the batch with other keys each time, as in another epoch. The same crops again would be in caches."""
    return (batch._replace(key=fold(batch.key, epoch)) for epoch in itertools.count())


def ours(batch: Batch, size: int, precision: torch.dtype) -> Callable[[], object]:
    view, epochs = replace(views.SIMCLR, size=size), with_new_keys(batch._replace(dtype=precision))

    def call() -> None:
        epoch = next(epochs)
        view(epoch, 0)
        view(epoch, 1)

    return call


def kornia(batch: Batch, size: int) -> Callable[[], object] | None:
    if imported("kornia") is None:
        return None
    from kornia import augmentation as k

    kernel = max(3, size // 10 // 2 * 2 + 1)
    if batch.images().pixels.shape[1] == 3:
        colors = [k.ColorJitter(0.8, 0.8, 0.8, 0.2, p=0.8), k.RandomGrayscale(p=0.2)]
    else:
        colors = [k.ColorJitter(0.8, 0.8, 0.0, 0.0, p=0.8)]
    transform = torch.nn.Sequential(
        k.RandomResizedCrop((size, size), scale=(0.08, 1.0)),
        k.RandomHorizontalFlip(p=0.5),
        *colors,
        k.RandomGaussianBlur((kernel, kernel), (0.1, 2.0), p=0.5),
    )
    images = batch.images().pixels.float() / 255

    @torch.no_grad()
    def call() -> None:
        transform(images)
        transform(images)

    return call


def lightly(batch: Batch, size: int, workers: int) -> Callable[[], object] | None:
    if imported("lightly") is None:
        return None
    from lightly.transforms import SimCLRTransform

    transform = SimCLRTransform(input_size=size, normalize=None)
    return _epoch(Transformed(pictures(batch.images().pixels), transform, images_per_epoch(workers)), workers)


def stable_pretraining(batch: Batch, size: int, workers: int) -> Callable[[], object] | None:
    if imported("stable_pretraining") is None:
        return None
    from stable_pretraining.data import transforms as t

    view = t.Compose(
        t.RandomResizedCrop((size, size), scale=(0.08, 1.0)),
        t.ColorJitter(0.8, 0.8, 0.8, 0.2, p=0.8),
        t.RandomGrayscale(p=0.2),
        t.PILGaussianBlur(p=0.5),
        t.RandomHorizontalFlip(p=0.5),
        t.ToImage(),
    )
    both = t.MultiViewTransform([view, view])
    return _epoch(
        Transformed(pictures(batch.images().pixels), partial(_two_views, both), images_per_epoch(workers)),
        workers,
        _stacked,
    )


def images_per_epoch(workers: int) -> int:
    """Returns the images that another library's loader makes in an epoch."""
    return BATCHES * PER_BATCH * max(1, workers)


def _two_views(transform: Callable[[dict[str, Any]], dict[str, Any]], picture: Image.Image) -> list[dict[str, Any]]:
    return transform({"image": picture})["views"]


def _stacked(samples: list[list[dict[str, Any]]]) -> list[Tensor]:
    return [torch.stack([views[i]["image"] for views in samples]) for i in range(2)]


def _epoch(dataset: Dataset, workers: int, collated: Callable[[list], Any] | None = None) -> Callable[[], object]:
    """Returns a call that reads one epoch to its end, so that no batch is made ahead for the next call."""
    loader = DataLoader(dataset, PER_BATCH, num_workers=workers, persistent_workers=workers > 0, collate_fn=collated)

    def call() -> None:
        for _ in loader:
            pass

    return call


def pictures(images: Tensor) -> list[Image.Image]:
    """Returns PIL images of a batch, (N, C, H, W) uint8, C = 1 or 3."""
    return [Image.fromarray(image.permute(1, 2, 0).squeeze(2).numpy()) for image in images.cpu()]


class Transformed(Dataset):
    """A data set of `length` transformed pictures, which repeat."""

    def __init__(self, pictures: list[Image.Image], transform: Callable[[Image.Image], Any], length: int) -> None:
        self.pictures, self.transform, self.length = pictures, transform, length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Any:
        return self.transform(self.pictures[index % len(self.pictures)])


def lines(device: torch.device) -> Iterator[dict[str, Any]]:
    with keep_freed_memory():
        yield from libraries(device)
        yield from forms(device)


def libraries(device: torch.device) -> Iterator[dict[str, Any]]:
    """Yields the views a second of every library, a line for each case."""
    for case, (n, channels, side, size) in CASES.items():
        batch = noise(n, channels, side, device)
        calls = {
            "bfloat16": ours(batch, size, torch.bfloat16),
            "float32": ours(batch, size, torch.float32),
            "kornia": kornia(batch, size),
            "lightly": lightly(batch, size, 0),
            f"lightly, {WORKERS} workers": lightly(batch, size, WORKERS),
            f"stable-pretraining, {WORKERS} workers": stable_pretraining(batch, size, WORKERS),
        }
        taken = median_seconds({name: call for name, call in calls.items() if call is not None}, device)
        images = {"lightly": images_per_epoch(0)}
        images |= {name: images_per_epoch(WORKERS) for name in taken if "workers" in name}
        yield {"case": case, "views_per_second": {name: 2 * images.get(name, n) / t for name, t in taken.items()}}


def forms(device: torch.device) -> Iterator[dict[str, Any]]:
    """Yields the seconds of 64 views by each form, a line for each dtype and side."""
    fixed = resampling.BOXED_FROM
    for dtype, side in itertools.product((torch.bfloat16, torch.float32), SIDES):
        batch = noise(64, 3, side, device)
        view, epochs = replace(views.SIMCLR, size=side), with_new_keys(batch._replace(dtype=dtype))

        def call(boxed_from: int, view=view, epochs=epochs, dtype=dtype) -> None:
            resampling.BOXED_FROM = {(device.type, dtype): boxed_from}
            view(next(epochs), 0)

        try:
            taken = median_seconds(
                {"dense": lambda c=call: c(10**6), "boxed": lambda c=call: c(0)}, device, at_least=0.2
            )
        finally:
            resampling.BOXED_FROM = fixed
        name = str(dtype).removeprefix("torch.")
        runs = resampling.form(device, dtype, side)
        yield {"case": f"forms, {name}, {side}", "dtype": name, "side": side, "seconds": taken, "runs": runs}


def section(lines: list[dict[str, Any]]) -> str:
    """Returns the section of docs/performance.md, in Markdown."""
    cases = [line for line in lines if "views_per_second" in line]
    names = list(dict.fromkeys(name for line in cases for name in line["views_per_second"]))
    peers = [name for name in names if "workers" in name or name == "kornia"]
    cells, head = [], [f"times {peer}" for peer in peers] + ["times kornia, both float32"] * ("kornia" in peers)
    for line in cases:
        speeds = line["views_per_second"]
        fastest = max(speeds["bfloat16"], speeds["float32"])
        ratios = [f"{fastest / speeds[peer]:.1f}" if peer in speeds else "" for peer in peers]
        if "kornia" in peers:
            ratios.append(f"{speeds['float32'] / speeds['kornia']:.1f}" if "kornia" in speeds else "")
        cells.append([line["case"], *(f"{speeds[x]:,.0f}" if x in speeds else "" for x in names), *ratios])
    here = [f"here, {name}" if name in {"bfloat16", "float32"} else name for name in names]
    text = f"""## Views

{prose(__doc__)} The numbers are medians of seven rounds, in each of which all run by turns.

{table(["views a second", *here, *head], cells)}
"""
    compared = {(line["dtype"], line["side"]): line for line in lines if "side" in line}
    if not compared:
        return text
    dtypes, lengths = (list(dict.fromkeys(values)) for values in zip(*compared, strict=True))
    cells = [
        [f"{dtype}, {form}", *(_milliseconds(compared.get((dtype, side)), form) for side in lengths)]
        for dtype in dtypes
        for form in ("dense", "boxed")
    ]
    return f"""{text}
Resampling has two forms (`sanslabel/views/resampling.py`): two batched products over full images, or image by image
over the pixels of its box. A fixed table there chooses one by device, dtype and side; the chosen one is in bold here.

{table(["milliseconds for 64 views, color", *(f"{side}x{side}" for side in lengths)], cells)}
"""


def _milliseconds(line: dict[str, Any] | None, form: str) -> str:
    if line is None:
        return ""
    text = f"{1e3 * line['seconds'][form]:.1f}"
    return f"**{text}**" if line["runs"] == form else text


if __name__ == "__main__":
    for line in lines(CPU):
        print(json.dumps(line), flush=True)
