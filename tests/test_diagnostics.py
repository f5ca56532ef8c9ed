"""The measures against closed forms, loops and the singular value decomposition."""

import math
import time

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from sanslabel.diagnostics import (
    alignment,
    alpha_req,
    contrast,
    dead_dimensions,
    difference,
    effective_rank,
    hardest_tenth,
    loudness,
    mean_cosine,
    measures,
    pair_auroc,
    paired_lidar,
    participation_ratio,
    share_of_tenth,
    spectrum,
    spread,
    spread_by_place,
    uniformity,
    usage,
    variation,
)


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
    units = [vector / vector.norm() for vector in z]
    deviations = [torch.stack([unit[d] for unit in units]).std(correction=0) for d in range(6)]
    assert close(spread(z), float(sum(deviations)) / 6 * math.sqrt(6), 1e-6)
    assert close(spread(100 * z), float(spread(z)), 1e-6)  # of the direction alone


def rankme(z: Tensor) -> float:
    """Returns RankMe as its authors write it."""
    sigma = torch.linalg.svdvals(z.double())
    p = sigma / sigma.sum() + 1e-7
    return float(torch.exp(-(p * p.log()).sum()))


def test_spectrum_is_that_of_the_decomposition():
    for shape in ((50, 20), (20, 50)):
        z = gaussian(*shape) + 2
        torch.testing.assert_close(spectrum(z), torch.linalg.svdvals(z.double()), rtol=1e-8, atol=1e-8)
    assert spectrum(torch.full((4, 3), torch.inf)).isnan().all()


def with_eigenvalues(values: Tensor, count: int = 1024) -> Tensor:
    """Returns centered vectors whose covariance has these eigenvalues, up to one factor."""
    columns = gaussian(count, len(values)).double()
    axes, _ = torch.linalg.qr(columns - columns.mean(dim=0))
    rotation, _ = torch.linalg.qr(gaussian(len(values), len(values), seed=1).double())
    return axes * values.double().sqrt() @ rotation


def test_alpha_is_the_exponent_of_the_spectrum():
    index = torch.arange(1, 129)
    for exponent in (0.5, 1.0, 1.5, 3.0):
        z = with_eigenvalues(index.double() ** -exponent)
        assert close(alpha_req(z), exponent, 1e-6)
        assert close(alpha_req(7 * z + 3), exponent, 1e-6)  # of what varies, in no unit
    assert close(alpha_req(with_eigenvalues(torch.ones(64))), 0, 1e-6)
    assert torch.isnan(alpha_req(gaussian(100, 4)))
    assert torch.isnan(alpha_req(torch.ones(100, 64)))


