"""Samples with partners: which they are, and that nothing else changes."""

from dataclasses import replace

import pytest
import torch

from sanslabel import encoders
from sanslabel.engine import optimize, players_of
from sanslabel.errors import BadInput
from sanslabel.methods.simclr import SimCLR
from sanslabel.randomness import Stream, bits, fold
from sanslabel.sources import Pairs, Request, batches, open_source, paired
from sanslabel.sources.pictures.images import ImagesFrom

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def digits():
    return open_source("digits").subset(torch.arange(256))


def clips(source, length: int):
    """The samples as clips of so many frames, one a second."""
    index = torch.arange(len(source))
    return replace(source, group=index // length, time=(index % length).double())


def pairs_of(source, length: int, near: float) -> Pairs:
    return Pairs(base=clips(source, length), near=near)


@pytest.mark.parametrize("near", [0, 0.04, 0.08, 0.5, 99])
@pytest.mark.parametrize("rate", [25, 30_000 / 1001])
def test_partners_are_drawn_as_a_loop_draws_them(digits, near, rate):
    group = torch.tensor([0, 1, 0, 1, 1, 2, 0, 0, 3, 0, 9, 9, 0])
    time = torch.tensor([4, 7, 3, 8, 20, 0, 5, 5, 1, 40, 3, 3, 6]).double() / rate + 0.1
    base = replace(digits.subset(torch.arange(13)), group=group, time=time)
    pairs = Pairs(base=base, near=near)
    for key in (1, 7):
        for row in range(13):
            same = [other for other in range(13) if group[other] == group[row] and other != row]
            there = [other for other in same if near and abs(time[other] - time[row]) <= near + 1e-6]
            there.sort(key=lambda other: (time[other].item(), other))
            expected = row
            if there:
                draw = int(bits(torch.tensor([fold(key, row, Stream.PARTNER)]), 1, 0))
                expected = there[draw * len(there) >> 32]
            assert pairs.partners(torch.tensor([row]), key).tolist() == [expected]


def test_the_time_between_partners_is_in_seconds_whatever_the_rate(digits):
    """A clip at 25 frames a second, and one whose frames come at irregular times."""
    regular = torch.arange(128).double() / 25
    irregular = (torch.arange(128).double() * 7 % 31 / 31 + 0.3).cumsum(0) / 20
    for time in (regular, irregular):
        base = replace(digits.subset(torch.arange(128)), group=torch.zeros(128, dtype=torch.int64), time=time)
        pairs, index = Pairs(base=base, near=0.4), torch.arange(128)
        apart = torch.stack([(time[pairs.partners(index, key)] - time).abs() for key in range(200)])
        assert (apart > 0).all()
        assert apart.max() <= 0.4 + 1e-6
        assert torch.allclose(apart[:, 20:108].mean(), torch.tensor(0.2).double(), atol=0.03)


def test_every_neighbor_is_drawn_as_often(digits):
    pairs = pairs_of(digits, 16, 2)
    index = torch.full((1,), 40)
    drawn = torch.cat([pairs.partners(index, key) for key in range(800)])
    values, counts = drawn.unique(return_counts=True)
    assert values.tolist() == [38, 39, 41, 42]
    assert counts.min() > 160
    assert pairs.partners(torch.tensor([32, 47]), 3).tolist()[0] in (33, 34)  # not beyond the group's end


def test_batches_have_partners_and_groups(digits):
    pairs = pairs_of(digits, 8, 3)
    for clock, batch in batches(pairs, 32, seed=1, epochs=2, device=CPU):
        partners = pairs.partners(batch.index, fold(1, Stream.SAMPLE, clock.epoch))
        assert torch.equal(batch.images(0).pixels, digits.images[batch.index])
        assert torch.equal(batch.images(1).pixels, digits.images[partners])
        assert torch.equal(batch.group, batch.index // 8)
        assert (partners - batch.index).abs().max() <= 3
        assert len(batch.group.unique()) == 32 or clock.steps_per_epoch < 8
    assert pairs.facts().inputs.keys() == {"image", "partner"}
    assert pairs.facts(16).inputs["partner"] == pairs.facts(16).image


def test_it_is_its_base_in_all_else(digits):
    pairs = pairs_of(digits, 8, 3)
    assert (pairs.name, pairs.id(3), pairs.classes, len(pairs)) == ("digits", digits.id(3), digits.classes, 256)
    assert pairs.resident
    assert not pairs.decodes
    assert pairs.pictures is None
    chosen = pairs.subset(torch.tensor([9, 3, 8]))
    assert chosen.id(0) == digits.id(9)
    assert chosen.partners(torch.arange(3), 0).tolist() == [2, 1, 0]
    slower = replace(pairs.base, time=2 * pairs.time)
    prints = {pairs.fingerprint, slower.fingerprint, pairs_of(digits, 4, 3).fingerprint, digits.fingerprint}
    assert len(prints) == 4
    assert pairs.fingerprint == pairs.base.fingerprint == pairs_of(digits, 8, 4).fingerprint  # the data are the same
    assert paired(pairs.base, 0) is paired(pairs.base, None) is pairs.base
    assert isinstance(paired(pairs.base, 3), Pairs)
    with pytest.raises(BadInput, match="digits: 3 groups for 256 samples"):
        Pairs(base=replace(pairs.base, group=torch.arange(3)), near=1)
    with pytest.raises(BadInput, match="near -1"):
        Pairs(base=pairs.base, near=-1)
    with pytest.raises(BadInput, match=r"digits: `near` needs samples that have a time, as .* have; leave it out\."):
        Pairs(base=digits, near=1)


def test_samples_without_a_neighbor_are_counted(digits):
    frames = replace(clips(digits, 8), group=torch.arange(256).clamp(min=4))  # all alone but the first five
    assert paired(frames, 3).remarks[-1] == "Without another sample within 3 s, and so their own partners: 251 of 256."
    assert paired(clips(digits, 8), 3).remarks == digits.remarks
    with pytest.raises(BadInput, match=r"near=0.5: no sample of digits has another one so near; give a longer time\."):
        paired(clips(digits, 8), 0.5)


def test_no_time_between_partners_trains_to_the_same_bits(digits):
    states, frames = [], clips(digits, 8)
    for source in (frames, Pairs(base=frames, near=0)):
        method = SimCLR.under(SimCLR.small).sized(8)
        torch.manual_seed(0)
        net = method.networks(encoders.build("mlp", channels=1, image_size=8), source.facts(8)).train()
        stream = batches(source, 64, seed=1, epochs=2, device=CPU)
        for _ in optimize(method, net, players_of(net, SimCLR.small, 64), stream):
            pass
        states.append(net.state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_a_partner_that_cannot_be_read_gives_way_to_the_sample(tmp_path):
    from PIL import Image

    for row in range(12):
        Image.new("RGB", (8, 8), (20 * row, 0, 0)).save(tmp_path / f"{row:02}.png")
    for row in (1, 5):
        (tmp_path / f"{row:02}.png").write_bytes(b"damaged")
    folder = open_source(tmp_path)
    assert isinstance(folder, ImagesFrom)
    pairs = pairs_of(folder, 2, 1)  # 0 with 1, 2 with 3, 4 with 5 and so on
    loaded = pairs.load(Request(torch.arange(12), 3))
    assert loaded.index.tolist() == [0, 2, 2, 3, 4, 6, 6, 7, 8, 9, 10, 11]
    own, partner = loaded.signals["image"].pixels[:, 0, 0, 0], loaded.signals["partner"].pixels[:, 0, 0, 0]
    assert (partner // 20).tolist() == [0, 3, 3, 2, 4, 7, 7, 6, 9, 8, 11, 10]
    assert (own // 20).tolist() == loaded.index.tolist()
    assert {bad.id for bad in loaded.replaced} == {"01.png", "05.png"}
    assert pairs.decodes
    assert pairs.pictures is pairs.base
