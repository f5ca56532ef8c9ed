"""Measures of how far embeddings are from collapse. They need no labels.

Each takes a matrix (N, D) of any float type and computes without a gradient. It returns a scalar tensor on the
matrix's device, in float32 unless its docstring says otherwise. They run every few steps: a matrix (256, 128) takes 0.1
to 0.7 ms on one CPU core.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

MEASURED = 256
"""rows of an embedding that are measured during training"""
QUERIES = 64
"""queries whose hardest negatives are measured"""
NEGATIVES = 4096
"""negatives from which the hardest tenth is taken, at most"""
PAIRS = 4096
"""pairs of views that LiDAR is measured on, at most: with 128 columns, they take 20 ms, and 256 pairs take 1.4 ms"""
LIDAR_WIDTH = 128
"""widest embedding for which LiDAR is measured"""
FEWEST_PAIRS = 16
"""pairs below which it is chance how many of them are recognized"""
EDGE = 1.1
"""times the limit of what chance explains, since single samples exceed that limit by a few percent"""


def measures(z: Tensor, positive: Tensor | None = None) -> dict[str, Tensor]:
    """Returns the measures of the first 256 rows of an embedding, by name.

    z: (N, D); positive: (N, D), row i is the positive of row i of z; None if there are no positives. `full_rank` is the
    rank that the effective rank cannot exceed. figures.py explains the names.
    """
    pairs, full = min(len(z), PAIRS), z
    z = z[:MEASURED].float()
    values = {
        "embedding_std": spread(z),
        "effective_rank": effective_rank(z),
        "full_rank": torch.tensor(min(z.shape)),
        "participation_ratio": participation_ratio(z),
        "alpha_req": alpha_req(z),
        "mean_cosine": mean_cosine(z),
        "uniformity": uniformity(z),
        "dead_dimensions": dead_dimensions(z),
    }
    if positive is None:
        return values
    values["alignment"] = alignment(z, positive[:MEASURED].float())
    if len(z) >= FEWEST_PAIRS:
        values["pair_auroc"] = pair_auroc(z, positive[:MEASURED])
    if z.shape[1] <= min(LIDAR_WIDTH, pairs // 2):
        values["paired_lidar"] = paired_lidar(full[:pairs], positive[:pairs])
    return values


@torch.no_grad()
def spread(z: Tensor) -> Tensor:
    """Returns the standard deviation of the normalized embedding over samples, averaged over dimensions, times √D.

    It is about 1 for embeddings spread evenly over the sphere, and 0 when all are equal. It does not show the loss of
    some dimensions; `effective_rank` does. Chen and He 2021 (SimSiam), section 4.1.
    """
    return F.normalize(z.float(), dim=1).std(dim=0, correction=0).mean() * z.shape[1] ** 0.5


@torch.no_grad()
def effective_rank(z: Tensor, epsilon: float = 1e-7) -> Tensor:
    """Returns RankMe, exp(-Σ pₖ ln pₖ) of the shares pₖ = σₖ / Σσ + ε of the uncentered singular values, in float64.

    It lies between 1 (one direction, or all zeros) and min(N, D). It is nan if an embedding is not finite. Garrido et
    al. 2023, equation 2.
    """
    return _perplexity(spectrum(z), epsilon)


@torch.no_grad()
def spectrum(z: Tensor) -> Tensor:
    """Returns the uncentered singular values (min(N, D),) in float64, the largest first.

    All are nan if an embedding is not finite. A cliff in the spectrum is a dimensional collapse (Jing et al. 2022).
    """
    # The squared singular values are the eigenvalues of the smaller Gram matrix, which take a third of the time.
    # Squaring halves the correct digits, hence float64. In float32, a matrix of rank one with 128 columns would have
    # an effective rank of 1.06.
    z = _double(z)
    gram = z @ z.T if z.shape[0] < z.shape[1] else z.T @ z
    if not gram.isfinite().all():  # the solver would raise, and embeddings may be infinite while a run diverges
        return gram.new_full((len(gram),), torch.nan)
    return torch.linalg.eigvalsh(gram.cpu()).flip(0).clamp(min=0).sqrt()


@torch.no_grad()
def alpha_req(z: Tensor) -> Tensor:
    """Returns the exponent α of the covariance's eigenvalues, λᵢ ∝ i^-α, in float64.

    It is minus the slope of a least-squares line of ln λ over ln i, for i from a twentieth to half of the rank. Good
    features have an α near 1. Far above 1, a few directions hold all the variance; below 1, the spectrum is too flat.
    It is nan if that range has fewer than three eigenvalues. Agrawal et al. 2022, section 3.
    """
    z = _double(z)
    values = spectrum(z - z.mean(dim=0)).square()
    values = values[values > 1e-12 * values[:1]]
    first, last = len(values) // 20, len(values) // 2
    if last - first < 3:
        return values.new_full((), torch.nan)
    x = torch.arange(first + 1, last + 1, device=values.device, dtype=values.dtype).log()
    y = values[first:last].log()
    x = x - x.mean()
    return -(x * y).sum() / x.square().sum()


@torch.no_grad()
def paired_lidar(a: Tensor, b: Tensor, delta: float = 1e-6) -> Tensor:
    """Returns LiDAR from two views of each image, without its bias, in float64. It lies between 0 and D.

    It counts the directions in which images differ by more than chance makes of the differences between views: exp of
    the entropy of the shares of the eigenvalues of Σ_w^-½ Σ_b Σ_w^-½. a, b: (N, D), row i has two views of image i, and
    N is at least 2 D. LiDAR (Thilak et al. 2024, section 3) takes Σ_b from the means of about 50 views. Means of two
    views have half of Σ_w in them. Here Σ_b is the covariance of one view with the other, which has nothing of Σ_w.

    The eigenvalues are those of (F - 1) / 2, where F compares the covariances of a + b and a - b. Eigenvalues of F that
    chance explains are left out. Chance has raised the others by a known amount, see `_without_chance`. Directions with
    little difference between images are missed if images are few. The result is 0 if no eigenvalue is left, and nan if
    an embedding is not finite. `delta` times the mean variance is added to Σ_w's diagonal, so the unit plays no part.
    """
    a, b = _double(a), _double(b)
    images, views = (a + b).T.cov(correction=1), (a - b).T.cov(correction=1)  # 2 (2 Σ_b + Σ_w) and 2 Σ_w
    scale = (images.trace() + views.trace()) / len(images)
    if not scale.isfinite():  # the solver would raise
        return a.new_full((), torch.nan)
    images, views = images.cpu(), views.cpu()
    views.diagonal().add_(delta * scale.cpu().clamp(min=torch.finfo(views.dtype).tiny))
    half = torch.linalg.cholesky(views)
    whitened = torch.linalg.solve_triangular(half, images, upper=False)
    whitened = torch.linalg.solve_triangular(half, whitened.T, upper=False)
    ratios = _without_chance(torch.linalg.eigvalsh(whitened), len(images) / (len(a) - 1))
    return _perplexity(ratios, 0.0) if len(ratios) else a.new_zeros(())


def _without_chance(values: Tensor, share: float) -> Tensor:
    """Returns Σ_b over Σ_w in each direction in which images differ beyond chance, (K,) -> (M,).

    values: (K,) eigenvalues of an F matrix, the comparison of two independent covariances of N rows of K numbers each.
    share: K / N, below 1. If the true ratio r is 1 in all directions, eigenvalues reach ((1 + h) / (1 - share))², with
    h² = 2 share - share². A single r above (1 + h) / (1 - share) shows itself as r (r - 1 + share) / (r - 1 - r share).
    Wang and Yao 2017, theorem 3.1.
    """
    edge = ((1 + (2 * share - share**2) ** 0.5) / (1 - share)) ** 2
    values = values[values > EDGE * edge]
    p = (1 + values) * (1 - share)
    r = (p + (p.square() - 4 * values).clamp(min=0).sqrt()) / 2  # the larger root of r² - p r + value = 0
    return (r - 1) / 2


def _perplexity(values: Tensor, epsilon: float) -> Tensor:
    """Returns exp of the entropy of the values' shares, (K,) -> (): the number of values that matter."""
    share = values / values.sum().clamp(min=torch.finfo(values.dtype).tiny) + epsilon
    return torch.exp(-(share * share.log()).sum())


