"""What is compared on what: the same rows for all, choices from training rows alone, draws fixed by the seed."""

from dataclasses import replace
from io import StringIO
from statistics import fmean, stdev

import pytest
import torch
from rich.console import Console

from sanslabel.errors import BadInput
from sanslabel.evaluation import knn, linear, scores_of_features
from sanslabel.evaluation.features import Division, Features, few_labels
from sanslabel.evaluation.protocols import relation, retrieval
from sanslabel.evaluation.protocols.knn import KNN
from sanslabel.evaluation.protocols.linear import Linear
from sanslabel.evaluation.table import table
from sanslabel.randomness import Stream, fold, permutation
from sanslabel.scores import read_score


def both(k: int | None = None, temperature: float = 0.07, **rounds: int) -> tuple[KNN, Linear]:
    """The default protocols, with the same rounds."""
    return KNN(k=k, temperature=temperature, **rounds), Linear(**rounds)


@pytest.fixture
def division(digits):
    return Division(train=digits[1], test=digits[3], classes=10, split="test split")


@pytest.fixture
def representations(digits):
    return {"pixels": Features(digits[0], digits[2]), "half": Features(digits[0][:, ::2], digits[2][:, ::2])}


def test_drawn_rows_are_so_many_of_each_class():
    labels = torch.tensor([0] * 30 + [1] * 4 + [2] * 50 + [0] * 30)
    index = few_labels(labels, 10, 7)
    assert labels[index].bincount().tolist() == [10, 4, 10]
    assert torch.equal(index, index.unique())
    assert torch.equal(index, few_labels(labels, 10, 7))
    assert not torch.equal(index, few_labels(labels, 10, 8))
    singles = torch.cat([few_labels(labels, 1, key) for key in range(300)])
    assert singles[labels[singles] == 0].unique().numel() > 50  # of the 60 rows of class 0


def test_all_combinations_are_scored(division, representations):
    sentences = []
    protocols = both(draws=3, labels_per_class=4)
    measured = scores_of_features(representations, division, protocols=protocols, report=sentences.append)
    assert [(s.protocol, s.representation, s.labels_per_class) for s in measured] == [
        (protocol, name, count) for protocol in ("knn", "linear") for name in ("pixels", "half") for count in (None, 4)
    ]
    assert sentences == [f"Measuring {name}: {p}" for p in ("knn", "linear") for name in ("pixels", "half")]
    for score in measured:
        assert (score.n_train, score.n_test) == (1438 if score.labels_per_class is None else 40, 359)
        assert (score.spread is None) == (score.labels_per_class is None)
        assert 50 < score.value < 100
        assert score.split == "test split"


def test_values_are_those_of_the_protocols(division, representations):
    measured = scores_of_features(
        representations, division, protocols=both(k=7, temperature=0.2, labels_per_class=5, draws=4), seed=3
    )
    value = {(s.protocol, s.representation, s.labels_per_class): s for s in measured}
    train, test = representations["half"]

    def accuracy(predicted):
        return 100 * float((predicted == division.test).double().mean())

    def nearest(index):
        return accuracy(knn.predictions(train[index], division.train[index], test, classes=10, k=7, temperature=0.2))

    few = [few_labels(division.train, 5, fold(3, 6, draw)) for draw in range(4)]
    every = torch.arange(len(train))
    assert value["knn", "half", None].value == pytest.approx(nearest(every))
    assert value["knn", "half", 5].value == pytest.approx(fmean(map(nearest, few)))
    assert value["knn", "half", 5].spread == pytest.approx(stdev(map(nearest, few)))
    assert value["knn", "half", 5].settings == {"k": 7, "temperature": 0.2}

    settings = value["linear", "half", None].settings
    choice = linear.chosen_penalty(train, division.train, classes=10, rounds=1, seed=3)
    assert settings["penalty"] == choice.best.penalty
    assert settings["held_out_accuracy"] == choice.best.accuracy
    assert settings["selection"] == "lowest cross-entropy on a held-out fifth of the training rows, seed 3"
    probe = linear.fitted(train, division.train, classes=10, penalty=choice.best.penalty)
    assert value["linear", "half", None].value == pytest.approx(accuracy(probe.predictions(test)))

    choices = [linear.chosen_penalty(train[r], division.train[r], classes=10, rounds=5, seed=3).best for r in few]
    settings = value["linear", "half", 5].settings
    assert settings["held_out_cross_entropy"] == [choice.cross_entropy for choice in choices]
    assert settings["selection"] == "lowest cross-entropy on each fifth of the drawn rows, seed 3"


def test_nothing_is_chosen_on_the_test_rows(division, representations):
    """Other test labels change values, and nothing else."""
    wrong = division._replace(test=(division.test + 1) % 10)
    protocols = both(draws=2)
    scores = (scores_of_features(representations, labels, protocols=protocols) for labels in (division, wrong))
    for right, other in zip(*scores, strict=True):
        assert right.value != other.value
        assert right.settings == other.settings


def test_scores_repeat_and_depend_on_the_seed(division, representations):
    first = scores_of_features(representations, division, protocols=["knn"])
    assert scores_of_features(representations, division, protocols=["knn"]) == first
    assert scores_of_features(representations, division, protocols=["knn"], seed=1)[1].value != first[1].value


