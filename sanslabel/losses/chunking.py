"""How many scores a loss computes at a time, by fixed tables over the kind of device."""

from __future__ import annotations

import torch

LARGE = {"cpu": 1 << 21}
"""scores, 8 MiB in float32, from which chunks pay. Forward and backward on two cores, D = 128, at once and in chunks:
InfoNCE of 128 queries among 4,096 negatives 3.0 and 2.6 ms, 16,384 14 and 9, 65,536 126 and 40; NT-Xent of 2,048 rows
37 and 25 ms, of 8,192 1,007 and 338"""
CHUNK = {"cpu": 1 << 19}
"""scores in a chunk, 2 MiB, which stay in the processor's cache; from a quarter to twice as many take the same time"""
ELSEWHERE = 1 << 26
"""both numbers on other devices: 256 MiB, since each product costs a launch there"""


def large(scores: int, device: torch.device) -> bool:
    """Returns True for so many scores that they are computed in chunks."""
    return scores >= LARGE.get(device.type, ELSEWHERE)


def chunk_size(device: torch.device) -> int:
    """Returns the number of scores in a chunk."""
    return CHUNK.get(device.type, ELSEWHERE)
