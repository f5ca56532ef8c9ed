"""The content of the page, read as text."""

import json
import re
import sys
from base64 import b64decode
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sanslabel.batch import Audio
from sanslabel.cli import main
from sanslabel.errors import BadInput
from sanslabel.figures import FIGURES, name_of
from sanslabel.inputs import SpectrogramSpec
from sanslabel.report import report
from sanslabel.report.curves import curves
from sanslabel.report.document import short_names
from sanslabel.report.markup import table
from sanslabel.report.neighborhoods import nearest
from sanslabel.report.page import _json
from sanslabel.report.picture_map import _positions
from sanslabel.report.snapshot import snapshot
from sanslabel.report.thumbnails import _spectrograms
from sanslabel.sources import open_source


def contents(path) -> tuple[str, dict, dict]:
    """Returns the page, its charts and its maps."""
    text = path.read_text()
    read = lambda name: json.loads(re.search(rf'id="{name}">(.*?)</script>', text, re.DOTALL)[1])  # noqa: E731
    return text[: text.index("<script>")], read("specs"), read("maps")  # without the scripts' own text


def lines_of(run) -> list[dict]:
    """Returns the complete lines of metrics.jsonl."""
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines() if line.endswith("}")]


def titles(text: str) -> list[str]:
    return [re.sub(r"<.*?>", "", title) for title in re.findall(r"<h2>(.*?)</h2>", text)]


def test_one_run(runs):
    path = report(runs["simclr"], points=50)
    assert path == runs["simclr"] / "report.html"
    text, specs, maps = contents(path)
    assert titles(text) == ["Which images are alike", "Scores", "Training", "Views", "Runs"]
    (map_,) = maps.values()
    assert len(map_["names"]) == len(map_["labels"]) == len(map_["neighbors"]) == 50
    assert all(row not in near for row, near in enumerate(map_["neighbors"]))
    assert len(map_["thumbnails"]) == 50
    assert all(b64decode(thumbnail)[8:12] == b"WEBP" for thumbnail in map_["thumbnails"])
    assert "linear, 10 a class" in text
    assert len(specs) == text.count('class="chart"')
    assert path.stat().st_size < 5e6


def test_the_neighbors_are_those_of_a_loop():
    unit = torch.nn.functional.normalize(torch.randn(30, 5), dim=1)
    index, distances = nearest(unit)
    for row, near in enumerate(index.tolist()):
        others = [other for other in range(30) if other != row]
        others.sort(key=lambda other: -float(unit[row] @ unit[other]))
        assert near == others[: len(near)]
        assert distances[row].tolist() == pytest.approx(
            [1 - float(unit[row] @ unit[other]) for other in near], abs=1e-6
        )


def test_sounds_have_spectrograms_for_thumbnails():
    rate, time = 4000, torch.arange(1000) / 4000
    waves = torch.stack([torch.sin(2 * torch.pi * pitch * time) for pitch in (200, 400, 800, 1600)])[:, None]
    spec = SpectrogramSpec(mels=16, frames=20, rate=rate)
    digits = open_source("digits", "test").subset(torch.arange(4))
    sounds = replace(digits, signals={"audio": Audio(waves)}, inputs={"audio": spec})
    thumbnails = _spectrograms(sounds, torch.tensor([0, 1, 3]), spec)
    assert thumbnails.shape == (3, 1, 16, 20)
    assert (thumbnails.min(), thumbnails.max()) == (0, 1)
    loudest = thumbnails[:, 0].mean(dim=2).argmax(dim=1)
    assert loudest.diff().sign().abs().sum() == 2, "each has its pitch"


def test_what_a_generative_model_makes(page):
    text, specs, _ = contents(page("vae"))
    assert "Samples and energies" in titles(text)
    assert "Information in each code dimension" in text
    assert any(spec["description"] == "Energies" for spec in specs.values())
    assert 'alt="reconstruction"' in text
    assert 'alt="samples"' in text


def test_a_run_logs_what_the_catalogue_explains(runs):
    for run in runs.values():
        keys = {name_of(key) for line in lines_of(run) for key in line}
        assert keys <= FIGURES.keys()
        assert {"step", "loss", "share_of_network", "peak_memory", "refused", "images_per_second"} <= keys


def test_each_figure_of_the_catalogue_that_a_run_has_is_drawn(runs, page):
    text, *_ = contents(page("ebgan"))
    logged = {name_of(key) for line in lines_of(runs["ebgan"]) for key, x in line.items() if isinstance(x, float)}
    drawn = [FIGURES[name].title for name in logged if FIGURES[name].drawn]
    assert len(drawn) > 8
    assert all(f"<strong>{title}</strong>" in text for title in drawn)
    assert f"<strong>{FIGURES['trivial'].title}</strong>" not in text


