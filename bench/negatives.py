"""Compares the losses of NPID and PIRL on a large bank: python -m bench.negatives

Trains both methods on the 60,000 images of Fashion-MNIST with 4,096 negatives that are drawn from the bank, and with
all of the bank. For each loss, it measures what the bank and the encoder have become. Writes one line per finished run
to bench/results/negatives.jsonl, which a later call skips, and renders docs/negatives.md. It runs on the CPU, and all
eight runs take about 36 minutes of one core.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import replace
from math import log
from pathlib import Path
from time import process_time
from typing import Any

import torch
from torch.nn.functional import normalize

from bench.learns import ONE_DRAW, accuracies
from bench.markdown import table
from bench.running import prepared
from sanslabel import methods
from sanslabel.batch import Batch, Clock
from sanslabel.diagnostics import mean_cosine
from sanslabel.engine import optimize
from sanslabel.evaluation import represent, scores_of_features
from sanslabel.evaluation.features import Division, Features
from sanslabel.methods.method import Method, Networks
from sanslabel.sources import Request, Source, open_source

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "bench" / "results" / "negatives.jsonl"
HEAD = ROOT / "bench" / "negatives.head.md"
CPU = torch.device("cpu")
SAMPLES, EPOCHS, BATCH, SEED = 60_000, 4, 256, 0
DRAWN = 4096
LOSSES: dict[str, dict[str, Any]] = {
    "softmax over the bank": {"negatives": None},
    "softmax over 1 + 4,096": {"negatives": DRAWN},
    "NCE, Z of the random bank": {"negatives": DRAWN, "nce": True},
    "NCE, Z of the filled bank": {"negatives": DRAWN, "nce": True},
}
"""the hyperparameters of each loss; the last fills the bank for an epoch before it takes Z, as this package once did"""
FILLED = "NCE, Z of the filled bank"
PROBED, RECALLED = 10_000, 2_000
"""training images that probes are fitted on, and that look for themselves in the bank"""


def trained(name: str, loss: str, source: Source, epochs: int) -> tuple[Method, Networks]:
    """Returns a method under its small recipe, but at the paper's τ, and its networks after training."""
    chosen = methods.method_class(name)
    method = replace(chosen.under(chosen.small), temperature=chosen().temperature, **LOSSES[loss])
    if name == "npid":
        method = replace(method, shared=False)
    recipe = replace(chosen.small, epochs=epochs)
    training = prepared(
        method, recipe, source, "conv", size=28, batch=BATCH, device=CPU, seed=SEED, epochs=epochs, workers=0
    )
    method, net, players, stream, precision = training
    phases = [(method, stream)]
    if loss == FILLED:
        first = [next(stream) for _ in range(len(source) // BATCH)]
        phases = [(replace(method, nce=False), first), (method, filled(method, net, stream))]
    for phase, batches in phases:
        for _ in optimize(phase, net, players, batches, precision):
            pass
    return method, net


def filled(method: Any, net: Networks, stream: Iterator[tuple[Clock, Batch]]) -> Iterator[tuple[Clock, Batch]]:
    """Yields the batches, after Z was set to that of the bank: n times the mean of exp(m·m'/τ) over pairs."""
    bank = net.bank.embeddings
    first, second = bank.chunk(2)
    net.partition.copy_(len(bank) * (first[:256] @ second[:4096].T / method.temperature).exp().mean())
    yield from stream


def result(name: str, loss: str, source: Source, test: Source, epochs: int) -> dict[str, Any]:
    """Trains and measures once. Returns a line."""
    began = process_time()
    _, net = trained(name, loss, source, epochs)
    core_seconds = process_time() - began
    net.eval()
    bank = net.bank.embeddings
    return {
        "method": name,
        "loss": loss,
        "samples": len(source),
        "epochs": epochs,
        "seed": SEED,
        "core_seconds": round(core_seconds),
        "log_z": round(log(net.partition.item() / len(bank)), 2) if LOSSES[loss].get("nce") else None,
        "recall": round(100 * recall(net, source), 2),
        "mean_cosine": round(mean_cosine(bank).item(), 3),
        **probes(net.encoder, source, test),
    }


@torch.no_grad()
def recall(net: Networks, source: Source) -> float:
    """Returns the share of images whose own embedding in the bank is the nearest of all, by the plain image."""
    index = torch.arange(0, len(source), max(1, len(source) // RECALLED))
    images = source.load(Request(index)).images.pixels
    z = normalize(net.projector(net.encoder(images.float() / 255)), dim=1)
    return float(((z @ net.bank.embeddings.T).argmax(dim=1) == index).double().mean())


def probes(encoder: torch.nn.Module, source: Source, test: Source) -> dict[str, float]:
    """Returns the accuracies in % of kNN and of a linear probe on the test images."""
    labeled = source.subset(torch.arange(0, len(source), max(1, len(source) // PROBED)))
    (train, index), (tested, _) = (
        represent({"student": encoder}, images, reads=source.image, device=CPU) for images in (labeled, test)
    )
    division = Division(labeled.labels[index], test.labels, len(source.classes), "test split")
    features = {"student": Features(train["student"], tested["student"])}
    return accuracies(scores_of_features(features, division, protocols=ONE_DRAW, seed=SEED))["student"]


def missing(done: list[dict[str, Any]], samples: int, epochs: int) -> Iterator[tuple[str, str]]:
    """Yields the method and the loss of each run that has no line yet."""
    for loss in LOSSES:
        for name in ("npid", "pirl"):
            run = {"method": name, "loss": loss, "samples": samples, "epochs": epochs, "seed": SEED}
            if not any(run.items() <= line.items() for line in done):
                yield name, loss


def rendered(results: list[dict[str, Any]]) -> str:
    """Returns the text of docs/negatives.md."""
    columns = {
        "method": "{method}",
        "loss": "{loss}",
        "ln Z/n": "{log_z}",
        "recall": "{recall:.1f}",
        "mean cosine": "{mean_cosine:.2f}",
        "kNN": "{knn:.1f}",
        "linear": "{linear:.1f}",
        "core seconds": "{core_seconds}",
    }
    lines = [r for r in results if (r["samples"], r["epochs"]) == (SAMPLES, EPOCHS)]
    lines.sort(key=lambda r: (r["method"], list(LOSSES).index(r["loss"])))
    cells = [[form.format(**{**r, "log_z": r["log_z"] or ""}) for form in columns.values()] for r in lines]
    return HEAD.read_text() + "\n" + (table(list(columns), cells) if lines else "No run has finished yet.") + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=SAMPLES, help="training images; only a try has fewer")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="the first of which fills the bank")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--render", action="store_true", help="only write docs/negatives.md")
    flags = parser.parse_args()
    done = [json.loads(line) for line in flags.results.read_text().splitlines()] if flags.results.exists() else []
    if not flags.render:
        source, test = open_source("fashion-mnist", "train"), open_source("fashion-mnist", "test")
        source = source.subset(torch.arange(min(flags.samples, len(source))))
        for name, loss in missing(done, flags.samples, flags.epochs):
            done.append(result(name, loss, source, test, flags.epochs))
            with flags.results.open("a") as file:
                file.write(json.dumps(done[-1]) + "\n")
            print(json.dumps(done[-1]), flush=True)
    if flags.results == RESULTS:
        (ROOT / "docs" / "negatives.md").write_text(rendered(done))


if __name__ == "__main__":
    main()
