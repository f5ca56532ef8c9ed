"""The quality of a generative model: bounds on the density of images, and how near its samples are to data."""

from __future__ import annotations

from dataclasses import dataclass
from math import log
from pathlib import Path

import torch
from torch import Tensor

from sanslabel.errors import BadInput
from sanslabel.generation.distances import NEIGHBORS, frechet_distance, precision_recall
from sanslabel.generation.model import BATCH, Model, open_model
from sanslabel.generation.samples import sampled_images
from sanslabel.methods.abilities import HasDensity, Samples
from sanslabel.randomness import Stream, fold, permutation
from sanslabel.run_folder import RunFolder, data_of_run
from sanslabel.sources import Data, Source, splits
from sanslabel.sources.held_out import SEED, measured_fifth
from sanslabel.views import resized

DRAWS = 64
"""draws of a code in the importance-weighted bound (Burda et al. 2016, eq. 8)"""


@dataclass(frozen=True)
class Quality:
    """The quality of a model's samples, and its bounds on the density of test images."""

    encoder: str
    """the run whose features were compared, with the first digits of its weights' SHA-256"""
    samples: int
    distance: float
    """Fréchet distance of samples from test images"""
    floor: float
    """the same distance of training images from test images: samples need not be nearer"""
    precision: float
    """fraction of the samples that lie within the data"""
    recall: float
    """fraction of the data that lies within the samples"""
    bounds: dict[str, float]
    """upper bounds on -ln p of a test image, in nats, by name; empty if the method has no density"""


def quality(
    run: str | Path,
    encoder: str | Path,
    *,
    data: str | Path | None = None,
    count: int = 2000,
    seed: int = 0,
    device: str | None = None,
) -> Quality:
    """Compares `count` samples of a run with as many test images, by the features of an encoder of another run. No
    pretrained Inception network is used. Distances by different encoders cannot be compared.

    data: images, by default those of the run. Without a test split, the fifth of the labeled images that `evaluate`
    measures stands for it. Raises BadInput if there are no labels either, or if the method makes no images.
    """
    model = open_model(run, Samples, device=device)
    chosen = data_of_run(model.plan, data)
    train, test = _train_and_test(model, chosen)
    if (count := min(count, len(train), len(test))) <= NEIGHBORS:
        raise BadInput(f"{count} images are too few to compare; give {NEIGHBORS + 1} or more (--n, --data).")
    trained = RunFolder.open(encoder).trained_encoder()
    network = trained.encoder.to(model.device)
    if network.config["channels"] != model.channels:
        channels = f"{network.config['channels']} channels, but those of {run} have {model.channels}"
        raise BadInput(f"{encoder}: reads images of {channels}; name an encoder that was trained on such images.")

    def features(images: Tensor) -> Tensor:
        return network(resized(images, network.config["image_size"]))

    real, other = (
        model.measure({"": features}, _random_subset(source, count, seed))[0][""] for source in (test, train)
    )
    fake = model.apply(features, sampled_images(model, count, seed))
    precision, recall = precision_recall(real, fake)
    return Quality(
        encoder=f"{encoder} ({trained.sha256[:12]})",
        samples=count,
        distance=frechet_distance(fake, real),
        floor=frechet_distance(other, real),
        precision=precision,
        recall=recall,
        bounds=density_bounds(model, test, seed),
    )


def _train_and_test(model: Model, data: Data) -> tuple[Source, Source]:
    """Returns the two splits of the data; without a test split, the other labeled images and the fifth that `evaluate`
    measures."""
    train = model.source(data, "train")
    if "test" in splits(data):
        return train, model.source(data, "test")
    measured = measured_fifth(train, SEED)
    if not measured.any():
        raise BadInput(
            f"{data}: has no test split to compare samples with; put some of the images into a folder test and the "
            "others into a folder train beside it, or name other --data."
        )
    return train.subset((~measured).nonzero()[:, 0]), train.subset(measured.nonzero()[:, 0])


def density_bounds(model: Model, source: Source, seed: int) -> dict[str, float]:
    """Returns upper bounds on an image's -ln p in nats, by name, averaged over a source. They are empty if the method
    has no density."""
    method = model.method
    if not isinstance(method, HasDensity):
        return {}
    batches = iter(torch.arange(len(source)).split(BATCH))  # in the order in which `represent` reads the source

    def bounds(images: Tensor) -> Tensor:
        index = next(batches).to(images.device)
        elbo = torch.stack([method.elbo(model.net, images, fold(index, seed, draw)) for draw in range(DRAWS)])
        return torch.stack([-elbo.mean(dim=0), log(DRAWS) - elbo.logsumexp(dim=0)], dim=1)

    values, _ = model.measure({"": bounds}, source)
    one, many = values[""].double().mean(dim=0).tolist()
    return {"negative evidence lower bound": one, f"importance-weighted, {DRAWS} draws": many}


def _random_subset(source: Source, count: int, seed: int) -> Source:
    return source.subset(permutation(fold(seed, Stream.QUALITY), len(source))[:count])
