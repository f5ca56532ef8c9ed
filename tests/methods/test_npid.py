from dataclasses import replace
from math import exp, log
from statistics import fmean

import pytest
import torch
from torch.nn.functional import cross_entropy, normalize

from sanslabel import encoders, views
from sanslabel.batch import Batch, Clock, Facts
from sanslabel.engine import optimize, players_of
from sanslabel.errors import BadInput
from sanslabel.losses import chance
from sanslabel.methods.npid import NEGATIVES, NPID
from sanslabel.randomness import fold, integers

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
@pytest.mark.parametrize(
    ("nce", "negatives", "value"),
    [
        (True, 1, 1.386294),
        (True, 10, 3.350997),
        (True, 4096, 9.317888),
        (False, 1, 0.693147),
        (False, 10, 2.397895),
        (False, 4096, 8.318010),
    ],
)
def test_drawn_negatives_where_nothing_is_told_apart(nce, negatives, value, shared):
    method = replace(SMALL, nce=nce, negatives=negatives, shared=shared)
    net = networks(method, samples=50)
    collapse_(net)
    net.partition.fill_(50 * exp(1 / method.temperature))  # so that every P is 1/n
    (objective,) = method.step(net, batch_of(3, 0, 11, 7), TRAINS)
    assert objective.loss.item() == pytest.approx(value, rel=1e-4)
    assert objective.trivial == pytest.approx(value, abs=1e-6)


NCE = replace(SMALL, negatives=8, nce=True)


@pytest.mark.parametrize("shared", [True, False])
def test_z_is_that_of_the_first_batch_and_the_random_bank_then_frozen_and_part_of_the_state(shared):
    method, batch = replace(NCE, shared=shared), batch_of(3, 0, 11, 7)
    net, other = networks(method), networks(method)
    bank, scores = net.bank.embeddings.clone(), []
    z = normalize(next(method.step(net, batch, FILLS)).embedding.detach(), dim=1)
    assert net.partition == 0, "a refused step leaves no trace"
    list(method.step(net, batch, FILLS))
    for i, (vector, sample) in enumerate(zip(z, batch.index, strict=True)):
        key = torch.tensor([FILLS.key]) if shared else batch.key[i, None]
        rows = [sample, *integers(key, 8, 20, NEGATIVES)[0]]
        scores += [(vector @ bank[row]).item() / method.temperature for row in rows]
    first = net.partition.clone()
    assert first.item() == pytest.approx(20 * fmean(map(exp, scores)), rel=1e-5)
    for clock in (FILLS._replace(step=1), TRAINS):
        list(method.step(net, batch_of(1, 2, 5, 6), clock))
    assert torch.equal(net.partition, first)
    other.load_state_dict(net.state_dict())
    assert torch.equal(other.partition, first)


def test_a_refused_first_step_leaves_z_to_the_next():
    net, spoiled, batch = networks(NCE), batch_of(3, 0, 11, 7), batch_of(1, 2, 5, 6)
    spoiled.images().pixels[1, 0, 2, 2] = torch.nan
    stream = [(FILLS, spoiled), (FILLS._replace(step=1), batch)]
    refused, record = optimize(NCE, net, players_of(net, NPID.small, 4), stream)
    assert refused.refused
    assert not record.refused
    assert net.partition > 0


def test_z_is_computed_in_float32_under_autocast():
    found = []
    for dtype in (torch.float32, torch.bfloat16):
        net, z = networks(NCE), torch.randn(4, 16, generator=torch.Generator().manual_seed(2))
        with torch.autocast("cpu", dtype, enabled=dtype == torch.bfloat16):
            drawn = NCE.drawn(net, batch_of(0, 1, 2, 3), FILLS)
            found.append(NCE.normalizer(net, z, torch.arange(4), drawn, FILLS))
    assert found[0] == found[1]


def test_noise_contrast_learns_from_a_filled_bank_with_the_z_of_that_bank():
    """As runs of earlier versions go on. With Z of a random bank the loss rises many times over instead."""
    method = replace(SMALL, negatives=32, nce=True, temperature=0.07)
    net, halves = networks(method, samples=100), [batch_of(*range(50)), batch_of(*range(50, 100))]
    for step, batch in enumerate(halves):
        list(replace(method, nce=False).step(net, batch, Clock(0, 0, step, 100, 2)))
    net.partition.fill_((net.bank.embeddings[:50] @ net.bank.embeddings[50:].T / 0.07).exp().mean() * 100)
    stream = [(Clock(0, step // 2, step, 100, 2), halves[step % 2]) for step in range(2, 30)]
    records = optimize(method, net, players_of(net, NPID.small, 50), stream)
    losses = [objective.loss.item() for record in records for objective in record.objectives]
    assert len(losses) == 28
    assert max(losses) == max(losses[:3])
    assert losses[-1] < chance(32)


def test_the_cross_entropy_of_drawn_negatives_learns(trained):
    method = replace(NPID.under(NPID.small), negatives=64, temperature=0.07)
    losses = [objective.loss.item() for objective in trained(method, NPID.small, epochs=12)]
    assert len(losses) == 11 * 8, "the first epoch fills the bank"
    assert fmean(losses[-8:]) < 0.9 * log(65) < fmean(losses[:8])


def test_the_softmax_of_drawn_negatives_is_that_of_the_image_and_its_rows():
    method, batch = replace(SMALL, negatives=6, shared=False), batch_of(3, 0, 11, 7)
    net = networks(method)
    objective = next(method.step(net, batch, TRAINS))
    z, rows = normalize(objective.embedding.detach(), dim=1), integers(batch.key, 6, 20, NEGATIVES)
    logits = torch.cat([batch.index[:, None], rows], dim=1)  # rows of the bank, (N, 1 + K)
    scores = (net.bank.embeddings[logits] @ z[:, :, None])[..., 0] / method.temperature
    assert objective.loss.item() == pytest.approx(cross_entropy(scores, torch.zeros(4).long()).item(), rel=1e-5)
    assert objective.negatives == 6


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
    with pytest.raises(BadInput, match="negatives=4096"):
        NPID(negatives=None, nce=True)
