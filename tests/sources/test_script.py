"""Worker processes and the script that runs: it is not imported by them, and needs no guard."""

import multiprocessing
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image

from sanslabel.sources import Request
from sanslabel.sources.workers import load_each

SCRIPT = """
import sanslabel
options = dict(image_size=8, encoder={"name": "mlp", "hidden": [8]}, epochs=1, batch=8, cache="none", workers=1)
sanslabel.train("pictures", out="run", **options)
print(len(sanslabel.evaluate("run", data="pictures", protocols=("cluster",), baselines=False)))
"""


@dataclass(frozen=True)
class Doubled:
    """A source whose samples are twice their indices."""

    name: str = "doubled"
    function: object = None

    def id(self, index: int) -> str:
        return str(index)

    def load(self, request: Request) -> torch.Tensor:
        return 2 * request.index


def loaded(source, workers: int) -> list[list[int]]:
    requested = [Request(torch.tensor([row, row + 1]), 0) for row in (0, 2, 4)]
    return [tensor.tolist() for tensor in load_each(source, iter(requested), workers)]


@pytest.fixture
def script(tmp_path, monkeypatch) -> ModuleType:
    """The script that runs. It leaves a mark wherever it is imported."""
    script = ModuleType("__main__")
    script.__file__ = str(tmp_path / "script.py")
    Path(script.__file__).write_text(f"open({str(tmp_path / 'mark')!r}, 'w')")
    monkeypatch.setitem(sys.modules, "__main__", script)
    return script


def test_workers_do_not_import_the_script(script, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parent)
    monkeypatch.setitem(sys.modules, Path(__file__).stem, sys.modules[__name__])  # workers find this file by that name
    monkeypatch.setattr(Doubled, "__module__", Path(__file__).stem)
    assert loaded(Doubled(), 1) == [[0, 2], [4, 6], [8, 10]]
    assert not (tmp_path / "mark").exists()
    assert sys.modules["__main__"] is script


@pytest.mark.parametrize("place", ["class", "function"])
def test_a_source_of_the_script_is_loaded_in_its_process(script, monkeypatch, place):
    def double() -> None: ...

    own = {"class": Doubled, "function": double}[place]
    own.__qualname__ = own.__name__
    monkeypatch.setattr(own, "__module__", "__main__")
    monkeypatch.setattr(script, own.__name__, own, raising=False)
    with pytest.warns(
        UserWarning, match=f"doubled: is loaded in this process, .* since {own.__name__} is defined in the"
    ):
        assert loaded(Doubled(function=double if place == "function" else None), 2) == [[0, 2], [4, 6], [8, 10]]
    assert multiprocessing.active_children() == []


def test_a_source_that_cannot_be_sent_is_loaded_in_its_process():
    with pytest.warns(UserWarning, match="since it cannot be pickled"):
        assert loaded(Doubled(function=lambda: None), 2) == [[0, 2], [4, 6], [8, 10]]


@pytest.mark.faults
@pytest.mark.parametrize("by", ["file", "standard input"])
def test_a_script_without_a_guard_trains_and_evaluates(tmp_path, by):
    generator = np.random.default_rng(0)
    for row in range(32):
        (tmp_path / "pictures" / "ab"[row % 2]).mkdir(parents=True, exist_ok=True)
        pixels = generator.integers(0, 256, (8, 8), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "pictures" / "ab"[row % 2] / f"{row}.png")
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "script.py" if by == "file" else "-"],
        cwd=tmp_path,
        input=None if by == "file" else SCRIPT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 0
    assert "died" not in done.stderr
