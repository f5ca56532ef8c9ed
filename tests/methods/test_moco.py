from copy import deepcopy
from dataclasses import replace
from math import log

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.nn.functional import normalize

from sanslabel import distributed, encoders
from sanslabel.batch import Batch, Clock, Facts
from sanslabel.errors import BadInput
from sanslabel.losses import info_nce
from sanslabel.methods.moco import MoCo
from sanslabel.randomness import fold
from sanslabel.views import EncoderInput, ghost_batches

SMALL = replace(MoCo.under(MoCo.small), width=16, hidden=32, queue=32)
CLOCK = Clock(0, 0, 0, 10, 5)


def batch_of(*rows: int) -> Batch:
    index = torch.tensor(rows)
    images = torch.rand(100, 1, 8, 8, generator=torch.Generator().manual_seed(1))[index]
    return Batch.of_images(images, index, fold(torch.full_like(index, 7), index), torch.full_like(index, -1))


BATCH = batch_of(*range(8))


def networks(method: MoCo, samples: int = 100):
    torch.manual_seed(0)
    encoder = encoders.build("conv", channels=1, image_size=8)
    return method.networks(encoder, Facts.of_images(samples, 1, 8, 8, 0)).train()


@pytest.mark.parametrize(("symmetric", "rows"), [(False, 8), (True, 16)])
def test_a_step_replaces_exactly_its_keys_in_the_queue_after_the_update(symmetric, rows):
    method = replace(SMALL, symmetric=symmetric)
    net = networks(method)
    start = net.queue.embeddings.clone()
    step = method.step(net, BATCH, CLOCK)
    next(step)
    assert torch.equal(net.queue.embeddings, start)
    step.close()
    assert torch.equal(net.queue.embeddings, start), "a refused step leaves no trace"
    with torch.no_grad():
        views = [method.view(BATCH, stream) for stream in (1, 0)][: 1 + symmetric]
        keys = [normalize(net.teacher.projector(net.teacher.encoder(view)), dim=1) for view in views]
    list(method.step(net, BATCH, CLOCK))
    torch.testing.assert_close(net.queue.embeddings[:rows], torch.cat(keys))
    assert torch.equal(net.queue.embeddings[rows:], start[rows:])
    assert net.queue.cursor == rows
    for k in range(1, 4):
        list(method.step(net, BATCH, CLOCK._replace(step=k)))
    assert not (net.queue.embeddings == start).all(dim=1).any(), "none of the random rows is left"


def test_a_queue_is_never_longer_than_the_data():
    assert len(networks(SMALL, samples=100).queue.embeddings) == 32
    assert len(networks(replace(SMALL, queue=65_536), samples=100).queue.embeddings) == 100


@pytest.mark.parametrize("symmetric", [False, True])
def test_collapse_gives_the_log_of_all_candidates(symmetric):
    method = replace(SMALL, symmetric=symmetric)
    net = networks(method)
    with torch.no_grad():
        for head in (net.projector, net.teacher.projector):
            head[-1].weight.zero_()
            head[-1].bias.fill_(1.0)
        net.queue.embeddings.copy_(normalize(torch.ones_like(net.queue.embeddings), dim=1))
    (objective,) = method.step(net, BATCH, CLOCK)
    assert objective.loss.item() == pytest.approx(log(33), rel=1e-5)
    assert objective.trivial == pytest.approx(log(33))


def test_the_symmetric_loss_is_the_mean_of_both_directions():
    net = networks(SMALL).eval()  # so that the passes for comparison see the same
    first, second = (SMALL.view(BATCH, stream) for stream in (0, 1))
    q, r = (net.projector(net.encoder(view)) for view in (first, second))
    k, s = (net.teacher.projector(net.teacher.encoder(view)) for view in (second, first))
    one, other = info_nce(q, k, net.queue.embeddings, 0.2), info_nce(r, s, net.queue.embeddings, 0.2)
    assert next(SMALL.step(net, BATCH, CLOCK)).loss.item() == pytest.approx((one + other).item() / 2, rel=1e-5)
    asymmetric = replace(SMALL, symmetric=False)
    assert next(asymmetric.step(net, BATCH, CLOCK)).loss.item() == pytest.approx(one.item(), rel=1e-5)


@pytest.mark.parametrize("momentum", [1.0, 0.0, 0.9])
def test_the_teacher_follows_after_the_update(momentum):
    method = replace(SMALL, momentum=momentum)
    net = networks(method)
    start = net.teacher.encoder.stem[0].weight.clone()
    step = method.step(net, BATCH, CLOCK)
    next(step)
    with torch.no_grad():
        net.encoder.stem[0].weight.add_(1.0)  # the update
    assert torch.equal(net.teacher.encoder.stem[0].weight, start)
    assert list(step) == []
    torch.testing.assert_close(net.teacher.encoder.stem[0].weight, start + 1 - momentum)


