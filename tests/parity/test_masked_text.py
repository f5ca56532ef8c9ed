"""The authors' step: of the tokens to be guessed 80 % are hidden and 10 % replaced, and the loss is their mean
cross-entropy; AdamW without decay of biases and norms (Devlin et al. 2019, appendix A)."""

from math import cos, pi

import torch
from torch.nn.functional import cross_entropy, embedding, linear

from sanslabel.encoders import text, vit
from sanslabel.encoders.tokens import sinusoidal_positions
from sanslabel.methods.masked_text import MaskedText
from sanslabel.views import gaps


def test_masked_text_trains_as_its_authors_train(side_by_side, monkeypatch):
    monkeypatch.setitem(text.SHAPES, "text_micro", vit.Shape(depth=2, width=32, heads=4))

    def authors(net, method):
        encoder = net.encoder
        matrices = [w for w in net.parameters() if w.ndim > 1]
        vectors = [w for w in net.parameters() if w.ndim == 1]
        groups = [{"params": matrices, "weight_decay": 0.01}, {"params": vectors, "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(groups, lr=1e-4)

        def step(batch, clock):
            text = batch.signals["source"]
            drawn = gaps(batch.key, text, 0.15, 0.1, 0.1, len(encoder.embedding))
            vectors = embedding(drawn.ids, encoder.embedding)
            vectors[drawn.hidden] = net.mask.weight
            h = vectors * 32**0.5 + sinusoidal_positions(text.ids.shape[1], 32)
            for block in encoder.blocks:
                h = block(h, (text.ids > 0)[:, None, None])
            logits = linear(net.head(encoder.norm(h)[drawn.guessed]), encoder.embedding)
            loss = cross_entropy(logits, text.ids[drawn.guessed])
            optimizer.zero_grad()
            loss.backward()
            progress = (clock.step - 4) / (20 - 4)
            for group in optimizer.param_groups:
                group["lr"] = 1e-4 * ((clock.step + 1) / 4 if clock.step < 4 else 0.5 * (1 + cos(pi * progress)))
            optimizer.step()

        return step

    deviation = "norms before layers, one task, no dropout, a cosine"
    side_by_side(MaskedText(), MaskedText.recipe, authors, encoder={"name": "text_micro"}, deviation=deviation)
