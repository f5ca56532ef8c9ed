"""How much memory there is, how much is used, and what to do when it runs out."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

from sanslabel.errors import BadInput


@contextmanager
def advise_when_out_of_memory(device: torch.device, advice: str) -> Iterator[None]:
    """BadInput with advice where the device's memory runs out."""
    try:
        yield
    except RuntimeError as error:  # on MPS it is a plain one
        if not isinstance(error, torch.OutOfMemoryError) and "out of memory" not in str(error):
            raise
        raise BadInput(f"{device}: out of memory; {advice}.") from error


def main_memory() -> int:
    """Bytes of main memory that the machine has, or that a container leaves of it; without bound where the system does
    not say."""
    limits = [limit for limit, _ in _limits()]
    try:
        return min(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), *limits)
    except (AttributeError, ValueError, OSError):  # Windows has no such question
        return sys.maxsize


def device_memory(device: torch.device) -> int:
    """Bytes that tensors of this process have taken at most on a CUDA device; 0 for others."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0


def peak_memory() -> int:
    """Bytes that this process has held in main memory at most; 0 where the system does not say."""
    with suppress(OSError):  # getrusage would count what the process held that started this one
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    try:
        from resource import RUSAGE_SELF, getrusage
    except ImportError:  # Windows
        return 0
    return getrusage(RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def free_memory() -> int:
    """Bytes of main memory that are to be had, in the machine and in the groups of processes (containers, jobs) that
    this one belongs to, whose limits count what they have read from disk, too."""
    free = [limit - used for limit, used in _limits()]
    try:
        with open("/proc/meminfo") as file:
            free += [1024 * int(line.split()[1]) for line in file if line.startswith("MemAvailable:")]
    except OSError:  # not Linux
        free.append(main_memory() // 2)
    return max(0, min(free))


@contextmanager
def keep_freed_memory() -> Iterator[None]:
    """Within it, the C library keeps main memory that is freed for what is asked for next. glibc else gives large
    pieces back, and the system clears the next ones: a step of ResNet-18 on two cores then takes 4 to 15 % longer, in 6
    to 10 % less memory. At the end what is free is given back. No other C library is touched."""
    try:
        glibc = ctypes.CDLL("libc.so.6")
        said, give_back = glibc.mallopt, glibc.malloc_trim
    except (OSError, AttributeError):
        yield
        return
    said(_MMAP_MAX, 0)
    said(_TRIM_THRESHOLD, -1)
    try:
        yield
    finally:
        said(_MMAP_MAX, 1 << 16)  # the default
        # What glibc itself comes to where large pieces are freed; once anything is said, it adapts no more.
        said(_MMAP_THRESHOLD, 1 << 25)
        said(_TRIM_THRESHOLD, 1 << 26)
        give_back(0)


_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4
"""of glibc's malloc.h"""


def _limits(own: str = "/proc/self/cgroup", groups: str = "/sys/fs/cgroup") -> Iterator[tuple[int, int]]:
    """The most bytes of every group that this process is in, and how many it holds that cannot be given up at once."""
    with suppress(OSError, ValueError):
        for line in Path(own).read_text().splitlines():
            _, kinds, group = line.split(":", 2)
            if kinds and "memory" not in kinds.split(","):
                continue
            root = Path(groups, "memory") if kinds else Path(groups)
            limit, used, cached = _SAID_BY_GROUPS[bool(kinds)]
            folder = root / group.lstrip("/")
            for place in (folder, *folder.parents[: len(folder.parts) - len(root.parts)]):
                with suppress(OSError, ValueError):  # "max" is no number, and a container sees no group but its own
                    held = dict(words.split() for words in (place / "memory.stat").read_text().splitlines())
                    most = int((place / limit).read_text())
                    yield most, int((place / used).read_text()) - int(held.get(cached, 0))


_SAID_BY_GROUPS = {
    False: ("memory.max", "memory.current", "inactive_file"),
    True: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}
"""the files that say it, and the word for what is read from disk; of the older kind of groups with True"""
