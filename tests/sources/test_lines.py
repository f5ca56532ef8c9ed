"""Text files with a sentence in each line: aligned files, folders of them, and texts of one language."""

from pathlib import Path

import pytest

from sanslabel.errors import BadInput
from sanslabel.sources import Data, TextChoices, open_source, splits

pytest.importorskip("tokenizers")
BOTH = ("source", "target")


def write(folder: Path, **files: str) -> Path:
    """Writes files whose names have an underscore in place of the last dot."""
    for name, text in files.items():
        path = folder / ".".join(name.rsplit("_", 1))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode())
    return folder


def opened(*places, split="all", signals=BOTH, **choices):
    return open_source(Data(places, signals=signals, text=TextChoices(**choices)), split)


def pairs_of(texts) -> list[tuple[str, ...]]:
    return list(zip(*texts.sentences.values(), strict=True))


def test_two_files_are_sentences_and_translations_in_their_order(tmp_path):
    write(tmp_path, a_fr="un\ndeux\n", b_txt="one\ntwo")
    texts = opened(tmp_path / "b.txt", tmp_path / "a.fr")
    assert pairs_of(texts) == [("one", "un"), ("two", "deux")]
    assert [texts.id(row) for row in range(2)] == ["b:1", "b:2"]


def test_a_folder_has_two_languages_of_which_the_first_in_the_alphabet_is_the_source(tmp_path):
    write(tmp_path, a_fr="un\ndeux", a_en="one\ntwo", b_en="three", b_fr="trois", README_txt="hello", c_en="alone")
    assert pairs_of(opened(tmp_path)) == [("one", "un"), ("two", "deux"), ("three", "trois")]
    assert pairs_of(opened(tmp_path, languages=("fr", "en")))[0] == ("un", "one")


def test_source_and_target_are_names_of_languages_too(tmp_path):
    assert pairs_of(opened(write(tmp_path, a_tgt="un", a_src="one"))) == [("one", "un")]


def test_of_more_languages_two_are_chosen(tmp_path):
    write(tmp_path, a_fr="un\ndeux", a_en="one\ntwo", a_de="eins\nzwei")
    with pytest.raises(BadInput, match=r"3 languages \(de, en, fr\); choose source and target with `languages`"):
        opened(tmp_path)
    assert pairs_of(opened(tmp_path, languages=("de", "fr")))[1] == ("zwei", "deux")
    with pytest.raises(BadInput, match=r"languages=.it.: .* has no texts in it; it has: de, en, fr"):
        opened(tmp_path, languages=("en", "it"))
    with pytest.raises(BadInput, match="give two languages"):
        opened(tmp_path, languages=("en",))


@pytest.mark.parametrize("names", [("train", "test", "val"), ("train/a", "test/a", "valid/a"), ("train.1", "val", "x")])
def test_files_state_their_splits(tmp_path, names):
    for number, name in enumerate(names):
        write(
            tmp_path, **{f"{name}_en": f"word {number}\nother {number}", f"{name}_fr": f"mot {number}\nautre {number}"}
        )
    assert splits(Data((tmp_path,), signals=BOTH)) == ("train", "test")
    assert [text.split()[1] for text in opened(tmp_path, split="train").sentences["source"]] == ["0", "0"]
    assert [text.split()[1] for text in opened(tmp_path, split="test").sentences["source"]] == ["1", "1"]
    assert len(opened(tmp_path)) == 4


def test_unequal_numbers_of_lines_are_refused_with_both(tmp_path):
    write(tmp_path, a_en="one\ntwo\n", a_fr="un\ndeux\ntrois\nquatre")
    for first, second in (("en", "fr"), ("fr", "en")):
        with pytest.raises(BadInput) as refused:
            opened(tmp_path / f"a.{first}", tmp_path / f"a.{second}")
        assert f"{tmp_path}/a.en has 2 lines" in str(refused.value)
        assert f"{tmp_path}/a.fr has 4 lines" in str(refused.value)


def test_only_a_line_feed_ends_a_line(tmp_path):
    source, target = "one\u2028more\r\ntwo\x0b\x85.\r\n\r\nfour", "un\ndeux\ntrois\nquatre"
    texts = opened(write(tmp_path, a_en=source, a_fr=target))
    assert pairs_of(texts) == [("one\u2028more", "un"), ("two\x0b\x85.", "deux"), ("four", "quatre")]


def test_a_byte_order_mark_is_no_text(tmp_path):
    texts = opened(write(tmp_path, a_en="\ufeffone\ntwo", a_fr="\ufeffun\ndeux"))
    assert pairs_of(texts)[0] == ("one", "un")


def test_bytes_that_are_not_utf8_are_refused_with_file_and_line(tmp_path):
    write(tmp_path, a_en="one\ntwo\nthree", a_fr="un\ndeux\ntrois")
    (tmp_path / "a.fr").write_bytes("un\ndeux\nété".encode("latin-1"))
    with pytest.raises(BadInput, match=r"a\.fr, line 3: byte 0xe9 is not UTF-8; convert"):
        opened(tmp_path)


def test_text_files_are_texts_of_one_language(tmp_path):
    write(tmp_path, **{"a/one_txt": "first line\n\nsecond line\n", "two_txt": "third line\nfirst line"})
    texts = opened(tmp_path, signals=("source",))
    assert list(texts.sentences) == ["source"]
    assert texts.sentences["source"] == ["first line", "second line", "third line"]
    assert texts.id(2) == "two.txt:1"
    one = opened(tmp_path / "a" / "one.txt", signals=("source",))
    several = opened(tmp_path / "a" / "one.txt", tmp_path / "two.txt", signals=("source",))
    assert (len(one), len(several)) == (2, 3)


def test_one_sided_and_empty_corpora_are_refused(tmp_path):
    with pytest.raises(BadInput, match=r"no sentence that can be used \(2 with an empty side\)"):
        opened(write(tmp_path / "a", a_en="one\ntwo", a_fr="\n\n"))
    with pytest.raises(BadInput, match="has no sentences"):
        opened(write(tmp_path / "b", a_en="", a_fr=""))


def test_other_than_two_files_of_translations_are_refused(tmp_path):
    write(tmp_path, a_txt="a", b_txt="b", c_txt="c")
    with pytest.raises(BadInput, match="3 text files; name two"):
        opened(*(tmp_path / f"{name}.txt" for name in "abc"))
    with pytest.raises(BadInput, match="is a folder; name it alone"):
        opened(tmp_path, tmp_path / "a.txt")


def test_a_method_of_pictures_does_not_read_texts(tmp_path):
    write(tmp_path, a_en="one", a_fr="un")
    with pytest.raises(BadInput, match="holds no images"):
        opened(tmp_path, signals=("image",))


def test_texts_too_large_for_the_memory_are_refused_before_they_are_read(tmp_path, monkeypatch):
    write(tmp_path, a_en="one", a_fr="un")
    monkeypatch.setattr("sanslabel.sources.texts.text_files.main_memory", lambda: 10)
    with pytest.raises(BadInput, match="3 bytes, too many for this machine's memory"):
        opened(tmp_path)
