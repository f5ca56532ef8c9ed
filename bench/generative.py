"""Measures what generative methods learn: python -m bench.generative [PART …]

On 10,000 images of Fashion-MNIST, less than five minutes of two cores a run, three seeds. The parts are

  latents       the VAE: nats of test images, and how its posterior means fall into classes over the epochs
  denoising     the DAE against median filters, and whether it refuses two images laid over each other
  adversaries   EBGAN and DCGAN: Fréchet distance, precision and recall before and after, energies of real and fake
  outliers      every energy as it comes, and less what an image's compression costs, against digits

Writes a line per finding to bench/results/generative.jsonl, where a later call finds what is done, and renders
docs/generative.md with its plots. It runs on the CPU.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from time import process_time
from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

import sanslabel
from bench import learning_tasks
from bench.generative_page import ENERGIES, rendered
from bench.learns import subset
from sanslabel import encoders, methods
from sanslabel.device import fast_precision
from sanslabel.engine import optimize, players_of
from sanslabel.evaluation import pixels, scores_of_features
from sanslabel.evaluation.features import Division, Features
from sanslabel.evaluation.protocols.knn import KNN
from sanslabel.evaluation.protocols.linear import Linear
from sanslabel.generation.complexity import compressed_nats
from sanslabel.generation.distances import frechet_distance, precision_recall
from sanslabel.generation.energy_table import auroc, image_energies, slope
from sanslabel.generation.model import BATCH, Model
from sanslabel.generation.quality import density_bounds
from sanslabel.generation.samples import sampled_images
from sanslabel.methods.ebgan import EBGAN
from sanslabel.methods.method import Method
from sanslabel.randomness import fold, permutation
from sanslabel.run_config import Plan
from sanslabel.run_folder import RunFolder
from sanslabel.serialization import to_plain
from sanslabel.sources import Request, Source, batches, open_source
from sanslabel.views import Corruption, corrupted, resized

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "bench" / "results" / "generative.jsonl"
SEEDS = (0, 1, 2)
SAMPLES = 10_000
CPU = torch.device("cpu")
EPOCHS = {
    "autoencoder": (60,),
    "dae": (60,),
    "vae": (0, 1, 3, 10, 30, 60),
    "ebgan": (0, 1, 5, 20),
    "dcgan": (0, 20),
}
"""after which a model is looked at; the last is its length"""
CODE = 20
CODES = {
    "autoencoder": ("autoencoder", {"code": CODE}),
    "VAE, β = 0.1": ("vae", {"beta": 0.1}),
    "VAE": ("vae", {}),
    "VAE, β = 4": ("vae", {"beta": 4.0}),
}
CORRUPTIONS: tuple[tuple[Corruption, float], ...] = (
    ("gaussian", 0.5),
    ("mask", 0.5),
    ("dropout", 0.5),
    ("dropout", 0.1),
)
PAIRS = 200

Row = dict[str, Any]


@dataclass(frozen=True)
class Moment:
    """A model on its way."""

    epoch: int
    core_seconds: int
    model: Model


@cache
def data() -> str:
    """Returns the file with the training images and all test images, the same in every run."""
    return subset(Path(mkdtemp()), replace(learning_tasks.CPU, samples=SAMPLES))


@cache
def source(split: str) -> Source:
    return open_source(data(), split)


def images(split: str, count: int, key: int = 7) -> Tensor:
    """Returns images drawn from a split, (count, 1, 28, 28) in [0, 1]."""
    index = permutation(key, len(source(split)))[:count]
    return source(split).load(Request(index)).images.pixels.float() / 255


def moments(name: str, seed: int, **numbers: Any) -> list[Moment]:
    """Returns the models of a method's small recipe, with changed hyperparameters, after each of its `EPOCHS`."""
    chosen = methods.method_class(name)
    return _moments(replace(chosen.under(chosen.small).sized(28), **numbers), seed, EPOCHS[name])


