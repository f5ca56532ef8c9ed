"""Search for the text that a model predicts from left to right: greedy, and with a beam.

A model is a function of the last token of each text and of its memory of the texts so far. It returns the logits of the
next token, and its memory after that. Every text ends with the token END, which is forced at the longest length.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol, Self, TypeVar

import torch
from torch import Tensor

from sanslabel.inputs import BEGIN, END, PADDING


class Selectable(Protocol):
    """The memory that a model has of texts."""

    def select(self, index: Tensor) -> Self:
        """Returns the texts of `index`, (M,) int64, in that order."""
        ...


P = TypeVar("P", bound=Selectable)
Advance = Callable[[Tensor, P], tuple[Tensor, P]]
"""the model: the last token of each text, (M,) int64, and the progress -> logits (M, V), and the progress after it"""


class Hypotheses(NamedTuple):
    """The text that was found for each source."""

    ids: Tensor
    """(N, T) int64, with END, and 0 after it"""
    lengths: Tensor
    """(N,) int64, number of tokens with END"""
    log_likelihood: Tensor
    """(N,), Σ log p of the tokens"""


def length_penalty(length: Tensor | float, alpha: float) -> Tensor | float:
    """Returns ((5 + length) / 6)^α, by which the log-likelihood of a text is divided. Wu et al. 2016, eq. 14."""
    return ((5 + length) / 6) ** alpha


@torch.no_grad()
def greedy_search(advance: Advance[P], progress: P, count: int, longest: int, device: torch.device) -> Hypotheses:
    """Returns the text whose every token is the likeliest one after those before it.

    count: N, the number of texts; longest: the most tokens of a text, with END.
    """
    last = torch.full((count,), BEGIN, device=device)
    ended = torch.zeros(count, dtype=torch.bool, device=device)
    total, tokens = torch.zeros(count, device=device), []
    for place in range(longest):
        log_p, progress = _next(advance, last, progress, final=place == longest - 1)
        best, last = log_p.max(dim=1)
        last = last.masked_fill(ended, PADDING)
        total = total + best.masked_fill(ended, 0)
        tokens.append(last)
        ended = ended | (last == END)
        if ended.all():
            break
    ids = torch.stack(tokens, dim=1)
    return Hypotheses(ids, (ids != PADDING).sum(dim=1), total)


@torch.no_grad()
def beam_search(
    advance: Advance[P], progress: P, count: int, longest: int, device: torch.device, beam: int = 4, alpha: float = 1.0
) -> Hypotheses:
    """Returns the best of the texts that a search finds, which keeps `beam` unfinished texts of each source.

    In each step, all continuations are ranked by their log-likelihood. Those among the first `beam` that end are
    finished, and the first `beam` others go on. A source is done when it has `beam` finished texts; the best of them
    has the highest log-likelihood divided by its `length_penalty`. A beam of 1 is greedy search.

    count: N, the number of sources; longest: the most tokens of a text, with END; alpha: α of the penalty.
    """
    first = torch.arange(count, device=device)[:, None] * beam  # the row of each source's first text
    progress = progress.select(torch.arange(count, device=device).repeat_interleave(beam))
    ids = torch.zeros(count, beam, longest, dtype=torch.int64, device=device)
    score = torch.full((count, beam), -torch.inf, device=device)
    score[:, 0] = 0.0  # all texts are empty at first, and one of them is enough
    last = torch.full((count * beam,), BEGIN, device=device)
    finished, best, best_score = torch.zeros(count, device=device), torch.zeros_like(ids[:, 0]), score[:, 0] - torch.inf
    likelihood = torch.zeros(count, device=device)
    for place in range(longest):
        log_p, progress = _next(advance, last, progress, final=place == longest - 1)
        size = log_p.shape[1]
        every = (score[:, :, None] + log_p.unflatten(0, (count, beam))).flatten(1)  # (N, beam · V)
        top, choice = every.topk(min(2 * beam, every.shape[1]), dim=1)
        text, token = choice // size, choice % size
        ends = (token == END) & (top > -torch.inf)
        among = ends & (torch.arange(top.shape[1], device=device) < beam) & (finished < beam)[:, None]
        penalized = (top / length_penalty(place + 1, alpha)).masked_fill(~among, -torch.inf)
        value, which = penalized.max(dim=1)
        better = value > best_score
        ended = ids[torch.arange(count, device=device), text.gather(1, which[:, None])[:, 0]]
        ended[:, place] = END
        best = torch.where(better[:, None], ended, best)
        likelihood = torch.where(better, top.gather(1, which[:, None])[:, 0], likelihood)
        best_score = torch.where(better, value, best_score)
        finished = finished + among.sum(dim=1)
        if (finished >= beam).all():
            break
        # The first `beam` that do not end, in their order; a source may have fewer, whose rest stays at -inf.
        order = torch.argsort(ends.long(), dim=1, stable=True)[:, :beam]
        score = top.masked_fill(ends, -torch.inf).gather(1, order)
        text, token = text.gather(1, order), token.gather(1, order)
        ids = ids.gather(1, text[:, :, None].expand(-1, -1, longest))
        ids[:, :, place] = token
        last, progress = token.flatten(), progress.select((first + text).flatten())
    lengths = (best != PADDING).sum(dim=1)
    return Hypotheses(best[:, : int(lengths.max())], lengths, likelihood)


def _next(advance: Advance[P], last: Tensor, progress: P, final: bool) -> tuple[Tensor, P]:
    """Returns the log-likelihood of every token after the last one, (M, V) in float32, and the progress after that.

    Padding and begin are no tokens of a text: -inf. The final token is END.
    """
    logits, progress = advance(last, progress)
    log_p = logits.float().log_softmax(dim=1)
    token = torch.arange(log_p.shape[1], device=log_p.device)
    allowed = token == END if final else (token != PADDING) & (token != BEGIN)
    return log_p.masked_fill(~allowed, -torch.inf), progress
