"""What is set for a process while it trains."""

import errno
from types import SimpleNamespace

import pytest
import torch

import sanslabel
from sanslabel.errors import BadInput
from sanslabel.training import choice, planning, session
from sanslabel.training.rehearsal import Measured

OUT_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory"),
    RuntimeError("MPS backend out of memory"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: …"),
    RuntimeError("DataLoader worker is killed by signal: Bus error. It is possible that … are out of shared memory."),
    RuntimeError("can't start new thread"),
    MemoryError(),
    OSError(errno.ENOMEM, "Cannot allocate memory"),
]
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


def test_more_workers_than_any_machine_can_use_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(planning, "cores", lambda: 2)
    with pytest.raises(BadInput, match=r"workers=1000: there are 2 cores here.*; give at most 16\."):
        sanslabel.train(out=tmp_path / "run", **SMALL, workers=1000)
    planning.check_workers(16)
    monkeypatch.setattr(planning, "cores", lambda: 32)
    planning.check_workers(128)


@pytest.mark.parametrize(
    ("options", "way"),
    [
        ({}, "lower `batch` or `image_size`, or set `chunk`"),
        ({"chunk": 64, "encoder": "mlp"}, "lower `batch` or `image_size`, or lower `chunk`"),
    ],
)
@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=str)
def test_where_memory_runs_out_what_is_left_to_do_is_said(tmp_path, monkeypatch, error, options, way):
    def full(*_):
        raise error
        yield

    monkeypatch.setattr(session, "optimize", full)
    monkeypatch.setattr(choice, "measured", lambda *_: Measured(0.01, 0.01, 1, 1, 1))
    with pytest.raises(BadInput, match=f"cpu: out of memory; {way}\\."):
        sanslabel.train(out=tmp_path / "run", **SMALL, **options)
