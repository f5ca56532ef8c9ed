"""Slow features: VICReg on pairs of near points finds what closed-form slow feature analysis finds."""

import pytest
import torch
from torch import Tensor

from sanslabel import encoders
from sanslabel.batch import Images
from sanslabel.engine import optimize, players_of
from sanslabel.inputs import ImageSpec
from sanslabel.methods.vicreg import VICReg
from sanslabel.optimizers import AdamW
from sanslabel.recipe import Recipe
from sanslabel.sources import Arrays, Pairs, Source, batches
from sanslabel.views import WHOLE

CPU = torch.device("cpu")
SAMPLES = 4096


def signal(t: Tensor) -> Tensor:
    """Two quickly changing numbers, (N,) -> (N, 2), of which sin t can be computed: x₁ - x₂²."""
    return torch.stack([t.sin() + (11 * t).cos().square(), (11 * t).cos()], dim=1)


def slowness(z: Tensor, step: float) -> Tensor:
    """The mean squared change in a unit of time of columns that are brought to unit variance, (N, D) -> (D,)."""
    z = (z - z.mean(dim=0)) / z.std(dim=0, correction=0)
    return (z.diff(dim=0) / step).square().mean(dim=0)


def correlation(a: Tensor, b: Tensor) -> float:
    return float(torch.corrcoef(torch.stack([a.flatten().double(), b.flatten().double()]))[0, 1].abs())


def test_slowness_of_known_signals():
    t = torch.arange(0, 20_000 * torch.pi, 0.01, dtype=torch.float64)
    assert slowness(torch.stack([t.sin(), (11 * t).cos()], dim=1), 0.01).tolist() == pytest.approx([1, 121], rel=2e-3)
    noise = torch.randn(400_000, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert slowness(noise, 1).item() == pytest.approx(2, rel=0.01)
    ten = torch.sin(2 * torch.pi * torch.arange(100_000, dtype=torch.float64) / 10)[:, None]
    assert slowness(ten, 1).item() == pytest.approx(0.381966, abs=1e-4)


def closed_form(x: Tensor, step: float) -> tuple[Tensor, Tensor]:
    """Quadratic slow feature analysis: the slowest functions (N, 5) of x, and their slowness (5,)."""
    quadratic = torch.stack([x[:, 0], x[:, 1], x[:, 0] ** 2, x[:, 0] * x[:, 1], x[:, 1] ** 2], dim=1)
    quadratic = quadratic - quadratic.mean(dim=0)
    values, axes = torch.linalg.eigh(quadratic.T @ quadratic / len(quadratic))
    white = quadratic @ axes / values.sqrt()
    change = white.diff(dim=0) / step
    slow, directions = torch.linalg.eigh(change.T @ change / len(change))
    return white @ directions, slow


def test_quadratic_slow_features_are_the_sine():
    step = 2 * torch.pi / 50_000
    t = torch.arange(50_000, dtype=torch.float64) * step
    features, slow = closed_form(signal(t), step)
    assert correlation(features[:, 0], t.sin()) == pytest.approx(1, abs=1e-6)
    assert slow[:2].tolist() == pytest.approx([1, 121], rel=1e-3)


def points() -> Arrays:
    """The signal at random times as images (2, 1, 1) in [0, 1]."""
    t = 2 * torch.pi * torch.rand(SAMPLES, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    scaled = (signal(t) + torch.tensor([1, 1])) / torch.tensor([3, 2])
    return Arrays(
        name="slow",
        split="train",
        signals={"image": Images(scaled.float()[..., None, None])},
        labels=torch.full((SAMPLES,), -1),
        file_row=torch.arange(SAMPLES),
        classes=(),
        inputs={"image": ImageSpec(channels=2, height=1, width=1)},
        group=torch.zeros(SAMPLES, dtype=torch.int64),
        time=t,
    )


def learned(source: Source) -> Tensor:
    """The embedding of all points, (N, 1), after VICReg without any augmentation has trained on the source."""
    method = VICReg(width=1, layers=1, norm=False, view=WHOLE).sized(1)
    torch.manual_seed(0)
    encoder = encoders.build("mlp", channels=2, image_size=1, hidden=(64, 64))
    net = method.networks(encoder, source.facts(1)).train()
    recipe = Recipe(optimizer=AdamW(lr=5e-3), epochs=30, warmup=2)
    stream = batches(source, 256, seed=0, epochs=30, device=CPU)
    for _ in optimize(method, net, players_of(net, recipe, 256), stream):
        pass
    with torch.no_grad():
        return net.eval().projector(net.encoder(points().images))


@pytest.mark.parametrize(("near", "least", "most"), [(0.1, 0.99, 1.0), (7.0, 0.0, 0.9)])
def test_vicreg_on_pairs_in_time_recovers_the_slow_feature(near, least, most):
    """Pairs at any distance in time have nothing in common, and the sine is not found."""
    base = points()
    assert least < correlation(learned(Pairs(base=base, near=near)), base.time.sin()) <= most
