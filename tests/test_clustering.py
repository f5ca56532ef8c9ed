import pytest
import torch
from torch.nn.functional import normalize

from sanslabel import clustering
from sanslabel.clustering import Clusters, spherical_kmeans


def points(n: int = 200, d: int = 6, seed: int = 0) -> torch.Tensor:
    return normalize(torch.randn(n, d, generator=torch.Generator().manual_seed(seed)), dim=1)


def blobs(groups: int, each: int, d: int = 16) -> torch.Tensor:
    """(groups · each, D), tight groups one after the other around axes."""
    centers = torch.eye(d)[:groups].repeat_interleave(each, dim=0)
    return normalize(centers + 0.05 * torch.randn(groups * each, d, generator=torch.Generator().manual_seed(0)), dim=1)


def loop(x, centroids, iterations):
    """Point by point, centroid by centroid."""
    centroids = [c.double() for c in centroids]
    for _ in range(iterations + 1):
        own = [max(range(len(centroids)), key=lambda k, p=p: float(p.double() @ centroids[k])) for p in x]
        before = list(centroids)
        for k in range(len(centroids)):
            members = [p.double() for p, o in zip(x, own, strict=True) if o == k]
            if members:
                centroids[k] = sum(members) / sum(members).norm()
    return torch.stack(before).float(), torch.tensor(own)


def test_the_objective_never_falls():
    found = [spherical_kmeans(points(), 10, 1, iterations).objective.item() for iterations in range(12)]
    assert found == sorted(found)
    assert found[-1] > found[0] + 0.02


def test_assignments_are_the_nearest_centroid_of_unit_length():
    x = points()
    found = spherical_kmeans(x, 10, 1)
    torch.testing.assert_close(found.centroids.norm(dim=1), torch.ones(10))
    cosines = x @ found.centroids.T
    assert torch.equal(found.assignments, cosines.argmax(dim=1))
    assert found.objective.item() == pytest.approx(cosines.max(dim=1).values.mean().item())
    assert torch.equal(found.sizes, torch.bincount(found.assignments, minlength=10))


def test_it_is_the_loop_of_the_algorithm():
    x = points(60)
    first = spherical_kmeans(x, 7, 3, iterations=0).centroids
    centroids, own = loop(x, first, 4)
    found = spherical_kmeans(x, 7, 3, iterations=4)
    torch.testing.assert_close(found.centroids, centroids, rtol=1e-4, atol=1e-5)
    assert torch.equal(found.assignments, own)


def test_the_first_centroids_are_different_points():
    x = points(20)
    first = spherical_kmeans(x, 20, 1, iterations=0)
    assert sorted(first.assignments.tolist()) == list(range(20))
    assert first.objective.item() == pytest.approx(1)


def test_it_belongs_to_its_key():
    one, again, other = (spherical_kmeans(points(), 10, key) for key in (1, 1, 2))
    for a, b in zip(one, again, strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(one.centroids, other.centroids)


def test_well_separated_groups_are_found():
    x = blobs(4, 25)
    found = max((spherical_kmeans(x, 4, key) for key in range(8)), key=lambda c: c.objective)
    groups = found.assignments.view(4, 25)
    assert (groups == groups[:, :1]).all()
    assert sorted(groups[:, 0].tolist()) == [0, 1, 2, 3]
    assert found.sizes.tolist() == [25] * 4


def test_empty_places_belong_to_nothing_and_change_nothing():
    x = points(50)
    spread_out = torch.zeros(120, 6)
    places = torch.randperm(120, generator=torch.Generator().manual_seed(0))[:50].sort().values
    spread_out[places] = x
    found = spherical_kmeans(spread_out, 5, 1)
    there = torch.zeros(120, dtype=torch.bool).index_fill_(0, places, True)
    assert (found.assignments[~there] == -1).all()
    assert torch.equal(found.assignments[there], (x @ found.centroids.T).argmax(dim=1))
    assert found.sizes.sum() == 50
    assert found.objective.item() == pytest.approx((x @ found.centroids.T).max(dim=1).values.mean().item())


def test_a_centroid_without_points_stays():
    x = torch.cat([points(1).expand(30, 6), -points(1).expand(30, 6)])
    found = spherical_kmeans(x, 8, 1)
    assert (found.sizes > 0).sum() == 2
    torch.testing.assert_close(found.centroids.norm(dim=1), torch.ones(8))
    few = spherical_kmeans(torch.cat([points(3), torch.zeros(20, 6)]), 5, 1)  # fewer points than centroids
    assert few.sizes.sum() == 3
    assert few.objective.item() == pytest.approx(1)
    none = spherical_kmeans(torch.zeros(9, 6), 5, 1)
    assert (none.assignments == -1).all()
    assert none.objective == 0


def test_chunks_change_nothing(monkeypatch):
    whole = spherical_kmeans(points(), 10, 1)
    monkeypatch.setattr(clustering, "CHUNK", 10 * 33)
    for a, b in zip(whole, spherical_kmeans(points(), 10, 1), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("chunk", [10 * 33, 1 << 24])
def test_sums_by_products_are_those_by_index(monkeypatch, chunk):
    """What other devices than CPUs compute."""
    x, own = points(), torch.randint(0, 10, (200,), generator=torch.Generator().manual_seed(0))
    expected = clustering._sums(x, own, 10)
    monkeypatch.setattr(clustering, "CHUNK", chunk)
    torch.testing.assert_close(clustering._by_products(x, own, 10), expected)


def test_clusters_remember_the_last_clustering():
    x = points()
    x[5] = 0
    clusters = Clusters(200, 6, 10)
    assert (clusters.assignments == -1).all()
    clusters.fit_(x, 1)
    found = spherical_kmeans(x, 10, 1)
    for name in ("centroids", "assignments", "sizes"):
        assert torch.equal(getattr(clusters, name), getattr(found, name))
    assert clusters.assignments[5] == -1
    assert not list(clusters.parameters())
    with torch.autocast("cpu", torch.bfloat16):
        clusters.fit_(x, 1)
        scores = clusters(3 * x)
    assert torch.equal(clusters.centroids, found.centroids), "exact also under autocast"
    assert torch.equal(scores, normalize(3 * x, dim=1) @ found.centroids.T)
