"""Masked tokens are guessed from those around them, and from nothing that hides them."""

from dataclasses import replace
from math import log

import pytest
import torch
from torch.nn.functional import cross_entropy

from bench.sequences import sequences
from sanslabel.batch import Batch, Clock, Tokens
from sanslabel.encoders import text
from sanslabel.encoders.text import TextEncoder
from sanslabel.encoders.vit import Shape
from sanslabel.engine import optimize, players_of
from sanslabel.methods.masked_text import MaskedText
from sanslabel.sources.loader import batches
from sanslabel.views import gaps


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setitem(text.SHAPES, "text_micro", Shape(depth=1, width=32, heads=2))


def fresh(source, **numbers):
    torch.manual_seed(0)
    method = MaskedText(**numbers)
    return method, method.networks(TextEncoder("text_micro", **source.inputs["source"].arguments), source.facts())


def test_the_loss_is_that_of_the_tokens_to_be_guessed():
    source = sequences(30, least=3, longest=9)
    method, net = fresh(source)
    key = torch.arange(30)
    (objective,) = method.step(net, Batch(key, key, source.signals), Clock(0, 0, 0, 10, 10))
    tokens = Tokens(*source.signals["source"])
    drawn = gaps(key, tokens, 0.15, 0.1, 0.1, 20)
    logits = net.encoder.scores(net.head(net.encoder.tokens(drawn.ids, drawn.hidden, net.mask())))
    expected = cross_entropy(logits[drawn.guessed], tokens.ids[drawn.guessed])
    torch.testing.assert_close(objective.loss, expected)
    assert objective.trivial == log(20)


def test_a_batch_with_nothing_to_guess_is_finite():
    source = sequences(4, least=1, longest=2)
    method, net = fresh(source, share=1e-9)
    key = torch.arange(4)
    (objective,) = method.step(net, Batch(key, key, source.signals), Clock(0, 0, 0, 10, 10))
    assert objective.loss == 0
    objective.loss.backward()


def test_texts_that_repeat_are_guessed():
    """The second half repeats the first, so that one neighbor tells what a gap held."""
    source = sequences(64 * 100, least=8, longest=8, vocabulary=12)
    ids = source.signals["source"].ids.clone()
    ids[:, 1:8:2] = ids[:, 0:8:2]
    source = replace(source, signals={"source": Tokens(ids, source.signals["source"].lengths)})
    method, net = fresh(source, share=0.3)
    recipe = replace(MaskedText.small, epochs=2, batch=64, warmup=0.3)
    stream = batches(source, 64, seed=0, epochs=2, device=torch.device("cpu"))
    records = list(optimize(method, net.train(), players_of(net, recipe, 64), stream))
    losses = [record.objectives[0].loss.item() for record in records]
    assert sum(losses[:5]) / 5 > 0.95 * log(9)
    assert sum(losses[-20:]) / 20 < 0.8 * log(9)
