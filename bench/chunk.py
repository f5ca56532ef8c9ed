"""What --chunk costs and saves: python -m bench.chunk

The gradient of one SimCLR step at a batch of 256, whole and in chunks of 32, with an encoder without BatchNorm: how far
the two are apart, and how much memory each needed above what the process held before the step. Each runs in a process
of its own, so that one's peak does not hide the other's.
"""

from __future__ import annotations

import multiprocessing
import resource
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors.torch import load_file, save_file

from sanslabel import encoders
from sanslabel.methods.simclr import SimCLR
from sanslabel.sources import batches, open_source
from sanslabel.training.parallel import chunk_

BATCH, CHUNK = 256, 32


def peak() -> float:
    """MiB that this process has held at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def step(chunk: int | None, encoder: str, gradients: Path, figures) -> None:
    torch.manual_seed(0)
    source = open_source("fashion", "train")
    method = SimCLR.under(SimCLR.small).sized(28)
    net = method.networks(encoders.build(encoder, channels=1, image_size=28), source.facts(28)).train()
    if chunk:
        chunk_(net, chunk)
    clock, batch = next(batches(source, BATCH, seed=0, epochs=1, device=torch.device("cpu")))
    before, start = peak(), time.perf_counter()
    next(method.step(net, batch, clock)).loss.backward()
    figures.put((peak() - before, time.perf_counter() - start))
    save_file({name: p.grad for name, p in net.named_parameters()}, gradients)


def main() -> None:
    context = multiprocessing.get_context("spawn")
    print(f"{'encoder':<12}{'chunk':>8}{'MiB above start':>18}{'seconds':>10}")
    for encoder in ("vit_micro", "vit_tiny"):
        with TemporaryDirectory() as folder:
            found = []
            for chunk in (None, CHUNK):
                figures, file = context.SimpleQueue(), Path(folder) / f"{chunk}.safetensors"
                process = context.Process(target=step, args=(chunk, encoder, file, figures))
                process.start()
                memory, seconds = figures.get()
                process.join()
                print(f"{encoder:<12}{chunk or 'whole':>8}{memory:>18,.0f}{seconds:>10.1f}", flush=True)
                found.append(load_file(file))
        whole, chunked = (torch.cat([g.flatten().double() for _, g in sorted(one.items())]) for one in found)
        print(f"{encoder:<12}gradients apart by {float((whole - chunked).norm() / whole.norm()):.1e} of their norm")


if __name__ == "__main__":
    main()
