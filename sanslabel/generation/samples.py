"""New images from a trained model, the way from one to another, and what it makes of given ones."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import normalize

from sanslabel.errors import BadInput
from sanslabel.generation.grid import grid, write_png
from sanslabel.generation.trained import Trained, trained
from sanslabel.randomness import Stream, fold, permutation
from sanslabel.sources import ordered
from sanslabel.views import resize_images

STEPS = 10
"""images on the way from one latent to another, both ends included"""


def samples(
    run: str | Path, *, count: int = 64, out: str | Path | None = None, seed: int = 0, device: str | None = None
) -> Path:
    """A picture of `count` new images, by default RUN/samples.png. The same seed gives the same bytes on one device.

    BadInput for a method that makes no samples, DiskError.
    """
    model = trained(run, device)
    return _written(model, drawn(model, count, seed), out, "samples", columns=max(1, round(count**0.5)))


def drawn(model: Trained, count: int, seed: int) -> Tensor:
    """(count, C, H, W) in [0, 1]: new images."""
    _check(count)
    return model.made(lambda key: model.method.sampled(model.net, key), fold(torch.arange(count), seed))


def interpolation(
    run: str | Path,
    *,
    rows: int = 8,
    data: str | Path | None = None,
    out: str | Path | None = None,
    seed: int = 0,
    device: str | None = None,
) -> Path:
    """A picture of ways between two codes, one in a row, by default RUN/interpolation.png: codes that samples are made
    of, on an arc, as normal draws have one length; or with `data`, those of two of its images, in a line, which are
    its ends."""
    _check(rows)
    model = trained(run, device)
    method, net = model.method, model.net
    if data is None:
        first, last = model.made(lambda key: method.latents(net, key), fold(torch.arange(2 * rows), seed)).chunk(2)
        way = arc(first, last, STEPS)
    else:
        images = _some(model, data, 2 * rows, seed)
        first, last = model.made(lambda part: method.coded(net, part), images).chunk(2)
        way = torch.stack([torch.lerp(first, last, i / (STEPS - 1)) for i in range(STEPS)], dim=1)
    made = model.made(lambda codes: method.decoded(net, codes), way.flatten(0, 1))
    return _written(model, made, out, "interpolation", columns=STEPS)


def arc(first: Tensor, last: Tensor, steps: int) -> Tensor:
    """(n, D) and (n, D) -> (n, steps, D): from one to the other around the origin, directions at an even pace (Shoemake
    1985) and lengths in a line, so that no way is longer than its longer end."""
    part = torch.linspace(0, 1, steps, dtype=first.dtype)[None, :, None]
    lengths = (1 - part) * first.norm(dim=1)[:, None, None] + part * last.norm(dim=1)[:, None, None]
    first, last = normalize(first, dim=1), normalize(last, dim=1)
    cosine = (first * last).sum(dim=1).clamp(-1 + 1e-6, 1 - 1e-6)
    angle = cosine.acos()[:, None, None]
    from_first, from_last = (torch.sin(x * angle) / angle.sin() for x in (1 - part, part))
    return lengths * (from_first * first[:, None] + from_last * last[:, None])


def reconstructions(
    run: str | Path,
    *,
    data: str | Path | None = None,
    count: int = 16,
    out: str | Path | None = None,
    seed: int = 0,
    device: str | None = None,
) -> Path:
    """A picture of images of `data`, by default those that the run was trained on, of its test split if there is one;
    under each what the model was given of it, if that was less, and what it made of that. By default
    RUN/reconstructions.png."""
    _check(count)
    model = trained(run, device)
    images = _some(model, data or model.said["data"], count, seed)
    key = fold(torch.arange(count), seed).to(model.device)
    with model.computing():
        made = model.method.reconstructed(model.net, images.to(model.device), key)
    rows = [images, *(part.float().cpu() for part in made.values())]
    return _written(model, torch.cat(rows), out, "reconstructions", columns=count)


def _check(count: int) -> None:
    if count < 1:
        raise BadInput(f"--n {count}: must be at least 1.")


def _some(model: Trained, data: str | Path, count: int, seed: int) -> Tensor:
    """(count, C, S, S): images of `data` drawn by the seed, as evaluation sees them."""
    source = model.source(data)
    if len(source) < count:
        raise BadInput(f"{data}: has {len(source)} images where {count} are asked for; ask for fewer (--n).")
    rows = permutation(fold(seed, Stream.SHOWN), len(source))[:count]
    parts = ordered(source.subset(rows), count, device=torch.device("cpu"))
    return torch.cat([resize_images(batch.images(), model.size) for batch in parts])


def _written(model: Trained, images: Tensor, out: str | Path | None, name: str, columns: int) -> Path:
    path = Path(out) if out is not None else model.run / f"{name}.png"
    write_png(path, grid(images, columns))
    return path
