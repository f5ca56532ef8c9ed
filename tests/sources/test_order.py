"""Orders of samples: each against its loop, and what each promises."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from sanslabel import distributed
from sanslabel.batch import Images
from sanslabel.errors import BadInput
from sanslabel.inputs import ImageSpec
from sanslabel.randomness import Stream, fold, integers, permutation
from sanslabel.sources import Loaded, Source, batches, open_source
from sanslabel.sources.order import ByLength, Counted, Grouped, Shuffled, Stretches, Windowed

CPU = torch.device("cpu")


def groups(samples: int, count: int) -> torch.Tensor:
    """Returns groups of unequal sizes, (samples,) int64, not in the order of their numbers."""
    return (torch.arange(samples).double().square() / samples**2 * count).long().flip(0) % count


def dealt(group: torch.Tensor, seed: int, epoch: int, batch: int) -> list[int]:
    """Returns the epoch of `Grouped`, card by card."""
    steps, key = len(group) // batch, fold(seed, Stream.ORDER, epoch)
    shuffled = permutation(key, len(group))[: steps * batch].tolist()
    by_group: dict[int, list[int]] = {}
    for row in shuffled:
        by_group.setdefault(int(group[row]), []).append(row)
    if len(by_group) == len(shuffled):
        return shuffled
    cards = [row for rows in by_group.values() for row in rows]
    hands: list[list[int]] = [[] for _ in range(steps)]
    for turn in range(batch):
        cards_now = cards[turn * steps : (turn + 1) * steps]
        players = permutation(fold(key, 0, turn), steps).tolist()
        continued = [row for row in cards_now if group[row] == group[cards_now[0]]]
        have = [j for j in range(steps) if hands[j] and group[hands[j][-1]] == group[cards_now[0]]]
        if have and len(have) + len(continued) <= steps:
            free = [player for player in players if player not in have][: len(continued)]
            players = free + [player for player in players if player not in free]
        for player, card in zip(players, cards_now, strict=True):
            hands[player].append(card)
    return [row for hand in hands for row in hand]


ORDERS = {
    "shuffled": Shuffled(103),
    "grouped": Grouped(groups(103, 17)),
    "windowed": Windowed(groups(103, 9), 2),
    "counted": Counted(103),
    "by length": ByLength(groups(103, 20)),
    "stretches": Stretches(groups(103, 9), torch.arange(103).double() / 30, 8),
}
every_order = pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)


def test_shuffled_is_a_permutation_of_the_epochs_key():
    for epoch in range(3):
        expected = permutation(fold(5, 2, epoch), 103)[:100]
        assert torch.equal(Shuffled(103).epoch(5, epoch, 10), expected)


@every_order
def test_an_epoch_is_a_function_of_seed_and_epoch_without_a_partial_batch(order):
    assert order.samples == 103
    one = order.epoch(3, 1, 10)
    assert one.shape == (100,)
    assert one.dtype == torch.int64
    assert len(one.unique()) == 100
    assert torch.equal(one, order.epoch(3, 1, 10))
    assert not torch.equal(one, order.epoch(3, 2, 10))


@pytest.mark.parametrize("count", [1, 3, 9, 17, 50])
@pytest.mark.parametrize("batch", [1, 8, 20, 103])
def test_grouped_deals_as_its_loop_does(count, batch):
    group = groups(103, count)
    for epoch in range(2):
        assert Grouped(group).epoch(7, epoch, batch).tolist() == dealt(group, 7, epoch, batch)


@pytest.mark.parametrize(("size", "batch"), [(2, 64), (7, 32), (12, 80), (16, 50), (3, 300)])
def test_no_batch_has_two_of_a_group(size, batch):
    """As long as no group has more samples than there are batches."""
    samples = 1000
    group = torch.arange(samples) // size
    steps = samples // batch
    for epoch in range(3):
        by_batch = group[Grouped(group).epoch(1, epoch, batch)].view(steps, batch)
        if size <= steps:
            assert all(len(row.unique()) == batch for row in by_batch)


def test_groups_of_one_are_shuffled():
    assert torch.equal(Grouped(torch.arange(50).flip(0)).epoch(3, 4, 8), Shuffled(50).epoch(3, 4, 8))


@pytest.mark.parametrize("batch", [1, 8, 50, 103])
def test_batches_by_length_are_those_of_a_loop(batch):
    length = groups(103, 20)
    for epoch in range(3):
        shuffled = Shuffled(103).epoch(7, epoch, batch).tolist()
        in_order = sorted(shuffled, key=lambda row: int(length[row]))
        batches = [in_order[begin : begin + batch] for begin in range(0, len(in_order), batch)]
        drawn = permutation(fold(7, Stream.ORDER, epoch, 0), len(batches)).tolist()
        expected = [row for place in drawn for row in batches[place]]
        assert ByLength(length).epoch(7, epoch, batch).tolist() == expected


def test_batches_by_length_need_little_padding_and_meet_others_in_each_epoch():
    length = 1 + torch.arange(4000) % 60
    epochs = [ByLength(length).epoch(0, epoch, 100).view(40, 100) for epoch in range(2)]
    padding = [(length[rows].amax(1, keepdim=True) - length[rows]).float().mean() for rows in epochs]
    assert max(padding) < 1 < (60 - length).float().mean() / 10
    assert not torch.equal(epochs[0].sort(1).values, epochs[1].sort(1).values)
    assert (length[epochs[0]].float().mean(1).diff() > 0).float().mean() < 0.8, "not from short to long"


def test_groups_meet_many_others():
    """The batches of a group's samples are no copies of each other, as whole runs of one group after the other."""
    group = torch.arange(1200) // 30  # 40 groups
    by_batch = group[Grouped(group).epoch(0, 0, 20)].view(60, 20)
    met = {frozenset(row.tolist()) for row in by_batch}
    assert len(met) == 60
    of_first = torch.cat([row for row in by_batch if 0 in row])
    assert len(of_first.unique()) > 35