def _double(z: Tensor) -> Tensor:
    """Returns the matrix in float64. A matrix on MPS, which has no float64, is moved to the CPU."""
    return (z.cpu() if z.device.type == "mps" else z).double()


@torch.no_grad()
def mean_cosine(z: Tensor) -> Tensor:
    """Returns the mean cosine of pairs of different embeddings.

    It is 1 if all point the same way, about 0 if they are spread evenly, and nan for a single embedding.
    """
    if len(z) < 2:
        return z.new_full((), torch.nan)
    unit = F.normalize(z.float(), dim=1)
    diagonal = unit.square().sum()  # each embedding's cosine with itself: 1, or 0 for a zero vector
    return (unit.sum(dim=0).square().sum() - diagonal) / (len(z) * (len(z) - 1))


@torch.no_grad()
def dead_dimensions(z: Tensor) -> Tensor:
    """Returns the share of dimensions whose standard deviation over samples is at most a thousandth of the largest.

    It is 1 if all embeddings are equal.
    """
    deviation = z.float().std(dim=0, correction=0)
    return (deviation <= 1e-3 * deviation.max()).float().mean()


@torch.no_grad()
def participation_ratio(z: Tensor) -> Tensor:
    """Returns (Σλ)² / Σλ² of the covariance's eigenvalues λ, the number of directions that hold the variance.

    It is D if all directions have the same variance, 1 if one direction has all of it, and 0 if there is none.
    """
    # Subtracting the first row turns equal rows into exact zeros; subtracting their rounded mean would not.
    shifted = z.float() - z[0].float()
    # Scaling protects the fourth powers below from overflow and underflow. The sums need no eigenvalues: tr C = Σλ and
    # ‖C‖² = Σλ².
    scaled = shifted / shifted.abs().amax().clamp(min=torch.finfo(torch.float32).tiny)
    centered = scaled - scaled.mean(dim=0)
    gram = centered @ centered.T if len(centered) < centered.shape[1] else centered.T @ centered
    return gram.trace().square() / gram.square().sum().clamp(min=torch.finfo(torch.float32).tiny)


