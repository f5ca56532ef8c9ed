"""A report draws the views of a run's last batch again, bit by bit as training drew them."""

import numpy as np
import pytest
import torch

import sanslabel
from sanslabel.methods import method_class
from sanslabel.report.last_batch import images_of_last_batch
from sanslabel.run_folder import RunFolder


@pytest.fixture
def drawn(monkeypatch):
    """The images of each step that training drew, by method, while it trains."""

    def recorded(name):
        images, method = [], method_class(name)
        step = method.step

        def recording(self, net, batch, clock):
            for objective in step(self, net, batch, clock):
                images.append({name: x.clone() for name, x in objective.pictures.items()})
                yield objective

        monkeypatch.setattr(method, "step", recording)
        return images

    return recorded


precisions = pytest.mark.parametrize("precision", ["float32", "bfloat16"])


@precisions
@pytest.mark.parametrize("method", ["simclr", "swav", "rotation"])
def test_views_have_the_bits_of_training(method, precision, drawn, tmp_path):
    images = drawn(method)
    run = sanslabel.train("digits", method=method, batch=480, epochs=1, precision=precision, out=tmp_path / "run")
    last, again = images[-1], images_of_last_batch(RunFolder.open(run.path))
    assert again.keys() - {"image"} == last.keys()
    assert last["first view" if "first view" in last else "view"].dtype == getattr(torch, precision)
    for name, strip in last.items():
        assert again[name].dtype == strip.dtype
        assert torch.equal(again[name], strip[:8]), name
    assert again["image"].shape == (8, 1, 8, 8)


@precisions
def test_large_views_have_the_bits_of_training(precision, drawn, tmp_path):
    """They are resampled in another way than small ones."""
    np.save(tmp_path / "large.npy", np.random.default_rng(0).integers(0, 256, (96, 200, 200), dtype=np.uint8))
    images, encoder = drawn("simclr"), {"name": "mlp", "hidden": [8]}
    options = {"encoder": encoder, "batch": 96, "epochs": 1, "precision": precision, "out": tmp_path / "run"}
    run = sanslabel.train(tmp_path / "large.npy", **options)
    again = images_of_last_batch(RunFolder.open(run.path))
    for name, strip in images[-1].items():
        assert torch.equal(again[name], strip[:8]), name
