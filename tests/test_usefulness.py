"""The sentence after a table claims what the intervals show, and no more."""

from sanslabel.evaluation.score_list import ScoreList
from sanslabel.scores import Gain, Score
from sanslabel.usefulness import usefulness


def score(start=None, pixels=None, protocol="knn", over="random encoder", **fields):
    """A score of a trained encoder, with gains given as (value, low, high)."""
    gains = [(over, start), ("pixels, reduced to 32x32", pixels)]
    defaults = dict(metric="accuracy", representation="trained encoder (student)", split="test split", seed=0)
    numbers = dict(labels_per_class=None, value=60.0, spread=None, n_train=636, n_test=160)
    made = tuple(Gain(over=name, value=v[0], low=v[1], high=v[2]) for name, v in gains if v is not None)
    return Score(protocol=protocol, gains=made, **{**defaults, **numbers, **fields})


def test_a_gain_beyond_chance_is_told_with_its_interval():
    assert usefulness([score((8.12, 3.2, 13.04), (20.0, 15.1, 24.9))]) == (
        "The trained encoder gains 8.1 points in kNN over an untrained encoder (95 % interval 3.2 to 13.0, 160 "
        "images), and 20.0 over pixels (95 % interval 15.1 to 24.9)."
    )


def test_a_gain_within_chance_is_no_gain():
    assert usefulness([score((0.6, -3.9, 5.1), (10.0, 5.0, 15.0))]) == (
        "No better than an untrained encoder, as far as 160 images show: +0.6 points in kNN may "
        "be chance (95 % interval -3.9 to 5.1)."
    )
    assert usefulness([score((-0.6, -5.1, 3.9))]).startswith("No better than an untrained encoder")


def test_a_loss_is_told():
    assert usefulness([score((-6.2, -11.0, -1.4), n_test=1625)]) == (
        "Worse than an untrained encoder: -6.2 points in kNN (95 % interval -11.0 to -1.4, 1,625 images)."
    )


def test_pixels_that_are_better_are_told():
    assert "but is 5.0 points behind pixels" in usefulness([score((8.0, 3.0, 13.0), (-5.0, -9.0, -1.0))])
    assert "but is no better than pixels (+2.0," in usefulness([score((8.0, 3.0, 13.0), (2.0, -2.0, 6.0))])
    assert "and 5.0 points behind pixels" in usefulness([score((0.0, -3.0, 3.0), (-5.0, -9.0, -1.0))])


def test_the_linear_probe_is_named_where_it_disagrees():
    gain, none, loss = (8.0, 3.0, 13.0), (1.0, -3.0, 5.0), (-8.0, -13.0, -3.0)
    assert "linear" not in usefulness([score(gain), score(gain, protocol="linear")])
    assert usefulness([score(none), score(gain, protocol="linear")]) == (
        "The trained encoder gains 8.0 points in linear accuracy over an untrained encoder (95 % interval 3.0 to 13.0, "
        "160 images). In kNN, the difference may be chance (+1.0, 95 % interval -3.0 to 5.0)."
    )
    assert usefulness([score(none), score(loss, protocol="linear")]).startswith("Worse than an untrained encoder: -8.0")
    chance = "In linear accuracy, the difference may be chance (+1.0,"
    assert chance in usefulness([score(gain), score(none, protocol="linear")])
    assert "linear" not in usefulness([score(none), score(none, protocol="linear")])
    assert "In linear accuracy, it loses 8.0 points" in usefulness([score(gain), score(loss, protocol="linear")])


def test_the_start_is_the_given_weights_where_there_were_some():
    assert "over the given weights (95" in usefulness([score((8.0, 3.0, 13.0), over="given weights")])


def test_a_start_that_was_not_measured_is_no_ground_for_a_claim():
    assert usefulness([score(None, (9.0, 5.0, 13.0))]).endswith("its start was not measured.")
    assert "may gain or lose +1.0" in usefulness([score(None, (1.0, -3.0, 5.0))])


def test_one_reading_and_the_newest_settings_count():
    first, second = (8.0, 3.0, 13.0), (9.0, 4.0, 14.0)
    patches = [score(first, representation="trained encoder, mean over patches"), score(second)]
    assert "gains 8.0" in usefulness(patches)
    assert "gains 9.0" in usefulness([score(first), score(second)])


def test_scores_without_gains_say_nothing():
    few = score((8.0, 3.0, 13.0), labels_per_class=10)
    assert usefulness([]) == usefulness([score()]) == usefulness([few]) == ""
    assert usefulness([score((8.0, 3.0, 13.0), protocol="transfer")]) == ""


def test_a_list_of_scores_ends_with_the_sentence():
    scores = ScoreList([score((8.12, 3.2, 13.04))])
    assert repr(scores).splitlines()[-1] == usefulness(scores)
    assert scores._repr_html_().endswith(f"<p>{usefulness(scores)}</p>")
