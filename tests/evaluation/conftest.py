"""Small data for every test of evaluation."""

from dataclasses import asdict

import pytest
import torch

from sanslabel import checkpoint, encoders, run_config
from sanslabel.run_config import Plan
from sanslabel.sources import open_source


@pytest.fixture(scope="session")
def digits():
    """Pixels (N, 64) float32 and labels (N,) of the training and the test split."""
    tensors = []
    for split in ("train", "test"):
        source = open_source("digits", split)
        tensors += [source.images.flatten(1).float() / 255, source.labels]
    return tensors


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


def written_run(folder, networks, precision="float32"):
    """Writes a run folder as training on digits leaves it, with these networks."""
    checkpoint.save_encoders(folder, networks)
    first, *_ = networks.values()
    plan = Plan(
        data="digits",
        fingerprint="0",
        samples=1438,
        method="simclr",
        hyperparameters={},
        recipe={},
        encoder=first.config,
        image_size=8,
        epochs=1,
        batch=64,
        chunk=None,
        workers=0,
        seed=0,
        world_size=1,
        device="cpu",
        precision=precision,
        threads=1,
    )
    checkpoint.write_json(folder / "run.json", asdict(plan), run_config.FORMAT)
    return folder


@pytest.fixture
def write_run():
    """The function above, for tests, which cannot import this file."""
    return written_run


@pytest.fixture
def quick_run(tmp_path, write_run):
    """A run folder whose encoder has three narrow layers."""
    torch.manual_seed(0)
    encoder = encoders.build("mlp", channels=1, image_size=8, hidden=[64, 48, 32])
    return write_run(tmp_path / "run", {"student": encoder})


@pytest.fixture
def run(tmp_path, write_run):
    """A run folder; the encoders' weights are random."""
    torch.manual_seed(0)
    return write_run(
        tmp_path / "run", {name: encoders.build("conv", channels=1, image_size=8) for name in ("student", "teacher")}
    )
