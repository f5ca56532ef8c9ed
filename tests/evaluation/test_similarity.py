"""Whether distances say what belongs together: known values, and the loop."""

from math import isnan

import pytest
import torch
from torch.nn.functional import normalize, one_hot

from sanslabel import checkpoint, encoders
from sanslabel.errors import BadInput
from sanslabel.evaluation import evaluate
from sanslabel.evaluation.protocols.invariance import UNRELATED, mean_cosines
from sanslabel.evaluation.protocols.relation import Relation
from sanslabel.evaluation.similarity import (
    alignment_of_kernels,
    alignment_with_labels,
    triplet_accuracy,
    triplet_agreement,
)
from sanslabel.sources import open_source

CPU = torch.device("cpu")
LABELS = torch.arange(300) % 10


def noise(width: int, seed: int = 0, count: int = 300) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def test_features_that_are_the_labels_are_right_and_noise_is_a_coin():
    assert triplet_accuracy(one_hot(LABELS).float(), LABELS, seed=0) == 100
    assert triplet_accuracy(torch.ones(300, 4), LABELS, seed=0) == 50, "equal distances count half"
    assert triplet_accuracy(noise(64), LABELS, seed=0) == pytest.approx(50, abs=1.5)
    assert isnan(triplet_accuracy(noise(64), torch.zeros(300, dtype=torch.int64), seed=0)), "there is no other class"


