"""The authors' step: LARC on all weights, prototypes that stay for an epoch, and a queue that starts late."""

from dataclasses import replace
from math import cos, pi

import torch
from torch.nn.functional import log_softmax, normalize

from sanslabel.methods.swav import SwAV
from sanslabel.views import SWAV

SAMPLES, CROPS, QUEUE, FIRST = 16, 4, 32, 2
"""of a batch, of a sample, in the queue of a crop, and the epoch in which the queue begins"""


def test_swav_trains_as_its_authors_train(side_by_side):
    view = replace(SWAV, local_crops=CROPS - 2)
    method = SwAV(prototypes=24, hidden=32, width=16, queue=QUEUE, queue_epoch=FIRST, view=view)

    def authors(net, method):
        weights = list(net.parameters())
        momenta = [torch.zeros_like(w) for w in weights]
        queues, pushed = [queue.embeddings for queue in net.queues], 0

        def codes(scores):
            q = (scores / 0.05).exp().T  # (K, B)
            for _ in range(3):
                q = q / q.sum(dim=1, keepdim=True) / len(q)
                q = q / q.sum(dim=0, keepdim=True) / q.shape[1]
            return (q * q.shape[1]).T[-SAMPLES:]

        def step(batch, clock):
            nonlocal pushed
            crops = [crop.images for crop in method.view.inputs(batch)]
            maps = torch.cat([net.encoder(torch.cat(size)) for size in (crops[:2], crops[2:])])
            z = normalize(net.projector(maps), dim=1)
            scores, z = (z @ net.prototypes.weight.T).chunk(CROPS), z.detach().chunk(CROPS)
            loss = 0
            for crop in (0, 1):
                with torch.no_grad():
                    full = [queues[crop] @ net.prototypes.weight.T] if pushed * SAMPLES >= QUEUE else []
                    q = codes(torch.cat([*full, scores[crop]]))
                for other in set(range(CROPS)) - {crop}:
                    loss = loss - (q * log_softmax(scores[other] / 0.1, dim=1)).sum(dim=1).mean() / (CROPS - 1) / 2
            gradients = torch.autograd.grad(loss, weights)
            wave = 0.001 + 0.999 * 0.5 * (1 + cos(pi * (clock.step - 4) / (20 - 4)))
            rate = 0.3 * 16 / 256 * (1 / 16 + 15 / 16 * (clock.step + 1) / 4 if clock.step < 4 else wave)
            with torch.no_grad():
                for w, m, g in zip(weights, momenta, gradients, strict=True):
                    if w is net.prototypes.weight and clock.step < 4:
                        continue
                    g = g + 1e-6 * w
                    trust = 1e-3 * w.norm() / g.norm() if w.any() else 1.0  # theirs: / (|g| + 1e-6 |w| + 1e-8)
                    m.mul_(0.9).add_(trust * g)
                    w.sub_(rate * m)
                net.prototypes.weight.copy_(normalize(net.prototypes.weight, dim=1))
                if clock.epoch >= FIRST:
                    place = pushed * SAMPLES % QUEUE  # the rows' order in a queue has no effect
                    for queue, embedding in zip(queues, z, strict=False):
                        queue[place : place + SAMPLES] = embedding
                    pushed += 1
                    for queue in net.queues:
                        queue.cursor.fill_(pushed * SAMPLES % QUEUE)

        return step

    deviation = "warm-up a step ahead, LARC's ratio by the norm of gradient plus decay"
    side_by_side(method, SwAV.recipe, authors, image_size=16, deviation=deviation)
