"""The whole training step beside the bare network, and beside lightly: python -m bench.step

SimCLR, two views. The bare network is forward, backward and update of the same encoder and projector on ready-made
views, and nothing else: the limit. `whole` is all that `sanslabel train` does for a step, data, views, loss, checks and
figures; views is their share of its time. Images are noise, in memory. Utilization is the operations of the bare
network's products and convolutions, over those that the device does in the time of the whole step where it multiplies
large matrices of the same precision.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
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
from sanslabel.training.determinism import reproducible


class Case(NamedTuple):
    encoder: str
    channels: int
    side: int
    """of an image"""
    size: int
    """of a view"""
    batch: int
    steps: int
    """in a turn"""
    epoch: int
    """batches of lightly's loader where processes begin anew with each"""

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


def training(case: Case, device: torch.device) -> Training:
    source, method = noise(IMAGES, case.channels, case.side), SimCLR.under(SimCLR.small)
    return prepared(method, SimCLR.small, source, case.encoder, size=case.size, batch=case.batch, device=device)


def bare(case: Case, device: torch.device) -> Iterator[None]:
    whole = training(case, device)
    views = torch.rand(2 * case.batch, case.channels, case.size, case.size, device=device).to(whole.precision)
    while True:
        with autocast(device, whole.precision):
            loss = whole.net.projector(whole.net.encoder(views)).float().square().mean()
        _update(whole.players[""].optimizer, loss)
        yield


def lightly_epoch(case: Case, device: torch.device, kind: str, workers: int, images: int) -> Callable[[], object]:
    """So many images from lightly's loader: as its examples train, so in bfloat16, or into the step that is ours."""
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


def _turn(steps: Iterator[Any], count: int) -> Callable[[], object]:
    return lambda: next(itertools.islice(steps, count - 1, None))


def lines(device: torch.device) -> Iterator[dict[str, Any]]:
    for case in CASES[device.type]:
        images, whole = case.batch * case.steps, training(case, device)
        multiplied, products = product(device, whole.precision)
        sides = {"whole": _turn(followed(whole), case.steps), "bare": _turn(bare(case, device), case.steps)}
        with reproducible(device):
            taken = interleaved(sides | {"product": multiplied}, device, TURNS)
            needed = operations(sides["bare"])
            with timing(Stopwatch(device)) as watch:
                for _ in range(3):
                    sides["whole"]()
                finish(device)
                spent = watch.lap()
        times = list(zip(taken["whole"], taken["bare"], taken["product"], strict=True))
        yield {
            "case": str(case),
            "images_per_second": {side: images / median(taken[side]) for side in sides},
            "ratio_quartiles": quartiles([limit / ours for ours, limit, _ in times]),
            "views_share": spent.get("views", 0) / sum(spent.values()),
            "utilization": median(needed / ours / (products / once) for ours, _, once in times),
            "beside": _beside(case, sides["whole"], device),
        }


def _beside(case: Case, whole: Callable[[], object], device: torch.device) -> dict[str, float]:
    """Images a second of the whole step and of lightly's, in turns."""
    if imported("lightly") is None:
        return {}
    kinds = (AS_EXAMPLES, FAST, LOADER) if fast_precision(device) == "bfloat16" else (AS_EXAMPLES, LOADER)
    sides, fed, within = {"whole": whole}, {"whole": case.batch * case.steps}, {"whole": partial(reproducible, device)}
    for kind, workers in itertools.product(kinds, (0, WORKERS)):
        name, images = f"{kind}, {workers} workers", case.batch * (case.epoch if workers else case.steps)
        sides[name], fed[name] = lightly_epoch(case, device, kind, workers, images), images
        if kind == LOADER:
            within[name] = within["whole"]
    taken = interleaved(sides, device, TURNS_BESIDE, at_least=8.0, contexts=within)
    return {side: fed[side] / median(times) for side, times in taken.items()}


def section(found: list[dict[str, Any]]) -> str:
    rows = []
    for line in found:
        low, middle, high = line["ratio_quartiles"]
        both = [f"{line['images_per_second'][side]:,.0f}" for side in ("whole", "bare")]
        shares = [f"{100 * line['views_share']:.1f} %", f"{100 * line['utilization']:.0f} %"]
        rows.append([line["case"], *both, f"{middle:.3f} ({low:.3f} to {high:.3f})", *shares])
    head = ["images a second", "whole", "bare", "whole / bare", "views", "utilization"]
    text = f"## The whole step\n\n{prose(__doc__)} Medians of {TURNS} turns; of the ratio, its quartiles, too.\n\n"
    text += f"{table(head, rows)}\n"
    beside = {line["case"]: line["beside"] for line in found if line["beside"]}
    if not beside:
        return text
    sides = list(dict.fromkeys(side for speeds in beside.values() for side in speeds))
    kinds = list(dict.fromkeys(side.rpartition(",")[0] for side in sides if side != "whole"))
    rows = []
    for case, speeds in beside.items():
        best = [max((speeds[x] for x in speeds if x.rpartition(",")[0] == kind), default=None) for kind in kinds]
        times = [f"{speeds['whole'] / speed:.1f}" if speed else "" for speed in best]
        rows.append([case, *(f"{speeds[side]:,.0f}" if side in speeds else "" for side in sides), *times])
    head = ["images a second", *sides, *(f"times {kind}" for kind in kinds)]
    return f"{text}\n{BESIDE}\n{table(head, rows)}\n"


BESIDE = f"""lightly runs as its examples do, in float32, with transforms of PIL images in no or in several worker
processes, its loss and SGD, around the same encoder; then so in bfloat16 and with channels-last, which are its user's
to set; and `its loader` feeds the networks, loss and optimizer that are ours, in place of our data and views. The whole
step again, {TURNS_BESIDE} turns of all; the last columns are the whole step over each kind's faster one. Training here
lets the allocator keep freed memory, and so does the step that lightly's loader feeds; lightly leaves that to its user.
"""


if __name__ == "__main__":
    for line in lines(CPU):
        print(json.dumps(line), flush=True)
