"""The softmax over very many candidates, without the matrix of their scores.

The softmax's normalizer is the partition function of the energies -cosine/τ; losses need its logarithm. Here it is
summed over chunks of the scores. Each chunk stays in the processor's cache, and the backward pass computes it again.
Memory then grows with the numbers of queries and candidates, not with their product. Computed at once, a loss keeps
several matrices of all scores at its peak, and most of its time goes to allocating that memory.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from sanslabel.losses.chunking import chunk_size
from sanslabel.losses.drawn_rows import sum_over_drawn


def log_partition(query: Tensor, candidates: Tensor, temperature: float) -> Tensor:
    """Returns ln Σⱼ exp(qᵢ·cⱼ/τ) of every query.

    query: (N, D), of unit length; candidates: (K, D), normalized inside, chunk by chunk -> (N,).
    """
    return _LogPartition.apply(query, candidates, temperature)  # pyright: ignore[reportReturnType]


def log_partition_of_drawn(query: Tensor, bank: Tensor, drawn: Tensor, temperature: float) -> Tensor:
    """Returns ln Σₖ exp(qᵢ·mᵢₖ/τ) of every query, over rows of the bank that are its own.

    query: (N, D), of unit length; bank: (n, D), normalized inside, without a gradient; drawn: (N, K) int64 -> (N,).
    """
    return sum_over_drawn(query, bank, drawn, temperature, lambda s: (s.logsumexp(dim=1), s.softmax(dim=1)))


def log_partition_of_others(z: Tensor, temperature: float) -> Tensor:
    """Returns ln Σ_{j≠i} exp(zᵢ·zⱼ/τ) of every row. Each score is computed once, for both rows of its pair.

    z: (N, D), of unit length -> (N,).
    """
    return _LogPartitionOfOthers.apply(z, temperature)  # pyright: ignore[reportReturnType]


class _LogPartition(torch.autograd.Function):
    """The logarithm of each query's Z. The query's gradient is the mean of the candidates under its softmax, divided by
    τ; the forward pass sums this mean along with Z."""

    @staticmethod
    def forward(ctx, query: Tensor, candidates: Tensor, temperature: float) -> Tensor:
        scaled, chunk_rows = query / temperature, max(256, chunk_size(query.device) // len(query))
        highest = query.new_full((len(query), 1), -torch.inf)  # the highest score so far
        z, weighted = query.new_zeros(len(query), 1), torch.zeros_like(query)  # relative to exp(highest)
        for chunk in candidates.split(chunk_rows):
            unit = normalize(chunk, dim=1)
            scores = scaled @ unit.T
            higher = torch.maximum(highest, scores.amax(dim=1, keepdim=True))
            weights, decay = scores.sub_(higher).exp_(), (highest - higher).exp_()
            z = z * decay + weights.sum(dim=1, keepdim=True)
            weighted = torch.addmm(weighted * decay, weights, unit)
            highest = higher
        log_z = highest + z.log()
        ctx.temperature, ctx.chunk_rows = temperature, chunk_rows
        # Candidates without a gradient, such as a memory, are not saved: they may be overwritten before the backward
        # pass.
        saved = candidates if ctx.needs_input_grad[1] else None
        ctx.save_for_backward(weighted / z, scaled, log_z, saved)
        return log_z[:, 0]

    @staticmethod
    def backward(ctx, *gradients: Tensor):
        mean, scaled, log_z, candidates = ctx.saved_tensors
        gradient, of_candidates = gradients[0][:, None], None
        if candidates is not None:
            with torch.autocast(mean.device.type, enabled=False):
                of_candidates = _of_candidates(scaled, candidates, log_z, gradient, ctx.chunk_rows)
        return gradient * mean / ctx.temperature, of_candidates, None


def _of_candidates(scaled: Tensor, candidates: Tensor, log_z: Tensor, gradient: Tensor, chunk_rows: int) -> Tensor:
    """Returns the gradient of the candidates, (K, D), through their normalization."""
    of_candidates = torch.empty_like(candidates)
    for chunk, out in zip(candidates.split(chunk_rows), of_candidates.split(chunk_rows), strict=True):
        length = torch.linalg.vector_norm(chunk, dim=1, keepdim=True).clamp(min=1e-12)
        unit = chunk / length
        weights = (scaled @ unit.T).sub_(log_z).exp_().mul_(gradient)
        toward = weights.T @ scaled
        out.copy_((toward - (toward * unit).sum(dim=1, keepdim=True) * unit) / length)
    return of_candidates


class _LogPartitionOfOthers(torch.autograd.Function):
    """Partition functions over all other rows. Let sᵢⱼ = zᵢ·zⱼ/τ, and gᵢ be the gradient of ln Zᵢ.

    The gradient of zᵢ is Σⱼ wᵢⱼ zⱼ/τ with the weights wᵢⱼ = gᵢ exp(sᵢⱼ)/Zᵢ + gⱼ exp(sᵢⱼ)/Zⱼ, which are symmetric like
    the scores.
    """

    @staticmethod
    def forward(ctx, z: Tensor, temperature: float) -> Tensor:
        log_z = z.new_full((len(z),), -torch.inf)
        for i, j, scores in _pairs(z, temperature):
            log_z[i] = torch.logaddexp(log_z[i], scores.logsumexp(dim=1))
            if i != j:
                log_z[j] = torch.logaddexp(log_z[j], scores.logsumexp(dim=0))
        ctx.temperature = temperature
        ctx.save_for_backward(z, log_z)
        return log_z

    @staticmethod
    def backward(ctx, *gradients: Tensor):
        z, log_z = ctx.saved_tensors
        (gradient,) = gradients
        of_z = torch.zeros_like(z)
        with torch.autocast(z.device.type, enabled=False):
            for i, j, scores in _pairs(z, ctx.temperature):
                weights = (scores - log_z[i, None]).exp_().mul_(gradient[i, None])
                weights += scores.sub_(log_z[j]).exp_().mul_(gradient[j])
                of_z[i].addmm_(weights, z[j])
                if i != j:
                    of_z[j].addmm_(weights.T, z[i])
        return of_z / ctx.temperature, None


def _pairs(z: Tensor, temperature: float):
    """Yields slices i and j of the rows, i not after j, and the scores between them. A row's score with itself is
    -inf."""
    side = int(chunk_size(z.device) ** 0.5)
    slices = [slice(start, start + side) for start in range(0, len(z), side)]
    for position, i in enumerate(slices):
        scaled = z[i] / temperature
        for j in slices[position:]:
            scores = scaled @ z[j].T
            yield i, j, scores.fill_diagonal_(-torch.inf) if i == j else scores
