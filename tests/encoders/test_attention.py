"""The key-value store against known values, against its loop, and at its limits."""

import math

import pytest
import torch
from torch import Tensor

from sanslabel.encoders.attention import Attention, Block, CausalAttention, CrossAttention, attention

KEYS = 10 * torch.eye(64)[[0, 1, 2, 2]]
"""four keys along three of 64 axes; the last two are equal"""
VALUES = torch.tensor([[1.0, 0.0], [10.0, 0.0], [100.0, 5.0], [1000.0, 6.0]])


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def look_up(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, coldness: float, hard: bool) -> Tensor:
    """One query (d'), in plain loops: keys (S, d'), values (S, d''), mask (S,)."""
    open_keys = [s for s in range(len(key)) if mask[s]]
    if not open_keys:
        return torch.zeros(value.shape[1])
    scores = {s: coldness * sum(float(q) * float(k) for q, k in zip(query, key[s], strict=True)) for s in open_keys}
    if hard:
        return value[max(scores, key=lambda s: (scores[s], -s))]
    top = max(scores.values())
    weights = {s: math.exp(score - top) for s, score in scores.items()}
    return sum(w * value[s] for s, w in weights.items()) / sum(weights.values())


@pytest.mark.parametrize(
    ("query", "expected"),
    [((0, 10, 0), (10.003991, 4.0993e-5)), ((0, 0, 10), (549.998, 5.49998)), ((10, 10, 0), (5.502029, 2.04963e-5))],
)
def test_a_store_of_four_recipes(query, expected):
    """Known values of 64 dimensions: a key of length 10 that is hit scores 12.5."""
    q = torch.zeros(1, 64, dtype=torch.float64)
    q[0, :3] = torch.tensor(query)
    result = attention(q, KEYS.double(), VALUES.double())[0]
    torch.testing.assert_close(result, torch.tensor(expected, dtype=torch.float64), rtol=1e-5, atol=1e-8)


def test_weights_of_the_store():
    q = torch.zeros(1, 64, dtype=torch.float64)
    q[0, 1] = 10
    _, weights = attention(q, KEYS.double(), VALUES.double(), weights=True)
    other = 1 / (math.exp(12.5) + 3)
    assert other == pytest.approx(3.72661e-6, rel=1e-5)
    expected = torch.tensor([[other, 1 - 3 * other, other, other]], dtype=torch.float64)
    torch.testing.assert_close(weights, expected, rtol=1e-9, atol=1e-12)


SCORES = torch.tensor([[1.0], [2.0], [2.5], [-1.0]], dtype=torch.float64)
"""keys of one number, which are the scores of the query 1"""
ONE = torch.ones(1, 1, dtype=torch.float64)


def test_coldness_goes_from_the_mean_to_one_value():
    values = noise(4, 3).double()
    torch.testing.assert_close(attention(ONE, SCORES, values, coldness=0.0)[0], values.mean(dim=0))
    _, cold = attention(ONE, SCORES, values, coldness=10.0, weights=True)
    assert cold[0, 2] == pytest.approx(0.9933, abs=5e-5)
    _, colder = attention(ONE, SCORES, values, coldness=100.0, weights=True)
    torch.testing.assert_close(colder[0], torch.tensor([0.0, 0, 1, 0]).double(), rtol=0, atol=1e-15)
    torch.testing.assert_close(attention(ONE, SCORES, values, hard=True)[0], values[2])


def test_ties_share_softly_and_the_first_one_wins_hard():
    keys, values = torch.tensor([[1.0], [3.0], [3.0], [0.0]]), noise(4, 3)
    _, soft = attention(torch.ones(1, 1), keys, values, coldness=1000.0, weights=True)
    torch.testing.assert_close(soft[0], torch.tensor([0, 0.5, 0.5, 0]))
    result, hard = attention(torch.ones(1, 1), keys, values, hard=True, weights=True)
    assert hard.tolist() == [[0, 1, 0, 0]]
    assert torch.equal(result[0], values[1])


def test_a_default_that_does_not_depend_on_width():
    """β = 1 / √d': the length of the vector of ones."""
    for width in (1, 4, 100):
        ones = torch.ones(1, width, dtype=torch.float64)
        keys = torch.stack([ones[0], torch.zeros(width).double()])
        _, weights = attention(ones, keys, keys, weights=True)
        assert (weights[0, 0] / weights[0, 1]).log().item() == pytest.approx(math.sqrt(width))


@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize("coldness", [None, 0.7])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_by_loops(dtype, coldness, hard):
    queries, keys, values = noise(2, 3, 4, 8).to(dtype), noise(2, 3, 5, 8).to(dtype), noise(2, 3, 5, 6).to(dtype)
    mask = noise(2, 1, 4, 5) > -0.3
    mask[0, 0, 2] = False  # a query that may read nothing
    beta = 1 / math.sqrt(8) if coldness is None else coldness
    results = [attention(queries, keys, values, mask, coldness=coldness, hard=hard)]
    results += [attention(queries, keys, values, mask, coldness=coldness, hard=hard, weights=True)[0]]
    for n in range(2):
        for h in range(3):
            for t in range(4):
                expected = look_up(queries[n, h, t], keys[n, h], values[n, h], mask[n, 0, t], beta, hard)
                close = {torch.float64: 1e-6, torch.float32: 1e-5, torch.bfloat16: 3e-2}[dtype]
                for result in results:
                    assert result.dtype == dtype
                    torch.testing.assert_close(result[n, h, t].double(), expected.double(), rtol=close, atol=close)


