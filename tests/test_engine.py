from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from sanslabel.batch import Batch, Clock
from sanslabel.engine import optimize, players_of
from sanslabel.methods.method import Method, Networks, Objective
from sanslabel.optimizers import LARS, SGD, AdamW
from sanslabel.recipe import Group, Recipe


def clocks(steps: int, seed: int = 0) -> Iterator[tuple[Clock, Batch]]:
    for step in range(steps):
        images = torch.randn(8, 4, generator=torch.Generator().manual_seed(step))
        index = torch.arange(8)
        yield Clock(seed, 0, step, steps, steps), Batch.of_images(images, index, index, index)


@dataclass(frozen=True, kw_only=True)
class Toy(Method):
    """Two players, a memory and a norm."""

    spoil: int = -1
    """the step whose second loss is not finite"""

    def networks(self, encoder=None, facts=None):
        torch.manual_seed(0)
        net = Networks(first=nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)), second=nn.Linear(3, 2))
        net.register_buffer("memory", torch.zeros(()))
        return net

    def step(self, net, batch, clock):
        h = net.first(batch.images().pixels)
        yield Objective(h.square().mean(), player="first")
        net.memory += 1
        h = net.first(batch.images().pixels)
        loss = net.second(h).square().mean()
        yield Objective(loss * float("inf") if clock.step == self.spoil else loss, player="second")
        net.memory += 100


RECIPE = Recipe(optimizer={"first": SGD(lr=0.1), "second": AdamW(lr=0.1, weight_decay=0.1)}, epochs=1)


def trained(method=None, steps=4, recipe=RECIPE):
    method = method or Toy()
    net = method.networks()
    sides = players_of(net, recipe, 8)
    return net, list(optimize(method, net, sides, clocks(steps))), sides


def test_one_players_loss_leaves_the_others_weights_and_gradients_untouched():
    class Watch(Toy):
        def step(self, net, batch, clock):
            before = {k: v.clone() for k, v in net.state_dict().items()}
            yield Objective(net.second(net.first(batch.images().pixels)).square().mean(), player="second")
            changed = {k for k, v in net.named_parameters() if not torch.equal(v, before[k])}
            assert changed == {"second.weight", "second.bias"}
            assert all(p.grad is None for p in net.first.parameters())

    trained(Watch())


def test_memory_is_written_after_each_yield():
    net, records, _ = trained()
    assert net.memory == 4 * 101
    assert [len(r.objectives) for r in records] == [2] * 4
    assert not any(o.loss.requires_grad for r in records for o in r.objectives)


