import re
from importlib import import_module

import pytest

import sanslabel
from sanslabel.cli import main


def said(capsys, *arguments: str) -> str:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 0
    return capsys.readouterr().out


def test_pictures_are_named_on_a_line_of_their_own(runs, capsys, tmp_path):
    run = str(runs("vae"))
    for flags in ((), ("--interpolate",), ("--reconstruct", "--data", "digits", "--n", "4")):
        out = said(capsys, "sample", run, *flags, "--out", str(tmp_path / "made.png"))
        assert out == f"{tmp_path / 'made.png'}\n"
        assert (tmp_path / "made.png").read_bytes().startswith(b"\x89PNG")
        (tmp_path / "made.png").unlink()


def test_energies_and_quality_are_printed(runs, capsys, tmp_path):
    out = said(capsys, "energy", str(runs("vae")), "--complexity", "--out", str(tmp_path / "e.csv"))
    assert re.search(r"^\d+ images, median of the first set -?[\d.]+: .*e\.csv$", out, re.MULTILINE)
    assert re.search(r"^corrected by -?[\d.e-]+ for every nat", out, re.MULTILINE)
    out = said(capsys, "quality", str(runs("vae")), str(runs("simclr")), "--n", "100")
    assert re.search(r"^Fréchet distance +[\d.]+ +\(training images: [\d.]+\)$", out, re.MULTILINE)
    assert re.search(r"^precision, recall +[\d.]+, [\d.]+$", out, re.MULTILINE)
    assert len(re.findall(r"^nats of a test image, .*: [\d.]+$", out, re.MULTILINE)) == 2


def test_the_plane_of_a_run_is_drawn_again(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = sanslabel.train("moons", method="vae", recipe="toy", epochs=1).path
    assert said(capsys, "energy", str(run), "--out", "plane.png") == "plane.png\n"
    assert (tmp_path / "plane.png").read_bytes().startswith(b"\x89PNG")


def test_without_matplotlib_nothing_is_trained_for_a_picture(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(import_module("sanslabel.generation.surface"), "find_spec", lambda name: None)
    with pytest.raises(SystemExit) as stop:
        main(["energy", "dae", "--toy", "spiral"])
    assert stop.value.code == 2
    assert "pip install" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("sample", "nowhere"), "no run here"),
        (("sample", "x", "--interpolate", "--reconstruct"), "two different pictures"),
        (("sample", "x", "--data", "digits"), "not used for plain samples; add --reconstruct or --interpolate"),
        (("energy", "dae", "--toy", "spiral", "--data", "digits"), "--toy draws a plane"),
        (("energy", "simclr", "--toy", "spiral"), "SimCLR has small and paper"),
        (("quality", "nowhere", "nowhere"), "no run here"),
        (("energy", "dae", "--toy", "spiral", "--out", "plane.csv"), "written as PNG"),
        (("train", "vae", "--encoder", "coded"), "name that encoder"),
        (("train", "vae", "--encoder", "dcgan", "--encoder-options", "filters=x"), "filters is x"),
        (("train", "dae", "--method.amount", "1.0"), "a probability from 0 to below 1"),
        (("train", "vae", "--method.beta", "-1.0"), "--method.beta -1.0: must be 0 or more"),
    ],
)
def test_what_cannot_be_done_is_one_line(capsys, arguments, sentence):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    line = capsys.readouterr().err
    assert sentence in line
    assert line.count("\n") == 1
