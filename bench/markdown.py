"""Tables of docs/performance.md."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    rule = ["---"] * len(head)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, rule, *rows))


def prose(docstring: str | None) -> str:
    """What a module says of itself below its first line, as one paragraph."""
    return " ".join((docstring or "").partition("\n\n")[2].split())
