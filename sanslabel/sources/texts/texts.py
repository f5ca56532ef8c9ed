"""Texts as a source: sentences of one language, or sentences with their translations."""

from __future__ import annotations

import hashlib
import re
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from sanslabel.batch import Tokens
from sanslabel.errors import BadInput
from sanslabel.inputs import InputSpec, TextSpec
from sanslabel.sources.order import ByLength, Order
from sanslabel.sources.source import Loaded, Request, Source, Wanted
from sanslabel.sources.texts.text_split import DOCUMENTS, equal_texts, held_out, templates
from sanslabel.sources.texts.tokenizer import FILE, SIZE, Tokenizer
from sanslabel.wording import counted

LONGEST = 64
"""tokens that a sentence has by default at most, with its end"""
MULTIPLE = 8
"""the padded length of a batch is a multiple of this number, which suits matrix kernels"""
CHARACTERS = 100
"""characters for each token of the longest sentence, beyond which a text is left out without a look at its tokens"""
PLACEHOLDER = re.compile(r"%(?:\(\w+\))?[-+ #0]*[\d.*]*[a-zA-Z]|\{\w*\}|\$\w+")
"""gaps that programs fill in: %s, %(name)d, {name}, $name"""


class Sentence(NamedTuple):
    """A sentence as a format reads it, with its translation if there is one."""

    document: str
    """path of its file, relative to the data"""
    place: int | str
    """its line, or another name that is unique in the document"""
    source: str
    target: str | None = None
    """None in texts of one language"""


class TokenLists(NamedTuple):
    """Texts as ids of tokens, without padding."""

    ids: Tensor
    """(M,) int32, the tokens of all texts"""
    begin: Tensor
    """(N,) int64, the first token of each text"""
    length: Tensor
    """(N,) int64, the number of its tokens, with the end"""

    def padded(self, index: Tensor, longest: int) -> Tokens:
        """Returns texts with zeros after their ends, up to `longest` tokens: rows (n,) -> ids (n, longest)."""
        length, place = self.length[index], torch.arange(longest)
        inside = place < length[:, None]
        token = torch.where(inside, self.begin[index][:, None] + place, 0)
        return Tokens(torch.where(inside, self.ids[token].long(), 0), length)

    def select(self, index: Tensor) -> TokenLists:
        """Returns the texts at these rows (n,)."""
        return TokenLists(self.ids, self.begin[index], self.length[index])


