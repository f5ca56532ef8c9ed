"""Translations that find each other, in any order and padding, and equal texts that are no negatives."""

from dataclasses import replace
from math import exp, log

import pytest
import torch
from torch.nn.functional import normalize, pad

from bench.sequences import sequences
from sanslabel.batch import Batch, Clock, Tokens
from sanslabel.encoders import text
from sanslabel.encoders.text import TextEncoder
from sanslabel.encoders.vit import Shape
from sanslabel.engine import optimize, players_of
from sanslabel.evaluation.margin_scores import margin_scores, retrieval_errors
from sanslabel.methods.bitext import Bitext, text_keys
from sanslabel.sources.loader import batches

CLOCK = Clock(0, 0, 0, 10, 10)


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setitem(text.SHAPES, "text_micro", Shape(depth=1, width=32, heads=2))


def fresh(source):
    torch.manual_seed(0)
    method = Bitext(width=16)
    return method, method.networks(TextEncoder("text_micro", **source.inputs["source"].arguments), source.facts())


def batch_of(source) -> Batch:
    row = torch.arange(len(source))
    return Batch(row, row, source.signals)


def test_keys_tell_texts_apart_and_not_padding():
    ids = torch.tensor([[5, 6, 2, 0], [6, 5, 2, 0], [5, 6, 2, 0], [5, 6, 7, 2]])
    keys = text_keys(ids).tolist()
    assert keys[0] == keys[2]
    assert len(set(keys)) == 3
    assert text_keys(pad(ids, (0, 8))).tolist() == keys
    many = sequences(3000, least=1, longest=9).signals["source"].ids.unique(dim=0)
    assert len(text_keys(many).unique()) == len(many)


def test_the_loss_leaves_out_equal_texts_in_either_language():
    source = sequences(12, least=2, longest=5)
    method, net = fresh(source)
    signals = {name: Tokens(signal.ids.clone(), signal.lengths.clone()) for name, signal in source.signals.items()}
    for name, (row, like) in {"source": (3, 5), "target": (7, 8)}.items():
        for tensor in signals[name]:
            tensor[row] = tensor[like]
    batch = Batch(torch.arange(12), torch.arange(12), signals, group=torch.tensor([*range(11), 0]))
    (objective,) = method.step(net, batch, CLOCK)
    a, b = (normalize(net.projector(net.encoder(signals[name].ids)), dim=1) for name in ("source", "target"))
    excluded, total = {(3, 5), (5, 3), (7, 8), (8, 7), (0, 11), (11, 0)}, 0.0
    for cosine in (a @ b.T, b @ a.T):
        for i in range(12):
            true = exp((cosine[i, i].item() - 0.3) / 0.05)
            others = sum(exp(cosine[i, j].item() / 0.05) for j in range(12) if j != i and (i, j) not in excluded)
            total += log((true + others) / true)
    assert objective.loss.item() == pytest.approx(total / 24, rel=1e-4)


def test_translations_find_each_other():
    """The targets are the sources shifted through the vocabulary, in reverse: nothing that a fresh encoder knows."""

    def shifted(samples, seed):
        source = sequences(samples, least=4, longest=6, reverse=True, vocabulary=23, seed=seed)
        target = source.signals["target"].ids
        other = torch.where(target > 2, 3 + (target - 3 + 10) % 20, target)
        return replace(source, signals={**source.signals, "target": Tokens(other, source.signals["target"].lengths)})

    source, held = shifted(64 * 60, 0), batch_of(shifted(200, 1))
    method, net = fresh(source)
    recipe = replace(Bitext.small, epochs=2, batch=64, warmup=0.2)
    errors = []
    for trains in (False, True):
        if trains:
            stream = batches(source, 64, seed=0, epochs=2, device=torch.device("cpu"))
            for _ in optimize(method, net.train(), players_of(net, recipe, 64), stream):
                pass
        with torch.no_grad():
            a, b = (net.projector(net.eval().encoder(held.tokens(name).ids)) for name in ("source", "target"))
        errors.append(retrieval_errors(margin_scores(a, b)))
    assert min(errors[0]) > 0.5
    assert max(errors[1]) < 0.2
