"""Many processes are one: for every method that there is, the loss, the gradient and the state of one process."""

import os
from dataclasses import fields, replace
from itertools import islice
from math import isfinite
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from bench.small_data import small_data
from sanslabel import encoders, methods
from sanslabel.batchnorm import synchronize_
from sanslabel.distributed import gather, rank, world_size
from sanslabel.engine import Record, optimize, players_of
from sanslabel.optimizers import SGD
from sanslabel.sources.loader import batches

pytestmark = pytest.mark.faults

BATCH, STEPS = 32, 20
SMALL = {"name": "dcgan", "filters": 8}
"""in the place of conv: from 16 pixels on it has BatchNorm, too, and a hundredth of the weights"""
PRINTED = "{:<18} {:<10} {:>9} {:>9.1e} {:>9.1e} {:>6}"


def variants() -> list[tuple[str, dict]]:
    """Every method as its small recipe has it, with a teacher where it takes one, and what draws or groups."""
    found = []
    for name in methods.names():
        found.append((name, {}))
        if "teacher_momentum" in {f.name for f in fields(methods.method_class(name))}:
            found.append((name, {"teacher_momentum": 0.9}))
    return [
        *found,
        ("moco", {"groups": 4}),
        ("relative_position", {"dropout": 0.5}),
        ("rotation", {"rotations": 1}),
        ("npid", {"negatives": 16}),
        ("npid", {"negatives": 16, "nce": True}),
        ("avid", {"negatives": 16, "nce": True, "comparison": "joint", "positives": 4, "start": 0.1, "every": 1}),
    ]