def test_keys_carry_no_gradient():
    net = networks(SMALL)
    assert not SMALL.keys(net.teacher, EncoderInput(SMALL.view(BATCH, 1)), 3).requires_grad
    (objective,) = SMALL.step(net, BATCH, CLOCK)
    objective.loss.backward()
    assert all(p.grad is None for p in net.teacher.parameters())
    assert all(p.grad is not None for part in (net.encoder, net.projector) for p in part.parameters())


def test_groups_are_normalized_one_by_one():
    net = networks(SMALL)
    images = BATCH.images().pixels
    parts = ghost_batches(net.encoder, EncoderInput(images), 4)
    for first in range(4):
        torch.testing.assert_close(parts[first::4], net.encoder(images[first::4]))
    torch.testing.assert_close(ghost_batches(net.encoder, EncoderInput(images), 1), net.encoder(images))
    assert not torch.allclose(parts, net.encoder(images))


def test_groups_keep_the_patches_of_their_samples():
    encoder = encoders.build("vit_micro", channels=1, image_size=8, patch=2)
    keep = torch.rand(8, 16).argsort(dim=1)[:, :4]
    view = EncoderInput(BATCH.images().pixels, keep, 2)
    torch.testing.assert_close(ghost_batches(encoder, view, 4), encoder(*view))


def test_shuffling_is_undone():
    """With one group, or without batch statistics, the keys are those of the batch as it is; with more groups each key
    is normalized among others, which are drawn anew in each step."""
    net, view = networks(SMALL), EncoderInput(SMALL.view(BATCH, 1))
    plain = net.teacher.projector(net.teacher.encoder(*view))
    torch.testing.assert_close(SMALL.keys(net.teacher, view, 3), plain)
    split = replace(SMALL, groups=2)
    keys, same, others = (split.keys(net.teacher, view, key) for key in (3, 3, 4))
    assert torch.equal(keys, same)
    assert not torch.allclose(keys, plain, atol=1e-4)
    assert not torch.allclose(keys, others, atol=1e-4)
    net.teacher.eval()
    torch.testing.assert_close(split.keys(net.teacher, view, 3), net.teacher.projector(net.teacher.encoder(*view)))


def test_a_query_and_its_key_seldom_share_their_group():
    """Else the statistics would tell which key is the query's."""
    seen = []

    class Groups(torch.nn.Module):
        def forward(self, images, keep=None, patch=None):
            seen.append(set(images[:, 0, 0, 0].long().tolist()))
            return images.flatten(1)

    method = replace(SMALL, groups=4)
    teacher = torch.nn.ModuleDict({"encoder": Groups(), "projector": torch.nn.Identity()})
    teacher.encoder, teacher.projector = teacher["encoder"], teacher["projector"]
    images = torch.arange(32.0)[:, None, None, None]
    for step in range(50):
        keys = method.keys(teacher, EncoderInput(images), CLOCK._replace(step=step).key)
        assert torch.equal(keys, images.flatten(1)), "each key is at its query's place"
    shared = [len(group & {i for i in range(32) if i % 4 == g % 4}) for g, group in enumerate(seen)]
    assert sum(shared) / 32 / 50 == pytest.approx(1 / 4, abs=0.03)


def test_groups_that_do_not_divide_the_batch_are_refused():
    method = replace(SMALL, groups=3)
    with pytest.raises(BadInput, match=r"8 samples.*3 equal groups"):
        next(method.step(networks(method), BATCH, CLOCK))
    with pytest.raises(BadInput, match="queue"):
        MoCo(queue=0)


def test_version_one_has_a_linear_head():
    net = networks(replace(SMALL, layers=1))
    assert [m.out_features for m in net.projector] == [16]


def _two_processes(rank: int, store: str) -> None:
    method = replace(SMALL, groups=2)
    torch.manual_seed(0)
    encoder = encoders.build("vit_micro", channels=1, image_size=8, patch=2)  # BatchNorm would see one process alone
    alone = method.networks(encoder, Facts.of_images(100, 1, 8, 8, 0))
    ours = deepcopy(alone)
    (expected,) = method.step(alone, BATCH, CLOCK)
    expected.loss.backward()
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    try:
        mine = BATCH.map(distributed.local_slice)
        (objective,) = method.step(ours, mine, CLOCK)
        objective.loss.backward()
        torch.testing.assert_close(objective.loss, expected.loss)
        torch.testing.assert_close(ours.queue.embeddings, alone.queue.embeddings)
        for p, q in zip(ours.projector.parameters(), alone.projector.parameters(), strict=True):
            torch.testing.assert_close(distributed.all_reduce_mean(p.grad), q.grad)
    finally:
        dist.destroy_process_group()


def test_two_processes_shuffle_their_keys_as_one(tmp_path):
    mp.spawn(_two_processes, args=(str(tmp_path / "store"),), nprocs=2)
