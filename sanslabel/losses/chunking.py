"""How many scores a loss makes at a time, by fixed tables over the kind of device."""

from __future__ import annotations

import torch

LARGE = {"cpu": 1 << 21}
"""scores, 8 MiB in float32, from which parts pay. Forward and backward on two cores, D = 128, written out and in parts:
InfoNCE of 128 queries among 4,096 negatives 3.0 and 2.6 ms, 16,384 14 and 9, 65,536 126 and 40; NT-Xent of 2,048 rows
37 and 25 ms, of 8,192 1,007 and 338"""
PART = {"cpu": 1 << 19}
"""scores that are held at a time, 2 MiB, which stay in the processor's cache; from a quarter to twice as many take the
same time"""
ELSEWHERE = 1 << 26
"""for both on other devices: 256 MiB, since there each product has a launch to pay"""


def large(scores: int, device: torch.device) -> bool:
    """Whether so many go part by part."""
    return scores >= LARGE.get(device.type, ELSEWHERE)


def part(device: torch.device) -> int:
    """Scores in a part."""
    return PART.get(device.type, ELSEWHERE)
