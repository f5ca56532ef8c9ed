"""Decoded pictures on several processes of one machine: made once, and the batch of one process."""

import os
from collections.abc import Callable

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from PIL import Image

from sanslabel import heartbeat
from sanslabel.batch import Batch
from sanslabel.distributed import gather_objects
from sanslabel.sources import Source, batches, open_source
from sanslabel.sources.pictures import cache, images

CPU = torch.device("cpu")


def compare(number: int, store: str, root: str) -> None:
    torch.set_num_threads(1)
    source = open_source(root, image_size=8)
    expected = [batch for _, batch in batches(source, 8, seed=1, epochs=2, device=CPU)]
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=number, world_size=2)
    picture = images.picture
    cache.SETTLED, heartbeat.BEAT, cache.PIECE = 0, 0.0, 3
    for kind in ("ram", "disk"):
        compare_kind(kind, number, source, expected, picture)
    dist.destroy_process_group()
    os._exit(0)  # at the end of the interpreter a thread of gloo may abort it, once in a hundred times


def compare_kind(kind, number: int, source: Source, expected: list[Batch], picture: Callable) -> None:
    """Compares the batches of a process with its slices of those of one, and counts pictures that are decoded."""
    counted = []

    def counting(*arguments):
        counted.append(arguments)
        return picture(*arguments)

    def refuse(*_):
        raise AssertionError("decoded again")

    images.picture = counting
    cached = cache.cached(source, kind, 0)
    assert gather_objects([len(counted)]) == [24, 0]
    images.picture = refuse
    for (_, batch), other in zip(batches(cached, 8, seed=1, epochs=2, device=CPU), expected, strict=True):
        local = slice(4 * number, 4 * number + 4)
        assert torch.equal(batch.index, other.index[local])
        height, width = batch.images().pixels.shape[2:]
        assert torch.equal(batch.images().pixels, other.images().pixels[local, :, :height, :width])


def test_one_process_makes_it_and_all_read_it(tmp_path, monkeypatch):
    """In main memory and on disk."""
    random = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for row in range(24):
        Image.fromarray(random.integers(0, 256, (8 + row % 3, 9, 3), np.uint8)).save(tmp_path / f"photos/{row:02}.png")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONPATH", os.getcwd())
    mp.spawn(compare, (str(tmp_path / "store"), str(tmp_path / "photos")), nprocs=2)
