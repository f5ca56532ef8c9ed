import math

import torch

from sanslabel import randomness
from sanslabel.randomness import Stream, fold, integers, mix, normal, permutation, uniform


def test_a_tensor_of_keys_gives_the_numbers_of_python_integers():
    keys = [0, 1, 2, 12345, 2**31, 2**32 - 1]
    assert mix(torch.tensor(keys)).tolist() == [mix(k) for k in keys]
    assert fold(torch.tensor(keys), 7, 2**32 - 1).tolist() == [fold(k, 7, 2**32 - 1) for k in keys]
    assert fold(3, torch.tensor(keys)).tolist() == [fold(3, k) for k in keys]


def test_known_values_never_change():
    # A change here would change every run: the hash's first values, from its published constants by hand.
    assert [mix(k) for k in (0, 1, 2)] == [0, 1753845952, 3507691905]
    assert uniform(torch.tensor([1]), 2, 0).tolist() == uniform(torch.tensor([1]), 5, 0)[:, :2].tolist()


def test_uniform_is_flat_and_columns_streams_and_keys_are_unrelated():
    draws = uniform(torch.arange(20_000), 4, stream=3)
    assert draws.min() >= 0
    assert draws.max() < 1
    counts = torch.histc(draws, 50, 0, 1)
    expected = draws.numel() / 50
    assert ((counts - expected) ** 2 / expected).sum() < 49 + 4 * math.sqrt(2 * 49)
    other = uniform(torch.arange(20_000), 4, stream=4)
    table = torch.corrcoef(torch.cat([draws, other], dim=1).T)
    assert (table - torch.eye(8)).abs().max() < 0.03
    assert torch.corrcoef(torch.stack([draws[1:, 0], draws[:-1, 0]]))[0, 1].abs() < 0.03


def test_normal_has_the_moments_of_a_gaussian():
    draws = normal(torch.arange(50_000), 2, 0).double()
    assert abs(draws.mean()) < 0.01
    assert abs(draws.var() - 1) < 0.02
    assert abs((draws**4).mean() - 3) < 0.1
    assert torch.corrcoef(draws.T)[0, 1].abs() < 0.02


def test_integers_are_uniform_below_high():
    draws = integers(torch.arange(30_000), 1, 7, 0).flatten()
    assert torch.bincount(draws, minlength=7).min() > 30_000 / 7 * 0.95
    assert draws.max() == 6


def test_permutation_is_one_and_depends_on_the_key():
    for length in (0, 1, 10, 4097):
        assert permutation(5, length).sort().values.tolist() == list(range(length))
    assert permutation(5, 100).tolist() != permutation(6, 100).tolist()
    assert permutation(5, 100).tolist() == permutation(5, 100).tolist()
    displaced = (permutation(1, 100_000) - torch.arange(100_000)).abs().double().mean()
    assert abs(displaced / 100_000 - 1 / 3) < 0.01


def test_nothing_here_touches_the_global_generator():
    before = torch.get_rng_state()
    uniform(torch.arange(3), 2, 0), normal(torch.arange(3), 2, 0), permutation(0, 9)
    assert torch.equal(before, torch.get_rng_state())
    assert randomness.__doc__


def test_no_two_streams_have_one_number():
    values = [member.value for member in Stream.__members__.values()]  # a second name of a number is an alias
    assert len(set(values)) == len(values)


def test_streams_of_a_seed_are_unrelated():
    keys = torch.tensor([[fold(seed, stream) for stream in Stream] for seed in range(2000)])
    assert keys.unique().numel() == keys.numel()
    draws = keys.double() / 2**32
    expected = torch.eye(len(Stream), dtype=torch.float64)
    assert (torch.corrcoef(draws.T) - expected).abs().max() < 5 / 2000**0.5


def test_the_numbers_of_streams_never_change():
    """Runs that exist drew from these."""
    known = {"SAMPLE": 0, "STEP": 1, "ORDER": 2, "WEIGHTS": 3, "BASELINE": 4, "FOLDS": 5, "FEW_LABELS": 6}
    known |= {"QUERIES": 9, "STAGE_SAMPLES": 10, "FINE_TUNING": 11, "MAP": 12, "TRIPLETS": 13, "CHANGES": 14}
    known |= {"SIMILARITY": 15, "MAP_PROBE": 16, "REFERENCE_TRIPLETS": 17, "SHOWN": 18, "QUALITY": 19}
    assert {name: Stream[name].value for name in known} == known
