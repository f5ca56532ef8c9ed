"""The authors' step: one pass over both views, the sum of both directions' losses, LARS with the learning rate inside
the momentum."""

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
            n = len(batch.index)
            views = torch.cat([method.view(batch, 0), method.view(batch, 1)])
            a, b = normalize(net.projector(net.encoder(views)), dim=1).chunk(2)
            same = torch.eye(n, dtype=torch.bool)
            loss = 0
            for one, other in ((a, b), (b, a)):
                near = (one @ one.T / 0.1).masked_fill(same, -torch.inf)
                loss = loss + cross_entropy(torch.cat([one @ other.T / 0.1, near], dim=1), torch.arange(n))
            gradients = torch.autograd.grad(loss, weights)
            progress = (clock.step - 4) / (20 - 4)
            lr = 0.3 * n / 256 * ((clock.step + 1) / 4 if clock.step < 4 else 0.5 * (1 + cos(pi * progress)))
            with torch.no_grad():
                for w, m, g in zip(weights, momenta, gradients, strict=True):
                    rate = lr
                    if w.ndim > 1:
                        g = g + 1e-6 * w
                        rate = lr * 1e-3 * w.norm() / g.norm()
                    m.mul_(0.9).add_(rate * g)
                    w.sub_(m)

        return step

    side_by_side(method, SimCLR.recipe, authors, deviation="warm-up begins above 0")
