import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from sanslabel import distributed
from sanslabel.losses import nt_xent, vicreg


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
            local_a, local_b = distributed.shard(a), distributed.shard(b)
            assert len(local_a) == 4
            value = loss(distributed.gather(local_a @ ours), distributed.gather(local_b @ ours))
            value.backward()
            torch.testing.assert_close(value, expected)
            torch.testing.assert_close(distributed.mean(ours.grad), alone.grad)
        assert torch.equal(distributed.gather(distributed.shard(a)), a)
        expected = (a - a.mean(dim=0)) / a.std(dim=0, correction=0)
        torch.testing.assert_close(
            distributed.standardized(distributed.shard(a)), distributed.shard(expected).float(), atol=1e-4, rtol=1e-4
        )
        assert not distributed.everywhere(torch.tensor(rank == 0))
        assert distributed.everywhere(torch.tensor(True))
    finally:
        dist.destroy_process_group()


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
    for same in (distributed.gather, distributed.shard, distributed.mean, distributed.everywhere):
        assert torch.equal(same(x), x)
