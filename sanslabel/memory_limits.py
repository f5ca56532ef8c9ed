"""Limits and use of memory, and advice for when it runs out."""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

from sanslabel.errors import BadInput

OUT_OF_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "cannot allocate memory",
    "not enough memory",
    "out of shared memory",
    "insufficient shared memory",
    "unable to mmap",
    "can't start new thread",
    "could not create a memory object",
)
"""words, in lower case, in the errors that torch and the system raise if memory runs out"""


@contextmanager
def advise_when_out_of_memory(device: torch.device, advice: str) -> Iterator[None]:
    """Context manager that raises BadInput with advice if the device or the main memory runs out of memory."""
    try:
        yield
    except (MemoryError, RuntimeError, OSError) as error:
        if not _is_out_of_memory(error):
            raise
        raise BadInput(f"{device}: out of memory; {advice}.") from error


def _is_out_of_memory(error: BaseException) -> bool:
    """Returns True for the errors that are raised if memory runs out. Most devices raise a plain RuntimeError."""
    known = isinstance(error, MemoryError | torch.OutOfMemoryError) or getattr(error, "errno", None) == errno.ENOMEM
    return known or any(words in str(error).lower() for words in OUT_OF_MEMORY)


def main_memory() -> int:
    """Returns the bytes of main memory that the machine has, or that a container grants.

    It is sys.maxsize if the system does not report it.
    """
    limits = [limit for limit, _ in _limits()]
    try:
        return min(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), *limits)
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf
        return sys.maxsize


def device_memory(device: torch.device) -> int:
    """Returns the peak bytes that this process has allocated on a CUDA device, and 0 for other devices."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0


def peak_memory() -> int:
    """Returns the peak bytes of main memory that this process has used, or 0 if the system does not report it."""
    if highest := _status().get("VmHWM"):  # getrusage would include the memory of the process that started this one
        return highest
    try:
        from resource import RUSAGE_SELF, getrusage
    except ImportError:  # Windows
        return 0
    return getrusage(RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def used_memory() -> int:
    """Returns the bytes of main memory that this process uses now, or 0 if the system does not report it."""
    return _status().get("VmRSS", 0)


def free_memory() -> int:
    """Returns the bytes of main memory that are available to this process.

    It respects the limits of the control groups (containers, jobs) that the process belongs to, and the process's own
    limit of addresses (`ulimit -v`).
    """
    free = [limit - used for limit, used in _limits()]
    with suppress(ImportError):
        from resource import RLIM_INFINITY, RLIMIT_AS, getrlimit

        if (addresses := getrlimit(RLIMIT_AS)[0]) != RLIM_INFINITY:
            free.append(addresses - _status().get("VmSize", 0))
    try:
        with open("/proc/meminfo") as file:
            free += [1024 * int(line.split()[1]) for line in file if line.startswith("MemAvailable:")]
    except OSError:  # not Linux
        free.append(main_memory() // 2)
    return max(0, min(free))


def _status() -> dict[str, int]:
    """Returns the bytes of each kind of memory that Linux reports for this process; nothing on other systems."""
    with suppress(OSError):
        lines = [line.split() for line in Path("/proc/self/status").read_text().splitlines()]
        return {words[0].rstrip(":"): 1024 * int(words[1]) for words in lines if words[-1] == "kB"}
    return {}


@contextmanager
def keep_freed_memory() -> Iterator[None]:
    """Context manager within which glibc keeps freed memory for the next allocation, and returns it at the end.

    By default glibc returns large blocks to the system, which must clear them for their next use. A step of ResNet-18
    on two cores then takes 4 to 15 % longer, in 6 to 10 % less memory. Other C libraries are left alone.
    """
    try:
        glibc = ctypes.CDLL("libc.so.6")
        set_option, trim = glibc.mallopt, glibc.malloc_trim
    except (OSError, AttributeError):
        yield
        return
    set_option(_MMAP_MAX, 0)
    set_option(_TRIM_THRESHOLD, -1)
    try:
        yield
    finally:
        set_option(_MMAP_MAX, 1 << 16)  # the default
        # By default glibc adapts these two options and reaches these values. It stops adapting once an option is set.
        set_option(_MMAP_THRESHOLD, 1 << 25)
        set_option(_TRIM_THRESHOLD, 1 << 26)
        trim(0)


_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4
"""option numbers from glibc's malloc.h"""


def _limits(membership: str = "/proc/self/cgroup", groups: str = "/sys/fs/cgroup") -> Iterator[tuple[int, int]]:
    """Yields the limit and the used bytes of each control group with a limit that this process is in.

    Used bytes leave out the inactive cache of files, which the kernel can drop at once.
    """
    with suppress(OSError, ValueError):
        for line in Path(membership).read_text().splitlines():
            _, kinds, group = line.split(":", 2)
            if kinds and "memory" not in kinds.split(","):
                continue
            root = Path(groups, "memory") if kinds else Path(groups)
            limit, used, cached = _GROUP_FILES[bool(kinds)]
            folder = root / group.lstrip("/")
            for level in (folder, *folder.parents[: len(folder.parts) - len(root.parts)]):
                with suppress(OSError, ValueError):  # "max" is no number, and a container sees only its own group
                    statistics = dict(words.split() for words in (level / "memory.stat").read_text().splitlines())
                    most = int((level / limit).read_text())
                    yield most, int((level / used).read_text()) - int(statistics.get(cached, 0))


_GROUP_FILES = {
    False: ("memory.max", "memory.current", "inactive_file"),
    True: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}
"""file with the limit, file with the usage, and name of the file cache in memory.stat; True is for cgroup v1"""
