"""Encoders by name: a person's own file is found, and an encoder is built for the input that it reads."""

import importlib
import json
import sys
import warnings
from pathlib import Path

import pytest
import torch

from sanslabel import encoders
from sanslabel.discovery import VARIABLE, search_path
from sanslabel.encoders import LinearCode
from sanslabel.encoders.build import encoder_classes
from sanslabel.errors import BadInput
from sanslabel.inputs import ImageSpec, SpectrogramSpec, TextSpec

FOLDER = Path(__file__).parent
OWN = '''
from torch import Tensor, nn

from sanslabel.encoders.encoder import Encoder
from sanslabel.inputs import SpectrogramSpec


class Bands(Encoder):
    """A linear layer on the mean over time."""

    names = ("bands",)
    input = SpectrogramSpec

    def __init__(self, name: str, mels: int, frames: int, rate: int, *, width: int = 8):
        super().__init__({"name": name, "mels": mels, "frames": frames, "rate": rate, "width": width}, width)
        self.layer = nn.Linear(mels, width)

    def stages(self, images: Tensor) -> list[Tensor]:
        return [self.layer(images.mean(dim=(1, 3)))]

    def pooled(self, stage: Tensor) -> Tensor:
        return stage
'''


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder for encoders of one's own, which the package looks into."""
    looked_into = tmp_path / "encoders"
    looked_into.mkdir()
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    monkeypatch.setattr(encoders, "__path__", search_path(encoders.__path__, "encoders"))
    before = set(sys.modules)
    encoder_classes.cache_clear()
    yield looked_into
    encoder_classes.cache_clear()
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_a_file_in_a_folder_of_one_s_own_is_an_encoder(folder):
    (folder / "bands.py").write_text(OWN)
    spec = SpectrogramSpec(mels=5, frames=7, rate=16_000)
    encoder = encoders.build("bands", width=3, **spec.arguments)
    assert encoder.reads == spec
    assert encoder(torch.rand(2, *spec.shape)).shape == (2, 3)
    assert encoders.build(**json.loads(json.dumps(encoder.config))).config == encoder.config
    assert {"bands", "resnet18"} < set(encoders.names())
    with pytest.raises(BadInput, match="encoder='bands': needs frames, rate; add what is missing"):
        encoders.build("bands", mels=5)
    with pytest.raises(BadInput, match="no encoder 'band': did you mean bands"):
        encoders.build("band")
    with pytest.raises(BadInput, match="encoder='bands': reads spectrograms, not images; choose another"):
        encoders.build("bands", channels=1, image_size=8)
    with pytest.raises(BadInput, match="encoder='dcgan': reads images, not spectrograms; choose another"):
        encoders.build("dcgan", **spec.arguments)


@pytest.mark.parametrize("name", ["conv", "resnet18", "vit_micro", "mlp"])
def test_encoders_of_images_read_spectrograms_as_images_of_one_channel(name):
    spec = SpectrogramSpec(mels=16, frames=24, rate=8_000)
    encoder = encoders.build(name, scaling=((-5.0,), (4.0,)), **spec.arguments).eval()
    assert encoder.reads == spec
    assert encoder.config | spec.arguments == encoder.config
    assert not {"channels", "image_size"} & encoder.config.keys()
    spectrograms = 4 * torch.randn(3, *spec.shape) - 5
    again = encoders.build(**json.loads(json.dumps(encoder.config))).eval()
    again.load_state_dict(encoder.state_dict())
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # they lie far outside of [0, 1]
        again.range_unknown = True
        assert torch.equal(again(spectrograms), encoder(spectrograms))
    assert encoder(spectrograms).shape == (3, encoder.width)
    torch.testing.assert_close(encoder.scaled(spectrograms), (spectrograms + 5) / 4)
    with pytest.raises(BadInput, match="needs frames; add what is missing"):
        encoders.build(name, mels=16, rate=8_000)
    with pytest.raises(BadInput, match="image_size and mels are given; leave one of them out"):
        encoders.build(name, image_size=8, **spec.arguments)
    if name != "mlp":
        with pytest.raises(BadInput, match="needs 8 mels and frames or more, and is given 4"):
            encoders.build(name, mels=4, frames=24, rate=8_000)


def test_the_folders_are_named_by_the_environment(monkeypatch):
    before = list(encoders.__path__)
    monkeypatch.setattr(encoders, "__path__", before)
    monkeypatch.setenv(VARIABLE, str(FOLDER.parent))
    importlib.reload(encoders)
    assert encoders.__path__ == [*before, str(FOLDER)]


def test_a_file_that_cannot_be_imported_is_named(folder):
    (folder / "torn.py").write_text("import")
    with pytest.raises(BadInput, match=r"torn.py cannot be read \(invalid syntax.*; correct the file, or take it out"):
        encoders.names()


def test_two_encoders_of_one_name_are_refused(folder):
    (folder / "bands.py").write_text(OWN.replace('"bands"', '"conv"'))
    with pytest.raises(BadInput, match=r"bands.py and .*conv.py define the same encoder 'conv'; rename one"):
        encoders.build("conv")


def test_every_class_declares_its_names():
    classes = encoder_classes()
    assert classes["coded"] is classes["linear_code"] is LinearCode
    assert all(name in encoder.names for name, encoder in classes.items())
    assert {"timm/*", *encoders.names()} == classes.keys() - {"coded", "linear_code"}


@pytest.mark.parametrize(
    "spec",
    [
        ImageSpec(channels=3, height=32, width=32),
        SpectrogramSpec(mels=64, frames=100, rate=16_000),
        TextSpec(vocabulary=1000, length=32),
    ],
)
def test_a_specification_comes_back_from_its_arguments(spec):
    assert type(spec).of_arguments(spec.arguments) == spec
    assert tuple(spec.arguments) == spec.argument_names
    assert len(torch.zeros(2, *spec.shape)) == 2


def test_an_encoder_states_what_it_reads():
    assert encoders.build("conv", channels=2, image_size=12).reads == ImageSpec(channels=2, height=12, width=12)
    code = LinearCode.on(encoders.build("mlp", channels=1, image_size=8), 3)
    assert code.reads.shape == (1, 8, 8)
    assert encoders.build("mlp", **code.reads.arguments).reads == code.reads


def test_configurations_of_older_runs_are_read():
    trunk = {"name": "vit_micro", "channels": 1, "image_size": 8, "patch": 2, "pool": "mean", "scaling": None}
    encoder = encoders.build("coded", channels=1, image_size=8, of=trunk, width=3, scaling=None)
    assert encoder.trunk.config == trunk | {"positions": "learned", "start": "timm"}
    with pytest.raises(BadInput, match="made only by methods"):
        encoders.build("coded", channels=1, image_size=8, of="conv", width=3)
