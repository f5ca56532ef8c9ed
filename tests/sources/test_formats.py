"""Formats that are found by looking, a person's own among them."""

import importlib
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest

from sanslabel.errors import BadInput
from sanslabel.sources import formats, names, open_source, opening, splits

CIRCLES = '''"""Circles of the radii in a .circles file, as images of 16 pixels a side."""

from dataclasses import dataclass
from pathlib import Path

import torch

from sanslabel.batch import Images
from sanslabel.inputs import ImageSpec
from sanslabel.sources.source import Loaded, Source

NAMES = ("two-circles",)


@dataclass(frozen=True, kw_only=True, eq=False)
class Circles(Source):
    radii: tuple

    decodes = True
    fingerprint = "circles"

    def id(self, index):
        return f"circle/{index}"

    def load(self, request):
        across = torch.arange(16) - 7.5
        distance = (across[:, None] ** 2 + across**2).sqrt()
        radii = torch.tensor(self.radii)[request.index, None, None, None]
        return Loaded(request.index, {"image": Images(((distance < radii) * 255).byte())}, [])

    def subset(self, index):
        raise NotImplementedError


def splits(data):
    return ("train",) if data in NAMES or str(data).endswith(".circles") else None


def open_source(data, split, wanted):
    radii = (2.0, 5.0) if data in NAMES else tuple(map(float, Path(data).read_text().split()))
    return Circles(
        name="circles", split=split, radii=radii, labels=torch.full((len(radii),), -1), classes=(),
        inputs={"image": ImageSpec(channels=1, height=16, width=16)},
    )
'''


@pytest.fixture
def own(tmp_path, monkeypatch) -> Path:
    """Returns a folder of a person's own formats, which the package looks into."""
    folder = tmp_path / "mine" / "formats"
    folder.mkdir(parents=True)
    monkeypatch.setattr(formats, "__path__", [*formats.__path__, str(folder)])
    opening._formats.cache_clear()
    yield folder
    opening._formats.cache_clear()
    for name in ("circles", "other"):
        sys.modules.pop(f"{formats.__name__}.{name}", None)
        vars(formats).pop(name, None)


def test_a_new_file_is_a_new_format(own, tmp_path):
    (own / "circles.py").write_text(CIRCLES)
    (tmp_path / "x.circles").write_text("1 3 5")
    source = open_source(tmp_path / "x.circles")
    assert [source.id(row) for row in range(len(source))] == ["circle/0", "circle/1", "circle/2"]
    assert splits("two-circles") == ("train",)
    assert "two-circles" in names()
    with pytest.raises(BadInput, match="two-circles has no test split; it has: train"):
        open_source("two-circles", "test")


def test_two_formats_that_read_one_path_are_an_error(own, tmp_path):
    (own / "circles.py").write_text(CIRCLES)
    (own / "other.py").write_text(CIRCLES.replace("two-circles", "others"))
    (tmp_path / "x.circles").write_text("1")
    with pytest.raises(BadInput, match=r"x\.circles is read by several formats \(circles, other\); keep files of one"):
        open_source(tmp_path / "x.circles")
    digits = tmp_path / "set"
    digits.mkdir()
    (digits / "train-images-idx3-ubyte").write_bytes(
        bytes([0, 0, 8, 3]) + np.array([1, 2, 2], ">u4").tobytes() + b"abcd"
    )
    (digits / "train.bin").write_bytes(bytes(3074))
    with pytest.raises(BadInput, match=r"set is read by several formats \(cifar, idx\)"):
        splits(digits)


def test_processes_find_them_by_the_same_variable(own, monkeypatch):
    """A source of a person's own format can be sent to a process that has the variable, as worker processes have."""
    (own / "circles.py").write_text(CIRCLES)
    sent = pickle.dumps(open_source("two-circles"))
    del sys.modules[f"{formats.__name__}.circles"]
    monkeypatch.setattr(formats, "__path__", formats.__path__[:-1])
    with pytest.raises(ModuleNotFoundError, match="circles"):
        pickle.loads(sent)
    monkeypatch.setenv("SANSLABEL_PATH", str(own.parent))
    assert importlib.reload(formats).__path__[-1] == str(own)
    assert pickle.loads(sent).radii == (2.0, 5.0)
