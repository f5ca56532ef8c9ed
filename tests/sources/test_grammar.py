"""Numbers in words, dates and clauses: against num2words, and by the rules of both grammars."""

from datetime import date
from itertools import product

import pytest

from sanslabel.sources.formats import numbers
from sanslabel.sources.texts.grammar import (
    BEINGS,
    ORDINALS,
    QUALITIES,
    THINGS,
    VERBS,
    Clause,
    Phrase,
    date_in_words,
    english,
    english_year,
    french,
    sentence_of,
)

CAT, TREE, HOUSE, MOUSE = BEINGS[0], THINGS[1], THINGS[0], BEINGS[5]
SMALL, OLD, STRANGE = QUALITIES[0], QUALITIES[3], QUALITIES[6]
SEE, LOVE = VERBS[:2]
VALUES = [
    *range(1000),
    *(10**k + j for k in range(3, 9) for j in (-1, 0, 1, 80, 81, 100, 200)),
    *(k * 10**j for j in (3, 6) for k in (2, 21, 71, 80, 81, 200, 280, 999)),
    *range(0, 10**9, 9_999_991),
]


def test_numbers_are_those_of_num2words():
    num2words = pytest.importorskip("num2words").num2words
    for number in VALUES:
        assert english(number) == num2words(number, lang="en").replace(",", ""), number
        assert french(number) == num2words(number, lang="fr"), number
    for year in range(1100, 2000, 3):
        assert english_year(year) == num2words(year, lang="en", to="year"), year
    assert list(ORDINALS[1:]) == [num2words(day, lang="en", to="ordinal") for day in range(1, 32)]


@pytest.mark.parametrize(
    ("number", "in_english", "in_french"),
    [
        (80, "eighty", "quatre-vingts"),
        (81, "eighty-one", "quatre-vingt-un"),
        (97, "ninety-seven", "quatre-vingt-dix-sept"),
        (71, "seventy-one", "soixante et onze"),
        (105, "one hundred and five", "cent cinq"),
        (200, "two hundred", "deux cents"),
        (200_000, "two hundred thousand", "deux cent mille"),
        (80_080, "eighty thousand and eighty", "quatre-vingt mille quatre-vingts"),
        (2_000_000, "two million", "deux millions"),
    ],
)
def test_numbers_in_words(number, in_english, in_french):
    assert (english(number), french(number)) == (in_english, in_french)


def test_dates_name_the_day_of_the_week_and_the_first():
    assert date_in_words(date(1905, 5, 1)) == (
        "Monday the first of May, nineteen oh-five",
        "le lundi premier mai mille neuf cent cinq",
    )


@pytest.mark.parametrize(
    ("phrase", "in_english", "in_french"),
    [
        (Phrase(CAT, "the", 1), "the cat", "le chat"),
        (Phrase(TREE, "the", 1), "the tree", "l'arbre"),
        (Phrase(HOUSE, "the", 2), "the houses", "les maisons"),
        (Phrase(MOUSE, "this", 2, SMALL), "these small mice", "ces petites souris"),
        (Phrase(TREE, "this", 1), "this tree", "cet arbre"),
        (Phrase(TREE, "a", 1, OLD), "an old tree", "un vieil arbre"),
        (Phrase(HOUSE, "a", 1, STRANGE), "a strange house", "une maison étrange"),
        (Phrase(TREE, "the", 1, SMALL), "the small tree", "le petit arbre"),
        (Phrase(HOUSE, "count", 21), "twenty-one houses", "vingt et une maisons"),
        (Phrase(CAT, "count", 80, OLD), "eighty old cats", "quatre-vingts vieux chats"),
    ],
)
def test_phrases_agree(phrase, in_english, in_french):
    assert (phrase.english, phrase.french()) == (in_english, in_french)


@pytest.mark.parametrize(
    ("clause", "in_english", "in_french"),
    [
        (Clause(Phrase(CAT, "the", 1), SEE, Phrase(TREE, "a", 1)), "the cat sees a tree", "le chat voit un arbre"),
        (
            Clause(Phrase(CAT, "the", 1), LOVE, Phrase(TREE, "a", 1), negated=True),
            "the cat does not love a tree",
            "le chat n'aime pas d'arbre",
        ),
        (
            Clause(Phrase(CAT, "count", 3), SEE, Phrase(HOUSE, "the", 1), negated=True, future=True),
            "three cats will not see the house",
            "trois chats ne verront pas la maison",
        ),
    ],
)
def test_clauses_agree(clause, in_english, in_french):
    assert (clause.english, clause.french) == (in_english, in_french)


def test_a_link_loses_its_vowel_before_another():
    clause = Clause(Phrase(CAT, "a", 1), SEE, Phrase(TREE, "the", 1))
    assert sentence_of([clause, clause], [2]) == (
        "a cat sees the tree because a cat sees the tree",
        "un chat voit l'arbre parce qu'un chat voit l'arbre",
    )


def test_no_vowels_meet_and_no_number_is_missing():
    for nouns, determiner, number, adjective in product(
        BEINGS + THINGS, ("the", "a", "this"), (1, 2), (None, *QUALITIES)
    ):
        phrase = Phrase(nouns, determiner, 1 if determiner == "a" else number, adjective).french()
        first, second = phrase.replace("'", "' ").split()[:2]
        if second[0] in "aeiouéèêh":
            assert first in {"l'", "un", "une", "cet", "cette", "les", "ces"}, phrase


def test_held_out_sentences_have_the_lengths_of_training_and_longer_ones_have_not():
    train, test = numbers._divided()
    longer = numbers._longer()
    assert not {sentence.source for sentence in train} & {sentence.source for sentence in test}
    assert {int(sentence.place) for sentence in train if sentence.document == "number"} >= set(range(100))
    values = [int(sentence.place) for sentence in train if sentence.document == "number"]
    assert max(values) < 10**6 <= min(int(s.place) for s in longer if s.document == "number")
    assert max(int(s.place) for s in test if s.document == "number") < 10**6

    def links(sentence) -> int:
        return sum(sentence.source.split().count(word) for word in ("and", "but", "because"))

    clauses = [sentence for sentence in [*train, *test] if sentence.document == "clause"]
    assert max(map(links, clauses[::10])) == 1 < min(links(s) for s in longer if s.document == "clause")
    assert 0.05 < len(test) / len(train) < 0.12
