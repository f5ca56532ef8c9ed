"""Tables of sentences and translations."""

import pytest

from sanslabel.errors import BadInput
from sanslabel.sources import Data, TextChoices, open_source

pytest.importorskip("tokenizers")


def opened(place, split="all", **choices):
    return open_source(Data((place,), signals=("source", "target"), text=TextChoices(**choices)), split)


def test_two_columns_are_source_and_target(tmp_path):
    (tmp_path / "a.tsv").write_bytes(b"one\tun\r\n\r\ntwo\tdeux")
    texts = opened(tmp_path / "a.tsv")
    assert texts.sentences == {"source": ["one", "two"], "target": ["un", "deux"]}
    assert texts.id(1) == "a.tsv:3"


def test_columns_are_chosen_by_the_names_in_the_first_line(tmp_path):
    (tmp_path / "a.tsv").write_text("id\tfr\ten\n1\tun\tone\n2\tdeux\ttwo\n")
    assert opened(tmp_path, languages=("en", "fr")).sentences == {"source": ["one", "two"], "target": ["un", "deux"]}
    with pytest.raises(BadInput, match=r"name two columns of .*a\.tsv, whose first line has: id, fr, en"):
        opened(tmp_path, languages=("en", "de"))
    with pytest.raises(BadInput, match="has 3 columns; give two with a tab between"):
        opened(tmp_path)


def test_files_of_a_folder_state_their_splits(tmp_path):
    (tmp_path / "train.tsv").write_text("one\tun\ntwo\tdeux\n")
    (tmp_path / "test.tsv").write_text("three\ttrois\n")
    assert opened(tmp_path, "train").sentences["source"] == ["one", "two"]
    assert opened(tmp_path, "test").sentences["target"] == ["trois"]


def test_a_line_of_other_columns_is_refused_with_its_number(tmp_path):
    for line, count in ((b"two", "1 column"), (b"two\tdeux\tzwei", "3 columns")):
        (tmp_path / "a.tsv").write_bytes(b"one\tun\n" + line)
        with pytest.raises(BadInput, match=rf"a\.tsv, line 2: has {count}, and the first line has 2"):
            opened(tmp_path)


def test_bytes_that_are_not_utf8_are_refused(tmp_path):
    (tmp_path / "a.tsv").write_bytes(b"one\tun\ntwo\td\xe9")
    with pytest.raises(BadInput, match=r"line 2: byte 0xe9 is not UTF-8"):
        opened(tmp_path)
