"""The authors' step: the teacher moves before its pass, BatchNorm in groups of the batch, keys that were shuffled over
the groups, a queue, SGD with momentum."""

from math import cos, pi

import pytest
import torch
from torch.nn.functional import cross_entropy, normalize

from sanslabel.methods.moco import MoCo
from sanslabel.randomness import fold, permutation

GROUPS, LENGTH = 4, 48
"""GPUs of the authors, and keys in the queue, which the run fills six times and with a remainder"""


@pytest.mark.parametrize("symmetric", [False, True])
def test_moco_trains_as_its_authors_train(side_by_side, symmetric):
    """symmetric: as in the authors' notebook, whose loss is the sum of both directions."""
    method = MoCo(hidden=32, width=16, queue=LENGTH, groups=GROUPS, symmetric=symmetric)

    def authors(net, method):
        student = [*net.encoder.parameters(), *net.projector.parameters()]
        teacher = [*net.teacher.encoder.parameters(), *net.teacher.projector.parameters()]
        sgd = torch.optim.SGD(student, 0.03 * 16 / 256, momentum=0.9, weight_decay=1e-4)
        net.queue.embeddings.copy_(normalize(net.queue.embeddings, dim=1))  # it started in float32
        place = 0

        def follow():
            for k, q in zip(teacher, student, strict=True):
                k.data = k.data * 0.999 + q.data * (1 - 0.999)

        def embedded(network, images, groups):
            """The embeddings of the images, each group of which is on a GPU of its own."""
            z = [normalize(network.projector(network.encoder(images[group])), dim=1) for group in groups]
            return torch.cat(z)[torch.cat(groups).argsort()]

        def step(batch, clock):
            nonlocal place
            n = len(batch.index)
            for group in sgd.param_groups:
                group["lr"] = 0.03 * n / 256 * 0.5 * (1 + cos(pi * clock.step / 20))
            follow()
            images = [method.view(batch, 0), method.view(batch, 1)]
            groups = [torch.arange(n)[g::GROUPS] for g in range(GROUPS)]
            negatives, loss, keys = net.queue.embeddings.clone(), 0, []
            queries = [embedded(net, images[i], groups) for i in range(1 + symmetric)]
            for i, q in enumerate(queries):
                order = permutation(fold(clock.key, i), n)
                with torch.no_grad():
                    k = embedded(net.teacher, images[1 - i], [order[g::GROUPS] for g in range(GROUPS)])
                scores = torch.cat([(q * k).sum(dim=1, keepdim=True), q @ negatives.T], dim=1) / 0.2
                loss = loss + cross_entropy(scores, torch.zeros(n, dtype=torch.long)) / (1 + symmetric)
                keys.append(k)
            for k in torch.cat(keys):
                net.queue.embeddings[place] = k
                place = (place + 1) % LENGTH
            net.queue.cursor.fill_(place)
            sgd.zero_grad()
            loss.backward()
            sgd.step()
            if clock.step == 19:
                follow()  # the authors' 21st step would begin with it

        return step

    deviation = "cosine by step, statistics of all groups" + ", mean of directions" * symmetric
    side_by_side(method, MoCo.recipe, authors, deviation=deviation, warmup=0)
