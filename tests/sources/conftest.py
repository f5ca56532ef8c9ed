"""Every test lists its folders anew, and leaves the user's cache alone."""

import os
import signal
import warnings
from collections.abc import Callable, Mapping

import pytest
import torch


@pytest.fixture(scope="session")
def same():
    """Returns whether two batches, with their clocks or without, agree in every bit."""

    def same(a, b) -> bool:
        if isinstance(a, torch.Tensor):
            return torch.equal(a, b) and a.dtype == b.dtype
        if isinstance(a, Mapping):
            return a.keys() == b.keys() and all(same(a[name], b[name]) for name in a)
        if isinstance(a, tuple | list):
            return len(a) == len(b) and all(map(same, a, b))
        return a == b

    return same


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "sanslabel"


def die() -> None:
    """Ends this process as nothing can hinder."""
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture(scope="session")
def dies() -> Callable[[Callable[[], object]], None]:
    """A function that runs an action in a copy of this process, and in which that process must be killed."""

    def dies(action: Callable[[], object]) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # the threads of pytest-timeout are no danger here
            pid = os.fork()
        if not pid:
            try:
                action()
            finally:
                os._exit(0)
        _, status = os.waitpid(pid, 0)
        assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL

    return dies
