"""Tables of sentences and translations: .tsv files with a tab between two columns, alone or in a folder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from sanslabel.errors import BadInput
from sanslabel.sources.source import Source, Wanted
from sanslabel.sources.texts.text_files import TABLES, files_below, lines_of, text_kind, text_splits
from sanslabel.sources.texts.texts import Sentence, texts_from
from sanslabel.wording import counted

SIGNALS = ("source",)


def splits(data: str | Path) -> tuple[str, ...] | None:
    """Returns both splits of a table or a folder of tables, which state them or hold some lines out; None for anything
    else."""
    return ("train", "test") if text_kind(Path(data)) == "table" else None


def open_source(data: str | Path, split: str, wanted: Wanted) -> Source | None:
    """Returns the pairs of a split, or of "all"; None for anything but tables. Raises BadInput for a line with another
    number of columns than the first."""
    root, languages = Path(data), wanted.text.languages
    if text_kind(root) != "table":
        return None
    if root.is_file():
        return texts_from({"all": _sentences(root.parent, [root.name], languages)}, root.stem, split, wanted)
    names = text_splits(name for name in files_below(root) if name.lower().endswith(TABLES))
    sentences = {key: _sentences(root, of_split, languages) for key, of_split in names.items()}
    return texts_from(sentences, root.resolve().name, split, wanted)


def _sentences(root: Path, names: Sequence[str], languages: Sequence[str]) -> Iterator[Sentence]:
    """Yields the lines of tables. If languages are chosen, the first line of each table names its columns."""
    for name in names:
        path, columns, width = root / name, (0, 1), 0
        for number, line in enumerate(lines_of(path), 1):
            cells = line.split("\t")
            if number == 1:
                width = len(cells)
                if languages:
                    columns = _columns(cells, languages, path)
                    continue
                if width != 2:
                    raise BadInput(
                        f"{path}: has {counted(width, 'column')}; give two with a tab between, or name two of the"
                        " columns in the first line and with --languages."
                    )
            if not line:
                continue
            if len(cells) != width:
                raise BadInput(
                    f"{path}, line {number}: has {counted(len(cells), 'column')}, and the first line has {width}; put"
                    " one tab between source and target."
                )
            yield Sentence(name, number, cells[columns[0]], cells[columns[1]])


def _columns(names: Sequence[str], languages: Sequence[str], path: Path) -> tuple[int, int]:
    """Returns the places of the columns of the source and of the target. Raises BadInput if there are none."""
    stripped = [name.strip() for name in names]
    if len(languages) != 2 or not set(languages) <= set(stripped):
        raise BadInput(
            f"--languages {' '.join(languages)}: name two columns of {path}, whose first line has: "
            f"{', '.join(stripped)[:100]}."
        )
    return stripped.index(languages[0]), stripped.index(languages[1])
