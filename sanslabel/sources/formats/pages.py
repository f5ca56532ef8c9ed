"""HTML pages in two languages whose paragraphs have equal ids, as LibreOffice's help has them.

The language is a folder of the path, as in `en-US/text/a.html` and `fr/text/a.html`, or stands before the suffix, as in
`a.en.html` and `a.fr.html`. A page is a document.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from sanslabel.errors import BadInput
from sanslabel.sources.source import Source, Wanted
from sanslabel.sources.texts.pages import paragraphs_of
from sanslabel.sources.texts.text_files import chosen_languages, files_below, page_and_language, text_kind
from sanslabel.sources.texts.texts import Sentence, texts_from

SIGNALS = ("source",)


def splits(data: str | Path) -> tuple[str, ...] | None:
    """Returns both splits of a folder of pages, some of which are held out; None for anything else."""
    return ("train", "test") if text_kind(Path(data)) == "pages" else None


def open_source(data: str | Path, split: str, wanted: Wanted) -> Source | None:
    """Returns the paragraphs of a split, or of "all"; None for anything but pages in several languages."""
    root = Path(data)
    if text_kind(root) != "pages":
        return None
    files = {page: name for name in files_below(root) if (page := page_and_language(name))}
    source, target = chosen_languages({language for _, language in files}, wanted.text.languages, root)
    pages = {
        page: (root / name, root / files[page, target])
        for (page, language), name in files.items()
        if language == source and (page, target) in files
    }
    if not pages:
        raise BadInput(f"{root}: has no page in both {source} and {target}; choose others with --languages.")
    return texts_from({"all": _sentences(pages)}, root.resolve().name, split, wanted, messages=True)


def _sentences(pages: Mapping[str, tuple[Path, Path]]) -> Iterator[Sentence]:
    """Yields the paragraphs that are in both languages."""
    for page, (source, target) in pages.items():
        translations = paragraphs_of(target)
        for name, text in paragraphs_of(source).items():
            if name in translations and (text or translations[name]):
                yield Sentence(page, name, text, translations[name])
