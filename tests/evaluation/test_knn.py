"""The vote of the nearest neighbors, against a loop and scikit-learn."""

import math

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

from sanslabel.evaluation import knn
from sanslabel.evaluation.knn import predictions


def by_loop(train, labels, test, classes, k, temperature):
    """As NPID writes it, one test row at a time; of equal rows the earlier, of equal votes the lower class."""
    predicted = []
    for row in test:
        cosines = [float(row @ other / (row.norm() * other.norm())) for other in train]
        nearest = sorted(range(len(train)), key=lambda i: (-cosines[i], i))[:k]
        votes = [sum(math.exp(cosines[i] / temperature) for i in nearest if labels[i] == c) for c in range(classes)]
        predicted.append(votes.index(max(votes)))
    return predicted


@pytest.mark.parametrize("k", [1, 5, 20])
@pytest.mark.parametrize("temperature", [0.07, 0.5, math.inf])
def test_predictions_are_those_of_the_loop(generator, k, temperature):
    train, test = (torch.randn(n, 6, generator=generator) for n in (60, 40))
    labels = torch.randint(4, (60,), generator=generator)
    predicted = predictions(train, labels, test, classes=4, k=k, temperature=temperature)
    assert predicted.tolist() == by_loop(train, labels, test, 4, k, temperature)


@pytest.mark.parametrize("temperature", [0.07, math.inf])
def test_predictions_are_those_of_scikit_learn(digits, temperature):
    train, labels, test, truth = digits

    def weights(distances):
        return np.exp((1 - distances) / temperature)

    peer = KNeighborsClassifier(n_neighbors=20, metric="cosine", algorithm="brute", weights=weights)
    expected = torch.from_numpy(peer.fit(train, labels).predict(test))
    predicted = predictions(train, labels, test, classes=10, k=20, temperature=temperature)
    # Plain votes tie and equal distances differ by rounding: a row in a hundred may go another way.
    assert (predicted == expected).float().mean() > (0.99 if math.isinf(temperature) else 0.997)
    assert (predicted == truth).float().mean() > 0.95


def test_every_row_is_its_own_nearest(digits):
    train, labels, *_ = digits
    assert torch.equal(predictions(train, labels, train, classes=10, k=1), labels)


def test_all_rows_and_an_infinite_temperature_give_the_commonest_class(generator):
    train, test = torch.randn(50, 8, generator=generator), torch.randn(20, 8, generator=generator)
    labels = torch.tensor([2] * 18 + [0] * 16 + [1] * 16)
    for k in (50, 1000):  # more than there are means all
        assert predictions(train, labels, test, classes=3, k=k, temperature=math.inf).tolist() == [2] * 20


def test_scale_and_the_order_of_the_bank_do_not_matter(digits, generator):
    train, labels, test, _ = digits
    expected = predictions(train, labels, test, classes=10)
    scales = torch.rand(len(train), 1, generator=generator) + 0.5
    order = torch.randperm(len(train), generator=generator)
    assert torch.equal(predictions(train * scales, labels, test * 1e-3, classes=10), expected)
    assert torch.equal(predictions(train[order], labels[order], test, classes=10), expected)


def test_blocks_do_not_matter(digits, monkeypatch):
    train, labels, test, _ = digits
    expected = predictions(train, labels, test, classes=10)
    monkeypatch.setattr(knn, "BLOCK", 7 * len(train))
    assert torch.equal(predictions(train, labels, test, classes=10), expected)


@pytest.mark.parametrize("length", [2, 7, 1000])
def test_of_equally_near_rows_the_earlier_count(length, monkeypatch):
    """Also where they lie in different parts of the bank."""
    monkeypatch.setattr(knn, "BLOCK", length * knn.QUERIES)
    train = torch.eye(2).repeat_interleave(300, dim=0)  # 300 copies of each of two directions
    labels = torch.tensor([3] * 5 + [1] * 295 + [0] * 300)
    test = torch.tensor([[1.0, 0.0], [0.9, 0.1]])
    assert predictions(train, labels, test, classes=4, k=5).tolist() == [3, 3]
    assert predictions(train, labels, test, classes=4, k=9, temperature=math.inf).tolist() == [3, 3]
    assert predictions(train, labels, test, classes=4, k=11).tolist() == [1, 1]


def test_of_equal_votes_the_lower_class_wins():
    train, labels = torch.eye(4), torch.tensor([3, 1, 2, 0])
    test = torch.ones(1, 4)
    assert predictions(train, labels, test, classes=4, k=3).tolist() == [1]


def test_a_small_temperature_does_not_overflow(digits):
    train, labels, test, _ = digits
    nearest = predictions(train, labels, test, classes=10, k=1)
    assert torch.equal(predictions(train, labels, test, classes=10, k=20, temperature=1e-6), nearest)
