import pytest
from torch import nn

from sanslabel.batch import Clock
from sanslabel.errors import BadInput
from sanslabel.optimizers import LARS, SGD
from sanslabel.recipe import Group, Recipe
from sanslabel.schedules import cosine, inverse_square_root, linear, step_decay, warmup_cosine


def test_schedules_at_their_ends_and_middle():
    assert [cosine(p, 0.996, 1.0) for p in (0, 0.5, 1)] == pytest.approx([0.996, 0.998, 1.0])
    assert [linear(p, 2.0, 4.0) for p in (0, 0.5, 1)] == pytest.approx([2, 3, 4])
    factors = [warmup_cosine(step, 12, 2, 0.1) for step in range(13)]
    assert factors[:3] == pytest.approx([0.5, 1.0, 1.0])
    assert factors[7] == pytest.approx(0.55)
    assert factors[12] == pytest.approx(0.1)
    assert factors[2:] == sorted(factors[2:], reverse=True)
    assert [warmup_cosine(step, 4, 0) for step in (0, 2)] == pytest.approx([1.0, 0.5])


def test_warmup_is_in_epochs_and_never_longer_than_its_part():
    recipe = Recipe(optimizer=SGD(lr=1.0), epochs=100, warmup=10)
    rates = [recipe.lr_factor(Clock(0, 0, step, 1000, 10)) for step in (0, 49, 99)]
    assert rates == pytest.approx([0.01, 0.5, 1.0])
    short = [recipe.lr_factor(Clock(0, 0, step, 20, 10)) for step in range(20)]
    assert short.index(max(short)) in (5, 6)
    assert short[0] == pytest.approx(1 / 6)


def test_warmup_may_start_above_0():
    assert [warmup_cosine(step, 20, 4, warmup_start=0.2) for step in range(4)] == pytest.approx([0.4, 0.6, 0.8, 1.0])
    recipe = Recipe(optimizer=SGD(lr=1.0), epochs=10, warmup=1, warmup_start=1 / 16)
    assert recipe.lr_factor(Clock(0, 0, 0, 100, 10)) == pytest.approx(1 / 16 + 0.9 / 16 + 0.6 / 16)


def test_drops_take_the_place_of_the_cosine():
    assert [step_decay(p, (0.6, 0.8)) for p in (0, 0.59, 0.6, 0.79, 0.8, 0.99)] == pytest.approx(
        [1, 1, 0.1, 0.1, 0.01, 0.01]
    )
    recipe = Recipe(optimizer=SGD(lr=1.0), epochs=10, warmup=1, milestones=(0.5, 0.9))
    rates = [recipe.lr_factor(Clock(0, 0, step, 100, 10)) for step in (4, 9, 10, 49, 50, 89, 90, 99)]
    assert rates == pytest.approx([0.5, 1, 1, 1, 0.1, 0.1, 0.01, 0.01])


def test_the_transformers_schedule_at_known_steps():
    at = {s: inverse_square_root(s - 1, 4000) for s in (1, 1000, 4000, 16_000)}
    assert at[1] == pytest.approx(1 / 4000)
    assert [5e-4 * at[s] for s in (1000, 4000, 16_000)] == pytest.approx([1.25e-4, 5e-4, 2.5e-4])
    peak = (256 * 4000) ** -0.5
    assert peak == pytest.approx(9.882e-4, abs=1e-7)
    recipe = Recipe(optimizer=SGD(lr=1.0), epochs=100, warmup=4, inverse_square_root=True)
    rates = [recipe.lr_factor(Clock(0, 0, step, 1000, 10)) for step in (0, 39, 159)]
    assert rates == pytest.approx([1 / 40, 1.0, 0.5])


def test_scaling_with_the_batch():
    scales = [Recipe(optimizer=SGD(lr=1.0), epochs=1, scaling=s).scale(1024) for s in ("linear", "sqrt", "none")]
    assert scales == [4.0, 32.0, 1.0]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epochs", 0),
        ("epochs", 1.5),
        ("batch", 0),
        ("decode_factor", 0.5),
        ("warmup", -1.0),
        ("clip", 0.0),
        ("milestones", (0.5, 1.5)),
        ("scaling", "cubic"),
    ],
)
def test_a_field_out_of_bounds_is_named(field, value):
    with pytest.raises(BadInput, match=f"^Recipe: {field.replace('_', '-')} "):
        Recipe(**{"optimizer": SGD(lr=1.0), "epochs": 1, field: value})


def test_groups():
    net = nn.Module()
    net.encoder = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    net.predictor = nn.Linear(3, 3)
    net.encoder[0].weight.requires_grad_(False)
    optimizer = LARS(lr=0.5, weight_decay=0.1)
    recipe = Recipe(optimizer=optimizer, epochs=1, groups=(Group(match="predictor.*", lr_factor=2.0, constant=True),))
    groups = {(g["adapt"], g["constant"]): g for g in recipe.parameter_groups(net, optimizer)}
    assert {key: (len(g["params"]), g["base_lr"], g["base_decay"]) for key, g in groups.items()} == {
        (False, False): (3, 0.5, 0.0),
        (True, True): (1, 1.0, 0.1),
        (False, True): (1, 1.0, 0.0),
    }
    vectors = Recipe(optimizer=optimizer, epochs=1, groups=(Group(match="*", vectors=True, lr_factor=0.1),))
    assert {g["adapt"]: (len(g["params"]), g["base_lr"]) for g in vectors.parameter_groups(net, optimizer)} == {
        False: (4, 0.05),
        True: (1, 0.5),
    }
    biases = Recipe(optimizer=optimizer, epochs=1, groups=(Group(match="*.bias", decay_factor=5.0),))
    decays = [(g["adapt"], len(g["params"]), g["base_decay"]) for g in biases.parameter_groups(net, optimizer)]
    assert sorted(decays) == [(False, 1, 0.0), (False, 3, 0.5), (True, 1, 0.1)]
    everything = Recipe(optimizer=optimizer, epochs=1, decay_all=True).parameter_groups(net, optimizer)
    assert [(len(g["params"]), g["base_decay"]) for g in everything] == [(5, 0.1)]


def test_players_by_name():
    one, two = SGD(lr=1.0), SGD(lr=2.0)
    assert Recipe(optimizer=one, epochs=1).optimizers == {"": one}
    assert Recipe(optimizer={"critic": one, "generator": two}, epochs=1).optimizers["generator"] is two
