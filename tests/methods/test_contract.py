"""What every method must keep, whoever wrote it: this file finds the methods by itself."""

import json
import math
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import FrozenInstanceError, fields, replace
from hashlib import sha256
from itertools import islice

import pytest
import torch
from torch.utils._pytree import tree_leaves

from sanslabel import encoders, methods
from sanslabel.batch import Batch
from sanslabel.encoders import Encoder
from sanslabel.engine import optimize, players_of
from sanslabel.errors import BadInput
from sanslabel.figures import FIGURES
from sanslabel.methods.method import Method
from sanslabel.recipe import Recipe
from sanslabel.serialization import from_plain, to_plain
from sanslabel.sources import Pairs, Request, open_source
from sanslabel.sources.loader import batches
from sanslabel.training.journal import measured
from sanslabel.views.color import means

STEPS, BATCH = 6, 64
"""of a run: two epochs of three steps, since some methods only fill their memory in the first"""


@pytest.fixture(scope="module")
def digits():
    return open_source("digits", "train").subset(torch.arange(3 * BATCH))


def variants() -> list[tuple[str, dict]]:
    """Every method as its small recipe has it, with a teacher where it takes one, and with masked patches in place of
    crops where it embeds views."""
    found = []
    for name in methods.names():
        found.append((name, {}))
        numbers = {f.name: f.default for f in fields(methods.method_class(name))}
        if "teacher" in numbers:
            found.append((name, {"teacher": 0.9}))
        if methods.method_class(name).embeds_views():
            found.append((name, {"masked": 2}))  # of 8 pixels a side: 16 patches, of which 4 are left
    return found


every_method = pytest.mark.parametrize(
    ("name", "numbers"), variants(), ids=lambda v: v if isinstance(v, str) else "-".join(v)
)


def method_of(name: str, numbers: dict) -> tuple[Method, Recipe]:
    chosen = methods.method_class(name)
    numbers = dict(numbers)
    patch = numbers.pop("masked", None)
    method = replace(chosen.under(chosen.small), **numbers)
    return (method.masked(patch) if patch else method).sized(8), chosen.small


def session(source, name, numbers, *, start=0, dtype=torch.float32, spoil=None):
    """Networks, players and records of a short run."""
    method, recipe = method_of(name, numbers)
    torch.manual_seed(0)
    encoder = encoders.build(**encoders.encoder_options(recipe.encoder), channels=source.channels, image_size=8)
    net = method.networks(encoder, source.facts(8)).train()
    sides = players_of(net, recipe, BATCH)
    stream = batches(source, BATCH, seed=1, epochs=2, start=start, device=torch.device("cpu"))
    if spoil is not None:
        stream = spoiled(stream, spoil)
    return method, net, sides, optimize(method, net, sides, stream, dtype)


def spoiled(stream, step):
    """The stream with one pixel of one batch that is not a number."""
    for clock, batch in stream:
        if clock.step == step:
            images = batch.images().pixels.float() / 255
            images[3] = float("nan")
            batch = batch.with_pixels(images)
        yield clock, batch


def tensors(net, sides) -> Iterator[tuple[str, torch.Tensor]]:
    yield from sorted(net.state_dict().items())
    for side, player in sorted(sides.items()):
        for i, slots in enumerate(player.optimizer.state.values()):
            for slot, value in sorted(slots.items()):
                yield f"{side}/{i}/{slot}", value


def digest(net, sides) -> str:
    """Of all that a run remembers."""
    total = sha256()
    for name, value in tensors(net, sides):
        total.update(name.encode())
        total.update(value.detach().contiguous().numpy().tobytes())
    return total.hexdigest()


@every_method
def test_it_says_what_it_is(name, numbers):
    chosen = methods.method_class(name)
    method, _ = method_of(name, numbers)
    assert chosen.__mro__[1:3] == (Method, Method.__mro__[1]), "a method inherits from Method alone"
    assert chosen.family
    assert chosen.energy
    assert chosen.prevents_collapse
    assert chosen.paper
    assert 1980 < chosen.year < 2100
    assert isinstance(chosen.recipe, Recipe)
    assert methods.sentence(name).endswith(".")
    assert all(f.default is not f.default_factory for f in fields(method)), "every number has a default"
    with pytest.raises(FrozenInstanceError):
        setattr(method, fields(method)[0].name, None)


