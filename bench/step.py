"""The whole training step beside the bare network, and beside lightly: python -m bench.step

SimCLR, two views. The bare network is forward, backward and update of the same encoder and projector on ready-made
views, and nothing else: the limit. `whole` is all that `sanslabel train` does for a step, data, views, loss, checks and
figures. lightly runs as its examples do: float32, transforms of PIL images in no or two worker processes, its loss, and
SGD, around the same encoder; `its loader` feeds the bare step in bfloat16 instead. Images are noise, in memory.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader

from bench.markdown import prose, table
from bench.peers import imported
from bench.turns import seconds
from bench.views import Transformed, pictures
from sanslabel import encoders
from sanslabel.hardware import fast_precision
from sanslabel.losses import nt_xent
from sanslabel.methods.method import Method, Networks
from sanslabel.methods.simclr import SimCLR
from sanslabel.sources import batches, open_source
from sanslabel.training.engine import Player, Record, optimize, players_of
from sanslabel.training.journal import Metrics
from sanslabel.training.session import LOG_EVERY
from sanslabel.training.watch import Watch


class Case(NamedTuple):
    encoder: str
    channels: int
    size: int
    batch: int
    steps: int
    """in a turn"""
    loader: bool
    """whether lightly's loader feeds the bare step, too"""


CASES = {
    "conv, 28x28 gray, batch 256": Case("conv", 1, 28, 256, 12, True),
    "conv, 32x32 color, batch 256": Case("conv", 3, 32, 256, 8, False),
    "resnet18, 32x32 color, batch 128": Case("resnet18", 3, 32, 128, 2, False),
}
IMAGES = 4096


def session(case: Case, device: torch.device):
    """Networks, players and a stream of batches, as a run has them."""
    torch.manual_seed(0)
    images = torch.randint(0, 256, (IMAGES, case.channels, case.size, case.size), dtype=torch.uint8)
    with TemporaryDirectory() as folder:
        np.save(Path(folder) / "noise.npy", images.numpy())
        source = open_source(Path(folder) / "noise.npy")
    method = SimCLR.under(SimCLR.small).sized(case.size)
    scaling = ((0.5,) * case.channels, (0.25,) * case.channels)
    encoder = encoders.build(case.encoder, channels=case.channels, image_size=case.size, scaling=scaling)
    net = method.networks(encoder, source.facts(case.size))
    net.to(device=device, memory_format=torch.channels_last).train()
    stream = batches(source, case.batch, seed=0, epochs=10**6, device=device)
    return method, net, players_of(net, SimCLR.small, case.batch), stream


def whole(case: Case, device: torch.device) -> Iterator[Record]:
    return followed(*session(case, device), getattr(torch, fast_precision(device)))


def followed(method: Method, net: Networks, players: Mapping[str, Player], stream, precision) -> Iterator[Record]:
    """Everything that `sanslabel train` does between two steps, figures every tenth step included."""
    watch = Watch(net, players)
    with TemporaryDirectory() as folder:
        metrics = Metrics(Path(folder) / "metrics.jsonl", 0)
        for record in optimize(method, net, players, stream, precision):
            if record.clock.step % LOG_EVERY == LOG_EVERY - 1:
                metrics.add(record, watch.figures())
            yield record


def bare(case: Case, device: torch.device) -> Iterator[None]:
    _, net, players, _ = session(case, device)
    views = torch.rand(2 * case.batch, case.channels, case.size, case.size, device=device)
    views = views.to(getattr(torch, fast_precision(device)))
    while True:
        with torch.autocast(device.type, torch.bfloat16, enabled=views.dtype == torch.bfloat16):
            loss = net.projector(net.encoder(views)).float().square().mean()
        _update(players[""].optimizer, loss)
        yield


def lightly_epoch(case: Case, workers: int, as_is: bool) -> Callable[[], object]:
    """An epoch of `case.steps` batches from lightly's loader: as its examples train, or into the step that is ours."""
    from lightly.loss import NTXentLoss
    from lightly.models.modules import SimCLRProjectionHead
    from lightly.transforms import SimCLRTransform

    images = torch.randint(0, 256, (IMAGES, case.channels, case.size, case.size), dtype=torch.uint8)
    transform = SimCLRTransform(input_size=case.size, normalize=None)
    dataset = Transformed(pictures(images), transform, case.batch * case.steps)
    loader = DataLoader(dataset, case.batch, shuffle=True, num_workers=workers, persistent_workers=workers > 0)
    _, net, players, _ = session(case, torch.device("cpu"))
    if as_is:
        encoder = encoders.build(case.encoder, channels=case.channels, image_size=case.size)
        model = torch.nn.Sequential(encoder, SimCLRProjectionHead(encoder.width, 512, 128)).train()
        criterion, optimizer = NTXentLoss(), torch.optim.SGD(model.parameters(), lr=0.06)

    def call() -> None:
        for first, second in loader:
            if as_is:
                _update(optimizer, criterion(model(first), model(second)))
            else:
                with torch.autocast("cpu", torch.bfloat16):
                    a, b = net.projector(net.encoder(torch.cat([first, second]))).chunk(2)
                _update(players[""].optimizer, nt_xent(a, b, 0.2))

    return call


def _update(optimizer: torch.optim.Optimizer, loss: torch.Tensor) -> None:
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    if loss.device.type == "cuda":
        torch.cuda.synchronize()


def _turn(steps: Iterator[None], count: int) -> Callable[[], object]:
    return lambda: next(itertools.islice(steps, count - 1, None))


def lines(device: torch.device) -> Iterator[dict[str, Any]]:
    for name, case in CASES.items():
        sides = {"whole": _turn(whole(case, device), case.steps), "bare": _turn(bare(case, device), case.steps)}
        limit = seconds(sides, rounds=15)
        if device.type == "cpu" and imported("lightly") is not None:
            peers = {f"lightly, {workers} workers": lightly_epoch(case, workers, True) for workers in (0, 2)}
            if case.loader:
                peers |= {f"its loader, {workers} workers": lightly_epoch(case, workers, False) for workers in (0, 2)}
            beside = seconds({"whole": sides["whole"]} | peers, rounds=3)
        else:
            beside = {}
        images = case.batch * case.steps
        yield {
            "case": name,
            "images_per_second": {side: images / t for side, t in limit.items()},
            "beside": {side: images / t for side, t in beside.items()},
        }


def section(found: list[dict[str, Any]]) -> str:
    peers = list(dict.fromkeys(side for line in found for side in line["beside"] if side != "whole"))
    rows, ratios = [], []
    for line in found:
        limit, beside = line["images_per_second"], line["beside"]
        rows.append(
            [line["case"], *(f"{limit[x]:,.0f}" for x in ("whole", "bare")), f"{limit['whole'] / limit['bare']:.3f}"]
        )
        speeds = [f"{beside[x]:,.0f}" if x in beside else "" for x in ("whole", *peers)]
        best = [
            max((beside[x] for x in peers if x.startswith(kind) and x in beside), default=0)
            for kind in ("lightly", "its")
        ]
        ratios.append([line["case"], *speeds, *(f"{beside['whole'] / b:.1f}" if b else "" for b in best)])
    text = f"""## The whole step

{prose(__doc__)} Medians of 15 turns of whole and bare, and then of three beside lightly.

{table(["images a second", "whole", "bare", "whole / bare"], rows)}
"""
    if not peers:
        return text
    head = ["images a second", "whole", *peers, "times lightly", "times its loader before the same step"]
    return f"{text}\n{table(head, ratios)}\n"


if __name__ == "__main__":
    for line in lines(torch.device("cpu")):
        print(json.dumps(line), flush=True)
