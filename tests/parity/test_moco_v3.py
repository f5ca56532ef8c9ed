"""The authors' step: two predictions, the teacher moves before its passes with a momentum that rises, AdamW."""

from math import cos, pi

import torch
from torch.nn.functional import cross_entropy, normalize

from sanslabel.encoders import vit
from sanslabel.methods.moco_v3 import MoCoV3

VIT = {"name": "vit_micro", "patch": 4, "positions": "sincos", "heads": 8, "start": "moco_v3"}
"""the recipe's options on a transformer of 4 patches"""


def test_moco_v3_trains_as_its_authors_train(side_by_side, monkeypatch):
    monkeypatch.setitem(vit.SHAPES, "vit_micro", vit.Shape(depth=2, width=32, heads=2))
    method = MoCoV3(hidden=32, width=16)

    def authors(net, method):
        student = [*net.encoder.parameters(), *net.projector.parameters()]
        teacher = [*net.teacher.encoder.parameters(), *net.teacher.projector.parameters()]
        trained = [w for w in (*student, *net.predictor.parameters()) if w.requires_grad]
        adamw = torch.optim.AdamW(trained, 1.5e-4, weight_decay=0.1)

        def momentum(step):
            return 1 - 0.5 * (1 + cos(pi * step / 20)) * (1 - 0.99)

        def follow(m):
            for k, q in zip(teacher, student, strict=True):
                k.data = k.data * m + q.data * (1 - m)

        def loss_of(q, k):
            scores = normalize(q, dim=1) @ normalize(k, dim=1).T / 0.2
            return cross_entropy(scores, torch.arange(len(q))) * 2 * 0.2

        def step(batch, clock):
            progress = (clock.step - 4) / (20 - 4)
            lr = 1.5e-4 * 16 / 256 * ((clock.step + 1) / 4 if clock.step < 4 else 0.5 * (1 + cos(pi * progress)))
            for group in adamw.param_groups:
                group["lr"] = lr
            if clock.step:  # before it, the teacher is the student
                follow(momentum(clock.step - 1))
            images = [method.view(batch, 0), method.view(batch, 1)]
            queries = [net.predictor(net.projector(net.encoder(image))) for image in images]
            with torch.no_grad():
                keys = [net.teacher.projector(net.teacher.encoder(image)) for image in reversed(images)]
            loss = loss_of(queries[0], keys[0]) + loss_of(queries[1], keys[1])
            adamw.zero_grad()
            loss.backward()
            adamw.step()
            if clock.step == 19:
                follow(momentum(19))  # the authors' 21st step would begin with it

        return step

    deviation = "warm-up begins above 0, teacher's momentum of the step before, its views in reverse"
    side_by_side(method, MoCoV3.recipe, authors, encoder=VIT, deviation=deviation)
