from dataclasses import replace
from itertools import islice
from math import log
from types import SimpleNamespace

import pytest
import torch
from torch.nn.functional import normalize

from sanslabel import encoders, views
from sanslabel.batch import Clock, Facts
from sanslabel.clustering import Clusters, spherical_kmeans
from sanslabel.engine import optimize, players_of
from sanslabel.errors import BadInput
from sanslabel.memory import Bank
from sanslabel.methods.deepcluster import DeepCluster
from sanslabel.randomness import fold
from sanslabel.sources import open_source
from sanslabel.sources.loader import batches

CROPS = replace(views.SWAV, local_crops=1)
LATER = Clock(0, 1, 2, 10, 2)


def small(**numbers) -> DeepCluster:
    return DeepCluster(**{"clusters": 10, "hidden": 32, "width": 16, "view": CROPS, **numbers}).sized(8)


@pytest.fixture(scope="module")
def run():
    """A function that trains on 70 digits in batches of 32, so that six are left out of each epoch: networks after
    each step, with the step's objectives. One batch may be spoiled by a pixel that is not a number."""
    source = open_source("digits", "train").subset(torch.arange(70))

    def spoiled(batch):
        images = batch.images().pixels / 255
        images[0, 0, 0, 0] = torch.nan
        return batch.with_pixels(images)

    def steps(method: DeepCluster, epochs: int = 3, spoil: int = -1):
        torch.manual_seed(0)
        net = method.networks(encoders.build("conv", channels=1, image_size=8), source.facts(8)).train()
        drawn = batches(source, 32, seed=1, epochs=epochs, device=torch.device("cpu"))
        stream = ((clock, spoiled(batch) if clock.step == spoil else batch) for clock, batch in drawn)
        for record in optimize(method, net, players_of(net, DeepCluster.small, 32), stream):
            yield net, record

    return steps


def told(embeddings: torch.Tensor, centroids: torch.Tensor, assignments: torch.Tensor, batch, **numbers):
    """The objective of networks whose embeddings, (V N, D), and clusters, of all heads alike, are given."""
    clusters = Clusters(len(assignments), *reversed(centroids.shape))
    clusters.centroids.copy_(centroids)
    clusters.assignments.copy_(assignments)
    net = SimpleNamespace(
        encoder=lambda images, *_: images.flatten(1),
        projector=lambda x: embeddings,
        clusters=[clusters],
        banks=[Bank(len(assignments), embeddings.shape[1])],
    )
    return next(small(**numbers).step(net, batch, LATER))


def test_the_first_epoch_fills_the_memory_and_moves_nothing(run):
    steps = run(small())
    net, record = next(steps)
    assert record.objectives == []
    weights = [p.detach().clone() for p in net.parameters()]
    for bank in net.banks:
        seen = bank.embeddings.any(dim=1)
        assert seen.sum() == 32
        assert seen[record.batch.index].all()
        torch.testing.assert_close(bank.embeddings[seen].norm(dim=1), torch.ones(32))
    assert (net.clusters[0].assignments == -1).all()
    net, record = next(steps)
    assert record.objectives == []
    for p, before in zip(net.parameters(), weights, strict=True):
        assert torch.equal(p, before)
    assert not torch.equal(net.banks[0].embeddings, net.banks[1].embeddings), "one for each global crop"


def test_samples_are_grouped_at_the_end_of_every_epoch_and_those_never_seen_are_not(run):
    groups = [net.clusters[0].assignments.clone() for net, _ in run(small())]
    before, first, same, second, *_ = groups
    assert (before == -1).all()
    assert (first == -1).sum() == 6
    assert torch.equal(same, first), "nothing changes within an epoch"
    assert not torch.equal(second, first)
    assert (second == -1).sum() < 6


def test_a_refused_last_step_of_an_epoch_does_not_skip_its_clustering(run):
    """The clusters of the next epoch are those of the embeddings that its other steps wrote."""
    banks, refused = [], []
    for net, record in islice(run(small(), spoil=3), 4):
        banks.append([bank.embeddings.clone() for bank in net.banks])
        refused.append(record.refused)
        key = record.clock.key
    assert refused == [False, False, False, True]
    assert all(torch.equal(*pair) for pair in zip(banks[3], banks[2], strict=True)), "the step itself leaves no trace"
    assert not torch.equal(banks[2][0], banks[1][0])
    for head, crop in enumerate((0, 1, 0)):
        expected = spherical_kmeans(banks[2][crop], 10, fold(key, head))
        assert torch.equal(net.clusters[head].centroids, expected.centroids)
        assert torch.equal(net.clusters[head].assignments, expected.assignments)


