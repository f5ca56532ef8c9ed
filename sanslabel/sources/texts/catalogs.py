"""Catalogs of messages that programs translate, in gettext's formats .mo and .po.

The rules by which a language chooses among plural forms are formulas in a catalog's header. They are never evaluated,
and nothing else of a catalog is executed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from struct import Struct
from typing import NamedTuple

from sanslabel.errors import BadInput
from sanslabel.sources.texts.text_files import content_of

MAGIC = {b"\xde\x12\x04\x95": "<", b"\x95\x04\x12\xde": ">"}
"""the first bytes of a .mo file, and its order of bytes"""
CONTEXT = b"\x04"
"""stands between the context of a message and the message"""
FORMS = 2
"""plural forms of a language whose messages in the plural are read: one, and more than one"""
CHARSET = re.compile(rb"charset=([\w.:-]+)")
CHARSETS = re.compile(
    r"utf-?8|(us-)?ascii|iso[-_]?8859-\d{1,2}|(windows|cp)-?\d{3,4}|koi8-[rtu]|euc-?(jp|kr|tw|cn)|gb(k|2312|18030)"
    r"|big5(-?hkscs)?|shift[-_]?jis|tis-620"
)
"""charsets that catalogs are in; other codecs of Python may take long, or are none of text"""
QUOTED = re.compile(rb'"((?:[^"\\]|\\.)*)"\s*$')
FIELD = re.compile(rb"(msgctxt|msgid_plural|msgid|msgstr(?:\[(\d{1,3})\])?)\s*(?=\")")
ESCAPE = re.compile(rb"\\(?:([abfnrtv\\\"'?])|([0-7]{1,3})|x([0-9a-fA-F]{1,2}))")
ESCAPED = dict(zip(b"abfnrtv\\\"'?", b"\a\b\f\n\r\t\v\\\"'?", strict=True))


class Message(NamedTuple):
    """A message of a catalog and its translations."""

    place: int
    """the line of a .po file, or the number of the message in a .mo file"""
    message: bytes
    plural: bytes | None
    """the message for several things; None if it has no plural"""
    translations: tuple[bytes, ...]
    """the translation, or its plural forms"""


def messages_of(path: Path) -> Iterator[tuple[str, str, str]]:
    """Yields the place of each message, the message and its translation, with single spaces between words.

    A message with a plural gives two pairs if the language has two plural forms, and none otherwise. Messages that are
    marked as uncertain ("fuzzy") are left out. Raises BadInput if the file is damaged, or not text in its charset.
    """
    catalog = content_of(path)
    read = _compiled if path.suffix.lower() == ".mo" else _source
    charset = "utf-8"
    for message in read(catalog, path):
        if not message.message:  # the header
            charset = _charset(message.translations[0] if message.translations else b"", path)
            continue
        text, plural = (_text(raw, charset, path, message) for raw in (message.message, message.plural or b""))
        translations = [_text(raw, charset, path, message) for raw in message.translations]
        if message.plural is None and len(translations) == 1:
            yield str(message.place), text, translations[0]
        elif message.plural is not None and len(translations) == FORMS:
            yield f"{message.place}.one", text, translations[0]
            yield f"{message.place}.many", plural, translations[1]


def _compiled(catalog: bytes, path: Path) -> Iterator[Message]:
    """Yields the messages of a .mo file, the header first."""
    order = MAGIC.get(catalog[:4])
    if order is None or len(catalog) < 20:
        raise BadInput(f"{path}: is no .mo file, or damaged; fetch it again.")
    version, count, messages, translations = Struct(f"{order}4I").unpack_from(catalog, 4)
    pair, taken = Struct(f"{order}2I"), 0
    if version >> 16 > 1 or max(messages, translations) + 8 * count > len(catalog):
        raise BadInput(f"{path}: is a .mo file of an unknown version, or cut off; fetch it again.")
    for number in range(count):
        message, translation = (_slice(catalog, pair, table + 8 * number, path) for table in (messages, translations))
        taken += len(message) + len(translation)
        if taken > len(catalog):  # texts that overlap could be many times as large as the file
            raise BadInput(f"{path}: is damaged, since its texts overlap; fetch it again.")
        message = message.rpartition(CONTEXT)[2]
        one, several, plural = message.partition(b"\0")
        forms = tuple(translation.split(b"\0")) if several else (translation,)
        yield Message(number, one, plural if several else None, forms)


def _slice(catalog: bytes, pair: Struct, place: int, path: Path) -> bytes:
    """Returns the text whose length and beginning stand at a place. Raises BadInput if it is not in the file."""
    length, begin = pair.unpack_from(catalog, place)
    if begin + length > len(catalog):
        raise BadInput(f"{path}: is cut off; fetch it again.")
    return catalog[begin : begin + length]


class _Entry:
    """A message of a .po file while its lines are read."""

    def __init__(self) -> None:
        self.fields: dict[bytes, bytearray] = {}
        self.forms: dict[int, bytearray] = {}
        self.line, self.fuzzy = 0, False
        self.last: bytearray | None = None

    def begin(self, match: re.Match[bytes], number: int) -> None:
        """Begins the field that a line names."""
        name = bytes(match[1])
        self.line = self.line or number
        if name.startswith(b"msgstr"):
            self.last = self.forms.setdefault(int(match[2] or 0), bytearray())
        else:
            self.last = self.fields.setdefault(name, bytearray())

    @property
    def message(self) -> Message | None:
        """Returns the message, or None if it is incomplete or uncertain."""
        message, plural = self.fields.get(b"msgid"), self.fields.get(b"msgid_plural")
        if message is None or not self.forms or (self.fuzzy and message):
            return None
        forms = tuple(bytes(self.forms[number]) for number in sorted(self.forms))
        return Message(self.line, bytes(message), None if plural is None else bytes(plural), forms)


def _source(catalog: bytes, path: Path) -> Iterator[Message]:
    """Yields the messages of a .po file."""
    entry = _Entry()
    for number, raw in enumerate(catalog.splitlines(), 1):
        line = raw.strip()
        if line.startswith(b"#~"):  # an obsolete message
            continue
        field = FIELD.match(line)
        begins = line.startswith(b"#") or (field and field[1] in (b"msgctxt", b"msgid"))
        if begins and entry.forms:
            if entry.message is not None:
                yield entry.message
            entry = _Entry()
        if line.startswith(b"#,"):
            entry.fuzzy |= b"fuzzy" in line
        if not line or line.startswith(b"#"):
            continue
        if field is not None:
            entry.begin(field, number)
        quoted = QUOTED.match(line, 0 if field is None else field.end())
        if quoted is None or entry.last is None:
            raise BadInput(f"{path}, line {number}: is no line of a .po file; correct it, or take the file out.")
        entry.last += ESCAPE.sub(_unescaped, quoted[1])
    if entry.message is not None:
        yield entry.message


def _unescaped(match: re.Match[bytes]) -> bytes:
    """Returns the byte that an escape of the language C stands for."""
    if match[1]:
        return bytes([ESCAPED[match[1][0]]])
    return bytes([int(match[2], 8) & 0xFF if match[2] else int(match[3], 16)])


def _charset(header: bytes, path: Path) -> str:
    """Returns the charset that a header states, by default UTF-8. Raises BadInput for an unknown one."""
    stated = CHARSET.search(header)
    charset = stated[1].decode().lower() if stated else "utf-8"
    if charset == "charset":  # a template's
        return "utf-8"
    if not CHARSETS.fullmatch(charset):
        raise BadInput(f"{path}: has the unknown charset {charset[:40]!r}; convert it to UTF-8.")
    return charset


def _text(content: bytes, charset: str, path: Path, message: Message) -> str:
    """Returns the text of bytes, with single spaces between words. Raises BadInput if they do not fit the charset."""
    try:
        return " ".join(content.decode(charset).split())
    except (UnicodeError, LookupError) as error:
        place = f"message {message.place}" if path.suffix.lower() == ".mo" else f"line {message.place}"
        raise BadInput(f"{path}, {place}: its bytes are not {charset}; convert the file to UTF-8.") from error
