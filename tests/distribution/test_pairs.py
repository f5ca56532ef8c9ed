"""Pairs of frames, sounds, pictures with sounds and tracks on two processes, which decode them together."""

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

pytest.importorskip("av")

from tests.distribution.test_runs import ended, started
from tests.sources.test_tracks import written_as_mot
from tests.sources.video_files import moving, write_video

pytestmark = pytest.mark.faults

ARGUMENTS = ["--batch", "32", "--epochs", "2"]
ARGUMENTS += ["--precision", "float32", "--no-evaluate", "--device", "cpu"]
MLP = ["--encoder", "mlp"]
OF_FRAMES = [*MLP, "--near", "0.4", "--image-size", "16"]


def film(folder):
    return write_video(folder / "film.mp4", [frame for seed in range(8) for frame in moving(12, seed=seed)])


def sounds(folder, count=48):
    """Noisy tones of different length."""
    soundfile, random = pytest.importorskip("soundfile"), np.random.default_rng(0)
    (folder / "set").mkdir()
    for row in range(count):
        time = np.arange(9600 + 200 * row) / 16_000
        wave = 0.3 * np.sin(2 * np.pi * 200 * (row + 2) * time) + 0.05 * random.standard_normal(len(time))
        soundfile.write(folder / "set" / f"{row}.wav", wave, 16_000)
    return folder / "set"


def stamps(folder):
    """A picture beside each sound."""
    root, random = sounds(folder), np.random.default_rng(1)
    for sound in sorted(root.iterdir()):
        Image.fromarray(random.integers(0, 256, (16, 16, 3), np.uint8)).save(sound.with_suffix(".png"))
    return root


def tracks(folder):
    return written_as_mot(folder / "set", videos=6)


@pytest.mark.parametrize(
    ("write", "arguments"),
    [
        (film, ["simclr", *OF_FRAMES]),
        (sounds, ["simclr", *MLP]),
        (stamps, ["cross_modal", "--encoder", "image=mlp,audio=mlp", "--image-size", "16"]),
        (tracks, ["simclr", *OF_FRAMES]),
    ],
    ids=lambda value: value.__name__ if callable(value) else value[0],
)
def test_two_processes_train_on_pairs_and_sounds_as_one_process_does(tmp_path, monkeypatch, write, arguments):
    data, weights = write(tmp_path), []
    for world in (1, 2):
        run = tmp_path / str(world)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / f"cache{world}"))
        for code, _, errors in ended(
            started(run, *arguments, *ARGUMENTS, "--data", str(data), "--out", str(run), world=world)
        ):
            assert code == 0, errors
        weights.append({path.name: load_file(path) for path in sorted(run.glob("*.safetensors"))})
    assert len(weights[0]) == (2 if write is stamps else 1)
    for file, alone in weights[0].items():
        apart = torch.cat(
            [(weights[1][file][name] - tensor).double().abs().flatten() for name, tensor in alone.items()]
        )
        # Rounding, which the optimizer divides by gradients; where one is nearly zero, its sign may be another one.
        assert apart.mean() < 1e-5, file
        assert (apart > 1e-4).double().mean() < 1e-2, file
