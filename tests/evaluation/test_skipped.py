"""A protocol that cannot measure the data is skipped, and the others are measured."""

import json

import numpy as np
import pytest

from sanslabel.cli.commands import evaluate as command
from sanslabel.errors import BadInput
from sanslabel.evaluation import evaluate
from sanslabel.evaluation.protocols.knn import KNN
from sanslabel.sources import open_source


@pytest.fixture
def rare(tmp_path):
    """60 pictures of each of two classes, and 2 of a third: 10 % of the labels are 3 of each class."""
    images = open_source("digits").images[:122, 0].numpy()
    np.savez(tmp_path / "rare.npz", images=images, labels=np.array([0] * 60 + [1] * 60 + [2] * 2))
    return tmp_path / "rare.npz"


def test_the_others_are_measured_and_the_reason_names_the_class(quick_run, rare):
    with pytest.warns(UserWarning, match="10 % of the labels are 3 of each class, and '2' has . to fit on") as warned:
        scores = evaluate(quick_run, data=rare, protocols=("few", KNN(draws=1), "retrieval"), baselines=False)
    assert len(warned) == 1
    assert {score.protocol for score in scores} == {"knn", "retrieval"}
    content = json.loads((quick_run / "evaluation" / "rare.json").read_text())["scores"]
    assert {score["protocol"] for score in content} == {"knn", "retrieval"}


def test_if_nothing_can_be_measured_the_reason_is_an_error(quick_run, rare):
    with pytest.raises(BadInput, match=r"'2' has . to fit on; leave few out, or label more images of that class"):
        evaluate(quick_run, data=rare, protocols=("few",), baselines=False)
    assert not (quick_run / "evaluation").exists()


def test_the_command_prints_what_was_measured(quick_run, rare, capsys):
    with pytest.warns(UserWarning, match="10 % of the labels.* The other protocols were measured."):
        command.run([str(quick_run), "--data", str(rare), "--protocols", "few", "retrieval"])
    assert "mAP" in capsys.readouterr().out
