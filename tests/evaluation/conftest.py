"""Small data for every test of evaluation."""

import pytest
import torch

from sanslabel.sources import open_source


@pytest.fixture(scope="session")
def digits():
    """Pixels (N, 64) float32 and labels (N,) of the training and the test split."""
    found = []
    for split in ("train", "test"):
        source = open_source("digits", split)
        found += [source.images.flatten(1).float() / 255, source.labels]
    return found


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)
