"""The process that measures, apart from the one that keeps the time."""

from __future__ import annotations

import gc
import os
import signal
import tempfile
import traceback
from collections.abc import Mapping
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from bench.gpu.place import Place
from bench.gpu.queue import Item

LONGEST = 1e6
"""seconds; a pipe can wait no longer than some weeks"""


class Worker:
    """A process that measures one item after the other. It ends with an item that fails or takes too long, and the next
    item gets a new one, since an error of CUDA spoils all that follows in its process."""

    def __init__(self, place: Place, log: Path, scratch: Path) -> None:
        """log: the file for all that items print. scratch: the folder for their temporary files."""
        self.arguments, self.process = (place, log, scratch), None

    def __call__(self, item: Item, seconds: float) -> Mapping[str, Any]:
        """Returns the item's figures, or {"error": a sentence}, or {"cut_off": True} if it takes longer."""
        if self.process is None:
            context = get_context("spawn")
            self.pipe, other = context.Pipe()
            self.process = context.Process(target=_serve, args=(other, *self.arguments))
            self.process.start()
            other.close()
        self.pipe.send(item.measure)
        outcome: Mapping[str, Any] = {"cut_off": True}
        if self.pipe.poll(min(seconds, LONGEST)):
            try:
                outcome = self.pipe.recv()
            except EOFError:
                self.process.join()
                outcome = {"error": f"its process ended with exit code {self.process.exitcode}"}
        if "error" in outcome or "cut_off" in outcome:
            self.stop()
        return outcome

    def stop(self) -> None:
        """Ends the process at once."""
        if self.process is not None:
            self.process.kill()
            self.process.join()
            self.pipe.close()
            self.process = None


def _serve(pipe: Connection, place: Place, log: Path, scratch: Path) -> None:
    """Measures what comes through the pipe until the other end is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the other process ends this one
    tempfile.tempdir = str(scratch)
    with log.open("a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    if place.toy:
        torch.set_num_threads(1)
        torch.compiler.set_stance("force_eager")  # compiling takes minutes, and the tests of --compile do it
    while True:
        try:
            measure = pipe.recv()
        except EOFError:
            return
        try:
            outcome = dict(measure(place))
        except Exception as error:
            traceback.print_exc()
            outcome = {"error": f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"}
        torch.compiler.reset()
        gc.collect()
        if place.kind == "cuda":
            torch.cuda.empty_cache()
        pipe.send(outcome)