@every_method
def test_its_numbers_survive_a_file(name, numbers):
    for method in (method_of(name, numbers)[0], methods.method_class(name)()):
        assert from_plain(type(method), json.loads(json.dumps(to_plain(method)))) == method


@every_method
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_trains(digits, name, numbers, dtype):
    _, net, _, records = session(digits, name, numbers, dtype=dtype)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    for record in islice(records, STEPS):
        assert not record.refused
        for objective, norm in zip(record.objectives, record.norms, strict=True):
            assert measured(objective, norm).keys() <= FIGURES.keys(), "sanslabel/figures.py explains each"
            assert objective.loss.dtype == torch.float32
            assert objective.loss.ndim == 0
            assert torch.isfinite(objective.loss)
            for image in objective.images.values():
                assert image.ndim == 4
                assert image.min() >= 0
                assert image.max() <= 1
    after = net.state_dict()
    trained = {name for name, p in net.named_parameters() if p.requires_grad}
    assert not [k for k in trained if torch.equal(before[k], after[k])], "every trained part moves"
    assert {v.dtype for v in after.values()} <= {torch.float32, torch.int64}


@every_method
def test_it_exports_encoders(digits, name, numbers):
    method, net, *_ = session(digits, name, numbers)
    exported = method.encoders(net)
    assert all(isinstance(encoder, Encoder) for encoder in exported.values())
    assert ("teacher" in exported) == hasattr(net, "teacher")
    assert hasattr(net, "teacher") or "teacher" not in numbers
    assert len({id(e) for e in exported.values()}) == len(exported)
    for encoder in exported.values():  # what a run writes down is enough to make it again
        again = encoders.build(**json.loads(json.dumps(encoder.config)))
        again.load_state_dict(encoder.state_dict())
        images = digits.load(Request(torch.arange(4))).images.pixels.float() / 255
        assert torch.equal(again.eval()(images), encoder.eval()(images))


@every_method
def test_no_gradient_reaches_a_teacher(digits, name, numbers):
    _, net, _, records = session(digits, name, numbers)
    list(islice(records, STEPS))
    teacher = [p for name, p in net.named_parameters() if name.startswith("teacher.")]
    assert bool(teacher) == hasattr(net, "teacher")
    assert not any(p.requires_grad for p in teacher)
    assert all(p.grad is None for p in net.parameters() if not p.requires_grad)


@every_method
def test_a_spoiled_step_leaves_no_trace(digits, name, numbers):
    _, net, sides, records = session(digits, name, numbers, spoil=3)
    digests = [(digest(net, sides), record.refused) for record in islice(records, STEPS)]
    assert [refused for _, refused in digests] == [False, False, False, True, False, False]
    assert digests[3][0] == digests[2][0]
    assert digests[4][0] != digests[3][0]


@every_method
def test_a_step_waits_for_the_device_once_at_each_update(digits, waits, name, numbers):
    """Beside what is written down of it now and then."""
    method, recipe = method_of(name, numbers)
    torch.manual_seed(0)
    encoder = encoders.build(**encoders.encoder_options(recipe.encoder), channels=1, image_size=8)
    net = method.networks(encoder, digits.facts(8)).train()
    sides = players_of(net, recipe, BATCH)
    stream = list(batches(digits, BATCH, seed=1, epochs=2, device=torch.device("cpu")))
    given = [leaf for _, batch in stream for leaf in tree_leaves(batch) if isinstance(leaf, torch.Tensor)]
    with waits(*net.parameters(), *net.buffers(), *given) as seen:
        for record in optimize(method, net, sides, iter(stream), torch.bfloat16):
            assert seen.found == ["_local_scalar_dense"] * len(record.objectives), record.clock.step
            seen.found.clear()


