"""Compares the training step with the bare network, and with lightly: python -m bench.step

SimCLR, two views. The bare network is the limit: forward, backward and update of the same encoder and projector on
ready-made views. `whole` is everything that `sanslabel train` does for a step: data, views, loss, checks and figures.
The column views is their share of its time. Images are noise, in memory. Utilization is a ratio of operations: those of
the bare network's products and convolutions, over those that the device does in the time of the step when it multiplies
large matrices of the same precision.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from statistics import median
from typing import Any, NamedTuple

import torch
from torch.utils.data import DataLoader

from bench.arithmetic import operations, product
from bench.interleaving import CPU, finish, interleaved, quartiles
from bench.markdown import prose, table
from bench.peers import WORKERS, imported
from bench.running import Training, followed, noise, prepared
from bench.views import Transformed, pictures
from sanslabel import encoders
from sanslabel.device import autocast, fast_precision, memory_format
from sanslabel.losses import nt_xent
from sanslabel.methods.simclr import SimCLR
from sanslabel.stopwatch import Stopwatch, timing
from sanslabel.training.compilation import compile_
from sanslabel.training.determinism import reproducible


class Case(NamedTuple):
    encoder: str
    channels: int
    side: int
    """side of an image in pixels"""
    size: int
    """side of a view in pixels"""
    batch: int
    steps: int
    """steps in a turn"""
    epoch: int
    """batches in an epoch of lightly's loader, whose processes start again with each epoch"""

    def __str__(self) -> str:
        color = "gray" if self.channels == 1 else "color"
        return f"{self.encoder}, {self.size}x{self.size} {color}, batch {self.batch}"


CASES = {
    "cpu": [
        Case("conv", 1, 28, 28, 256, steps=12, epoch=24),
        Case("conv", 3, 32, 32, 256, steps=8, epoch=16),
        Case("resnet18", 3, 32, 32, 128, steps=2, epoch=2),
    ],
    "cuda": [
        Case("resnet18", 3, 32, 32, 512, steps=8, epoch=128),
        Case("resnet50", 3, 256, 224, 256, steps=4, epoch=128),
        Case("vit_small", 3, 256, 224, 256, steps=4, epoch=128),
    ],
}
IMAGES, TURNS, TURNS_BESIDE = 4096, 15, 3
AS_EXAMPLES, FAST, LOADER = "lightly", "lightly, bfloat16", "its loader"


def training(case: Case, device: torch.device, compiled: bool = False) -> Training:
    source, method = noise(IMAGES, case.channels, case.side), SimCLR.under(SimCLR.small)
    made = prepared(method, SimCLR.small, source, case.encoder, size=case.size, batch=case.batch, device=device)
    if compiled:
        compile_(made.net)
    return made


def bare(case: Case, device: torch.device, compiled: bool = False) -> Iterator[None]:
    whole = training(case, device, compiled)
    views = torch.rand(2 * case.batch, case.channels, case.size, case.size, device=device).to(whole.precision)
    while True:
        with autocast(device, whole.precision):
            loss = whole.net.projector(whole.net.encoder(views)).float().square().mean()
        _update(whole.players[""].optimizer, loss)
        yield


def lightly_epoch(case: Case, device: torch.device, kind: str, workers: int, images: int) -> Callable[[], object]:
    """Returns a call that trains on so many images of lightly's loader.

    kind: as lightly's examples do, the same in bfloat16, or with the step of this package.
    """
    from lightly.loss import NTXentLoss
    from lightly.models.modules import SimCLRProjectionHead
    from lightly.transforms import SimCLRTransform

    source, transform = noise(IMAGES, case.channels, case.side), SimCLRTransform(input_size=case.size, normalize=None)
    dataset = Transformed(pictures(source.images), transform, images)  # pyright: ignore
    loader = DataLoader(dataset, case.batch, shuffle=True, num_workers=workers, persistent_workers=workers > 0)
    precision = torch.float32 if kind == AS_EXAMPLES else getattr(torch, fast_precision(device))
    if kind == LOADER:
        ours = training(case, device)
        net, optimizer = ours.net, ours.players[""].optimizer
    else:
        encoder = encoders.build(case.encoder, channels=case.channels, image_size=case.size)
        model = torch.nn.Sequential(encoder, SimCLRProjectionHead(encoder.width, 512, 128)).to(device).train()
        model = model.to(memory_format=memory_format(device)) if kind == FAST else model  # pyright: ignore
        criterion, optimizer = NTXentLoss(), torch.optim.SGD(model.parameters(), lr=0.06)

    def call() -> None:
        for first, second in loader:
            first, second = first.to(device), second.to(device)
            with autocast(device, precision):
                if kind == LOADER:
                    a, b = net.projector(net.encoder(torch.cat([first, second]))).chunk(2)
                else:
                    loss = criterion(model(first), model(second))
            if kind == LOADER:
                loss = nt_xent(a, b, 0.2)
            _update(optimizer, loss)

    return call


def _update(optimizer: torch.optim.Optimizer, loss: torch.Tensor) -> None:
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()


