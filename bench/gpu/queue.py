"""The queue: items run one after the other, each becomes a line of a file, and none begins that would not end in time.

Each item has a line once it is measured, and is not measured again. An item that failed has a line with its error, and
is tried again at another commit. An item that was cut off at the end of the time has a line, too: next time, it is
allowed half as much again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.gpu.place import Place

Line = dict[str, Any]
"""the figures of an item, with its name, the device, the commit, the versions and the seconds that it took"""


@dataclass(frozen=True)
class Item:
    """A measurement of a minute or two."""

    name: str
    """its letter and subject, such as e/simclr"""
    seconds: float
    """seconds to allow for it on an H100"""
    measure: Callable[[Place], Mapping[str, Any]]
    needs: tuple[str, ...] = ()
    """packages, a compiler or data without which it cannot run"""


def lines_in(folder: Path) -> list[Line]:
    """Returns the lines of all results in a folder. A line that was cut off by the end of its process is left out."""
    texts = [text for file in sorted(folder.glob("*.jsonl")) for text in file.read_text().splitlines()]
    return [json.loads(text) for text in texts if text.endswith("}")]


def is_measured(line: Line) -> bool:
    """Returns whether the line has the figures of its item."""
    return "error" not in line and "cut_off" not in line


def unmeasured(items: Sequence[Item], lines: Sequence[Line], commit: str) -> list[Item]:
    """Returns the items that are still to be measured, without those that failed at this commit."""
    done = {line["item"] for line in lines if is_measured(line) or ("error" in line and line["commit"] == commit)}
    return [item for item in items if item.name not in done]


def allowed(item: Item, lines: Sequence[Line]) -> float:
    """Returns the seconds to allow for an item."""
    cut = [line["seconds"] for line in lines if line["item"] == item.name and "cut_off" in line]
    return max(item.seconds, 1.5 * max(cut, default=0.0))


def measured(
    items: Iterable[Item],
    lines: Sequence[Line],
    measure: Callable[[Item, float], Mapping[str, Any]],
    about: Mapping[str, Any],
    file: Path,
    deadline: float,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Line]:
    """Measures the items that end before the deadline, and yields a line for each after writing it to the file.

    lines: those of earlier calls. measure: returns the figures of an item, its error, or that it was cut off; it gets
    the seconds that are left. about: what all lines of this call have in common.
    """
    for item in items:
        began = clock()
        if began + allowed(item, lines) > deadline:
            continue
        outcome = measure(item, deadline - began)
        line = {"item": item.name, **about, "seconds": round(clock() - began, 1), **outcome}
        with file.open("a") as results:
            results.write(json.dumps(line) + "\n")
        yield line
