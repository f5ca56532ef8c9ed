"""Clusters against labels, and retrieval: oracles, scikit-learn, and the labels' absence from the clusters."""

import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import average_precision_score

from sanslabel.evaluation.protocols import retrieval
from sanslabel.evaluation.protocols.cluster import agreement
from sanslabel.evaluation.protocols.retrieval import mean_average_precision


@pytest.fixture
def labels(generator):
    return torch.randint(10, (500,), generator=generator), torch.randint(10, (200,), generator=generator)


def test_classes_that_are_directions_agree_wholly(labels):
    train, test = labels
    features = [F.one_hot(x, 10).float() for x in labels]
    assert agreement(features[0], train, features[1], test, classes=10, seed=0) == pytest.approx((100, 100, 100))


def test_noise_agrees_by_chance(labels, generator):
    noise = [torch.randn(len(x), 16, generator=generator) for x in labels]
    agreed = agreement(noise[0], labels[0], noise[1], labels[1], classes=10, seed=0)
    assert abs(agreed.rand) < 3
    assert agreed.accuracy < 25


def test_labels_take_no_part_in_the_clusters(digits):
    train, labels, test, test_labels = digits
    one = agreement(train, labels, test, test_labels, classes=10, seed=0)
    other = agreement(train, (labels + 3) % 10, test, (test_labels + 3) % 10, classes=10, seed=0)
    assert one == pytest.approx(other)
    assert 60 < one.information < 90
    assert 60 < one.accuracy < 95
    assert agreement(train, labels, test, test_labels, classes=10, seed=0) == one


def test_clusters_are_matched_on_training_rows():
    """Test labels that are shifted against the training labels are all wrong, though clusters fit them."""
    labels = torch.arange(4).repeat(20)
    features = F.one_hot(labels, 4).float()
    agreed = agreement(features, labels, features, (labels + 1) % 4, classes=4, seed=0)
    assert agreed == pytest.approx((100, 100, 0))


def test_average_precision_is_that_of_scikit_learn(digits, monkeypatch):
    train, labels, test, test_labels = digits
    cosine = F.normalize(test[:50], dim=1) @ F.normalize(train, dim=1).T
    precisions = [
        average_precision_score(labels == one, row) for one, row in zip(test_labels[:50], cosine, strict=True)
    ]
    expected = 100 * sum(precisions) / len(precisions)
    assert mean_average_precision(train, labels, test[:50], test_labels[:50]) == pytest.approx(expected, abs=1e-3)
    monkeypatch.setattr(retrieval, "BLOCK", 3 * len(train))
    assert mean_average_precision(train, labels, test[:50], test_labels[:50]) == pytest.approx(expected, abs=1e-3)


def test_average_precision_by_hand():
    gallery = torch.tensor([[1.0, 0], [0.9, 0.1], [0.5, 0.5], [0, 1]])
    labels, query = torch.tensor([0, 1, 0, 1]), torch.tensor([[1.0, 0]])
    assert mean_average_precision(gallery, labels, query, torch.tensor([0])) == pytest.approx(100 * (1 + 2 / 3) / 2)
    assert mean_average_precision(gallery, labels, query, torch.tensor([1])) == pytest.approx(100 * (1 / 2 + 2 / 4) / 2)
    both = mean_average_precision(gallery, labels, query.repeat(2, 1), torch.tensor([0, 5]))
    assert both == pytest.approx(100 * (1 + 2 / 3) / 2), "a class that the gallery lacks is left out"
