"""What generative methods learn: python -m bench.generative [PART …]

On 10,000 images of Fashion-MNIST, at most five minutes of two cores a run, three seeds. The parts are

  latents       the VAE: nats of test images, and how its posterior means fall into classes over the epochs
  denoising     the DAE against median filters, and whether it refuses two images laid over each other
  adversaries   EBGAN and DCGAN: Fréchet distance, precision and recall before and after, energies of real and fake
  outliers      every energy as it comes, and less what an image's compression costs, against digits

Writes a line per finding to bench/results/generative.jsonl, where a later call finds what is done. It runs on the CPU.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from time import process_time
from typing import Any

import torch
from torch import Tensor

import sanslabel
from bench.learns import subset
from sanslabel import checkpoint, encoders, methods
from sanslabel.batch import Facts
from sanslabel.evaluation import pixels, represent, scores
from sanslabel.evaluation.protocols import Division, Features
from sanslabel.generation.energies import auroc, compressed_nats, scored, slope
from sanslabel.generation.quality import frechet_distance, nats, precision_recall
from sanslabel.generation.samples import drawn
from sanslabel.generation.trained import BATCH, Trained, trained
from sanslabel.methods.method import Method
from sanslabel.randomness import fold, permutation
from sanslabel.sources import Source, batches, open_source
from sanslabel.training.engine import optimize, players_of
from sanslabel.views import corrupted, resized

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "bench" / "results" / "generative.jsonl"
SEEDS = (0, 1, 2)
SAMPLES = 10_000
EPOCHS = {"autoencoder": 60, "dae": 60, "vae": 60, "ebgan": 20, "dcgan": 20, "simclr": 10}
CORRUPTIONS = {"gaussian": 0.5, "mask": 0.5, "dropout": 0.5}
WATCHED = (0, 1, 3, 10, 30, 60)
"""epochs at which posterior means are looked at"""
PAIRS = 200

Row = dict[str, Any]


@cache
def data() -> str:
    """The file with the training images and all test images, the same in every run."""
    return subset(Path(mkdtemp()), SAMPLES)


@cache
def source(split: str) -> Source:
    return open_source(data(), split)


def images(split: str, count: int, key: int = 7) -> Tensor:
    """(count, 1, 28, 28) in [0, 1], drawn from a split."""
    rows = permutation(key, len(source(split)))[:count]
    return source(split).load(rows.tolist()).images.float() / 255


def run_of(name: str, seed: int, **numbers: Any) -> tuple[Trained, int]:
    """A trained model, and the core seconds that it took; the same numbers are trained once."""
    chosen = methods.method_class(name)
    path, seconds = run_folder(replace(chosen.under(chosen.small), **numbers), seed, EPOCHS[name])
    return trained(path, "cpu"), seconds


@cache
def run_folder(method: Method, seed: int, epochs: int) -> tuple[Path, int]:
    began, out = process_time(), Path(mkdtemp()) / "run"
    sanslabel.train(data(), method=method, seed=seed, epochs=epochs, out=out, device="cpu")
    return out, round(process_time() - began)


def energies(model: Trained, of: Tensor) -> Tensor:
    return model.made(lambda part: model.method.energies(model.net, part), of)


def latents(seed: int) -> Iterator[Row]:
    train, test, where = source("train"), source("test"), torch.device("cpu")
    flat = [pixels(x.load(list(range(len(x)))).images.float() / 255) for x in (train, test)]
    yield {"representation": "pixels", **segregation(*flat, seed)}
    torch.manual_seed(seed)
    _, _, axes = torch.pca_lowrank(flat[0], q=20, niter=6)
    yield {
        "representation": "20 principal components",
        **segregation(*((x - flat[0].mean(0)) @ axes for x in flat), seed),
    }

    chosen = methods.method_class("vae")
    method, recipe = chosen.under(chosen.small).sized(28), chosen.small
    torch.manual_seed(fold(seed, 3))
    scaling = train.standardization()
    encoder = encoders.build(**encoders.named(recipe.encoder), channels=1, image_size=28, scaling=scaling)
    net = method.networks(encoder, train.facts(28)).train()
    stream = batches(train, recipe.batch, seed=seed, epochs=WATCHED[-1], device=where)
    began = process_time()

    def watched(epoch: int) -> Row:
        took, mean = process_time() - began, method.encoders(net)["mean"]
        on = [represent({"mean": mean}, x, image_size=28, device=where)[0]["mean"] for x in (train, test)]
        found = {"representation": "posterior mean", "epoch": epoch, "core_seconds": round(took)}
        return found | segregation(*on, seed)

    yield watched(0)
    for record in optimize(method, net, players_of(net, recipe, recipe.batch), stream):
        epoch, rest = divmod(record.clock.step + 1, record.clock.steps_per_epoch)
        if rest == 0 and epoch in WATCHED:
            yield watched(epoch)
    said = {"image_size": 28, "encoder": encoder.config, "workers": 0}
    yield {"representation": "", "nats": nats(Trained(Path(), method, net.eval(), said, where), test, seed)}


def segregation(on_train: Tensor, on_test: Tensor, seed: int) -> Row:
    """How test images fall into classes: accuracies, purity of k-means and the silhouette of the classes."""
    from sklearn.cluster import KMeans
    from sklearn.metrics import silhouette_score

    train, test, classes = source("train").labels, source("test").labels, len(source("train").classes)
    division = Division(train, test, classes, "test split")
    found = scores({"": Features(on_train, on_test)}, division, draws=1, seed=seed)
    clusters = torch.from_numpy(KMeans(classes, n_init=5, random_state=seed).fit_predict(on_test.numpy())).long()
    table = torch.bincount(clusters * classes + test, minlength=classes**2).view(classes, classes)
    return {
        **{score.protocol: round(score.value, 2) for score in found if score.labels_per_class is None},
        "purity": round(100 * table.max(dim=1).values.sum().item() / len(test), 2),
        "silhouette": round(float(silhouette_score(on_test[:3000].numpy(), test[:3000].numpy())), 4),
    }


def denoising(seed: int) -> Iterator[Row]:
    from scipy.ndimage import median_filter

    clean = 2 * images("test", 2000) - 1
    key = fold(torch.arange(len(clean)), 5)
    first, second = images("test", 2 * PAIRS, key=8).chunk(2)
    for kind, amount in CORRUPTIONS.items():
        model, seconds = run_of("dae", seed, corruption=kind, amount=amount)
        noisy = corrupted(clean, key, kind, amount, 1)
        with model.computing():
            made = model.method.reconstructed(model.net, (clean + 1) / 2, key)["reconstruction"].float()
        filtered = [torch.from_numpy(median_filter(noisy.numpy(), (1, 1, size, size))) for size in (3, 5, 7)]
        one, two, both = (energies(model, x) for x in (first, second, torch.maximum(first, second)))
        yield {
            "corruption": kind,
            "core_seconds": seconds,
            "noisy": error(noisy, clean),
            "denoised": error(2 * made - 1, clean),
            "median filter": min(error(x, clean) for x in filtered),
            "above the mean": (both > (one + two) / 2).float().mean().item(),
            "above both": (both > torch.maximum(one, two)).float().mean().item(),
        }


def error(a: Tensor, b: Tensor) -> float:
    return (a - b).square().mean().item()


def adversaries(seed: int) -> Iterator[Row]:
    eye, count = methods.method_class("simclr"), 5000
    encoder = checkpoint.load_encoder(run_folder(eye.under(eye.small), 0, EPOCHS["simclr"])[0])

    @torch.no_grad()
    def seen(pictures: Tensor) -> Tensor:
        return torch.cat([encoder(part) for part in pictures.split(BATCH)])

    real, other = (seen(images(split, count)) for split in ("test", "train"))
    for name in ("ebgan", "dcgan"):
        model, seconds = run_of(name, seed)
        row: Row = {"method": name, "core_seconds": seconds, "floor": frechet_distance(other, real)}
        for when, of in {"before": untrained(model, seed), "after": model}.items():
            fake = drawn(of, count, seed)
            features = seen(fake)
            precision, recall = precision_recall(real, features)
            distance = frechet_distance(features, real)
            row[when] = {"distance": distance, "precision": precision, "recall": recall}
        found = {"real": energies(model, images("test", count)), "fake": energies(model, fake)}
        low, high = min(x.min().item() for x in found.values()), max(x.max().item() for x in found.values())
        yield row | {
            "energies": {name: torch.histc(x, 60, low, high).tolist() for name, x in found.items()},
            "range": [low, high],
            "margin": getattr(model.method, "margin", None),
        }


def untrained(model: Trained, seed: int) -> Trained:
    """The same networks as they start, with BatchNorm's statistics taken from a batch."""
    torch.manual_seed(fold(seed, 3))
    encoder = encoders.build(**model.said["encoder"])
    net = model.method.networks(encoder, Facts(SAMPLES, 1, 28, 28, 0)).train()
    fresh = replace(model, net=net)
    for _ in range(20):
        drawn(fresh, 256, seed)
    return replace(fresh, net=net.eval())


