from dataclasses import replace
from math import log

import pytest
import torch
from torch.nn.functional import normalize

from sanslabel import encoders, views
from sanslabel.batch import Batch, Clock, Facts
from sanslabel.encoders.patches import standardized
from sanslabel.errors import BadInput
from sanslabel.methods.npid import NPID
from sanslabel.methods.pirl import NEGATIVES, PIRL
from sanslabel.randomness import fold, integers

SMALL = replace(PIRL.under(PIRL.small), width=16, hidden=None)
FILLS, TRAINS = Clock(0, 0, 0, 10, 5), Clock(0, 1, 5, 10, 5)


def batch_of(*rows: int, size: int = 12) -> Batch:
    index = torch.tensor(rows)
    images = torch.rand(100, 1, size, size, generator=torch.Generator().manual_seed(1))[index]
    return Batch.of_images(images, index, fold(torch.full_like(index, 7), index), torch.full_like(index, -1))


BATCH = batch_of(3, 0, 11, 7)


def networks(method, samples: int = 20):
    torch.manual_seed(0)
    encoder = encoders.build("conv", channels=1, image_size=12)
    return method.networks(encoder, Facts.of_images(samples, 1, 12, 12, 0)).train()


def gradients(net, objective, part: str) -> torch.Tensor:
    net.zero_grad()
    objective.loss.backward(retain_graph=True)
    return torch.cat([p.grad.flatten() for p in net.get_submodule(part).parameters()])


@pytest.mark.parametrize("negatives", [None, 8])
def test_without_the_tiles_it_is_npid(negatives):
    method = replace(SMALL, weight=0.0, negatives=negatives)
    theirs = NPID(
        temperature=method.temperature, negatives=negatives, shared=True, width=method.width, view=method.view
    )
    net, other = networks(method), networks(theirs)
    other.load_state_dict(
        {k: v for k, v in net.state_dict().items() if k.split(".")[0] not in {"tile_projector", "joint_projector"}}
    )
    for clock in (FILLS, TRAINS):
        yields = zip(method.step(net, BATCH, clock), theirs.step(other, BATCH, clock), strict=True)
        for objective, expected in yields:
            assert objective.loss.item() == pytest.approx(expected.loss.item(), rel=1e-6)
            assert objective.trivial == expected.trivial
            torch.testing.assert_close(gradients(net, objective, "encoder"), gradients(other, expected, "encoder"))
    torch.testing.assert_close(net.bank.embeddings, other.bank.embeddings)


@pytest.mark.parametrize(
    ("weight", "idle", "moved"), [(1.0, "projector", "tile_projector"), (0.0, "tile_projector", "projector")]
)
def test_a_side_without_weight_has_no_gradient(weight, idle, moved):
    method = replace(SMALL, weight=weight)
    net = networks(method)
    (objective,) = method.step(net, BATCH, TRAINS)
    assert gradients(net, objective, idle).abs().max() == 0
    assert gradients(net, objective, moved).abs().max() > 0


def test_the_bank_is_written_once_after_the_update_with_the_image():
    net = networks(SMALL)
    start = net.bank.embeddings.clone()
    step = SMALL.step(net, BATCH, TRAINS)
    f = normalize(next(step).embedding.detach(), dim=1)
    assert torch.equal(net.bank.embeddings, start)
    assert list(step) == []
    torch.testing.assert_close(net.bank.embeddings[BATCH.index], normalize(0.5 * start[BATCH.index] + 0.5 * f, dim=1))
    assert torch.equal(net.bank.embeddings[[1, 2, 4]], start[[1, 2, 4]])
    assert not net.bank.embeddings.requires_grad


@pytest.mark.parametrize("transform", ["tiles", "rotation"])
def test_collapse_gives_the_log_of_all_samples(transform):
    method = replace(SMALL, transform=transform)
    net = networks(method, samples=50)
    with torch.no_grad():
        for head in (net.projector, net.tile_projector if transform == "rotation" else net.joint_projector):
            head[-1].weight.zero_()
            head[-1].bias.fill_(1.0)
        net.bank.embeddings.copy_(normalize(torch.ones_like(net.bank.embeddings), dim=1))
    (objective,) = method.step(net, BATCH, TRAINS)
    assert objective.loss.item() == pytest.approx(log(50), rel=1e-5)
    assert objective.trivial == pytest.approx(log(50))