def session(name: str, numbers: dict):
    """Networks, in float64 where they can be, so that what differs is no rounding, and the records of a run by SGD."""
    chosen = methods.method_class(name)
    recipe = chosen.small
    method = chosen.under(recipe)
    wide = {f.name for f in fields(method) if f.name in {"hidden", "width"} and (getattr(method, f.name) or 0) > 64}
    small, side = (SMALL, 16) if recipe.encoder == "conv" else (recipe.encoder, 8)
    method = replace(method, **dict.fromkeys(wide, 64), **numbers).sized(side)
    source = small_data(name, 2 * BATCH)
    torch.manual_seed(0)
    if "source" in source.inputs:
        encoder = encoders.build(recipe.encoder, **source.inputs["source"].arguments)
    else:
        encoder = encoders.build(**encoders.encoder_options(small), channels=1, image_size=side)
    if "audio" in source.inputs:
        sound = encoders.build("mlp", hidden=[32], **source.inputs["audio"].arguments)
        encoder = {"image": encoder, "audio": sound}
    net = method.networks(encoder, source.facts(side)).train()
    if not hasattr(net, "generator"):  # which starts from float32 latents
        net.double()
    synchronize_(net)
    descent = {player: SGD(lr=0.01) for player in recipe.optimizers}
    recipe = replace(recipe, optimizer=descent, scaling="none", warmup=0, clip=None, groups=())
    order = source.order_of(method.stretch)
    stream = batches(source, BATCH, seed=1, epochs=STEPS // 2, device=torch.device("cpu"), order=order)
    return net, optimize(method, net, players_of(net, recipe, BATCH), stream)


def seen(net, record: Record) -> dict[str, Tensor]:
    """The losses, gradients, memories and views of a step, of all processes together."""
    found = {f"loss/{i}": o.loss for i, o in enumerate(record.objectives)}
    found |= {f"gradient/{name}": p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}
    found |= {f"embedding/{i}": o.embedding for i, o in enumerate(record.objectives) if o.embedding is not None}
    found |= {f"memory/{name}": b.clone() for name, b in net.named_buffers() if b.is_floating_point()}
    found |= {"index": gather(record.batch.index), "key": gather(record.batch.key)}
    whole = len(record.batch.index)
    images = {n: x for o in record.objectives for n, x in o.pictures.items() if len(x) % whole == 0}
    return found | {f"images/{name}": gather(x.contiguous()) for name, x in images.items()}


def furthest(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> float:
    """The largest relative distance of one parameter's gradient; of those that are all but 0, in parts of a thousandth
    of the whole."""
    gradients = {name: value for name, value in theirs.items() if name.startswith("gradient")}
    least = 1e-3 * torch.stack([value.double().norm() for value in gradients.values()]).norm()
    return max(
        ((ours[name] - value).norm() / value.norm().double().clamp(min=least)).item()
        for name, value in gradients.items()
    )


def apart(ours: dict[str, Tensor], theirs: dict[str, Tensor], kind: str) -> float:
    """The relative distance of all tensors of a kind, as one vector."""
    names = [name for name in theirs if name.startswith(kind)]
    assert set(names) <= ours.keys()
    if not names:
        return 0.0
    a, b = (torch.cat([x[name].double().flatten() for name in names]) for x in (ours, theirs))
    return ((a - b).norm() / b.norm().clamp(min=1e-12)).item()


def compare(number: int, world: int, store: str, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=number, world_size=world)
    rows = []
    try:
        for name, numbers in variants():
            reference = torch.load(Path(folder) / f"{name}-{'-'.join(numbers)}.pt")
            net, records = session(name, numbers)
            worst = {"loss": 0.0, "gradient": 0.0}
            for step, record in enumerate(islice(records, STEPS)):
                if step not in reference:
                    continue
                ours = seen(net, record)
                assert ours["index"].tolist() == reference[step]["index"].tolist()
                assert ours["key"].tolist() == reference[step]["key"].tolist()
                assert apart(ours, reference[step], "images") < 1e-6, (name, numbers)
                found = {"loss": apart(ours, reference[step], "loss"), "gradient": furthest(ours, reference[step])}
                assert all(isfinite(value) for value in found.values()), (name, numbers, found)
                worst = {kind: max(value, found[kind]) for kind, value in worst.items()}
                assert apart(ours, reference[step], "embedding") < 1e-4, (name, numbers)
                assert apart(ours, reference[step], "memory") < 1e-4, "queues, banks, centers, running statistics"
            state = torch.cat([t.double().flatten() for t in net.state_dict().values()])
            same = all(torch.equal(state, part) for part in gather(state[None]))
            normed = any(isinstance(m, _BatchNorm) for m in net.modules())
            rows.append((name, "-".join(numbers), f"{world} / 1", *worst.values(), "same" if same else "DIFFER"))
            assert same, (name, numbers)
            assert max(worst.values()) <= (1e-4 if normed else 1e-5), (name, numbers, worst)
    finally:
        if rank() == 0:
            Path(folder, f"table-{world}").write_text("\n".join(PRINTED.format(*row) for row in rows))
        dist.destroy_process_group()
    os._exit(0)  # at the end of the interpreter a thread of gloo may abort it, once in a hundred times


@pytest.fixture(scope="module")
def references(tmp_path_factory) -> Path:
    """What one process makes of the whole batch, in the first step with an objective and in one after."""
    folder = tmp_path_factory.mktemp("references")
    assert world_size() == 1
    for name, numbers in variants():
        net, records = session(name, numbers)
        kept = {}
        for step, record in enumerate(islice(records, 4)):
            if record.objectives and len(kept) < 2:
                kept[step] = seen(net, record)
        assert kept
        torch.save(kept, folder / f"{name}-{'-'.join(numbers)}.pt")
    return folder


@pytest.mark.parametrize("world", [2, 4])
def test_many_processes_are_one(references, tmp_path, world):
    mp.spawn(compare, args=(world, str(tmp_path / "store"), str(references)), nprocs=world)
    table = (references / f"table-{world}").read_text()
    print(f"\nmethod             variant    processes  loss      gradient  state\n{table}")
    assert len(table.splitlines()) == len(variants())
