"""The vocabulary of texts: bytes, and the pairs that are most frequent in the training texts."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from sanslabel.errors import BadInput, bad_input_as
from sanslabel.inputs import BEGIN, END, PADDING
from sanslabel.serialization import parse_json

SPECIAL = ("<pad>", "<begin>", "<end>")
"""names of these tokens in the file"""
FILE = "tokenizer.json"
"""name of the vocabulary in a run folder"""
SIZE = 4096
"""tokens that a vocabulary has by default, at most"""
SMALLEST = len(SPECIAL) + 256
"""tokens of a vocabulary without pairs"""
LEAST_COUNT = 2
"""times that a pair occurs at least in the training texts"""
LARGEST_FILE = 1 << 26
"""bytes of a vocabulary file, at most"""
_AT_ONCE = 4096
"""texts that are encoded at a time, which bounds the memory"""


@dataclass(frozen=True)
class Tokenizer:
    """Byte-level byte-pair encoding (Sennrich et al. 2016; Radford et al. 2019), by the library `tokenizers`.

    The ids are 0 for padding, 1 for begin, 2 for end, then the 256 bytes, then pairs of tokens in the order of their
    merges. Pairs do not cross the borders of words. Every text comes back from its ids unchanged.
    """

    content: bytes
    """the content of tokenizer.json, in the format of the library"""

    @classmethod
    def trained(cls, texts: Iterable[str], size: int = SIZE) -> Tokenizer:
        """Returns the vocabulary of these texts, with up to `size` tokens. The same texts give the same bytes. Raises
        BadInput for a size without room for all bytes."""
        if size < SMALLEST:
            raise BadInput(f"--vocabulary {size}: must be {SMALLEST} or more, which are single bytes.")
        library = _library()
        tokenizer = _assembled(library, library.models.BPE())
        trainer = library.trainers.BpeTrainer(
            vocab_size=size,
            min_frequency=LEAST_COUNT,
            special_tokens=list(SPECIAL),
            initial_alphabet=sorted(library.pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        tokenizer.train_from_iterator(texts, trainer)
        return cls(tokenizer.to_str().encode())

    @classmethod
    def open(cls, path: Path, sha256: str = "") -> Tokenizer:
        """Returns the vocabulary in a file. Raises BadInput if there is none, or if it is not the one of the
        SHA-256."""
        with bad_input_as(path, "put the vocabulary of the run there"), path.open("rb") as file:
            content = file.read(LARGEST_FILE)
        tokenizer = cls(content)
        if sha256 and tokenizer.sha256 != sha256:
            raise BadInput(
                f"{path}: is not the vocabulary that the encoder was trained with (its SHA-256 was {sha256[:12]}…); put"
                " that one back, or start a new run."
            )
        with bad_input_as(path, "put the vocabulary of the run there"):
            _ = tokenizer.size
        return tokenizer

    @cached_property
    def sha256(self) -> str:
        """Returns the SHA-256 of the file in hexadecimal."""
        return hashlib.sha256(self.content).hexdigest()

    @cached_property
    def size(self) -> int:
        """Returns the number of tokens, with padding, begin and end."""
        return self._tokenizer.get_vocab_size()

    def encode(self, texts: Sequence[str]) -> Iterator[list[int]]:
        """Yields the ids of each text, followed by the id of the end."""
        for begin in range(0, len(texts), _AT_ONCE):
            for encoding in self._tokenizer.encode_batch_fast(list(texts[begin : begin + _AT_ONCE])):
                yield [*encoding.ids, END]

    def decode(self, ids: Iterable[int]) -> str:
        """Returns the text of ids up to the first end, without padding and begin. Bytes that make no character become
        the replacement character."""
        kept = []
        for token in ids:
            if token == END:
                break
            if token not in (PADDING, BEGIN):
                kept.append(token)
        return self._tokenizer.decode(kept, skip_special_tokens=False)

    @cached_property
    def _tokenizer(self) -> Any:
        """Returns the library's tokenizer, made anew from the tokens and merges of the file: nothing else of the file
        is used. Raises ValueError for other tokens than those of a trained vocabulary."""
        library, model = _library(), parse_json(self.content)["model"]
        tokens, merges = dict(model["vocab"]), [(str(left), str(right)) for left, right in model["merges"]]
        if sorted(tokens.values()) != list(range(len(tokens))):
            raise ValueError("its tokens are not numbered without gaps")
        if any(tokens.get(name) != place for place, name in enumerate(SPECIAL)):
            raise ValueError("padding, begin and end are not its first tokens")
        if not tokens.keys() >= set(library.pre_tokenizers.ByteLevel.alphabet()):
            raise ValueError("it lacks single bytes")
        tokenizer = _assembled(library, library.models.BPE(vocab=tokens, merges=merges))
        tokenizer.add_special_tokens(list(SPECIAL))
        tokenizer.encode_special_tokens = True  # "<end>" in a text is five characters, not the end
        return tokenizer


def _assembled(library: Any, model: Any) -> Any:
    """Returns a tokenizer around a model, which reads and writes bytes."""
    tokenizer = library.Tokenizer(model)
    tokenizer.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = library.decoders.ByteLevel()
    return tokenizer


def _library() -> Any:
    """Returns the library `tokenizers`. Raises BadInput if it is not installed."""
    try:
        import tokenizers
        from tokenizers import decoders, models, pre_tokenizers, trainers  # noqa: F401
    except ImportError as error:
        raise BadInput(f"Texts need the library tokenizers ({error}); pip install 'sanslabel[text]'.") from error
    return tokenizers
