"""What is held out of texts: whole documents and whole templates, never one of two that are alike."""

import numpy as np
import pytest

from sanslabel.sources.texts.text_split import DOCUMENTS, SHARE, connected, equal_texts, held_out, templates, words

SENTENCES = [
    "documentation files for the library",
    "Documentation files for the compiler",
    "Open",
    "Close",
    "open",
    "development files for the library",
    "Page 3 of 10",
    "Page 4 of 12",
    "the quick brown fox jumps",
    "the quick brown dog jumps",
    "the quick red dog jumps",
    "the slow green cow sleeps",
]


def lowest(pairs: set[tuple[int, int]], count: int) -> list[int]:
    """Returns the lowest row that each is connected with, by walking over pairs."""
    found = list(range(count))
    for _ in range(count):
        for a, b in pairs:
            found[a] = found[b] = min(found[a], found[b])
    return found


def alike(one: str, other: str) -> bool:
    """Returns True for two texts that differ in at most one word of four or more."""
    a, b = words(one), words(other)
    different = sum(x != y for x, y in zip(a, b, strict=False))
    return len(a) == len(b) and (different == 0 or (different == 1 and len(a) >= 4))


def test_templates_are_those_of_a_loop():
    pairs = {(i, j) for i, a in enumerate(SENTENCES) for j, b in enumerate(SENTENCES) if alike(a, b)}
    expected = lowest(pairs, len(SENTENCES))
    assert templates([SENTENCES]).tolist() == expected
    assert expected == [0, 0, 2, 3, 2, 0, 6, 6, 8, 8, 8, 11]


def test_templates_are_shared_in_any_language():
    assert templates([["one thing", "another", "third"], ["ceci", "cela", "ceci"]]).tolist() == [0, 1, 0]


def test_random_templates_are_those_of_a_loop():
    drawn = np.random.default_rng(0).integers(0, 4, (80, 5))
    texts = [" ".join(f"w{'abcd'[word]}" for word in row[: 3 + row[0] % 3]) for row in drawn]
    pairs = {(i, j) for i, a in enumerate(texts) for j, b in enumerate(texts) if alike(a, b)}
    assert templates([texts]).tolist() == lowest(pairs, len(texts))


def test_a_long_chain_is_one_component():
    count = 1000
    rows = np.concatenate([np.arange(count), np.arange(count)])
    signatures = np.concatenate([np.arange(count), np.arange(count) + 1])
    assert (connected(rows[::-1], signatures[::-1], count) == 0).all()


def test_equal_texts_are_a_group():
    assert equal_texts([["a", "b", "a", "c"], ["1", "2", "3", "2"]]).tolist() == [0, 1, 0, 1]


def texts(count: int) -> list[str]:
    return [f"{'abcdefghij'[n % 10]}{'klmnopqrst'[n // 10 % 10]}{'uvwxyzabcd'[n // 100 % 10]}x" for n in range(count)]


def test_a_twentieth_is_held_out_by_template():
    lines = texts(1000)
    template = np.arange(1000) // 4 * 4
    split = held_out(template, lines, np.zeros(1000, np.int64), ["a.txt"])
    assert (split == 1).sum() == round(SHARE * 1000) // 4 * 4
    assert (split == 2).sum() == 0
    assert not set(template[split == 0]) & set(template[split == 1])


def test_whole_documents_are_held_out_and_what_is_like_training_belongs_to_neither_split():
    document = np.arange(1000) // 20  # 50 documents
    template = np.arange(1000)
    template[::20] = 0  # each document has one line that all have
    names = [f"page{number}" for number in range(50)]
    split = held_out(template, texts(1000), document, names)
    tested = set(document[split == 1])
    assert len(tested) == 2
    assert not tested & set(document[split == 0])
    assert (split == 2).sum() == 2
    assert not set(template[split == 1]) & set(template[split == 0])


def test_the_choice_depends_on_texts_not_on_their_order():
    lines = texts(400)
    nothing = np.zeros(400, np.int64)
    split = held_out(np.arange(400), lines, nothing, ["a"])
    backward = held_out(np.arange(400), lines[::-1], nothing, ["a"])
    assert np.array_equal(backward[::-1], split)


@pytest.mark.parametrize("count", [2, 3, 30])
def test_few_or_equal_templates_leave_something_for_both_splits(count):
    lines = texts(count)
    for template in (np.arange(count), np.zeros(count, np.int64), np.arange(count) // 2):
        split = held_out(template, lines, np.zeros(count, np.int64), ["a"])
        assert (split == 0).any()
        assert (split == 1).any()


def test_documents_below_twenty_are_not_held_out_as_a_whole():
    document = np.arange(1000) % (DOCUMENTS - 1)
    split = held_out(np.arange(1000), texts(1000), document, [str(n) for n in range(DOCUMENTS)])
    assert set(document[split == 1]) <= set(document[split == 0])
