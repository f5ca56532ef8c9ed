"""Runs of every release go on being read: tests/training/kept/make.py keeps one of the present release."""

import json
import shutil
from pathlib import Path

import pytest
import torch

import sanslabel
from sanslabel import checkpoint
from sanslabel.sources import Request, open_source

KEPT = Path(__file__).parent.parent / "training" / "kept"
VERSIONS = sorted(file.parent.name for file in KEPT.glob("*/run.json"))


def outputs(run: Path) -> torch.Tensor:
    with torch.no_grad():
        return sanslabel.load_encoder(run)(open_source("digits").load(Request(torch.arange(4))).images.pixels / 255)


@pytest.mark.filterwarnings("ignore:.*bits may differ")
@pytest.mark.parametrize("version", VERSIONS)
def test_a_run_of_this_release_is_read_and_goes_on(tmp_path, version):
    run = tmp_path / "run"
    shutil.copytree(KEPT / version, run)
    expected = torch.tensor(json.loads((run / "outputs.json").read_text())["first_four_digits"])
    torch.testing.assert_close(outputs(run), expected, rtol=0, atol=1e-4)
    (run / "encoder.safetensors").unlink()
    (run / "config.json").unlink()
    assert checkpoint.newest(run / "checkpoints").name == "step-00000006"
    ended = sanslabel.resume(run)
    assert checkpoint.newest(run / "checkpoints").name == "step-00000010"
    torch.testing.assert_close(
        ended.encoder()(open_source("digits").load(Request(torch.arange(4))).images.pixels / 255),
        expected,
        rtol=0,
        atol=1e-4,
    )


def test_one_of_the_present_release_is_kept_and_all_are_small():
    assert sanslabel.__version__ in VERSIONS
    for version in VERSIONS:
        assert sum(file.stat().st_size for file in (KEPT / version).rglob("*") if file.is_file()) < 200 * 1024
