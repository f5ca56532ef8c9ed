from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from sanslabel.losses.precision import in_float32


class TokenNLLTerms(NamedTuple):
    """The two parts of a label-smoothed loss, as sums over the tokens of each text."""

    nll: Tensor
    """(N,), -Σ_t log p(y_t)"""
    uniform: Tensor
    """(N,), -Σ_t mean_v log p(v)"""


@in_float32
def token_nll_terms(logits: Tensor, ids: Tensor, counted: Tensor) -> TokenNLLTerms:
    """Returns the negative log-likelihood of each text in nats, and that of a token drawn uniformly in each place.

    logits: (N, T, V); ids: (N, T) int64; counted: (N, T) bool, the tokens that count -> (N,) each.
    With label smoothing ε the loss is (1 - ε) nll + ε uniform. The target then has 1 - ε + ε/V and every other token
    ε/V, as in torch; Szegedy et al. 2016, section 7. Its least value is the entropy of that target, 1.154201 nats a
    token for V = 4,000 and ε = 0.1, where nll is 0.1053. Equal logits give ln V in both parts.
    """
    total = logits.logsumexp(dim=2)  # (N, T)
    target = logits.gather(2, ids[:, :, None]).squeeze(2)
    nll, uniform = total - target, total - logits.mean(dim=2)
    return TokenNLLTerms((nll * counted).sum(dim=1), (uniform * counted).sum(dim=1))


def token_nll(logits: Tensor, ids: Tensor, lengths: Tensor) -> Tensor:
    """Returns the negative log-likelihood of each text in nats, the sum over its real tokens.

    logits: (N, T, V); ids: (N, T) int64; lengths: (N,) int64, the tokens that count -> (N,).
    -Σ_{t < length} log softmax(logits_t)[id_t].
    """
    counted = torch.arange(ids.shape[1], device=ids.device) < lengths[:, None]
    return token_nll_terms(logits, ids, counted).nll
