"""Oracles of the label-free measures (closed forms, loops and the singular value decomposition)."""

import math
import time

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from sanslabel.diagnostics import alignment, effective_rank, participation_ratio, spread, uniformity


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def sphere(count: int, dimensions: int) -> Tensor:
    return F.normalize(gaussian(count, dimensions), dim=1)


def close(value: Tensor, expected: float, tolerance: float) -> bool:
    return value.shape == () and abs(float(value) - expected) <= tolerance


def test_spread_is_one_on_the_sphere_and_zero_at_collapse():
    for dimensions in (16, 128, 512):
        assert close(spread(sphere(20_000, dimensions)), 1, 1e-3)
    assert close(spread(torch.full((64, 8), 3.3)), 0, 1e-6)
    assert close(spread(gaussian(1, 8)), 0, 0)


def test_spread_loop():
    z = gaussian(50, 6) + 1
    rows = [row / row.norm() for row in z]
    deviations = [torch.stack([row[d] for row in rows]).std(correction=0) for d in range(6)]
    assert close(spread(z), float(sum(deviations)) / 6 * math.sqrt(6), 1e-6)
    assert close(spread(100 * z), float(spread(z)), 1e-6)  # of the direction alone


def rankme(z: Tensor) -> float:
    """As its authors write it."""
    sigma = torch.linalg.svdvals(z.double())
    p = sigma / sigma.sum() + 1e-7
    return float(torch.exp(-(p * p.log()).sum()))


def test_effective_rank_oracles():
    assert close(effective_rank(torch.eye(16)), 16, 1e-3)
    assert close(effective_rank(gaussian(200, 1) @ gaussian(1, 64, seed=1)), 1, 1e-3)
    assert close(effective_rank(torch.zeros(8, 4)), 1, 1e-3)
    assert close(effective_rank(gaussian(100, 8)), 7.88, 0.06)
    assert effective_rank(torch.tensor([[1.0, torch.inf], [0.0, 1.0]])).isnan()


@pytest.mark.parametrize("shape", [(100, 8), (8, 100), (64, 64)])
def test_effective_rank_agrees_with_the_singular_values(shape):
    decaying = gaussian(*shape) * torch.logspace(0, -5, shape[1])
    for z in (gaussian(*shape), decaying):
        assert close(effective_rank(z), rankme(z), 1e-5)


def test_effective_rank_ignores_scale_and_rotation():
    z = gaussian(100, 8)
    rotation, _ = torch.linalg.qr(gaussian(8, 8, seed=1))
    expected = float(effective_rank(z))
    assert close(effective_rank(1e-3 * z), expected, 1e-5)
    assert close(effective_rank(z @ rotation), expected, 1e-5)


@pytest.mark.parametrize("shape", [(100, 8), (8, 100)])
def test_participation_ratio_agrees_with_the_eigenvalues(shape):
    z = gaussian(*shape) * torch.linspace(0.1, 3, shape[1]) + 5
    eigenvalues = torch.linalg.eigvalsh(torch.cov(z.double().T))
    expected = float(eigenvalues.sum() ** 2 / eigenvalues.square().sum())
    assert close(participation_ratio(z), expected, 1e-3)
    assert close(participation_ratio(1e-12 * z), expected, 1e-3)


def test_participation_ratio_counts_directions():
    corners = torch.cat([torch.eye(5), -torch.eye(5)])
    assert close(participation_ratio(corners), 5, 1e-5)
    assert close(participation_ratio(torch.arange(10.0)[:, None] * torch.ones(3)), 1, 1e-5)
    assert close(participation_ratio(torch.full((10, 5), 3.3)), 0, 0)


def test_alignment():
    a, b = gaussian(20, 5), gaussian(20, 5, seed=1)
    expected = sum(float((x / x.norm() - y / y.norm()).norm() ** 2) for x, y in zip(a, b, strict=True)) / 20
    assert close(alignment(a, b), expected, 1e-6)
    assert close(alignment(a, a), 0, 0)
    assert close(alignment(a, -2 * a), 4, 1e-6)


def test_uniformity_loop():
    z = gaussian(12, 3)
    rows = [row / row.norm() for row in z]
    pairs = [math.exp(-2 * float((rows[i] - rows[j]).norm()) ** 2) for i in range(12) for j in range(i + 1, 12)]
    assert close(uniformity(z), math.log(sum(pairs) / len(pairs)), 1e-5)


def test_uniformity_oracles():
    assert close(uniformity(torch.ones(10, 4)), 0, 1e-6)
    assert uniformity(torch.ones(1, 4)).isnan()
    assert close(uniformity(torch.tensor([[1.0, 0.0], [-1.0, 0.0]])), -8, 1e-6)
    for dimensions, expected in ((2, -1.58), (8, -3.08), (64, -3.88), (128, -3.94)):
        assert close(uniformity(sphere(3000, dimensions)), expected, 0.02)


@pytest.mark.parametrize("measure", [spread, effective_rank, participation_ratio, uniformity])
def test_measures_keep_no_gradient_and_take_half_precision(measure):
    z = gaussian(64, 16).bfloat16().requires_grad_()
    value = measure(z)
    assert not value.requires_grad
    assert close(value, float(measure(z.detach().float())), 1e-5)


def test_measures_are_cheap_enough_for_every_few_steps():
    z = gaussian(256, 128)
    for measure in (spread, effective_rank, participation_ratio, uniformity, lambda z: alignment(z, z.flip(0))):
        seconds = []
        for _ in range(15):
            start = time.perf_counter()
            measure(z)
            seconds.append(time.perf_counter() - start)
        assert min(seconds) < 0.01  # 0.1 to 0.7 ms on an idle core
