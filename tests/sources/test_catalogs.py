"""Catalogs of messages: .mo against the standard library, .po by its rules, and languages by folders."""

import gettext
import io
import struct
from pathlib import Path

import pytest

from sanslabel.errors import BadInput
from sanslabel.sources import Data, TextChoices, open_source, splits
from sanslabel.sources.texts.catalogs import messages_of

HEADER = "Content-Type: text/plain; charset={}\nPlural-Forms: nplurals=2; plural=(n > 1);\n"
MESSAGES = {
    "Open": "Ouvrir",
    "menu\x04Open the file": "Ouvrir le fichier",
    "one file\0{n} files": "un fichier\0{n} fichiers",
    "two\nlines  of text": "deux\nlignes",
    "déjà": "already",
}
PAIRS = [
    ("Open", "Ouvrir"),
    ("Open the file", "Ouvrir le fichier"),
    ("one file", "un fichier"),
    ("{n} files", "{n} fichiers"),
    ("two lines of text", "deux lignes"),
    ("déjà", "already"),
]


def compiled(messages: dict[str, str], charset: str = "UTF-8", order: str = "<") -> bytes:
    """Returns a .mo file of these messages."""
    entries = {"": HEADER.format(charset), **messages}
    texts = [[text.encode(charset) for text in pair] for pair in sorted(entries.items())]
    count, blob, tables = len(texts), b"", ([], [])
    for pair in texts:
        for table, text in zip(tables, pair, strict=True):
            table.append((len(text), 28 + 16 * len(texts) + len(blob)))
            blob += text + b"\0"
    head = struct.pack(f"{order}7I", 0x950412DE, 0, count, 28, 28 + 8 * count, 0, 0)
    return head + b"".join(struct.pack(f"{order}2I", *entry) for table in tables for entry in table) + blob


def write(path: Path, content: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def pairs_of(path: Path) -> list[tuple[str, str]]:
    return [(message, translation) for _, message, translation in messages_of(path)]


@pytest.mark.parametrize("order", "<>")
def test_a_compiled_catalog_has_the_messages_of_the_standard_library(tmp_path, order):
    content = compiled(MESSAGES, order=order)
    path = write(tmp_path / "a.mo", content)
    assert sorted(pairs_of(path)) == sorted(PAIRS)
    library = gettext.GNUTranslations(io.BytesIO(content))
    for message, translation in MESSAGES.items():
        if "\0" not in message and "\x04" not in message:
            assert library.gettext(message) == translation


@pytest.mark.parametrize("charset", ["ISO-8859-15", "windows-1252", "utf-8"])
def test_other_charsets_are_read_as_the_header_states(tmp_path, charset):
    assert ("déjà", "already") in pairs_of(write(tmp_path / "a.mo", compiled(MESSAGES, charset)))
    po = f'msgid ""\nmsgstr "Content-Type: text/plain; charset={charset}\\n"\n\nmsgid "é"\nmsgstr "à"\n'
    assert pairs_of(write(tmp_path / "a.po", po.encode(charset))) == [("é", "à")]


def test_formulas_of_plurals_are_not_evaluated(tmp_path):
    content = compiled(MESSAGES).replace(b"plural=(n > 1)", b"plural=n();;;;")
    assert sorted(pairs_of(write(tmp_path / "a.mo", content))) == sorted(PAIRS)


def test_plurals_of_other_than_two_forms_are_left_out(tmp_path):
    messages = {"Open": "Otevřít", "file\0files": "soubor\0soubory\0souborů", "page\0pages": "strana"}
    assert pairs_of(write(tmp_path / "a.mo", compiled(messages))) == [("Open", "Otevřít")]


SOURCE = r"""
# A translator's comment
msgid ""
msgstr ""
"Content-Type: text/plain; charset=UTF-8\n"

#: file.c:12
msgid "Open"
msgstr "Ouvrir"
#, c-format
msgctxt "menu"
msgid "a \"quoted\" "
"word\n"
msgstr "un mot"
" entre \"guillemets\"\t\x41\101"

#, fuzzy
#| msgid "before"
msgid "uncertain"
msgstr "incertain"

msgid "one file"
msgid_plural "%d files"
msgstr[0] "un fichier"
msgstr[1] "%d fichiers"

msgid "untranslated"
msgstr ""

#~ msgid "obsolete"
#~ msgstr "obsolète"
"""


def test_a_source_catalog_is_read_by_its_rules(tmp_path):
    assert list(messages_of(write(tmp_path / "a.po", SOURCE))) == [
        ("8", "Open", "Ouvrir"),
        ("11", 'a "quoted" word', 'un mot entre "guillemets" AA'),
        ("22.one", "one file", "un fichier"),
        ("22.many", "%d files", "%d fichiers"),
        ("27", "untranslated", ""),
    ]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.mo", b"", "is no .mo file"),
        ("a.mo", b"PK\x03\x04" + bytes(40), "is no .mo file"),
        ("a.mo", compiled(MESSAGES)[:40], "unknown version, or cut off"),
        ("a.mo", compiled(MESSAGES)[:-30], "is cut off"),
        ("a.mo", struct.pack("<7I", 0x950412DE, 0, 1 << 31, 28, 28, 0, 0), "unknown version, or cut off"),
        ("a.mo", compiled(MESSAGES).replace(b"UTF-8", b"zip_8"), "unknown charset 'zip_8'"),
        ("a.mo", compiled(MESSAGES, "latin-1").replace(b"latin-1", b"utf-8  "), "its bytes are not utf-8"),
        ("a.po", 'msgid "a"\nmsgstr a\n', "line 2: is no line of a .po file"),
        ("a.po", '"a"\n', "line 1: is no line of a .po file"),
        ("a.po", b'msgid "a"\nmsgstr "\xff"\n', "line 1: its bytes are not utf-8"),
    ],
)
def test_damaged_catalogs_are_refused(tmp_path, name, content, message):
    with pytest.raises(BadInput, match=message.replace(".", r"\.")):
        pairs_of(write(tmp_path / name, content))


