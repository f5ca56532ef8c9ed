"""What decides a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sanslabel.hardware import Precision


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All that decides a run, resolved; with the versions it is run.json, and a resume needs nothing else."""

    data: str
    fingerprint: str
    samples: int
    method: str
    """the name of its file; a class's name for a method of one's own"""
    numbers: dict[str, Any]
    recipe: dict[str, Any]
    encoder: dict[str, Any]
    image_size: int
    epochs: int
    batch: int
    chunk: int | None
    workers: int
    seed: int
    world_size: int
    device: str
    precision: Precision
    threads: int
