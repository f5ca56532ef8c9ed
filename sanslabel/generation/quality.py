"""How good a generative model is: nats of images, and how near its samples are to data in a trained encoder's eyes."""

from __future__ import annotations

from dataclasses import dataclass
from math import log
from pathlib import Path

import torch
from torch import Tensor

from sanslabel import checkpoint
from sanslabel.errors import BadInput
from sanslabel.generation.samples import drawn
from sanslabel.generation.trained import BATCH, Trained, trained
from sanslabel.methods.method import Method
from sanslabel.randomness import Stream, fold, permutation
from sanslabel.sources import Source, splits
from sanslabel.views import resized

NEIGHBORS = 3
"""of precision and recall"""
DRAWS = 64
"""of a code, in the importance-weighted bound (Burda et al. 2016, eq. 8)"""


@dataclass(frozen=True)
class Quality:
    """What `quality` found."""

    encoder: str
    """the run whose features were compared, with the first digits of its file's sha256"""
    samples: int
    distance: float
    """Fréchet's, of samples from test images"""
    floor: float
    """the same distance of training images from test images: no samples need be nearer"""
    precision: float
    """the part of samples that lie within the data"""
    recall: float
    """the part of the data that lies within the samples"""
    bounds: dict[str, float]
    """nats of a test image by the name of the bound, where the method has one"""


def quality(
    run: str | Path,
    encoder: str | Path,
    *,
    data: str | Path | None = None,
    count: int = 2000,
    seed: int = 0,
    device: str | None = None,
) -> Quality:
    """Compares `count` samples of a run with as many test images, by the features of an encoder that another run has
    trained: no pretrained Inception is assumed, and distances by different encoders do not compare.

    data: with a training and a test split; by default what the run was trained on. BadInput without a test split.
    """
    model = trained(run, device)
    chosen = data if data is not None else model.said["data"]
    if "test" not in splits(chosen):
        raise BadInput(f"{chosen}: has no test split, which samples are compared with; name other --data.")
    train, test = model.source(chosen, "train"), model.source(chosen, "test")
    if (count := min(count, len(train), len(test))) <= NEIGHBORS:
        raise BadInput(f"{count} images are too few to compare; give {NEIGHBORS + 1} or more (--n, --data).")
    eye = checkpoint.load_encoder(encoder).to(model.device)
    if eye.config["channels"] != model.channels:
        channels = f"{eye.config['channels']} channels, where the images of {run} have {model.channels}"
        raise BadInput(f"{encoder}: reads images of {channels}; name an encoder that was trained on the like.")

    def seen(images: Tensor) -> Tensor:
        return eye(resized(images, eye.config["image_size"]))

    real, other = (model.told({"": seen}, _part(source, count, seed))[0][""] for source in (test, train))
    fake = model.made(seen, drawn(model, count, seed))
    precision, recall = precision_recall(real, fake, NEIGHBORS)
    return Quality(
        encoder=f"{encoder} ({checkpoint.sha256(checkpoint.encoder_file(encoder))[:12]})",
        samples=count,
        distance=frechet_distance(fake, real),
        floor=frechet_distance(other, real),
        precision=precision,
        recall=recall,
        bounds=nats(model, test, seed),
    )


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """‖μ_a - μ_b‖² + tr(Σ_a + Σ_b - 2 (Σ_a Σ_b)^½) of the features' normal approximations; 0 where they are the same.

    a: (n, D); b: (m, D), n and m above 1. Heusel et al. 2017, eq. 6.
    """
    a, b = a.double(), b.double()
    covariances = [torch.atleast_2d(x.T.cov()) for x in (a, b)]
    values, vectors = torch.linalg.eigh(covariances[0])
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T  # Σ_a^½, so that the product below is symmetric
    product = torch.linalg.eigvalsh(root @ covariances[1] @ root).clamp(min=0)
    traces = sum(c.trace() for c in covariances)
    return ((a.mean(dim=0) - b.mean(dim=0)).square().sum() + traces - 2 * product.sqrt().sum()).item()


def precision_recall(real: Tensor, fake: Tensor, neighbors: int = NEIGHBORS) -> tuple[float, float]:
    """The part of `fake` that lies within `real`, and of `real` within `fake`: within the ball around one of the set
    that reaches to its k-th nearest neighbor in the set.

    real: (n, D); fake: (m, D). Kynkäänniemi et al. 2019, eq. 1 and 2, k = 3.
    """
    real, fake = real.double(), fake.double()  # distances come from products, in which near ones would be rounding
    return _within(fake, real, neighbors), _within(real, fake, neighbors)


def _within(points: Tensor, of: Tensor, neighbors: int) -> float:
    nearest = neighbors + 1  # each is its own first neighbor
    radii = torch.cat([torch.cdist(part, of).kthvalue(nearest).values for part in of.split(BATCH)])
    inside = [(torch.cdist(part, of) <= radii).any(dim=1) for part in points.split(BATCH)]
    return torch.cat(inside).double().mean().item()


def _part(source: Source, count: int, seed: int) -> Source:
    return source.subset(permutation(fold(seed, Stream.QUALITY), len(source))[:count])


def nats(model: Trained, source: Source, seed: int) -> dict[str, float]:
    """Upper bounds of an image's -ln p by name, the mean over a source; none where the method has no density."""
    method, net = model.method, model.net
    if type(method).nats is Method.nats:
        return {}
    rows = iter(torch.arange(len(source)).split(BATCH))  # as `represent` goes through them

    def told(images: Tensor) -> Tensor:
        row = next(rows).to(images.device)
        each = torch.stack([method.nats(net, images, fold(row, seed, draw)) for draw in range(DRAWS)])
        return torch.stack([each.mean(dim=0), log(DRAWS) - (-each).logsumexp(dim=0)], dim=1)

    found, _ = model.told({"": told}, source)
    one, many = found[""].double().mean(dim=0).tolist()
    return {"negative evidence lower bound": one, f"importance-weighted, {DRAWS} draws": many}
