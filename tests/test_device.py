"""Devices, and the memory that there is."""

import platform
from resource import RUSAGE_SELF, getrusage

import pytest
import torch

from sanslabel import device
from sanslabel.device import chosen_device, deterministic_kernels, memory_format
from sanslabel.memory_limits import _limits, free_memory, keep_freed_memory, main_memory


def test_free_memory_is_at_most_main_memory():
    assert 0 < free_memory() <= main_memory()


@pytest.mark.parametrize("line", ["0::/job/step", "4:cpu,memory:/job/step"])
def test_limits_of_a_group_and_of_those_around_it_count(tmp_path, line):
    (tmp_path / "membership").write_text(f"9:pids:/else\n{line}\n")
    old = "memory" in line
    names = ["memory.limit_in_bytes", "memory.usage_in_bytes"] if old else ["memory.max", "memory.current"]
    groups = tmp_path / "groups"
    root = groups / "memory" if old else groups
    for folder, limit in ((root, "max"), (root / "job", "5000"), (root / "job" / "step", "3000")):
        folder.mkdir(parents=True, exist_ok=True)
        for name, value in zip(names, (limit, "1000"), strict=True):
            (folder / name).write_text(f"{value}\n")
        (folder / "memory.stat").write_text(f"anon 700\n{'total_' if old else ''}inactive_file 300\n")
    assert list(_limits(str(tmp_path / "membership"), str(groups))) == [(3000, 700), (5000, 700)]
    assert list(_limits(str(tmp_path / "missing"), str(groups))) == []


def pages_cleared() -> int:
    """By the system, for 64 MiB that are asked for when 256 MiB are just free."""
    torch.ones(1 << 28, dtype=torch.uint8)
    before = getrusage(RUSAGE_SELF).ru_minflt
    torch.ones(1 << 26, dtype=torch.uint8)
    return getrusage(RUSAGE_SELF).ru_minflt - before


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library keeps what it wants")
def test_freed_memory_is_kept_within():
    pages = (1 << 26) // 4096
    assert pages_cleared() > pages // 600  # huge pages have 512 of these
    with keep_freed_memory():
        assert pages_cleared() < pages // 1000


def test_a_gpu_that_computes_nothing_is_not_used(monkeypatch):
    def tested(device):
        raise RuntimeError("no kernel image is available for execution on the device\nand more")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(device, "_tested", tested)
    with pytest.warns(UserWarning, match=r"the GPU cannot be used \(no kernel image .* on the device\); using the CPU"):
        assert chosen_device(None).type == "cpu"


def test_on_a_mac_the_processor_is_the_default(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert chosen_device(None).type == "cpu"
    assert memory_format(torch.device("mps")) == torch.contiguous_format
    assert memory_format(torch.device("cuda")) == torch.channels_last


@pytest.mark.parametrize("allowed", [True, False])
def test_the_same_bits_are_requested_of_cudnn_and_nothing_else(allowed):
    known = torch.backends.cudnn
    before = known.allow_tf32
    known.allow_tf32 = allowed
    try:
        with deterministic_kernels():
            assert (known.enabled, known.deterministic, known.benchmark) == (True, True, False)
            assert known.allow_tf32 == allowed
        assert not known.deterministic
        assert known.allow_tf32 == allowed
    finally:
        known.allow_tf32 = before
