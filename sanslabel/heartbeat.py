"""Signs of life from every process of a run: one that is lost can be named, and one that works long is waited for."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple, TypeVar

import torch.distributed as dist

from sanslabel.distributed import all_reduce_max, rank, world_size
from sanslabel.errors import ProcessLost

BEAT = 1.0
"""seconds between signs of life"""
WAITING = "waits for data"
T = TypeVar("T")
_activity = ["starts"]
"""the work of this process, for the others to read"""


class Heartbeat:
    """A sign of a process that works alone, by which the other processes of its run go on waiting for it."""

    def __init__(self) -> None:
        self.last = time.monotonic()

    def beat(self) -> None:
        """Lets the others wait on, if the last sign of life is a second old.

        Each must then come within the time limit of the connection, as `work_while_others_wait` does.
        """
        if time.monotonic() - self.last >= BEAT:
            all_reduce_max(1)
            self.last = time.monotonic()


def work_while_others_wait(work: Callable[[Heartbeat], T] | None) -> T | None:
    """Returns what `work` returns, once the last process of the run that has some has done it.

    Every process must call this at the same time, with None for those without work. No process waits longer than
    another's next beat takes, and so none gives up.
    """
    result = None if work is None else work(Heartbeat())
    while all_reduce_max(0)[0]:
        pass
    return result


def with_activity(items: Iterable[T]) -> Iterator[T]:
    """Yields the items; meanwhile the other processes can read whether this one waits for an item or works on one."""
    iterator, count = iter(items), 0
    while True:
        _activity[:] = [f"{WAITING}, {count} steps after its start"]
        try:
            item = next(iterator)
        except StopIteration:
            return
        finally:
            count += 1
            _activity[:] = [f"works on step {count} after its start"]
        yield item


@contextmanager
def signs_of_life() -> Iterator[None]:
    """Context manager in which this process of several tells the others that it lives.

    Raises ProcessLost in place of an error of their connection; it names the process that died, hangs, or is waited
    for.
    """
    processes = _Processes(dist.distributed_c10d._get_default_store())
    thread = threading.Thread(target=processes.send, daemon=True)
    thread.start()
    try:
        yield
    except RuntimeError as error:
        message = str(error).partition("\n")[0]
        hung = "timed out" in message.lower()
        if not (hung or isinstance(error, dist.DistError) or any(word in message for word in ("Connection", "gloo"))):
            raise  # not an error of the connection
        if not (lost := processes.lost(hung)):
            raise
        raise ProcessLost(
            f"lost {'; '.join(lost)}. This process gave up ({message}); start all again to go on from the last "
            "checkpoint."
        ) from error
    finally:
        processes.ended.set()
        thread.join(BEAT)


class _Sign(NamedTuple):
    """A sign of life."""

    number: str
    """number of the beat, from 1 on"""
    name: str
    """the process, with its machine"""
    activity: str


class _Processes:
    """The processes of a run, as they show themselves in the store that they met at."""

    def __init__(self, store: dist.Store) -> None:
        self.store = store.clone()  # pyright: ignore[reportAttributeAccessIssue]
        self.ended, self.names = threading.Event(), dict[int, str]()

    def send(self) -> None:
        """Sends signs of life until the run has ended."""
        name, count = f"process {rank()} ({os.getpid()} on {socket.gethostname()})", 0
        while not self.ended.wait(BEAT if count else 0):
            count += 1
            with suppress(RuntimeError):  # the store went with the process that had it
                self.store.set(f"pulse/{rank()}", "\n".join(_Sign(str(count), name, _activity[0])))
                if len(self.names) < world_size():  # kept, since a store that hangs answers no more
                    self.names |= {other: sign.name for other, sign in self.received().items() if sign.name}

    def lost(self, hung: bool) -> list[str]:
        """Returns the processes that give no sign of life any more, with what they did last.

        If there are none and something hung, it returns those that the others wait for.
        """
        received: list[dict[int, _Sign]] = []

        def receive() -> None:
            with suppress(RuntimeError):
                received.append(self.received())
                time.sleep(3 * BEAT)
                received.append(self.received())

        thread = threading.Thread(target=receive, daemon=True)
        thread.start()
        thread.join(6 * BEAT)
        if len(received) < 2:  # the store does not answer, and so neither does the process that has it
            agent = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
            return ["torchrun, which started this process" if agent else self.names.get(0, "process 0")]
        before, after = received
        lost = [other for other in before if before[other].number == after[other].number]
        if hung and not lost:
            lost = [other for other in after if after[other].activity.startswith(WAITING)]
        return [f"{self.names.get(other, f'process {other}')}, which {after[other].activity}" for other in lost]

    def received(self) -> dict[int, _Sign]:
        """Returns the last sign of life of each process. Raises RuntimeError without a store."""
        signs = {}
        for other in range(world_size()):
            key = f"pulse/{other}"
            message = self.store.get(key).decode() if self.store.check([key]) else "0\n\nnever gave a sign of life"
            signs[other] = _Sign(*message.split("\n"))
        return signs