def test_the_table_has_representations_side_by_side(division, representations):
    measured = scores_of_features(representations, division, protocols=both(draws=2))
    measured = [replace(s, value=80 + i, spread=s.spread and 1.25) for i, s in enumerate(measured)]
    console = Console(width=120, record=True, file=StringIO())
    console.print(table(measured))
    lines = [line.split() for line in console.export_text().splitlines()]
    assert " ".join(lines[0]) == "Accuracy in % on 359 images (test split)"
    assert " ".join(lines[1]) == "representation kNN linear kNN, 10 a class linear, 10 a class"
    assert " ".join(lines[2]) == "pixels 80.00 84.00 81.00 ± 1.25 85.00 ± 1.25"
    assert " ".join(lines[3]) == "half 82.00 86.00 83.00 ± 1.25 87.00 ± 1.25"


def test_few_are_shares_of_the_labels_as_many_of_each_class(division, representations):
    measured = scores_of_features(representations, division, protocols=("few",), seed=2)
    assert [(s.representation, s.labels_per_class, s.n_train) for s in measured] == [
        (name, count, 10 * count) for name in representations for count in (1, 14)
    ]
    train, test = representations["half"]
    values = []
    for draw in range(3):
        index = few_labels(division.train, 14, fold(2, 6, draw))
        best = linear.chosen_penalty(train[index], division.train[index], classes=10, rounds=5, seed=2).best
        probe = linear.fitted(train[index], division.train[index], classes=10, penalty=best.penalty)
        values.append(100 * float((probe.predictions(test) == division.test).double().mean()))
    assert measured[-1].value == pytest.approx(fmean(values))
    rare = division._replace(train=torch.where(division.train == 3, 4, division.train))
    with pytest.raises(BadInput, match="10 % of the labels are 14 of each class, and class 3 has 0 to fit on"):
        scores_of_features(representations, rare, protocols=("few",))


def test_clusters_and_retrieval_have_figures_of_their_own(division, representations):
    measured = scores_of_features(representations, division, protocols=("cluster", "retrieval"))
    assert [(s.protocol, s.metric) for s in measured if s.representation == "half"] == [
        ("cluster", "NMI"),
        ("cluster", "ARI"),
        ("cluster", "accuracy"),
        ("retrieval", "mAP"),
    ]
    assert all(s.labels_per_class is None and s.spread is None for s in measured)
    assert measured[-1].settings["queries"] == 359
    written = StringIO()
    Console(file=written, width=150).print(table(measured))
    assert "In % on 359 images" in written.getvalue()
    assert "cluster NMI" in written.getvalue()


def test_classes_with_fewer_labels_than_are_to_be_drawn_give_all(division, representations):
    """Class 0 has 3 of its labels left, and the other classes have 130 to 150 each."""
    rare = (division.train == 0).nonzero()[3:, 0]
    kept = torch.ones(len(division.train), dtype=torch.bool).index_fill(0, rare, False)
    uneven = division._replace(train=division.train[kept])
    half = {"half": Features(representations["half"].train[kept], representations["half"].test)}
    few, all_of_each, even = (
        scores_of_features(half, uneven, protocols=(KNN(labels_per_class=count, draws=3),))[-1]
        for count in (100, 500, 3)
    )
    assert (few.settings["fewest_labels"], few.n_train, few.spread is None) == (3, 903, False)
    assert (all_of_each.settings["fewest_labels"], all_of_each.n_train, all_of_each.spread) == (
        3,
        int(kept.sum()),
        None,
    )
    assert headings([few]) == ["kNN, ≤100 a class"]
    assert table([few]).caption == "≤100 a class: 903 labels, since some classes have fewer."
    assert headings([all_of_each]) == ["kNN, ≤500 a class"]
    assert table([all_of_each]).caption == f"≤500 a class: {int(kept.sum()):,} labels, since some classes have fewer."
    assert table([even]).caption is None
    assert headings([even]) == ["kNN, 3 a class"]


def headings(scores) -> list[str]:
    return [str(column.header) for column in table(scores).columns][1:]


def test_the_number_of_images_is_that_of_those_that_were_measured(division, representations, monkeypatch):
    monkeypatch.setattr(relation, "SAMPLES", 50)
    monkeypatch.setattr(retrieval, "QUERIES", 300)
    (known,) = {s.n_test for s in scores_of_features(representations, division, protocols=("relation",))}
    assert known == 50
    (known,) = {s.n_test for s in scores_of_features(representations, division, protocols=("retrieval",))}
    assert known == 300
    strange = division._replace(train=torch.where(division.train == 3, 4, division.train))
    (known,) = {s.n_test for s in scores_of_features(representations, strange, protocols=("retrieval",))}
    drawn = permutation(fold(0, Stream.QUERIES), len(division.test))[:300]
    assert known == int((division.test[drawn] != 3).sum()) < 300, "class 3 is not in the gallery"


def test_a_title_has_all_numbers_of_images(division, representations):
    scores = scores_of_features(representations, division, protocols=("knn",))
    title = table([scores[0], replace(scores[1], n_test=1000)]).title
    assert title == "Accuracy in % on 359 to 1,000 images (test split)"


def test_a_title_names_what_a_sample_is(division, representations):
    named = division._replace(noun="window of sound")
    (first, *_) = scores = scores_of_features(representations, named, protocols=("knn",))
    assert table(scores).title == "Accuracy in % on 359 windows of sound (test split)"
    assert read_score(first.content) == first
    assert "noun" not in replace(first, noun="image").content, "the content of earlier versions"
