"""The protocol of two signals: its rows, chance beside them, and what it refuses."""

import shutil

import numpy as np
import pytest

import sanslabel
from bench.bouncing import bouncing, with_test
from sanslabel.errors import BadInput
from sanslabel.evaluation import evaluate
from sanslabel.evaluation.protocols.pairs import TRUE_PAIRS, Pairs
from sanslabel.evaluation.table import gain_table, table

SMALL = {"name": "mlp", "hidden": [32]}
OPTIONS = dict(
    method="cross_modal", encoder={"image": SMALL, "audio": SMALL}, batch=32, precision="float32", device="cpu"
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    np.savez(folder / "shapes.npz", **with_test(96, 40, frames=1, side=8, rate=1000))
    return sanslabel.train(folder / "shapes.npz", epochs=1, out=folder / "run", **OPTIONS)


def values(scores, row):
    return {score.metric: score.value for score in scores if score.representation == row}


def test_both_directions_stand_beside_chance(run):
    scores = evaluate(run, protocols="pairs", cache=False)
    metrics = [f"{kind} at {k}" for kind in ("recall", "precision") for k in (1, 5, 10)] + ["median rank"]
    for row in ("image finds audio", "audio finds image"):
        assert values(scores, row).keys() == set(metrics)
    chance = values(scores, "chance")
    assert chance["recall at 1"] == 100 / 40
    assert chance["recall at 10"] == 25
    assert chance["median rank"] == 20.5
    assert chance["AUROC"] == 50
    assert 100 / 40 <= chance["precision at 1"] < 20
    (auroc,) = [score for score in scores if score.representation == TRUE_PAIRS]
    assert auroc.gains[0].low < auroc.value - 50 < auroc.gains[0].high
    assert {score.n_test for score in scores} == {40}
    assert [str(column.header) for column in table(scores, "pairs").columns][1:4] == [
        "recall at 1",
        "recall at 5",
        "recall at 10",
    ]
    assert len(gain_table(scores, "pairs").rows) == 1
    again = evaluate(run, network="audio", protocols="pairs", cache=False)
    assert values(again, "image finds audio") == values(scores, "image finds audio")


def test_fewer_samples_are_drawn_by_the_seed(run):
    first, second, other = (
        values(evaluate(run, protocols=Pairs(samples=15), seed=seed, cache=False), "image finds audio")
        for seed in (1, 1, 2)
    )
    assert first == second != other
    assert {score.n_test for score in evaluate(run, protocols=Pairs(samples=15), cache=False)} == {15}


def test_data_without_labels_have_no_precision(run, tmp_path):
    arrays = bouncing(30, frames=1, side=8, rate=1000)
    np.savez(tmp_path / "unlabeled.npz", **{name: arrays[name] for name in ("images", "waves", "rate")})
    scores = evaluate(run, data=tmp_path / "unlabeled.npz", protocols=("pairs",), cache=False)
    assert values(scores, "chance").keys() == {"recall at 1", "recall at 5", "recall at 10", "median rank", "AUROC"}


def test_what_it_cannot_measure_is_said_in_a_sentence(run, quick_run, tmp_path):
    with pytest.raises(BadInput, match="compares two signals, and this run embeds one; train cross_modal or avid"):
        evaluate(quick_run, protocols="pairs")
    with pytest.raises(BadInput, match="digits has no audio; name other data with"):
        evaluate(run, data="digits", protocols="pairs")
    copy = shutil.copytree(run.path, tmp_path / "copy")
    shutil.rmtree(copy / "checkpoints")
    with pytest.raises(BadInput, match="has no checkpoint, and with it no projectors; leave the protocol out"):
        evaluate(copy, protocols="pairs")
