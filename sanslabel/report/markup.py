"""Pieces of HTML. All text is escaped here, so that no name becomes markup."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import NamedTuple


@dataclass(frozen=True)
class Cell:
    """A cell of a table."""

    text: str
    notes: tuple[str, ...] = ()
    """further lines in small print"""
    color: str = ""
    """color of the run that the cell is about; empty if there is none"""
    best: bool = False
    """True if it is the best value of its column"""
    title: str = ""
    """longer form of the text, which appears under the pointer"""


class Frame(NamedTuple):
    """A frame of a filmstrip."""

    thumbnail: str
    """WebP in base64"""
    name: str
    time: str
    """the time in its clip, with its unit"""


def table(
    head: Sequence[str | Cell], lines_of_cells: Iterable[Sequence[str | Cell]], caption: str = "", kind: str = ""
) -> str:
    """Returns an HTML table. The first cell of each row is its heading. `kind` is a class of the style sheet.

    On a narrow screen, each row becomes a block with a line for each cell. Roles keep it a table for screen readers.
    """
    titles = [_cell(cell) for cell in head]
    lines = "".join(_line(head, [_cell(cell) for cell in line]) for line in lines_of_cells)
    title = f"<caption class='dim'>{escape(caption)}</caption>" if caption else ""
    columns = "".join(f'<th scope="col" role="columnheader">{_content(cell)}</th>' for cell in titles)
    return (
        f'<div class="table {kind}"><table role="table">{title}'
        f'<thead role="rowgroup"><tr role="row">{columns}</tr></thead>'
        f'<tbody role="rowgroup">{lines}</tbody></table></div>'
    )


def swatch(color: str) -> str:
    """Returns the HTML of a small square in a color, or nothing without a color."""
    return f'<span class="swatch" style="background:{escape(color)}" aria-hidden="true"></span>' if color else ""


def breakable(text: str) -> str:
    """Returns a text as HTML that may be broken after slashes and underscores."""
    return escape(text).replace("/", "/<wbr>").replace("_", "_<wbr>")


def strips(pictures: Mapping[str, str]) -> str:
    """Returns the HTML of rows of images, each beside its name."""
    cells = "".join(
        f'<span>{escape(name)}</span><img src="{uri}" alt="{escape(name)}">' for name, uri in pictures.items()
    )
    return f'<figure class="strip">{cells}</figure>' if cells else ""


def film(lines: Iterable[Sequence[Frame]]) -> str:
    """Returns the HTML of rows of frames with their names and times. The first of each row stands apart."""
    cells = "".join(f'<div class="film">{"".join(map(_frame, line))}</div>' for line in lines)
    return f'<div class="films">{cells}</div>' if cells else ""


def players(sounds: Sequence[str]) -> str:
    """Returns the HTML of a player for each sound, which is given as a data URI."""
    cells = "".join(
        f'<audio controls preload="none" aria-label="sound {number}" src="{uri}"></audio>'
        for number, uri in enumerate(sounds, 1)
    )
    return f'<div class="players">{cells}</div>' if cells else ""


def note(sentence: str) -> str:
    """Returns a sentence in small print as HTML."""
    return f'<p class="dim">{escape(sentence)}</p>'


def details(summary: str, *blocks: str) -> str:
    """Returns HTML that is folded until a reader opens it; nothing if all of its blocks are empty."""
    content = "\n".join(block for block in blocks if block)
    return f"<details><summary>{escape(summary)}</summary>\n{content}</details>" if content else ""


def _frame(frame: Frame) -> str:
    name = escape(frame.name)
    return (
        f'<figure title="{name}"><img src="data:image/webp;base64,{frame.thumbnail}" alt="{name}">'
        f'<figcaption class="dim">{escape(frame.time)}</figcaption></figure>'
    )


def _cell(cell: str | Cell) -> Cell:
    return Cell(cell) if isinstance(cell, str) else cell


def _line(head: Sequence[str | Cell], line: Sequence[Cell]) -> str:
    first, *others = line
    cells = "".join(
        f'<td role="cell" data-column="{escape(_cell(column).text)}" class="{"best" * cell.best}">{_content(cell)}</td>'
        for column, cell in zip(head[1:], others, strict=False)
    )
    return f'<tr role="row"><th scope="row" role="rowheader">{_content(first)}</th>{cells}</tr>'


def _content(cell: Cell) -> str:
    text = swatch(cell.color) + breakable(cell.text)
    if cell.title:
        text = f'<span title="{escape(cell.title)}">{text}</span>'
    if cell.best:
        text += '<span class="unseen"> (best)</span>'
    return text + "".join(f'<small class="dim">{breakable(line)}</small>' for line in cell.notes)
