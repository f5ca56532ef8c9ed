"""PictureFile pictures on several processes of one machine: made once, and the batch of one process."""

import os

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from PIL import Image

from sanslabel import heartbeat
from sanslabel.distributed import gather_objects
from sanslabel.sources import batches, open_source
from sanslabel.sources import cache as module
from sanslabel.sources import images as images_module

CPU = torch.device("cpu")


def compare(number: int, store: str, root: str, kind: str) -> None:
    torch.set_num_threads(1)
    source = open_source(root, image_size=8)
    whole = [batch for _, batch in batches(source, 8, seed=1, epochs=2, device=CPU)]
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=number, world_size=2)
    decode, decoded = images_module.picture, []

    def counted(*asked):
        decoded.append(asked)
        return decode(*asked)

    def refuse(*_):
        raise AssertionError("decoded again")

    images_module.picture, module.SETTLED, heartbeat.BEAT, module.PIECE = counted, 0, 0.0, 3
    found = module.cached(source, kind, 0)  # pyright: ignore[reportArgumentType]
    assert gather_objects([len(decoded)]) == [24, 0]
    images_module.picture = refuse
    for (_, batch), expected in zip(batches(found, 8, seed=1, epochs=2, device=CPU), whole, strict=True):
        mine = slice(4 * number, 4 * number + 4)
        assert torch.equal(batch.index, expected.index[mine])
        height, width = batch.images().pixels.shape[2:]
        assert torch.equal(batch.images().pixels, expected.images().pixels[mine, :, :height, :width])
    dist.destroy_process_group()
    os._exit(0)  # at the end of the interpreter a thread of gloo may abort it, once in a hundred times


@pytest.mark.parametrize("kind", ["ram", "disk"])
def test_one_process_makes_it_and_all_read_it(tmp_path, monkeypatch, kind):
    random = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for row in range(24):
        Image.fromarray(random.integers(0, 256, (8 + row % 3, 9, 3), np.uint8)).save(tmp_path / f"photos/{row:02}.png")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONPATH", os.getcwd())
    mp.spawn(compare, (str(tmp_path / "store"), str(tmp_path / "photos"), kind), nprocs=2)
