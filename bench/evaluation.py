"""Evaluation beside the peers: python -m bench.evaluation

Neighbors: 1,000 queries among 60,000 features of 128 numbers in ten classes, k = 20 and temperature 0.07, here, by
lightly's `knn_predict` and by scikit-learn's brute force. Linear probe: 8,000 features of 256 numbers at one penalty,
here and by scikit-learn. Features: images a second of an encoder over a whole split, beside its bare forward pass on a
ready-made batch in the same precision.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from bench.interleaving import CPU, median_seconds
from bench.markdown import prose, table
from bench.peers import imported
from sanslabel import encoders
from sanslabel.device import autocast, fast_precision
from sanslabel.evaluation import represent
from sanslabel.evaluation.knn import predictions
from sanslabel.evaluation.linear import fitted
from sanslabel.sources import open_source

CLASSES, PENALTY = 10, 1e-2


def lines(device: torch.device) -> Iterator[dict[str, Any]]:
    """Yields the result of each case on a device."""
    yield neighbors(device)
    yield probe(device)
    yield features(device)


def clusters(count: int, width: int, spread: float, seed: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Returns points (count, width) around ten centers, which are the same for all seeds, and their classes."""
    centers = torch.randn(CLASSES, width, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(count) % CLASSES
    noise = torch.randn(count, width, generator=torch.Generator().manual_seed(seed))
    return (centers[labels] + spread * noise).to(device), labels.to(device)


def neighbors(device: torch.device) -> dict[str, Any]:
    """Returns the times and accuracies of the neighbors' vote, here and by peers that are installed."""
    bank, labels = clusters(60_000, 128, 5.0, 1, device)
    queries, truth = clusters(1_000, 128, 5.0, 2, device)
    contenders = {"here": lambda: predictions(bank, labels, queries, classes=CLASSES)}
    if imported("lightly") is not None and imported("pytorch_lightning") is not None:
        from lightly.utils.benchmarking.knn import knn_predict

        contenders["lightly"] = lambda: knn_predict(
            normalize(queries, dim=1), normalize(bank, dim=1).T, labels, CLASSES, knn_k=20, knn_t=0.07
        )[:, 0]
    if imported("sklearn") is not None and device.type == "cpu":
        from sklearn.neighbors import KNeighborsClassifier

        def weights(distances: np.ndarray) -> np.ndarray:
            return np.exp((1 - distances**2 / 2) / 0.07)  # the cosine of unit vectors

        peer = KNeighborsClassifier(20, weights=weights, algorithm="brute")
        peer.fit(normalize(bank, dim=1).numpy(), labels.numpy())
        contenders["scikit-learn"] = lambda: torch.from_numpy(peer.predict(normalize(queries, dim=1).numpy()))
    return _compared("neighbors", contenders, truth, device)


def probe(device: torch.device) -> dict[str, Any]:
    """Returns the times and accuracies of a linear probe, here and by scikit-learn if it is installed."""
    points, labels = clusters(8_000, 256, 4.0, 1, device)
    test, truth = clusters(2_000, 256, 4.0, 2, device)
    contenders = {"here": lambda: fitted(points, labels, classes=CLASSES, penalty=PENALTY).predictions(test)}
    if imported("sklearn") is not None and device.type == "cpu":
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        model = make_pipeline(StandardScaler(), LogisticRegression(C=1 / (len(points) * PENALTY), max_iter=1000))
        contenders["scikit-learn"] = lambda: torch.from_numpy(
            model.fit(points.numpy(), labels.numpy()).predict(test.numpy())
        )
    return _compared("linear probe", contenders, truth, device)


def _compared(
    case: str, contenders: dict[str, Callable[[], Tensor]], truth: Tensor, device: torch.device
) -> dict[str, Any]:
    """Returns the median time and the accuracy of each contender, which returns predicted classes."""
    accuracy = {name: (predict() == truth).double().mean().item() for name, predict in contenders.items()}
    return {"case": case, "seconds": median_seconds(contenders, device, rounds=5), "accuracy": accuracy}


def features(device: torch.device) -> dict[str, Any]:
    """Returns the images a second of `represent`, and of the encoder's bare forward pass."""
    source = open_source("fashion", "train")
    encoder = encoders.build("conv", channels=1, image_size=28).to(device=device, memory_format=torch.channels_last)
    dtype = getattr(torch, fast_precision(device))
    images, count = torch.rand(500, 1, 28, 28, device=device), len(source) // 500

    @torch.no_grad()
    def bare() -> None:
        with autocast(device, dtype):
            for _ in range(count):
                encoder(images).float().cpu()

    def full_split() -> None:
        represent({"encoder": encoder}, source, reads=source.image, device=device, dtype=dtype, batch=len(images))

    encoder.eval()
    times = median_seconds({"here": full_split, "bare forward": bare}, device)
    return {"case": "features", "images_per_second": {name: len(source) / t for name, t in times.items()}}


def section(results: list[dict[str, Any]]) -> str:
    """Returns the section of docs/performance.md for these results."""
    compared = [line for line in results if "accuracy" in line]
    names = list(dict.fromkeys(name for line in compared for name in line["seconds"]))
    table_rows = []
    for line in compared:
        times, accuracy = line["seconds"], line["accuracy"]
        cells = (f"{times[name]:.2f} s, {100 * accuracy[name]:.1f} %" if name in times else "" for name in names)
        table_rows.append([line["case"], *cells])
    text = f"## Evaluation\n\n{prose(__doc__)}\n\n{table(['seconds and accuracy', *names], table_rows)}\n"
    for speed in (line["images_per_second"] for line in results if line["case"] == "features"):
        beside = f"{speed['here'] / speed['bare forward']:.2f} of its bare forward pass"
        text += f"\nFeatures of `conv` on 28x28: {speed['here']:,.0f} images a second, {beside}.\n"
    return text


if __name__ == "__main__":
    for line in lines(CPU):
        print(json.dumps(line), flush=True)