@pytest.mark.parametrize("options", [{}, {"coldness": 0.3}, {"hard": True}, {"weights": True}])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_fully_masked_query_reads_zeros_and_has_no_gradient(dtype, options):
    tensors = [noise(2, 4, 8).to(dtype).requires_grad_(), *(noise(2, 5, 8).to(dtype).requires_grad_() for _ in "kv")]
    mask = torch.ones(2, 4, 5, dtype=torch.bool)
    mask[1, 2] = False
    result = attention(*tensors, mask, **options)
    read, *weights = result if isinstance(result, tuple) else (result,)
    assert not read[1, 2].any()
    assert all(not w[1, 2].any() and torch.isfinite(w).all() for w in weights)
    read.square().sum().backward()
    gradients = [tensor.grad for tensor in tensors if tensor.grad is not None]
    assert gradients
    assert all(torch.isfinite(gradient).all() for gradient in gradients)
    assert tensors[0].grad is None or not tensors[0].grad[1, 2].any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("weights", [False, True])
def test_what_a_mask_hides_changes_no_bit(dtype, weights):
    """Causality: a query reads keys up to its own place, and other keys may be anything."""
    queries, keys, values = (noise(2, 3, 7, 8).to(dtype) for _ in range(3))
    mask = torch.ones(7, 7, dtype=torch.bool).tril()
    first = attention(queries, keys, values, mask, weights=weights)
    for j in range(6):
        later = [tensor.clone() for tensor in (keys, values)]
        for tensor in later:
            tensor[:, :, j + 1 :] = 50 * noise(2, 3, 6 - j, 8).to(dtype)
        again = attention(queries, *later, mask, weights=weights)
        a, b = (first[0], again[0]) if weights else (first, again)
        assert torch.equal(a[:, :, : j + 1], b[:, :, : j + 1])
        assert not torch.equal(a[:, :, j + 1 :], b[:, :, j + 1 :])


def test_one_key_is_read_whatever_the_query():
    value = noise(1, 3)
    for query in (noise(4, 8), 100 * noise(4, 8)):
        read, weights = attention(query, noise(1, 8), value, weights=True)
        assert torch.equal(weights, torch.ones(4, 1))
        torch.testing.assert_close(read, value.expand(4, 3))


def test_sets_map_to_sets():
    """Another order of the keys changes nothing, and another order of the queries is the order of the results."""
    queries, keys, values = noise(5, 8), noise(6, 8), noise(6, 4)
    read, order = attention(queries, keys, values), torch.tensor([3, 0, 5, 1, 4, 2])
    torch.testing.assert_close(attention(queries, keys[order], values[order]), read)
    torch.testing.assert_close(attention(queries[order[:5] % 5], keys, values), read[order[:5] % 5])


def test_heads_are_stores_of_their_own():
    """With identities after it, a layer of h heads is h look-ups on h slices, side by side."""
    torch.manual_seed(0)
    layer, tokens = Attention(12, 3), noise(2, 5, 12)
    with torch.no_grad():
        layer.proj.weight.copy_(torch.eye(12))
        layer.proj.bias.zero_()
    queries, keys, values = layer.qkv(tokens).chunk(3, dim=2)
    slices = [slice(4 * h, 4 * h + 4) for h in range(3)]
    single = [attention(queries[..., s], keys[..., s], values[..., s]) for s in slices]
    torch.testing.assert_close(layer(tokens), torch.cat(single, dim=2))


def test_identities_give_the_attention_of_the_course():
    """H = X A, with A = softargmax(Xᵀ X) over the rows: columns of weights that sum to 1."""
    layer, x = Attention(8, 1), noise(1, 5, 8)
    with torch.no_grad():
        layer.qkv.weight.copy_(torch.eye(8).repeat(3, 1))
        layer.proj.weight.copy_(torch.eye(8))
        layer.qkv.bias.zero_()
        layer.proj.bias.zero_()
    columns = x[0].T  # (n, t), as the course has it
    weights = (columns.T @ columns / math.sqrt(8)).softmax(dim=0)
    torch.testing.assert_close(weights.sum(dim=0), torch.ones(5))
    torch.testing.assert_close(layer(x)[0].T, columns @ weights)


def test_a_block_reads_what_its_mask_allows():
    torch.manual_seed(0)
    block, tokens = Block(8, 2), noise(2, 5, 8)
    mask = torch.tensor([3, 5])[:, None, None, None] > torch.arange(5)  # (N, 1, 1, T)
    masked = block(tokens, mask)
    torch.testing.assert_close(masked[0, :3], block(tokens[:1, :3])[0])
    torch.testing.assert_close(masked[1], block(tokens[1:])[0])


def test_cross_attention_reads_another_sequence():
    torch.manual_seed(0)
    layer = CrossAttention(8, 2)
    tokens, source = noise(2, 4, 8), noise(2, 6, 8)
    mask = torch.tensor([6, 1])[:, None, None, None] > torch.arange(6)
    read, weights = layer(tokens, layer.store(source), mask, weights=True)
    assert weights.shape == (2, 2, 4, 6)
    torch.testing.assert_close(weights.sum(dim=3), torch.ones(2, 2, 4))
    torch.testing.assert_close(read[1], read[1, :1].expand(4, 8))  # one source token: the same for every query
    again, none = layer(tokens, layer.store(source), mask)
    torch.testing.assert_close(again, read)
    assert none is None
    assert layer.store(source).shape == (2, 2, 2, 6, 4)


def test_causal_attention_piece_by_piece():
    torch.manual_seed(0)
    layer, tokens = CausalAttention(8, 2), noise(2, 6, 8)
    read, store = layer(tokens)
    torch.testing.assert_close(read[:, :3], layer(tokens[:, :3])[0])
    pieces, past = [], None
    for piece in tokens.split([1, 1, 3, 1], dim=1):
        out, past = layer(piece, past)
        pieces.append(out)
    torch.testing.assert_close(torch.cat(pieces, dim=1), read)
    torch.testing.assert_close(past, store)
