"""Translations of texts by a trained model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import cast

import torch
from torch.nn.utils.rnn import pad_sequence

from sanslabel.batch import Tokens
from sanslabel.generation.model import Model, open_model
from sanslabel.inputs import TextSpec
from sanslabel.methods.abilities import Translates
from sanslabel.run_folder import vocabulary
from sanslabel.sources.texts.tokenizer import Tokenizer

READ = 256
"""texts that are read before the first of them is translated"""
TOGETHER = 32
"""texts of similar length that are translated together"""


def translations(
    run: str | Path, texts: Iterable[str], *, beam: int = 4, alpha: float = 1.0, device: str | None = None
) -> Iterator[str | None]:
    """Yields the translation of each text, in their order; None for a text that is longer than those of the training.

    Texts are read as they are needed, so that they may come from a stream. An empty one stays empty.

    beam: texts that the search keeps; 1 is greedy search. alpha: α of `beam_search.length_penalty`.
    Raises BadInput if the method does not translate, or if the run's vocabulary is missing or has changed.
    """
    model = open_model(run, Translates, device=device)
    spec = cast(TextSpec, model.plan.inputs["source"])
    tokenizer, remaining = vocabulary(model.run.path, spec), iter(texts)
    while some := list(islice(remaining, READ)):
        yield from _translated(model, tokenizer, some, spec.length, beam, alpha)


def _translated(
    model: Model, tokenizer: Tokenizer, texts: Sequence[str], longest: int, beam: int, alpha: float
) -> list[str | None]:
    """Returns the translations of some texts. Those of similar length are translated together.

    longest: tokens of a text at most.
    """
    method = model.require(Translates)
    ids = [torch.tensor(of_text) for of_text in tokenizer.encode([text.strip() for text in texts])]
    results: list[str | None] = [None if len(of_text) > longest else "" for of_text in ids]
    read = [row for row, result in enumerate(results) if result is not None and texts[row].strip()]
    by_length = sorted(read, key=lambda row: len(ids[row]))
    with model.computing():
        for begin in range(0, len(by_length), TOGETHER):
            similar = by_length[begin : begin + TOGETHER]
            lengths = torch.tensor([len(ids[row]) for row in similar], device=model.device)
            source = Tokens(pad_sequence([ids[row] for row in similar], batch_first=True).to(model.device), lengths)
            translated = method.translate(model.net, source, beam, alpha)
            for row, tokens in zip(similar, translated.ids.tolist(), strict=True):
                results[row] = tokenizer.decode(tokens)
    return results
