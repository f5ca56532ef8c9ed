"""Tables of docs/performance.md."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]], numbers: Sequence[int] = ()) -> str:
    """A Markdown table; the columns of `numbers` stand on the right."""
    rule = ["---:" if column in numbers else "---" for column in range(len(head))]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, rule, *rows))


def prose(docstring: str | None) -> str:
    """What a module says of itself below its first line, as one paragraph."""
    return " ".join((docstring or "").partition("\n\n")[2].split())
