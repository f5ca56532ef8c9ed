"""Banks of pictures and sounds, and samples that agree in both."""

from dataclasses import replace
from math import exp, log
from statistics import fmean

import pytest
import torch
from torch.nn.functional import normalize

from bench.bouncing import small_source
from sanslabel import encoders
from sanslabel.batch import Clock
from sanslabel.consensus import consensus, integers_without
from sanslabel.engine import optimize, players_of
from sanslabel.errors import BadInput
from sanslabel.losses import info_nce
from sanslabel.methods import avid as module
from sanslabel.methods.avid import AVID, NEGATIVES, WITHIN
from sanslabel.sources.loader import batches

SAMPLES = 48
SMALLEST = {"image": {"name": "dcgan", "filters": 8}, "audio": {"name": "mlp", "hidden": [32]}}
NCE = replace(AVID(), width=16, hidden=16, negatives=8).sized(8)
SOFTMAX = replace(NCE, nce=False)
FIRST, LATER = Clock(0, 0, 0, 12, 3), Clock(0, 1, 3, 12, 3)


@pytest.fixture(scope="module")
def source():
    return small_source(SAMPLES, 8)


def batch_of(source, size=16):
    return next(iter(batches(source, size, seed=0, epochs=1, device=torch.device("cpu"))))[1]


def networks(source, method):
    torch.manual_seed(0)
    built = {signal: encoders.build(**SMALLEST[signal], **source.inputs[signal].arguments) for signal in method.signals}
    return method.networks(built, source.facts()).train()


def collapse_(net) -> None:
    """All embeddings and all memories are one vector."""
    with torch.no_grad():
        for projector in net.projectors.values():
            projector[-1].weight.zero_()
            projector[-1].bias.fill_(1.0)
        for bank in net.banks.values():
            bank.embeddings.copy_(normalize(torch.ones_like(bank.embeddings), dim=1))


@pytest.mark.parametrize("comparison", ["cross", "self", "joint"])
@pytest.mark.parametrize(
    ("nce", "negatives", "value"),
    [(True, 1024, 7.931960), (True, 64, 5.166655), (False, 64, log(65)), (False, None, log(SAMPLES))],
)
def test_where_nothing_is_told_apart(source, comparison, nce, negatives, value):
    method = replace(NCE, comparison=comparison, nce=nce, negatives=negatives)
    net = networks(source, method)
    collapse_(net)
    (objective,) = method.step(net, batch_of(source), FIRST if nce else LATER)
    assert objective.loss.item() == pytest.approx(value, rel=1e-5)
    assert objective.trivial == pytest.approx(value, abs=1e-6)


def test_no_sample_is_its_own_negative(source, monkeypatch):
    drawn, batch = [], batch_of(source)
    monkeypatch.setattr(module, "info_nce", lambda *arguments: drawn.append(arguments[-1]) or info_nce(*arguments))
    next(SOFTMAX.step(networks(source, SOFTMAX), batch, LATER))
    assert len(drawn) == 2
    for index in drawn:
        assert index.shape == (16, 8)
        assert not (index == batch.index[:, None]).any()
        assert torch.equal(index, drawn[0]), "both directions share their negatives"


def test_a_picture_is_compared_with_sounds_and_a_sound_with_pictures(source):
    """Within signals, each is compared with its own: the authors' code never computes that."""
    method, batch = replace(SOFTMAX, comparison="joint"), batch_of(source)
    net = networks(source, method)
    (objective,) = method.step(net, batch, LATER)
    bank = {signal: networks(source, method).banks[signal].embeddings for signal in method.signals}  # as it was
    drawn = integers_without(batch.key, 8, SAMPLES, batch.index[:, None], NEGATIVES)
    image, audio = objective.embedding, objective.positive

    def loss(query, memory):
        return info_nce(query, memory[batch.index], memory, 0.07, drawn).item()

    cross = fmean([loss(image, bank["audio"]), loss(audio, bank["image"])])
    within = fmean([loss(image, bank["image"]), loss(audio, bank["audio"])])
    assert objective.terms["cross_nll"].item() == pytest.approx(cross, rel=1e-5)
    assert objective.terms["self_nll"].item() == pytest.approx(within, rel=1e-5)
    assert objective.loss.item() == pytest.approx((cross + within) / 2, rel=1e-5)


def test_with_one_bank_for_both_and_equal_embeddings_cross_is_self(source):
    method, batch = replace(NCE, comparison="joint"), batch_of(source)
    net = networks(source, method)
    net.banks["audio"].load_state_dict(net.banks["image"].state_dict())
    z = torch.randn(16, 16, generator=torch.Generator().manual_seed(1))
    terms, _ = method.terms(net, {"image": z, "audio": z}, batch.index, batch.key, FIRST)
    assert terms["cross_nll"] == terms["self_nll"]


