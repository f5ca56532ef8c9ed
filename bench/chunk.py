"""What --chunk costs and saves over the batch: python -m bench.chunk

One SimCLR step, forward and backward, with an encoder without BatchNorm: peak memory above what the process held before
it, seconds, and how far the gradient in chunks is from that of the whole batch. Each runs in a process of its own, so
that one's peak does not hide the other's. Lines are added to bench/results/chunk.jsonl, and those that are there are
not run again; docs/chunks.png is drawn of them.
"""

from __future__ import annotations

import json
import multiprocessing
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors.torch import load_file, save_file

from sanslabel import encoders
from sanslabel.hardware import peak_memory
from sanslabel.methods.simclr import SimCLR
from sanslabel.sources import batches, open_source
from sanslabel.training.parallel import chunk_

BATCHES, CHUNK, ENCODER = (256, 512, 1024, 2048, 4096), 128, "vit_micro"
WHOLE = 2048
"""up to which the whole batch is measured, too: twice as much would take 21 GiB"""
RESULTS, PICTURE = Path(__file__).parent / "results" / "chunk.jsonl", Path("docs") / "chunks.png"


def step(batch_size: int, chunk: int | None, gradients: Path, figures) -> None:
    torch.manual_seed(0)
    source = open_source("fashion", "train")
    method = SimCLR.under(SimCLR.small).sized(28)
    net = method.networks(encoders.build(ENCODER, channels=1, image_size=28), source.facts(28)).train()
    if chunk:
        chunk_(net, chunk)
    clock, batch = next(batches(source, batch_size, seed=0, epochs=1, device=torch.device("cpu")))
    before, start = peak_memory(), time.perf_counter()
    next(method.step(net, batch, clock)).loss.backward()
    figures.put((peak_memory() - before, time.perf_counter() - start))
    save_file({name: p.grad for name, p in net.named_parameters() if p.grad is not None}, gradients)


def measured(batch: int) -> list[dict]:
    """The lines of a batch size, whole and in chunks."""
    context = multiprocessing.get_context("spawn")
    lines, gradients = [], []
    with TemporaryDirectory() as folder:
        for chunk in (None, CHUNK) if batch <= WHOLE else (CHUNK,):
            figures, file = context.SimpleQueue(), Path(folder) / f"{chunk}.safetensors"
            process = context.Process(target=step, args=(batch, chunk, file, figures))
            process.start()
            memory, seconds = figures.get()
            process.join()
            lines.append({"batch": batch, "chunk": chunk, "bytes": memory, "seconds": round(seconds, 2)})
            gradients.append(torch.cat([g.flatten().double() for _, g in sorted(load_file(file).items())]))
    if batch <= WHOLE:
        whole, chunked = gradients
        lines[1]["apart"] = float((whole - chunked).norm() / whole.norm())
    return lines


def draw(lines: list[dict]) -> None:
    import matplotlib

    matplotlib.use("svg")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.4), layout="constrained")
    axes = figure.subplots()
    for chunk, label, color in ((None, "whole batch", "#c2410c"), (CHUNK, f"chunks of {CHUNK}", "#1d4ed8")):
        chosen = [line for line in lines if line["chunk"] == chunk]
        batches, gib = [x["batch"] for x in chosen], [x["bytes"] / 2**30 for x in chosen]
        axes.plot(batches, gib, "o-", color=color)
        axes.annotate(label, (batches[-1], gib[-1]), (-8, 8), textcoords="offset points", ha="right", color=color)
    axes.set_xscale("log", base=2)
    axes.set_xticks(BATCHES, [f"{b:,}" for b in BATCHES])
    axes.set_ylim(bottom=0)
    axes.set_xlabel("images in a batch")
    axes.set_ylabel("peak memory of a step, GiB")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(PICTURE, dpi=150)


def main() -> None:
    lines = [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []
    done = {line["batch"] for line in lines}
    for batch in (b for b in BATCHES if b not in done):
        lines += (fresh := measured(batch))
        with RESULTS.open("a") as file:
            file.writelines(json.dumps(line) + "\n" for line in fresh)
    print(f"{'batch':>8}{'chunk':>8}{'MiB':>10}{'seconds':>10}{'gradient apart':>17}")
    for line in lines:
        apart = f"{line['apart']:.1e}" if "apart" in line else ""
        print(
            f"{line['batch']:>8}{line['chunk'] or 'whole':>8}{line['bytes'] / 2**20:>10,.0f}{line['seconds']:>10.1f}"
            f"{apart:>17}"
        )
    draw(lines)


if __name__ == "__main__":
    main()