def test_each_head_groups_the_memory_of_its_crop_from_a_start_of_its_own(run):
    net, record = list(islice(run(small(), epochs=2), 2))[-1]
    assert len(net.clusters) == 3
    for head, crop in enumerate((0, 1, 0)):
        expected = spherical_kmeans(net.banks[crop].embeddings, 10, fold(record.clock.key, head))
        assert torch.equal(net.clusters[head].centroids, expected.centroids)
        assert torch.equal(net.clusters[head].assignments, expected.assignments)
    assert not torch.equal(net.clusters[0].centroids, net.clusters[2].centroids)


def test_no_gradient_reaches_centroids(run):
    for net, record in run(small()):
        assert not [name for name, _ in net.named_parameters() if name.startswith(("clusters", "banks"))]
        if record.clock.step == 1:
            centroids = net.clusters[0].centroids.clone()
        if record.clock.step == 2:
            assert len(record.objectives) == 1
            assert torch.equal(net.clusters[0].centroids, centroids)


def test_centroids_that_say_nothing_cost_the_logarithm_of_the_clusters(first_batches):
    (_, batch), *_ = first_batches()
    found = told(torch.randn(96, 16), torch.zeros(10, 16), torch.arange(64) % 10, batch)
    assert found.loss.item() == pytest.approx(log(10))
    assert found.trivial == log(10)


def test_the_loss_is_the_loop_over_crops_and_passes_over_samples_without_a_cluster(first_batches):
    (_, batch), *_ = first_batches()
    z, centroids = torch.randn(96, 16), normalize(torch.randn(10, 16), dim=1)
    assignments = torch.arange(64) % 10
    assignments[batch.index[:11]] = -1
    total, count = 0.0, 0
    for crop in z.split(32):
        for row, index in zip(crop, batch.index, strict=True):
            if assignments[index] >= 0:
                logits = normalize(row, dim=0) @ centroids.T / 0.1
                total -= logits.log_softmax(dim=0)[assignments[index]].item()
                count += 1
    assert count == 3 * 21
    assert told(z, centroids, assignments, batch).loss.item() == pytest.approx(total / count, rel=1e-5)
    none = told(z, centroids, torch.full((64,), -1), batch)
    assert none.loss == 0


def test_names_of_clusters_do_not_matter(first_batches):
    (_, batch), *_ = first_batches()
    z, centroids, assignments = torch.randn(96, 16), torch.randn(10, 16), torch.arange(64) % 10
    order = torch.randperm(10, generator=torch.Generator().manual_seed(0))
    renamed = told(z, centroids[order], order.argsort()[assignments], batch)
    assert renamed.loss.item() == pytest.approx(told(z, centroids, assignments, batch).loss.item(), rel=1e-5)


def test_there_are_at_most_a_quarter_as_many_clusters_as_samples():
    facts = Facts.of_images(samples=64, channels=1, height=8, width=8, classes=0)
    net = small(clusters=3000).networks(encoders.build("conv", channels=1, image_size=8), facts)
    assert len(net.clusters[0].centroids) == 16


def test_one_epoch_is_refused(first_batches):
    clock, batch = first_batches()[0]
    with pytest.raises(BadInput, match="epochs=2"):
        next(small().step(SimpleNamespace(), batch, clock))


def test_it_learns_without_collapse(trained):
    view = views.MultiCrop(global_crop=views.View(crop=(0.5, 1.0)), local_crops=0)
    method = DeepCluster(clusters=32, hidden=64, width=32, view=view).sized(8)
    first, *_, last = trained(method, DeepCluster.small, epochs=5)
    assert last.loss < 0.8 * first.loss
    assert last.terms["usage"] > 16


def test_a_teachers_embeddings_are_clustered_and_it_follows(first_batches):
    method = small(teacher_momentum=0.75)
    torch.manual_seed(0)
    net = method.networks(encoders.build("conv", channels=1, image_size=8), Facts.of_images(64, 1, 8, 8, 0)).train()
    with torch.no_grad():
        net.projector[-1].weight.neg_()
        net.projector[-1].bias.neg_()
    slow = net.teacher.projector[-1].weight.clone()
    (clock, batch), *_ = first_batches(2)
    assert list(method.step(net, batch, clock)) == []
    rows = net.banks[0].embeddings[batch.index]
    with torch.no_grad():
        crop = method.view.inputs(batch)[0]
        expected = net.teacher.projector(net.teacher.encoder(*crop))
    assert torch.cosine_similarity(rows, expected, dim=1).min() > 0.99
    torch.testing.assert_close(net.teacher.projector[-1].weight, 0.75 * slow + 0.25 * net.projector[-1].weight)
