"""Models of timm under the encoders' contract."""

import numpy as np
import pytest
import torch

import sanslabel
from sanslabel import checkpoint, encoders
from sanslabel.encoders import timm as adapter
from sanslabel.errors import BadInput
from sanslabel.evaluation import evaluate
from sanslabel.evaluation.protocols.knn import KNN

timm = pytest.importorskip("timm")
SMALL = "mobilenetv3_small_050"


@pytest.mark.parametrize("name", ["resnet18", "vit_tiny_patch16_224", "mobilenetv3_small_050"])
def test_the_representation_is_timm_s(name):
    torch.manual_seed(0)
    encoder = encoders.build(f"timm/{name}", channels=1, image_size=32).eval()
    images = torch.rand(2, 1, 32, 32)
    expected = encoder.model(images)
    assert encoder(images).shape == (2, encoder.width)
    torch.testing.assert_close(encoder(images), expected)
    scaled = encoders.build(f"timm/{name}", channels=1, image_size=32, scaling=((0.5,), (0.25,))).eval()
    scaled.load_state_dict(encoder.state_dict())
    torch.testing.assert_close(scaled(images), encoder((images - 0.5) / 0.25))


def test_it_is_saved_and_made_again(tmp_path):
    encoder = encoders.build("timm/resnet18", channels=1, image_size=32, scaling=((0.5,), (0.25,))).eval()
    checkpoint.save_encoders(tmp_path, {"student": encoder})
    images = torch.rand(2, 1, 32, 32)
    torch.testing.assert_close(checkpoint.load_encoder(tmp_path)(images), encoder(images))


def test_it_can_be_trained(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (32, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "few.npz", images=pixels)
    options = {"method": "simclr", "encoder": f"timm/{SMALL}", "image_size": 32, "epochs": 1, "batch": 16}
    run = sanslabel.train(tmp_path / "few.npz", **options, out=tmp_path / "run")
    assert run.encoder()(torch.rand(2, 1, 32, 32)).shape == (2, 1024)


def test_a_pretrained_one_is_evaluated_by_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda *a, **o: make(*a, **{**o, "pretrained": False}))  # without network
    monkeypatch.setattr(adapter, "pretrained_settings", lambda name: (32, ((0.4, 0.5, 0.6), (0.2, 0.2, 0.2))))
    monkeypatch.setattr("sanslabel.evaluation.subjects.pretrained_settings", adapter.pretrained_settings)
    scores = evaluate(f"timm/{SMALL}", data="digits", protocols=(KNN(draws=1),))
    assert {s.representation for s in scores} == {
        "largest class",
        "pixels",
        "random encoder",
        "trained encoder (pretrained)",
    }
    assert (tmp_path / "runs" / f"timm-{SMALL}" / "evaluation" / "digits.json").is_file()
    with pytest.raises(BadInput, match="name labeled data with `data`"):
        evaluate(f"timm/{SMALL}")


def test_training_refuses_pretrained_weights(tmp_path):
    encoder = {"name": "timm/resnet18", "pretrained": True}
    with pytest.raises(BadInput, match="training starts from fresh weights"):
        sanslabel.train("digits", encoder=encoder, image_size=32, epochs=1, out=tmp_path / "run")


def test_weights_that_cannot_be_had_are_one_line(monkeypatch):
    def fails(*_, pretrained=False, **__):
        raise OSError("no network\nhere")

    monkeypatch.setattr(timm, "create_model", fails)
    with pytest.raises(BadInput, match=r"could not make it for 1 channels and 32 pixels \(no network here\)"):
        encoders.build("timm/resnet18", channels=1, image_size=32)


def test_unknown_names_and_a_library_that_is_not_there(monkeypatch):
    with pytest.raises(BadInput, match=r"timm has no 'resnet19'; did you mean resnet1"):
        encoders.build("timm/resnet19", channels=1, image_size=32)
    with pytest.raises(BadInput, match=r"timm has no 'resnet19'"):
        evaluate("timm/resnet19", data="digits")
    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    with pytest.raises(BadInput, match="timm cannot be imported here"):
        encoders.build("timm/resnet18", channels=1, image_size=32)
