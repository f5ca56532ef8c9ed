"""Samples with partners: which they are, and that nothing else changes."""

import pytest
import torch

from sanslabel import encoders
from sanslabel.engine import optimize, players_of
from sanslabel.errors import BadInput
from sanslabel.methods.simclr import SimCLR
from sanslabel.randomness import Stream, bits, fold
from sanslabel.sources import Pairs, Request, batches, open_source
from sanslabel.sources.images import ImagesFrom

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def digits():
    return open_source("digits").subset(torch.arange(256))


def paired(source, clip: int, reach: int) -> Pairs:
    return Pairs(base=source, group=torch.arange(len(source)) // clip, reach=reach)


@pytest.mark.parametrize("reach", [0, 1, 3, 99])
def test_partners_are_drawn_as_a_loop_draws_them(digits, reach):
    group = torch.tensor([0, 1, 0, 1, 1, 2, 0, 0, 3, 0])
    pairs = Pairs(base=digits.subset(torch.arange(10)), group=group, reach=reach)
    for key in (1, 7):
        for row in range(10):
            members = [other for other in range(10) if group[other] == group[row]]
            here = members.index(row)
            near = [other for other in members[max(0, here - reach) : here + reach + 1] if other != row]
            expected = row
            if near:
                draw = int(bits(torch.tensor([fold(key, row, Stream.PARTNER)]), 1, 0))
                expected = near[draw * len(near) >> 32]
            assert pairs.partners(torch.tensor([row]), key).tolist() == [expected]


def test_every_neighbor_is_drawn_as_often(digits):
    pairs = paired(digits, 16, 2)
    index = torch.full((1,), 40)
    drawn = torch.cat([pairs.partners(index, key) for key in range(800)])
    values, counts = drawn.unique(return_counts=True)
    assert values.tolist() == [38, 39, 41, 42]
    assert counts.min() > 160
    assert pairs.partners(torch.tensor([32, 47]), 3).tolist()[0] in (33, 34)  # not beyond the group's end


def test_batches_have_partners_and_groups(digits):
    pairs = paired(digits, 8, 3)
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
    pairs = paired(digits, 8, 3)
    assert (pairs.name, pairs.id(3), pairs.classes, len(pairs)) == ("digits", digits.id(3), digits.classes, 256)
    assert pairs.resident
    assert not pairs.decodes
    assert pairs.pictures is None
    chosen = pairs.subset(torch.tensor([9, 3, 8]))
    assert chosen.id(0) == digits.id(9)
    assert chosen.partners(torch.arange(3), 0).tolist() == [2, 1, 0]
    prints = {pairs.fingerprint, paired(digits, 8, 4).fingerprint, paired(digits, 4, 3).fingerprint, digits.fingerprint}
    assert len(prints) == 4
    with pytest.raises(BadInput, match="digits: 3 groups for 256 samples"):
        Pairs(base=digits, group=torch.arange(3), reach=1)
    with pytest.raises(BadInput, match="reach -1"):
        Pairs(base=digits, group=torch.arange(256), reach=-1)


def test_a_reach_of_zero_trains_to_the_same_bits(digits):
    states = []
    for source in (digits, Pairs(base=digits, group=torch.arange(256), reach=0)):
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
    pairs = paired(folder, 2, 1)  # 0 with 1, 2 with 3, 4 with 5 and so on
    loaded = pairs.load(Request(torch.arange(12), 3))
    assert loaded.index.tolist() == [0, 2, 2, 3, 4, 6, 6, 7, 8, 9, 10, 11]
    own, partner = loaded.signals["image"].pixels[:, 0, 0, 0], loaded.signals["partner"].pixels[:, 0, 0, 0]
    assert (partner // 20).tolist() == [0, 3, 3, 2, 4, 7, 7, 6, 9, 8, 11, 10]
    assert (own // 20).tolist() == loaded.index.tolist()
    assert {bad.id for bad in loaded.replaced} == {"01.png", "05.png"}
    assert pairs.decodes
    assert pairs.pictures is folder
