"""Text files with a sentence in each line: two aligned files, or texts of one language.

Aligned are two files that are named together, or the files of a folder that share a stem and end in a language, such as
`train.en` and `train.fr`. All `.txt` files of any other folder are texts of one language.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from sanslabel.errors import BadInput
from sanslabel.sources.source import Source, Wanted
from sanslabel.sources.texts.text_files import (
    LINES,
    chosen_languages,
    files_below,
    lines_of,
    several_languages,
    stem_and_language,
    text_kind,
    text_splits,
)
from sanslabel.sources.texts.texts import Sentence, texts_from
from sanslabel.wording import counted

SIGNALS = ("source",)


def splits(data: str | Path) -> tuple[str, ...] | None:
    """Returns the splits of a file or folder of lines; None for anything else. Data that state no splits have a test
    split, too, for which some of the sentences are held out."""
    return ("train", "test") if text_kind(Path(data)) == "lines" else None


def open_source(data: str | Path, split: str, wanted: Wanted) -> Source | None:
    """Returns the sentences of a split, or of "all"; None for anything but lines of text. Raises BadInput for unequal
    numbers of lines, and for bytes that are not UTF-8."""
    root = Path(data)
    if text_kind(root) != "lines":
        return None
    if root.is_file():
        return texts_from({"all": _sentences([root], root.parent)}, root.stem, split, wanted)
    names = files_below(root)
    documents = [document for name in names if (document := stem_and_language(name))]
    name = root.resolve().name
    if not several_languages(documents):
        texts = text_splits(name for name in names if name.lower().endswith(LINES))
        files = {key: [root / name for name in of_split] for key, of_split in texts.items()}
        return texts_from({key: _sentences(paths, root) for key, paths in files.items()}, name, split, wanted)
    source, target = chosen_languages({language for _, language in documents}, wanted.text.languages, root)
    stems = sorted({stem for stem, _ in documents})
    aligned = [stem for stem in stems if {(stem, source), (stem, target)} <= set(documents)]
    if not aligned:
        raise BadInput(f"{root}: has no file in both {source} and {target}; name them STEM.{source} and STEM.{target}.")
    pairs = {
        key: (pair for stem in of_split for pair in _pairs(root / f"{stem}.{source}", root / f"{stem}.{target}", stem))
        for key, of_split in text_splits(aligned).items()
    }
    return texts_from(pairs, name, split, wanted)


def open_several(places: Sequence[str | Path], split: str, wanted: Wanted) -> Source:
    """Returns two files as sentences and their translations if the method reads both, and otherwise the sentences of
    all files. Raises BadInput for folders, and for more than two files of translations."""
    files = [Path(place) for place in places]
    for file in files:
        if not file.is_file():
            raise BadInput(f"--data: {file} is a folder; name it alone, or name two files.")
    name = "+".join(file.name for file in files)
    if "target" not in wanted.signals:
        return texts_from({"all": _sentences(files, None)}, name, split, wanted)
    if len(files) != 2:
        raise BadInput(f"--data: {len(files)} text files; name two, the sentences and their translations.")
    return texts_from({"all": _pairs(files[0], files[1], files[0].stem)}, name, split, wanted)


def _sentences(files: Iterable[Path], root: Path | None) -> Iterator[Sentence]:
    """Yields the lines of files, whose names are relative to a folder if there is one."""
    for file in files:
        name = file.name if root is None else file.relative_to(root).as_posix()
        for number, line in enumerate(lines_of(file), 1):
            yield Sentence(name, number, line)


def _pairs(source: Path, target: Path, document: str) -> Iterator[Sentence]:
    """Yields the lines of two files as pairs. Raises BadInput if one has more lines."""
    lines, translations, number = lines_of(source), lines_of(target), 0
    for line in lines:
        translation = next(translations, None)
        if translation is None:
            raise _unequal(source, number + 1 + sum(1 for _ in lines), target, number)
        number += 1
        yield Sentence(document, number, line, translation)
    if more := sum(1 for _ in translations):
        raise _unequal(source, number, target, number + more)


def _unequal(source: Path, count: int, target: Path, other: int) -> BadInput:
    return BadInput(
        f"{source} has {counted(count, 'line')} and {target} has {counted(other, 'line')}; line by line, give each"
        " sentence its translation."
    )