def opened(place, split="all", **choices):
    return open_source(Data((place,), signals=("source", "target"), text=TextChoices(**choices)), split)


@pytest.mark.parametrize(
    "names", [("fr/LC_MESSAGES/a.mo", "de/LC_MESSAGES/a.mo"), ("fr.po", "po/de.po"), ("fr/a.po", "de/b.po")]
)
def test_the_message_is_the_source_and_the_language_a_folder_or_file(tmp_path, names):
    pytest.importorskip("tokenizers")
    for name, translation in zip(names, ("Ouvrir", "Öffnen"), strict=True):
        content = f'msgid "Open"\nmsgstr "{translation}"\n'
        write(tmp_path / name, compiled({"Open": translation}) if name.endswith("mo") else content)
    assert splits(Data((tmp_path,), signals=("source",))) == ("train", "test")
    with pytest.raises(
        BadInput, match=r"catalogs in 2 languages \(de, fr\); choose source and target with `languages`"
    ):
        opened(tmp_path)
    assert opened(tmp_path, languages=("en", "fr")).sentences == {"source": ["Open"], "target": ["Ouvrir"]}
    with pytest.raises(BadInput, match="has no catalogs in it; it has: de, fr"):
        opened(tmp_path, languages=("en", "it"))


def test_a_single_catalog_is_read_alone_and_a_source_beside_its_compiled_one_is_not(tmp_path):
    pytest.importorskip("tokenizers")
    file = write(tmp_path / "fr" / "a.mo", compiled(MESSAGES))
    write(tmp_path / "fr" / "a.po", 'msgid "Other"\nmsgstr "Autre"\n')
    assert len(opened(file)) == len(opened(tmp_path)) == len(PAIRS)
    assert opened(tmp_path / "fr" / "a.po").sentences["target"] == ["Autre"]
