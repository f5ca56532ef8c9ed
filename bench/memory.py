"""Measures what --chunk and --recompute save and cost: python -m bench.memory

One SimCLR step, forward and backward, in float32, with encoders without BatchNorm. Shown are the peak of memory above
that before the step, the seconds of the same step repeated, and how far the gradient is from that of the undivided
batch, relative to its norm. Each case runs in a process of its own, so that no peak hides another, after a step of two
images that is not counted. As in training, the allocator keeps freed memory for the undivided batch, and returns it
where memory is saved.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file, save_file

from bench.alone import alone, peak
from bench.interleaving import CPU, finish
from bench.markdown import prose, table
from bench.views import noise
from sanslabel import encoders
from sanslabel.batch import Clock, Facts
from sanslabel.methods.simclr import SimCLR
from sanslabel.training.determinism import reproducible
from sanslabel.training.parallel import chunk_, recompute_


class Case(NamedTuple):
    encoder: str
    channels: int
    size: int
    batch: int
    chunk: int
    ways: tuple[str, ...] = ("whole", "chunks", "recomputed")


CASES = [
    *(Case("vit_micro", 1, 28, batch, 128) for batch in (256, 512, 1024, 2048)),
    Case("vit_micro", 1, 28, 4096, 128, ("chunks",)),  # undivided it would take 20 GiB
    Case("vit_small", 3, 224, 16, 4),
]


def step(case: Case, way: str, gradients: Path, device: torch.device) -> tuple[int, float]:
    """Returns the peak of memory in bytes, and seconds; writes the gradients to a file."""
    torch.manual_seed(0)
    batch = noise(case.batch, case.channels, case.size, device)
    method = SimCLR.under(SimCLR.small).sized(case.size)
    encoder = encoders.build(case.encoder, channels=case.channels, image_size=case.size)
    net = method.networks(encoder, Facts.of_images(case.batch, case.channels, case.size, case.size)).to(device).train()
    if way == "chunks":
        chunk_(net, case.chunk)
    if way == "recomputed":
        recompute_(net)

    def descend(images: int) -> None:
        net.zero_grad(set_to_none=True)
        first = batch.map(lambda tensor: tensor[:images])
        next(method.step(net, first, Clock(0, 0, 0, 1, 1))).loss.backward()
        finish(device)

    with reproducible(device, saves_memory=way != "whole"):
        descend(2)
        before = peak(device, fresh=True)
        descend(case.batch)
        most = peak(device) - before
        save_file({name: p.grad.cpu() for name, p in net.named_parameters() if p.grad is not None}, gradients)
        start = time.perf_counter()
        descend(case.batch)
        return most, time.perf_counter() - start


def lines(device: torch.device) -> Iterator[dict[str, Any]]:
    for case in CASES:
        undivided = None
        for way in case.ways:
            with TemporaryDirectory() as folder:
                file = Path(folder) / "gradients.safetensors"
                result = alone(step, case, way, file, device)
                if result is None:
                    continue  # it did not fit
                gradient = torch.cat([g.flatten().double() for _, g in sorted(load_file(file).items())])
            undivided = gradient if way == "whole" else undivided
            about = {"encoder": case.encoder, "size": case.size, "batch": case.batch, "chunk": case.chunk, "way": way}
            yield {
                "case": f"{case.encoder}, batch {case.batch}, {way}",
                **about,
                "bytes": result[0],
                "seconds": round(result[1], 2),
                "off": None if undivided is None else float((undivided - gradient).norm() / undivided.norm()),
            }


def section(results: list[dict[str, Any]]) -> str:
    names = {"whole": "whole batch", "chunks": "`--chunk {}`", "recomputed": "`--recompute`"}
    cells = [
        [
            f"`{line['encoder']}`, {line['size']}x{line['size']}, {line['batch']:,} images",
            names[line["way"]].format(line["chunk"]),
            f"{line['bytes'] / 2**30:.2f} GiB",
            f"{line['seconds']:.1f}",
            "" if line["off"] is None or line["way"] == "whole" else f"{line['off']:.1e}",
        ]
        for line in results
    ]
    return f"""## Memory

{prose(__doc__)}

{table(["", "", "peak memory", "seconds", "gradient off by"], cells)}
"""


PICTURE = "Peak memory of a step over the batch"


def draw(results: list[dict[str, Any]], file: Path) -> None:
    from matplotlib.figure import Figure

    results = [line for line in results if line["encoder"] == "vit_micro"]
    figure = Figure(figsize=(6, 3.4), layout="constrained")
    axes = figure.subplots()
    for way, label, color in (
        ("whole", "whole batch", "#c2410c"),
        ("recomputed", "--recompute", "#15803d"),
        ("chunks", "--chunk 128", "#1d4ed8"),
    ):
        chosen = [line for line in results if line["way"] == way]
        if not chosen:
            continue
        batches, gib = [x["batch"] for x in chosen], [x["bytes"] / 2**30 for x in chosen]
        axes.plot(batches, gib, "o-", color=color)
        axes.annotate(label, (batches[-1], gib[-1]), (-8, 8), textcoords="offset points", ha="right", color=color)
    axes.set_xscale("log", base=2)
    ticks = sorted({line["batch"] for line in results})
    axes.set_xticks(ticks, [f"{b:,}" for b in ticks])
    axes.set_ylim(bottom=0)
    axes.set_xlabel("images in a batch")
    axes.set_ylabel("peak memory of a step, GiB")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=150)


if __name__ == "__main__":
    for line in lines(CPU):
        print(json.dumps(line), flush=True)
