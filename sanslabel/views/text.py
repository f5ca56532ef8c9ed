"""Views of texts: as they are, and with tokens that the encoder must guess."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from sanslabel.batch import Batch, Tokens
from sanslabel.inputs import END
from sanslabel.randomness import integers, uniform
from sanslabel.views.encoder_input import EncoderInput

FIRST = END + 1
"""the first id that stands for text"""


@dataclass(frozen=True, kw_only=True)
class Text:
    """The text of a signal as it is."""

    signal: str = "source"

    def input(self, batch: Batch, stream: int = 0) -> EncoderInput:
        """Returns the ids of the tokens, (N, T) int64, the same for all streams."""
        return EncoderInput(batch.tokens(self.signal).ids)

    def plain(self, batch: Batch) -> EncoderInput:
        """Returns the same input."""
        return self.input(batch)


class Gaps(NamedTuple):
    """A text with tokens that are to be guessed."""

    ids: Tensor
    """(N, T) int64, the text with some of these tokens replaced by random ones"""
    hidden: Tensor
    """(N, T) bool, True at tokens that a mask token takes the place of"""
    guessed: Tensor
    """(N, T) bool, True at all tokens that are to be guessed: hidden, replaced, or left as they are"""


def gaps(key: Tensor, tokens: Tokens, share: float, replaced: float, kept: float, vocabulary: int) -> Gaps:
    """Returns texts in which each token, but not the end, is to be guessed with probability `share`.

    key: (N,), from which all is drawn. Of the tokens to be guessed, a share `replaced` becomes a random token, a share
    `kept` stays, and the others are hidden. Padding changes no draw. Devlin et al. 2019, section 3.1.
    """
    ids, length = tokens.ids, tokens.ids.shape[1]
    text = torch.arange(length, device=ids.device) < tokens.lengths[:, None] - 1
    guessed = text & (uniform(key, length, 1) < share)
    kind = uniform(key, length, 2)
    other = FIRST + integers(key, length, max(1, vocabulary - FIRST), 3)
    ids = torch.where(guessed & (kind < replaced), other, ids)
    return Gaps(ids, guessed & (kind >= replaced + kept), guessed)
