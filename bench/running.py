"""A training as `sanslabel train` sets it up, for benches that time its steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np
import torch

from sanslabel import encoders
from sanslabel.batch import Batch, Clock
from sanslabel.device import fast_precision, memory_format
from sanslabel.engine import Player, Record, optimize, players_of
from sanslabel.methods.method import Method, Networks
from sanslabel.recipe import Recipe
from sanslabel.sources import Source, batches, open_source
from sanslabel.training import run
from sanslabel.training.choice import Fitted
from sanslabel.training.journal import Metrics
from sanslabel.training.planning import encoder_configs
from sanslabel.training.run_log import LOG_EVERY
from sanslabel.training.weight_monitor import WeightMonitor


class Training(NamedTuple):
    """The arguments of the engine's `optimize`."""

    method: Method
    net: Networks
    players: Mapping[str, Player]
    batches: Iterator[tuple[Clock, Batch]]
    precision: torch.dtype


def prepared(
    method: Method,
    recipe: Recipe,
    source: Source,
    encoder: str | Mapping[str, Any],
    *,
    size: int,
    batch: int,
    device: torch.device,
    seed: int = 0,
    epochs: int = 10**6,
    start: int = 0,
    workers: int = 0,
) -> Training:
    """Returns a training in the precision and memory format of a run on the device, after `start` steps of data."""
    method = method.sized(size)
    configs = encoder_configs(method, encoder, source, size)
    torch.manual_seed(seed)
    built: Any = {signal: encoders.build(**config) for signal, config in configs.items()}
    net = method.networks(built if len(built) > 1 else next(iter(built.values())), source.facts(size))
    net = net.to(device).train().to(memory_format=memory_format(device))  # pyright: ignore[reportCallIssue]
    order = source.order_of(method.stretch)
    stream = batches(source, batch, seed=seed, epochs=epochs, start=start, device=device, workers=workers, order=order)
    return Training(method, net, players_of(net, recipe, batch), stream, getattr(torch, fast_precision(device)))


def followed(training: Training) -> Iterator[Record]:
    """Yields the records of a training that measures and writes figures every tenth step, as `sanslabel train` does."""
    with figures(training) as write:
        for record in optimize(*training):
            if record.clock.step % LOG_EVERY == LOG_EVERY - 1:
                write(record)
            yield record


@contextmanager
def figures(training: Training) -> Iterator[Callable[[Record], object]]:
    """Context manager with a function that measures a step and writes its line of figures."""
    monitor = WeightMonitor(training.net, training.players)
    with TemporaryDirectory() as folder:
        metrics = Metrics(Path(folder) / "metrics.jsonl", 0)
        yield lambda record: metrics.add(record, monitor.figures())


@contextmanager
def without_estimates() -> Iterator[None]:
    """Context manager in which `sanslabel.train` takes its settings as they are, and tries no steps to estimate its
    time. Batch, epochs and image size must be given, or be those of the recipe."""
    with patch.object(
        run, "fitted", lambda source, device, recipe, settings, *_: Fitted(source=source, settings=settings)
    ):
        yield


@lru_cache(1)
def noise(count: int, channels: int, side: int) -> Source:
    """Returns images of random pixels in memory, each with one of ten labels."""
    draw = np.random.default_rng(0)
    with TemporaryDirectory() as folder:
        images = draw.integers(0, 256, (count, channels, side, side), dtype=np.uint8)
        np.savez(Path(folder) / "noise.npz", images=images, labels=np.arange(count) % 10)
        return open_source(Path(folder) / "noise.npz")
