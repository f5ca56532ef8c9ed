"""The files of a split with their labels: from a label file, from the store, or from their folders."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sanslabel.errors import BadInput
from sanslabel.sources.folders.class_folders import class_folders
from sanslabel.sources.folders.copies import left_out, remarks_on_copies
from sanslabel.sources.folders.label_file import LabelFile
from sanslabel.sources.stores.store import Store


class LabeledFiles(NamedTuple):
    """The files of one split, without copies."""

    index: list[int]  # pyright: ignore[reportIncompatibleMethodOverride]
    """the rows of the store that belong to the split"""
    labels: Tensor
    """(N,) int64, positions in `classes`, -1 for no label"""
    classes: tuple[str, ...]
    """names of the classes; empty without labels"""
    copies: Collection[int]
    """the rows of the store that are copies of others"""
    remarks: tuple[str, ...]
    no_labels: str
    """the reason why no file has a label, if a person may not expect it"""


def labeled_files(
    store: Store,
    split: str,
    prefixes: Mapping[str, tuple[str, ...]],
    equal: Iterable[list[int]],
    described: str,
    label_file: LabelFile | None = None,
    stated: Sequence[str | None] | None = None,
    kind: str = "picture",
) -> LabeledFiles:
    """Returns the files of one split, or of "all", with their labels.

    prefixes: the folders of each split, with their slashes. The names of the split's files begin with one of them.
    equal: groups of rows with the same bytes. Each group counts once, see `left_out`.
    described: the kind of files, for an error: "images (JPEG or PNG)".
    label_file: the labels, if a file states them.
    stated: the class of each file if the store knows it. Otherwise sub-folders are classes, see `class_folders`.
    kind: the word for a file in remarks.

    All splits are looked at together, so that training and test files get the same classes. Raises BadInput if the
    split has no files.
    """
    names = store.names
    in_folder = {
        folder: [row for row, path in enumerate(names) if path.startswith(folder)]
        for folders in prefixes.values()
        for folder in folders
    }
    members = {key: [row for folder in folders for row in in_folder[folder]] for key, folders in prefixes.items()}
    if not any(members[key] for key in members if split in (key, "all")):
        raise BadInput(f"{store.location / prefixes[split][0]} holds no {described}.")
    if label_file is not None:
        named = {names[row]: row for index in members.values() for row in index}
        class_of, label_remarks = label_file.labels_of(store, named, kind)
        classes, no_labels = _by_value(set(class_of.values())), ""
    elif stated is None:
        class_of, label_remarks, no_labels = class_folders(names, in_folder, kind)
        classes = tuple(sorted(set(class_of.values())))
    else:
        class_of = {row: label for index in members.values() for row in index if (label := stated[row]) is not None}
        classes, label_remarks, no_labels = _by_value(set(class_of.values())), (), ""
    tested = frozenset(members.get("test", ()))
    used_instead = left_out(store, equal, tested, class_of)
    count = sum(map(len, members.values()))
    copy_remarks = remarks_on_copies(store, used_instead, tested, class_of, count, kind)
    chosen = [row for key in members if split in (key, "all") for row in members[key] if row not in used_instead]
    labels = torch.full((len(chosen),), -1)
    if len(classes) > 1:
        position = {name: label for label, name in enumerate(classes)}
        labels = torch.tensor([position[class_of[row]] if row in class_of else -1 for row in chosen])
    return LabeledFiles(
        index=chosen,
        labels=labels,
        classes=classes if bool((labels >= 0).any()) else (),
        copies=used_instead,
        remarks=(*copy_remarks, *label_remarks),
        no_labels=no_labels,
    )


def _by_value(classes: set[str]) -> tuple[str, ...]:
    """Returns stated classes in order: by value if all are whole numbers, as in files of arrays, otherwise by name."""
    whole_numbers = all(name.isascii() and name.isdigit() and len(name) < 19 for name in classes)
    return tuple(sorted(classes, key=lambda name: (int(name), name)) if whole_numbers else sorted(classes))