@cache
def _moments(method: Method, seed: int, epochs: tuple[int, ...]) -> list[Moment]:
    """Trains as `sanslabel.train` does. Returns copies of the networks on the way; the same method is trained once."""
    recipe, train = type(method).small, source("train")
    kind = encoders.encoder_options(recipe.encoder)
    signed = encoders.encoder_class(str(kind["name"])).signed
    torch.manual_seed(fold(seed, 3))
    scaling = ((0.5,),) * 2 if signed else train.standardization()
    encoder = encoders.build(**kind, channels=1, image_size=28, scaling=scaling)
    net = method.networks(encoder, train.facts(28)).to(memory_format=torch.channels_last).train()  # pyright: ignore[reportCallIssue]
    plan = Plan(
        data=data(),
        fingerprint=train.fingerprint,
        samples=len(train),
        method=type(method).__name__,
        hyperparameters=to_plain(method),
        recipe=to_plain(recipe),
        encoder=encoder.config,
        image_size=28,
        epochs=epochs[-1],
        batch=recipe.batch,
        chunk=None,
        workers=0,
        seed=seed,
        world_size=1,
        device=str(CPU),
        precision=fast_precision(CPU),
        threads=torch.get_num_threads(),
    )
    began, models = process_time(), []

    def look(epoch: int) -> None:
        if epoch in epochs:
            model = Model(RunFolder(Path(), plan, {}, None), method, deepcopy(net).eval(), CPU)
            models.append(Moment(epoch, round(process_time() - began), model))

    look(0)
    stream = batches(train, recipe.batch, seed=seed, epochs=epochs[-1], device=CPU)
    players = players_of(net, recipe, recipe.batch)
    for record in optimize(method, net, players, stream, getattr(torch, fast_precision(CPU))):
        epoch, rest = divmod(record.clock.step + 1, record.clock.steps_per_epoch)
        if rest == 0:
            look(epoch)
    return models


def energy_of(model: Model, images: Tensor) -> Tensor:
    return model.apply(lambda batch: model.method.energy_of(model.net, batch), images)


def latents(seed: int) -> Iterator[Row]:
    flat = [
        pixels(x.load(Request(torch.arange(len(x)))).images.pixels.float() / 255)
        for x in (source("train"), source("test"))
    ]
    yield {"representation": "pixels", **segregation(*flat, seed)}
    torch.manual_seed(seed)
    _, _, axes = torch.pca_lowrank(flat[0], q=CODE, niter=6)
    found = segregation(*((x - flat[0].mean(0)) @ axes for x in flat), seed)
    yield {"representation": "principal components", **found}
    for representation, (name, numbers) in CODES.items():
        way = moments(name, seed, **numbers)
        for moment in way if representation == "VAE" else way[-1:]:
            encoder, *_ = moment.model.method.encoders(moment.model.net).values()
            codes = [moment.model.measure({"": encoder}, source(split))[0][""] for split in ("train", "test")]
            about = {"representation": representation, "epoch": moment.epoch, "core_seconds": moment.core_seconds}
            yield about | segregation(*codes, seed) | {"nats": density_bounds(moment.model, source("test"), seed)}


def segregation(on_train: Tensor, on_test: Tensor, seed: int) -> Row:
    """Returns how test images separate into classes: accuracies, purity of k-means, silhouette of the classes."""
    from sklearn.cluster import KMeans
    from sklearn.metrics import silhouette_score

    train, test, classes = source("train").labels, source("test").labels, len(source("train").classes)
    division = Division(train, test, classes, "test split")
    protocols = (KNN(draws=1), Linear(draws=1))
    found = scores_of_features({"": Features(on_train, on_test)}, division, protocols=protocols, seed=seed)
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
    for kind, amount in CORRUPTIONS:
        *_, moment = moments("dae", seed, corruption=kind, amount=amount)
        model = moment.model
        noisy = corrupted(clean, key, kind, amount, 1)
        with model.computing():
            made = model.method.reconstruct(model.net, (clean + 1) / 2, key)["reconstruction"].float()
        filtered = [torch.from_numpy(median_filter(noisy.numpy(), (1, 1, size, size))) for size in (3, 5, 7)]
        one, two, both = (energy_of(model, x) for x in (first, second, torch.maximum(first, second)))
        yield {
            "corruption": kind,
            "amount": amount,
            "core_seconds": moment.core_seconds,
            "noisy": error(noisy, clean),
            "denoised": error(2 * made - 1, clean),
            "median filter": min(error(x, clean) for x in filtered),
            "above the mean": (both > (one + two) / 2).float().mean().item(),
            "above both": (both > torch.maximum(one, two)).float().mean().item(),
        }