def test_parts_are_the_standardized_tiles_each_sample_in_an_order_of_its_own():
    batch = batch_of(*range(50))
    parts = SMALL.transformed(batch, 1)
    cut = views.tiles(replace(SMALL.pieces, flip=0.0, jitter=0.0, blur=0.0)(batch, 1), batch.key, 4, 1)
    plain = standardized(views.view_of_each(cut, SMALL.pieces.without_crop, batch, 1))
    assert parts.shape == plain.shape == (50, 9, 1, 4, 4)
    same = (parts[:, :, None] == plain[:, None]).all(dim=(3, 4, 5))  # (N, place, tile)
    assert (same.sum(dim=1) == 1).all()
    assert (same.sum(dim=2) == 1).all()
    order = same.int().argmax(dim=2)
    assert len({tuple(row) for row in order.tolist()}) == 50
    torch.testing.assert_close(SMALL.transformed(batch_of(7, 8), 1), parts[7:9])  # whatever else is in the batch


def test_each_tile_is_mirrored_by_itself():
    batch = batch_of(*range(50))
    ramp = torch.arange(12.0).expand(50, 1, 12, 12) / 12  # brighter to the right
    parts = SMALL.transformed(batch.with_pixels(ramp), 1)
    mirrored = parts[..., 0].mean(dim=(2, 3)) > parts[..., -1].mean(dim=(2, 3))  # (N, 9)
    assert 0 < mirrored.sum(dim=1).float().mean() < 9
    assert mirrored.float().mean().item() == pytest.approx(0.5, abs=0.1)
    assert (mirrored.any(dim=1) & ~mirrored.all(dim=1)).float().mean() > 0.95


def test_the_order_of_tiles_matters_unless_the_head_is_symmetric(monkeypatch):
    def losses(net) -> list[float]:
        found = [next(method.step(net, BATCH, TRAINS)).loss.item()]
        with monkeypatch.context() as patch:
            patch.setattr(views, "shuffled", lambda parts, order: parts)
            return [*found, next(method.step(net, BATCH, TRAINS)).loss.item()]

    method = replace(SMALL, weight=1.0)
    net = networks(method)
    one, other = losses(net)
    assert one != pytest.approx(other, rel=1e-4)
    with torch.no_grad():
        net.joint_projector[-1].weight.copy_(net.joint_projector[-1].weight[:, : method.width].repeat(1, 9))
    one, other = losses(net)
    assert one == pytest.approx(other, rel=1e-5)


def test_rotation_turns_whole_images_by_every_quarter():
    method, batch = replace(SMALL, transform="rotation"), batch_of(*range(50))
    parts = method.transformed(batch, 1)
    assert parts.shape == (50, 1, 1, 12, 12)
    every = views.rotations(method.pieces(batch, 1))
    quarters = (every == parts).all(dim=(2, 3, 4)).int()
    assert (quarters.sum(dim=1) == 1).all()
    assert set(quarters.argmax(dim=1).tolist()) == {0, 1, 2, 3}


@pytest.mark.parametrize(("size", "patch", "tile"), [(8, 1, 2), (28, 1, 8), (28, 4, 8), (64, 8, 16), (64, 1, 16)])
def test_tiles_fit_images_and_transformers(size, patch, tile):
    assert SMALL.transformed(batch_of(3, 4, size=size), patch).shape == (2, 9, 1, tile, tile)


def test_the_papers_tiles_are_64_of_85_pixels():
    method = replace(PIRL(), pieces=replace(PIRL().pieces, size=255))
    assert method.sized(224).transformed(batch_of(3, 4, size=32), 1).shape == (2, 9, 1, 64, 64)
    with pytest.raises(BadInput, match="at most 85"):
        replace(method, tile=86).transformed(batch_of(3), 1)
    with pytest.raises(BadInput, match="weight"):
        PIRL(weight=1.1)