def pairs_of_views(between: Tensor, count: int = 256, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Returns two views (N, D) of so many images, whose views vary by 1 in each direction and whose images by
    `between` (D,)."""
    width = len(between)
    images, first, second = gaussian(3, count, width, seed=seed).double()
    images = images * between.double().sqrt()
    return images + first, images + second


@pytest.mark.parametrize(
    ("directions", "ratio", "lowest", "highest"),
    [(1, 10, 0.9, 1.2), (1, 100, 0.9, 1.2), (4, 10, 3.5, 4.2), (16, 10, 13.5, 17), (0, 0, 0, 1.2), (128, 100, 60, 128)],
)
def test_lidar_counts_the_directions_that_distinguish_images(directions, ratio, lowest, highest):
    """The means of two views would count 56, 9, 40 and 34 of the first four, and 72 of none."""
    between = torch.zeros(128)
    between[:directions] = ratio
    counts = [float(paired_lidar(*pairs_of_views(between, seed=seed))) for seed in range(5)]
    assert lowest <= sum(counts) / 5 <= highest
    assert counts[0] == pytest.approx(float(paired_lidar(*(7e-3 * z + 5 for z in pairs_of_views(between)))), rel=1e-6)


def test_lidar_is_that_of_the_true_covariances_with_many_images():
    between = torch.tensor([30.0, 20.0, 10.0, 5.0, 2.0, 0.0, 0.0, 0.0])
    share = between / between.sum()
    expected = float(torch.exp(-torch.special.xlogy(share, share).sum()))
    assert close(paired_lidar(*pairs_of_views(between, 20_000)), expected, 0.03)
    a, b = pairs_of_views(between, 20_000)
    mixing = gaussian(8, 8).double()
    assert close(paired_lidar(a @ mixing, b @ mixing), float(paired_lidar(a, b)), 1e-3)
    noise = 100 * gaussian(2, 20_000, 8, seed=5).double()
    noise[..., 4:] = 0
    loud = paired_lidar(a + noise[0], b + noise[1])  # within images, however much of it, this tells none apart
    assert float(loud) <= 1.2


def test_lidar_by_loops():
    """Of few dimensions and many images, chance explains little, and hardly moves the rest."""
    a, b = pairs_of_views(torch.tensor([9.0, 4.0, 3.0]), 3000)
    a, b = a - a.mean(dim=0), b - b.mean(dim=0)
    between = sum(torch.outer(x, y) + torch.outer(y, x) for x, y in zip(a, b, strict=True)) / 2 / 2999
    within = sum(torch.outer(x - y, x - y) for x, y in zip(a, b, strict=True)) / 2 / 2999
    values = torch.linalg.eigvals(torch.linalg.inv(within) @ between).real
    p = values / values.sum()
    assert close(paired_lidar(a, b), float(torch.exp(-(p * p.log()).sum())), 0.01)


def test_lidar_of_views_that_agree_and_of_a_collapse():
    z = gaussian(256, 16)
    share = torch.linalg.eigvalsh(z.T.cov()).double() / z.T.cov().trace()
    assert close(paired_lidar(z, z), float(torch.exp(-(share * share.log()).sum())), 1e-3)
    assert close(paired_lidar(torch.ones(256, 16), torch.ones(256, 16)), 0, 0)
    one = gaussian(256, 1).expand(256, 16)
    assert close(paired_lidar(one, one), 1, 1e-6)
    assert paired_lidar(z / 0, z).isnan()


def test_mean_cosine():
    z = gaussian(30, 8) + 0.5
    pairs = [F.cosine_similarity(z[i], z[j], dim=0) for i in range(30) for j in range(30) if i != j]
    assert close(mean_cosine(z), float(sum(pairs)) / len(pairs), 1e-6)
    assert close(mean_cosine(torch.full((9, 4), 2.5)), 1, 1e-6)
    assert close(mean_cosine(torch.stack([z[0], -z[0]])), -1, 1e-6)
    assert torch.isnan(mean_cosine(z[:1]))


def test_effective_rank_oracles():
    assert close(effective_rank(torch.eye(16)), 16, 1e-3)
    assert close(effective_rank(gaussian(200, 1) @ gaussian(1, 64, seed=1)), 1, 1e-3)
    assert close(effective_rank(torch.zeros(8, 4)), 1, 1e-3)
    assert close(effective_rank(gaussian(100, 8)), 7.88, 0.06)
    assert effective_rank(torch.tensor([[1.0, torch.inf], [0.0, 1.0]])).isnan()


@pytest.mark.parametrize("value", [1e12, 1e20, 1e38, torch.inf, torch.nan])
def test_no_embedding_is_too_large_to_be_measured(value):
    """What a far too high rate makes of them; the solvers raise where they are given what is not finite."""
    z = gaussian(64, 16).float() * value
    for measure in measures(z, z.flip(0)).values():
        assert measure.ndim == 0


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
    units = [vector / vector.norm() for vector in z]
    pairs = [math.exp(-2 * float((units[i] - units[j]).norm()) ** 2) for i in range(12) for j in range(i + 1, 12)]
    assert close(uniformity(z), math.log(sum(pairs) / len(pairs)), 1e-5)


def test_uniformity_oracles():
    assert close(uniformity(torch.ones(10, 4)), 0, 1e-6)
    assert uniformity(torch.ones(1, 4)).isnan()
    assert close(uniformity(torch.tensor([[1.0, 0.0], [-1.0, 0.0]])), -8, 1e-6)
    for dimensions, expected in ((2, -1.58), (8, -3.08), (64, -3.88), (128, -3.94)):
        assert close(uniformity(sphere(3000, dimensions)), expected, 0.02)


def test_hardest_tenth_is_a_tenth_where_all_repel_alike():
    axes = torch.eye(21)
    assert close(hardest_tenth(axes[:1], axes[1:], 0.1), 0.1, 1e-6)  # orthogonal to all
    assert close(hardest_tenth(torch.ones(3, 8), torch.ones(40, 8), 0.1), 0.1, 1e-6)
    assert close(hardest_tenth(torch.ones(21, 8), torch.ones(21, 8), 0.1, excluded=torch.arange(21)), 0.1, 1e-6)
    assert close(hardest_tenth(sphere(64, 32), sphere(1000, 32), 1e6), 0.1, 1e-4)
    assert close(hardest_tenth(torch.ones(3, 8), torch.ones(11, 8), 0.1), 2 / 11, 1e-6)  # a tenth, rounded up


def test_hardest_tenth_is_all_where_a_few_repel():
    axes = torch.eye(21)
    assert close(hardest_tenth(axes[:1], torch.cat([axes[:1], axes[2:]]), 0.01), 1, 1e-6)
    expected = 2 * math.exp(2) / (2 * math.exp(2) + 18)
    assert close(hardest_tenth(axes[:1], torch.cat([axes[:1], axes[:1], axes[1:19]]), 0.5), expected, 1e-6)


def test_hardest_tenth_loop():
    query, negatives = gaussian(5, 4), gaussian(31, 4, seed=1)
    excluded, shares = torch.tensor([7, 0, 29, 7, 3]), []
    for q, mine in zip(query, excluded.tolist(), strict=True):
        others = [n for j, n in enumerate(negatives) if j != mine]
        weights = sorted((math.exp(float(F.cosine_similarity(q, n, dim=0)) / 0.3) for n in others), reverse=True)
        shares.append(sum(weights[:3]) / sum(weights))
    assert close(hardest_tenth(query, negatives, 0.3, excluded=excluded), sum(shares) / 5, 1e-5)
    assert close(hardest_tenth(7 * query, 0.1 * negatives, 0.3, excluded=excluded), sum(shares) / 5, 1e-5)


def test_hardest_tenth_reads_the_first_queries_alone():
    query, negatives, excluded = gaussian(80, 4), gaussian(30, 4, seed=1), torch.arange(80) % 30
    expected = float(hardest_tenth(query[:64], negatives, 0.3, excluded=excluded[:64]))
    assert close(hardest_tenth(query, negatives, 0.3, excluded=excluded), expected, 0)
    half = query.bfloat16().requires_grad_()
    assert not hardest_tenth(half, negatives, 0.3).requires_grad
    assert close(hardest_tenth(half, negatives, 0.3), float(hardest_tenth(half.float(), negatives, 0.3)), 1e-6)


def test_hardest_tenth_looks_at_every_so_many_of_a_large_memory():
    query, negatives, excluded = gaussian(20, 8), gaussian(10_000, 8, seed=1), torch.arange(20) * 3
    sampled = negatives[::3]  # 3,334 of them
    assert close(
        hardest_tenth(query, negatives, 0.3, excluded=excluded),
        float(hardest_tenth(query, sampled, 0.3, excluded=excluded // 3)),
        0,
    )
    assert close(
        hardest_tenth(query, negatives, 0.3, excluded=excluded + 1), float(hardest_tenth(query, sampled, 0.3)), 0
    )


def test_share_of_tenth_of_logits():
    assert close(share_of_tenth(torch.zeros(3, 40)), 0.1, 1e-6)
    logits = torch.tensor([[math.log(3), *[0.0] * 7, -math.inf, -math.inf]])  # 8 that count, the tenth is one of 10
    assert close(share_of_tenth(logits), 3 / 10, 1e-6)


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


def test_spread_by_place_by_loops():
    tokens = torch.randn(6, 4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    places = torch.tensor([[0, 1, 2, 3], [1, 2, 3, 9], [0, 1, 5, 5], [3, 2, 1, 0], [0, 2, 4, 6], [1, 3, 5, 7]])
    variances = []
    for d in range(3):
        total = freedom = 0.0
        for place in range(10):
            values = [float(tokens[i, j, d]) for i in range(6) for j in range(4) if places[i, j] == place]
            center = sum(values) / max(1, len(values))
            total += sum((x - center) ** 2 for x in values)
            freedom += max(0, len(values) - 1)
        variances.append(total / freedom)
    assert close(spread_by_place(tokens, places, 10), sum(v**0.5 for v in variances) / 3, 1e-6)


def test_spread_by_place_sees_what_the_deviation_over_all_tokens_does_not():
    generator = torch.Generator().manual_seed(0)
    places = torch.arange(16).expand(128, 16)
    of_places = torch.randn(16, 8, generator=generator).expand(128, 16, 8)
    assert of_places.flatten(0, 1).std(dim=0).mean() > 0.8
    assert close(spread_by_place(of_places, places, 16), 0, 1e-5)
    of_images = torch.randn(128, 16, 8, generator=generator)
    assert close(spread_by_place(of_images, places, 16), 1, 0.05)
    assert close(spread_by_place(0.1 * of_images + of_places, places, 16), 0.1, 0.005)
    assert spread_by_place(of_images[:1], places[:1], 16).isnan()


def test_usage_counts_the_prototypes_that_are_in_use():
    assert close(usage(torch.full((7, 5), 0.2)), 5, 1e-5)
    assert close(usage(torch.eye(5)), 5, 1e-5)  # hard and soft alike
    assert close(usage(F.one_hot(torch.zeros(9, dtype=torch.int64), 5)), 1, 1e-6)
    assert close(usage(torch.tensor([30, 30, 0, 0])), 2, 1e-5)
    q = gaussian(20, 6).softmax(dim=1)
    mean = [float(q[:, k].mean()) for k in range(6)]
    assert close(usage(q), math.exp(-sum(p * math.log(p) for p in mean)), 1e-5)
    assert usage(torch.zeros(4)).isnan()


def test_dead_dimensions_are_those_that_do_not_vary():
    z = torch.randn(200, 10, generator=torch.Generator().manual_seed(0))
    assert dead_dimensions(z) == 0
    z[:, :4] = torch.tensor([0.0, 7.0, -1e3, 1e-9])
    assert dead_dimensions(z).item() == pytest.approx(0.4)
    assert dead_dimensions(torch.ones(5, 3)) == 1
    z[:, 4] *= 1e-5
    assert dead_dimensions(z).item() == pytest.approx(0.5)


def test_variation_is_between_images_and_contrast_within():
    images = torch.rand(50, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    by_hand = torch.stack([images[:, c, y, x].std(correction=0) for c in range(3) for y in range(8) for x in range(8)])
    assert variation(images).item() == pytest.approx(by_hand.mean().item(), rel=1e-5)
    assert variation(images[:1].expand(9, -1, -1, -1)) == 0
    assert contrast(images).item() == pytest.approx(1 / 12**0.5, rel=0.05)
    assert contrast(images[:, :, :1, :1].expand(-1, -1, 8, 8)) == pytest.approx(0, abs=1e-6)
    assert contrast(images[:, :, :1, :1]).isnan(), "points have none"
    eight = (images * 255).round().byte()
    assert variation(eight).item() == pytest.approx(variation(images).item(), rel=1e-2)


def test_measures_are_of_the_first_rows_and_know_a_positive():
    z = torch.randn(600, 12, generator=torch.Generator().manual_seed(2))
    values = measures(z)
    assert values["effective_rank"] == effective_rank(z[:256])
    assert values["full_rank"] == 12
    assert "alignment" not in values
    assert measures(z, z)["alignment"] == pytest.approx(0, abs=1e-6)
    assert measures(z, -z)["alignment"].item() == pytest.approx(4)
    positive = z + 0.1 * torch.randn(600, 12, generator=torch.Generator().manual_seed(3))
    assert measures(z, positive)["paired_lidar"] == paired_lidar(z, positive)
    for shape in ((600, 200), (20, 12)):
        assert "paired_lidar" not in measures(torch.randn(shape), torch.randn(shape))
    assert all(value.ndim == 0 for value in measures(z, z).values())


def test_pair_auroc_by_loops():
    a, b = gaussian(20, 5), gaussian(20, 5) + gaussian(20, 5, seed=1)
    wins = []
    for i in range(20):
        true = F.cosine_similarity(a[i], b[i], dim=0)
        false = [F.cosine_similarity(a[i], b[j], dim=0) for j in range(20) if j != i]
        wins += [float(true > x) + 0.5 * float(true == x) for x in false]
    assert close(pair_auroc(a, b), sum(wins) / len(wins), 1e-6)
    assert close(pair_auroc(a, a), 1, 1e-6)
    assert close(pair_auroc(a, -a), 0, 1e-6)
    assert close(pair_auroc(torch.ones(20, 5), b), 0.5, 0.2)
    assert close(pair_auroc(torch.ones(20, 5), torch.ones(20, 5)), 0.5, 0)
    assert close(pair_auroc(gaussian(256, 32), gaussian(256, 32, seed=1)), 0.5, 0.05)
    assert pair_auroc(a[:1], b[:1]).isnan()


def test_pairs_are_compared_where_there_are_enough_of_them():
    assert "pair_auroc" in measures(gaussian(16, 4), gaussian(16, 4))
    assert "pair_auroc" not in measures(gaussian(15, 4), gaussian(15, 4))
    assert "pair_auroc" not in measures(gaussian(16, 4))


def test_levels_of_sounds():
    t = torch.arange(16_000) / 16_000
    sine = torch.sin(2 * math.pi * 440 * t).expand(3, 1, -1)
    assert close(loudness(sine), -3.0103, 1e-3)
    assert close(loudness(0.01 * sine), -43.0103, 1e-3)
    assert close(loudness((sine * 2**15).clamp(max=2**15 - 1).short()), -3.0103, 1e-3)
    assert close(loudness(torch.zeros(3, 1, 100)), -120, 0)
    assert close(loudness(torch.stack([sine[0], 0 * sine[0], 0.1 * sine[0]])), -23.0103, 1e-3)


def test_difference_of_images():
    images = torch.rand(5, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    assert difference(images, images) == 0
    assert close(difference(images, 1 - images), float((2 * images - 1).abs().mean()), 1e-6)
    assert close(difference(torch.zeros(2, 1, 4, 4).byte(), torch.full((2, 1, 4, 4), 51).byte()), 0.2, 1e-6)
