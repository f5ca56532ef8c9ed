"""The group of processes that torchrun or srun has started for one run."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import NamedTuple

import torch
import torch.distributed as dist

from sanslabel.errors import BadInput
from sanslabel.heartbeat import signs_of_life

TIMEOUT = 600.0
"""seconds that a process waits for another before it gives up, by default"""
LONGEST = 7 * 24 * 3600.0
"""the most seconds that a process may wait: a week"""


@contextmanager
def joined(timeout: float = TIMEOUT) -> Iterator[None]:
    """Context manager in which this process belongs to the group that torchrun or srun describes in environment
    variables.

    It does nothing for a single process, or for one that has joined already. Each process takes the GPU that has the
    process's number on its machine. Raises ProcessLost if another process dies, or does not answer for `timeout`
    seconds.
    """
    meeting = _meeting()
    if meeting is None or dist.is_initialized():
        yield
        return
    if not 1 <= timeout <= LONGEST:
        raise BadInput(f"--timeout {timeout}: must be from 1 to {LONGEST:.0f} seconds.")
    if torch.cuda.is_available():
        local = int(os.environ.get("LOCAL_RANK") or os.environ.get("SLURM_LOCALID") or 0)
        torch.cuda.set_device(local % torch.cuda.device_count())  # srun may show each process its own GPU alone
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    wait = timedelta(seconds=timeout)
    store = dist.TCPStore(meeting.host, meeting.port, meeting.processes, meeting.holds, wait)
    # torchrun's store outlives the processes: the entries of an earlier start would mislead these.
    store = dist.PrefixStore(f"start {os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
    dist.init_process_group(backend, store=store, rank=meeting.rank, world_size=meeting.processes, timeout=wait)
    try:
        with signs_of_life():
            yield
    finally:
        dist.destroy_process_group()


def restarted() -> bool:
    """Returns True if torchrun or SLURM has restarted this command, after it had failed or was preempted."""
    return any(int(os.environ.get(f"{by}_RESTART_COUNT") or 0) for by in ("TORCHELASTIC", "SLURM"))


def may_restart() -> bool:
    """Returns True if torchrun will restart the command when it fails."""
    return int(os.environ.get("TORCHELASTIC_MAX_RESTARTS") or 0) > 0


class Meeting(NamedTuple):
    """The address at which processes meet, and the number of this process."""

    host: str
    port: int
    rank: int
    processes: int
    holds: bool
    """True if this process holds the store at that address; with torchrun, its agent holds it"""


def _meeting() -> Meeting | None:
    """Returns the meeting that torchrun or srun describes in environment variables, or None for a single process."""
    variables = os.environ
    if int(variables.get("WORLD_SIZE") or 1) > 1 and "RANK" in variables:
        rank, agent = int(variables["RANK"]), variables.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
        port, processes = int(variables["MASTER_PORT"]), int(variables["WORLD_SIZE"])
        return Meeting(variables["MASTER_ADDR"], port, rank, processes, rank == 0 and not agent)
    processes = int(variables.get("SLURM_STEP_NUM_TASKS") or 1)  # tasks of a step, which srun starts
    if processes == 1:
        return None
    # Takes the first of the nodes, which are written as node[03-07,12],other1.
    (first,) = re.findall(r"^(?:[^,\[]|\[[^]]*])*", variables["SLURM_STEP_NODELIST"])
    host = re.sub(r"\[(\w+)[^]]*]", r"\1", first)
    port = 20_000 + (int(variables["SLURM_JOB_ID"]) + 101 * int(variables.get("SLURM_STEP_ID") or 0)) % 20_000
    rank = int(variables["SLURM_PROCID"])
    return Meeting(host, port, rank, processes, rank == 0)
