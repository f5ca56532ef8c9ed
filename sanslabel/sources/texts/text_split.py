"""The division of texts into training and test split, by document and by template.

Software and grammars repeat themselves: "documentation files for X" occurs hundreds of times. A sentence that was held
out at random would have a twin in training. So sentences with one template, or of one document, are held out together.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Sequence
from hashlib import blake2b

import numpy as np

SHARE = 0.05
"""share of the samples that is held out"""
DOCUMENTS = 20
"""documents from which on whole documents are held out"""
LONG = 4
"""words from which on sentences have one template if they differ in a single word"""
_FACTOR = np.uint64(0x9E3779B97F4A7C15)
_SOME = np.uint64(0xD6E8FEB86659FD93)
"""stands for any word"""


def templates(signals: Sequence[Sequence[str]]) -> np.ndarray:
    """Returns the template of each sample, (N,) int64, the lowest row of all with this template.

    signals: the texts of N samples in each language. Two samples share a template if their texts in one language are
    equal, or equal but for one word of four or more. Numbers count as equal, and so do capitals and small letters.
    """
    sample, signatures = [], []
    for language, texts in enumerate(signals):
        for of_texts, of_signatures in (_equal(texts), _one_word_apart(texts)):
            sample.append(of_texts)
            signatures.append(of_signatures ^ np.uint64(language))
    return connected(np.concatenate(sample), np.concatenate(signatures), len(signals[0]))


def equal_texts(signals: Sequence[Sequence[str]]) -> np.ndarray:
    """Returns a group for each sample, (N,) int64: the lowest row of all samples that have a text in common."""
    codes = [np.array([_hash(text) for text in texts], np.uint64) for texts in signals]
    sample = np.tile(np.arange(len(signals[0])), len(signals))
    return connected(
        sample, np.concatenate([c ^ np.uint64(language) for language, c in enumerate(codes)]), len(codes[0])
    )


def connected(sample: np.ndarray, signatures: np.ndarray, count: int) -> np.ndarray:
    """Returns for each of `count` rows the lowest row that it is connected with, (count,) int64. Rows with a common
    signature are connected, and so are all that are connected with the same row.

    sample, signatures: (M,) each, the rows and their signatures.
    """
    _, signatures = np.unique(signatures, return_inverse=True)
    lowest = np.arange(count)
    while True:
        of_signature = np.full(int(signatures.max(initial=-1)) + 1, count)
        np.minimum.at(of_signature, signatures, lowest[sample])
        lower = lowest.copy()
        np.minimum.at(lower, sample, of_signature[signatures])
        while not np.array_equal(shorter := lower[lower], lower):
            lower = shorter
        if np.array_equal(lower, lowest):
            return lowest
        lowest = lower


def held_out(template: np.ndarray, texts: Sequence[str], document: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """Returns the split of each sample, (N,) int64: 0 for training, 1 for test, 2 for neither.

    template: (N,), see `templates`; texts: the N texts of the first language; document: (N,) place in `names`.

    A twentieth of the samples is held out. If there are 20 documents or more, these are whole documents. Their samples
    belong to neither split if their template occurs in training. Otherwise samples are held out by template. The
    choice depends on names and texts alone.
    """
    if len(template) < 2:
        return np.zeros(len(template), np.int64)
    by_document = len(np.unique(document)) >= DOCUMENTS
    group = document if by_document else template
    present, group, sizes = np.unique(group, return_inverse=True, return_counts=True)
    keys = [_hash((names if by_document else texts)[int(row)]) for row in present]
    order, chosen, room = np.argsort(np.array(keys, np.uint64), kind="stable"), [], max(1, round(SHARE * len(template)))
    for place in order.tolist():
        if sizes[place] <= room:
            chosen.append(place)
            room -= sizes[place]
    if not chosen and len(present) > 1:
        chosen = [int(sizes.argmin())]
    split = np.isin(group, chosen).astype(np.int64)
    if not chosen:  # all samples have one template, such as lines of digits
        return held_out(np.arange(len(template)), texts, np.zeros(len(template), np.int64), names)
    trained = np.isin(template, template[split == 0])
    return np.where((split == 1) & trained, 2, split)


def _equal(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Returns all rows, and a signature of the words of each."""
    return np.arange(len(texts)), np.array([_hash(" ".join(words(text))) for text in texts], np.uint64)


def _one_word_apart(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Returns rows, and a signature of a row's words with any one of them left open, for each word of each text with
    four words or more: (M,) and (M,)."""
    known: dict[str, int] = {}
    counts, codes = array("q"), array("Q")  # lists would take five times the memory
    for text in texts:
        split = words(text)
        split = split if len(split) >= LONG else []
        counts.append(len(split))
        codes.extend(known.setdefault(word, _hash(word)) for word in split)
    count = np.array(counts, np.int64)
    row = np.repeat(np.arange(len(texts)), count)
    place = (np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)).astype(np.uint64)
    code = np.array(codes, np.uint64)
    with np.errstate(over="ignore"):
        weight = _mixed((place + np.uint64(1)) * _FACTOR)
        weighted = _mixed(code ^ weight)
        total = np.zeros(len(texts), np.uint64)
        np.add.at(total, row, weighted)
        return row, _mixed(total[row] - weighted + _mixed(weight ^ _SOME))


def _mixed(codes: np.ndarray) -> np.ndarray:
    """Returns a hash of each code, (n,) uint64, by the finalizer of MurmurHash3."""
    codes = (codes ^ (codes >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
    codes = (codes ^ (codes >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
    return codes ^ (codes >> np.uint64(33))


def words(text: str) -> list[str]:
    """Returns the words of a text in small letters, in which a word with a digit is "0"."""
    return ["0" if any(c.isdigit() for c in word) else word for word in re.findall(r"\w+", text.casefold())]


def _hash(text: str) -> int:
    """Returns a hash of 64 bits, the same in every process."""
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest())
