"""Folders of frames as clips: the pictures of each folder are the frames of one clip, in the order of their names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sanslabel.sources.remarks import first_names
from sanslabel.wording import counted

FPS = 25.0
"""frames a second of folders, unless a person states their rate"""
_DIGITS = re.compile(r"([0-9]+)")


class FrameFolders(NamedTuple):
    """The clips of pictures, by row."""

    group: Tensor
    """(N,) int64, the clip of each picture"""
    time: Tensor
    """(N,) float64, seconds from the start of the clip"""
    remark: str


def frame_folders(names: Sequence[str], fps: float | None) -> FrameFolders:
    """Returns the clip and the time of each picture. Within a folder, names are in natural order: 9.png before
    10.png."""
    members: dict[str, list[tuple[tuple[list[str | int], str], int]]] = {}
    for row, name in enumerate(names):
        folder, _, file = name.rpartition("/")
        members.setdefault(folder, []).append((natural(file), row))
    group, time = torch.empty(len(names), dtype=torch.int64), torch.empty(len(names), dtype=torch.float64)
    for number, frames in enumerate(members.values()):
        frames.sort()
        index = torch.tensor([row for _, row in frames])
        group[index] = number
        time[index] = torch.arange(len(frames), dtype=torch.float64) / (fps or FPS)
    how = f"{fps or FPS:g} frames a second" + ("" if fps else ", unless --fps states another rate")
    few = [folder or "." for folder, frames in members.items() if len(frames) < 2]
    alone = f" Clips of one frame: {first_names(few)}." if few else ""
    return FrameFolders(group, time, f"Folders of frames are clips: {counted(len(members), 'clip')} of {how}.{alone}")


def classes_of_clips(names: Sequence[str], prefixes: Mapping[str, tuple[str, ...]]) -> list[str | None]:
    """Returns the class of each frame: the folder below the split that contains the clip's folder. It is None if the
    clip's folder lies in no other one."""
    folders = sorted((folder for of_split in prefixes.values() for folder in of_split), key=len, reverse=True)
    classes: list[str | None] = []
    for name in names:
        prefix = next((folder for folder in folders if name.startswith(folder)), "")
        above, slash, _ = name[len(prefix) :].rpartition("/")[0].partition("/")
        classes.append(above if slash else None)
    return classes


def natural(name: str) -> tuple[list[str | int], str]:
    """Returns a key that sorts names with numbers by their values."""
    return [int(word) if place % 2 else word for place, word in enumerate(_DIGITS.split(name))], name
