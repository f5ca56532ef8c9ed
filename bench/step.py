"""The whole training step beside the bare network, and beside lightly: python -m bench.step

SimCLR, two views. The bare network is forward, backward and update of the same encoder and projector on ready-made
views, and nothing else: the limit. `whole` is all that `sanslabel train` does for a step, data, views, loss, checks and
figures; views is their share of its time. lightly runs as its examples do: float32, transforms of PIL images in no or
several worker processes, its loss, and SGD, around the same encoder; `its loader` feeds the bare step in bfloat16
instead. Images are noise, in memory. Utilization is the operations of the bare network's products and convolutions,
over those that the device does in the time of the whole step where it multiplies large matrices of the same precision.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable, Iterator
from functools import partial
from statistics import median
from typing import Any, NamedTuple

import torch
from torch.utils.data import DataLoader

from bench.arithmetic import matrix_rate, operations
from bench.markdown import prose, table
from bench.peers import imported
from bench.running import Training, as_trained, followed, noise, prepared
from bench.turns import CPU, finish, quartiles, turns
from bench.views import Transformed, pictures
from sanslabel import encoders
from sanslabel.hardware import computing
from sanslabel.losses import nt_xent
from sanslabel.methods.simclr import SimCLR
from sanslabel.stopwatch import Stopwatch, held
from sanslabel.training.conditions import conditions


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
    loader: bool = False
    """whether lightly's loader feeds the bare step, too"""

    def __str__(self) -> str:
        color = "gray" if self.channels == 1 else "color"
        return f"{self.encoder}, {self.size}x{self.size} {color}, batch {self.batch}"


CASES = {
    "cpu": [
        Case("conv", 1, 28, 28, 256, steps=12, loader=True),
        Case("conv", 3, 32, 32, 256, steps=8),
        Case("resnet18", 3, 32, 32, 128, steps=2),
    ],
    "cuda": [
        Case("resnet18", 3, 32, 32, 512, steps=8),
        Case("resnet50", 3, 256, 224, 256, steps=4),
        Case("vit_small", 3, 256, 224, 256, steps=4),
    ],
}
IMAGES = 4096
WORKERS = os.cpu_count() or 1
"""processes of lightly's loader, where it has any"""


def training(case: Case, device: torch.device) -> Training:
    source, method = noise(IMAGES, case.channels, case.side), SimCLR.under(SimCLR.small)
    return prepared(method, SimCLR.small, source, case.encoder, size=case.size, batch=case.batch, device=device)


def bare(case: Case, device: torch.device) -> Iterator[None]:
    whole = training(case, device)
    views = torch.rand(2 * case.batch, case.channels, case.size, case.size, device=device).to(whole.precision)
    while True:
        with computing(device, whole.precision):
            loss = whole.net.projector(whole.net.encoder(views)).float().square().mean()
        _update(whole.players[""].optimizer, loss)
        yield


def lightly_epoch(case: Case, device: torch.device, workers: int, as_is: bool) -> Callable[[], object]:
    """An epoch of `case.steps` batches from lightly's loader: as its examples train, or into the step that is ours."""
    from lightly.loss import NTXentLoss
    from lightly.models.modules import SimCLRProjectionHead
    from lightly.transforms import SimCLRTransform

    images = noise(IMAGES, case.channels, case.side).images[: case.batch * case.steps]  # pyright: ignore
    transform = SimCLRTransform(input_size=case.size, normalize=None)
    dataset = Transformed(pictures(images), transform, case.batch * case.steps)
    loader = DataLoader(dataset, case.batch, shuffle=True, num_workers=workers, persistent_workers=workers > 0)
    if as_is:
        encoder = encoders.build(case.encoder, channels=case.channels, image_size=case.size)
        model = torch.nn.Sequential(encoder, SimCLRProjectionHead(encoder.width, 512, 128)).to(device).train()
        criterion, optimizer = NTXentLoss(), torch.optim.SGD(model.parameters(), lr=0.06)
    else:
        ours = training(case, device)
        net, optimizer, precision = ours.net, ours.players[""].optimizer, ours.precision

    def call() -> None:
        for first, second in loader:
            first, second = first.to(device), second.to(device)
            if as_is:
                loss = criterion(model(first), model(second))
            else:
                with computing(device, precision):
                    a, b = net.projector(net.encoder(torch.cat([first, second]))).chunk(2)
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
        sides = {"whole": _turn(followed(whole), case.steps), "bare": _turn(bare(case, device), case.steps)}
        with conditions(device):
            taken = turns(sides, device, rounds=15)
            rate = operations(sides["bare"]) / median(taken["whole"])
            with held(Stopwatch(device)) as watch:
                sides["whole"]()
                finish(device)
                spent = watch.lap()
        ratios = [limit / ours for ours, limit in zip(taken["whole"], taken["bare"], strict=True)]
        yield {
            "case": str(case),
            "images_per_second": {side: images / median(times) for side, times in taken.items()},
            "ratio_quartiles": quartiles(ratios),
            "views_share": spent.get("views", 0) / sum(spent.values()),
            "utilization": rate / matrix_rate(device, whole.precision),
            "beside": {side: images / median(times) for side, times in _beside(case, sides["whole"], device).items()},
        }


def _beside(case: Case, whole: Callable[[], object], device: torch.device) -> dict[str, list[float]]:
    """Seconds of the whole step, under the conditions of training, and of lightly's without, turn by turn."""
    if imported("lightly") is None:
        return {}
    made, counts = partial(lightly_epoch, case, device), (0, WORKERS)
    sides = {f"lightly, {count} workers": made(count, True) for count in counts}
    if case.loader:
        sides |= {f"its loader, {count} workers": made(count, False) for count in counts}
    return turns({"whole": as_trained(whole, device), **sides}, device, rounds=3, at_least=8.0)


def section(found: list[dict[str, Any]]) -> str:
    peers = list(dict.fromkeys(side for line in found for side in line["beside"] if side != "whole"))
    rows, ratios = [], []
    for line in found:
        low, middle, high = line["ratio_quartiles"]
        both = [f"{line['images_per_second'][side]:,.0f}" for side in ("whole", "bare")]
        ratio = f"{middle:.3f} ({low:.3f} to {high:.3f})"
        shares = [f"{100 * line[share]:.1f} %" for share in ("views_share", "utilization")]
        rows.append([line["case"], *both, ratio, *shares])
        beside = line["beside"]
        speeds = [f"{beside[x]:,.0f}" if x in beside else "" for x in ("whole", *peers)]
        best = [
            max((beside[x] for x in peers if x.startswith(kind) and x in beside), default=0)
            for kind in ("lightly", "its")
        ]
        ratios.append([line["case"], *speeds, *(f"{beside['whole'] / b:.1f}" if b else "" for b in best)])
    text = f"""## The whole step

{prose(__doc__)} Medians of 15 turns of whole and bare, their ratio turn by turn with its quartiles, and then medians of
three turns beside lightly.

{table(["images a second", "whole", "bare", "whole / bare", "views", "utilization"], rows)}
"""
    if not peers:
        return text
    head = ["images a second", "whole", *peers, "times lightly", "times its loader before the same step"]
    return f"{text}\n{table(head, ratios)}\n"


if __name__ == "__main__":
    for line in lines(CPU):
        print(json.dumps(line), flush=True)