@dataclass(frozen=True, kw_only=True, eq=False)
class Texts(Source):
    """Sentences as the signal "source", and their translations, if there are any, as the signal "target".

    Both share one vocabulary. Samples with a sentence in common form a group. Batches have sentences of similar length,
    and are padded to the longest sentence of the batch of all processes.
    """

    sentences: Mapping[str, Sequence[str]]
    """the N texts of each signal"""
    tokens: Mapping[str, TokenLists]
    tokenizer: Tokenizer
    documents: Sequence[str]
    """names of the documents"""
    document: Tensor
    """(N,) int64, the place of each sample's document among `documents`"""
    place: Sequence[int | str]
    """the place of each sample in its document"""
    inputs: Mapping[str, InputSpec] = field(default_factory=dict)

    @cached_property
    def fingerprint(self) -> str:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Returns a SHA-256 of all sentences, of the vocabulary and of the longest length."""
        digest = hashlib.sha256(repr(sorted(self.inputs.items())).encode())
        for name in sorted(self.sentences):
            digest.update("\0".join([name, *self.sentences[name], ""]).encode("utf-8", "surrogatepass"))
        return digest.hexdigest()

    @property
    def files(self) -> Mapping[str, bytes]:
        return {FILE: self.tokenizer.content}

    @property
    def order(self) -> Order:
        """Returns an order of batches of similar length."""
        return ByLength(torch.stack([tokens.length for tokens in self.tokens.values()]).sum(0))

    def id(self, index: int) -> str:
        return f"{self.documents[int(self.document[index])]}:{self.place[index]}"

    def load(self, request: Request) -> Loaded:
        index = request.index.cpu()
        batch = index if request.batch is None else request.batch.cpu()
        signals = {name: tokens.padded(index, self._padded_length(name, batch)) for name, tokens in self.tokens.items()}
        return Loaded(index, signals, [])

    def subset(self, index: Tensor) -> Self:
        chosen = index.tolist()
        return replace(
            self,
            labels=self.labels[index],
            group=None if self.group is None else self.group[index],
            sentences={name: [texts[row] for row in chosen] for name, texts in self.sentences.items()},
            tokens={name: tokens.select(index) for name, tokens in self.tokens.items()},
            document=self.document[index],
            place=[self.place[row] for row in chosen],
        )

    def _padded_length(self, name: str, batch: Tensor) -> int:
        """Returns the length to which a signal is padded for the rows of a batch."""
        longest, spec = int(self.tokens[name].length[batch].max()), self.inputs[name]
        assert isinstance(spec, TextSpec)
        return min(-(-longest // MULTIPLE) * MULTIPLE, spec.length)


def texts_from(
    sentences: Mapping[str, Iterable[Sentence]], name: str, split: str, wanted: Wanted, messages: bool = False
) -> Texts:
    """Returns the sentences of one split, or of "all".

    sentences: those of "train" and "test", or those of "all", of which a twentieth is then held out for the test, see
    `text_split`. messages: True for texts of programs, of which equal and wordless translations are left out.

    Left out and counted are sentences without text, copies of others, and those of more than the longest length. The
    vocabulary is that of `wanted`, or is made of the training split alone. Raises BadInput if nothing remains.
    """
    longest = wanted.text.longest or LONGEST
    kept = _Kept(messages, CHARACTERS * longest)
    for of_split in sorted(sentences):  # test before train, so that a copy in both is not trained on
        for sentence in sentences[of_split]:
            kept.add(sentence, of_split)
    kept.check_not_empty(name)
    trained, tested = kept.divided()
    chosen = {"train": trained, "test": tested}.get(split, np.sort(np.concatenate([trained, tested])))
    if not len(chosen):
        raise BadInput(f"{name}: has no sentences for its {split} split, since all are repeated; give more sentences.")
    tokenizer = wanted.text.tokenizer
    if tokenizer is None:
        training = (of_signal[row] for of_signal in kept.signals.values() for row in trained.tolist())
        tokenizer = Tokenizer.trained(training, wanted.text.vocabulary or SIZE)
    texts = {signal: [of_signal[row] for row in chosen.tolist()] for signal, of_signal in kept.signals.items()}
    tokens = {signal: _tokens(tokenizer, of_signal, longest) for signal, of_signal in texts.items()}
    fitting = torch.stack([of_signal.length <= longest for of_signal in tokens.values()]).all(0)
    if not fitting.any():
        raise BadInput(
            f"{name}: each of the {counted(len(fitting), 'sentence')} of its {split} split has more than {longest}"
            " tokens; raise --longest."
        )
    group = equal_texts(list(texts.values()))
    source = Texts(
        name=name,
        split=split,
        labels=torch.full((len(chosen),), -1),
        classes=(),
        group=torch.from_numpy(group) if len(np.unique(group)) < len(group) else None,
        sentences=texts,
        tokens=tokens,
        tokenizer=tokenizer,
        documents=list(kept.documents),
        document=torch.from_numpy(np.array(kept.document)[chosen]),
        place=[kept.place[row] for row in chosen.tolist()],
        noun="pair of sentences" if "target" in tokens else "sentence",
        inputs=dict.fromkeys(tokens, TextSpec(vocabulary=tokenizer.size, length=longest, tokenizer=tokenizer.sha256)),
        remarks=kept.remarks(int((~fitting).sum()), longest),
    )
    return source if fitting.all() else source.subset(fitting.nonzero()[:, 0])


def _tokens(tokenizer: Tokenizer, texts: Sequence[str], longest: int) -> TokenLists:
    """Returns the tokens of texts. Those of texts that are too long are left out, and only counted."""
    ids, lengths = array("i"), array("q")
    for of_text in tokenizer.encode(texts):
        ids.extend(of_text if len(of_text) <= longest else ())
        lengths.append(len(of_text))
    length = torch.from_numpy(np.array(lengths))  # torch.tensor would convert one number after the other
    stored = torch.where(length <= longest, length, 0)
    return TokenLists(torch.from_numpy(np.array(ids)), stored.cumsum(0) - stored, length)


class _Kept:
    """The sentences that are kept, as columns, and the number of others by the reason why they are left out."""

    def __init__(self, messages: bool, longest: int) -> None:
        self.messages, self.longest, self.too_long = messages, longest, 0
        self.signals: dict[str, list[str]] = {}
        self.documents: dict[str, int] = {}
        self.document, self.place, self.split = array("q"), list[int | str](), list[str]()
        self.left_out, self.held_out = Counter[str](), ""
        self._known = set[tuple[str, str | None]]()

    def add(self, sentence: Sentence, split: str) -> None:
        """Keeps a sentence, or counts the reason why it is left out."""
        if max(len(sentence.source), len(sentence.target or "")) > self.longest:
            self.too_long += 1
            return
        source, target = sentence.source.strip(), None if sentence.target is None else sentence.target.strip()
        if reason := self._reason(source, target):
            self.left_out[reason] += 1
            return
        self._known.add((source, target))
        texts = {"source": source} if target is None else {"source": source, "target": target}
        for signal, text in texts.items():
            self.signals.setdefault(signal, []).append(text)
        self.document.append(self.documents.setdefault(sentence.document, len(self.documents)))
        self.place.append(sentence.place)
        self.split.append(split)

    def _reason(self, source: str, target: str | None) -> str:
        """Returns the reason why a sentence is left out, or "" if it is kept."""
        if not source or target == "":
            return "empty" if target is None else "with an empty side"
        if self.messages and source == target:
            return "not translated"
        if self.messages and not (_has_word(source) and _has_word(target or source)):
            return "without words"
        return "repeated" if (source, target) in self._known else ""

    def check_not_empty(self, name: str) -> None:
        """Raises BadInput if no sentence is kept."""
        if self.signals:
            return
        if self.too_long:
            self.left_out["of very many characters"] = self.too_long
        if not self.left_out:
            raise BadInput(f"{name}: has no sentences; give a file with a sentence in each line.")
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in self.left_out.items())
        raise BadInput(f"{name}: has no sentence that can be used ({reasons}); give sentences with their translations.")

    def divided(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns the rows of the training split and of the test split, in their order."""
        split = np.array(self.split)
        if "all" not in self.split:
            return np.flatnonzero(split == "train"), np.flatnonzero(split == "test")
        template, document = templates(list(self.signals.values())), np.array(self.document)
        place = held_out(template, self.signals["source"], document, list(self.documents))
        trained, tested, neither = (np.flatnonzero(place == number) for number in range(3))
        whole_documents = len(self.documents) >= DOCUMENTS
        self.held_out = (
            f"Held out for the test, by {'document' if whole_documents else 'template'}: {len(tested):,} of"
            f" {len(place):,}"
        )
        if len(neither):
            self.held_out += f", and {len(neither):,} more that are like sentences of the training"
        return trained, tested

    def remarks(self, too_long: int, longest: int) -> tuple[str, ...]:
        """Returns sentences on what is left out, and on what is held out."""
        reasons = [f"{count:,} {reason}" for reason, count in self.left_out.items()]
        too_long += self.too_long
        reasons += [f"{too_long:,} of more than {longest} tokens"] if too_long else []
        remarks = [f"Sentences that are left out: {', '.join(reasons)}."] if reasons else []
        return (*remarks, *([f"{self.held_out}."] if self.held_out else []))


def _has_word(text: str) -> bool:
    """Returns True if the text has a letter outside of placeholders such as %s and {name}."""
    return any(character.isalpha() for character in PLACEHOLDER.sub("", text))
