"""The colors of runs, classes and clusters. Each can be told apart from the others, on light and on dark paper."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

HUES = (
    "#2f74d0",
    "#e07b00",
    "#2f9e4f",
    "#d43d51",
    "#8e5bd0",
    "#12a5b0",
    "#e05fb0",
    "#9a6a3f",
    "#b3a100",
    "#6cb0f2",
)
"""colors of the first, second, … run, class or cluster"""
GRAY = "#8b949e"
"""color of everything that has no hue of its own"""


def hue(position: int) -> str:
    """Returns the color of the run at a position of the command line. After the last hue, they begin again."""
    return HUES[position % len(HUES)]


def tint(color: str) -> str:
    """Returns a light tint of a color #rrggbb: a quarter of it on white."""
    return "#" + "".join(f"{round(255 - (255 - int(color[i : i + 2], 16)) / 4):02x}" for i in (1, 3, 5))


def hues_of(members: Sequence[str]) -> dict[str, str]:
    """Returns the color of each name among the members of groups, in natural order.

    The most frequent names have a hue each. All further names, and the empty name, are gray.
    """
    counts = Counter(name for name in members if name)
    frequent = sorted(counts, key=lambda name: (-counts[name], natural(name)))[: len(HUES)]
    chosen = dict(zip(sorted(frequent, key=natural), HUES, strict=False))
    return {name: chosen.get(name, GRAY) for name in sorted(set(members), key=natural)}


def natural(name: str) -> list[tuple[int, int, str]]:
    """Returns a key that sorts names as people do: "cluster 2" before "cluster 10". The empty name comes last."""
    if not name:
        return [(2, 0, "")]
    pieces = re.findall(r"\d+|\D+", name)
    return [(0, int(piece), "") if piece.isdecimal() else (1, 0, piece.casefold()) for piece in pieces]
