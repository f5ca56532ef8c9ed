"""Gains of one classifier over another on the same images, the row of the largest class, and balanced accuracy."""

import re
from dataclasses import replace
from math import sqrt
from statistics import fmean, variance

import pytest
import torch
from scipy.stats import t as student
from sklearn.metrics import balanced_accuracy_score

from sanslabel.evaluation.comparison import Comparison
from sanslabel.evaluation.features import Division, Features
from sanslabel.evaluation.gains import balanced_accuracy, gain, student_quantile, uneven
from sanslabel.evaluation.protocols.knn import KNN
from sanslabel.evaluation.protocols.linear import Linear
from sanslabel.evaluation.table import gain_table, tables
from sanslabel.scores import BALANCED, LARGEST_CLASS


def pair(both: int, first: int, second: int, neither: int):
    """Two classifiers in one draw (1, M), by how many images both, only one, or none of them gets right."""
    counts = torch.tensor([both, first, second, neither])
    right = [torch.tensor([bits]).repeat_interleave(counts, dim=1).bool() for bits in ([1, 1, 0, 0], [1, 0, 1, 0])]
    return right[0], right[1]


def test_one_draw_has_the_interval_of_agresti_and_min():
    # (5.5 - 1.5) / 12 = 1 / 3, and the variance is (7 / 12 - 1 / 9) / 12.
    small = gain("pixels", *pair(2, 5, 1, 2))
    margin = 1.959964 * sqrt((7 / 12 - 1 / 9) / 12)
    assert (small.over, small.value) == ("pixels", 40.0)
    assert (small.low, small.high) == pytest.approx((100 * (1 / 3 - margin), 100 * (1 / 3 + margin)), abs=1e-4)
    # Agresti, Categorical Data Analysis: approval in two surveys of the same 1,600 people
    survey = gain("", *pair(794, 150, 86, 570))
    assert (survey.value, survey.low, survey.high) == pytest.approx((4.0, 2.12, 5.87), abs=0.005)


def test_an_interval_is_within_what_is_possible_and_never_empty():
    same = gain("", *pair(80, 0, 0, 80))
    assert same.value == 0
    assert same.high == -same.low == pytest.approx(100 * 1.959964 / 162)
    for other, limit in ((pair(0, 9, 0, 0), 100), (pair(0, 0, 9, 0), -100)):
        extreme = gain("", *other)
        assert extreme.value == limit
        assert extreme.low < 100
        assert extreme.high > -100
        assert limit in (extreme.low, extreme.high)


def test_the_quantile_is_students():
    for freedom in (1, 1.5, 2, 4, 4.7, 30, 400):
        assert student_quantile(freedom) == pytest.approx(student.ppf(0.975, freedom), rel=1e-4)
    assert student_quantile(float("inf")) == pytest.approx(1.959964)


def test_several_draws_add_the_variance_over_draws():
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.rand(5, 40, generator=generator) < share for share in (0.7, 0.5))
    measured = gain("", first, second)
    by_image = [
        fmean(float(a) - float(b) for a, b in zip(*column, strict=True))
        for column in zip(first.T, second.T, strict=True)
    ]
    by_draw = [float(a.float().mean() - b.float().mean()) for a, b in zip(first, second, strict=True)]
    center = sum(by_image) / 42
    over_images = ((sum(d * d for d in by_image) + 1) / 42 - center**2) / 42
    over_draws = variance(by_draw) / 5
    freedom = (over_images + over_draws) ** 2 / (over_images**2 / 40 + over_draws**2 / 4)
    margin = student.ppf(0.975, freedom) * sqrt(over_images + over_draws)
    assert measured.value == pytest.approx(100 * fmean(by_draw))
    assert (measured.low, measured.high) == pytest.approx((100 * (center - margin), 100 * (center + margin)), abs=0.01)


@pytest.mark.parametrize("draws", [1, 20])
def test_the_bootstrap_gives_the_same_interval(draws):
    generator = torch.Generator().manual_seed(1)
    skill = torch.rand(400, generator=generator)  # some images are harder than others, for both
    first, second = (torch.rand(draws, 400, generator=generator) < (skill + shift) for shift in (0.1, 0.0))
    measured = gain("", first, second)
    difference = first.double() - second.double()
    images = torch.randint(400, (4000, 400), generator=generator)
    repeats = torch.randint(draws, (4000, draws), generator=generator)
    means = torch.stack(
        [difference[rows].mean(dim=0)[columns].mean() for rows, columns in zip(repeats, images, strict=True)]
    )
    low, high = (100 * means.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64))).tolist()
    assert (measured.low, measured.high) == pytest.approx((low, high), abs=0.5)


@pytest.mark.parametrize("advantage", [0.0, 0.08])
def test_intervals_hold_the_truth_in_95_of_100_samples(advantage):
    generator = torch.Generator().manual_seed(2)
    draw = torch.rand(1500, 160, generator=generator)  # only the first is right, only the second, or they agree
    first, second = draw < 0.1 + advantage, (draw >= 0.1 + advantage) & (draw < 0.2 + advantage)
    gains = [gain("", a[None], b[None]) for a, b in zip(first, second, strict=True)]
    share = fmean(g.low <= 100 * advantage <= g.high for g in gains)
    assert 0.94 <= share <= 0.97


