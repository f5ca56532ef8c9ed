import json

import numpy as np

import sanslabel
from sanslabel.sources import open_source
from sanslabel.training.header import counted, readable_count

TINY = dict(encoder={"name": "dcgan", "filters": 8}, batch=16, epochs=2, precision="float32", device="cpu")


def photos(folder, count=24, side=16):
    """A folder of random color pictures, and its path."""
    from PIL import Image

    draw = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    for row in range(count):
        Image.fromarray(draw.integers(0, 256, (side, side, 3), np.uint8)).save(folder / f"{row}.png")
    return folder


def test_a_header_says_how_a_run_trains(tmp_path, capsys):
    np.save(tmp_path / "dots.npy", np.random.default_rng(0).integers(0, 256, (40, 8, 8), np.uint8))
    sanslabel.train(tmp_path / "dots.npy", out=tmp_path / "run", **TINY)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "dots: 40 pictures, gray"
    assert lines[1].startswith("training: simclr, 8 x 8 pixels, encoder dcgan (")
    assert lines[1].endswith(" weights), batch 16, 2 epochs = 4 steps")


def test_a_header_has_the_remarks_of_the_data_and_run_json_keeps_them(tmp_path, capsys, monkeypatch):
    from dataclasses import replace

    from sanslabel.training import run

    monkeypatch.setattr(run, "open_source", lambda *a, **k: replace(open_source(*a, **k), remarks=("3 SVG left out",)))
    sanslabel.train(photos(tmp_path / "pictures"), out=tmp_path / "run", **TINY)
    assert capsys.readouterr().err.splitlines()[1] == "3 SVG left out"
    assert json.loads((tmp_path / "run" / "run.json").read_text())["remarks"] == ["3 SVG left out"]
    assert sanslabel.resume(tmp_path / "run").known_plan.remarks == ("3 SVG left out",)


def test_counts_are_short():
    assert [readable_count(n) for n in (12, 9_600, 1_150_000, 25_600_000)] == ["12", "9.6 k", "1.1 M", "26 M"]
    assert [counted(n, "step") for n in (1, 1200)] == ["1 step", "1,200 steps"]
