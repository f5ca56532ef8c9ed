"""The authors' step: all pairs of frames in one matrix, the masks of their loss, Adam."""

import torch
from torch.nn.functional import normalize

from sanslabel.methods.time_contrastive import TimeContrastive


def test_time_contrastive_trains_as_its_authors_train(side_by_side):
    method = TimeContrastive(hidden=32, width=16, frames=16)

    def authors(net, method):
        weights = [w for w in net.parameters() if w.requires_grad]
        first, second = ([torch.zeros_like(w) for w in weights] for _ in range(2))

        def step(batch, clock):
            n = len(batch.index)
            z = normalize(net.projector(net.encoder(method.view(batch, 0))), dim=1)
            distance = (z[:, None] - z).square().sum(dim=2)
            gap = (batch.time[:, None] - batch.time).abs() * 29
            same = batch.group[:, None] == batch.group
            near = same & (gap.round() <= 6) & ~torch.eye(n, dtype=torch.bool)
            far = same & (gap.round() > 12)
            # (anchor, positive, negative): the smallest distance beyond that of the positive, else the largest of all
            beyond = far[:, None, :] & (distance[:, None, :] > distance[:, :, None])
            outside = torch.where(beyond, distance[:, None, :], torch.inf).amin(dim=2)
            inside = torch.where(far, distance, 0).amax(dim=1, keepdim=True).expand(n, n)
            negative = torch.where(beyond.any(dim=2), outside, inside)
            near &= far.any(dim=1, keepdim=True)
            loss = ((0.2 + distance - negative).clamp(min=0) * near).sum() / near.sum()
            gradients = torch.autograd.grad(loss, weights)
            with torch.no_grad():
                for w, m, v, g in zip(weights, first, second, gradients, strict=True):
                    t = clock.step + 1
                    m.mul_(0.9).add_(0.1 * g)
                    v.mul_(0.999).add_(0.001 * g * g)
                    w.mul_(1 - 1e-3 * 1e-6 * (w.ndim > 1))
                    w.sub_(1e-3 * (m / (1 - 0.9**t)) / ((v / (1 - 0.999**t)).sqrt() + 1e-8))

        return step

    side_by_side(
        method,
        TimeContrastive.recipe,
        authors,
        warmup=0,
        clips=True,
        deviation="several clips in a batch, no anchors without a negative, decoupled weight decay, another encoder",
    )