def test_hidden_layers_are_of_both_heads():
    net = networks(replace(SMALL, hidden=24))
    for head in (net.projector, net.tile_projector):
        assert [m.out_features for m in head if isinstance(m, torch.nn.Linear)] == [24, 16]


@pytest.mark.parametrize(
    ("nce", "count", "expected"),
    [
        (True, 1, 1.386294),
        (True, 10, 3.350997),
        (True, 4096, 9.317888),
        (False, 1, 0.693147),
        (False, 10, 2.397895),
        (False, 4096, 8.318010),
    ],
)
def test_drawn_negatives_where_nothing_is_told_apart(nce, count, expected):
    method = replace(SMALL, nce=nce, negatives=count, temperature=0.5)
    net = networks(method)
    with torch.no_grad():
        for head in (net.projector, net.tile_projector, net.joint_projector):
            head[-1].weight.zero_()
            head[-1].bias.fill_(1.0)
        net.bank.embeddings.fill_(16**-0.5)
        net.partition.fill_(20 * torch.tensor(2.0).exp())
    (objective,) = method.step(net, BATCH, TRAINS)
    assert objective.loss.item() == pytest.approx(expected, rel=3e-5)  # a sum over K in float32
    assert objective.trivial == pytest.approx(expected, rel=1e-6)


def test_z_is_that_of_the_first_tiles_and_the_random_bank():
    method = replace(SMALL, negatives=8, nce=True)
    net = networks(method)
    bank = net.bank.embeddings.clone()
    g = normalize(next(method.step(net, BATCH, FILLS)).positive.detach(), dim=1)
    assert net.partition == 0
    assert len(list(method.step(net, BATCH, FILLS))) == 1, "it trains from the first step on"
    rows = integers(torch.tensor([FILLS.key]), 8, 20, NEGATIVES)[0].expand(4, 8)
    scores = (bank[torch.cat([BATCH.index[:, None], rows], dim=1)] @ g[:, :, None]) / method.temperature
    first = net.partition.clone()
    assert first.item() == pytest.approx(20 * scores.exp().mean().item(), rel=1e-5)
    list(method.step(net, BATCH, TRAINS))
    assert torch.equal(net.partition, first)
    with pytest.raises(BadInput, match="negatives=32000"):
        replace(method, negatives=None)


def test_whole_images_pass_last():
    """BatchNorm's running statistics then end with images as evaluation reads them."""
    net, sizes = networks(SMALL), []
    net.encoder.register_forward_pre_hook(lambda module, args: sizes.append(tuple(args[0].shape)))
    list(SMALL.step(net, BATCH, TRAINS))
    assert sizes == [(36, 1, 4, 4), (4, 1, 12, 12)]


def test_tiles_embeddings_are_rectified_where_heads_have_a_hidden_layer():
    for hidden in (None, 24):
        method, embeddings = replace(SMALL, hidden=hidden), []
        net = networks(method)
        net.joint_projector.register_forward_pre_hook(lambda module, args, seen=embeddings: seen.append(args[0]))
        list(method.step(net, BATCH, TRAINS))
        assert (embeddings[0].min() < 0) == (hidden is None)


def test_a_teacher_writes_the_bank_and_follows():
    method = replace(SMALL, teacher_momentum=0.75)
    net = networks(method)
    with torch.no_grad():
        net.projector[-1].weight.neg_()  # so that student and teacher disagree
        net.projector[-1].bias.neg_()
    start, slow = net.bank.embeddings.clone(), net.teacher.projector[-1].weight.clone()
    step = method.step(net, BATCH, TRAINS)
    f = normalize(next(step).embedding.detach(), dim=1)
    assert list(step) == []
    torch.testing.assert_close(
        net.bank.embeddings[BATCH.index], normalize(0.5 * start[BATCH.index] - 0.5 * f, dim=1), atol=1e-4, rtol=1e-3
    )
    torch.testing.assert_close(net.teacher.projector[-1].weight, 0.75 * slow + 0.25 * net.projector[-1].weight)
