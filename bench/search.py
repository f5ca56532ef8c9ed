"""How long, and in how much memory, a million features are searched: python -m bench.search

The kNN vote of 1,000 queries among 1,000,000 rows of 512 numbers, which are 1.9 GiB themselves.
"""

from __future__ import annotations

from time import perf_counter

import torch

from sanslabel.evaluation.knn import predictions
from sanslabel.memory_limits import peak_memory

ROWS, WIDTH, QUERIES, CLASSES = 1_000_000, 512, 1_000, 1_000


def main() -> None:
    generator = torch.Generator().manual_seed(0)
    bank = torch.empty(ROWS, WIDTH)
    for part in bank.split(10_000):
        part.normal_(generator=generator)
    labels = torch.arange(ROWS) % CLASSES
    queries = bank[:: ROWS // QUERIES] + 0.1 * torch.randn(QUERIES, WIDTH, generator=generator)
    before, began = peak_memory(), perf_counter()
    found = predictions(bank, labels, queries, classes=CLASSES, k=1)
    took, threads = perf_counter() - began, torch.get_num_threads()
    right = (found == labels[:: ROWS // QUERIES]).float().mean().item()
    print(f"{QUERIES:,} queries among {ROWS:,} x {WIDTH}: {took:.1f} s on {threads} threads")
    print(f"memory beside the features: {(peak_memory() - before) / 2**20:,.0f} MiB; nearest row: {100 * right:.1f} %")


if __name__ == "__main__":
    main()
