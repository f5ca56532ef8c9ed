"""The whole training step beside the bare network: python -m bench.step

The limit is forward, backward and update of the same networks on ready-made random views. Both sides take turns in one
process, a block of steps each, since clocks drift; the share is the median over pairs of neighboring blocks.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
import torch

from sanslabel import encoders, methods
from sanslabel.sources import batches, open_source
from sanslabel.training.engine import optimize, players_of
from sanslabel.training.journal import Metrics

CASES = {
    "conv, 28x28 grey": ("conv", 1, 28, 256, 8),
    "resnet18, 32x32 color": ("resnet18", 3, 32, 128, 2),
}
"""encoder, channels, size, batch, steps in a block"""


def session(name: str, encoder: str, channels: int, size: int, batch: int):
    """Method, networks, players and a stream of batches."""
    chosen = methods.method_class(name)
    method = chosen.under(chosen.small).sized(size)
    torch.manual_seed(0)
    images = torch.randint(0, 256, (1024, channels, size, size), dtype=torch.uint8)
    with TemporaryDirectory() as folder:
        np.save(Path(folder) / "noise.npy", images.numpy())
        source = open_source(Path(folder) / "noise.npy")
    scaling = ((0.5,) * channels, (0.25,) * channels)
    net = method.networks(
        encoders.build(encoder, channels=channels, image_size=size, scaling=scaling), source.facts(size)
    )
    net.to(memory_format=torch.channels_last).train()
    stream = batches(source, batch, seed=0, epochs=10**6, device=torch.device("cpu"))
    return method, net, players_of(net, chosen.small, batch), stream


def whole_steps(name: str, *case) -> Iterator[None]:
    """Everything that `sanslabel train` does between two steps, metrics every tenth step included."""
    method, net, sides, stream = session(name, *case)
    with TemporaryDirectory() as folder:
        metrics = Metrics(Path(folder) / "metrics.jsonl", 0)
        for record in optimize(method, net, sides, stream, torch.bfloat16):
            if record.clock.step % 10 == 9:
                metrics.add(record, {})
            yield


def bare_steps(name: str, encoder: str, channels: int, size: int, batch: int) -> Iterator[None]:
    """Forward, backward and update alone, of two views in one pass or in two as the method has it."""
    _, net, sides, _ = session(name, encoder, channels, size, batch)
    views = torch.rand(2, batch, channels, size, size).bfloat16()
    passes = [torch.cat(list(views))] if name == "simclr" else list(views)
    player = sides[""]
    while True:
        with torch.autocast("cpu", torch.bfloat16):
            loss = sum(net.projector(net.encoder(part)).float().square().mean() for part in passes)
        player.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        player.optimizer.step()
        yield


def seconds(steps: Iterator[None], count: int) -> float:
    start = time.perf_counter()
    for _ in range(count):
        next(steps)
    return time.perf_counter() - start


def compared(whole: Callable[[], Iterator[None]], bare: Callable[[], Iterator[None]], block: int, pairs: int):
    """Median seconds a step of both, and the median of bare over whole in neighboring blocks."""
    sides = whole(), bare()
    for side in sides:
        seconds(side, 2)
    times = []
    for pair in range(pairs):
        order = (0, 1) if pair % 2 else (1, 0)
        taken = {i: seconds(sides[i], block) / block for i in order}
        times.append((taken[0], taken[1]))
    return median(w for w, _ in times), median(b for _, b in times), median(b / w for w, b in times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--methods", nargs="+", default=["simclr", "vicreg"])
    flags = parser.parse_args()
    print(f"{'method':<10}{'case':<24}{'whole, images/s':>16}{'bare, images/s':>16}{'share':>8}", flush=True)
    for name in flags.methods:
        for case, (*facts, block) in CASES.items():
            whole, bare, share = compared(
                lambda n=name, f=facts: whole_steps(n, *f),
                lambda n=name, f=facts: bare_steps(n, *f),
                block,
                flags.pairs,
            )
            batch = facts[3]
            print(f"{name:<10}{case:<24}{batch / whole:>16,.0f}{batch / bare:>16,.0f}{share:>8.1%}", flush=True)


if __name__ == "__main__":
    main()
