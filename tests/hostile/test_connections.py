"""No test, and no command without a flag that asks for it, reaches another machine."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
ELSEWHERE = ("192.0.2.1", 80)
"""an address of documentation, RFC 5737"""

COMMANDS = """
import socket
from sanslabel.cli import main
try:
    socket.create_connection(("192.0.2.1", 80), timeout=1)
except OSError:
    pass
small = "--encoder mlp --encoder-options hidden=16,8 --epochs 1 --batch 60"
for command in (
    f"train vae --data few.npz --out run {small}",
    "evaluate run --protocols knn --knn.draws 1",
    "sample run --n 4",
    "report run --points 60",
    "methods",
):
    try:
        main(command.split())
    except SystemExit as end:
        assert not end.code, command
print("all done")
"""


@pytest.mark.parametrize(
    "call",
    [
        lambda made: made.connect(ELSEWHERE),
        lambda made: made.connect_ex(ELSEWHERE),
        lambda made: made.sendto(b"x", ELSEWHERE),
        lambda made: socket.create_connection(ELSEWHERE, timeout=1),
        lambda made: socket.getaddrinfo("example.org", 80),
    ],
)
def test_other_machines_are_refused(call, no_connections):
    with socket.socket(type=socket.SOCK_DGRAM) as made, pytest.raises(PermissionError, match="tests do not reach"):
        call(made)
    assert len(no_connections) == 1  # which would fail the test
    no_connections.clear()


def test_this_machine_is_not():
    with socket.create_server(("127.0.0.1", 0)) as server:
        with socket.create_connection(server.getsockname(), timeout=5):
            pass
        with socket.create_connection(("localhost", server.getsockname()[1]), timeout=5):
            pass
    for end in socket.socketpair():
        end.close()


def test_commands_make_no_connection(tmp_path):
    """In a process that refuses other machines from its first line on, and so do those that it starts. Its own try is
    seen, although it takes the refusal in silence."""
    conftest = ROOT / "tests" / "conftest.py"
    (tmp_path / "sitecustomize.py").write_text(f"import runpy\nrunpy.run_path({str(conftest)!r})\n")
    paths = [str(tmp_path), str(ROOT), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "OMP_NUM_THREADS": "1"}
    pixels = np.random.default_rng(0).integers(0, 256, (120, 8, 8), np.uint8)
    np.savez(tmp_path / "few.npz", images=pixels, labels=np.arange(120) % 3)
    command, how = [sys.executable, "-c", COMMANDS], {"capture_output": True, "text": True, "timeout": 250}
    done = subprocess.run(command, cwd=tmp_path, env=environment, check=False, **how)
    assert "all done" in done.stdout, done.stderr
    refused = [line for line in done.stderr.splitlines() if line.startswith("refused:")]
    assert refused == ["refused: socket.getaddrinfo 192.0.2.1"]
