"""How the processes of a run find each other: as torchrun, or srun, has started them."""

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
"""seconds that a process waits for another before it gives up"""
LONGEST = 7 * 24 * 3600.0


@contextmanager
def joined(timeout: float = TIMEOUT) -> Iterator[None]:
    """Within it this process is one of those that torchrun or srun has started for the same command, as their variables
    say; alone, or where it has joined already, nothing happens. Each takes the GPU of its own number on its machine.
    ProcessLost where another one dies or does not answer for `timeout` seconds."""
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
    # torchrun's store outlives the processes: what those of an earlier start have said in it would mislead these.
    store = dist.PrefixStore(f"start {os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
    dist.init_process_group(backend, store=store, rank=meeting.rank, world_size=meeting.processes, timeout=wait)
    try:
        with signs_of_life():
            yield
    finally:
        dist.destroy_process_group()


def restarted() -> bool:
    """Whether torchrun or SLURM has started this command anew, after it had failed or was put off."""
    return any(int(os.environ.get(f"{by}_RESTART_COUNT") or 0) for by in ("TORCHELASTIC", "SLURM"))


def may_restart() -> bool:
    """Whether torchrun was asked to start the command anew when it fails."""
    return int(os.environ.get("TORCHELASTIC_MAX_RESTARTS") or 0) > 0


class Meeting(NamedTuple):
    """Where processes meet, and which of them this one is."""

    host: str
    port: int
    rank: int
    processes: int
    holds: bool
    """whether this process holds the store there; with torchrun none does, but its agent"""


def _meeting() -> Meeting | None:
    """As torchrun or srun say it; None for a single process."""
    said = os.environ
    if int(said.get("WORLD_SIZE") or 1) > 1 and "RANK" in said:
        rank, agent = int(said["RANK"]), said.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
        port, processes = int(said["MASTER_PORT"]), int(said["WORLD_SIZE"])
        return Meeting(said["MASTER_ADDR"], port, rank, processes, rank == 0 and not agent)
    processes = int(said.get("SLURM_STEP_NUM_TASKS") or 1)  # of a step: srun started them, while a batch script is one
    if processes == 1:
        return None
    # The first of the nodes, which are written as node[03-07,12],other1.
    (first,) = re.findall(r"^(?:[^,\[]|\[[^]]*])*", said["SLURM_STEP_NODELIST"])
    host = re.sub(r"\[(\w+)[^]]*]", r"\1", first)
    port = 20_000 + (int(said["SLURM_JOB_ID"]) + 101 * int(said.get("SLURM_STEP_ID") or 0)) % 20_000
    rank = int(said["SLURM_PROCID"])
    return Meeting(host, port, rank, processes, rank == 0)
