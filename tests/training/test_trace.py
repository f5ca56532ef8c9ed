"""`--profile`: a trace of a few steps that a browser's viewer reads."""

import gzip
import json
from collections import Counter
from pathlib import Path

import pytest

import sanslabel
from sanslabel.errors import DiskError
from sanslabel.training import trace

DCGAN = {"name": "dcgan", "filters": 8}
SMALL = dict(data="digits", encoder=DCGAN, batch=256, precision="float32", device="cpu", method="simclr")
"""5 steps an epoch"""


def names(run: Path) -> Counter[str]:
    """Of the ranges in a run's trace, each with its number."""
    events = json.loads(gzip.decompress((run / "trace.json.gz").read_bytes()))["traceEvents"]
    assert any(event["name"] == "aten::convolution" for event in events)
    return Counter(event["name"] for event in events if event.get("cat") == "user_annotation")


@pytest.mark.parametrize(("epochs", "traced"), [(4, 5), (1, 5)])
def test_the_parts_of_each_step_have_their_names(tmp_path, capsys, epochs, traced):
    run = sanslabel.train(out=tmp_path / "run", profile=True, epochs=epochs, **SMALL).path
    found = names(run)
    assert found["backward"] == found["update"] == traced
    assert found["forward"] == found["views"] == 2 * traced  # after the update the method goes on; two views
    assert found["waiting"] >= traced - 1
    assert f"{run}/trace.json.gz" in capsys.readouterr().err


def test_without_the_flag_there_is_none_and_a_resume_may_ask_for_it(tmp_path):
    run = sanslabel.train(out=tmp_path / "run", epochs=1, **SMALL).path
    assert not (run / "trace.json.gz").exists()
    sanslabel.resume(run, profile=True)  # of a run that is at its end
    assert not (run / "trace.json.gz").exists()


def test_a_disk_that_refuses_the_trace_is_told_of(tmp_path, monkeypatch):
    def full(path):
        raise DiskError(f"{path}: could not be written.")

    monkeypatch.setattr(trace, "replacing", full)
    with pytest.warns(UserWarning, match="Training goes on"):
        run = sanslabel.train(out=tmp_path / "run", profile=True, epochs=2, **SMALL)
    assert (run.path / "encoder.safetensors").exists()
