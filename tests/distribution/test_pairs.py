"""Pairs of frames of a video on two processes, which decode it together."""

import pytest
from safetensors.torch import load_file

pytest.importorskip("av")

from tests.distribution.test_runs import ended, started
from tests.sources.video_files import moving, write_video

pytestmark = pytest.mark.faults

ARGUMENTS = ["simclr", "--near", "0.4", "--image-size", "16", "--encoder", "mlp", "--batch", "32", "--epochs", "2"]
ARGUMENTS += ["--precision", "float32", "--no-evaluate", "--device", "cpu"]


def test_two_processes_train_on_pairs_of_a_video_as_one_process_does(tmp_path, monkeypatch):
    film = write_video(tmp_path / "film.mp4", [frame for seed in range(8) for frame in moving(12, seed=seed)])
    weights = []
    for world in (1, 2):
        run = tmp_path / str(world)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / f"cache{world}"))
        for code, _, errors in ended(started(run, *ARGUMENTS, "--data", str(film), "--out", str(run), world=world)):
            assert code == 0, errors
        weights.append(load_file(run / "encoder.safetensors"))
    for name, alone in weights[0].items():
        apart = (weights[1][name] - alone).abs()  # rounding, which the optimizer divides by small gradients
        assert apart.max() < 1e-3, name
        assert apart.mean() < 1e-5, name
