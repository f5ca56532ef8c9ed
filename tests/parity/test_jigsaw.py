"""VISSL's step: the shuffled tiles go through the network, SGD whose weight decay spares BatchNorm alone, a warm-up
from a quarter of the learning rate, drops by epoch."""

from dataclasses import replace

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from sanslabel.methods.jigsaw import Jigsaw
from sanslabel.randomness import fold, integers


def test_jigsaw_trains_as_its_reference_trains(side_by_side):
    def authors(net, method):
        norms = [w for m in net.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d) for w in m.parameters()]
        others = [w for w in net.parameters() if all(w is not norm for norm in norms)]
        sgd = torch.optim.SGD([{"params": others, "weight_decay": 1e-4}, {"params": norms}], lr=0.1, momentum=0.9)

        def step(batch, clock):
            view = method.view(batch, 0)  # cells of 10 pixels, tiles of 8
            jitter = integers(batch.key, 18, 3, fold(0, 2)).view(-1, 2, 9).tolist()
            label = integers(batch.key, 1, 20, 1)[:, 0]
            shown = []
            for image, (tops, lefts), permutation in zip(view, jitter, net.permutations[label], strict=True):
                for tile in permutation.tolist():
                    top, left = 10 * (tile // 3) + tops[tile], 10 * (tile % 3) + lefts[tile]
                    shown.append(image[:, top : top + 8, left : left + 8])
            cut = torch.stack(shown)
            mean, deviation = cut.mean((1, 2, 3), keepdim=True), cut.std((1, 2, 3), correction=0, keepdim=True)
            cut = ((cut - mean) / (4 * (deviation + 0.01)) + 0.5).clamp(0, 1)
            embedded = net.head(net.encoder(cut))
            epoch = clock.step / 20 * 105
            rising = 0.25 + 0.75 * (clock.step + 1) / 4
            factor = rising if clock.step < 4 else 0.1 ** sum(epoch >= drop for drop in (30, 60, 90, 100))
            for group in sgd.param_groups:
                group["lr"] = 0.1 * 16 / 256 * factor
            sgd.zero_grad()
            cross_entropy(net.classifier(embedded.view(len(view), -1)), label).backward()
            sgd.step()

        return step

    recipe = Jigsaw.recipe
    method = replace(Jigsaw.under(recipe), permutations=20, width=8, hidden=16)
    side_by_side(
        method,
        recipe,
        authors,
        image_size=30,
        deviation="warm-up by step, tiles standardized, the paper's hidden layer",
    )
