"""Texts that someone else has made: they are read, or refused in one sentence, in little memory and soon."""

import os
import struct
import time
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sanslabel.errors import BadInput, SanslabelError
from sanslabel.sources import Data, Request, TextChoices, open_source, splits
from sanslabel.sources.texts.catalogs import messages_of
from sanslabel.sources.texts.pages import paragraphs_of
from tests.sources.test_catalogs import MESSAGES, SOURCE, compiled

pytest.importorskip("tokenizers")
QUICK = settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
PAGE = b'<html><body><h1 id="a">One</h1><p id="b" hidden>two<br>&amp; <b>three</b></p><p id="c">four</body></html>'
FILES = {
    "lines": ({"a.en": b"one cat\ntwo dogs\n", "a.fr": b"un chat\ndeux chiens\n"}, ()),
    "table": ({"a.tsv": b"one\tun\ntwo\tdeux\n"}, ()),
    "columns": ({"a.tsv": b"en\tfr\none\tun\ntwo\tdeux\n"}, ("en", "fr")),
    "compiled": ({"fr/a.mo": compiled(MESSAGES)}, ("en", "fr")),
    "catalog": ({"fr/a.po": SOURCE.encode()}, ("en", "fr")),
    "pages": ({"en/a.html": PAGE, "fr/a.html": PAGE.replace(b"One", b"Un")}, ()),
    "text": ({"a.txt": b"a line\nanother line\n"}, ()),
}
PIECES = [
    b"",
    b"\0",
    b"\n",
    b"\t",
    b"\xff",
    b"\xef\xbb\xbf",
    b'"',
    b"\\",
    b"<",
    b"<!--",
    b"&#x110000;",
    b"msgid",
    b"\r",
]


def tried(folder, languages) -> None:
    """Opens the data and loads a sample, or gets the project's own error."""
    message = "read"
    try:
        data = Data((folder,), signals=("source", "target"), text=TextChoices(languages=languages, vocabulary=260))
        if splits(data):
            source = open_source(data, "all")
            source.load(Request(source.labels.new_tensor([0])))
            source.id(0)
    except SanslabelError as error:
        message = str(error)
    assert 0 < len(message) < 2000
    assert "\n" not in message


@QUICK
@pytest.mark.parametrize("kind", FILES)
@given(data=st.data())
def test_changed_files(tmp_path, kind, data):
    files, languages = FILES[kind]
    for name, content in files.items():
        changed = bytearray(content)
        for _ in range(data.draw(st.integers(0, 3))):
            place = data.draw(st.integers(0, len(changed)))
            end = place + data.draw(st.sampled_from([0, 1, 4, 1000]))
            changed[place:end] = data.draw(st.sampled_from(PIECES) | st.binary(max_size=6))
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(changed)
    tried(tmp_path, languages)


@QUICK
@pytest.mark.parametrize("name", ["a.mo", "a.po", "a.html", "a.tsv", "a.txt"])
@given(content=st.binary(max_size=200))
def test_any_bytes(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    tried(tmp_path, ())


def test_a_file_larger_than_the_memory_is_refused_at_once(tmp_path):
    for name in ("a.txt", "a.tsv", "a.mo", "a.po"):
        with (tmp_path / name).open("wb") as opened:
            opened.truncate(1 << 40)  # a hole, which takes no room
        began = time.perf_counter()
        with pytest.raises(BadInput, match="too many for this machine's memory; split it up"):
            open_source(Data((tmp_path / name,), signals=("source",)))
        assert time.perf_counter() - began < 5


def test_catalogs_of_overlapping_texts_are_refused(tmp_path):
    count, size = 10_000, 1 << 20
    table = struct.pack("<2I", size, 28 + 16 * count) * count
    head = struct.pack("<7I", 0x950412DE, 0, count, 28, 28 + 8 * count, 0, 0)
    (tmp_path / "a.mo").write_bytes(head + table + table + b"a" * size)
    with pytest.raises(BadInput, match="its texts overlap"):
        list(messages_of(tmp_path / "a.mo"))


@pytest.mark.parametrize("piece", [b"<p id='a'>", b"<!--", b"<![", b"&#1", b"</p", b"<a b='", b"<span hidden>"])
def test_pages_of_one_piece_many_times_take_no_long_time(tmp_path, piece):
    (tmp_path / "a.html").write_bytes(piece * (300_000 // len(piece)))
    began = time.process_time()
    with suppress(BadInput):  # Python's parser does not read all of them
        paragraphs_of(tmp_path / "a.html")
    assert time.process_time() - began < 5


def test_very_long_lines_are_left_out(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"x" * 5_000_000 + b"\n" + b"y " * 2_000_000 + b"\na line\nanother\n")
    began = time.process_time()
    source = open_source(Data((tmp_path,), signals=("source",)), "all")
    assert time.process_time() - began < 5
    assert source.sentences["source"] == ["a line", "another"]
    assert "2 of more than 64 tokens" in source.remarks[0]


def test_a_link_in_a_circle_and_a_pipe_are_no_texts(tmp_path):
    (tmp_path / "circle").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "b.txt")
    with pytest.raises(BadInput, match="cannot be read"):
        open_source(Data((tmp_path,), signals=("source",)), "all")
