"""Catalogs of translated messages: .mo and .po files, alone or in folders such as fr/LC_MESSAGES.

The message is the source and its translation the target. The language is the folder of a catalog, the folder above
LC_MESSAGES, or the name of the file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from sanslabel.errors import BadInput
from sanslabel.sources.source import Source, Wanted
from sanslabel.sources.texts.catalogs import messages_of
from sanslabel.sources.texts.text_files import CATALOGS, files_below, is_language, text_kind
from sanslabel.sources.texts.texts import Sentence, texts_from

SIGNALS = ("source",)


def splits(data: str | Path) -> tuple[str, ...] | None:
    """Returns both splits of a catalog or a folder of catalogs, some of whose messages are held out; None for anything
    else."""
    return ("train", "test") if text_kind(Path(data)) == "catalogs" else None


def open_source(data: str | Path, split: str, wanted: Wanted) -> Source | None:
    """Returns the messages of a split, or of "all"; None for anything but catalogs. Raises BadInput for a folder of
    several languages if none is chosen."""
    root = Path(data)
    if text_kind(root) != "catalogs":
        return None
    if root.is_file():
        return texts_from({"all": _sentences(root.parent, [root.name])}, root.stem, split, wanted, messages=True)
    names = [name for name in files_below(root) if name.lower().endswith(CATALOGS)]
    chosen = _chosen(root, names, wanted.text.languages)
    return texts_from({"all": _sentences(root, chosen)}, root.resolve().name, split, wanted, messages=True)


def _chosen(root: Path, names: Sequence[str], languages: Sequence[str]) -> list[str]:
    """Returns the catalogs of the language of the target, which is the last one that a person chose, or the only one.
    A .po file beside a .mo file of the same name is left out."""
    language_of = {name: _language(name) for name in names}
    present = sorted({language for language in language_of.values() if language})
    listed = ", ".join(present)
    if languages:
        if languages[-1] not in present:
            raise BadInput(f"--languages {languages[-1]}: {root} has no catalogs in it; it has: {listed or 'none'}.")
        chosen = [name for name in names if language_of[name] == languages[-1]]
    elif len(present) > 1:
        raise BadInput(
            f"{root}: has catalogs in {len(present)} languages ({listed}); choose source and target with --languages,"
            f" such as en {present[0]}."
        )
    else:
        chosen = list(names)
    compiled = {name[:-3] for name in chosen if name.lower().endswith(".mo")}
    return [name for name in chosen if name.lower().endswith(".mo") or name[:-3] not in compiled]


def _language(name: str) -> str:
    """Returns the language of a catalog, "" if its path states none."""
    path = PurePosixPath(name)
    folders = [folder for folder in path.parts[:-1] if folder != "LC_MESSAGES"]
    words = [path.stem, *reversed(folders)]
    if "LC_MESSAGES" in path.parts:
        words = words[1:]
    return next((word for word in words if is_language(word)), "")


def _sentences(root: Path, names: Sequence[str]) -> Iterator[Sentence]:
    """Yields the messages of catalogs."""
    for name in names:
        for place, message, translation in messages_of(root / name):
            yield Sentence(name, place, message, translation)