@torch.no_grad()
def alignment(a: Tensor, b: Tensor) -> Tensor:
    """Returns the mean squared distance of paired, normalized embeddings.

    a, b: (N, D). It is 0 if the pairs agree, and 4 if they are opposite. Wang and Isola 2020, with α = 2.
    """
    return (F.normalize(a.float(), dim=1) - F.normalize(b.float(), dim=1)).square().sum(dim=1).mean()


@torch.no_grad()
def pair_auroc(a: Tensor, b: Tensor) -> Tensor:
    """Returns how often the cosine of a true pair exceeds that of a false one, which shares the first member.

    a, b: (N, D). The mean over i ≠ j of [cos(aᵢ, bᵢ) > cos(aᵢ, bⱼ)], where equal cosines count half. It is 1 if each
    pair is recognized, and 0.5 if a and b have nothing in common. It is nan for a single pair.
    """
    cosine = F.normalize(a.float(), dim=1) @ F.normalize(b.float(), dim=1).T
    wins = (cosine.diagonal()[:, None] - cosine).sign()  # 0 on the diagonal
    return (wins.sum() / (len(a) * (len(a) - 1)) + 1) / 2 if len(a) > 1 else cosine.new_full((), torch.nan)


@torch.no_grad()
def matched(a: Tensor, b: Tensor) -> Tensor:
    """Returns the share of rows whose partner has the largest cosine of all rows of the other matrix, as the mean of
    both directions.

    a, b: (N, D), two signals of the same samples. It is 1 if every row finds its partner, and about 1/N by chance.
    """
    cosine = F.normalize(a.float(), dim=1) @ F.normalize(b.float(), dim=1).T
    partner = torch.arange(len(a), device=a.device)
    return torch.stack([(cosine.argmax(dim=dim) == partner).float().mean() for dim in (0, 1)]).mean()


@torch.no_grad()
def modality_gap(a: Tensor, b: Tensor) -> Tensor:
    """Returns the distance between the means of two signals' normalized embeddings, (N, D) each (Liang et al. 2022).

    It is 0 if both signals lie around the same mean, and 2 if each is one point, opposite to the other.
    """
    return (F.normalize(a.float(), dim=1).mean(dim=0) - F.normalize(b.float(), dim=1).mean(dim=0)).norm()


@torch.no_grad()
def uniformity(z: Tensor) -> Tensor:
    """Returns ln of the mean of exp(-2 ‖zᵢ - zⱼ‖²) over pairs i < j of normalized embeddings.

    It is 0 if all are equal, and nears -4 if they are spread evenly over a sphere of many dimensions. It is nan for a
    single embedding. It needs N² numbers, 256 MiB at N = 8,192, so pass a sample of a large set. Wang and Isola 2020,
    with t = 2.
    """
    z = F.normalize(z.float(), dim=1)
    squared = (2 - 2 * (z @ z.T)).clamp_(min=0)
    closeness = squared.mul_(-2).exp_().fill_diagonal_(0)
    return (closeness.sum() / (len(z) * (len(z) - 1))).log() if len(z) > 1 else z.new_full((), torch.nan)


