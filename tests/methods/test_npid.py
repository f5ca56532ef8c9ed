from dataclasses import replace
from math import exp, log

import pytest
import torch
from torch.nn.functional import normalize

from sanslabel import encoders, views
from sanslabel.batch import Batch, Clock, Facts
from sanslabel.engine import optimize, players_of
from sanslabel.errors import BadInput
from sanslabel.losses import chance
from sanslabel.methods.npid import NPID
from sanslabel.randomness import fold

SMALL = replace(NPID.under(NPID.small), width=16)
FILLS, TRAINS = Clock(0, 0, 0, 10, 5), Clock(0, 1, 5, 10, 5)


def batch_of(*rows: int) -> Batch:
    index = torch.tensor(rows)
    images = torch.rand(100, 1, 8, 8, generator=torch.Generator().manual_seed(1))[index]
    return Batch.of_images(images, index, fold(torch.full_like(index, 7), index), torch.full_like(index, -1))


def networks(method: NPID, samples: int = 20):
    torch.manual_seed(0)
    encoder = encoders.build("conv", channels=1, image_size=8)
    return method.networks(encoder, Facts.of_images(samples, 1, 8, 8, 0)).train()


def embedded(method: NPID, net, batch: Batch) -> torch.Tensor:
    with torch.no_grad():
        return normalize(net.projector(net.encoder(method.view(batch, 0))), dim=1)


def test_the_first_epoch_fills_the_bank_and_trains_nothing():
    net, batch = networks(SMALL), batch_of(3, 0, 11, 7)
    start = net.bank.embeddings.clone()
    assert list(SMALL.step(net, batch, FILLS)) == []
    torch.testing.assert_close(net.bank.embeddings[batch.index], embedded(SMALL, net, batch))
    rest = [i for i in range(20) if i not in (3, 0, 11, 7)]
    assert torch.equal(net.bank.embeddings[rest], start[rest])


def test_images_that_are_not_finite_leave_no_trace_while_it_fills():
    net, batch = networks(SMALL), batch_of(3, 0, 11, 7)
    batch.images().pixels[1, 0, 2, 2] = torch.nan
    start = {name: value.clone() for name, value in net.state_dict().items()}
    (record,) = optimize(SMALL, net, players_of(net, NPID.small, 4), [(FILLS, batch)])
    assert record.objectives == []
    assert all(torch.equal(value, start[name]) for name, value in net.state_dict().items())


def test_a_run_of_one_epoch_trains_all_the_same():
    (objective,) = SMALL.step(networks(SMALL), batch_of(3, 0, 11, 7), Clock(0, 0, 0, 5, 5))
    assert objective.loss.requires_grad


def test_the_bank_is_written_after_the_update_alone():
    net, batch = networks(SMALL), batch_of(3, 0, 11, 7)
    start = net.bank.embeddings.clone()
    step = SMALL.step(net, batch, TRAINS)
    z = normalize(next(step).embedding.detach(), dim=1)
    assert torch.equal(net.bank.embeddings, start)
    step.close()
    assert torch.equal(net.bank.embeddings, start), "a refused step leaves no trace"
    list(SMALL.step(net, batch, TRAINS))
    torch.testing.assert_close(net.bank.embeddings[batch.index], normalize(0.5 * start[batch.index] + 0.5 * z, dim=1))
    assert torch.equal(net.bank.embeddings[[1, 2, 4]], start[[1, 2, 4]])


@pytest.mark.parametrize("momentum", [0.0, 1.0])
def test_momentum_one_keeps_the_bank_and_zero_copies(momentum):
    method, batch = replace(SMALL, momentum=momentum), batch_of(3, 0, 11, 7)
    net = networks(method)
    start = net.bank.embeddings.clone()
    (objective,) = method.step(net, batch, TRAINS)
    expected = start[batch.index] if momentum else normalize(objective.embedding.detach(), dim=1)
    torch.testing.assert_close(net.bank.embeddings[batch.index], expected)


def test_images_find_themselves_in_the_bank():
    method, batch = replace(SMALL, view=views.View()), batch_of(*range(20))
    net = networks(method)
    list(method.step(net, batch, FILLS))
    nearest = (embedded(method, net, batch) @ net.bank.embeddings.T).argmax(dim=1)
    assert torch.equal(nearest, batch.index)


