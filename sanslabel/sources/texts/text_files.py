"""Files of texts: how they are read line by line, which of a folder hold texts, and in which languages."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Literal

from sanslabel.errors import BadInput
from sanslabel.memory_limits import main_memory
from sanslabel.sources.stores.store import Unreadable, open_regular

TAKEN = 40
"""times its size in memory that a file takes at most while it is read and divided into splits"""
BOM = b"\xef\xbb\xbf"
"""bytes that some editors put before the first line"""
LANGUAGES = frozenset(
    re.findall(
        "[a-z]+",
        "aa ab ae af ak am an ar as av ay az ba be bg bh bi bm bn bo br bs ca ce ch co cr cs cu cv cy da de dv dz "
        "ee el en eo es et eu fa ff fi fj fo fr fy ga gd gl gn gu gv ha he hi ho hr ht hu hy hz ia id ie ig ii ik "
        "io is it iu ja jv ka kg ki kj kk kl km kn ko kr ks ku kv kw ky la lb lg li ln lo lt lu lv mg mh mi mk ml "
        "mn mr ms mt my na nb nd ne ng nl nn no nr nv ny oc oj om or os pa pi pl ps pt qu rm rn ro ru rw sa sc sd "
        "se sg si sk sl sm sn so sq sr ss st su sv sw ta te tg th ti tk tl tn to tr ts tt tw ty ug uk ur uz ve vi "
        "vo wa wo xh yi yo za zh zu",
    )
)
"""codes of languages (ISO 639-1)"""
SIDES = ("source", "src", "target", "tgt")
"""other words that files of two languages end in"""
CATALOGS, PAGES, TABLES, LINES = (".mo", ".po"), (".html", ".htm", ".xhtml"), (".tsv", ".tab"), (".txt",)
"""suffixes of the files of each kind"""
SPLITS = {"train": "train", "test": "test", "val": "val", "valid": "val", "validation": "val", "dev": "val"}
"""words that the names of files or folders begin with, and their splits"""
Kind = Literal["catalogs", "pages", "table", "lines"]


def content_of(path: Path) -> bytes:
    """Returns the bytes of a file. Raises BadInput if it cannot be read, or not within the machine's memory."""
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            if TAKEN * size > main_memory():
                raise BadInput(f"{path}: has {size:,} bytes, too many for this machine's memory; split it up.")
            return file.read(size).removeprefix(BOM)
    except (OSError, Unreadable) as error:
        raise BadInput(f"{path}: cannot be read ({error}); make it readable.") from error


def lines_of(path: Path) -> Iterator[str]:
    """Yields the lines of a UTF-8 file, without their ends. Only a line feed ends a line, with or without a carriage
    return, so that aligned files stay aligned. Raises BadInput, with the line, for bytes that are not UTF-8."""
    content, begin, number = content_of(path), 0, 0
    while begin < len(content):
        end = content.find(b"\n", begin)
        end = len(content) if end < 0 else end
        number += 1
        yield decoded_line(content[begin:end].removesuffix(b"\r"), path, number)
        begin = end + 1


def decoded_line(line: bytes, path: Path, number: int) -> str:
    """Returns a line as text. Raises BadInput, with file and line, for bytes that are not UTF-8."""
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        raise BadInput(
            f"{path}, line {number}: byte 0x{line[error.start]:02x} is not UTF-8; convert the file, for example with"
            " iconv -t UTF-8."
        ) from error


def files_below(root: Path) -> list[str]:
    """Returns the paths of all files below a folder, sorted, relative to it. Hidden ones are left out, and links to
    folders are not followed. Raises BadInput if a folder cannot be listed."""

    def refuse(error: OSError) -> None:
        raise BadInput(f"{error.filename} cannot be listed ({error.strerror}); make it readable.") from error

    names = []
    for folder, inner, files in os.walk(root, onerror=refuse):
        inner[:] = [name for name in inner if not name.startswith(".")]
        place = Path(folder).relative_to(root)
        names += [(place / name).as_posix() for name in files if not name.startswith(".")]
    return sorted(names)


