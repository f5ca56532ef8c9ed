"""The authors' step: pairs in one batch, their layer of hard and random negatives pair by pair, SGD."""

import torch
from torch.nn.functional import normalize

from sanslabel import views
from sanslabel.methods.tracking import Tracking
from sanslabel.randomness import fold, uniform


def test_tracking_trains_as_its_authors_train(side_by_side):
    # Crops, since two views without them are often equal, and then it is open which of two candidates is harder.
    method = Tracking(hidden=32, width=16, margin=0.2, view=views.View(flip=0.5, crop=(0.3, 1.0)))

    def authors(net, method):
        weights = [w for w in net.parameters() if w.requires_grad]
        momenta = [torch.zeros_like(w) for w in weights]

        def step(batch, clock):
            n = len(batch.index)
            images = torch.cat([method.view(batch, 0), method.view(batch, 1)])
            z = normalize(net.projector(net.encoder(images)), dim=1)
            distance = -(z @ z.T)
            loss, hard = 0, 0 if clock.step < 2 else 2
            for i in range(n):
                keys = torch.tensor([fold(i, clock.key)])
                of_hardest, of_rest = uniform(keys, 4, 0)[0], uniform(keys, 2 * n, 1)[0]
                near = distance[i, n + i]
                violating = [j for j in range(2 * n) if j % n != i and near - distance[i, j] + method.margin > 0]
                if len(violating) > 4:
                    violating.sort(key=lambda j: distance[i, j].item())
                    hardest, rest = violating[:4], violating[4:]
                    hardest = [hardest[j] for j in of_hardest.argsort(descending=True)]
                    rest = sorted(rest + hardest[hard:], key=lambda j: -of_rest[j])
                    violating = hardest[:hard] + rest[: 4 - hard]
                for j in violating:
                    for anchor in (i, n + i):
                        loss = loss + (near - distance[anchor, j] + method.margin).relu()
            gradients = torch.autograd.grad(loss / (4 * n * 2), weights)
            lr = 0.001 * 0.1 ** (clock.step // 5)
            with torch.no_grad():
                for w, m, g in zip(weights, momenta, gradients, strict=True):
                    m.mul_(0.9).add_(g + 5e-4 * w if w.ndim > 1 else 2 * g)
                    w.sub_(lr * m)

        return step

    side_by_side(method, Tracking.recipe, authors, deviation="learning rate outside the momentum", warmup=0)
