"""Runs on pictures with sound, from the command line to both encoders."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import sanslabel
from bench.bouncing import with_test
from sanslabel.cli.main import main
from sanslabel.errors import BadInput
from sanslabel.inputs import ImageSpec, SpectrogramSpec
from sanslabel.methods.cross_modal import CrossModal
from sanslabel.report import report
from sanslabel.run_folder import RunFolder
from sanslabel.sources import open_source
from sanslabel.training.planning import encoder_configs

SMALL = ["--encoder", "image=mlp,audio=mlp", "--batch", "32", "--epochs", "2", "--device", "cpu"]
SMALL += ["--precision", "float32", "--method.hidden", "16", "--method.width", "8"]


def command(*words: str) -> int:
    """Runs a command, and returns its exit code."""
    with pytest.raises(SystemExit) as stop:
        main(list(words))
    return int(stop.value.code or 0)


@pytest.fixture(scope="module")
def shapes(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("data") / "shapes.npz"
    np.savez(file, **with_test(96, 64, frames=1, side=8, rate=1000))
    return file


@pytest.fixture(scope="module", params=["cross_modal", "avid"])
def run(request, shapes, tmp_path_factory) -> RunFolder:
    out = tmp_path_factory.mktemp(request.param) / "run"
    assert command("train", request.param, "--data", str(shapes), "--out", str(out), "--no-evaluate", *SMALL) == 0
    return RunFolder.open(out)


def test_both_encoders_are_exported(run):
    assert run.exported() == ["image", "audio"]
    assert not run.unfinished
    image, audio = sanslabel.load_encoder(run, "image"), sanslabel.load_encoder(run, "audio")
    assert image.reads == ImageSpec(channels=1, height=8, width=8)
    assert audio.reads == SpectrogramSpec(mels=64, frames=96, rate=1000)
    assert audio(torch.zeros(3, 1, 64, 96)).shape == (3, audio.width)
    assert {signal: config["name"] for signal, config in run.known_plan.encoders.items()} == {
        "image": "mlp",
        "audio": "mlp",
    }


def test_both_are_evaluated_and_reported(run, capsys):
    for network in ("image", "audio"):
        assert command("evaluate", str(run.path), "--network", network, "--protocols", "knn", "--device", "cpu") == 0
        assert f"trained encoder ({network})" in capsys.readouterr().out
    measured = {file.network: {score.representation for score in file.scores} for file in run.scores}
    assert measured.keys() == {"image", "audio"}
    assert "pixels" in measured["image"]
    page = report(run, points=40, out=run.path / "report.html")
    text = page.read_text()
    for signal in ("image", "audio"):  # each in a table of its own, since their baselines differ
        assert f"Encoder of the {signal}, in %, higher is better, on 64 pairs of image and sound of shapes" in text
    assert text.count("random encoder") >= 2
    assert "Which pairs of image and sound are alike" in text
    lines = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    assert {"accuracy", "modality_gap", "alignment"} <= lines[-1].keys()


def test_a_run_resumes_to_the_same_bits(run):
    weights = {network: run.encoder_file(network).read_bytes() for network in run.exported()}
    for file in [*map(run.encoder_file, weights), run.path / "config.json"]:
        file.unlink()
    sanslabel.resume(run.path)
    assert {network: run.encoder_file(network).read_bytes() for network in run.exported()} == weights


def test_a_plain_encoder_is_that_of_pictures(shapes):
    configs = encoder_configs(CrossModal(), "vit_micro", open_source(shapes), 8, "conv")
    assert {signal: config["name"] for signal, config in configs.items()} == {"image": "vit_micro", "audio": "conv"}
    chosen = {"image": "conv", "audio": "resnet18"}
    both = encoder_configs(CrossModal(), chosen, open_source(shapes), 8, "conv")
    assert {signal: config["name"] for signal, config in both.items()} == chosen


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--data", "digits"], "digits: has no audio, which the method reads; choose other data, or another method"),
        (["--encoder", "image=conv"], "names no encoder for audio; give one for each of image, audio"),
        (["--encoder", "image=conv,audio=dcgan"], "dcgan: reads images, not spectrograms; choose another encoder"),
        (["--masked"], "embeds no views, so none can be masked"),
    ],
)
def test_what_does_not_fit_is_refused(shapes, flags, reason, tmp_path, capsys):
    data = [] if "--data" in flags else ["--data", str(shapes)]
    out = str(tmp_path / "run")
    assert command("train", "cross_modal", *data, *flags, "--epochs", "1", "--out", out, "--device", "cpu") == 2
    assert reason in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_network_that_a_run_lacks_is_named(run):
    with pytest.raises(BadInput, match="has no network 'student'; there are: image, audio"):
        sanslabel.evaluate(run, network="student")
