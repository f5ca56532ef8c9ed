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


def test_the_alignment_is_that_of_the_kernels_themselves():
    x, y = noise(5), noise(9, 3) + noise(9, 0)
    center = torch.eye(300) - 1 / 300
    k, m = (center @ (z @ z.T) @ center for z in (x, y))
    assert alignment_of_kernels(x, y) == pytest.approx(100 * float((k * m).sum() / (k.norm() * m.norm())), rel=1e-4)
    wide = noise(400, 5)
    k, m = (center @ (z @ z.T) @ center for z in (wide, y))
    assert alignment_of_kernels(wide, y) == pytest.approx(100 * float((k * m).sum() / (k.norm() * m.norm())), rel=1e-3)
    assert alignment_of_kernels(x, torch.ones(300, 4)) == 0, "a constant says nothing"
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
    measured = mean_cosines(compared, source, reads=source.image, seed=0, device=CPU, dtype=torch.float32)
    assert measured["mean"]["flip"] == pytest.approx(100, abs=1e-3)
    assert measured["mean"]["turn"] == pytest.approx(100, abs=1e-3)
    assert set(measured["conv"]) == {"crop", "flip", "light", "blur", "turn", UNRELATED}
    assert measured["conv"]["flip"] < 100
    assert measured == mean_cosines(compared, source, reads=source.image, seed=0, device=CPU, dtype=torch.float32)


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
