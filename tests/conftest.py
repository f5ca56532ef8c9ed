"""The references that tests compare with: torchvision and timm import beside a CPU build of torch only when the two
operators that their compiled part would declare are declared for them. And no test reaches another machine."""

import socket
import sys

import pytest
import torch

try:
    import torchvision  # noqa: F401
except (ImportError, RuntimeError, OSError):
    _torchvision = torch.library.Library("torchvision", "DEF")
    _torchvision.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _torchvision.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

torch.set_num_threads(1)  # small tensors: more threads only wait for each other

LOCAL = {None, "", "localhost", "127.0.0.1", "::1", socket.gethostname()}
"""gloo, worker processes and the browser talk to each other through these"""
attempts: list[str] = []
"""to reach another machine"""


def refuse_other_machines(event, arguments):
    """An audit hook, since it hears of every connection that Python makes, whoever asks for it and however."""
    if event in {"socket.connect", "socket.sendto", "socket.sendmsg"}:
        address = arguments[1]
        host = address[0] if isinstance(address, tuple) else None  # the others are names of local sockets
    elif event == "socket.getaddrinfo":
        host = arguments[0]
    else:
        return
    if (host.decode() if isinstance(host, bytes) else host) not in LOCAL:
        attempts.append(f"{event} {host}")
        print(f"refused: {attempts[-1]}", file=sys.stderr)
        raise PermissionError(f"{event}: tests do not reach {host}")


sys.addaudithook(refuse_other_machines)


@pytest.fixture(autouse=True)
def no_connections():
    """A test fails that tried to reach another machine, even if it took the refusal in silence."""
    attempts.clear()
    yield attempts
    assert attempts == []
