"""Files that someone else has made. Examples are the same in every run, and none is kept."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "fixed",
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=60,
    suppress_health_check=list(HealthCheck),
)
settings.load_profile("fixed")

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """What a name without a folder leads to."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


@pytest.fixture
def peak():
    """Bytes of main memory that the process holds at most during a call, above those before."""
    if not os.access(CLEAR, os.W_OK):
        pytest.skip("this system does not say how much memory was held at most")

    def held(name):
        line = next(line for line in STATUS.read_text().splitlines() if line.startswith(name))
        return int(line.split()[1]) * 1024

    def during(call):
        CLEAR.write_text("5")  # the high-water mark falls to what is held now
        begin = held("VmRSS")
        call()
        return held("VmHWM") - begin

    return during