def test_a_term_of_ones_own_is_drawn_under_its_name(runs):
    run = replace(snapshot(runs["simclr"], "run"), lines=[{"step": 10, "a/my_term": 1.0, "loss": 2.0}])
    loss, mine = curves([run])
    assert (loss.title, mine.title) == ("Loss", "my_term")
    assert mine.words[-1].startswith("run a: 1 at first")


def test_an_unfinished_run_shows_what_there_is(page):
    text, specs, maps = contents(page("unfinished"))
    assert "This run has not ended: step 10 of 20." in text
    assert "The map shows the encoder after step 10 of 20." in text
    assert len(maps) == 1
    assert specs
    assert 'alt="first view"' in text


def test_a_run_that_has_just_begun(runs, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text((runs["simclr"] / "run.json").read_text())
    text, specs, maps = contents(report(tmp_path / "run"))
    assert "Too early to say" in text
    assert "step 0 of" in text
    assert "No map: " in text
    assert "no checkpoint yet" in text
    assert not specs
    assert not maps


def test_several_runs_are_compared(page):
    names = ("simclr", "vicreg", "vae", "ebgan", "npid")
    text, _, maps = contents(page(*names))
    assert len(maps) == 5
    assert all(len(map_["names"]) == 20 for map_ in maps.values())
    for name in names:
        assert f"Views of {name}" in titles(text)
    assert "Loss of simclr" in text


opened: list[Path] = []
"""files named run.json that are opened while a test watches"""
watching = False


def watch(event: str, arguments: tuple) -> None:
    """An audit hook, since it sees every file that Python opens."""
    if watching and event == "open" and str(arguments[0]).endswith("run.json"):
        opened.append(Path(arguments[0]))


def test_each_run_json_is_opened_once(runs, tmp_path, monkeypatch):
    sys.addaudithook(watch)
    opened.clear()
    monkeypatch.setattr(sys.modules[__name__], "watching", True)
    names = ("simclr", "vae", "unfinished")
    report(*(runs[name] for name in names), out=tmp_path / "page.html", points=20)
    assert sorted(opened) == sorted(runs[name] / "run.json" for name in names)


def test_names_tell_runs_apart(tmp_path):
    assert short_names(["a/x", "b/y"]) == ["x", "y"]
    assert short_names(["a/x", "b/x"]) == ["a/x", "b/x"]
    assert short_names(["x", "x"]) == ["x (1)", "x (2)"]


def test_nothing_in_a_name_becomes_markup():
    assert "<b>" not in table(["<b>"], [["<b>", "<b>"]], "<b>")
    assert "</script>" not in _json({"name": "</script><script>alert(1)</script>"})
    assert json.loads(_json({"name": "</script>"})) == {"name": "</script>"}


def test_the_page_says_that_data_are_gone(runs, tmp_path):
    run = tmp_path / "moved"
    run.mkdir()
    for file in runs["simclr"].iterdir():
        if file.is_file():
            (run / file.name).write_bytes(file.read_bytes())
    content = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(content | {"data": str(tmp_path / "gone")}))
    text, specs, maps = contents(report(run))
    assert "Not drawn: " in text
    assert "No map: " in text
    assert specs
    assert not maps


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nowhere"], "no run here"),
        ([], "RUN is missing"),
        (["RUN", "--out", "page.pdf"], "must end in .html"),
        (["RUN", "--points", "1"], "at least 2"),
    ],
)
def test_what_cannot_be_shown_is_one_line(runs, capsys, arguments, sentence):
    with pytest.raises(SystemExit) as stop:
        main(["report", *(str(runs["simclr"]) if word == "RUN" else word for word in arguments)])
    assert stop.value.code == 2
    assert sentence in (line := capsys.readouterr().err)
    assert line.count("\n") == 1


def test_without_the_charts_library(runs, monkeypatch):
    monkeypatch.setattr("sanslabel.report.document.find_spec", lambda name: None)
    with pytest.raises(BadInput, match=r'altair and vl_convert; pip install "sanslabel\[report\]"'):
        report(runs["simclr"])


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("features", ["equal", "one direction", "one number", "one image"])
def test_a_collapsed_encoder_has_a_map(features):
    unit = {
        "equal": torch.ones(40, 16) / 4,
        "one direction": torch.randn(40, 1) * torch.ones(1, 16),
        "one number": torch.randn(40, 1),
        "one image": torch.randn(1, 16),
    }[features]
    positions, algorithm = _positions(unit, 0)
    assert positions.shape == (len(unit), 2)
    assert positions.isfinite().all()
    assert algorithm == "principal components"


def test_half_a_line_is_left_out(runs):
    assert snapshot(runs["unfinished"], "x").lines[-1]["step"] > 1
