"""The authors' step: cosines of translations against those of all other texts, the true ones less a margin, in both
directions (Feng et al. 2022, equations 1 to 4)."""

from math import cos, pi

import torch
from torch.nn.functional import normalize

from sanslabel.encoders import text, vit
from sanslabel.methods.bitext import Bitext


def test_bitext_trains_as_its_authors_train(side_by_side, monkeypatch):
    monkeypatch.setitem(text.SHAPES, "text_micro", vit.Shape(depth=2, width=32, heads=4))

    def authors(net, method):
        matrices = [w for w in net.parameters() if w.ndim > 1]
        vectors = [w for w in net.parameters() if w.ndim == 1]
        groups = [{"params": matrices, "weight_decay": 0.01}, {"params": vectors, "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(groups, lr=1e-3)

        def embedding(ids):
            mean = torch.stack([net.encoder.tokens(row[None, row > 0])[0].mean(dim=0) for row in ids])
            return normalize(net.projector(mean), dim=1)

        def step(batch, clock):
            a, b = (embedding(batch.signals[name].ids) for name in ("source", "target"))
            cosine, loss = a @ b.T, 0.0
            for scores in (cosine, cosine.T):
                for i, row in enumerate(scores):
                    true = ((row[i] - 0.3) / 0.05).exp()
                    others = sum((row[j] / 0.05).exp() for j in range(len(row)) if j != i)
                    loss = loss - (true / (true + others)).log() / (2 * len(row))
            optimizer.zero_grad()
            loss.backward()
            progress = (clock.step - 4) / (20 - 4)
            for group in optimizer.param_groups:
                group["lr"] = 1e-3 * ((clock.step + 1) / 4 if clock.step < 4 else 0.5 * (1 + cos(pi * progress)))
            optimizer.step()

        return step

    deviation = "a projector of the mean, the mean of both directions, a temperature"
    side_by_side(Bitext(width=16), Bitext.recipe, authors, encoder={"name": "text_micro"}, deviation=deviation)
