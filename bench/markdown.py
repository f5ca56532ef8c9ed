"""Tables of docs/performance.md."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(head: Sequence[str], lines: Iterable[Sequence[str]], right: Sequence[int] = ()) -> str:
    """Returns a Markdown table. right: the columns that are aligned to the right."""
    rule = ["---:" if column in right else "---" for column in range(len(head))]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, rule, *lines))


def prose(docstring: str | None) -> str:
    """Returns a module's docstring without its first line, as one paragraph."""
    return " ".join((docstring or "").partition("\n\n")[2].split())


def with_table(page: str, name: str, content: str) -> str:
    """Returns the text of a page with new content between the two comments of this name.

    Raises ValueError if the page does not have both.
    """
    begin, end = f"<!-- {name}: made by --render -->\n", f"\n<!-- end of {name} -->"
    before, opening, rest = page.partition(begin)
    _, closing, after = rest.partition(end)
    if not opening or not closing:
        raise ValueError(f"the page has no place for {name}")
    return f"{before}{begin}\n{content}\n{end}{after}"
