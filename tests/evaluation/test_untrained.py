"""The untrained encoder that evaluation compares with is what the method starts from, whatever the method."""

import json
from dataclasses import fields, replace

import pytest
import torch

from bench.small_data import small_data
from sanslabel import encoders, methods
from sanslabel.encoders import resnet, text, vit
from sanslabel.evaluation.representation import RepresentOptions
from sanslabel.evaluation.subjects import random_encoder
from sanslabel.randomness import Stream, fold
from sanslabel.training.planning import encoder_configs

SIZE, SEED, NARROW = 24, 7, 32


@pytest.fixture(autouse=True)
def few_weights(monkeypatch):
    """Small encoders under the names of large ones: options decide the start, not sizes."""
    monkeypatch.setattr("sanslabel.evaluation.subjects.settle_", lambda *_, **__: None)  # statistics of BatchNorm
    monkeypatch.setattr(vit, "SHAPES", dict.fromkeys(vit.SHAPES, vit.Shape(2, 24, 2)))
    monkeypatch.setattr(text, "SHAPES", dict.fromkeys(text.SHAPES, vit.Shape(2, 24, 2)))
    monkeypatch.setattr(resnet, "SHAPES", dict.fromkeys(resnet.SHAPES, resnet.Shape(resnet.BasicBlock, (1, 1, 1, 1))))


@pytest.mark.parametrize("recipe", ["small", "paper"])
@pytest.mark.parametrize("name", methods.names())
def test_it_is_the_start_of_training_key_by_key(name, recipe):
    chosen = methods.method_class(name)
    source = small_data(name, 32)
    recipe = chosen.recipe_named(recipe)
    method = chosen.under(recipe)
    sizes = {f.name: value for f in fields(method) if isinstance(value := getattr(method, f.name), int) and value > 256}
    method = replace(method, **dict.fromkeys(sizes, NARROW)).sized(SIZE)

    torch.manual_seed(fold(SEED, Stream.BASELINE))
    built = {s: encoders.build(**c) for s, c in encoder_configs(method, recipe.encoder, source, SIZE).items()}
    net = method.networks(built if len(built) > 1 else next(iter(built.values())), source.facts(SIZE))
    start, *_ = method.encoders(net).values()
    config = json.loads(json.dumps(start.config))
    options = RepresentOptions(reads=start.reads, device=torch.device("cpu"), dtype=torch.float32, workers=0)
    untrained = random_encoder(config, source, SEED, options)

    assert untrained.config == start.config
    expected, given = (e.state_dict() for e in (start, untrained))
    assert expected.keys() == given.keys()
    for key in expected:
        assert torch.equal(expected[key], given[key]), key
