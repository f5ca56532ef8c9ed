"""Search against exhaustive search and against its plain loop, with models whose next token is a table."""

from itertools import product
from math import log
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from sanslabel.beam_search import Hypotheses, beam_search, greedy_search, length_penalty
from sanslabel.inputs import BEGIN, END, PADDING

CPU = torch.device("cpu")
COUNT = 20


class Text(NamedTuple):
    """The source and the tokens so far, all that a model can read."""

    source: Tensor
    tokens: Tensor

    def select(self, index: Tensor) -> "Text":
        return Text(self.source[index], self.tokens[index])


def model(size: int, sharp: float = 2.0):
    """Random logits that depend on the source and on all tokens so far, through a hash."""

    def logits(source: int, tokens: list[int]) -> Tensor:
        generator = torch.Generator().manual_seed(hash((source, *tokens)) % 2**31)
        return sharp * torch.randn(size, generator=generator)

    def advance(last: Tensor, text: Text) -> tuple[Tensor, Text]:
        tokens = torch.cat([text.tokens, last[:, None]], dim=1)
        found = [logits(s, t) for s, t in zip(text.source.tolist(), tokens.tolist(), strict=True)]
        return torch.stack(found), text._replace(tokens=tokens)

    return logits, advance


def start(count: int = COUNT) -> Text:
    return Text(torch.arange(count), torch.zeros(count, 0, dtype=torch.int64))


def log_likelihood(logits, source: int, ids: list[int]) -> float:
    """Of a text as a whole, its tokens given."""
    before = [BEGIN]
    total = 0.0
    for token in ids:
        total += float(logits(source, before).log_softmax(0)[token])
        before.append(token)
    return total


def texts(found: Hypotheses) -> list[list[int]]:
    return [row[:length] for row, length in zip(found.ids.tolist(), found.lengths.tolist(), strict=True)]


def test_penalty_at_known_lengths():
    assert [length_penalty(n, 0.6) for n in (1, 10, 20)] == pytest.approx([1, 1.7329, 2.3544], abs=1e-4)
    assert length_penalty(7, 0.0) == 1


@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.0])
def test_a_beam_of_one_is_greedy(alpha):
    _, advance = model(7)
    one = beam_search(advance, start(), COUNT, 9, CPU, beam=1, alpha=alpha)
    greedy = greedy_search(advance, start(), COUNT, 9, CPU)
    assert texts(one) == texts(greedy)
    torch.testing.assert_close(one.log_likelihood, greedy.log_likelihood)
    assert len({len(text) for text in texts(greedy)}) > 2


def test_greedy_is_its_loop():
    logits, advance = model(7)
    for source, (found, total) in enumerate(
        zip(texts(g := greedy_search(advance, start(), COUNT, 5, CPU)), g.log_likelihood, strict=True)
    ):
        text = []
        while END not in text:
            scores = logits(source, [BEGIN, *text]).clone()
            scores[[PADDING, BEGIN]] = -torch.inf
            text.append(END if len(text) == 4 else int(scores.argmax()))
        assert found == text
        assert total.item() == pytest.approx(log_likelihood(logits, source, text), abs=1e-4)


@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.0])
@pytest.mark.parametrize(("size", "beam", "longest"), [(6, 6, 2), (6, 40, 3), (5, 40, 4)])
def test_a_beam_as_wide_as_all_texts_is_exhaustive(size, beam, longest, alpha):
    logits, advance = model(size)
    found = beam_search(advance, start(), COUNT, longest, CPU, beam=beam, alpha=alpha)
    tokens = range(3, size)
    every = [[*before, END] for n in range(longest) for before in product(tokens, repeat=n)]
    for source, (text, total) in enumerate(zip(texts(found), found.log_likelihood.tolist(), strict=True)):
        scores = [log_likelihood(logits, source, ids) / length_penalty(len(ids), alpha) for ids in every]
        best = max(range(len(every)), key=scores.__getitem__)
        assert text == every[best]
        assert total / length_penalty(len(text), alpha) == pytest.approx(scores[best], abs=1e-4)


def beam_by_loops(logits, source: int, longest: int, beam: int, alpha: float) -> list[int]:
    """One source alone, with lists."""
    alive, finished = [(0.0, [])], []
    for place in range(longest):
        ranked = []
        for score, text in alive:
            log_p = logits(source, [BEGIN, *text]).log_softmax(0)
            allowed = [END] if place == longest - 1 else range(2, len(log_p))
            ranked += [(score + float(log_p[token]), [*text, token]) for token in allowed]
        ranked.sort(key=lambda pair: -pair[0])
        finished += [(s / length_penalty(len(t), alpha), t) for s, t in ranked[:beam] if t[-1] == END]
        if len(finished) >= beam:
            break
        alive = [(s, t) for s, t in ranked if t[-1] != END][:beam]
    return max(finished)[1]


@pytest.mark.parametrize(("beam", "alpha"), [(1, 1.0), (2, 0.0), (3, 0.6), (4, 1.0)])
def test_a_beam_is_its_loop(beam, alpha):
    logits, advance = model(9)
    found = beam_search(advance, start(), COUNT, 8, CPU, beam=beam, alpha=alpha)
    for source, (text, total) in enumerate(zip(texts(found), found.log_likelihood.tolist(), strict=True)):
        assert text == beam_by_loops(logits, source, 8, beam, alpha)
        assert total == pytest.approx(log_likelihood(logits, source, text), abs=1e-4)


def test_a_wider_beam_finds_likelier_texts():
    _, advance = model(9)
    narrow, wide = (beam_search(advance, start(), COUNT, 6, CPU, beam=k, alpha=0.0) for k in (1, 8))
    assert (wide.log_likelihood >= narrow.log_likelihood - 1e-5).all()
    assert (wide.log_likelihood > narrow.log_likelihood + 1e-3).any()


def test_a_text_that_never_ends_is_ended():
    found = greedy_search(lambda last, text: (torch.eye(6)[[4]].expand(3, 6) * 99, text), start(3), 3, 5, CPU)
    assert found.ids.tolist() == [[4, 4, 4, 4, END]] * 3
    found = beam_search(lambda last, text: (torch.zeros(len(last), 4), text), start(3), 3, 4, CPU, beam=2, alpha=1.0)
    assert found.log_likelihood.tolist() == pytest.approx([-log(4) * len(text) for text in texts(found)])
