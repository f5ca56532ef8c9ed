import numpy as np
import pytest
import torch
from PIL import Image

import sanslabel
from sanslabel.errors import BadInput
from sanslabel.generation import surface
from sanslabel.sources import open_source


def seen(path) -> Image.Image:
    with Image.open(path) as picture:
        return picture.copy()


@pytest.mark.parametrize("method", ["autoencoder", "dae", "vae", "ebgan"])
def test_the_energy_of_the_plane_is_drawn(tmp_path, method):
    run = sanslabel.train("moons", method=method, recipe="toy", epochs=1, out=tmp_path / method)
    path = surface(run.path).path
    assert path == run.path / "energy.png"
    picture = seen(path)
    assert picture.width > 500
    assert len(np.unique(np.asarray(picture.convert("L")))) > 50
    first = path.read_bytes()
    assert surface(run.path).path.read_bytes() == first


def test_images_are_no_plane_and_methods_of_views_have_no_toy_recipe(runs, tmp_path):
    with pytest.raises(BadInput, match="not trained on points"):
        surface(runs("vae"))
    with pytest.raises(BadInput, match="SimCLR has small and paper"):
        sanslabel.train("moons", method="simclr", recipe="toy", out=tmp_path / "run")


def test_a_folder_of_the_same_name_is_meant_by_its_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "spiral").mkdir()
    Image.new("L", (9, 9)).save(tmp_path / "spiral" / "one.png")
    Image.new("L", (9, 9), 1).save(tmp_path / "spiral" / "two.png")
    assert len(open_source("./spiral", "train")) == 2
    assert len(open_source("spiral", "train")) == 4096


@pytest.mark.parametrize(("name", "classes"), [("spiral", 2), ("moons", 2), ("ring", 8)])
def test_points_are_made_by_the_program(name, classes):
    train, test = open_source(name, "train"), open_source(name, "test")
    assert (len(train), len(test)) == (4096, 1024)
    assert train.images.shape[1:] == (2, 1, 1)
    assert len(train.classes) == classes
    assert train.images.min() > 0
    assert train.images.max() < 1
    assert torch.equal(train.images, open_source(name, "train").images)
    assert not torch.equal(train.images[:1024], test.images)
    distance = torch.cdist(test.images.flatten(1), train.images.flatten(1)).min(dim=1).values
    assert distance.median() < 0.02, "both splits lie on the same figure"
