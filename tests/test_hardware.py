"""What memory is to be had."""

import platform
from resource import RUSAGE_SELF, getrusage

import pytest
import torch

from sanslabel.hardware import _limits, free_memory, freed_memory_kept, main_memory


def test_memory_is_told():
    assert 0 < free_memory() <= main_memory()


@pytest.mark.parametrize("line", ["0::/job/step", "4:cpu,memory:/job/step"])
def test_limits_of_a_group_and_of_those_around_it_count(tmp_path, line):
    (tmp_path / "own").write_text(f"9:pids:/else\n{line}\n")
    old = "memory" in line
    names = ["memory.limit_in_bytes", "memory.usage_in_bytes"] if old else ["memory.max", "memory.current"]
    groups = tmp_path / "groups"
    root = groups / "memory" if old else groups
    for folder, limit in ((root, "max"), (root / "job", "5000"), (root / "job" / "step", "3000")):
        folder.mkdir(parents=True, exist_ok=True)
        for name, value in zip(names, (limit, "1000"), strict=True):
            (folder / name).write_text(f"{value}\n")
        (folder / "memory.stat").write_text(f"anon 700\n{'total_' if old else ''}inactive_file 300\n")
    assert list(_limits(str(tmp_path / "own"), str(groups))) == [(3000, 700), (5000, 700)]
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
    with freed_memory_kept():
        assert pages_cleared() < pages // 1000
