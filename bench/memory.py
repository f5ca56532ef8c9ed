"""What --chunk and --recompute save and cost: python -m bench.memory

One SimCLR step, forward and backward, in float32 and with encoders without BatchNorm: peak memory above what the
process held before it, seconds of the same step once more, and how far the gradient is from that of the whole batch, in
parts of its norm. Each runs in a process of its own, so that one's peak does not hide another's, after a step of two
images that is not counted. As in training, the allocator keeps freed memory for the whole batch alone, and hands it
back where memory is to be saved.
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
    Case("vit_micro", 1, 28, 4096, 128, ("chunks",)),  # whole would take 20 GiB
    Case("vit_small", 3, 224, 16, 4),
]


def step(case: Case, way: str, gradients: Path, device: torch.device) -> tuple[int, float]:
    """Bytes and seconds; the gradients go to a file."""
    torch.manual_seed(0)
    batch = noise(case.batch, case.channels, case.size, device)
    method = SimCLR.under(SimCLR.small).sized(case.size)
    encoder = encoders.build(case.encoder, channels=case.channels, image_size=case.size)
    net = method.networks(encoder, Facts(case.batch, case.channels, case.size, case.size, 0)).to(device).train()
    if way == "chunks":
        chunk_(net, case.chunk)
    if way == "recomputed":
        recompute_(net)

    def descend(images: int) -> None:
        net.zero_grad(set_to_none=True)
        some = batch._replace(**{name: part[:images] for name, part in batch._asdict().items() if part is not None})
        next(method.step(net, some, Clock(0, 0, 0, 1, 1))).loss.backward()
        finish(device)

    with reproducible(device, frugal=way != "whole"):
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
        whole = None
        for way in case.ways:
            with TemporaryDirectory() as folder:
                file = Path(folder) / "gradients.safetensors"
                found = alone(step, case, way, file, device)
                if found is None:
                    continue  # it did not fit
                gradient = torch.cat([g.flatten().double() for _, g in sorted(load_file(file).items())])
            whole = gradient if way == "whole" else whole
            about = {"encoder": case.encoder, "size": case.size, "batch": case.batch, "chunk": case.chunk, "way": way}
            yield {
                "case": f"{case.encoder}, batch {case.batch}, {way}",
                **about,
                "bytes": found[0],
                "seconds": round(found[1], 2),
                "off": None if whole is None else float((whole - gradient).norm() / whole.norm()),
            }


def section(found: list[dict[str, Any]]) -> str:
    names = {"whole": "whole batch", "chunks": "`--chunk {}`", "recomputed": "`--recompute`"}
    rows = [
        [
            f"`{line['encoder']}`, {line['size']}x{line['size']}, {line['batch']:,} images",
            names[line["way"]].format(line["chunk"]),
            f"{line['bytes'] / 2**30:.2f} GiB",
            f"{line['seconds']:.1f}",
            "" if line["off"] is None or line["way"] == "whole" else f"{line['off']:.1e}",
        ]
        for line in found
    ]
    return f"""## Memory

{prose(__doc__)}

{table(["", "", "peak memory", "seconds", "gradient off by"], rows)}
"""


PICTURE = "Peak memory of a step over the batch"


def draw(found: list[dict[str, Any]], file: Path) -> None:
    from matplotlib.figure import Figure

    found = [line for line in found if line["encoder"] == "vit_micro"]
    figure = Figure(figsize=(6, 3.4), layout="constrained")
    axes = figure.subplots()
    for way, label, color in (
        ("whole", "whole batch", "#c2410c"),
        ("recomputed", "--recompute", "#15803d"),
        ("chunks", "--chunk 128", "#1d4ed8"),
    ):
        chosen = [line for line in found if line["way"] == way]
        if not chosen:
            continue
        batches, gib = [x["batch"] for x in chosen], [x["bytes"] / 2**30 for x in chosen]
        axes.plot(batches, gib, "o-", color=color)
        axes.annotate(label, (batches[-1], gib[-1]), (-8, 8), textcoords="offset points", ha="right", color=color)
    axes.set_xscale("log", base=2)
    ticks = sorted({line["batch"] for line in found})
    axes.set_xticks(ticks, [f"{b:,}" for b in ticks])
    axes.set_ylim(bottom=0)
    axes.set_xlabel("images in a batch")
    axes.set_ylabel("peak memory of a step, GiB")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=150)


if __name__ == "__main__":
    for line in lines(CPU):
        print(json.dumps(line), flush=True)
