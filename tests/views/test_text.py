"""Views of texts: what is to be guessed, how it is hidden, and that padding and processes change no draw."""

import torch
from torch.nn.functional import pad

from bench.sequences import sequences
from sanslabel.batch import Batch, Tokens
from sanslabel.randomness import fold
from sanslabel.views import Text, gaps

SOURCE = sequences(2000, least=3, longest=15)
TOKENS = Tokens(*SOURCE.signals["source"])
KEY = fold(torch.full((2000,), 7), torch.arange(2000))


def drawn(tokens: Tokens = TOKENS, key: torch.Tensor = KEY):
    return gaps(key, tokens, 0.15, 0.1, 0.1, 20)


def test_a_text_as_it_is():
    batch = Batch(torch.arange(2000), KEY, SOURCE.signals)
    assert Text().input(batch, 3).images is TOKENS.ids
    assert Text(signal="target").plain(batch).images is SOURCE.signals["target"].ids


def test_shares_of_tokens():
    text = torch.arange(16) < TOKENS.lengths[:, None] - 1
    found = drawn()
    assert not (found.guessed & ~text).any(), "neither the end nor padding"
    assert abs(found.guessed.sum() / text.sum() - 0.15) < 0.01
    assert not (found.hidden & ~found.guessed).any()
    assert abs(found.hidden.sum() / found.guessed.sum() - 0.8) < 0.03
    other = found.ids != TOKENS.ids
    assert not (other & (found.hidden | ~found.guessed)).any()
    assert abs(other.sum() / found.guessed.sum() - 0.1 * 16 / 17) < 0.02, "one random token in 17 is the same"
    assert found.ids[other].min() >= 3
    assert found.ids[other].max() < 20


def test_draws_belong_to_the_sample():
    found, few = drawn(), torch.tensor([5, 3, 1000])
    again = drawn(Tokens(pad(TOKENS.ids[few], (0, 8)), TOKENS.lengths[few]), KEY[few])
    for ours, theirs in zip(found, again, strict=True):
        assert torch.equal(ours[few], theirs[:, :16])
    assert not again.guessed[:, 16:].any()
    assert not torch.equal(drawn(key=KEY + 1).guessed, found.guessed)
