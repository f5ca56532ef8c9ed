from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from sanslabel.losses.chunking import chunk_size, large
from sanslabel.losses.precision import in_float32

Negatives = Literal["both", "same", "other"]
"""the negatives: positions of all images, of the prediction's image only, or of the other images only"""


@in_float32
def candidate_scores(
    predicted: Tensor, targets: Tensor, positive: Tensor, negatives: Negatives = "both", first: int = 0
) -> tuple[Tensor, Tensor]:
    """Returns the dot products of every prediction with its candidates, and the index of the right candidate.

    predicted: (N, Q, D), Q predictions in each image; targets: (M, P, D), the embeddings of the P positions of every
    image, where the N images begin at index `first`; positive: (Q,) int64, the position that is predicted ->
    (N · Q, K) and (N · Q,) int64. K = M · P candidates for "both", P for "same"; for "other", M · P with -inf at the
    other positions of the prediction's image.
    """
    n, q, _ = predicted.shape
    p = targets.shape[1]
    if negatives == "same":
        return (predicted @ targets[first : first + n].mT).flatten(0, 1), positive.repeat(n)
    scores = (predicted.flatten(0, 1) @ targets.flatten(0, 1).T).view(n, q, -1)  # (N, Q, M P)
    image = torch.arange(first, first + n, device=scores.device)[:, None]  # (N, 1)
    right = image * p + positive  # (N, Q)
    if negatives == "other":
        place = torch.arange(scores.shape[2], device=scores.device)
        same = place // p == image[:, :, None]  # (N, 1, M P)
        scores = scores.masked_fill(same & (place != right[:, :, None]), float("-inf"))
    return scores.flatten(0, 1), right.flatten()


@in_float32
def predictive_coding(predicted: Tensor, targets: Tensor, positive: Tensor, negatives: Negatives = "both") -> Tensor:
    """Returns the cross-entropy of finding the predicted embedding among those of other places: InfoNCE of plain dot
    products.

    predicted: (N, Q, D); targets: (N, P, D); positive: (Q,) int64, each prediction's position among the P -> ().
    L = -log [ exp(ẑᵀz) / Σₗ exp(ẑᵀzₗ) ], the mean over predictions. L is ln K for ẑ = 0, with K = N · P candidates for
    negatives "both", P for "same" and (N - 1) · P + 1 for "other". ln K - L is a lower bound on the information that
    context and target share. van den Oord et al. 2018, eq. 4; Hénaff et al. 2020, eq. 1.
    """
    if negatives != "same" and large(predicted[..., 0].numel() * targets[..., 0].numel(), predicted.device):
        return _Chunked.apply(predicted, targets, positive, negatives)  # pyright: ignore[reportReturnType]
    scores, right = candidate_scores(predicted, targets, positive, negatives)
    return cross_entropy(scores, right)


class _Chunked(torch.autograd.Function):
    """The loss of `predictive_coding`, computed for a few images at a time. Their gradient is computed along with their
    scores, so no score is computed twice, and no matrix of all scores exists. At once, 128 images with 63 predictions
    and 49 patches of 512 numbers would take a GiB. Nearly all of the time goes to the three products. They are slower
    by a third if chunks are small enough for the cache."""

    @staticmethod
    def forward(ctx, predicted: Tensor, targets: Tensor, positive: Tensor, negatives: Negatives) -> Tensor:
        n, q, d = predicted.shape
        candidates, loss = targets.reshape(-1, d), predicted.new_zeros(())
        of_predicted, of_candidates = torch.empty_like(predicted), torch.zeros_like(candidates)
        images = max(1, 8 * chunk_size(predicted.device) // (q * len(candidates)))
        for first in range(0, n, images):
            chunk = slice(first, first + images)
            scores, right = candidate_scores(predicted[chunk], targets, positive, negatives, first)
            log_z = scores.logsumexp(dim=1, keepdim=True)
            loss += (log_z - scores.gather(1, right[:, None])).sum()
            gradient = scores.sub_(log_z).exp_()  # of cross-entropy: probabilities, minus 1 at the right candidate
            gradient.scatter_add_(1, right[:, None], gradient.new_full((len(right), 1), -1))
            of_predicted[chunk] = (gradient @ candidates).view(-1, q, d)
            of_candidates.addmm_(gradient.T, predicted[chunk].flatten(0, 1))
        ctx.save_for_backward(of_predicted.div_(n * q), of_candidates.view_as(targets).div_(n * q))
        return loss / (n * q)

    @staticmethod
    def backward(ctx, *gradients: Tensor):
        of_predicted, of_targets = ctx.saved_tensors
        return gradients[0] * of_predicted, gradients[0] * of_targets, None, None
