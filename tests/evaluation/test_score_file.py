"""Files of scores: kept by data and encoder, whatever the data's path is called."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sanslabel import checkpoint, encoders
from sanslabel.errors import BadInput
from sanslabel.evaluation import evaluate
from sanslabel.evaluation.protocols.knn import KNN
from sanslabel.evaluation.protocols.transfer import Transfer
from sanslabel.report.sections.scores import scores
from sanslabel.report.snapshot import snapshot
from sanslabel.run_folder import RunFolder

ALONE = {"protocols": (KNN(draws=1),), "baselines": False}


def class_folder(path: Path, count: int = 30, seed: int = 0) -> Path:
    """Writes a folder of three classes of small gray pictures."""
    pixels = np.random.default_rng(seed).integers(0, 256, (count, 8, 8), dtype=np.uint8)
    for row, picture in enumerate(pixels):
        place = path / f"class{row % 3}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(place / f"{row}.png")
    return path


def content(run: Path) -> dict[str, list[str]]:
    """Returns the protocols of the scores in each file of a run, by the file's name."""
    files = sorted((run / "evaluation").glob("*.json"))
    return {file.name: [score["protocol"] for score in json.loads(file.read_text())["scores"]] for file in files}


def retrained(run: Path) -> None:
    torch.manual_seed(1)
    encoder = encoders.build("mlp", channels=1, image_size=8, hidden=[64, 48, 32])
    checkpoint.save_encoders(run, {"student": encoder})


@pytest.fixture
def stamps(tmp_path, monkeypatch):
    """A folder of classes beside the working directory, and a link to it."""
    monkeypatch.chdir(tmp_path)
    class_folder(tmp_path / "stamps")
    (tmp_path / "link").symlink_to("stamps")
    return tmp_path / "stamps"


def test_another_spelling_of_the_path_adds_to_the_same_file(quick_run, stamps):
    spellings = ["stamps", "stamps/", "link", stamps]
    protocols = ["knn", "retrieval", "relation", "linear"]
    for spelling, protocol in zip(spellings, protocols, strict=True):
        evaluate(quick_run, data=spelling, protocols=(protocol,), baselines=False)
        assert list(content(quick_run)) == ["stamps.json"]
    assert set(content(quick_run)["stamps.json"]) == set(protocols)
    assert json.loads((quick_run / "evaluation" / "stamps.json").read_text())["data"] == str(stamps)


def test_scores_on_the_run_s_own_data_and_by_path_are_the_same(quick_run, stamps):
    plan = json.loads((quick_run / "run.json").read_text())
    (quick_run / "run.json").write_text(json.dumps(plan | {"data": str(stamps)}))
    evaluate(quick_run, data="stamps", **ALONE)
    evaluate(quick_run, protocols=("retrieval",), baselines=False)
    assert content(quick_run) == {"stamps.json": ["knn", "knn", "retrieval"]}


def test_two_data_sets_with_one_folder_name_and_two_seeds_have_their_own_files(quick_run, stamps, tmp_path):
    other = class_folder(tmp_path / "other" / "stamps", seed=1)
    for _ in range(2):
        for data in (stamps, other):
            evaluate(quick_run, data=data, **ALONE)
    evaluate(quick_run, data=stamps, seed=1, **ALONE)
    assert list(content(quick_run).values()) == [["knn", "knn"]] * 3
    assert len(RunFolder.open(quick_run).scores) == 3


def test_files_of_several_spellings_are_merged(quick_run, stamps):
    """Earlier versions wrote link.json and stamps-student.json beside stamps.json."""
    folder = quick_run / "evaluation"
    evaluate(quick_run, data=stamps, protocols=("retrieval",), baselines=False)
    first = json.loads((folder / "stamps.json").read_text())
    scores = {}
    for age, name in enumerate(("link", "stamps-student")):
        scores[name] = first["scores"][0] | {"value": float(age), "seed": 7}
        (folder / f"{name}.json").write_text(json.dumps(first | {"data": name, "scores": [scores[name]]}))
        os.utime(folder / f"{name}.json", (age, age))
    (file,) = RunFolder.open(quick_run).scores
    assert [score.value for score in file.scores] == [0.0, 1.0, first["scores"][0]["value"]]
    with pytest.warns(UserWarning, match="stamps.json: ") as warned:
        evaluate(quick_run, data=stamps, **ALONE)
    replaced, joined = (str(warning.message) for warning in warned)
    assert "stamps.json: scores of retrieval had other values before (1 in all), which are replaced." in replaced
    assert "stamps.json: now has the scores of link.json, stamps-student.json, too" in joined
    assert content(quick_run) == {"stamps.json": ["retrieval", "retrieval", "knn", "knn"]}
    kept = json.loads((folder / "stamps.json").read_text())["scores"]
    assert kept[:2] == [scores["stamps-student"], *first["scores"]], "the newer of two scores of one kind"