@torch.no_grad()
def hardest_tenth(
    query: Tensor, negatives: Tensor, temperature: float | Tensor, excluded: Tensor | None = None
) -> Tensor:
    """Returns the share of the softmax over negatives that the hardest tenth of them takes.

    query: (N, D); negatives: (K, D); both are normalized inside. excluded: (N,) int64, for each query the row of
    `negatives` that does not count, since it is the same image. The share is 0.1 if all negatives repel a query alike,
    and nears 1 if a few do all of it. It is the mean over the first 64 queries. If there are more than 4,096 negatives,
    an evenly spaced sample is used. For 65,536 negatives this takes 3 ms; using all of them would take 86 ms. Robinson
    et al. 2021 weigh negatives by this softmax.
    """
    query = query[:QUERIES]
    sampled = torch.arange(0, len(negatives), -(-len(negatives) // NEGATIVES), device=negatives.device)
    negatives = F.normalize(negatives[sampled].float(), dim=1)
    logits = F.normalize(query.float(), dim=1) @ negatives.T / temperature
    if excluded is not None:
        logits.masked_fill_(sampled == excluded[: len(query), None], float("-inf"))
    return share_of_tenth(logits)


@torch.no_grad()
def share_of_tenth(logits: Tensor) -> Tensor:
    """Returns the share of the softmax that the largest tenth of the logits takes, as the mean over rows.

    logits: (N, K), -inf for candidates that do not count. `hardest_tenth` is this share for logits that are cosines.
    """
    largest = logits.float().softmax(dim=1).topk(-(-logits.shape[1] // 10), dim=1).values
    tenth = (logits > float("-inf")).sum(dim=1, keepdim=True) / 10
    return largest.where(torch.arange(largest.shape[1], device=logits.device) < tenth, 0).sum(dim=1).mean()


@torch.no_grad()
def usage(assignments: Tensor) -> Tensor:
    """Returns the number of prototypes in use: the perplexity exp(-Σ qₖ ln qₖ) of the mean assignment q.

    assignments: (N, K), or shares (K,), not negative; they are scaled to sum to 1. The number is K if all prototypes
    are used alike, 1 if one takes every sample, and nan if nothing is assigned.
    """
    share = assignments.float().reshape(-1, assignments.shape[-1]).mean(dim=0)
    share = share / share.sum()
    return torch.exp(-torch.special.xlogy(share, share).sum())


@torch.no_grad()
def spread_by_place(tokens: Tensor, places: Tensor, patches: int) -> Tensor:
    """Returns the standard deviation of tokens over images, pooled over places and averaged over dimensions.

    tokens: (N, M, D); places: (N, M) int64 in [0, patches). For tokens of unit variance it is about 1 if they depend
    on their images, and 0 if they depend on their places only. A collapsed token predictor depends on places only, and
    the deviation over all tokens does not show that. The result is nan if no place occurs twice.
    """
    index = places.flatten()
    values = tokens.detach().flatten(0, 1).float()  # (N M, D)
    count = values.new_zeros(patches).index_add_(0, index, torch.ones_like(values[:, 0]))
    sums = values.new_zeros(patches, values.shape[1]).index_add_(0, index, values)
    deviation = values - (sums / count.clamp(min=1)[:, None])[index]
    freedom = len(index) - (count > 0).sum()
    return (deviation.square().sum(dim=0) / freedom).sqrt().mean()


@torch.no_grad()
def variation(images: Tensor) -> Tensor:
    """Returns the variation between images: the standard deviation of a pixel over images, averaged over pixels.

    images: (N, C, H, W) in [0, 1], or bytes in [0, 255]. It is 0 if all images are the same.
    """
    return _unit(images).std(dim=0, correction=0).mean()


@torch.no_grad()
def contrast(images: Tensor) -> Tensor:
    """Returns the contrast within images: the standard deviation of an image's pixels, averaged over images.

    images: as for `variation`. It is 0 if each image has a single color, and nan for images of one pixel.
    """
    pixels = _unit(images).flatten(2)
    return pixels.std(dim=2, correction=0).mean() if pixels.shape[2] > 1 else pixels.new_full((), torch.nan)


@torch.no_grad()
def difference(images: Tensor, others: Tensor) -> Tensor:
    """Returns the mean absolute difference of two images, averaged over pairs.

    images, others: (N, C, H, W) in [0, 1], or bytes in [0, 255]. Frames of a still clip differ by less than 2/255.
    """
    return (_unit(images) - _unit(others)).abs().mean()


@torch.no_grad()
def loudness(waves: Tensor) -> Tensor:
    """Returns the level of the median sound in decibels below full scale, at least -120.

    waves: (N, C, T) in [-1, 1], or int16. The level is 20 log₁₀ of the root mean square, -3 for a full sine.
    """
    samples = waves.float() / 2**15 if waves.dtype == torch.int16 else waves.float()
    return 20 * samples.square().flatten(1).mean(dim=1).sqrt().median().clamp(min=1e-6).log10()


def _unit(images: Tensor) -> Tensor:
    """Returns images in [0, 1], float32."""
    return images.float() / 255 if images.dtype == torch.uint8 else images.float()
