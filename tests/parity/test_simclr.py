"""The authors' step: one pass over both views, all other views of the batch as negatives, LARS by hand."""

from math import cos, pi

import torch
from torch.nn.functional import cross_entropy, normalize

from sanslabel.methods.simclr import SimCLR


def test_simclr_trains_as_its_authors_train(side_by_side):
    method = SimCLR(hidden=32, width=16)

    def authors(net, method):
        weights = [w for w in net.parameters() if w.requires_grad]
        momenta = [torch.zeros_like(w) for w in weights]

        def step(batch, clock):
            views = torch.cat([method.view(batch, 0), method.view(batch, 1)])
            z = normalize(net.projector(net.encoder(views)), dim=1)
            similar = (z @ z.T / 0.1).fill_diagonal_(-torch.inf)
            loss = cross_entropy(similar, torch.arange(2 * len(batch.index)).roll(len(batch.index)))
            gradients = torch.autograd.grad(loss, weights)
            done = (clock.step - 4) / (20 - 4)
            rate = 0.3 * 16 / 256 * ((clock.step + 1) / 4 if clock.step < 4 else 0.5 * (1 + cos(pi * done)))
            with torch.no_grad():
                for w, m, g in zip(weights, momenta, gradients, strict=True):
                    if w.ndim > 1:
                        g = g + 1e-6 * w
                        g = g * (1e-3 * w.norm() / g.norm())
                    m.mul_(0.9).add_(g)
                    w.sub_(rate * m)

        return step

    side_by_side(method, SimCLR.recipe, authors)
