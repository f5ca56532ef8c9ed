"""Sub-folders as the classes of the files in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from sanslabel.sources.remarks import first_names
from sanslabel.wording import counted

UNLABELED = frozenset({"unlabeled", "unlabelled"})
"""names of a folder, in any case, whose files have no label"""
STRAY = 10
"""one file in so many may lie beside the class folders"""


class FolderClasses(NamedTuple):
    """The classes that the sub-folders of a place make."""

    class_of: dict[int, str]
    """the class of each labeled file, by row"""
    remarks: tuple[str, ...] = ()
    """sentences about files without a label"""
    reason: str = ""
    """the reason why no file has a label, if a person may not expect it"""


def class_folders(names: Sequence[str], members: Mapping[str, Sequence[int]], kind: str = "picture") -> FolderClasses:
    """Returns the classes of files that lie in sub-folders.

    The files of a folder have labels if at most one in ten of them lies in no sub-folder. There are none if all
    folders together have a single class. Files in a sub-folder "unlabeled" or "unlabelled" have no label.

    members: the rows of each folder, by its path with a slash at the end, such as "train/", or "" for the root.
    kind: the word for a file in remarks.
    """
    class_of, beside, unlabeled, reason = dict[int, str](), list[str](), 0, ""
    for prefix, index in members.items():
        folder_of = {row: names[row][len(prefix) :].rpartition("/")[0].partition("/")[0] for row in index}
        stray = [names[row] for row, folder in folder_of.items() if not folder]
        if len(stray) * STRAY > len(index):
            if len(stray) < len(index):
                reason = (
                    f"{len(stray):,} of {counted(len(index), kind)} lie in no sub-folder ({first_names(stray)}), and"
                    " at most one in ten may"
                )
            continue
        beside += stray
        labeled = {row: folder for row, folder in folder_of.items() if folder and folder.casefold() not in UNLABELED}
        unlabeled += len(index) - len(stray) - len(labeled)
        class_of |= labeled
    classes = set(class_of.values())
    if len(classes) == 1:
        reason = f"all {kind}s with a class lie in one folder, {first_names(classes)}, and two classes are needed"
    if len(classes) < 2:
        return FolderClasses({}, (f"There are no labels: {reason}.",) if reason else (), reason)
    remarks = [f"Sub-folders are not taken as classes everywhere: {reason}."] if reason else []
    if beside:
        remarks.append(
            f"Beside the class folders, without a label: {counted(len(beside), kind)} ({first_names(beside)})."
        )
    if unlabeled:
        remarks.append(f"In a folder of unlabeled {kind}s: {counted(unlabeled, kind)}.")
    return FolderClasses(class_of, tuple(remarks))
