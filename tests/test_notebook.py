"""What a person sees of the package in a notebook: tables, help and completion."""

import inspect
import math
import pydoc
import warnings

import pytest
import torch

import sanslabel
from sanslabel import checkpoint, encoders
from sanslabel.evaluation.score_list import ScoreList
from sanslabel.field_sentences import field_sentences
from sanslabel.notebook import html_table
from sanslabel.run_folder import RunFolder
from sanslabel.scores import Score
from sanslabel.settings import RESUMABLE, Settings


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> RunFolder:
    out = tmp_path_factory.mktemp("runs") / "a <b> & c"
    options = {"encoder": {"name": "mlp", "hidden": [8]}, "batch": 256, "epochs": 1, "device": "cpu"}
    return sanslabel.train("digits", out=out, **options)


def score(representation: str, value: float, **others) -> Score:
    fields = {"split": "test split", "labels_per_class": None, "spread": None, "n_train": 90, "n_test": 10, "seed": 0}
    others = {"protocol": "knn", "metric": "accuracy", **others}
    return Score(representation=representation, value=value, **fields | others)


def test_dir_shows_the_public_names_and_nothing_else():
    assert dir(sanslabel) == sorted([*sanslabel.__all__, "__version__"])
    assert all(getattr(sanslabel, name) is not None for name in dir(sanslabel))


@pytest.mark.parametrize(("function", "names"), [(sanslabel.train, None), (sanslabel.resume, RESUMABLE)])
def test_help_explains_each_setting_and_shows_types(function, names):
    text = pydoc.plain(pydoc.render_doc(function))
    sentences = field_sentences(Settings)
    for name in names or sentences:
        assert sentences[name]
        assert f"\n    {name}: {sentences[name].split()[0]}" in text
    assert "--" not in text
    assert "Annotated" not in text
    assert all(not isinstance(p.annotation, str) for p in inspect.signature(function).parameters.values())


def test_a_run_is_short_and_a_table(run):
    assert repr(run).startswith(f"<run {run.path}: simclr, 1,438 samples of digits at 8 x 8 pixels, mlp, ")
    assert len(repr(run)) < 120 + len(str(run.path))
    page = run._repr_html_()
    for text in ("simclr", "1,438 samples of digits", "batch 256", run.verdict().sentence, "a &lt;b&gt; &amp; c"):
        assert text in page
    assert "<b>" not in page
    assert len(page) < 1500


def test_a_run_stands_for_its_path(run):
    assert sanslabel.load_encoder(run).width == 8
    assert RunFolder.open(run) == run


def test_a_folder_with_nothing_but_an_encoder_is_shown(run):
    bare = RunFolder(run.path, None, {}, None)
    assert repr(bare) == f"<run {run.path}: student>"
    assert "student" in bare._repr_html_()


def test_history_has_a_column_for_each_figure(run, monkeypatch):
    monkeypatch.setattr(RunFolder, "lines", lambda _: [{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.5, "rank": 3.0}])
    assert run.history["step"] == [1, 2]
    assert run.history["loss"] == [2.0, 1.5]
    assert math.isnan(run.history["rank"][0])
    assert run.history["rank"][1] == 3.0


def test_scores_are_a_list_that_shows_a_table():
    scores = ScoreList([score("pixels", 50.0), score("trained <b>", 75.5, spread=1.25)])
    assert isinstance(scores, list)
    assert scores == [*scores]
    lines = str(scores).splitlines()
    assert lines[0] == "Accuracy in % on 10 images (test split)"
    assert lines[1].split() == ["representation", "kNN"]
    assert [line.split()[-1] for line in lines[2:]] == ["50.00", "1.25"]
    assert repr(scores) == str(scores)
    page = scores._repr_html_()
    assert page.count("<tr>") == 3
    assert "trained &lt;b&gt;" in page
    assert "<caption>Accuracy in % on 10 images (test split)</caption>" in page
    assert repr(ScoreList()) == ScoreList()._repr_html_() == ""


def test_a_table_escapes_all_texts():
    assert html_table("<a>", ("b<", "c"), [("&", '"')]) == (
        "<table><caption>&lt;a&gt;</caption>"
        '<thead><tr><th style="text-align: left">b&lt;</th><th style="text-align: left">c</th></tr></thead>'
        '<tbody><tr><td style="text-align: left">&amp;</td><td style="text-align: left">&quot;</td></tr></tbody>'
        "</table>"
    )


@pytest.mark.parametrize("images", [torch.rand(2, 1, 8, 8) * 255, torch.randn(64, 1, 8, 8) * 2])
def test_an_encoder_warns_once_of_values_far_outside_of_zero_to_one(run, images):
    encoder = sanslabel.load_encoder(run)
    with pytest.warns(UserWarning, match=r"values from .* and expects \[0, 1\]: divide by 255"):
        features = encoder(images)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(encoder(images), features)
        for good in (torch.rand(2, 1, 8, 8), torch.zeros(0, 1, 8, 8), torch.rand(2, 1, 8, 8) * 1.1 - 0.05):
            sanslabel.load_encoder(run)(good)


def test_training_and_exports_do_not_look_at_the_range(run, monkeypatch):
    monkeypatch.setattr("sanslabel.encoders.encoder._warn_of_range", lambda images: 1 / 0)
    encoders.build("mlp", channels=1, image_size=8, hidden=[8])(torch.rand(2, 1, 8, 8) * 255)
    torch.export.export(sanslabel.load_encoder(run), (torch.rand(2, 1, 8, 8),))
    assert checkpoint.load_encoder(run.path).range_unknown
