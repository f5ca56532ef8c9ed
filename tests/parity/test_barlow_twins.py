"""The authors' step: a pass for each view, the correlations of standardized embeddings, LARS with a learning rate of
its own for vectors. Their correlations are summed over GPUs by an operation without a gradient."""

import os
from copy import deepcopy
from dataclasses import replace
from math import cos, pi

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

from sanslabel import encoders
from sanslabel.batchnorm import synchronize_
from sanslabel.engine import optimize, players_of
from sanslabel.methods.barlow_twins import BarlowTwins
from sanslabel.optimizers import LARS
from sanslabel.recipe import Group
from sanslabel.sources import open_source
from sanslabel.sources.loader import batches

METHOD = BarlowTwins(width=32)


def authors_on(gpus: int, processes: int = 1):
    """The authors' training on so many GPUs. On one process, its gradient is divided by hand."""

    def authors(net, method):
        standardized = nn.BatchNorm1d(32, affine=False).double()
        synchronize_(standardized)
        weights = list(net.parameters())
        momenta = [torch.zeros_like(w) for w in weights]

        def step(batch, clock):
            n = len(batch.index) * processes
            x, y = (standardized(net.projector(net.encoder(method.view(batch, stream)))) for stream in (0, 1))
            c = x.T @ y / n
            if processes > 1:
                dist.all_reduce(c.detach())
            own = torch.eye(32, dtype=torch.bool)
            loss = (c[own] - 1).square().sum() + 0.0051 * c[~own].square().sum()
            gradients = torch.autograd.grad(loss, weights)
            for g in gradients:
                if processes > 1:
                    dist.all_reduce(g)
                g.div_(gpus)
            progress = (clock.step - 4) / (20 - 4)
            share = 0.5 * (1 + cos(pi * progress))
            scale = n / 256 * ((clock.step + 1) / 4 if clock.step < 4 else share + 0.001 * (1 - share))
            with torch.no_grad():
                for w, m, g in zip(weights, momenta, gradients, strict=True):
                    if w.ndim > 1:
                        g = g + 1e-6 * w
                        g = g * (1e-3 * w.norm() / g.norm())
                    m.mul_(0.9).add_(g)
                    w.sub_(scale * (0.2 if w.ndim > 1 else 0.0048) * m)

        return step

    return authors


def test_barlow_twins_trains_as_its_authors_train(side_by_side):
    side_by_side(METHOD, BarlowTwins.recipe, authors_on(16), deviation="warm-up begins above 0, a 16th of the gradient")


def test_the_authors_rate_on_the_whole_gradient_is_another_training(side_by_side):
    with pytest.raises(AssertionError, match="weights"):
        side_by_side(METHOD, BarlowTwins.recipe, authors_on(1))


def test_two_processes_train_as_the_authors_two(tmp_path):
    """Their operation runs here as they wrote it, and leaves a half of the gradient."""
    mp.spawn(_two_processes, args=(str(tmp_path / "store"),), nprocs=2)


def _two_processes(rank: int, store: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    torch.set_num_threads(1)
    source = open_source("digits", "train").subset(torch.arange(64))
    torch.manual_seed(0)
    method = METHOD.sized(16)
    encoder = encoders.build("dcgan", filters=8, channels=1, image_size=16)
    ours = method.networks(encoder, source.facts(16)).double().train()
    synchronize_(ours)
    theirs = deepcopy(ours)
    step = authors_on(2, processes=2)(theirs, method)
    recipe = replace(
        BarlowTwins.recipe,
        epochs=5,
        warmup=1,
        optimizer=LARS(lr=0.2, weight_decay=1e-6 * 2),
        groups=(Group(match="*", vectors=True, lr_factor=0.0048 / 0.2 / 2),),
    )
    stream = [
        (clock, batch._replace(dtype=torch.float64))
        for clock, batch in batches(source, 16, seed=0, epochs=5, device=torch.device("cpu"))
    ]
    for record, (clock, batch) in zip(
        optimize(method, ours, players_of(ours, recipe, 16), stream, torch.float64), stream, strict=True
    ):
        assert not record.refused
        assert len(batch.index) == 8
        step(batch, clock)
    for (name, here), there in zip(ours.state_dict().items(), theirs.state_dict().values(), strict=True):
        torch.testing.assert_close(here, there, rtol=1e-9, atol=1e-12, msg=name)
    dist.destroy_process_group()
    os._exit(0)  # at the end of the interpreter a thread of gloo may abort it, once in a hundred times
