"""Event files beside metrics.jsonl, and a tracker that breaks."""

import json
from importlib import import_module

import pytest

import sanslabel
from sanslabel.errors import BadInput
from sanslabel.training.tracker import tracking


def test_event_files_hold_the_figures(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = sanslabel.train("digits", method="vae", epochs=8, out=tmp_path / "run", track="tensorboard").path
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    found = events.Scalars("loss")
    assert [event.step for event in found] == [line["step"] for line in lines]
    assert [event.value for event in found] == pytest.approx([line["loss"] for line in lines], rel=1e-6)
    assert "kl_by_dimension" not in events.Tags()["scalars"]


def test_a_tracker_that_fails_is_told_of_once_and_never_stops_a_run(tmp_path, monkeypatch):
    pytest.importorskip("tensorboard")
    from torch.utils import tensorboard

    class Broken:
        def __init__(self, *_, **__):
            pass

        def add_scalar(self, *_):
            raise RuntimeError("the disk is gone")

        def close(self):
            pass

    monkeypatch.setattr(tensorboard, "SummaryWriter", Broken)
    with tracking("tensorboard", tmp_path, 0) as track:
        with pytest.warns(UserWarning, match="the disk is gone"):
            track({"step": 10, "loss": 1.0})
        track({"step": 20, "loss": 1.0})  # a second warning would be an error


def test_without_the_package_nothing_is_trained(tmp_path, monkeypatch):
    monkeypatch.setattr(import_module("sanslabel.training.tracker"), "find_spec", lambda name: None)
    with pytest.raises(BadInput, match=r'pip install "sanslabel\[track\]"'):
        sanslabel.train("digits", method="vae", epochs=1, out=tmp_path / "run", track="tensorboard")
    assert not (tmp_path / "run").exists()