def test_the_default_network_by_its_name_is_the_same(quick_run):
    evaluate(quick_run, **ALONE)
    evaluate(quick_run, network="student", protocols=("retrieval",), baselines=False)
    assert content(quick_run) == {"digits.json": ["knn", "knn", "retrieval"]}


def test_scores_of_an_earlier_encoder_are_kept_apart(quick_run):
    evaluate(quick_run, **ALONE)
    (before,) = RunFolder.open(quick_run).scores
    retrained(quick_run)
    assert RunFolder.open(quick_run).scores == [], "they are not those of the present encoder"
    kept = f"digits-{before.sha256[:8]}.json"
    with pytest.warns(UserWarning, match=f"scores of an earlier encoder, before the run was trained on; .* {kept}"):
        evaluate(quick_run, protocols=("retrieval",), baselines=False)
    assert content(quick_run) == {kept: ["knn", "knn"], "digits.json": ["retrieval"]}
    (file,) = RunFolder.open(quick_run).scores
    assert [score.protocol for score in file.scores] == ["retrieval"]
    assert len(RunFolder.open(quick_run).earlier_scores) == 1


def test_scores_in_another_precision_stand_beside(quick_run):
    evaluate(quick_run, **ALONE)
    plan = json.loads((quick_run / "run.json").read_text())
    for precision in ("bfloat16", "float32", "bfloat16"):
        (quick_run / "run.json").write_text(json.dumps(plan | {"precision": precision}))
        evaluate(quick_run, protocols=("retrieval",), baselines=False)
    by_precision = {file.precision: len(file.scores) for file in RunFolder.open(quick_run).scores}
    assert by_precision == {"float32": 3, "bfloat16": 1}


def test_a_score_that_changes_is_said(quick_run):
    evaluate(quick_run, protocols=(KNN(draws=1, labels_per_class=3),), baselines=False)
    with pytest.warns(
        UserWarning, match="digits.json: scores of knn had other values before .1 in all., which are replaced"
    ):
        evaluate(quick_run, protocols=(KNN(draws=2, labels_per_class=3),), baselines=False)


def test_a_second_set_has_one_score_however_it_is_spelled(quick_run, stamps):
    for spelling in ("stamps", stamps, "link"):
        evaluate(quick_run, protocols=(Transfer(data=str(spelling)),), baselines=False)
    assert content(quick_run) == {"digits.json": ["transfer"]}


@pytest.mark.parametrize("damage", ["{", "[]", '{"format": 1}', '{"format": 9}'])
def test_a_damaged_file_is_said_before_the_work_and_left_alone(quick_run, damage):
    (quick_run / "evaluation").mkdir()
    (quick_run / "evaluation" / "digits.json").write_text(damage)
    sentences = []
    with pytest.raises(BadInput, match=r"digits\.json"):
        evaluate(quick_run, report=sentences.append, **ALONE)
    assert sentences == []
    assert (quick_run / "evaluation" / "digits.json").read_text() == damage


def test_a_report_has_one_table_for_one_set_and_tells_of_scores_of_an_earlier_encoder(quick_run, stamps, tmp_path):
    other = tmp_path / "run2"
    shutil.copytree(quick_run, other)
    for run, data in ((quick_run, stamps), (other, "link")):
        evaluate(run, data=data, **ALONE)
    tables = "".join(scores([snapshot(quick_run, "one"), snapshot(other, "two")]))
    assert tables.count("<table") == 1
    assert "earlier encoder" not in tables
    retrained(other)
    tables = "".join(scores([snapshot(quick_run, "one"), snapshot(other, "two")]))
    assert "two also has 2 scores of an earlier encoder, before it was trained on." in tables
