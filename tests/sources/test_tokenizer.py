"""The vocabulary: every text comes back, the same texts give the same bytes, and a changed file is refused."""

import json
import os
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sanslabel.errors import BadInput
from sanslabel.sources.texts.tokenizer import BEGIN, END, PADDING, SMALLEST, Tokenizer

tokenizers = pytest.importorskip("tokenizers")
TEXTS = ["the cat sees the dog", "le chat voit le chien", "the small cats", "les petits chats"] * 5


@pytest.fixture(scope="module")
def vocabulary() -> Tokenizer:
    return Tokenizer.trained(TEXTS, 300)


@given(st.text())
@settings(max_examples=100, deadline=None)
def test_every_text_comes_back_from_its_ids(vocabulary, text):
    (ids,) = vocabulary.encode([text])
    assert vocabulary.decode(ids) == text
    assert ids[-1] == END
    assert all(END < token < vocabulary.size for token in ids[:-1])


def test_ids_are_padding_begin_end_bytes_and_merges(vocabulary):
    content = json.loads(vocabulary.content)["model"]
    tokens = sorted(content["vocab"], key=content["vocab"].get)
    assert tokens[:3] == ["<pad>", "<begin>", "<end>"]
    assert (PADDING, BEGIN, END) == (0, 1, 2)
    assert {len(token) for token in tokens[3:SMALLEST]} == {1}
    assert tokens[SMALLEST:] == list(dict.fromkeys(left + right for left, right in content["merges"]))
    assert len(tokens) == vocabulary.size <= 300


def test_words_that_are_frequent_are_one_token(vocabulary):
    ids = next(vocabulary.encode(["the cat"]))
    assert len(ids) == 3
    assert vocabulary.decode([0, 1, *ids, 0, 0]) == "the cat"


@pytest.mark.parametrize("text", ["<end>", "a <pad> b", "<begin>", "<end><end>"])
def test_names_of_special_tokens_in_a_text_are_text(vocabulary, text):
    (ids,) = vocabulary.encode([text])
    assert min(ids[:-1]) > END
    assert vocabulary.decode(ids) == text


def test_the_library_reads_the_file_alike(vocabulary):
    other = tokenizers.Tokenizer.from_str(vocabulary.content.decode())
    assert [*other.encode("les petits chiens").ids, END] == next(vocabulary.encode(["les petits chiens"]))


def test_another_process_makes_the_same_bytes(vocabulary):
    code = f"from sanslabel.sources.texts.tokenizer import Tokenizer; print(Tokenizer.trained({TEXTS!r}, 300).sha256)"
    environment = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONHASHSEED": "1"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | environment, check=True)
    assert done.stdout.strip() == vocabulary.sha256


def test_a_file_is_read_back(vocabulary, tmp_path):
    path = tmp_path / "tokenizer.json"
    path.write_bytes(vocabulary.content)
    assert Tokenizer.open(path, vocabulary.sha256) == vocabulary


def test_a_changed_or_missing_file_is_refused(vocabulary, tmp_path):
    path = tmp_path / "tokenizer.json"
    with pytest.raises(BadInput, match=r"tokenizer\.json cannot be read"):
        Tokenizer.open(path)
    path.write_bytes(vocabulary.content + b"\n")
    with pytest.raises(BadInput, match="is not the vocabulary that the encoder was trained with"):
        Tokenizer.open(path, vocabulary.sha256)


def changed(vocabulary: Tokenizer, change) -> bytes:
    content = json.loads(vocabulary.content)
    change(content)
    return json.dumps(content).encode()


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.pop("model"),
        lambda content: content["model"].update(vocab=[]),
        lambda content: content["model"].update(merges=[["x"]]),
        lambda content: content["model"].update(merges=[["cat", "dog"]]),
        lambda content: content["model"]["vocab"].update({"<pad>": 5}),
        lambda content: content["model"]["vocab"].update({"zzz": 10**9}),
        lambda content: content["model"]["vocab"].update({"zzz": "a"}),
        lambda content: content["model"]["vocab"].pop("!"),
    ],
)
def test_a_file_of_another_kind_is_refused(vocabulary, tmp_path, change):
    path = tmp_path / "tokenizer.json"
    path.write_bytes(changed(vocabulary, change))
    with pytest.raises(BadInput, match="put the vocabulary of the run there"):
        Tokenizer.open(path)


def test_nothing_but_tokens_and_merges_is_used_of_a_file(vocabulary, tmp_path):
    path = tmp_path / "tokenizer.json"
    path.write_bytes(changed(vocabulary, lambda content: content.update(normalizer={"type": "Lowercase"})))
    assert Tokenizer.open(path).decode(next(vocabulary.encode(["The Cat"]))) == "The Cat"
    assert next(Tokenizer.open(path).encode(["The Cat"])) == next(vocabulary.encode(["The Cat"]))


def test_a_size_without_room_for_bytes_is_refused():
    with pytest.raises(BadInput, match="258: must be 259 or more"):
        Tokenizer.trained(["a"], 258)


def test_a_missing_library_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(BadInput, match=r"pip install 'sanslabel\[text\]'"):
        Tokenizer.trained(["a"])
