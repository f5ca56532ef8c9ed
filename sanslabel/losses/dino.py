from __future__ import annotations

import torch
from torch import Tensor

from sanslabel.losses.chunking import chunk_size, large
from sanslabel.losses.precision import in_float32


@in_float32
def dino(student: Tensor, target: Tensor, temperature: float) -> Tensor:
    """Returns the cross-entropy between the teacher's distribution over outputs for one view and the student's for
    another.

    student: (V, N, K), logits of all views; target: (T, N, K), probabilities of the first T of them, which the caller
    detaches -> (N,), for every image the mean over t and v ≠ t of -Σ_K P_t log softmax(g_v/τ).
    ln K if the student is uniform, and never below the mean entropy of the targets. Caron et al. 2021, eq. 3.
    """
    if large(student.numel(), student.device):
        different = ~torch.eye(len(target), len(student), dtype=torch.bool, device=student.device)  # (T, V), t ≠ v
        return _Chunked.apply(student.contiguous(), target, different, temperature)  # pyright: ignore[reportReturnType]
    log_p = (student / temperature).log_softmax(dim=-1)
    cross = -torch.einsum("tnk,vnk->tvn", target, log_p)
    # A mask in place of slices would make the host wait for the device.
    pairs = [terms for t, row in enumerate(cross) for terms in (row[:t], row[t + 1 :])]
    return torch.cat(pairs).mean(dim=0)  # over T (V - 1) terms


class _Chunked(torch.autograd.Function):
    """The loss of `dino`, computed in chunks of images. The backward pass computes the softmax again, so that the
    gradient is the only tensor of the student's size. 10 views of 128 images with 65,536 outputs take 339 ms in chunks,
    and 920 ms at once. With s_v = g_v/τ, whose log-sum-exp is ln Z_v, a term is Σ_K P_t · ln Z_v - Σ_K P_t s_v."""

    @staticmethod
    def forward(ctx, student: Tensor, target: Tensor, different: Tensor, temperature: float) -> Tensor:
        weights = different.to(student.dtype) / different.sum()  # (T, V)
        mass = weights.T @ target.sum(dim=-1)  # (V, N), Σ_K P_t of the terms of v
        log_zs, products = [], []
        for logits, targets in _chunks(student, target):
            scores = logits / temperature  # (V, n, K)
            log_zs.append(scores.logsumexp(dim=-1))  # (V, n)
            products.append(torch.einsum("tnk,vnk,tv->n", targets, scores, weights))
        log_z = torch.cat(log_zs, dim=1)
        ctx.save_for_backward(student, target, weights, log_z - mass.log())
        ctx.temperature = temperature
        return (mass * log_z).sum(dim=0) - torch.cat(products)

    @staticmethod
    def backward(ctx, *gradients: Tensor):
        student, target, weights, shift = ctx.saved_tensors
        scale = (gradients[0] / ctx.temperature)[:, None]  # (N, 1)
        gradient, begin = torch.empty_like(student), 0
        with torch.autocast(student.device.type, enabled=False):
            for logits, targets in _chunks(student, target):
                chunk = slice(begin, begin := begin + logits.shape[1])
                p = (logits / ctx.temperature).sub_(shift[:, chunk, None]).exp_()  # (V, n, K)
                p.flatten(1).addmm_(weights.T, targets.flatten(1), alpha=-1)
                torch.mul(p, scale[chunk], out=gradient[:, chunk])
        return gradient, None, None, None


def _chunks(student: Tensor, target: Tensor):
    """Yields logits (V, n, K) and targets (T, n, K) of a few images at a time."""
    images = max(1, chunk_size(student.device) // (student.shape[0] * student.shape[2]))
    return zip(student.split(images, dim=1), target.split(images, dim=1), strict=True)
