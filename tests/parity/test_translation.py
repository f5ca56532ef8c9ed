"""The authors' step: the target delayed by one token, cross-entropy with label smoothing over real tokens, Adam, and a
learning rate that rises linearly and falls with the square root of the steps (Vaswani et al. 2017, section 5)."""

import pytest
import torch
from torch.nn.functional import cross_entropy, linear

from sanslabel.encoders import text, vit
from sanslabel.methods.translation import Translation

WIDTH, WARMUP = 32, 4


@pytest.mark.parametrize("predictor", ["transformer", "recurrent"])
def test_translation_trains_as_its_authors_train(side_by_side, monkeypatch, predictor):
    monkeypatch.setitem(text.SHAPES, "text_micro", vit.Shape(depth=2, width=WIDTH, heads=4))

    def authors(net, method):
        optimizer = torch.optim.Adam(net.parameters(), lr=0.0, betas=(0.9, 0.98), eps=1e-9)

        def step(batch, clock):
            source, target = batch.signals["source"].ids, batch.signals["target"].ids
            given = torch.ones_like(target)
            given[:, 1:] = target[:, :-1]
            memory = net.encoder.tokens(source)
            hidden = net.predictor(net.encoder.embed(given), memory, source > 0)
            logits = linear(hidden, net.encoder.embedding).flatten(0, 1)
            loss = cross_entropy(logits, target.flatten(), ignore_index=0, label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            done = clock.step + 1
            peak = 7e-4 * WARMUP**0.5
            for group in optimizer.param_groups:
                group["lr"] = peak * min(done**-0.5, done * WARMUP**-1.5)
            optimizer.step()

        return step

    deviation = "norms before layers, no dropout" + (", a GRU" if predictor == "recurrent" else "")
    method = Translation(depth=2, predictor=predictor)
    side_by_side(method, Translation.recipe, authors, encoder={"name": "text_micro"}, deviation=deviation)
