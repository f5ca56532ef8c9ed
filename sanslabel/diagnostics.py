"""Measures of embeddings that need no labels: how far they are from having collapsed.

Each takes a matrix (N, D) of any float type, computes without a gradient, and returns a scalar tensor on the matrix's
device, float32 unless said. They run every few steps: (256, 128) takes 0.1 to 0.7 ms on one CPU core.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

WATCHED = 256
"""rows of an embedding that are measured while it is trained"""
AMONG = 4096
"""negatives that the hardest tenth is told of, at most"""
NARROW = 128
"""columns up to which LiDAR is: its two decompositions take 3 ms there, and 20 of 256 columns"""


def measures(z: Tensor, positive: Tensor | None = None) -> dict[str, Tensor]:
    """What is watched of an embedding while it is trained, by name: (N, D), and of what belongs together with each
    row, (N, D), where there is such. Of the first 256 rows; `full_rank` is what the effective rank cannot exceed."""
    z = z[:WATCHED].float()
    found = {
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
        return found
    positive = positive[:WATCHED].float()
    found["alignment"] = alignment(z, positive)
    if z.shape[1] <= NARROW and len(z) > 1:
        found["lidar"] = lidar(torch.stack([z, positive], dim=1))
    return found


@torch.no_grad()
def spread(z: Tensor) -> Tensor:
    """The standard deviation of the normalized embedding over the samples, mean over dimensions, times √D.

    About 1 for embeddings spread evenly over the sphere, 0 when all are equal; blind to the loss of some dimensions,
    which `effective_rank` sees. Chen and He 2021 (SimSiam), section 4.1.
    """
    return F.normalize(z.float(), dim=1).std(dim=0, correction=0).mean() * z.shape[1] ** 0.5


@torch.no_grad()
def effective_rank(z: Tensor, epsilon: float = 1e-7) -> Tensor:
    """exp(-Σ pₖ ln pₖ) of the singular values' shares pₖ = σₖ / Σσ + ε, uncentered: RankMe, float64.

    From 1 (one direction, or all zeros) to min(N, D); nan where an embedding is not finite. Garrido
    et al. 2023, equation 2.
    """
    return _count(spectrum(z), epsilon)


@torch.no_grad()
def spectrum(z: Tensor) -> Tensor:
    """The singular values (min(N, D),), the largest first, uncentered, float64; nan where an embedding is not
    finite. What `effective_rank` is of; a cliff in it is a dimensional collapse (Jing et al. 2022)."""
    # The eigenvalues of the smaller Gram matrix are the squared singular values and cost a third of them. Squaring
    # halves the digits: in float32 a matrix of rank one of 128 columns would have an effective rank of 1.06.
    z = _exact(z)
    gram = z @ z.T if z.shape[0] < z.shape[1] else z.T @ z
    if not gram.isfinite().all():  # the solver would raise, and a watched embedding may well be infinite
        return gram.new_full((len(gram),), torch.nan)
    return torch.linalg.eigvalsh(gram.cpu()).flip(0).clamp(min=0).sqrt()


@torch.no_grad()
def alpha_req(z: Tensor) -> Tensor:
    """The exponent α of the covariance's eigenvalues, λᵢ ∝ i^-α: minus the slope of the least squares of ln λ over
    ln i, over the middle of the spectrum, i from a twentieth to half of the rank, float64.

    Near 1 for good features; far above it few directions have all the variance, below it the spectrum is too flat. nan
    where fewer than three eigenvalues are left. Agrawal et al. 2022, section 3.
    """
    z = _exact(z)
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
def lidar(z: Tensor, delta: float = 1e-4, epsilon: float = 1e-8) -> Tensor:
    """The effective rank of what tells images apart, in the measure of what tells the views of one apart: exp of the
    entropy of the eigenvalues' shares, of Σ_w^-½ Σ_b Σ_w^-½, float64. From 1 to min(D, n - 1).

    z: (n, q, D), q views of each of n images; Σ_b is the covariance of the images' means, Σ_w that of views about
    them, with `delta` on its diagonal; nan where an embedding is not finite, or so large that `delta` is lost beside
    it. Thilak et al. 2024, section 3.
    """
    z = _exact(z)
    if not z.isfinite().all():  # the solver would raise
        return z.new_full((), torch.nan)
    n, q, _ = z.shape
    means = z.mean(dim=1)  # (n, D)
    between = means.T.cov()
    about = (z - means[:, None]).flatten(0, 1)  # (n q, D)
    within = about.T @ about / (n * (q - 1)) + delta * torch.eye(z.shape[2], dtype=z.dtype, device=z.device)
    values, axes = torch.linalg.eigh(within.cpu())
    whitened = axes / values.sqrt()
    between = whitened.T @ between.cpu() @ whitened
    if not between.isfinite().all():
        return z.new_full((), torch.nan)
    return _count(torch.linalg.eigvalsh(between).clamp(min=0), epsilon)


def _count(values: Tensor, epsilon: float) -> Tensor:
    """exp of the entropy of the values' shares, (K,) -> (): how many of them matter."""
    share = values / values.sum().clamp(min=torch.finfo(values.dtype).tiny) + epsilon
    return torch.exp(-(share * share.log()).sum())


