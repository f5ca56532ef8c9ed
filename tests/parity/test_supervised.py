"""torchvision's step: SGD with weight decay on everything, drops after a third and two thirds of the epochs."""

import torch
from torch.nn.functional import cross_entropy

from sanslabel.methods.supervised import Supervised


def test_supervised_trains_as_torchvision_trains(side_by_side):
    def authors(net, method):
        sgd = torch.optim.SGD(net.parameters(), lr=0.1 * 16 / 256, momentum=0.9, weight_decay=1e-4)

        def step(batch, clock):
            for group in sgd.param_groups:
                group["lr"] = 0.1 * 16 / 256 * 0.1 ** (clock.step / 20 * 90 // 30)
            sgd.zero_grad()
            cross_entropy(net.classifier(net.encoder(method.view(batch, 0))), batch.labels()).backward()
            sgd.step()

        return step

    side_by_side(Supervised(), Supervised.recipe, authors, image_size=16, warmup=0)
