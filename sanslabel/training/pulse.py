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
T = TypeVar("T")


class Pulse:
    """Of this process, and how those of the others are heard."""

    def __init__(self, store: dist.Store) -> None:
        self.store, self.doing, self.stopped = store, "starts", threading.Event()
        self.who = f"process {rank()} ({os.getpid()} on {socket.gethostname()})"

    def followed(self, items: Iterable[T]) -> Iterator[T]:
        """The same items; says meanwhile whether one is waited for or worked on."""
        iterator, count = iter(items), 0
        while True:
            self.doing = f"waits for data, {count} steps after its start"
            try:
                item = next(iterator)
            except StopIteration:
                self.doing = "is at the end"
                return
            count += 1
            self.doing = f"works on step {count} after its start"
            yield item

    def beat(self) -> None:
        """Until it is stopped."""
        count = 0
        while not self.stopped.wait(BEAT):
            count += 1
            with suppress(RuntimeError):  # the store went with the process that held it
                self.store.set(f"pulse/{rank()}", f"{count}\n{self.who}, which {self.doing}")

    def silent(self) -> list[str]:
        """The processes that give no sign of life any more, or else those that the others wait for."""
        before = self._heard()
        time.sleep(3 * BEAT)
        after = self._heard()
        names = {r: said[1] if len(said) > 1 else f"process {r}, which never started" for r, said in before.items()}
        lost = [names[r] for r in before if before[r][:1] == after[r][:1]]
        if lost:
            return lost
        return [name for name in names.values() if name.endswith("data") or "waits for data" in name]

    def _heard(self) -> dict[int, list[str]]:
        found = {}
        for other in range(world_size()):
            try:
                key = f"pulse/{other}"
                found[other] = self.store.get(key).decode().split("\n", 1) if self.store.check([key]) else []
            except RuntimeError:
                found[other] = []
        return found


@contextmanager
def pulse() -> Iterator[Pulse | None]:
    """The pulse of one of several processes, for as long as it lasts; None for a single process. An error of the
    connection becomes ProcessLost, which names the process that died, hangs, or is waited for."""
    if world_size() == 1:
        yield None
        return
    own = Pulse(dist.distributed_c10d._get_default_store().clone())  # pyright: ignore[reportAttributeAccessIssue]
    thread = threading.Thread(target=own.beat, daemon=True)
    thread.start()
    try:
        yield own
    except RuntimeError as error:
        lost = own.silent()
        if not lost:
            raise
        raise ProcessLost(
            f"lost {'; '.join(lost)}. This process gave up ({str(error).splitlines()[0]}); start all again to go on "
            "from the last checkpoint."
        ) from error
    finally:
        own.stopped.set()
        thread.join()