def error(a: Tensor, b: Tensor) -> float:
    return (a - b).square().mean().item()


@cache
def eye() -> encoders.Encoder:
    """Returns the encoder whose features compare samples with data, the same for all."""
    run = sanslabel.train(data(), method="simclr", epochs=10, out=Path(mkdtemp()) / "run", device="cpu")
    return run.encoder()


def adversaries(seed: int) -> Iterator[Row]:
    count, encoder = 5000, eye()

    @torch.no_grad()
    def features_of(pictures: Tensor) -> Tensor:
        return torch.cat([encoder(batch) for batch in pictures.split(BATCH)])

    real, other = (features_of(images(split, count)) for split in ("test", "train"))
    for name in ("ebgan", "dcgan"):
        for moment in moments(name, seed):
            model = moment.model if moment.epoch else settled(moment.model, seed)
            fake = sampled_images(model, count, seed)
            features = features_of(fake)
            precision, recall = precision_recall(real, features)
            row = {"method": name, "epoch": moment.epoch, "core_seconds": moment.core_seconds}
            row |= {"distance": frechet_distance(features, real), "floor": frechet_distance(other, real)}
            row |= {"precision": precision, "recall": recall}
            if isinstance(model.method, EBGAN):
                found = {"real": energy_of(model, images("test", count)), "fake": energy_of(model, fake)}
                row["margin"] = model.method.margin
                row["mean energy"] = {kind: values.mean().item() for kind, values in found.items()}
                row["histogram"] = {
                    kind: torch.histogram(x.clamp(max=ENERGIES[-1].item()), ENERGIES).hist.tolist()
                    for kind, x in found.items()
                }
            yield row


def settled(model: Model, seed: int) -> Model:
    """Returns the model with BatchNorm's statistics from images, since before training they are of no image."""
    net = deepcopy(model.net).train()
    for norm in (m for m in net.modules() if isinstance(m, _BatchNorm)):
        norm.reset_running_stats()
        norm.momentum = None  # the mean over all batches
    for step in range(20):
        with model.computing():
            model.method.energy_of(net, images("train", BATCH, key=step))
            model.method.sample(net, fold(torch.arange(BATCH), seed, step))
    return replace(model, net=net.eval())


def outliers(seed: int) -> Iterator[Row]:
    foreign = open_source("digits", "all", image_size=28, channels=1)
    for name in ("autoencoder", "dae", "vae", "ebgan", "dcgan"):
        *_, moment = moments(name, seed)
        steepness = slope(moment.model)
        found = {
            key: auroc(*(image_energies(moment.model, x, s)[0] for x in (source("test"), foreign)))
            for key, s in (("plain", None), ("less complexity", steepness))
        }
        yield {"method": name, "slope": steepness} | found
    digits = resized(foreign.load(Request(torch.arange(len(foreign)))).images.pixels, 28)
    sizes = [compressed_nats(x) for x in (images("test", 2000), digits)]
    yield {"method": "minus the size alone", "plain": auroc(*(-x for x in sizes))}


PARTS = {"latents": latents, "denoising": denoising, "adversaries": adversaries, "outliers": outliers}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=list(PARTS), metavar="PART")
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--render", action="store_true", help="only write docs/generative.md and its plots")
    flags = parser.parse_args()
    done = [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []
    for seed in [] if flags.render else flags.seeds:
        for part in flags.parts:
            if any((row["part"], row["seed"]) == (part, seed) for row in done):
                continue
            found = [{"part": part, "seed": seed, **row} for row in PARTS[part](seed)]
            with RESULTS.open("a") as file:
                file.writelines(json.dumps(row) + "\n" for row in found)
            done += found
    rendered(done, ROOT / "docs")


if __name__ == "__main__":
    main()
