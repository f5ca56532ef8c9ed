"""Numbers in words, dates and simple clauses in English and French, made by rules."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from functools import cache
from hashlib import blake2b
from pathlib import Path

import torch

from sanslabel.randomness import fold, integers
from sanslabel.sources.source import Source, Wanted
from sanslabel.sources.texts.grammar import (
    BEINGS,
    COLORS,
    DETERMINERS,
    LINKS,
    QUALITIES,
    THINGS,
    VERBS,
    VERBS_OF_THINGS,
    Clause,
    Noun,
    Phrase,
    date_in_words,
    english,
    french,
    sentence_of,
)
from sanslabel.sources.texts.texts import Sentence, texts_from

NAMES = ("numbers", "longer-numbers")
"""the second one has the same training split, and a test split of longer numbers and sentences"""
ALL_UP_TO = 10_000
"""numbers below this one are all in the set, trained on or tested"""
DIGITS, LONGER_DIGITS = (5, 6), (7, 8, 9)
"""digits of drawn numbers, and of longer ones"""
OF_EACH = 4000
"""numbers that are drawn with each count of digits"""
DATES, CLAUSES = 8000, 14_000
"""dates and sentences of one or two clauses that are drawn"""
LONGER = 500
"""longer numbers with each count of digits, and longer sentences"""
KNOWN = 100
"""numbers below this one are always trained on, since longer ones are made of them"""
TESTED = 12
"""one of so many sentences is held out"""
YEARS = (1800, 2000)
WIDTH = 16
"""draws for a clause"""


def splits(data: str | Path) -> tuple[str, ...] | None:
    """Returns the splits of a set of that name; None for anything else."""
    return ("train", "test") if isinstance(data, str) and data in NAMES else None


def open_source(data: str | Path, split: str, wanted: Wanted) -> Source | None:
    """Returns the sentences of a split, or of "all"; None if there is no set of that name."""
    if splits(data) is None:
        return None
    train, test = _divided()
    tested = test if data == NAMES[0] else _longer()
    return texts_from({"train": train, "test": tested}, str(data), split, wanted)


@cache
def _divided() -> tuple[tuple[Sentence, ...], tuple[Sentence, ...]]:
    """Returns the training sentences and the held-out ones, of the same lengths."""
    divided: tuple[list[Sentence], list[Sentence]] = ([], [])
    for number in _values():
        divided[number >= KNOWN and _tested(number)].append(_number(number))
    for place, (source, target) in enumerate([*_dates()]):
        divided[_tested(source)].append(Sentence("date", place, source, target))
    for place, (source, target) in enumerate(_sentences(CLAUSES, (1, 2), 2)):
        divided[_tested(source)].append(Sentence("clause", place, source, target))
    return tuple(divided[0]), tuple(divided[1])


@cache
def _longer() -> tuple[Sentence, ...]:
    """Returns sentences that are longer than all training sentences."""
    values = [_number(number) for digits in LONGER_DIGITS for number in _drawn(digits, LONGER)]
    clauses = enumerate(_sentences(LONGER, (3, 4), 3))
    return (*values, *(Sentence("clause", place, source, target) for place, (source, target) in clauses))


def _number(number: int) -> Sentence:
    return Sentence("number", number, english(number), french(number))


def _values() -> Iterator[int]:
    """Yields each number of the set once."""
    yield from range(ALL_UP_TO)
    for digits in DIGITS:
        yield from _drawn(digits, OF_EACH)


def _drawn(digits: int, count: int) -> list[int]:
    """Returns different numbers with so many digits."""
    key = fold(torch.arange(2 * count), digits)
    drawn = 10 ** (digits - 1) + integers(key, 1, 9 * 10 ** (digits - 1), 0)[:, 0]
    return list(dict.fromkeys(drawn.tolist()))[:count]


def _dates() -> Iterator[tuple[str, str]]:
    first, last = (date(year, 1, 1).toordinal() for year in YEARS)
    days = first + integers(fold(torch.arange(2 * DATES), 1), 1, last - first, 0)[:, 0]
    for day in list(dict.fromkeys(days.tolist()))[:DATES]:
        yield date_in_words(date.fromordinal(day))


def _sentences(count: int, clauses: tuple[int, int], seed: int) -> Iterator[tuple[str, str]]:
    """Yields sentences of a number of clauses between two bounds."""
    least, most = clauses
    draws = integers(fold(torch.arange(count), seed), (most + 1) * WIDTH, 1 << 30, 0).view(count, most + 1, WIDTH)
    for drawn in draws.tolist():
        number = least + drawn[most][0] % (most - least + 1)
        links = [drawn[most][1 + place] % len(LINKS) for place in range(number - 1)]
        yield sentence_of([_clause(drawn[place]) for place in range(number)], links)


def _clause(drawn: list[int]) -> Clause:
    """Returns the clause of 16 draws."""
    subject, about = _phrase(BEINGS, drawn[:5]), _phrase(BEINGS + THINGS, drawn[5:10])
    verbs = VERBS + VERBS_OF_THINGS if about.noun in THINGS else VERBS
    return Clause(subject, verbs[drawn[10] % len(verbs)], about, drawn[11] % 3 == 0, drawn[12] % 3 == 0)


def _phrase(nouns: tuple[Noun, ...], drawn: list[int]) -> Phrase:
    """Returns the phrase of five draws. The numbers in it are mostly small."""
    noun, determiner = nouns[drawn[0] % len(nouns)], DETERMINERS[drawn[1] % len(DETERMINERS)]
    count = 2 + drawn[2] % (98 if drawn[2] % 3 == 0 else 10) if determiner == "count" else 1 + drawn[2] % 2
    count = 1 if determiner == "a" else count
    adjectives = QUALITIES + COLORS if noun in THINGS else QUALITIES
    return Phrase(noun, determiner, count, adjectives[drawn[4] % len(adjectives)] if drawn[3] % 2 else None)


def _tested(value: int | str) -> bool:
    """Returns True for a sentence that is held out."""
    return int.from_bytes(blake2b(str(value).encode(), digest_size=4).digest()) % TESTED == 0
