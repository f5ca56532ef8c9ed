"""The time and memory of a search among a million features: python -m bench.search

It measures the kNN vote of 1,000 queries among 1,000,000 features of 512 numbers, which take 1.9 GiB themselves.
"""

from __future__ import annotations

from time import perf_counter

import torch

from sanslabel.evaluation.knn import predictions
from sanslabel.memory_limits import peak_memory

COUNT, WIDTH, QUERIES, CLASSES = 1_000_000, 512, 1_000, 1_000


def main() -> None:
    generator = torch.Generator().manual_seed(0)
    bank = torch.empty(COUNT, WIDTH)
    for block in bank.split(10_000):
        block.normal_(generator=generator)
    labels = torch.arange(COUNT) % CLASSES
    queries = bank[:: COUNT // QUERIES] + 0.1 * torch.randn(QUERIES, WIDTH, generator=generator)
    before, began = peak_memory(), perf_counter()
    predicted = predictions(bank, labels, queries, classes=CLASSES, k=1)
    seconds, threads = perf_counter() - began, torch.get_num_threads()
    correct = (predicted == labels[:: COUNT // QUERIES]).float().mean().item()
    print(f"{QUERIES:,} queries among {COUNT:,} x {WIDTH}: {seconds:.1f} s on {threads} threads")
    print(f"memory besides the features: {(peak_memory() - before) / 2**20:,.0f} MiB; found: {100 * correct:.1f} %")


if __name__ == "__main__":
    main()