def test_it_is_the_loop_written_out():
    net, _, _ = trained(steps=3)
    method = Toy()
    other = method.networks()
    recipe = RECIPE
    first = torch.optim.SGD(other.first.parameters(), lr=0.1, momentum=0.9)
    second = torch.optim.AdamW(
        [{"params": [other.second.weight], "weight_decay": 0.1}, {"params": [other.second.bias], "weight_decay": 0}]
    )
    for clock, batch in clocks(3):
        for optimizer in (first, second):
            for group in optimizer.param_groups:
                group["lr"] = 0.1 * recipe.lr_factor(clock)
        loss = other.first(batch.images().pixels).square().mean()
        first.zero_grad()
        loss.backward()
        first.step()
        loss = other.second(other.first(batch.images().pixels)).square().mean()
        second.zero_grad()
        loss.backward()
        second.step()
    for (name, ours), theirs in zip(net.state_dict().items(), other.state_dict().values(), strict=True):
        if name != "memory":
            torch.testing.assert_close(ours, theirs, msg=name)


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_a_refused_step_leaves_no_trace(value):
    class Spoiled(Toy):
        def step(self, net, batch, clock):
            loss = net.second(net.first(batch.images().pixels)).square().mean()
            yield Objective(loss * value if clock.step == 2 else loss)
            net.memory += 1

    recipe = Recipe(optimizer=AdamW(lr=0.1), epochs=1)
    method = Spoiled()
    net = method.networks()
    sides = players_of(net, recipe, 8)
    states = []
    for record in optimize(method, net, sides, clocks(4)):
        memories = [v.clone() for s in sides[""].optimizer.state.values() for v in s.values()]
        states.append(([v.clone() for v in net.state_dict().values()], memories, record.refused))
    (one, slots_one, _), (two, slots_two, refused), (three, _, _) = states[1:]
    assert refused
    assert all(torch.equal(a, b) for a, b in zip(one + slots_one, two + slots_two, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(two, three, strict=True))


def test_a_refusal_at_the_second_yield_keeps_the_first_and_drops_the_rest():
    net, records, _ = trained(Toy(spoil=1), steps=2)
    assert [r.refused for r in records] == [False, True]
    assert net.memory == 101 + 1
    assert net.first[1].num_batches_tracked == 2 + 1


def test_an_infinite_gradient_of_a_finite_loss_is_refused():
    class Steep(Toy):
        def step(self, net, batch, clock):
            yield Objective((net.second.weight * 0).sum().abs().sqrt(), player="second")

    _, records, _ = trained(Steep(), steps=1)
    assert records[0].refused
    assert torch.isfinite(records[0].objectives[0].loss)


def test_a_step_may_yield_nothing():
    class Idle(Toy):
        def step(self, net, batch, clock):
            net.memory += 1
            return
            yield

    net, records, _ = trained(Idle(), steps=3)
    assert net.memory == 3
    assert [r.objectives for r in records] == [[]] * 3


@pytest.mark.parametrize("each", [False, True])
def test_clipping(each):
    class Big(Toy):
        def step(self, net, batch, clock):
            yield Objective(net.second.weight.sum() * 30 + net.second.bias.sum() * 0.1)

    recipe = Recipe(optimizer=SGD(lr=1.0, momentum=0.0), epochs=1, clip=0.5, clip_each=each)
    net = Toy().networks()
    before = net.second.weight.detach().clone(), net.second.bias.detach().clone()
    (record,) = optimize(Big(), net, players_of(net, recipe, 8), clocks(1))
    weight, bias = ((a - b).norm().item() for a, b in zip(before, (net.second.weight, net.second.bias), strict=True))
    whole = (6 * 30**2 + 2 * 0.1**2) ** 0.5
    assert record.norms[0].item() == pytest.approx(whole, rel=1e-5)
    assert weight == pytest.approx(0.5 if each else 0.5 * 6**0.5 * 30 / whole, rel=1e-4)
    assert bias == pytest.approx(2**0.5 * 0.1 if each else 0.5 * 2**0.5 * 0.1 / whole, rel=1e-4)


def test_rates_groups_and_decay():
    recipe = Recipe(
        optimizer=SGD(lr=0.2, weight_decay=0.04),
        epochs=1,
        scaling="linear",
        warmup=0.2,
        final_decay=0.4,
        groups=(Group(match="second.*", lr_factor=10.0, constant=True),),
    )
    net = Toy().networks()
    sides = players_of(net, recipe, 512)
    groups = sides[""].optimizer.param_groups
    seen = [
        {(g["adapt"], g["constant"]): (g["lr"], g["weight_decay"]) for g in groups}
        for _ in optimize(Toy(), net, {"first": sides[""], "second": sides[""]}, clocks(10))
    ]
    assert [seen[i][True, False][0] for i in (0, 1, 2)] == pytest.approx([0.2, 0.4, 0.4])
    assert seen[6][True, False][0] == pytest.approx(0.2)
    assert {row[True, True][0] for row in seen} == {4.0}
    assert [seen[i][True, False][1] for i in (0, 5)] == pytest.approx([0.04, 0.22])
    assert {row[False, False][1] for row in seen} == {0.0}


@pytest.mark.parametrize("in_momentum", [False, True])
def test_lars_against_its_formula(in_momentum):
    weight = nn.Parameter(torch.randn(3, 4))
    bias = nn.Parameter(torch.randn(3))
    zero = nn.Parameter(torch.zeros(2, 2))
    start = [p.detach().clone() for p in (weight, bias, zero)]
    groups = [{"params": [weight, zero], "weight_decay": 0.1}, {"params": [bias], "adapt": False}]
    optimizer = LARS(lr=0.5, momentum=0.9, trust=0.01, lr_in_momentum=in_momentum).build(groups)
    expected, momenta = [p.clone() for p in start], [torch.zeros_like(p) for p in start]
    for step, lr in enumerate((0.5, 0.2, 0.3)):
        for group in optimizer.param_groups:
            group["lr"] = lr
        for p in (weight, bias, zero):
            p.grad = torch.randn(p.shape, generator=torch.Generator().manual_seed(step))
        for i, (p, decay, adapt) in enumerate([(weight, 0.1, True), (bias, 0, False), (zero, 0.1, True)]):
            update = p.grad + decay * expected[i]
            if adapt and expected[i].norm() > 0:
                update = update * 0.01 * expected[i].norm() / update.norm()
            momenta[i] = 0.9 * momenta[i] + (lr * update if in_momentum else update)
            expected[i] = expected[i] - (momenta[i] if in_momentum else lr * momenta[i])
        optimizer.step()
    for p, value in zip((weight, bias, zero), expected, strict=True):
        torch.testing.assert_close(p.detach(), value)


def test_dropout_is_a_function_of_the_step():
    class Noisy(Toy):
        def step(self, net, batch, clock):
            yield Objective(nn.functional.dropout(net.second.weight, 0.5).square().sum(), player="second")

    runs = []
    for _ in "ab":
        torch.rand(7)
        runs.append([r.objectives[0].loss.item() for r in trained(Noisy())[1]])
    assert runs[0] == runs[1]
    assert len(set(runs[0])) == 4
