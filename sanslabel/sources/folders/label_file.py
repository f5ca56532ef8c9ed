"""Files that state the labels of pictures: a CSV or Parquet file with the columns path and label."""

from __future__ import annotations

import csv
import hashlib
import io
import os
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from sanslabel.errors import BadInput, bad_input_as
from sanslabel.memory_limits import main_memory
from sanslabel.sources.remarks import first_names, printable
from sanslabel.sources.stores.store import Store
from sanslabel.wording import counted

COLUMNS = ("path", "label")
DELIMITERS = ",;\t"
"""characters between the columns of a CSV file; the first line decides"""


@dataclass(frozen=True)
class LabelFile:
    """The content of a file of labels."""

    file: Path
    sha256: str
    lines: Sequence[tuple[str, str]]
    """path and label of each picture, as the file states them"""
    has_header: bool = True
    """False if no column is named, so that the first line may be a header of other names"""

    def labels_of(
        self, store: Store, names: Mapping[str, int], kind: str = "picture"
    ) -> tuple[dict[int, str], tuple[str, ...]]:
        """Returns the label of each sample that the file names, by row, and remarks for a person.

        A path is one of `names`, or leads to a file of the store: as an absolute path, or from the folder of the label
        file. `kind` is the word for a sample in sentences. Raises BadInput if no path is a sample, if all labels are
        the same, or if a sample has two labels.
        """
        label_of, unknown = dict[int, str](), list[str]()
        rows_of = _Rows(store, names, self.file.absolute().parent)
        for path, label in self.lines:
            row = rows_of(path)
            if row is None:
                unknown.append(path)
            elif (before := label_of.setdefault(row, label)) != label:
                raise BadInput(
                    f"{self.file}: {printable(path)} has two labels, {printable(before)} and {printable(label)};"
                    " leave one of them."
                )
        if not label_of:
            raise BadInput(
                f"{self.file}: none of its {len(self.lines):,} paths is a {kind} of {store.location}. It names"
                f" {first_names(unknown)}; the {kind}s are {first_names(names)}."
            )
        if len(labels := set(label_of.values())) == 1:
            raise BadInput(f"{self.file}: all {kind}s have the label {first_names(labels)}; labels need two classes.")
        remarks = [f"Labels from {printable(self.file.name)}: {len(label_of):,} of {counted(len(names), kind)}."]
        if unknown and not self.has_header and unknown[0] == self.lines[0][0]:
            remarks.append(f"Its first line, {printable(','.join(self.lines[0]))}, is taken as a header.")
            unknown = unknown[1:]
        if unknown:
            remarks.append(f"Paths of no {kind} in {printable(self.file.name)}: {first_names(unknown)}.")
        return label_of, tuple(remarks)


class _Rows:
    """A function that returns the row of the picture that a path names, or None."""

    def __init__(self, store: Store, names: Mapping[str, int], folder: Path) -> None:
        self.store, self.names, self.folder = store, names, folder
        self.normal = {_normal(name): row for name, row in names.items()}

    def __call__(self, path: str) -> int | None:
        if (row := self.names.get(path, self.normal.get(_normal(path)))) is not None:
            return row
        name = self.store.name_of(os.path.normpath(self.folder / path))
        return None if name is None else self.names.get(name, self.normal.get(_normal(name)))


def read_label_file(path: str | Path) -> LabelFile:
    """Returns the content of a .csv or .parquet file. Raises BadInput if it cannot be read, or lacks a column.

    A CSV file is in UTF-8, with a comma, semicolon or tab between the columns. Without a header that names path or
    label, its first two columns are taken.
    """
    file = Path(path)
    with bad_input_as(file, "give a CSV file with the columns path and label"):
        if not file.is_file():
            raise BadInput(f"{file}: no such file; --labels names a .csv or .parquet file with paths and labels.")
        if file.stat().st_size > main_memory() // 8:
            raise BadInput(f"{file}: is too large for this machine's memory; give a file with paths and labels only.")
        content = file.read_bytes()
        has_header, stated = _parquet(content, file) if file.suffix.lower() == ".parquet" else _csv(content, file)
        lines = [(path.strip(), label.strip()) for path, label in stated]
    labeled = [(path, label) for path, label in lines if path and label]
    if not labeled:
        raise BadInput(f"{file}: holds no labels; give it the columns path and label.")
    return LabelFile(file, hashlib.sha256(content).hexdigest(), labeled, has_header)


def _csv(content: bytes, file: Path) -> tuple[bool, Iterator[tuple[str, str]]]:
    """Returns whether the columns are named, and the paths and labels."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise BadInput(f"{file}: is not in UTF-8; save it as a CSV file in UTF-8.") from None
    first = text.partition("\n")[0]
    delimiter = max(DELIMITERS, key=first.count)
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    header = next(lines, [])
    columns = _columns([name.strip().casefold() for name in header], file)
    if columns is None:
        return False, _cells(enumerate(chain([header], lines), start=1), (0, 1), file)
    return True, _cells(enumerate(lines, start=2), columns, file)


def _cells(
    lines: Iterable[tuple[int, Sequence[str]]], columns: tuple[int, int], file: Path
) -> Iterator[tuple[str, str]]:
    """Yields the path and the label of each numbered line."""
    path, label = columns
    for number, line in lines:
        if line and len(line) <= max(columns):
            raise BadInput(f"{file}: row {number} has too few columns; give it a path and a label.")
        if line:
            yield line[path], line[label]


def _columns(header: Sequence[str], file: Path) -> tuple[int, int] | None:
    """Returns the places of path and label; None for a line that is no header. Without a column `path`, the first one
    beside `label` has the paths. Raises BadInput if there is a column `path` and none `label`."""
    if not set(COLUMNS) & set(header):
        return None
    if "label" not in header:
        raise BadInput(f"{file}: has no column label; its columns are {first_names(list(header))}.")
    label = header.index("label")
    return header.index("path") if "path" in header else int(label == 0), label


def _parquet(content: bytes, file: Path) -> tuple[bool, Iterator[tuple[str, str]]]:
    """Returns True, since the columns of a table are named, and the paths and labels."""
    try:
        from pyarrow import BufferReader, parquet
    except (ImportError, OSError) as error:
        raise BadInput(f"{file}: reading Parquet needs pyarrow ({error}); pip install 'sanslabel[data]'.") from error
    table: Any = parquet.ParquetFile(BufferReader(content))
    names = {name.casefold(): name for name in table.schema_arrow.names}
    columns = _columns(list(names), file) or (0, 1)
    if len(names) < 2:
        raise BadInput(f"{file}: has {len(names)} columns; give it the columns path and label.")
    chosen = [list(names.values())[column] for column in columns]
    values = table.read(columns=chosen).to_pydict()
    cells = zip(*(values[name] for name in chosen), strict=True)
    return True, (("" if path is None else str(path), "" if label is None else str(label)) for path, label in cells)


def _normal(path: str) -> str:
    """Returns a path in the spelling of the systems: with slashes, and with accents as single characters."""
    path = unicodedata.normalize("NFC", path.replace("\\", "/"))
    while path.startswith("./"):
        path = path[2:]
    return path
