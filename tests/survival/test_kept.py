"""Runs of earlier commits are read for good: tests/training/kept/make.py keeps one of each of five methods."""

import json
import shutil
import warnings
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

import sanslabel
from sanslabel import checkpoint, encoders
from sanslabel.encoders import vit
from sanslabel.evaluation.protocols.knn import KNN
from sanslabel.report import report
from sanslabel.run_folder import RunFolder
from sanslabel.scores import LARGEST_CLASS, read_scores
from sanslabel.sources import Request, open_source

KEPT = Path(__file__).parent.parent / "training" / "kept"
RUNS = sorted(str(file.parent.relative_to(KEPT)) for file in KEPT.rglob("run.json"))
MEASURED = sorted(str(file.parent.relative_to(KEPT)) for file in KEPT.rglob("metrics.jsonl"))
"""those that were kept with their figures and scores"""


@dataclass
class Resumed:
    """A kept run that went on to its end."""

    kept: Path
    path: Path
    folder: RunFolder


@pytest.fixture(scope="module", autouse=True)
def tiny_vit():
    """The transformer of the kept I-JEPA run, which has the name of a larger one."""
    patch = pytest.MonkeyPatch()
    patch.setitem(vit.SHAPES, "vit_micro", vit.Shape(1, 16, 2))
    yield
    patch.undo()


@pytest.fixture(scope="module", params=RUNS)
def resumed(request, tmp_path_factory):
    run = tmp_path_factory.mktemp("kept") / "run"
    shutil.copytree(KEPT / request.param, run)
    assert checkpoint.newest(run / "checkpoints").name == "step-00000006"
    for name in ("config.json", "metrics.jsonl", "encoder.safetensors", "encoder-student.safetensors"):
        (run / name).unlink(missing_ok=True)
    shutil.rmtree(run / "evaluation", ignore_errors=True)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*bits may differ")
        folder = sanslabel.resume(run)
    return Resumed(KEPT / request.param, run, folder)


def outputs(run: Path) -> torch.Tensor:
    with torch.no_grad():
        images = open_source("digits").load(Request(torch.arange(4))).images.pixels / 255
        return sanslabel.load_encoder(run)(images)


def expected(kept: Path) -> torch.Tensor:
    return torch.tensor(json.loads((kept / "outputs.json").read_text())["first_four_digits"])


@pytest.mark.parametrize("name", RUNS)
def test_its_encoder_is_loaded(name):
    torch.testing.assert_close(outputs(KEPT / name), expected(KEPT / name), rtol=0, atol=1e-4)


def test_its_untrained_baseline_has_the_positions_that_the_run_began_with():
    """Configurations of that time do not state them."""
    kept = KEPT / "89c30e0" / "ijepa"
    assert "positions" not in checkpoint.exported_config(kept)
    encoder = RunFolder.open(kept).encoder()
    start = encoders.build(**encoder.config)
    assert torch.equal(start.pos_embed, encoder.pos_embed)
    assert not encoder.pos_embed.requires_grad


def test_it_resumes_to_what_it_ended_with(resumed):
    assert checkpoint.newest(resumed.path / "checkpoints").name == "step-00000010"
    torch.testing.assert_close(outputs(resumed.path), expected(resumed.kept), rtol=0, atol=1e-4)
    assert not resumed.folder.unfinished


@pytest.mark.parametrize("resumed", MEASURED, indirect=True)
def test_it_measures_what_it_measured(resumed):
    sanslabel.evaluate(resumed.path, protocols=(KNN(draws=2),), cache=False)
    (after,) = resumed.folder.scores
    before = read_scores(resumed.kept / "evaluation" / "digits.json")
    assert (after.network, after.fingerprints) == (before.network, before.fingerprints)
    kept = {(s.representation, s.labels_per_class): s.value for s in before.scores if s.protocol == "knn"}
    measured = {(s.representation, s.labels_per_class): s.value for s in after.scores}
    assert measured.pop((LARGEST_CLASS, None)) == pytest.approx(100 * 36 / 359)  # a row that earlier versions lacked
    if resumed.kept.name == "ijepa":  # the random baseline had learned positions, and now has the run's
        kept = {key: value for key, value in kept.items() if key[0] != "random encoder"}
        measured = {key: measured[key] for key in kept}
    assert measured == pytest.approx(kept, abs=0.6)  # two of the 359 test images


@pytest.mark.parametrize("resumed", MEASURED, indirect=True)
def test_its_figures_are_as_they_were(resumed):
    before, after = RunFolder.open(resumed.kept).lines(), resumed.folder.lines()
    assert [line["step"] for line in after] == [line["step"] for line in before]
    for name in (key for key in before[-1] if key.rpartition("/")[2] in {"loss", "embedding_std", "trivial"}):
        assert after[-1][name] == pytest.approx(before[-1][name], rel=1e-3), name
    assert resumed.folder.verdict().name == RunFolder.open(resumed.kept).verdict().name


def test_all_are_reported_on_one_page(tmp_path):
    pytest.importorskip("altair")
    runs = [Path(shutil.copytree(KEPT / name, tmp_path / name)) for name in MEASURED]
    page = report(*runs, out=tmp_path / "page.html", points=20).read_text()
    assert all(run.name in page for run in runs)
    assert "Not drawn" not in page
    assert "No map" not in page


def test_one_of_the_present_release_is_kept_and_all_are_small():
    assert sanslabel.__version__ in RUNS
    for name in RUNS:
        size = sum(file.stat().st_size for file in (KEPT / name).rglob("*") if file.is_file())
        assert size < (300 if name in MEASURED else 200) * 1024
