"""One HTML page that needs nothing but a browser."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from importlib.resources import files
from typing import Any

import vl_convert

from sanslabel import __version__
from sanslabel.report.charts import Chart
from sanslabel.report.embedding_map import COLUMNS, EmbeddingMap

SNIPPET = "window.vegaEmbed = vegaEmbed;"
"""what the page asks of the library's bundle"""


@dataclass
class Page:
    """Sections in the order in which they are added."""

    title: str
    head: list[str] = field(default_factory=list)
    sections: list[tuple[str, str]] = field(default_factory=list)
    specs: dict[str, Any] = field(default_factory=dict)
    atlases: dict[str, Any] = field(default_factory=dict)

    def add(self, title: str, *parts: str) -> None:
        """A section; none where it has no parts."""
        if content := "\n".join(part for part in parts if part):
            self.sections.append((title, content))

    def figure(self, chart: Chart) -> str:
        """A chart with its title, and its words for who does not see it."""
        name = f"chart-{len(self.specs)}"
        self.specs[name] = chart.spec
        return (
            f'<figure><strong>{escape(chart.title)}</strong><div class="chart" id="{name}" role="img" '
            f'aria-label="{escape(chart.title)}"></div><figcaption>{escape(chart.words)}</figcaption></figure>'
        )

    def grid(self, charts: Iterable[Chart]) -> str:
        figures = [self.figure(chart) for chart in charts]
        return f'<div class="grid">{"".join(figures)}</div>' if figures else ""

    def map(self, found: EmbeddingMap) -> str:
        """The map, and beside it an image with its neighbors, which the field, a click or a button chooses."""
        figure = self.figure(found.map)
        name = f"chart-{len(self.specs) - 1}"
        about = {"sprite": found.sprite, "side": found.side, "columns": COLUMNS}
        self.atlases[name] = {**about, "neighbors": found.neighbors, "names": found.names, "labels": found.labels}
        count = len(found.names)
        return (
            f'<div class="atlas">{figure}<div><label>Image <input type="number" id="{name}-row" min="1" max="{count}" '
            f'value="1"></label> of {count:,}<div id="{name}-panel" aria-live="polite"></div></div></div>'
        )

    def html(self) -> str:
        """The whole page."""
        contents = "".join(f'<a href="#part-{i}">{escape(title)}</a>' for i, (title, _) in enumerate(self.sections))
        sections = "\n".join(
            f'<section id="part-{i}"><h2>{escape(title)}</h2>\n{content}</section>'
            for i, (title, content) in enumerate(self.sections)
        )
        parts = {
            "title": escape(self.title),
            "style": _file("page.css"),
            "head": "\n".join(self.head),
            "contents": contents,
            "sections": sections,
            "version": __version__,
            "specs": _json(self.specs),
            "atlases": _json(self.atlases),
            "library": vl_convert.javascript_bundle(SNIPPET).replace("</script", "<\\/script"),
            "script": _file("page.js"),
        }
        pieces = _file("page.html").split("{{")
        return pieces[0] + "".join(parts[name] + rest for name, rest in (piece.split("}}", 1) for piece in pieces[1:]))


def table(head: Sequence[str], rows: Iterable[Sequence[str]], caption: str = "") -> str:
    lines = "".join(
        "<tr>"
        + "".join(f"<{tag}>{escape(cell)}</{tag}>" for tag, cell in zip(["th", *["td"] * len(row)], row, strict=False))
        + "</tr>"
        for row in rows
    )
    named = f"<caption class='dim'>{escape(caption)}</caption>" if caption else ""
    titles = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    return f'<div class="table"><table>{named}<thead><tr>{titles}</tr></thead><tbody>{lines}</tbody></table></div>'


def strips(pictures: Mapping[str, str]) -> str:
    """Rows of images, each behind its name."""
    cells = "".join(
        f'<span>{escape(name)}</span><img src="{uri}" alt="{escape(name)}">' for name, uri in pictures.items()
    )
    return f'<figure class="strip">{cells}</figure>' if cells else ""


def note(sentence: str) -> str:
    return f'<p class="dim">{escape(sentence)}</p>'


def _json(content: Any) -> str:
    """JSON that no tag can end."""
    return json.dumps(content, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _file(name: str) -> str:
    return files("sanslabel.report").joinpath(name).read_text(encoding="utf-8")
