"""Losses and gradients that are not finite: refused, written down, and in the end a reason to stop."""

import json

import pytest
import torch

import sanslabel
from sanslabel import checkpoint
from sanslabel.errors import NotFinite
from sanslabel.sources import batches, open_source
from sanslabel.training import session
from sanslabel.training.journal import NotFiniteSteps

OPTIONS = dict(data="digits", encoder="mlp", epochs=3, batch=256, precision="float32", device="cpu")


@pytest.mark.parametrize("method", ["simclr", "moco", "vicreg", "byol", "swav"])
def test_a_rate_far_too_high_stops_the_run_and_spares_what_was_saved(tmp_path, monkeypatch, method):
    monkeypatch.setattr(session, "SAVE_AFTER", 0.0)
    run = tmp_path / "run"
    with pytest.raises(NotFinite, match=rf"3 steps in a row, up to step 4;.*{run}/not_finite.jsonl names") as stopped:
        sanslabel.train(out=run, method=method, lr=1e20, **OPTIONS)
    assert stopped.value.exit_code == 4
    lines = [json.loads(line) for line in (run / "not_finite.jsonl").read_text().splitlines()]
    source = open_source("digits")
    stream = batches(source, 256, seed=0, epochs=3, device=torch.device("cpu"))
    seen = {clock.step + 1: [source.id(row) for row in batch.index.tolist()] for clock, batch in stream}
    assert lines == [{"step": step, "samples": seen[step]} for step in (2, 3, 4)]
    # Saved after the only step that was taken, and not pushed out by those that were refused.
    assert [path.name for path in checkpoint.checkpoints(run / "checkpoints")] == ["step-00000001"]
    for path in (run / "checkpoints").glob("*/*.safetensors"):
        assert all(torch.isfinite(tensor).all() for tensor in checkpoint.read_tensors(path).values())
    assert not (run / "encoder.safetensors").exists()


def test_a_weight_that_becomes_infinite_stops_the_run_at_the_next_save(tmp_path, monkeypatch):
    """Here no loss shows it: it is the update itself that overflows."""
    monkeypatch.setattr(session, "SAVE_AFTER", 0.0)
    optimize = session.optimize

    def spoiled(method, net, *rest):
        for record in optimize(method, net, *rest):
            if record.clock.step == 5:
                with torch.no_grad():
                    net.projector[0].weight[0, 0] = torch.inf
            yield record

    monkeypatch.setattr(session, "optimize", spoiled)
    with pytest.raises(NotFinite, match=r"not saved after step 6, since projector\.0\.weight of networks") as stopped:
        sanslabel.train(out=tmp_path / "run", **OPTIONS)
    assert stopped.value.exit_code == 4
    found = [path.name for path in checkpoint.checkpoints(tmp_path / "run" / "checkpoints")]
    assert found == ["step-00000005", "step-00000004"]


def test_the_file_is_cut_back_to_where_a_resume_starts(tmp_path):
    path = tmp_path / "not_finite.jsonl"
    NotFiniteSteps.resumed(path, 0)
    assert not path.exists(), "a run without such a step has no such file"
    for step in (3, 8):
        NotFiniteSteps.resumed(path, 7).add(step, [f"train/{step}"])
    assert NotFiniteSteps.resumed(path, 7).in_a_row(7) == 0
    assert NotFiniteSteps.resumed(path, 3).in_a_row(3) == 1, "a resume counts on"
    assert path.read_text() == '{"step": 3, "samples": ["train/3"]}\n'
