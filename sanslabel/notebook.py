"""Tables as HTML, which notebooks show in place of text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape


def html_table(title: str, header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Returns a table with a title, a header (which may be empty) and lines. All texts are escaped."""
    head = f"<thead><tr>{_cells('th', header)}</tr></thead>" if header else ""
    body = "".join(f"<tr>{_cells('td', line)}</tr>" for line in lines)
    return f"<table><caption>{escape(title)}</caption>{head}<tbody>{body}</tbody></table>"


def _cells(tag: str, texts: Sequence[str]) -> str:
    """Returns cells; all but the first hold numbers in a table of more than two columns."""
    sides = ["left", *["right" if len(texts) > 2 else "left"] * (len(texts) - 1)]
    cells = zip(sides, texts, strict=True)
    return "".join(f'<{tag} style="text-align: {side}">{escape(text)}</{tag}>' for side, text in cells)