def test_the_banks_are_written_after_the_update_alone(source):
    net, batch = networks(source, NCE), batch_of(source)
    before = {signal: bank.embeddings.clone() for signal, bank in net.banks.items()}
    step = NCE.step(net, batch, FIRST)
    objective = next(step)
    assert all(torch.equal(net.banks[signal].embeddings, before[signal]) for signal in before)
    step.close()
    assert all(torch.equal(net.banks[signal].embeddings, before[signal]) for signal in before)
    assert net.partition == 0
    (objective,) = NCE.step(networks(source, NCE), batch, FIRST)
    net = networks(source, NCE)
    list(NCE.step(net, batch, FIRST))
    for signal, z in (("image", objective.embedding), ("audio", objective.positive)):
        expected = normalize(0.5 * before[signal][batch.index] + 0.5 * normalize(z.detach(), dim=1), dim=1)
        torch.testing.assert_close(net.banks[signal].embeddings[batch.index], expected)
        rest = [row for row in range(SAMPLES) if row not in batch.index.tolist()]
        assert torch.equal(net.banks[signal].embeddings[rest], before[signal][rest])


def test_z_is_that_of_the_first_negatives_and_then_frozen(source):
    net, batch = networks(source, NCE), batch_of(source)
    memory = net.banks["audio"].embeddings.clone()
    (objective,) = NCE.step(net, batch, FIRST)
    drawn, z = integers_without(batch.key, 8, SAMPLES, batch.index[:, None], NEGATIVES), objective.embedding
    scores = [(normalize(z[i], dim=0) @ memory[row]).item() / 0.07 for i in range(16) for row in drawn[i]]
    assert net.partition.item() == pytest.approx(SAMPLES * fmean(map(exp, scores)), rel=1e-5)
    first = net.partition.clone()
    for clock in (FIRST._replace(step=1), LATER):
        list(NCE.step(net, batch, clock))
    assert torch.equal(net.partition, first)


def test_without_z_the_first_epoch_fills_both_banks(source):
    net, batch = networks(source, SOFTMAX), batch_of(source)
    assert list(SOFTMAX.step(net, batch, FIRST)) == []
    (objective,) = SOFTMAX.step(net, batch, LATER._replace(steps=12))
    for signal, z in (("image", objective.embedding), ("audio", objective.positive)):
        cosine = (normalize(z, dim=1) * net.banks[signal].embeddings[batch.index]).sum(dim=1)
        assert cosine.min() > 0.9, signal
    (objective,) = SOFTMAX.step(networks(source, SOFTMAX), batch, Clock(0, 0, 0, 3, 3))
    assert objective.loss.requires_grad, "a run of one epoch trains in it"


AGREES = replace(SOFTMAX, positives=4, start=0.5, every=1, within_negatives=5)


@pytest.mark.parametrize("nce", [False, True])
def test_samples_that_agree_become_positives_within_each_signal(source, nce):
    method = replace(AGREES, nce=nce)
    net, recipe = networks(source, method), AVID.small
    stream = batches(source, 16, seed=0, epochs=4, device=torch.device("cpu"))
    found = []
    for record in optimize(method, net, players_of(net, recipe, 16), stream):
        for objective in record.objectives:
            assert ("consensus_nll" in objective.terms) == (record.clock.epoch >= 2)
            assert objective.loss.item() == pytest.approx(
                fmean([x.item() for name, x in objective.terms.items() if name.endswith("nll")]), rel=1e-5
            )
        found.append(net.positives.clone())
        if (record.clock.step + 1) % 3 == 0 and record.clock.epoch >= 1:
            expected = consensus(net.banks["image"].embeddings, net.banks["audio"].embeddings, 4)
            assert torch.equal(net.positives, expected)
    assert not found[4].any(), "the second epoch has not ended"
    assert torch.equal(found[5], found[7]), "all steps of an epoch have the same"


def test_positives_are_no_negatives(source):
    net, batch = networks(source, AGREES), batch_of(source)
    net.positives.copy_(consensus(net.banks["image"].embeddings, net.banks["audio"].embeddings, 4))
    z = {s: torch.randn(16, 16, generator=torch.Generator().manual_seed(i)) for i, s in enumerate(AGREES.signals)}
    terms, _ = AGREES.terms(net, z, batch.index, batch.key, Clock(0, 2, 6, 12, 3))
    own, positives = batch.index[:, None], net.positives[batch.index]
    excluded = torch.cat([own, positives], dim=1).sort(dim=1).values
    drawn = integers_without(batch.key, 5, SAMPLES, excluded, WITHIN)
    assert not (drawn[:, :, None] == excluded[:, None]).any()
    values = []
    for signal in AGREES.signals:
        memory = net.banks[signal].embeddings
        values += [
            info_nce(z[signal][i, None], memory[row, None], memory[drawn[i]], 0.07).item()
            for i in range(16)
            for row in positives[i]
        ]
    assert terms["consensus_nll"].item() == pytest.approx(fmean(values), rel=1e-5)
    trivial = AGREES.trivial(Clock(0, 2, 6, 12, 3), SAMPLES)
    assert trivial == pytest.approx((log(9) + log(6)) / 2)


def test_the_authors_form_needs_a_number_of_negatives():
    with pytest.raises(BadInput, match=r"^`nce` draws its negatives; give their number"):
        AVID(negatives=None)
