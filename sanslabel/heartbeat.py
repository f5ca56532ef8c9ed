"""A sign of life from every process of a run, so that one that is lost can be named."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

import torch.distributed as dist

from sanslabel.distributed import rank, world_size
from sanslabel.errors import ProcessLost

BEAT = 1.0
"""seconds between signs of life"""
WAITING = "waits for data"
T = TypeVar("T")
_now = ["starts"]
"""what this process does, for the others to read"""


def followed(items: Iterable[T]) -> Iterator[T]:
    """The same items; the pulse says meanwhile whether one is waited for or worked on."""
    iterator, count = iter(items), 0
    while True:
        _now[:] = [f"{WAITING}, {count} steps after its start"]
        try:
            item = next(iterator)
        except StopIteration:
            return
        finally:
            count += 1
            _now[:] = [f"works on step {count} after its start"]
        yield item


@contextmanager
def beating() -> Iterator[None]:
    """Within it, this process of several tells the others that it lives, and an error of their connection becomes
    ProcessLost, which names the one that died, hangs, or is waited for."""
    others = _Others(dist.distributed_c10d._get_default_store())
    thread = threading.Thread(target=others.beat, daemon=True)
    thread.start()
    try:
        yield
    except RuntimeError as error:
        words = str(error).partition("\n")[0]
        hung = "timed out" in words.lower()
        if not (hung or isinstance(error, dist.DistError) or any(word in words for word in ("Connection", "gloo"))):
            raise  # an error of its own
        if not (lost := others.lost(hung)):
            raise
        raise ProcessLost(
            f"lost {'; '.join(lost)}. This process gave up ({words}); start all again to go on from the last "
            "checkpoint."
        ) from error
    finally:
        others.ended.set()
        thread.join(BEAT)


class _Others:
    """What the processes tell each other through the store that they met at."""

    def __init__(self, store: dist.Store) -> None:
        self.store = store.clone()  # pyright: ignore[reportAttributeAccessIssue]
        self.ended, self.names = threading.Event(), dict[int, str]()

    def beat(self) -> None:
        own, count = f"process {rank()} ({os.getpid()} on {socket.gethostname()})", 0
        while not self.ended.wait(BEAT if count else 0):
            count += 1
            with suppress(RuntimeError):  # the store went with the process that held it
                self.store.set(f"pulse/{rank()}", f"{count}\n{own}\n{_now[0]}")
                if len(self.names) < world_size():  # remembered, since a store that hangs tells no names
                    self.names |= {other: name for other, (_, name, _) in self.heard().items() if name}

    def lost(self, hung: bool) -> list[str]:
        """Those that give no sign of life any more, with what they did last; or else, where something hung, those that
        the others wait for."""
        heard: list[dict[int, tuple[str, str, str]]] = []

        def listen() -> None:
            with suppress(RuntimeError):
                heard.append(self.heard())
                time.sleep(3 * BEAT)
                heard.append(self.heard())

        thread = threading.Thread(target=listen, daemon=True)
        thread.start()
        thread.join(6 * BEAT)
        if len(heard) < 2:  # the store does not answer, and so neither does the process that holds it
            agent = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
            return ["torchrun, which started this process" if agent else self.names.get(0, "process 0")]
        before, after = heard
        lost = [other for other in before if before[other][0] == after[other][0]]
        if hung and not lost:
            lost = [other for other in after if after[other][2].startswith(WAITING)]
        return [f"{self.names.get(other, f'process {other}')}, which {after[other][2]}" for other in lost]

    def heard(self) -> dict[int, tuple[str, str, str]]:
        """Of each process the number of its last beat, its name and what it did then. RuntimeError without a store."""
        found = {}
        for other in range(world_size()):
            key = f"pulse/{other}"
            words = self.store.get(key).decode() if self.store.check([key]) else "0\n\nwas never heard of"
            found[other] = tuple(words.split("\n"))
        return found
