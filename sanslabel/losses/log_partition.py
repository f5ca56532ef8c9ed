"""The softmax over very many candidates, without the matrix of their scores.

Its normalizer is the partition function of the energies -cosine/τ, of which losses need the logarithm. Here it is
summed over one part of the scores after the other, each of which stays in the processor's cache, and which the backward
pass makes again where it needs them: memory grows with the rows, not with their product. Written out, a loss holds
several matrices of all scores at its peak, and most of its time is spent on getting that memory.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from sanslabel.losses.chunking import part as part_of


def log_partition(query: Tensor, candidates: Tensor, temperature: float) -> Tensor:
    """ln Σⱼ exp(qᵢ·cⱼ/τ) of every query.

    query: (N, D), of unit length; candidates: (K, D), normalized inside, part by part -> (N,).
    """
    return _LogPartition.apply(query, candidates, temperature)  # pyright: ignore[reportReturnType]


def log_partition_of_others(z: Tensor, temperature: float) -> Tensor:
    """ln Σ_{j≠i} exp(zᵢ·zⱼ/τ) of every row. Both rows of a pair use their score, so that it is made once.

    z: (N, D), of unit length -> (N,).
    """
    return _LogPartitionOfOthers.apply(z, temperature)  # pyright: ignore[reportReturnType]


class _LogPartition(torch.autograd.Function):
    """The gradient of a query is the mean of the candidates under its softmax, which is summed along with Z."""

    @staticmethod
    def forward(ctx, query: Tensor, candidates: Tensor, temperature: float) -> Tensor:
        scaled, rows = query / temperature, max(256, part_of(query.device) // len(query))
        highest = query.new_full((len(query), 1), -torch.inf)  # of the scores so far
        z, weighted = query.new_zeros(len(query), 1), torch.zeros_like(query)  # relative to exp(highest)
        for part in candidates.split(rows):
            unit = normalize(part, dim=1)
            scores = scaled @ unit.T
            higher = torch.maximum(highest, scores.amax(dim=1, keepdim=True))
            weights, kept = scores.sub_(higher).exp_(), (highest - higher).exp_()
            z = z * kept + weights.sum(dim=1, keepdim=True)
            weighted = torch.addmm(weighted * kept, weights, unit)
            highest = higher
        log_z = highest + z.log()
        ctx.temperature, ctx.rows = temperature, rows
        # A memory has no gradient and may be written to before the backward pass.
        remade = candidates if ctx.needs_input_grad[1] else None
        ctx.save_for_backward(weighted / z, scaled, log_z, remade)
        return log_z[:, 0]

    @staticmethod
    def backward(ctx, *gradients: Tensor):
        mean, scaled, log_z, candidates = ctx.saved_tensors
        gradient, of_candidates = gradients[0][:, None], None
        if candidates is not None:
            with torch.autocast(mean.device.type, enabled=False):
                of_candidates = _of_candidates(scaled, candidates, log_z, gradient, ctx.rows)
        return gradient * mean / ctx.temperature, of_candidates, None


def _of_candidates(scaled: Tensor, candidates: Tensor, log_z: Tensor, gradient: Tensor, rows: int) -> Tensor:
    """(K, D), through their normalization."""
    found = torch.empty_like(candidates)
    for part, out in zip(candidates.split(rows), found.split(rows), strict=True):
        length = torch.linalg.vector_norm(part, dim=1, keepdim=True).clamp(min=1e-12)
        unit = part / length
        weights = (scaled @ unit.T).sub_(log_z).exp_().mul_(gradient)
        toward = weights.T @ scaled
        out.copy_((toward - (toward * unit).sum(dim=1, keepdim=True) * unit) / length)
    return found


class _LogPartitionOfOthers(torch.autograd.Function):
    """With sᵢⱼ = zᵢ·zⱼ/τ and the gradient gᵢ of ln Zᵢ, that of zᵢ is Σⱼ wᵢⱼ zⱼ/τ with the weights
    wᵢⱼ = gᵢ exp(sᵢⱼ)/Zᵢ + gⱼ exp(sᵢⱼ)/Zⱼ, which are symmetric as the scores are."""

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
        found = torch.zeros_like(z)
        with torch.autocast(z.device.type, enabled=False):
            for i, j, scores in _pairs(z, ctx.temperature):
                weights = (scores - log_z[i, None]).exp_().mul_(gradient[i, None])
                weights += scores.sub_(log_z[j]).exp_().mul_(gradient[j])
                found[i].addmm_(weights, z[j])
                if i != j:
                    found[j].addmm_(weights.T, z[i])
        return found / ctx.temperature, None


def _pairs(z: Tensor, temperature: float):
    """Slices i and j of the rows, i before j or equal to it, and the scores of one with the other; -inf of a row with
    itself."""
    side = int(part_of(z.device) ** 0.5)
    slices = [slice(start, start + side) for start in range(0, len(z), side)]
    for position, i in enumerate(slices):
        scaled = z[i] / temperature
        for j in slices[position:]:
            scores = scaled @ z[j].T
            yield i, j, scores.fill_diagonal_(-torch.inf) if i == j else scores
