"""The authors' step: a pass for each view, three terms with their covariance matrices, LARS by hand."""

from math import cos, pi

import torch

from sanslabel.methods.vicreg import VICReg


def test_vicreg_trains_as_its_authors_train(side_by_side):
    method = VICReg(width=32)

    def authors(net, method):
        weights = list(net.parameters())
        momenta = [torch.zeros_like(w) for w in weights]

        def step(batch, clock):
            n = len(batch.index)
            x, y = (net.projector(net.encoder(method.view(batch, stream))) for stream in (0, 1))
            loss = 25 * (x - y).square().mean()
            for z in (x, y):
                z = z - z.mean(dim=0)
                short = 1 - (z.square().sum(dim=0) / (n - 1) + 1e-4).sqrt()
                covariance = z.T @ z / (n - 1)
                others = ~torch.eye(32, dtype=torch.bool)
                loss = loss + 25 * short.clamp(min=0).mean() / 2 + covariance[others].square().sum() / 32
            gradients = torch.autograd.grad(loss, weights)
            progress = (clock.step - 4) / (20 - 4)
            share = 0.5 * (1 + cos(pi * progress))
            lr = 0.2 * n / 256 * ((clock.step + 1) / 4 if clock.step < 4 else share + 0.001 * (1 - share))
            with torch.no_grad():
                for w, m, g in zip(weights, momenta, gradients, strict=True):
                    if w.ndim > 1:
                        g = g + 1e-6 * w
                        g = g * (1e-3 * w.norm() / g.norm())
                    m.mul_(0.9).add_(g)
                    w.sub_(lr * m)

        return step

    side_by_side(method, VICReg.recipe, authors, deviation="warm-up begins above 0")
