"""What is set for a process while it trains."""

from types import SimpleNamespace

import pytest
import torch

import sanslabel
from sanslabel.errors import BadInput
from sanslabel.training import planning, session

SMALL = dict(data="digits", method="simclr", epochs=1, batch=256, device="cpu", precision="float32")


def test_cudnn_is_on_and_deterministic_and_random_numbers_are_given_back(tmp_path, monkeypatch):
    optimize, seen = session.optimize, []

    def seeing(*args):
        seen.append((torch.backends.cudnn.enabled, torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark))
        return optimize(*args)

    monkeypatch.setattr(session, "optimize", seeing)
    before = torch.get_rng_state()
    sanslabel.train(out=tmp_path / "run", **SMALL)
    assert seen == [(True, True, False)]
    assert not torch.backends.cudnn.deterministic
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(("device", "found"), [("cpu", 1), ("cuda", 3)])
def test_so_many_processes_decode(monkeypatch, device, found):
    """torchrun gives each process one thread, which says nothing of the cores beside a GPU."""
    monkeypatch.setattr(planning, "cores", lambda: 8)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert planning._workers(SimpleNamespace(decodes=True), torch.device(device)) == found
    assert planning._workers(SimpleNamespace(decodes=False), torch.device(device)) == 0


@pytest.mark.parametrize(
    ("options", "way"),
    [({}, "lower `batch`, or set `chunk`"), ({"chunk": 64, "encoder": "mlp"}, "lower `batch`, or lower `chunk`")],
)
def test_where_memory_runs_out_what_is_left_to_do_is_said(tmp_path, monkeypatch, options, way):
    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(session, "optimize", full)
    with pytest.raises(BadInput, match=f"cpu: out of memory; {way}\\."):
        sanslabel.train(out=tmp_path / "run", **SMALL, **options)