def text_kind(path: Path) -> Kind | None:
    """Returns the kind of texts in a file or folder, by the names of files alone; None if there are none. A folder with
    several kinds is read as the first one: catalogs, pages in two languages, tables, lines."""
    if path.is_file():
        suffix = path.suffix.lower()
        kinds: tuple[tuple[Kind, tuple[str, ...]], ...] = (("catalogs", CATALOGS), ("table", TABLES), ("lines", LINES))
        for kind, suffixes in kinds:
            if suffix in suffixes:
                return kind
        return "lines" if is_language(path.suffix[1:]) else None
    if not path.is_dir():
        return None
    names = files_below(path)
    if any(name.lower().endswith(CATALOGS) for name in names):
        return "catalogs"
    if several_languages(page for name in names if (page := page_and_language(name))):
        return "pages"
    if any(name.lower().endswith(TABLES) for name in names):
        return "table"
    if any(name.lower().endswith(LINES) for name in names):
        return "lines"
    return "lines" if several_languages(file for name in names if (file := stem_and_language(name))) else None


def is_language(word: str) -> bool:
    """Returns True for the code of a language, such as fr, fr_CA or pt-BR, and for words such as source and target."""
    return word in SIDES or (
        word[:2] in LANGUAGES and re.fullmatch(r"[a-z]{2}([-_][A-Za-z]{2,4})?(@[a-z]+)?", word) is not None
    )


def stem_and_language(name: str) -> tuple[str, str] | None:
    """Returns the stem and the language of a file such as train.en; None if its suffix is no language."""
    path = PurePosixPath(name)
    language = path.suffix[1:]
    return (path.with_suffix("").as_posix(), language) if is_language(language) else None


def page_and_language(name: str) -> tuple[str, str] | None:
    """Returns the page and the language of a file such as fr/text/a.html or a.fr.html; None for other files. The
    language is a folder of the path, or stands before the suffix."""
    path = PurePosixPath(name)
    if path.suffix.lower() not in PAGES:
        return None
    folders = list(path.parts[:-1])
    for place, folder in enumerate(folders):
        if is_language(folder):
            return PurePosixPath(*folders[:place], *folders[place + 1 :], path.name).as_posix(), folder
    inner = stem_and_language(path.with_suffix("").as_posix())
    return None if inner is None else (inner[0] + path.suffix, inner[1])


def several_languages(documents: Iterable[tuple[str, str]]) -> bool:
    """Returns True if a document is there in two languages. documents: the name and language of each file."""
    language_of: dict[str, str] = {}
    return any(language_of.setdefault(name, language) != language for name, language in documents)


def chosen_languages(present: Collection[str], languages: Sequence[str], where: Path) -> tuple[str, str]:
    """Returns the languages of the source and of the target.

    present: the languages of the data; languages: those that a person chose, or none. Raises BadInput if the data lack
    them, and if none is chosen of more than two.
    """
    listed = ", ".join(sorted(present))
    if not languages:
        if len(present) != 2:
            raise BadInput(
                f"{where}: has texts in {len(present)} languages ({listed}); choose source and target with --languages."
            )
        first, second = sorted(present)
        return first, second
    if len(languages) != 2 or languages[0] == languages[1]:
        raise BadInput(f"--languages {' '.join(languages)}: give two languages, source and target, of: {listed}.")
    for language in languages:
        if language not in present:
            raise BadInput(f"--languages {language}: {where} has no texts in it; it has: {listed}.")
    return languages[0], languages[1]


def text_splits(names: Iterable[str]) -> dict[str, list[str]]:
    """Returns the names of each split, "train" and "test", or all of them as "all" if they state no two splits.

    The split is the word that a name, or its first folder, begins with. Without a test split, the validation split is
    one; with both, it is left out, as are files of no split.
    """
    of_splits: dict[str, list[str]] = {"train": [], "test": [], "val": [], "": []}
    for name in names:
        begun = re.split(r"[^a-z]", name.lower(), maxsplit=1)[0]
        of_splits[SPLITS.get(begun, "")].append(name)
    test = of_splits["test"] or of_splits["val"]
    if of_splits["train"] and test:
        return {"train": of_splits["train"], "test": test}
    return {"all": sorted(name for names in of_splits.values() for name in names)}