def outliers(seed: int) -> Iterator[Row]:
    foreign = open_source("digits", "all", image_size=28, channels=1)
    for name in ("autoencoder", "dae", "vae", "ebgan", "dcgan"):
        model, _ = run_of(name, seed)
        corrected = slope(model)
        found = {
            key: auroc(*(scored(model, x, s)[0] for x in (source("test"), foreign)))
            for key, s in (("plain", None), ("less complexity", corrected))
        }
        yield {"method": name, "slope": corrected} | found
    digits = resized(foreign.load(list(range(len(foreign)))).images, 28)
    yield {"method": "size alone", "plain": auroc(compressed_nats(images("test", 2000)), compressed_nats(digits))}


PARTS = {"latents": latents, "denoising": denoising, "adversaries": adversaries, "outliers": outliers}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=list(PARTS), metavar="PART")
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    flags = parser.parse_args()
    done = [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []
    for seed in flags.seeds:
        for part in flags.parts:
            if any((row["part"], row["seed"]) == (part, seed) for row in done):
                continue
            found = [{"part": part, "seed": seed, **row} for row in PARTS[part](seed)]
            with RESULTS.open("a") as file:
                file.writelines(json.dumps(row) + "\n" for row in found)
            done += found


if __name__ == "__main__":
    main()
