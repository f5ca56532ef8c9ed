import os

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from sanslabel import distributed
from sanslabel.errors import BadInput, DiskError
from sanslabel.losses import nt_xent, vicreg


def _refuse(error: Exception) -> None:
    raise error


def _compare(rank: int, world: int, store: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
    try:
        torch.manual_seed(0)
        weight = torch.randn(6, 4, dtype=torch.float64)
        a, b = torch.randn(2, 4 * world, 6, dtype=torch.float64)
        for loss in (lambda a, b: nt_xent(a, b, 0.3), vicreg):
            alone = weight.clone().requires_grad_()
            expected = loss(a @ alone, b @ alone)
            expected.backward()
            ours = weight.clone().requires_grad_()
            local_a, local_b = distributed.local_slice(a), distributed.local_slice(b)
            assert len(local_a) == 4
            value = loss(distributed.gather(local_a @ ours), distributed.gather(local_b @ ours))
            value.backward()
            torch.testing.assert_close(value, expected)
            torch.testing.assert_close(distributed.all_reduce_mean(ours.grad), alone.grad)
        assert torch.equal(distributed.gather(distributed.local_slice(a)), a)
        # A sum hands one and the same gradient to both of its parts.
        one, other = (distributed.local_slice(x).clone().requires_grad_() for x in (a, b))
        (distributed.gather(one) + distributed.gather(other)).square().sum().backward()
        for part in (one, other):
            torch.testing.assert_close(part.grad / world, distributed.local_slice(2 * (a + b)))
        uneven = torch.arange(rank + 1)
        assert distributed.gather_ragged(uneven).tolist() == [i for r in range(world) for i in range(r + 1)]
        assert distributed.gather_objects([rank]) == list(range(world))
        assert distributed.all_reduce_max(rank, -rank) == [world - 1, 0]
        assert distributed.on_first_process(lambda x: [x, rank], 7) == [7, 0]
        for error in (BadInput("no"), DiskError("full")):
            with pytest.raises(type(error), match=str(error)):
                distributed.on_first_process(_refuse, error)
        distributed.BUCKET = 4  # so that they travel in two parts
        many = [torch.full((n,), float(rank)) for n in (3, 5, 1)]
        distributed.average_(many)
        assert all(torch.equal(t, torch.full_like(t, (world - 1) / 2)) for t in many)
        expected = (a - a.mean(dim=0)) / a.std(dim=0, correction=0)
        torch.testing.assert_close(
            distributed.standardized(distributed.local_slice(a)),
            distributed.local_slice(expected).float(),
            atol=1e-4,
            rtol=1e-4,
        )
        assert not distributed.all_true(torch.tensor(rank == 0))
        assert distributed.all_true(torch.tensor(True))
    finally:
        dist.destroy_process_group()
    os._exit(0)  # at the end of the interpreter a thread of gloo may abort it, once in a hundred times


def test_two_processes_give_the_loss_and_gradient_of_one(tmp_path):
    mp.spawn(_compare, args=(2, str(tmp_path / "store")), nprocs=2)


def test_standardized_entries_are_constant_only_where_they_were():
    x = torch.randn(64, 3, 5, generator=torch.Generator().manual_seed(0)) * 1e-2 + 7
    x[:, 0] = 2.0
    z = distributed.standardized(x)
    assert not z[:, 0].any()
    torch.testing.assert_close(z[:, 1:].mean(dim=0), torch.zeros(2, 5), atol=1e-4, rtol=0)
    torch.testing.assert_close(z[:, 1:].var(dim=0, correction=0), torch.ones(2, 5), atol=0.02, rtol=0)


def test_on_one_process_everything_is_the_identity():
    x = torch.randn(3, 2)
    assert distributed.world_size() == 1
    assert distributed.rank() == 0
    for same in (distributed.gather, distributed.local_slice, distributed.all_reduce_mean, distributed.all_true):
        assert torch.equal(same(x), x)
    distributed.average_([x])
    assert distributed.all_reduce_max(3, 1) == [3, 1]
    assert distributed.gather_objects([1]) == [1]
    assert distributed.on_first_process(max, 1, 2) == 2
    assert torch.equal(distributed.gather_ragged(x), x)
