"""Words of the remarks that sources make about their data."""

from __future__ import annotations

from collections.abc import Collection
from itertools import islice

from sanslabel.wording import counted

SHOWN = 3
"""names that a remark or an error shows"""


def pictures(count: int) -> str:
    """Returns a number of pictures in words."""
    return counted(count, "picture")


def first_names(names: Collection[str]) -> str:
    """Returns the first names, and the number of further ones."""
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return ", ".join(map(printable, islice(names, SHOWN))) + more


def printable(name: str) -> str:
    """Returns the name with every character escaped that a line of text cannot show."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in name)
