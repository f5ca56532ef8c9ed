"""The linear probe, against scikit-learn, finite differences and closed forms."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from sanslabel.evaluation import linear
from sanslabel.evaluation.linear import chosen_penalty, fifths, fitted


@pytest.mark.parametrize("penalty", [1.0, 1e-2, 1e-3])
@pytest.mark.parametrize("samples", [1438, 40])  # more rows than features, and fewer
def test_the_fit_is_that_of_scikit_learn(digits, penalty, samples):
    train, labels, test, _ = digits
    train, labels = train[:samples].double(), labels[:samples]
    scaler = StandardScaler().fit(train)
    peer = LogisticRegression(C=1 / (samples * penalty), tol=1e-8, max_iter=20_000)
    peer.fit(scaler.transform(train), labels)
    probe = fitted(train, labels, classes=10, penalty=penalty, tolerance=1e-13)
    assert probe.weight.dtype == torch.float64
    assert np.abs(probe.weight.T.numpy() - peer.coef_).max() < 2e-3 * np.abs(peer.coef_).max()
    # Only differences of biases matter; scikit-learn's may be shifted.
    bias, expected = probe.bias.numpy(), peer.intercept_
    assert np.abs((bias - bias.mean()) - (expected - expected.mean())).max() < 2e-3 * np.abs(expected).max()
    expected = torch.from_numpy(peer.predict(scaler.transform(test.double())))
    assert (probe.predictions(test) == expected).float().mean() > 0.995


def test_float32_at_the_default_tolerance_has_the_same_accuracy(digits):
    train, labels, test, _ = digits
    exact = fitted(train.double(), labels, classes=10, penalty=1e-2, tolerance=1e-13)
    probe = fitted(train, labels, classes=10, penalty=1e-2)
    assert probe.weight.dtype == torch.float32
    assert (probe.predictions(test) == exact.predictions(test)).float().mean() > 0.995


def overlapping(generator, samples=300, dimensions=12):
    """Features in float64 that tell four classes with some doubt, and the classes."""
    labels = torch.randint(4, (samples,), generator=generator)
    means = torch.randn(4, dimensions, generator=generator)
    return (means[labels] + 1.5 * torch.randn(samples, dimensions, generator=generator)).double(), labels


def test_the_fit_is_stationary(generator):
    """The gradient of mean cross-entropy + penalty / 2 · ‖W‖², by autograd, on the standardized features."""
    features = 3 * torch.randn(80, 5, generator=generator).double() + 7
    labels = torch.randint(3, (80,), generator=generator)
    probe = fitted(features, labels, classes=3, penalty=0.05, tolerance=1e-14)
    weight, bias = probe.weight.clone().requires_grad_(), probe.bias.clone().requires_grad_()
    standardized = (features - features.mean(0)) / features.std(0, correction=0)
    loss = F.cross_entropy(standardized @ weight + bias, labels) + 0.05 / 2 * weight.square().sum()
    loss.backward()
    assert weight.grad is not None
    assert bias.grad is not None
    assert max(weight.grad.abs().max(), bias.grad.abs().max()) < 1e-6


def test_one_hot_features_are_read_off_and_constant_ones_give_the_majority(generator):
    labels = torch.randint(6, (90,), generator=generator)
    hot = F.one_hot(labels, 6).float()
    penalty = chosen_penalty(hot, labels, classes=6, rounds=1, seed=0).best.penalty
    assert torch.equal(fitted(hot, labels, classes=6, penalty=penalty).predictions(hot), labels)

    constant = torch.full((90, 4), 0.1)
    probe = fitted(constant, labels, classes=6, penalty=1e-3)
    assert probe.predictions(torch.randn(10, 4, generator=generator)).tolist() == [int(labels.mode().values)] * 10


def test_a_feature_constant_in_training_says_nothing_later(digits):
    train, labels, test, _ = digits
    wider = torch.cat([train, torch.full((len(train), 1), 1000.1)], dim=1)
    probe = fitted(wider, labels, classes=10, penalty=1e-2)
    assert float(probe.scale[-1]) == 0
    odd = torch.cat([test, torch.full((len(test), 1), -5e4)], dim=1)
    expected = fitted(train, labels, classes=10, penalty=1e-2).predictions(test)
    assert (probe.predictions(odd) == expected).float().mean() > 0.995


def test_shift_and_scale_of_features_do_not_matter(digits):
    train, labels, test, _ = digits
    expected = fitted(train, labels, classes=10, penalty=1e-2).predictions(test)
    moved = fitted(1e3 * train + 50, labels, classes=10, penalty=1e-2).predictions(1e3 * test + 50)
    assert (moved == expected).float().mean() > 0.995


def test_blocks_do_not_matter(generator, monkeypatch):
    train, labels = overlapping(generator)
    fit = {"classes": 4, "penalty": 1e-2, "tolerance": 1e-13}
    choose = {"classes": 4, "rounds": 5, "seed": 0, "tolerance": 1e-10}
    expected, choice = fitted(train, labels, **fit).weight, chosen_penalty(train, labels, **choose)
    monkeypatch.setattr(linear, "BLOCK", 1000)
    assert torch.allclose(fitted(train, labels, **fit).weight, expected, atol=1e-5)
    again = chosen_penalty(train, labels, **choose)
    assert again.best.penalty == choice.best.penalty
    assert again.best.cross_entropy == pytest.approx(choice.best.cross_entropy, rel=1e-3)
    assert again.best.accuracy == choice.best.accuracy


def test_parts_are_alike_fixed_by_the_seed_and_mixed():
    labels = torch.tensor([0] * 50 + [1] * 23 + [2] * 4)
    fifth = fifths(labels, 0)
    assert fifth.bincount().tolist() == [16, 16, 15, 15, 15]
    for label, size in ((0, 50), (1, 23), (2, 4)):
        counts = fifth[labels == label].bincount(minlength=5)
        assert counts.max() - counts.min() <= 1
        assert counts.sum() == size
    assert torch.equal(fifths(labels, 0), fifth)
    assert not torch.equal(fifths(labels, 1), fifth)
    assert fifth[:50].diff().abs().sum() > 20  # in no order


@pytest.mark.parametrize("rounds", [1, 5])
def test_held_out_figures_are_those_of_separate_fits(generator, rounds):
    """The joint fit of all rounds, against one fit for each on the rows that it keeps."""
    train, labels = overlapping(generator)
    fifth = fifths(labels, 3)
    choice = chosen_penalty(train, labels, classes=4, rounds=rounds, seed=3, tolerance=1e-12)
    standardized = ((train - train.mean(0)) / train.std(0, correction=0)).numpy()
    entropy, right, count = 0.0, 0, 0
    for fold in range(rounds):
        kept, out = (fifth != fold).numpy(), (fifth == fold).numpy()
        peer = LogisticRegression(C=1 / (kept.sum() * choice.best.penalty), tol=1e-8, max_iter=10_000)
        peer.fit(standardized[kept], labels[kept])
        probability = peer.predict_proba(standardized[out])
        entropy -= np.log(probability[np.arange(out.sum()), labels[out]]).sum()
        right += (probability.argmax(1) == labels[out].numpy()).sum()
        count += out.sum()
    assert entropy / count > 0.1
    assert choice.best.cross_entropy == pytest.approx(entropy / count, rel=1e-3)
    assert choice.best.accuracy == pytest.approx(100 * right / count)


def test_the_path_runs_from_strong_to_weak_until_it_gets_worse(digits):
    train, labels, *_ = digits
    choice = chosen_penalty(train, labels, classes=10, rounds=1, seed=0)
    penalties = [tried.penalty for tried in choice.path]
    entropies = [tried.cross_entropy for tried in choice.path]
    assert penalties[0] == linear.STRONGEST
    assert all(b == pytest.approx(a / 10**0.5) for a, b in zip(penalties, penalties[1:], strict=False))
    assert choice.best == choice.path[-2]
    assert entropies[-1] > entropies[-2]
    assert not choice.at_edge


def test_an_optimum_at_the_edge_is_told(generator):
    """Noise has the strongest penalty as its best, a perfect feature the weakest."""
    labels = torch.arange(2).repeat(50)
    noise = chosen_penalty(torch.randn(100, 50, generator=generator), labels, classes=2, rounds=5, seed=0)
    assert noise.at_edge
    assert noise.best.penalty == linear.STRONGEST


@pytest.mark.parametrize("rounds", [1, 5])
def test_the_penalty_matters_and_is_chosen_well(generator, rounds):
    """Twenty good features among a hundred: a wrong penalty costs five points and more, the chosen one hardly any."""
    labels = torch.randint(4, (4400,), generator=generator)
    means = torch.randn(4, 100, generator=generator) * (torch.arange(100) < 20)
    features = means[labels] * 0.4 + torch.randn(4400, 100, generator=generator)
    train, known, fresh, truth = features[:400], labels[:400], features[400:], labels[400:]

    def accuracy(penalty: float) -> float:
        return 100 * float(
            (fitted(train, known, classes=4, penalty=penalty).predictions(fresh) == truth).float().mean()
        )

    chosen = accuracy(chosen_penalty(train, known, classes=4, rounds=rounds, seed=0).best.penalty)
    assert chosen > max(accuracy(10.0**-power) for power in range(-1, 5)) - 2
    assert chosen > accuracy(1e-6) + 5
    assert chosen > accuracy(10) + 30


def test_very_few_rows_are_no_error():
    for samples in (1, 2, 3):
        features, labels = torch.eye(4)[:samples], torch.arange(samples)
        choice = chosen_penalty(features, labels, classes=4, rounds=5, seed=0)
        probe = fitted(features, labels, classes=4, penalty=choice.best.penalty)
        assert torch.equal(probe.predictions(features), labels)
