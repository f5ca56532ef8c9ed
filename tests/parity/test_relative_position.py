"""The step of the ResNet-50 reference: eight pairs with the center, L2 of kernels alone and five times stronger in the
head, dropout, warm-up and drops by epoch."""

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import cross_entropy, linear

from sanslabel.methods.relative_position import RelativePosition
from sanslabel.randomness import fold, integers


def reference(head_decay: float):
    def authors(net, method):
        first, norm, *_, last = net.classifier
        velocity = {name: torch.zeros_like(w) for name, w in net.named_parameters()}

        def step(batch, clock):
            view = method.view(batch, 0)  # cells of 10 pixels, patches of 8
            jitter = integers(batch.key, 18, 3, fold(0, 2)).view(-1, 2, 9).tolist()
            shown = []
            for image, (tops, lefts) in zip(view, jitter, strict=True):
                for place in range(9):
                    top, left = 10 * (place // 3) + tops[place], 10 * (place % 3) + lefts[place]
                    shown.append(image[:, top : top + 8, left : left + 8])
            cut = torch.stack(shown)
            mean, deviation = cut.mean((1, 2, 3), keepdim=True), cut.std((1, 2, 3), correction=0, keepdim=True)
            cut = ((cut - mean) / (4 * (deviation + 0.01)) + 0.5).clamp(0, 1)
            embedded = net.head(net.encoder(cut)).view(len(view), 9, -1)
            places = [place for place in range(9) if place != 4]
            pairs = torch.cat([torch.cat([e[4], e[place]])[None] for e in embedded for place in places])
            hidden = norm(linear(pairs, first.weight)).relu()
            hidden = hidden * (torch.rand(hidden.shape) >= 0.5) / 0.5
            loss = cross_entropy(last(hidden), torch.arange(8).repeat(len(view)))
            gradients = torch.autograd.grad(loss, list(net.parameters()))

            epoch = clock.step / 20 * 35
            rate = 0.1 * 16 / 256 * ((clock.step + 1) / 4 if clock.step < 4 else 0.1 ** ((epoch >= 15) + (epoch >= 25)))
            with torch.no_grad():
                for (name, w), gradient in zip(net.named_parameters(), gradients, strict=True):
                    decay = head_decay if name.startswith("classifier") else 1e-4
                    if w.ndim > 1:
                        gradient = gradient + decay * w
                    velocity[name].mul_(0.9).add_(gradient)
                    w.sub_(rate * velocity[name])

        return step

    return authors


RECIPE = RelativePosition.recipe
METHOD = replace(RelativePosition.under(RECIPE), width=8, hidden=16)


def test_relative_position_trains_as_its_reference_trains(side_by_side):
    side_by_side(
        METHOD,
        RECIPE,
        reference(5e-4),
        image_size=30,
        deviation="warm-up begins above 0, standardized patches are clamped",
    )


def test_the_decay_of_the_head_shows(side_by_side):
    with pytest.raises(AssertionError):
        side_by_side(METHOD, RECIPE, reference(1e-4), image_size=30)
