"""The authors' step: AdamW whose decay rises, clipping by tensor, outputs that stay for an epoch, a colder teacher."""

from dataclasses import replace
from math import cos, pi

import numpy as np
import torch
from torch.nn.functional import linear, log_softmax, normalize

from sanslabel.encoders import vit
from sanslabel.methods.dino import DINO
from sanslabel.views import DINO as VIEW

CROPS, CLIP = 4, 0.3
"""of a sample; the norm from which gradients are clipped, low enough for some to be"""


def test_dino_trains_as_its_authors_train(side_by_side, monkeypatch):
    monkeypatch.setitem(vit.SHAPES, "vit_micro", vit.Shape(depth=1, width=16, heads=2))
    narrow = dict(outputs=24, hidden=32, bottleneck=16, view=replace(VIEW, local_crops=CROPS - 2))
    method = DINO(**narrow, teacher_temperature=0.07, sharp_epochs=3)
    clipped = []

    def authors(net, method):
        student = {name: w for name, w in net.named_parameters() if w.requires_grad}
        averages = dict(net.teacher.named_parameters())
        vectors = [w for w in student.values() if w.ndim == 1]
        others = [w for w in student.values() if w.ndim > 1]
        optimizer = torch.optim.AdamW([{"params": others}, {"params": vectors, "weight_decay": 0.0}])
        temperatures = [*np.linspace(0.04, 0.07, 3), 0.07, 0.07]

        def outputs(part, crops):
            sizes = [size for size in (crops[:2], crops[2:]) if size]
            z = part.projector(torch.cat([part.encoder(torch.cat(size)) for size in sizes]))
            return linear(normalize(z, dim=1), normalize(part.directions.weight, dim=1))

        def wave(start, end, step, steps):
            return end + 0.5 * (start - end) * (1 + cos(pi * step / steps))

        def step(batch, clock):
            crops = [crop.images for crop in method.view.inputs(batch)]
            with torch.no_grad():
                logits = outputs(net.teacher, crops[:2])
                targets = ((logits - net.center.mean) / temperatures[clock.epoch]).softmax(dim=1).chunk(2)
            predictions = log_softmax(outputs(net, crops) / 0.1, dim=1).chunk(CROPS)
            pairs = [(t, p) for i, t in enumerate(targets) for v, p in enumerate(predictions) if v != i]
            loss = sum(-(t * p).sum(dim=1).mean() for t, p in pairs) / len(pairs)
            net.center.mean.copy_(0.9 * net.center.mean + 0.1 * logits.mean(dim=0))
            optimizer.zero_grad()
            loss.backward()
            for w in student.values():
                clipped.append(w.grad.norm() > CLIP)
                w.grad.mul_(min(1.0, CLIP / (w.grad.norm() + 1e-6)))
            if clock.epoch < 1:
                net.directions.weight.grad = None
            peak = 5e-4 * 16 / 256
            rate = peak * (clock.step + 1) / 4 if clock.step < 4 else wave(peak, 1e-3 * peak, clock.step - 4, 20 - 4)
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.param_groups[0]["weight_decay"] = wave(0.04, 0.4, clock.step, 20)
            optimizer.step()
            momentum = wave(0.996, 1.0, clock.step, 20)
            with torch.no_grad():
                for name, average in averages.items():
                    average.mul_(momentum).add_((1 - momentum) * student[name])

        return step

    encoder = {"name": "vit_micro", "patch": 4}
    recipe = replace(DINO.recipe, clip=CLIP)
    deviation = "warm-up a step ahead, the last learning rate as a share of the first"
    side_by_side(method, recipe, authors, encoder=encoder, image_size=16, deviation=deviation)
    assert 0.1 < torch.stack(clipped).float().mean() < 0.9