def stretched(group: torch.Tensor, time: torch.Tensor, length: int, seed: int, epoch: int) -> list[list[int]]:
    """Returns the stretches of an epoch of `Stretches`, in their order."""
    key, pieces = fold(seed, Stream.ORDER, epoch), []
    for number, clip in enumerate(group.unique().tolist()):
        in_time = sorted((group == clip).nonzero()[:, 0].tolist(), key=lambda row: float(time[row]))
        offset = int(integers(torch.tensor([fold(key, number)]), 1, length, 0))
        cuts = [0, *range(length - offset, len(in_time), length), len(in_time)]
        pieces += [in_time[begin:end] for begin, end in pairwise(cuts) if begin < end]
    shuffled = [pieces[place] for place in permutation(fold(key, 0), len(pieces)).tolist()]
    return sorted(shuffled, key=lambda piece: len(piece) < length)


@pytest.mark.parametrize(("count", "length"), [(1, 5), (9, 8), (40, 4), (9, 200), (1, 103)])
def test_stretches_are_those_of_a_loop(count, length):
    group = groups(103, count)
    time = torch.rand(103, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for epoch in range(3):
        pieces = stretched(group, time, length, 5, epoch)
        assert Stretches(group, time, length).epoch(5, epoch, 1).tolist() == [row for piece in pieces for row in piece]


def test_batches_of_full_stretches_come_first():
    group, time = torch.arange(1000) // 100, torch.arange(1000).double() % 100
    first = set()
    for epoch in range(4):
        by_stretch = Stretches(group, time, 20).epoch(0, epoch, 40)[:800].view(-1, 20)
        assert (time[by_stretch].diff(dim=1) == 1).all()
        assert (group[by_stretch] == group[by_stretch[:, :1]]).all()
        first |= set(time[by_stretch[:, 0]].tolist())
    assert len(first) > 40, "cut at other places in each epoch and clip"


def test_a_source_without_time_has_no_stretches():
    digits = open_source("digits")
    assert digits.order_of(1) == digits.order
    with pytest.raises(BadInput, match="digits: has no time"):
        digits.order_of(8)
    timed = replace(digits, group=torch.arange(len(digits)) // 32, time=(torch.arange(len(digits)) % 32).double())
    assert isinstance(timed.order_of(8), Stretches)
    (_, batch), *_ = batches(timed, 16, seed=0, epochs=1, device=CPU, order=timed.order_of(8))
    assert torch.equal(batch.time, timed.time[batch.index])
    assert torch.equal(batch.group, timed.group[batch.index])
    assert torch.equal(batch.map(lambda x: x[:3]).time, batch.time[:3])


def test_windowed_reads_few_shards_at_a_time():
    shard, window = groups(500, 12), 3
    for epoch in range(3):
        place = torch.argsort(permutation(fold(fold(9, 2, epoch), 0), 12)).tolist()
        shuffled = permutation(fold(9, 2, epoch), 500).tolist()
        expected = [row for chosen in range(4) for row in shuffled if place[int(shard[row])] // window == chosen]
        got = Windowed(shard, window).epoch(9, epoch, 50)
        assert got.tolist() == expected
        changes = (place := torch.tensor(place))[shard[got]] // window
        assert torch.equal(changes, changes.sort().values)


def test_counted_reads_on():
    assert Counted(25).epoch(0, 0, 10).tolist() == list(range(20))
    assert Counted(25).epoch(1, 3, 10).tolist() == list(range(75, 95))


@every_order
def test_a_run_goes_on_from_any_step_and_processes_share_its_batches(order, same, monkeypatch):
    digits = open_source("digits").subset(torch.arange(3 * 103))
    options = dict(seed=3, epochs=3, device=CPU, order=order)
    all_of_it = list(batches(digits, 20, **options))
    assert len(all_of_it) == 15
    assert [clock.epoch for clock, _ in all_of_it] == [0] * 5 + [1] * 5 + [2] * 5
    for start in (1, 4, 5, 14, 15):
        assert same(all_of_it[start:], list(batches(digits, 20, start=start, **options)))
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    slices = []
    for rank in range(2):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        slices.append(list(batches(digits, 20, **options)))
    for (_, expected), (_, first), (_, second) in zip(all_of_it, *slices, strict=True):
        assert torch.equal(torch.cat([first.index, second.index]), expected.index)
        assert torch.equal(torch.cat([first.key, second.key]), expected.key)


class Numbers(Source):
    """A stream: pixels that are the count of samples so far."""

    @property
    def fingerprint(self) -> str:
        return "numbers"

    @property
    def samples(self) -> None:
        return None

    @property
    def order(self) -> Counted:
        return Counted(25)

    def id(self, index: int) -> str:
        return f"number {index}"

    def load(self, request) -> Loaded:
        pixels = request.index.float()[:, None, None, None].expand(-1, 1, 2, 2) / 1000
        return Loaded(request.index, {"image": Images(pixels)}, [])

    def subset(self, index):
        raise NotImplementedError


def test_a_stream_of_unknown_length_has_epochs_of_its_own():
    spec = ImageSpec(channels=1, height=2, width=2)
    stream = Numbers(
        name="numbers",
        split="train",
        labels=torch.empty(0, dtype=torch.int64),
        classes=(),
        inputs={"image": spec},
    )
    assert stream.facts().samples is None
    got = list(batches(stream, 10, seed=0, epochs=2, device=CPU))
    assert [(clock.step, clock.steps, clock.steps_per_epoch) for clock, _ in got] == [(n, 4, 2) for n in range(4)]
    assert [batch.index[0].item() for _, batch in got] == [0, 10, 25, 35]
    assert got[1][1].images().pixels[0, 0, 0, 0] == 10 / 1000
    assert "label" not in got[0][1].signals
    assert stream.standardization(limit=1) == ((0.0,), (1 / 255,))
