"""One HTML page that needs only a browser."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from html import escape
from importlib.resources import files
from typing import Any

import vl_convert

from sanslabel import __version__
from sanslabel.report.charts import Chart
from sanslabel.report.markup import swatch
from sanslabel.report.picture_map import PictureMap
from sanslabel.wording import counted

SNIPPET = "window.vegaEmbed = vegaEmbed;"
"""JavaScript that is bundled with the charts' library, and makes it visible to page.js"""


@dataclass
class Page:
    """The content of a page; sections stand in the order in which they are added."""

    title: str
    head: list[str] = field(default_factory=list)
    """HTML above the sections"""
    sections: list[tuple[str, str, str]] = field(default_factory=list)
    """titles, colors of the runs that they are about, and HTML"""
    specs: dict[str, Any] = field(default_factory=dict)
    """Vega-Lite of each chart, by the id of its element"""
    maps: dict[str, Any] = field(default_factory=dict)
    """pictures, names, neighbors and galleries of each map, by the id of its chart"""

    def add(self, title: str, *blocks: str, color: str = "") -> None:
        """Adds a section, unless all of its blocks are empty."""
        if content := "\n".join(block for block in blocks if block):
            self.sections.append((title, color, content))

    def figure(self, chart: Chart) -> str:
        """Returns the HTML of a chart with its title and caption."""
        name = f"chart-{len(self.specs)}"
        marks = [""] * (len(chart.words) - len(chart.colors)) + list(chart.colors)
        caption = "<br>".join(swatch(mark) + escape(line) for mark, line in zip(marks, chart.words, strict=True))
        self.specs[name] = chart.spec
        return (
            f'<figure><strong>{escape(chart.title)}</strong><div class="chart" id="{name}" role="img" '
            f'aria-label="{escape(chart.title)}"></div><figcaption>{caption}</figcaption></figure>'
        )

    def grid(self, charts: Iterable[Chart]) -> str:
        """Returns the HTML of several charts, as many in a row as fit."""
        figures = [self.figure(chart) for chart in charts]
        return f'<div class="grid">{"".join(figures)}</div>' if figures else ""

    def map(self, content: PictureMap) -> str:
        """Returns the HTML of a map, and beside it a picture with its neighbors. Galleries follow.

        The reader chooses the picture by its name or number, or by a click on any other picture or point.
        """
        figure = self.figure(content.map)
        name = f"chart-{len(self.specs) - 1}"
        self.maps[name] = content.for_page()
        count = len(content.names)
        return (
            f'<div class="map"><div>{figure}</div><div class="chosen">'
            f'<label>Find a name <input type="search" id="{name}-search" placeholder="part of a file name"></label> '
            f'<label>Number <input type="number" id="{name}-row" min="1" max="{count}" value="1"></label> '
            f'of {counted(count, content.noun)}<div id="{name}-hits" class="gallery" aria-live="polite"></div>'
            f'<div id="{name}-panel" aria-live="polite" tabindex="-1"></div></div></div>'
            f'<div id="{name}-galleries"></div>'
        )

    def html(self) -> str:
        """Returns the HTML of the page."""
        contents = "".join(f'<a href="#section-{i}">{escape(title)}</a>' for i, (title, *_) in enumerate(self.sections))
        sections = "\n".join(
            f'<section id="section-{i}"><h2>{swatch(color)}{escape(title)}</h2>\n{content}</section>'
            for i, (title, color, content) in enumerate(self.sections)
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
