"""Signs of life from every process of a run. A lost process can be named, and a process that works long is waited
for."""

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
    """The signs of life of a process that works alone, while the other processes of its run wait for it."""

    def __init__(self) -> None:
        self.last = time.monotonic()

    def beat(self) -> None:
        """Sends a sign of life if the last one is a second old, so that the other processes go on waiting.

        The others must answer it within the time limit of the connection, as they do in `work_while_others_wait`.
        """
        if time.monotonic() - self.last >= BEAT:
            all_reduce_max(1)
            self.last = time.monotonic()


def work_while_others_wait(work: Callable[[Heartbeat], T] | None) -> T | None:
    """Returns the result of `work`, once every process of the run has done its work.

    Every process must call this at the same time; a process without work gives None. A process only ever waits for the
    next beat of another, so none gives up.
    """
    result = None if work is None else work(Heartbeat())
    while all_reduce_max(0)[0]:
        pass
    return result


def with_activity(items: Iterable[T]) -> Iterator[T]:
    """Yields the items. Meanwhile the other processes can read whether this process waits for an item or works on
    one."""
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
    """Context manager in which this process sends signs of life to the other processes of its run.

    If the connection fails, it raises ProcessLost, which names the process that died, hangs, or is waited for.
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
            f"lost {'; '.join(lost)}. This process gave up ({message}); start all processes again to go on "
            "from the last checkpoint."
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
    """The processes of a run, and their signs of life in the store that all of them share."""

    def __init__(self, store: dist.Store) -> None:
        self.store = store.clone()  # pyright: ignore[reportAttributeAccessIssue]
        self.ended, self.names = threading.Event(), dict[int, str]()

    def send(self) -> None:
        """Sends signs of life until the run has ended."""
        name, count = f"process {rank()} ({os.getpid()} on {socket.gethostname()})", 0
        while not self.ended.wait(BEAT if count else 0):
            count += 1
            with suppress(RuntimeError):  # the store is lost if the process that holds it has died
                self.store.set(f"pulse/{rank()}", "\n".join(_Sign(str(count), name, _activity[0])))
                if len(self.names) < world_size():  # names are kept, since a store that hangs gives no answer
                    self.names |= {other: sign.name for other, sign in self.received().items() if sign.name}

    def lost(self, hung: bool) -> list[str]:
        """Returns the processes that give no sign of life any more, with their last activity.

        If all give signs of life but the connection hung, it returns the processes that the others wait for.
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
        if len(received) < 2:  # the store does not answer, so the process that holds it is lost
            agent = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
            return ["torchrun, which started this process" if agent else self.names.get(0, "process 0")]
        before, after = received
        lost = [other for other in before if before[other].number == after[other].number]
        if hung and not lost:
            lost = [other for other in after if after[other].activity.startswith(WAITING)]
        return [f"{self.names.get(other, f'process {other}')}, which {after[other].activity}" for other in lost]

    def received(self) -> dict[int, _Sign]:
        """Returns the last sign of life of each process. Raises RuntimeError if the store is lost."""
        signs = {}
        for other in range(world_size()):
            key = f"pulse/{other}"
            message = self.store.get(key).decode() if self.store.check([key]) else "0\n\nnever gave a sign of life"
            signs[other] = _Sign(*message.split("\n"))
        return signs