@every_method
def test_its_state_is_all_there_is(digits, name, numbers):
    """Networks and optimizers put into a fresh session continue to the same bits, wherever the first one stopped."""
    _, net, sides, records = session(digits, name, numbers)
    states = []
    for _ in islice(records, STEPS):
        optimizers = {side: deepcopy(player.optimizer.state_dict()) for side, player in sides.items()}
        states.append((deepcopy(net.state_dict()), optimizers, digest(net, sides)))
    for stop in (1, 3):
        _, net, sides, records = session(digits, name, numbers, start=stop)
        net.load_state_dict(states[stop - 1][0])
        for side, player in sides.items():
            player.optimizer.load_state_dict(states[stop - 1][1][side])
        for step, _ in zip(range(stop, STEPS), records, strict=False):
            assert digest(net, sides) == states[step][2]


@every_method
def test_the_same_seed_gives_the_same_bits(digits, name, numbers):
    digests = []
    for _ in "ab":
        torch.rand(3)
        _, net, sides, records = session(digits, name, numbers)
        list(islice(records, 4))
        digests.append(digest(net, sides))
    assert digests[0] == digests[1]


@pytest.mark.parametrize("name", [n for n in methods.names() if methods.method_class(n).embeds_views()])
def test_it_trains_on_pairs_unchanged(digits, name, monkeypatch):
    """Views of odd streams are drawn from the sample's partner, and no method has a line for that."""
    streams, images = set(), Batch.images
    monkeypatch.setattr(Batch, "images", lambda batch, stream=0: streams.add(stream) or images(batch, stream))
    losses = []
    for reach in (0, 2):  # of 0, the sample is its own partner
        _, _, _, records = session(Pairs(base=digits, group=torch.arange(len(digits)) // 4, reach=reach), name, {})
        losses.append([o.loss.item() for record in islice(records, 4) for o in record.objectives])
        assert losses[-1]
        assert all(map(math.isfinite, losses[-1]))
    assert (losses[0] != losses[1]) == any(stream % 2 for stream in streams)


@pytest.mark.parametrize("name", [n for n in methods.names() if "transformer" in methods.method_class(n).needs])
def test_a_method_of_transformers_says_why_a_convnet_does_not_do(digits, name):
    method, _ = method_of(name, {})
    with pytest.raises(BadInput, match="a convnet has no tokens to drop"):
        method.networks(encoders.build("conv", channels=1, image_size=8), digits.facts(8))


@pytest.mark.parametrize("name", [n for n in methods.names() if methods.method_class(n).embeds_views()])
def test_masked_patches_are_dropped_tokens_to_a_transformer(digits, name, monkeypatch):
    """What a patch shows that the view has masked changes nothing, not even by the color that fills it."""
    losses = []
    for offset in (0.0, 0.5):
        monkeypatch.setattr("sanslabel.views.masks.means", lambda images, o=offset: means(images) * 0 + o)
        method, recipe = method_of(name, {"masked": 2})
        torch.manual_seed(0)
        encoder = encoders.build("vit_micro", channels=1, image_size=8, patch=2)
        net = method.networks(encoder, digits.facts(8)).train()
        stream = batches(digits, BATCH, seed=1, epochs=2, device=torch.device("cpu"))
        records = optimize(method, net, players_of(net, recipe, BATCH), stream)
        losses.append([o.loss.item() for record in islice(records, 4) for o in record.objectives])
    assert losses[0]
    assert losses[0] == losses[1]


def test_a_new_file_is_a_new_method(tmp_path, monkeypatch):
    """Nothing but the file is needed: it is found and listed, and the tests above train it."""
    source = (methods._FOLDER / "simclr.py").read_text().replace("class SimCLR", "class Brandnew")
    (tmp_path / "brandnew.py").write_text(source)
    monkeypatch.setattr(methods, "_FOLDER", tmp_path)
    monkeypatch.setattr(methods, "__path__", [str(tmp_path)])
    methods.names.cache_clear()
    try:
        assert methods.names() == ["brandnew"]
        assert methods.method_class("brandnew").__name__ == "Brandnew"
        assert methods.sentence("brandnew").startswith("SimCLR")
    finally:
        methods.names.cache_clear()
