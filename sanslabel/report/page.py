"""One HTML page that needs only a browser."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from html import escape
from importlib.resources import files
from typing import Any

import vl_convert

from sanslabel import __version__
from sanslabel.report.charts import Chart
from sanslabel.report.embedding_map import COLUMNS, EmbeddingMap

SNIPPET = "window.vegaEmbed = vegaEmbed;"
"""JavaScript that is bundled with the charts' library, and makes it visible to page.js"""


@dataclass
class Page:
    """The content of a page; sections stand in the order in which they are added."""

    title: str
    head: list[str] = field(default_factory=list)
    """HTML above the sections"""
    sections: list[tuple[str, str]] = field(default_factory=list)
    """titles and HTML"""
    specs: dict[str, Any] = field(default_factory=dict)
    """Vega-Lite of each chart, by the id of its element"""
    maps: dict[str, Any] = field(default_factory=dict)
    """thumbnails, names and neighbors of each map, by the id of its chart"""

    def add(self, title: str, *blocks: str) -> None:
        """Adds a section, unless all of its blocks are empty."""
        if content := "\n".join(block for block in blocks if block):
            self.sections.append((title, content))

    def figure(self, chart: Chart) -> str:
        """Returns the HTML of a chart with its title and caption."""
        name = f"chart-{len(self.specs)}"
        caption = "<br>".join(map(escape, chart.words))
        self.specs[name] = chart.spec
        return (
            f'<figure><strong>{escape(chart.title)}</strong><div class="chart" id="{name}" role="img" '
            f'aria-label="{escape(chart.title)}"></div><figcaption>{caption}</figcaption></figure>'
        )

    def grid(self, charts: Iterable[Chart]) -> str:
        """Returns the HTML of several charts, as many in a row as fit."""
        figures = [self.figure(chart) for chart in charts]
        return f'<div class="grid">{"".join(figures)}</div>' if figures else ""

    def map(self, content: EmbeddingMap) -> str:
        """Returns the HTML of a map, and beside it an image with its neighbors.

        The reader chooses the image: by its number, or by a click on a point or a neighbor.
        """
        figure = self.figure(content.map)
        name = f"chart-{len(self.specs) - 1}"
        thumbnails = {"sprite": content.sprite, "side": content.side, "columns": COLUMNS}
        points = {"neighbors": content.neighbors, "names": content.names, "labels": content.labels}
        self.maps[name] = thumbnails | points
        count = len(content.names)
        return (
            f'<div class="map">{figure}<div><label>Image <input type="number" id="{name}-row" min="1" max="{count}" '
            f'value="1"></label> of {count:,}<div id="{name}-panel" aria-live="polite"></div></div></div>'
        )

    def html(self) -> str:
        """Returns the HTML of the page."""
        contents = "".join(f'<a href="#section-{i}">{escape(title)}</a>' for i, (title, _) in enumerate(self.sections))
        sections = "\n".join(
            f'<section id="section-{i}"><h2>{escape(title)}</h2>\n{content}</section>'
            for i, (title, content) in enumerate(self.sections)
        )
        texts = {
            "title": escape(self.title),
            "style": _file("page.css"),
            "head": "\n".join(self.head),
            "contents": contents,
            "sections": sections,
            "version": __version__,
            "specs": _json(self.specs),
            "maps": _json(self.maps),
            "library": _library(),
            "script": _file("page.js"),
        }
        pieces = _file("page.html").split("{{")
        return pieces[0] + "".join(texts[name] + rest for name, rest in (piece.split("}}", 1) for piece in pieces[1:]))


def table(head: Sequence[str], lines_of_cells: Iterable[Sequence[str]], caption: str = "") -> str:
    """Returns an HTML table. The first cell of each row is its heading."""
    lines = "".join(
        "<tr>"
        + "".join(f"<{tag}>{escape(cell)}</{tag}>" for tag, cell in zip(["th", *["td"] * len(row)], row, strict=False))
        + "</tr>"
        for row in lines_of_cells
    )
    title = f"<caption class='dim'>{escape(caption)}</caption>" if caption else ""
    titles = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    return f'<div class="table"><table>{title}<thead><tr>{titles}</tr></thead><tbody>{lines}</tbody></table></div>'


def strips(pictures: Mapping[str, str]) -> str:
    """Returns the HTML of rows of images, each beside its name."""
    cells = "".join(
        f'<span>{escape(name)}</span><img src="{uri}" alt="{escape(name)}">' for name, uri in pictures.items()
    )
    return f'<figure class="strip">{cells}</figure>' if cells else ""


def note(sentence: str) -> str:
    """Returns a sentence in small print as HTML."""
    return f'<p class="dim">{escape(sentence)}</p>'


@cache
def _library() -> str:
    """Returns the charts' library as JavaScript. Bundling takes a second, so it is done once per process."""
    return vl_convert.javascript_bundle(SNIPPET).replace("</script", "<\\/script")


def _json(content: Any) -> str:
    """Returns JSON without `<`, so that no text in it can end the script element around it."""
    return json.dumps(content, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _file(name: str) -> str:
    """Returns the text of a file beside this one."""
    return files("sanslabel.report").joinpath(name).read_text(encoding="utf-8")