@pytest.mark.parametrize("temperature", [0.07, 1.0])
def test_collapse_gives_the_log_of_all_samples(temperature):
    method = replace(SMALL, temperature=temperature)
    net = networks(method, samples=50)
    collapse_(net)
    (objective,) = method.step(net, batch_of(3, 0, 11, 7), TRAINS)
    assert objective.loss.item() == pytest.approx(log(50), rel=1e-5)
    assert objective.trivial == pytest.approx(log(50))
    assert objective.terms["hardest_tenth"].item() == pytest.approx(5 / 49)


def collapse_(net) -> None:
    """All embeddings and all memories are one vector."""
    with torch.no_grad():
        net.projector[-1].weight.zero_()
        net.projector[-1].bias.fill_(1.0)
        net.bank.embeddings.copy_(normalize(torch.ones_like(net.bank.embeddings), dim=1))


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize(("negatives", "value"), [(1, 1.386294), (10, 3.350997), (4096, 9.317888)])
def test_noise_contrast_where_nothing_is_told_apart(negatives, value, shared):
    method = replace(SMALL, negatives=negatives, shared=shared)
    net = networks(method, samples=50)
    collapse_(net)
    net.partition.fill_(50 * exp(1 / method.temperature))  # so that every P is 1/n
    (objective,) = method.step(net, batch_of(3, 0, 11, 7), TRAINS)
    assert objective.loss.item() == pytest.approx(value, rel=1e-4)
    assert objective.trivial == pytest.approx(value, abs=1e-6)


def test_z_is_that_of_the_filled_bank_then_frozen_and_part_of_the_state():
    method = replace(SMALL, negatives=8)
    net, other = networks(method), networks(method)
    start = net.partition.clone()
    for half in (range(10), range(10, 20)):
        list(method.step(net, batch_of(*half), FILLS))
    pairs = (net.bank.embeddings[:10] @ net.bank.embeddings[10:].T / method.temperature).exp()
    filled = net.partition.clone()
    assert filled.item() == pytest.approx(20 * pairs.mean().item(), rel=1e-5)
    assert filled > 5 * start, "embeddings are all alike at the start"
    list(method.step(net, batch_of(3, 0, 11, 7), TRAINS))
    assert torch.equal(net.partition, filled)
    other.load_state_dict(net.state_dict())
    assert torch.equal(other.partition, filled)


def test_noise_contrast_learns():
    """With Z of a random bank the loss rises many times over instead."""
    method = replace(SMALL, negatives=32, temperature=0.07)
    net, halves = networks(method, samples=100), [batch_of(*range(50)), batch_of(*range(50, 100))]
    stream = [(Clock(0, step // 2, step, 100, 2), halves[step % 2]) for step in range(30)]
    records = optimize(method, net, players_of(net, NPID.small, 50), stream)
    losses = [objective.loss.item() for record in records for objective in record.objectives]
    assert len(losses) == 28
    assert max(losses) == max(losses[:3])
    assert losses[-1] < chance(32)


def test_own_negatives_do_not_depend_on_the_rest_of_the_batch():
    method = replace(SMALL, negatives=6, shared=False)
    net = networks(method).eval()  # BatchNorm would mix the batch
    whole, *halves = (next(method.step(net, batch_of(*rows), TRAINS)).loss for rows in ((3, 0, 11, 7), (3, 0), (11, 7)))
    assert sum(halves).item() / 2 == pytest.approx(whole.item(), rel=1e-5)
    assert next(method.step(net, batch_of(3, 0, 11, 7), TRAINS._replace(step=6))).loss == whole


def test_shared_negatives_are_drawn_anew_in_each_step():
    method = replace(SMALL, negatives=6)
    net = networks(method).eval()
    one, same, other = (
        next(method.step(net, batch_of(3, 0, 11, 7), TRAINS._replace(step=step))).loss for step in (5, 5, 6)
    )
    assert one == same != other


def test_a_teachers_embedding_enters_the_bank():
    method, batch = replace(SMALL, teacher_momentum=1.0, momentum=0.0), batch_of(3, 0, 11, 7)
    net = networks(method)
    with torch.no_grad():
        net.projector[-1].weight.mul_(-1)
    (objective,) = method.step(net, batch, TRAINS)
    with torch.no_grad():
        expected = normalize(net.teacher.projector(net.teacher.encoder(method.view(batch, 0))), dim=1)
    torch.testing.assert_close(net.bank.embeddings[batch.index], expected)
    assert (net.bank.embeddings[batch.index] * normalize(objective.embedding, dim=1)).sum(dim=1).max() < 0.9


def test_numbers_out_of_range_are_refused():
    for numbers in ({"negatives": 0}, {"momentum": 1.5}, {"temperature": 0.0}):
        with pytest.raises(BadInput, match=next(iter(numbers))):
            NPID(**numbers)
