from __future__ import annotations

import torch
from torch import Tensor

from sanslabel.losses.chunking import large, part
from sanslabel.losses.precision import in_float32


@in_float32
def dino(student: Tensor, target: Tensor, temperature: float) -> Tensor:
    """Cross-entropy between the teacher's distribution over outputs for one view and the student's for another.

    student: (V, N, K), logits of all views; target: (T, N, K), probabilities of the first T of them, which the caller
    detaches -> (N,), for every image the mean over t and v ≠ t of -Σ_K P_t log softmax(g_v/τ).
    ln K where the student is uniform, and never below the mean entropy of the targets. Caron et al. 2021, eq. 3.
    """
    if large(student.numel(), student.device):
        others = ~torch.eye(len(target), len(student), dtype=torch.bool, device=student.device)  # (T, V), t ≠ v
        return _ByImages.apply(student.contiguous(), target, others, temperature)  # pyright: ignore[reportReturnType]
    log_p = (student / temperature).log_softmax(dim=-1)
    cross = -torch.einsum("tnk,vnk->tvn", target, log_p)
    apart = [part for t, row in enumerate(cross) for part in (row[:t], row[t + 1 :])]  # a mask would be waited for
    return torch.cat(apart).mean(dim=0)  # over T (V - 1) terms


class _ByImages(torch.autograd.Function):
    """The same, some images after others, whose softmax the backward pass makes again: of the student's size there is
    its gradient alone. Of 10 views of 128 images with 65,536 outputs in 339 ms, and at once in 920. With s_v = g_v/τ,
    whose log-sum-exp is ln Z_v, a term is Σ_K P_t · ln Z_v - Σ_K P_t s_v."""

    @staticmethod
    def forward(ctx, student: Tensor, target: Tensor, others: Tensor, temperature: float) -> Tensor:
        weights = others.to(student.dtype) / others.sum()  # (T, V)
        mass = weights.T @ target.sum(dim=-1)  # (V, N), Σ_K P_t of the terms of v
        log_z, found = [], []
        for some, targets in _parts(student, target):
            scores = some / temperature  # (V, n, K)
            log_z.append(scores.logsumexp(dim=-1))  # (V, n)
            found.append(torch.einsum("tnk,vnk,tv->n", targets, scores, weights))
        whole = torch.cat(log_z, dim=1)
        ctx.save_for_backward(student, target, weights, whole - mass.log())
        ctx.temperature = temperature
        return (mass * whole).sum(dim=0) - torch.cat(found)

    @staticmethod
    def backward(ctx, *gradients: Tensor):
        student, target, weights, shift = ctx.saved_tensors
        scale = (gradients[0] / ctx.temperature)[:, None]  # (N, 1)
        found, begin = torch.empty_like(student), 0
        with torch.autocast(student.device.type, enabled=False):
            for some, targets in _parts(student, target):
                these = slice(begin, begin := begin + some.shape[1])
                p = (some / ctx.temperature).sub_(shift[:, these, None]).exp_()  # (V, n, K)
                p.flatten(1).addmm_(weights.T, targets.flatten(1), alpha=-1)
                torch.mul(p, scale[these], out=found[:, these])
        return found, None, None, None


def _parts(student: Tensor, target: Tensor):
    """Logits of all views (V, n, K) and targets (T, n, K) of some of the images."""
    images = max(1, part(student.device) // (student.shape[0] * student.shape[2]))
    return zip(student.split(images, dim=1), target.split(images, dim=1), strict=True)
