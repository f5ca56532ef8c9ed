"""What a resume costs does not grow with how far the run had come."""

import torch

from sanslabel.sources import batches, open_source, order


def test_the_first_batch_takes_the_same_work_at_any_step(monkeypatch):
    """One permutation, of the epoch that it lies in. How long it takes: python -m bench.survive --cost."""
    source, keys, permutation = open_source("digits"), [], order.permutation

    def counted(key, length):
        keys.append(key)
        return permutation(key, length)

    monkeypatch.setattr(order, "permutation", counted)
    for start in (10, 1_000_000):
        keys.clear()
        clock, batch = next(batches(source, 256, seed=0, epochs=10**6, start=start, device=torch.device("cpu")))
        assert clock.step == start
        assert len(batch.index) == 256
        assert len(keys) == 1
