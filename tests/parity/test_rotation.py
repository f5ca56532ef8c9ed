"""VISSL's step: one random rotation of each image, SGD whose weight decay spares BatchNorm alone, drops by epoch."""

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from sanslabel.methods.rotation import Rotation
from sanslabel.randomness import integers


def test_rotation_trains_as_its_reference_trains(side_by_side):
    def authors(net, method):
        norms = [w for m in net.modules() if isinstance(m, nn.BatchNorm2d) for w in m.parameters()]
        others = [w for w in net.parameters() if all(w is not norm for norm in norms)]
        sgd = torch.optim.SGD([{"params": others, "weight_decay": 1e-4}, {"params": norms}], lr=0.1, momentum=0.9)

        def step(batch, clock):
            label = integers(batch.key, 1, 4, 1)[:, 0]
            copies = [
                torch.rot90(image, int(quarters), (1, 2))
                for image, quarters in zip(method.view(batch, 0), label, strict=True)
            ]
            epoch = clock.step / 20 * 105
            for group in sgd.param_groups:
                group["lr"] = 0.1 * 16 / 256 * 0.1 ** sum(epoch >= drop for drop in (30, 60, 90, 100))
            sgd.zero_grad()
            cross_entropy(net.classifier(net.encoder(torch.stack(copies))), label).backward()
            sgd.step()

        return step

    recipe = Rotation.recipe
    side_by_side(
        Rotation.under(recipe), recipe, authors, image_size=16, warmup=0, deviation="mirrored before the rotation"
    )