def _exact(z: Tensor) -> Tensor:
    """In float64, which MPS has not."""
    return (z.cpu() if z.device.type == "mps" else z).double()


@torch.no_grad()
def mean_cosine(z: Tensor) -> Tensor:
    """The mean cosine of pairs of different embeddings: 1 when all point one way, about 0 when spread evenly.

    nan for a single embedding.
    """
    if len(z) < 2:
        return z.new_full((), torch.nan)
    unit = F.normalize(z.float(), dim=1)
    own = unit.square().sum()  # of each with itself: 1, or 0 where an embedding is 0
    return (unit.sum(dim=0).square().sum() - own) / (len(z) * (len(z) - 1))


@torch.no_grad()
def dead_dimensions(z: Tensor) -> Tensor:
    """The share of dimensions whose standard deviation over the samples is below a thousandth of the largest one: 1
    where all embeddings are equal."""
    deviation = z.float().std(dim=0, correction=0)
    return (deviation <= 1e-3 * deviation.max()).float().mean()


@torch.no_grad()
def participation_ratio(z: Tensor) -> Tensor:
    """(Σλ)² / Σλ² of the covariance's eigenvalues λ: a count of the directions that hold the variance.

    D where all directions have the same variance, 1 where one has all of it, 0 where there is none.
    """
    shifted = z.float() - z[0].float()  # equal rows become zeros, which subtracting their rounded mean would not give
    # Scaled, so that the fourth powers below neither overflow nor vanish. tr C = Σλ and ‖C‖² = Σλ²: no eigenvalues.
    scaled = shifted / shifted.abs().amax().clamp(min=torch.finfo(torch.float32).tiny)
    centered = scaled - scaled.mean(dim=0)
    gram = centered @ centered.T if len(centered) < centered.shape[1] else centered.T @ centered
    return gram.trace().square() / gram.square().sum().clamp(min=torch.finfo(torch.float32).tiny)


@torch.no_grad()
def alignment(a: Tensor, b: Tensor) -> Tensor:
    """The mean squared distance of paired, normalized embeddings: 0 where views agree, 4 where they are opposite.

    a, b: (N, D). Wang and Isola 2020, with α = 2.
    """
    return (F.normalize(a.float(), dim=1) - F.normalize(b.float(), dim=1)).square().sum(dim=1).mean()


