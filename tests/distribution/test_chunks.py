"""`--chunk` on one small device: the gradient of the direct computation, for every joint-embedding method."""

import os
from dataclasses import fields, replace
from itertools import islice

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from bench.small_data import small_data
from sanslabel import encoders, methods
from sanslabel.batchnorm import synchronize_
from sanslabel.encoders import text, vit
from sanslabel.engine import optimize, players_of
from sanslabel.optimizers import SGD
from sanslabel.sources.loader import batches
from sanslabel.training.parallel import chunk_

BATCH = 48
JOINT_EMBEDDING = {"contrastive", "clustering", "redundancy reduction", "distillation"}
"""families whose losses compare embeddings"""


def variants() -> list[tuple[str, dict]]:
    chosen = [name for name in methods.names() if methods.method_class(name).family in JOINT_EMBEDDING]
    teachers = [n for n in chosen if "teacher_momentum" in {f.name for f in fields(methods.method_class(n))}]
    return [(name, {}) for name in chosen] + [(name, {"teacher_momentum": 0.9}) for name in teachers]


def gradients(name: str, numbers: dict, chunk: int | None) -> list[dict[str, torch.Tensor]]:
    """Of the first three steps, over two epochs, with a transformer, which has no BatchNorm; heads keep theirs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(vit.SHAPES, "vit_micro", vit.Shape(depth=2, width=32, heads=2))
        patch.setitem(text.SHAPES, "text_micro", vit.Shape(depth=2, width=32, heads=2))
        return gradients_of_steps(name, numbers, chunk)


def gradients_of_steps(name: str, numbers: dict, chunk: int | None) -> list[dict[str, torch.Tensor]]:
    source = small_data(name, 2 * BATCH)
    recipe = methods.method_class(name).small
    method = methods.method_class(name).under(recipe)
    wide = {f.name for f in fields(method) if f.name in {"hidden", "width"} and (getattr(method, f.name) or 0) > 64}
    method = replace(method, **dict.fromkeys(wide, 64), **numbers).sized(8)
    torch.manual_seed(0)
    if "source" in source.inputs:
        encoder = encoders.build("text_micro", **source.inputs["source"].arguments)
    else:
        encoder = encoders.build("vit_micro", channels=1, image_size=8, patch=2)
    if "audio" in source.inputs:
        encoder = {"image": encoder, "audio": encoders.build("mlp", hidden=[32], **source.inputs["audio"].arguments)}
    net = method.networks(encoder, source.facts(8)).double().train()
    synchronize_(net)
    assert chunk is None or not chunk_(net, chunk)
    recipe = replace(recipe, optimizer=SGD(lr=0.01), clip=None, groups=())
    stream = batches(source, BATCH, seed=1, epochs=2, device=torch.device("cpu"))
    found = []
    for record in islice(optimize(method, net, players_of(net, recipe, BATCH), stream), 3):
        assert not record.refused
        losses = {f"loss {i}": o.loss for i, o in enumerate(record.objectives)}
        found.append(losses | {n: p.grad.clone() for n, p in net.named_parameters() if p.grad is not None})
    return found


def agree(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    least = 1e-3 * torch.stack([value.norm() for value in theirs.values()]).norm()  # some are 0 but for rounding
    for part, value in theirs.items():
        assert (ours[part] - value).norm() <= 1e-5 * value.norm().clamp(min=least), part


def compare(number: int, store: str) -> None:
    torch.set_num_threads(1)
    whole = gradients("byol", {}, None)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=number, world_size=2)
    try:
        chunked = gradients("byol", {}, 7)
    finally:
        dist.destroy_process_group()
    for ours, theirs in zip(chunked, whole, strict=True):
        agree(ours, theirs)
    os._exit(0)  # at the end of the interpreter a thread of gloo may abort it, once in a hundred times


@pytest.mark.faults
def test_chunks_on_two_processes_give_the_gradient_of_one(tmp_path):
    mp.spawn(compare, args=(str(tmp_path / "store"),), nprocs=2)


@pytest.mark.parametrize(("name", "numbers"), variants(), ids=lambda v: v if isinstance(v, str) else "-".join(v))
def test_chunks_give_the_gradient_of_the_direct_computation(name, numbers):
    whole, chunked = gradients(name, numbers, None), gradients(name, numbers, 7)
    assert any(whole)
    for ours, theirs in zip(filter(None, chunked), filter(None, whole), strict=True):
        agree(ours, theirs)
