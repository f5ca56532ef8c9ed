"""Pictures that a trained model makes: new images, interpolations between images, and reconstructions."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import normalize

from sanslabel.errors import BadInput
from sanslabel.generation.model import Model, open_model
from sanslabel.generation.picture import Picture, grid, write_png
from sanslabel.methods.abilities import Encodes, HasPrior, Reconstructs, Samples
from sanslabel.randomness import Stream, fold, permutation
from sanslabel.run_folder import data_of_run
from sanslabel.sources import AnyData, ordered
from sanslabel.views import resize_images

STEPS = 10
"""images on the way from one code to another, both ends included"""


def samples(
    run: str | Path, *, count: int = 64, out: str | Path | None = None, seed: int = 0, device: str | None = None
) -> Picture:
    """Writes a picture of `count` new images, by default RUN/samples.png. The same seed gives the same bytes on one
    device. Raises BadInput if the method makes no images, and DiskError."""
    model = open_model(run, Samples, device=device)
    return _write(model, sampled_images(model, count, seed), out, "samples", columns=max(1, round(count**0.5)))


def sampled_images(model: Model, count: int, seed: int) -> Tensor:
    """Returns new images, (count, C, H, W) in [0, 1]."""
    _check_count(count)
    method = model.require(Samples)
    return model.apply(lambda key: method.sample(model.net, key), fold(torch.arange(count), seed))


def interpolation(
    run: str | Path,
    *,
    count: int = 8,
    data: str | Path | None = None,
    out: str | Path | None = None,
    seed: int = 0,
    device: str | None = None,
) -> Picture:
    """Writes a picture of `count` interpolations between two codes, one in each row, by default RUN/interpolation.png.

    data: images whose codes are the ends; the codes between them lie on a straight line. By default the ends are random
    codes and those between them lie on an arc, since normal draws all have nearly the same length. Raises BadInput if
    the method has no such codes, and DiskError.
    """
    _check_count(count)
    model = open_model(run, HasPrior if data is None else Encodes, device=device)
    net = model.net
    if data is None:
        method = model.require(HasPrior)
        first, last = model.apply(lambda key: method.prior(net, key), fold(torch.arange(2 * count), seed)).chunk(2)
        way = arc(first, last, STEPS)
    else:
        method = model.require(Encodes)
        ends = _random_images(model, data, 2 * count, seed)
        first, last = model.apply(lambda batch: method.encode(net, batch), ends).chunk(2)
        way = torch.stack([torch.lerp(first, last, i / (STEPS - 1)) for i in range(STEPS)], dim=1)
    images = model.apply(lambda codes: method.decode(net, codes), way.flatten(0, 1))
    return _write(model, images, out, "interpolation", columns=STEPS)


def arc(first: Tensor, last: Tensor, steps: int) -> Tensor:
    """Returns points on the way from one code to another around the origin: (n, D) and (n, D) -> (n, steps, D).

    Directions change at an even pace (Shoemake 1985) and lengths linearly, so that no point is longer than the longer
    end.
    """
    t = torch.linspace(0, 1, steps, dtype=first.dtype)[None, :, None]
    lengths = (1 - t) * first.norm(dim=1)[:, None, None] + t * last.norm(dim=1)[:, None, None]
    first, last = normalize(first, dim=1), normalize(last, dim=1)
    cosine = (first * last).sum(dim=1).clamp(-1 + 1e-6, 1 - 1e-6)
    angle = cosine.acos()[:, None, None]
    from_first, from_last = (torch.sin(x * angle) / angle.sin() for x in (1 - t, t))
    return lengths * (from_first * first[:, None] + from_last * last[:, None])


def reconstructions(
    run: str | Path,
    *,
    data: str | Path | None = None,
    count: int = 16,
    out: str | Path | None = None,
    seed: int = 0,
    device: str | None = None,
) -> Picture:
    """Writes a picture of images with their reconstructions below, by default RUN/reconstructions.png. If the networks
    do not read all of an image, their input is shown between the two.

    data: by default the data of the run, and their test split if there is one. Raises BadInput if the method cannot
    reconstruct images, and DiskError.
    """
    _check_count(count)
    model = open_model(run, Reconstructs, device=device)
    images = _random_images(model, data_of_run(model.plan, data), count, seed)
    key = fold(torch.arange(count), seed).to(model.device)
    with model.computing():
        made = model.require(Reconstructs).reconstruct(model.net, images.to(model.device), key)
    lines = [images, *(pictures.float().cpu() for pictures in made.values())]
    return _write(model, torch.cat(lines), out, "reconstructions", columns=count)


def _check_count(count: int) -> None:
    if count < 1:
        raise BadInput(f"--n {count}: must be at least 1.")


def _random_images(model: Model, data: AnyData, count: int, seed: int) -> Tensor:
    """Returns images of `data` drawn by the seed, (count, C, S, S), as evaluation reads them."""
    source = model.source(data)
    if len(source) < count:
        raise BadInput(f"{data}: has only {len(source)} images, not {count}; ask for fewer (--n).")
    index = permutation(fold(seed, Stream.SHOWN), len(source))[:count]
    batches = ordered(source.subset(index), count, device=torch.device("cpu"))
    return torch.cat([resize_images(batch.images(), model.size) for batch in batches])


def _write(model: Model, images: Tensor, out: str | Path | None, name: str, columns: int) -> Picture:
    path = Path(out) if out is not None else model.run.path / f"{name}.png"
    return write_png(path, grid(images, columns))