def test_triplets_of_a_thousand_classes_are_as_many():
    """Of a class of two labels, two of five others have an image's own features, and three are as far as all others."""
    labels = torch.arange(3000) % 1000
    features = one_hot(labels).float()
    assert triplet_accuracy(features, labels, seed=0) == 100
    assert triplet_accuracy(features, labels.roll(1) // 2, seed=0) == pytest.approx(70, abs=1)


def test_triplets_are_those_of_a_loop_over_all():
    features = noise(6, count=40) + 2 * one_hot(torch.arange(40) % 3, 6)
    labels = torch.arange(40) % 3
    cosine = normalize(features, dim=1) @ normalize(features, dim=1).T
    right = [
        float(cosine[a, p] > cosine[a, n])
        for a in range(40)
        for p in range(40)
        for n in range(40)
        if a != p and labels[a] == labels[p] and labels[a] != labels[n]
    ]
    assert triplet_accuracy(features, labels, seed=0) == pytest.approx(100 * sum(right) / len(right), abs=1)


def test_kernels_of_the_same_features_align_under_rotation_and_scale():
    x = noise(8)
    rotation = torch.linalg.qr(noise(8, 1, 8)).Q
    assert alignment_of_kernels(x, x) == pytest.approx(100)
    assert alignment_of_kernels(x, 3 * x @ rotation + 5) == pytest.approx(100, abs=1e-4)
    assert alignment_of_kernels(x, noise(8, 2)) < 10
    assert alignment_of_kernels(x[:, :1], x[:, 1:2] - (x[:, 1:2] * x[:, :1]).sum() / x[:, :1].square().sum()) < 10


def unbiased_hsic(k: torch.Tensor, m: torch.Tensor) -> float:
    """Returns the unbiased HSIC of two kernels by loops (Song et al. 2012, equation 5)."""
    n = len(k)
    pairs = [(i, j) for i in range(n) for j in range(n) if i != j]
    trace = sum(float(k[i, j] * m[j, i]) for i, j in pairs)
    totals = sum(float(k[i, j]) for i, j in pairs) * sum(float(m[i, j]) for i, j in pairs)
    chains = sum(float(k[i, j] * m[j, q]) for i, j in pairs for q in range(n) if q != j)
    return (trace + totals / ((n - 1) * (n - 2)) - 2 * chains / (n - 2)) / (n * (n - 3))


@pytest.mark.parametrize("width", [3, 40])
def test_the_alignment_is_that_of_loops(width):
    x = noise(width, 3, 12).double()
    y = noise(width, 4, 12)[:, :2].double() + x[:, :2] + 7
    k, m = x @ x.T, y @ y.T
    expected = unbiased_hsic(k, m) / (unbiased_hsic(k, k) * unbiased_hsic(m, m)) ** 0.5
    assert alignment_of_kernels(x, y) == pytest.approx(100 * expected, rel=1e-9)
    assert isnan(alignment_of_kernels(x[:3], y[:3]))


@pytest.mark.parametrize(("width", "other"), [(1, 2), (20, 20), (256, 20), (784, 512)])
def test_independent_features_have_nothing_in_common_however_wide_they_are(width, other):
    """With the biased estimator it is 24 % of 784 and 512 features at 1,600 samples."""
    drawn = [alignment_of_kernels(noise(width, s, 400), noise(other, 9 + s, 400)) for s in range(8)]
    assert sum(drawn) / 8 == pytest.approx(0, abs=0.3)
    assert max(map(abs, drawn)) < 1.2
    labels = torch.arange(400) % 10
    assert alignment_with_labels(noise(width, 5, 400), labels, 10) == pytest.approx(0, abs=0.8)


def test_what_is_constant_aligns_with_nothing():
    x = noise(5)
    assert alignment_of_kernels(x, torch.full((300, 4), 0.1)) == 0
    assert alignment_of_kernels(torch.full((300, 1), 0.1), x) == 0
    assert alignment_with_labels(one_hot(LABELS).float(), LABELS, 10) == pytest.approx(100)


def test_an_encoder_agrees_with_itself():
    x = noise(8)
    assert triplet_agreement(x, x, seed=0) == 100
    assert triplet_agreement(x, -x, seed=0) == 100, "distances alone count"
    assert triplet_agreement(x, noise(8, 4), seed=0) == pytest.approx(50, abs=2)


def test_what_does_not_see_a_change_does_not_change():
    source = open_source("digits", "test")
    encoder = encoders.build("conv", channels=1, image_size=8)
    compared = {"mean": lambda x: torch.stack([x.mean((1, 2, 3)), x.square().mean((1, 2, 3))], dim=1), "conv": encoder}
    count, measured = mean_cosines(compared, source, reads=source.image, seed=0, device=CPU, dtype=torch.float32)
    assert count == len(source) == 359
    assert measured["mean"]["flip"] == pytest.approx(100, abs=1e-3)
    assert measured["mean"]["turn"] == pytest.approx(100, abs=1e-3)
    assert set(measured["conv"]) == {"crop", "flip", "light", "blur", "turn", UNRELATED}
    assert measured["conv"]["flip"] < 100
    again = mean_cosines(compared, source, reads=source.image, seed=0, device=CPU, dtype=torch.float32)
    assert (count, measured) == again


@pytest.fixture
def folders(tmp_path):
    """Two folders with nothing but an exported encoder of random weights."""
    for seed, name in enumerate(("one", "two")):
        torch.manual_seed(seed)
        encoder = encoders.build("mlp", channels=1, image_size=8, hidden=[32])
        checkpoint.save_encoders(tmp_path / name, {"student": encoder})
    return tmp_path / "one", tmp_path / "two"


def test_both_are_protocols(folders):
    one, two = folders
    measured = evaluate(one, data="digits", protocols=(Relation(reference=str(two)), "invariance"))
    figures = {(s.protocol, s.metric): s.value for s in measured if s.representation.startswith("trained")}
    assert {metric for protocol, metric in figures if protocol == "invariance"} >= {"crop", "flip", UNRELATED}
    relation = {metric: value for (protocol, metric), value in figures.items() if protocol == "relation"}
    assert set(relation) == {"triplets", "CKA", "triplets by reference", "CKA with reference"}
    assert 50 < relation["triplets"] < 100
    itself = evaluate(one, data="digits", protocols=(Relation(reference=str(one)),))
    itself = {s.metric: s.value for s in itself if s.representation.startswith("trained")}
    assert itself["CKA with reference"] == pytest.approx(100, abs=1e-3)
    assert itself["triplets by reference"] == 100


def test_a_reference_that_reads_other_images_is_refused_before_the_work(folders, tmp_path):
    checkpoint.save_encoders(tmp_path / "other", {"student": encoders.build("mlp", channels=1, image_size=16)})
    sentences = []
    with pytest.raises(BadInput, match="name one of the same image size, channels and levels"):
        evaluate(
            folders[0],
            data="digits",
            protocols=("knn", Relation(reference=str(tmp_path / "other"))),
            report=sentences.append,
        )
    assert not sentences
