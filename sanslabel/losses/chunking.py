"""The number of scores that a loss computes at a time, from fixed tables by the kind of device."""

from __future__ import annotations

import torch

LARGE = {"cpu": 1 << 21}
"""number of scores from which chunks are faster, 8 MiB in float32

Milliseconds for forward and backward on two cores, D = 128, at once and in chunks:
InfoNCE of 128 queries among 4,096 negatives: 3.0 and 2.6; among 16,384: 14 and 9; among 65,536: 126 and 40.
NT-Xent of 2,048 rows: 37 and 25; of 8,192 rows: 1,007 and 338.
"""
CHUNK = {"cpu": 1 << 19}
"""number of scores in a chunk, 2 MiB, which stay in the processor's cache; a quarter to twice as many take the same
time"""
ELSEWHERE = 1 << 26
"""both numbers on other devices, 256 MiB, since each product costs a kernel launch there"""


def large(scores: int, device: torch.device) -> bool:
    """Returns True if there are so many scores that they should be computed in chunks."""
    return scores >= LARGE.get(device.type, ELSEWHERE)


def chunk_size(device: torch.device) -> int:
    """Returns the number of scores in a chunk."""
    return CHUNK.get(device.type, ELSEWHERE)