def turn(steps: Iterator[Any], count: int) -> Callable[[], object]:
    """Returns a call that takes so many steps."""
    return lambda: next(itertools.islice(steps, count - 1, None))


def lines(device: torch.device) -> Iterator[dict[str, Any]]:
    for case in CASES[device.type]:
        figures = measured(case, device)
        whole = turn(followed(training(case, device)), case.steps)
        yield figures | {"beside": {} if imported("lightly") is None else beside(case, whole, device, (0, WORKERS))}


def measured(
    case: Case, device: torch.device, turns: int = TURNS, at_least: float = 0.3, compiled: bool = False
) -> dict[str, Any]:
    """Returns the speed of the whole and the bare step, the share of views, and the operations of an image."""
    images, whole = case.batch * case.steps, training(case, device, compiled)
    multiplied, products = product(device, whole.precision)
    calls = {"whole": turn(followed(whole), case.steps), "bare": turn(bare(case, device, compiled), case.steps)}
    with reproducible(device):
        taken = interleaved(calls | {"product": multiplied}, device, turns, at_least)
        with torch.compiler.set_stance("force_eager"):  # operations in compiled code are not counted
            needed = operations(calls["bare"])
        share = views_share(calls["whole"], device)
    times = list(zip(taken["whole"], taken["bare"], taken["product"], strict=True))
    return {
        "case": str(case),
        "images_per_second": {side: images / median(taken[side]) for side in calls},
        "ratio_quartiles": quartiles([limit / ours for ours, limit, _ in times]),
        "views_share": share,
        "operations": needed / images,
        "utilization": median(needed / ours / (products / once) for ours, _, once in times),
    }


def views_share(whole: Callable[[], object], device: torch.device) -> float:
    """Returns the share of the time of whole steps that their views take."""
    with timing(Stopwatch(device)) as watch:
        for _ in range(3):
            whole()
        finish(device)
        spent = watch.lap()
    return spent.get("views", 0) / sum(spent.values())


def beside(
    case: Case,
    whole: Callable[[], object],
    device: torch.device,
    workers: Sequence[int],
    at_least: float = 8.0,
) -> dict[str, float]:
    """Returns images a second of this package's step and of lightly's, measured by turns."""
    kinds = (AS_EXAMPLES, FAST, LOADER) if fast_precision(device) == "bfloat16" else (AS_EXAMPLES, LOADER)
    calls, fed, within = {"whole": whole}, {"whole": case.batch * case.steps}, {"whole": partial(reproducible, device)}
    for kind, count in itertools.product(kinds, workers):
        name, images = f"{kind}, {count} workers", case.batch * (case.epoch if count else case.steps)
        calls[name], fed[name] = lightly_epoch(case, device, kind, count, images), images
        if kind == LOADER:
            within[name] = within["whole"]
    taken = interleaved(calls, device, TURNS_BESIDE, at_least, contexts=within)
    return {side: fed[side] / median(times) for side, times in taken.items()}


def section(results: list[dict[str, Any]]) -> str:
    cells = []
    for line in results:
        low, middle, high = line["ratio_quartiles"]
        both = [f"{line['images_per_second'][side]:,.0f}" for side in ("whole", "bare")]
        shares = [f"{100 * line['views_share']:.1f} %", f"{100 * line['utilization']:.0f} %"]
        cells.append([line["case"], *both, f"{middle:.3f} ({low:.3f} to {high:.3f})", *shares])
    head = ["images a second", "whole", "bare", "whole / bare", "views", "utilization"]
    text = (
        f"## The whole step\n\n{prose(__doc__)} Medians of {TURNS} turns, with quartiles of the ratio, are shown.\n\n"
    )
    text += f"{table(head, cells)}\n"
    beside = {line["case"]: line["beside"] for line in results if line["beside"]}
    if not beside:
        return text
    columns = list(dict.fromkeys(side for speeds in beside.values() for side in speeds))
    kinds = list(dict.fromkeys(side.rpartition(",")[0] for side in columns if side != "whole"))
    cells = []
    for case, speeds in beside.items():
        best = [max((speeds[x] for x in speeds if x.rpartition(",")[0] == kind), default=None) for kind in kinds]
        times = [f"{speeds['whole'] / speed:.1f}" if speed else "" for speed in best]
        cells.append([case, *(f"{speeds[side]:,.0f}" if side in speeds else "" for side in columns), *times])
    head = ["images a second", *columns, *(f"times {kind}" for kind in kinds)]
    return f"{text}\n{BESIDE}\n{table(head, cells)}\n"


BESIDE = f"""lightly runs as its examples do, in float32, with transforms of PIL images in no or in several worker
processes, with its loss and SGD, around the same encoder. `lightly, bfloat16` is the same in bfloat16 and
channels-last, which its users must set. `its loader` feeds the networks, loss and optimizer of this package, in place
of its data and views. All take {TURNS_BESIDE} turns; the last columns are the step of this package over the faster one
of each kind. Training here lets the allocator keep freed memory, also in the step that lightly's loader feeds; lightly
leaves that to its users.
"""


if __name__ == "__main__":
    for line in lines(CPU):
        print(json.dumps(line), flush=True)
