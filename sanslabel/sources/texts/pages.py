"""Paragraphs of HTML pages, by their ids."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

from sanslabel.errors import BadInput, bad_input_as
from sanslabel.sources.texts.text_files import content_of, decoded_line

BLOCKS = frozenset({"p", "h1", "h2", "h3", "h4", "h5", "h6", "li", "dt", "dd", "td", "th", "caption", "figcaption"})
"""elements that are paragraphs if they have an id"""
EMPTY = frozenset({"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "wbr"})
"""elements that have no end"""
UNREAD = frozenset({"script", "style", "template", "head"})
"""elements whose text is not shown"""
SHOWN = "default"
"""beginning of the ids of hidden elements that scripts show on most systems, as in LibreOffice's help"""


def paragraphs_of(path: Path) -> dict[str, str]:
    """Returns the text of each paragraph with an id, with single spaces between words; of equal ids, the first one.
    Raises BadInput for bytes that are not UTF-8, with the line, and for a page that is no HTML."""
    content = content_of(path)
    try:
        page = content.decode()
    except UnicodeDecodeError as error:
        number = content.count(b"\n", 0, error.start) + 1
        decoded_line(content.split(b"\n")[number - 1], path, number)
        raise BadInput(f"{path}: is not UTF-8; convert it.") from error
    parser = _Paragraphs()
    with bad_input_as(path, "correct it, or take it out of the folder"):
        parser.feed(page)  # without `close`, which takes long for pages that end within a tag
    parser.end_paragraph()
    return parser.texts


class _Paragraphs(HTMLParser):
    """A parser that keeps the text of paragraphs with an id."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.texts: dict[str, str] = {}
        self._id = ""
        self._words: list[str] = []
        self._unshown: list[str] = []
        """the open elements from the first on that is not shown"""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Begins a paragraph, or an element that is not shown."""
        if tag in EMPTY:
            self._words.append(" ")
            return
        attributes = dict(attrs)
        if tag in BLOCKS:
            self.end_paragraph()
            self._id = attributes.get("id") or ""
        hidden = "hidden" in attributes and not (attributes.get("id") or "").startswith(SHOWN)
        if self._unshown or hidden or tag in UNREAD:
            self._unshown.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Ends a paragraph, or an element that is not shown."""
        if tag in self._unshown:
            while self._unshown.pop() != tag:
                pass
        if tag in BLOCKS:
            self.end_paragraph()

    def handle_data(self, data: str) -> None:
        """Keeps the text of a paragraph that is open and shown."""
        if self._id and not self._unshown:
            self._words.append(data)

    def end_paragraph(self) -> None:
        """Keeps the paragraph that is open, if there is one."""
        if self._id:
            self.texts.setdefault(self._id, " ".join("".join(self._words).split()))
        self._id, self._words, self._unshown = "", [], [tag for tag in self._unshown if tag not in BLOCKS]
