"""Generative methods on a folder of colored photos of odd sizes, one of which is broken."""

import csv

import numpy as np
import pytest
from PIL import Image

import sanslabel
from sanslabel.generation import energy_table, interpolation, reconstructions, samples

METHODS = ("autoencoder", "dae", "vae", "ebgan", "dcgan")


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    root = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(0)
    for i in range(40):
        shape = (*random.integers(20, 50, 2), 3)
        Image.fromarray(random.integers(0, 256, shape, np.uint8)).save(root / f"{i:02}.png")
    (root / "40.png").write_bytes(b"\x89PNG no more")
    return root


def size_of(path) -> tuple[int, int, str]:
    with Image.open(path) as picture:
        return *picture.size, picture.mode


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("numbers", [{}, {"precision": "bfloat16", "chunk": 8}], ids=["float32", "bfloat16-chunk"])
@pytest.mark.filterwarnings("ignore:`chunk`. BatchNorm")
def test_photos_are_modeled_sampled_and_scored(photos, tmp_path, method, numbers):
    options = {"image_size": 27, "epochs": 1, "batch": 16, "workers": 0, **numbers}
    run = sanslabel.train(photos, method=method, out=tmp_path / "run", **options)
    assert len(run.bad_samples()) == 1
    if method != "autoencoder":
        assert size_of(samples(run.path, count=4).path)[2] == "RGB"
    if method in ("autoencoder", "vae"):
        assert size_of(interpolation(run.path, count=2, data=photos).path)[2] == "RGB"
    if method in ("autoencoder", "dae", "vae"):
        wide, tall, _ = size_of(reconstructions(run.path, count=4).path)
        rows = 3 if method == "dae" else 2
        assert wide / tall == pytest.approx((4 * 29 + 2) / (rows * 29 + 2), rel=0.01)
    found = energy_table(run.path, complexity=True)
    with found.path.open() as file:
        ids = {row["id"] for row in csv.DictReader(file)}
    assert (found.count, found.unreadable) == (40, 1)
    assert "40.png" not in ids
    assert len(ids) == 40
