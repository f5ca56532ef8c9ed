"""Weights in parts are trained as whole ones are."""

import os
from dataclasses import replace
from itertools import islice

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from sanslabel import encoders, methods
from sanslabel.batchnorm import synchronize_
from sanslabel.distributed import full_tensor, is_sharded, local_tensor
from sanslabel.engine import optimize, players_of
from sanslabel.optimizers import LARS, SGD, AdamW
from sanslabel.sources import open_source
from sanslabel.sources.loader import batches
from sanslabel.training.parallel import recompute_
from sanslabel.training.sharding import fully_shard_, sharded_like

pytestmark = pytest.mark.faults

CASES = [
    ("byol", "resnet18", dict(optimizer=SGD(lr=0.1))),
    ("byol", "conv", dict(optimizer=LARS(lr=0.1))),
    ("swav", "conv", dict(optimizer=AdamW(lr=1e-3), clip=3.0)),
    ("dino", "vit_micro", dict(optimizer=SGD(lr=0.1), clip=0.1, clip_each=True)),
    ("data2vec", "vit_micro", dict(optimizer=SGD(lr=0.1))),
    ("ijepa", "vit_micro", dict(optimizer=SGD(lr=0.1))),
    ("mae", "vit_micro", dict(optimizer=SGD(lr=0.1))),
    ("vae", "mlp", dict(optimizer=SGD(lr=0.01))),
    ("ebgan", "dcgan", dict(optimizer=dict(critic=SGD(lr=0.1), generator=SGD(lr=0.1)))),
]


def figures(name: str, encoder: str, change: dict, parted: bool) -> list[float]:
    """Losses and norms of gradients of three steps; in parts, those of transformers are with blocks computed again."""
    source = open_source("digits", "train").subset(torch.arange(64))
    chosen = methods.method_class(name)
    recipe, method = replace(chosen.small, warmup=0, groups=(), **change), chosen.under(chosen.small).sized(8)
    torch.manual_seed(0)
    net = method.networks(encoders.build(encoder, channels=1, image_size=8), source.facts(8)).train()
    synchronize_(net)
    if parted:
        if encoder.startswith("vit"):
            recompute_(net)
        fully_shard_(net, torch.device("cpu"))
        assert is_sharded(net.parameters())
        of = max(net.parameters(), key=torch.Tensor.numel)
        assert local_tensor(of).numel() < of.numel()
        torch.testing.assert_close(full_tensor(sharded_like(full_tensor(of), of)), full_tensor(of))
    stream = batches(source, 16, seed=1, epochs=1, device=torch.device("cpu"))
    found = []
    for record in islice(optimize(method, net, players_of(net, recipe, 16), stream), 3):
        found += [x.item() for o, norm in zip(record.objectives, record.norms, strict=True) for x in (o.loss, norm)]
    return found


def compare(number: int, store: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=number, world_size=2)
    try:
        for case in CASES:
            ours, theirs = (figures(*case, parted) for parted in (True, False))
            assert ours == pytest.approx(theirs, rel=1e-3), case
            assert ours[:2] == pytest.approx(theirs[:2], rel=1e-5), case
    finally:
        dist.destroy_process_group()
    os._exit(0)  # at the end of the interpreter a thread of gloo may abort it, once in a hundred times


def test_weights_in_parts_give_the_same_losses_and_gradients(tmp_path):
    mp.spawn(compare, args=(str(tmp_path / "store"),), nprocs=2)


def test_on_one_process_nothing_is_parted():
    net = torch.nn.Linear(2, 2)
    fully_shard_(net, torch.device("cpu"))
    assert not is_sharded(net.parameters())
    assert full_tensor(net.weight) is net.weight
    assert local_tensor(net.weight) is net.weight
    assert sharded_like(net.weight, net.weight) is net.weight