@torch.no_grad()
def uniformity(z: Tensor) -> Tensor:
    """ln of the mean of exp(-2 ‖zᵢ - zⱼ‖²) over pairs i < j of normalized embeddings.

    0 when all are equal, towards -4 when spread evenly over a sphere of many dimensions. Wang and Isola 2020, with
    t = 2. Holds N² numbers, 256 MiB at N = 8,192, so hand it a sample of a large set; nan for a single embedding.
    """
    z = F.normalize(z.float(), dim=1)
    squared = (2 - 2 * (z @ z.T)).clamp_(min=0)
    closeness = squared.mul_(-2).exp_().fill_diagonal_(0)
    return (closeness.sum() / (len(z) * (len(z) - 1))).log() if len(z) > 1 else z.new_full((), torch.nan)


@torch.no_grad()
def hardest_tenth(query: Tensor, negatives: Tensor, temperature: float, own: Tensor | None = None) -> Tensor:
    """The share of the softmax over negatives that the hardest tenth of them takes: 0.1 where all repel a query alike,
    towards 1 where a few do. The mean over the first 64 queries; of more than 4,096 negatives every so many are looked
    at: among 65,536 that takes 3 ms, and all of them 86. Robinson et al. 2021 weigh negatives by it.

    query: (N, D); negatives: (K, D), both normalized inside; own: (N,) int64, each query's row in `negatives` that is
    none, for it is its own image.
    """
    query = query[:64]
    places = torch.arange(0, len(negatives), -(-len(negatives) // AMONG), device=negatives.device)
    negatives = F.normalize(negatives[places].float(), dim=1)
    logits = F.normalize(query.float(), dim=1) @ negatives.T / temperature
    if own is not None:
        logits.masked_fill_(places == own[: len(query), None], float("-inf"))
    return share_of_tenth(logits)


@torch.no_grad()
def share_of_tenth(logits: Tensor) -> Tensor:
    """The share of the softmax that the largest tenth of the logits takes, the mean over rows, (N, K): what
    `hardest_tenth` says of negatives whose logits are no cosines; -inf for what is none."""
    largest = logits.float().softmax(dim=1).topk(-(-logits.shape[1] // 10), dim=1).values
    tenth = (logits > float("-inf")).sum(dim=1, keepdim=True) / 10
    return largest.where(torch.arange(largest.shape[1], device=logits.device) < tenth, 0).sum(dim=1).mean()


@torch.no_grad()
def usage(assignments: Tensor) -> Tensor:
    """How many prototypes are in use: exp(-Σ qₖ ln qₖ) of the mean assignment q, its perplexity.

    assignments: (N, K), or (K,) of shares, not negative; scaled to sum to 1 -> K where all are used alike, 1 where one
    takes every sample. nan where nothing is assigned.
    """
    share = assignments.float().reshape(-1, assignments.shape[-1]).mean(dim=0)
    share = share / share.sum()
    return torch.exp(-torch.special.xlogy(share, share).sum())


@torch.no_grad()
def spread_by_place(tokens: Tensor, places: Tensor, patches: int) -> Tensor:
    """The standard deviation of tokens over images, place by place and then pooled over places, mean over dimensions.

    About 1 where tokens of unit variance are about their images, 0 where they are about their places alone: the
    collapse of token predictors, to which the deviation over all tokens is blind.

    tokens: (N, M, D), at places (N, M) int64 among `patches`. nan where no place is seen twice.
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
    """How much images differ from each other: the standard deviation of a pixel over them, the mean over pixels.

    images: (N, C, H, W) in [0, 1], or of bytes, which are taken to be in [0, 255]. 0 where all are the same.
    """
    return _unit(images).std(dim=0, correction=0).mean()


@torch.no_grad()
def contrast(images: Tensor) -> Tensor:
    """How much there is to see in images, as `variation` takes them: the standard deviation of the pixels of one, the
    mean over images. 0 where each is of one color, nan for images of one pixel, which are points."""
    pixels = _unit(images).flatten(2)
    return pixels.std(dim=2, correction=0).mean() if pixels.shape[2] > 1 else pixels.new_full((), torch.nan)


def _unit(images: Tensor) -> Tensor:
    return images.float() / 255 if images.dtype == torch.uint8 else images.float()