def test_balanced_accuracy_weighs_classes_alike():
    predicted, labels = torch.tensor([0, 0, 0, 1, 1, 0]), torch.tensor([0, 0, 0, 0, 1, 1])
    assert balanced_accuracy(predicted, labels) == pytest.approx(100 * (3 / 4 + 1 / 2) / 2)
    labels = torch.tensor([0, 2, 2, 4, 4, 4])  # without classes 1 and 3
    predicted = torch.tensor([0, 2, 4, 4, 4, 0])
    assert balanced_accuracy(predicted, labels) == pytest.approx(100 * balanced_accuracy_score(labels, predicted))


def test_classes_are_uneven_if_one_has_more_than_twice_the_mean():
    assert uneven(torch.tensor([0] * 5 + [1, 2]))
    assert not uneven(torch.tensor([0] * 4 + [1, 2]))
    assert not uneven(torch.tensor([0] * 6 + [3] * 4)), "a class without a sample does not count"


def features_of(labels, error: float, generator):
    """Points near the corner of their class, more or less."""
    corner = torch.nn.functional.one_hot(labels, 3).float()
    return corner + error * torch.randn(corner.shape, generator=generator)


@pytest.fixture
def uneven_comparison():
    """Three representations of 120 + 80 points, of which seven tenths are of the last class."""
    generator = torch.Generator().manual_seed(3)
    train, test = (torch.multinomial(torch.tensor([0.1, 0.1, 0.8]), n, True, generator=generator) for n in (120, 80))
    errors = {"pixels": 1.5, "random encoder": 1.0, "trained encoder (student)": 0.2}
    features = {
        name: Features(*(features_of(labels, error, generator) for labels in (train, test)))
        for name, error in errors.items()
    }
    return Comparison(
        given=(features, Division(train, test, 3, "test split")),
        baselines={"trained encoder (student)": ("random encoder", "pixels")},
    )


def test_the_trained_encoder_has_gains_and_the_others_none(uneven_comparison):
    scores = KNN(draws=3, labels_per_class=4).measure(uneven_comparison)
    value = {(s.representation, s.metric, s.labels_per_class): s.value for s in scores}
    assert {s.representation for s in scores if s.gains} == {"trained encoder (student)"}
    assert [s.labels_per_class for s in scores if s.gains] == [None, 4], "balanced accuracy has none"
    for s in (s for s in scores if s.gains):
        assert [g.over for g in s.gains] == ["random encoder", "pixels"]
        for g in s.gains:
            assert g.value == pytest.approx(s.value - value[g.over, "accuracy", s.labels_per_class])
            assert g.low < g.value < g.high
    assert next(s for s in scores if s.gains).gains[1].sign == 1


def test_a_row_for_the_largest_class_and_a_column_for_uneven_ones(uneven_comparison):
    features, division = uneven_comparison.features, uneven_comparison.division
    comparison = replace(uneven_comparison, given=({"pixels": features["pixels"]}, division))
    for protocol in (KNN(draws=1), Linear(draws=1, labels_per_class=20)):
        scores = [s for s in protocol.measure(comparison) if s.labels_per_class is None]
        value = {(s.representation, s.metric): s.value for s in scores}
        share = 100 * float((division.test == 2).float().mean())
        assert value[LARGEST_CLASS, "accuracy"] == pytest.approx(share)
        assert value[LARGEST_CLASS, BALANCED] == pytest.approx(100 / 3)
        assert value["pixels", BALANCED] < value["pixels", "accuracy"]


def test_even_classes_have_no_further_column(digits):
    features = {"trained encoder (student)": Features(digits[0], digits[2])}
    comparison = Comparison(
        given=(features, Division(digits[1], digits[3], 10, "test split")), baselines={"trained encoder (student)": ()}
    )
    scores = KNN(draws=1).measure(comparison)
    assert {s.metric for s in scores} == {"accuracy"}
    largest = int(digits[1].bincount().argmax())
    assert scores[-1].representation == LARGEST_CLASS
    assert scores[-1].value == pytest.approx(100 * float((digits[3] == largest).float().mean()))


def test_the_table_shows_the_largest_class_first_and_gains_follow(uneven_comparison):
    shown, gains, balanced = tables(KNN(draws=3, labels_per_class=4).measure(uneven_comparison))
    columns = [list(column.cells) for column in shown.columns]
    assert columns[0] == [LARGEST_CLASS, "pixels", "random encoder", "trained encoder (student)"]
    assert [column.header for column in shown.columns[1:]] == ["kNN", "kNN, 4 a class"]
    assert shown.title.startswith("Accuracy in % on 80 images")
    assert columns[2][0] == ""
    assert balanced.title.startswith("Balanced accuracy in % on 80 images")
    assert [column.header for column in balanced.columns[1:]] == ["kNN"]
    assert [column.header for column in gains.columns[1:]] == ["over random encoder", "over pixels"]
    figures, *cells = (list(column.cells) for column in gains.columns)
    assert figures == ["kNN", "kNN, 4 a class"]
    assert all(re.fullmatch(r"[+-]\d+\.\d \(-?\d+\.\d to \d+\.\d\)", cell) for column in cells for cell in column)


def test_two_readings_of_the_trained_encoder_have_their_names(uneven_comparison):
    scores = [s for s in KNN(draws=1).measure(uneven_comparison) if s.gains]
    patches = [replace(s, representation="trained encoder (student), whole images") for s in scores]
    assert [column.header for column in gain_table([*scores, *patches]).columns[1::2]] == [
        "trained encoder (student) over random encoder",
        "trained encoder (student), whole images over random encoder",
    ]
