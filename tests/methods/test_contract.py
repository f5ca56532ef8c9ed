"""What every method must keep, whoever wrote it: this file finds the methods by itself."""

import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import FrozenInstanceError, dataclass, field, fields, replace
from functools import cache
from hashlib import sha256
from inspect import getsourcelines
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch.utils._pytree import tree_leaves

from bench.bouncing import small_source
from bench.sequences import sequences
from sanslabel import encoders, methods
from sanslabel.batch import Audio, Batch
from sanslabel.encoders import Encoder, text, vit
from sanslabel.engine import Record, optimize, players_of
from sanslabel.errors import BadInput
from sanslabel.figures import FIGURES
from sanslabel.inputs import InputSpec, SpectrogramSpec
from sanslabel.methods.method import Family, Method, Refused
from sanslabel.randomness import fold, normal
from sanslabel.recipe import Recipe
from sanslabel.serialization import from_plain, to_plain
from sanslabel.sources import Loaded, Pairs, Request, Source, open_source, ordered, paired
from sanslabel.sources.loader import batches
from sanslabel.sources.pictures.cache import cached
from sanslabel.training.journal import measured
from sanslabel.views import plain_view
from sanslabel.views.color import means
from tests.sources.test_tracks import written_as_mot

CPU = torch.device("cpu")
STEPS, BATCH = 6, 64
"""of a run: two epochs of three steps, since some methods only fill their memory in the first"""
STOPS = (1, 2, 3)
"""the steps after which the state of a run is copied"""
SMALL = {"name": "dcgan", "filters": 8}
"""in place of conv: it has BatchNorm, too, and a hundredth of the weights"""
SMALL_OF_SOUND = {"name": "mlp", "hidden": [32]}
NARROW = 64
"""width of heads, at most"""


@pytest.fixture(scope="module", autouse=True)
def tiny_transformers():
    """Transformers of the same parts with a fraction of the weights, since nothing here depends on their number."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(vit.SHAPES, "vit_micro", vit.Shape(depth=4, width=32, heads=2))
        patch.setitem(text.SHAPES, "text_micro", vit.Shape(depth=1, width=32, heads=2))
        yield


@pytest.fixture(scope="module")
def digits():
    """Digits as frames of clips of 16, thirty a second."""
    source, row = open_source("digits", "train").subset(torch.arange(3 * BATCH)), torch.arange(3 * BATCH)
    return replace(source, group=row // 16, time=(row % 16).double() / 30)


@pytest.fixture(scope="module")
def source_of_method(digits):
    """The function that returns what a method trains on, by the first and last of its signals: digits, pictures with
    sound, or texts of 3 to 7 tokens with their reversals."""
    texts = sequences(3 * BATCH, least=3, longest=7, reverse=True)
    sources = {"image": digits, "audio": small_source(3 * BATCH, 8), "source": texts, "target": texts}
    return lambda name: sources[methods.method_class(name).signals[-1]]


def variants() -> list[tuple[str, dict]]:
    """Every method as its small recipe has it, with a teacher if it takes one, and with masked patches in place of
    crops if it embeds views."""
    cases = []
    for name in methods.names():
        cases.append((name, {}))
        if "teacher_momentum" in {f.name for f in fields(methods.method_class(name))}:
            cases.append((name, {"teacher_momentum": 0.9}))
        if methods.method_class(name).embeds_views:
            cases.append((name, {"masked": 2}))  # of 8 pixels a side: 16 patches, of which 4 are left
    return cases


every_method = pytest.mark.parametrize(
    ("name", "changes"), variants(), ids=lambda v: v if isinstance(v, str) else "-".join(v)
)


def method_of(name: str, changes: dict) -> tuple[Method, Recipe]:
    chosen = methods.method_class(name)
    changes = dict(changes)
    patch = changes.pop("masked", None)
    method = replace(chosen.under(chosen.small), **changes)
    return (method.masked(patch) if patch else method).sized(8), chosen.small


class Session:
    """A short run of a method with narrow heads."""

    def __init__(self, source, name, changes, *, start=0, dtype=torch.float32, spoil=None, encoder=None):
        self.method, recipe = method_of(name, changes)
        heads = {f.name for f in fields(self.method)} & {"hidden", "width", "decoder_width"}
        wide = {head for head in heads if (getattr(self.method, head) or 0) > NARROW}
        self.method = replace(self.method, **dict.fromkeys(wide, NARROW))
        if "image" not in self.method.signals and hasattr(self.method, "depth"):
            self.method = replace(self.method, depth=1)
        torch.manual_seed(0)
        small = encoder or (SMALL if recipe.encoder == "conv" else recipe.encoder)
        facts, chosen = source.facts(8), {"audio": encoder or SMALL_OF_SOUND}
        options = {s: encoders.encoder_options(chosen.get(s, small)) for s in self.method.encoded_signals}
        built = {signal: encoders.build(**o, **facts.inputs[signal].arguments) for signal, o in options.items()}
        self.net = self.method.networks(built if len(built) > 1 else next(iter(built.values())), facts).train()
        self.players = players_of(self.net, recipe, BATCH)
        order = source.order_of(self.method.stretch)
        self.batches = list(batches(source, BATCH, seed=1, epochs=2, start=start, device=CPU, order=order))
        stream = iter(self.batches) if spoil is None else spoiled(self.batches, spoil)
        reads_text = spoil is not None and "image" not in self.method.signals
        method = SpoiledMethod(self.method, spoil) if reads_text else self.method
        self.records = optimize(method, self.net, self.players, stream, dtype)

    def state(self) -> tuple[dict, dict]:
        """A copy of the networks' and the optimizers' state."""
        optimizers = {name: deepcopy(player.optimizer.state_dict()) for name, player in self.players.items()}
        return deepcopy(self.net.state_dict()), optimizers

    def load_(self, state: tuple[dict, dict]) -> None:
        self.net.load_state_dict(state[0])
        for name, player in self.players.items():
            player.optimizer.load_state_dict(deepcopy(state[1][name]))

    def digest(self) -> str:
        """Of all that a run remembers."""
        total = sha256()
        for name, value in self.tensors():
            total.update(name.encode())
            total.update(value.detach().contiguous().numpy().tobytes())
        return total.hexdigest()

    def tensors(self) -> Iterator[tuple[str, torch.Tensor]]:
        yield from sorted(self.net.state_dict().items())
        for name, player in sorted(self.players.items()):
            for i, slots in enumerate(player.optimizer.state.values()):
                for slot, value in sorted(slots.items()):
                    yield f"{name}/{i}/{slot}", value


def spoiled(stream, step):
    """The stream with one pixel of one batch that is not a number."""
    for clock, batch in stream:
        if clock.step == step and "image" in batch.signals:
            images = batch.images().pixels.float() / 255
            images[3] = float("nan")
            batch = batch.with_pixels(images)
        yield clock, batch


@dataclass(frozen=True)
class SpoiledMethod:
    """A method of texts, whose tokens are always numbers, with losses in one step that are none."""

    method: Method
    spoil: int

    def step(self, net, batch, clock):
        inner = self.method.step(net, batch, clock)
        for objective in inner:
            try:
                yield objective._replace(loss=objective.loss * float("nan")) if clock.step == self.spoil else objective
            except Refused as refused:
                inner.throw(refused)


class Trained(NamedTuple):
    """What a session was before and after its six steps, which several tests read."""

    session: Session
    before: dict[str, torch.Tensor]
    records: list[Record]
    digests: list[str]
    """after each step"""
    states: dict[int, tuple[dict, dict]]
    """after the steps of `STOPS`"""
    waited: list[list[str]]
    """operations that waited for the device in each step; watched in bfloat16 alone"""


@pytest.fixture(scope="module")
def trained(source_of_method, waits) -> Callable[..., Trained]:
    """The function that trains a method for six steps, each method and precision once."""

    @cache
    def train(name: str, changes: tuple, dtype: torch.dtype) -> Trained:
        session = Session(source_of_method(name), name, dict(changes), dtype=dtype)
        before = {k: v.clone() for k, v in session.net.state_dict().items()}
        records, digests, states, waited = [], [], {}, []
        given = [x for _, batch in session.batches for x in tree_leaves(batch) if isinstance(x, torch.Tensor)]
        watched = dtype == torch.bfloat16
        with waits(*session.net.parameters(), *session.net.buffers(), *given) if watched else nullcontext() as seen:
            for step, record in enumerate(session.records, 1):
                records.append(record)
                if seen is not None:
                    waited.append(list(seen.found))
                    seen.found.clear()
                else:
                    digests.append(session.digest())
                    if step in STOPS:
                        states[step] = session.state()
        return Trained(session, before, records, digests, states, waited)

    return lambda name, changes, dtype=torch.float32: train(name, tuple(changes.items()), dtype)


@every_method
def test_it_describes_itself(name, changes):
    chosen = methods.method_class(name)
    method, _ = method_of(name, changes)
    assert chosen.__mro__[1:3] == (Method, Method.__mro__[1]), "a method inherits from Method alone"
    assert isinstance(chosen.family, Family)
    assert chosen.energy
    assert chosen.prevents_collapse
    assert chosen.paper
    assert 1980 < chosen.year < 2100
    assert isinstance(chosen.recipe, Recipe)
    assert chosen.signals[0] in {"image", "source"}
    assert set(chosen.signals) <= {"image", "audio", "source", "target"}
    assert not chosen.one_encoder or len(chosen.signals) > 1
    assert methods.sentence(name).endswith(".")
    assert all(f.default is not f.default_factory for f in fields(method)), "every field has a default"
    lines, _ = getsourcelines(chosen.step)
    assert len(lines) < 35
    with pytest.raises(FrozenInstanceError):
        setattr(method, fields(method)[0].name, None)


@every_method
def test_its_hyperparameters_survive_a_file(name, changes):
    for method in (method_of(name, changes)[0], methods.method_class(name)()):
        assert from_plain(type(method), json.loads(json.dumps(to_plain(method)))) == method


@every_method
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_trains(trained, name, changes, dtype):
    session, before, records, *_ = trained(name, changes, dtype)
    assert len(records) == STEPS
    for record in records:
        assert not record.refused
        for objective, norm in zip(record.objectives, record.norms, strict=True):
            assert objective.loss.dtype == torch.float32
            assert objective.loss.ndim == 0
            assert torch.isfinite(objective.loss)
            for image in objective.pictures.values():
                assert image.ndim == 4
                assert image.min() >= 0
                assert image.max() <= 1
            assert measured(objective, norm).keys() <= FIGURES.keys(), "sanslabel/figures.py explains each"
    after = session.net.state_dict()
    moved = {name for name, p in session.net.named_parameters() if p.requires_grad}
    assert not [k for k in moved if torch.equal(before[k], after[k])], "every trained part moves"
    assert {v.dtype for v in after.values()} <= {torch.float32, torch.int64}


@every_method
def test_it_exports_encoders(source_of_method, name, changes):
    source = source_of_method(name)
    session = Session(source, name, changes, encoder=methods.method_class(name).small.encoder)
    exported = session.method.encoders(session.net)
    assert all(isinstance(encoder, Encoder) for encoder in exported.values())
    assert ("teacher" in exported) == hasattr(session.net, "teacher")
    assert hasattr(session.net, "teacher") or "teacher_momentum" not in changes
    assert session.net.partner is (session.net.teacher if hasattr(session.net, "teacher") else session.net)
    assert len({id(e) for e in exported.values()}) == len(exported)
    for encoder in exported.values():  # what a run writes down is enough to make it again
        again = encoders.build(**json.loads(json.dumps(encoder.config)))
        again.load_state_dict(encoder.state_dict())
        (batch,) = ordered(source.subset(torch.arange(4)), 4, device=torch.device("cpu"))
        images = plain_view(encoder.reads).plain(batch).images
        assert torch.equal(again.eval()(images), encoder.eval()(images))


@every_method
def test_no_gradient_reaches_a_teacher(trained, name, changes):
    net = trained(name, changes).session.net
    teacher = [p for name, p in net.named_parameters() if name.startswith("teacher.")]
    assert bool(teacher) == hasattr(net, "teacher")
    assert not any(p.requires_grad for p in teacher)
    assert all(p.grad is None for p in net.parameters() if not p.requires_grad)


@every_method
def test_a_spoiled_step_leaves_no_trace(source_of_method, trained, name, changes):
    session = Session(source_of_method(name), name, changes, start=2, spoil=3)
    session.load_(trained(name, changes).states[2])
    steps = [(session.digest(), record.refused) for record in session.records]
    assert [refused for _, refused in steps] == [False, True, False, False]
    assert steps[0][0] == trained(name, changes).digests[2]
    assert steps[1][0] == steps[0][0]
    assert steps[2][0] != steps[1][0]


@every_method
def test_a_step_waits_for_the_device_once_at_each_update(trained, name, changes):
    """Beside what is written down of it now and then."""
    run = trained(name, changes, torch.bfloat16)
    for record, waited in zip(run.records, run.waited, strict=True):
        assert waited == ["_local_scalar_dense"] * len(record.objectives), record.clock.step


@every_method
def test_its_state_is_all_there_is(source_of_method, trained, name, changes):
    """Networks and optimizers put into a fresh session continue to the same bits, wherever the first one stopped."""
    first = trained(name, changes)
    for stop in (1, 3):
        session = Session(source_of_method(name), name, changes, start=stop)
        session.load_(first.states[stop])
        assert [session.digest() for _ in session.records] == first.digests[stop:]


@every_method
def test_the_same_seed_gives_the_same_bits(source_of_method, trained, name, changes):
    torch.rand(3)
    session = Session(source_of_method(name), name, changes)
    list(islice(session.records, 4))
    assert session.digest() == trained(name, changes).digests[3]


@pytest.mark.parametrize("name", [n for n in methods.names() if methods.method_class(n).embeds_views])
def test_it_trains_on_pairs_unchanged(digits, name, monkeypatch):
    """Views of odd streams are drawn from the sample's partner, and no method has a line for that."""
    losses, streams, images = [], set(), Batch.images
    monkeypatch.setattr(Batch, "images", lambda batch, stream=0: streams.add(stream) or images(batch, stream))
    few = digits.subset(torch.arange(BATCH))  # one step an epoch: some methods only fill their memory in the first
    few = replace(few, group=torch.arange(BATCH) // 4, time=torch.arange(BATCH).double())
    for near in (0, 2):  # of 0, the sample is its own partner
        records = Session(Pairs(base=few, near=near), name, {}).records
        losses.append([o.loss.item() for record in records for o in record.objectives])
        assert losses[-1]
        assert all(map(math.isfinite, losses[-1]))
    assert (losses[0] != losses[1]) == any(stream % 2 for stream in streams)


@pytest.fixture(scope="module")
def tracks(tmp_path_factory):
    """Crops of twelve tracked objects, each with a crop of its track at another time. They are decoded once."""
    folder = tmp_path_factory.mktemp("tracks")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        source = open_source(written_as_mot(folder / "set", videos=6), "train", image_size=8)
        return paired(cached(source, "ram", workers=0), 0.3)


@pytest.mark.parametrize("name", [n for n in methods.names() if methods.method_class(n).embeds_views])
def test_it_trains_on_crops_of_tracks_and_resumes_exactly(tracks, name):
    assert len(tracks) >= BATCH
    first = Session(tracks, name, {})
    states, digests = [], []
    for record in first.records:
        assert all(torch.isfinite(objective.loss) for objective in record.objectives)
        states.append(first.state())
        digests.append(first.digest())
    assert len(digests) == 2
    for _, batch in first.batches:
        assert torch.equal(tracks.group[batch.partner], tracks.group[batch.index])
    again = Session(tracks, name, {}, start=1)
    again.load_(states[0])
    assert [again.digest() for _ in again.records] == digests[1:]


SOUND = SpectrogramSpec(mels=24, frames=32, rate=1000)
"""of a tenth of the samples that a second of speech has"""


FEW = 16
"""sounds, which are one batch"""


@dataclass(frozen=True, kw_only=True, eq=False)
class Chirps(Source):
    """Noise of 400 samples each, and no picture."""

    inputs: Mapping[str, InputSpec] = field(default_factory=lambda: {"audio": SOUND})

    @property
    def fingerprint(self) -> str:
        return "chirps"

    def id(self, index: int) -> str:
        return str(index)

    def load(self, request: Request) -> Loaded:
        waves = normal(fold(torch.zeros_like(request.index), request.index), 400, 0)[:, None] / 8
        return Loaded(request.index, {"audio": Audio(waves)}, [])

    def subset(self, index: torch.Tensor) -> "Chirps":
        return replace(self, labels=self.labels[index])


@pytest.mark.parametrize("name", [n for n in methods.names() if methods.method_class(n).embeds_views])
def test_it_trains_on_sound_alone(name, waits):
    """Its views are replaced by views of sound, and no method has a line for that."""
    chosen = methods.method_class(name)
    method = chosen.under(chosen.small).of_sound(SOUND)
    heads = {f.name for f in fields(method)} & {"hidden", "width"}
    method = replace(method, **{head: NARROW for head in heads if (getattr(method, head) or 0) > NARROW})
    assert method.signals_read == ("audio",)
    assert from_plain(type(method), json.loads(json.dumps(to_plain(method)))) == method
    source = Chirps(name="chirps", split="train", labels=torch.full((FEW,), -1), classes=())
    torch.manual_seed(0)
    net = method.networks(encoders.build("conv", scaling=((-5,), (2,)), **SOUND.arguments), source.facts()).train()
    stream = list(batches(source, FEW, seed=1, epochs=3, device=torch.device("cpu")))
    given = [x for _, batch in stream for x in tree_leaves(batch) if isinstance(x, torch.Tensor)]
    with waits(*net.parameters(), *net.buffers(), *given) as seen:
        records = list(optimize(method, net, players_of(net, chosen.small, FEW), stream))
    objectives = [objective for record in records for objective in record.objectives]
    assert seen.found == ["_local_scalar_dense"] * len(objectives)
    assert objectives
    assert all(math.isfinite(objective.loss) for objective in objectives)
    pictures = [image for objective in objectives for image in objective.pictures.values()]
    assert all(image.min() >= 0 and image.max() <= 1 for image in pictures)
    (encoder, *_) = method.encoders(net).values()
    assert encoder.reads == SOUND


@pytest.mark.parametrize("name", [n for n in methods.names() if not methods.method_class(n).embeds_views])
def test_a_method_of_pictures_says_that_it_cannot_read_sound(name):
    method = methods.method_class(name)()
    if method.learns_from_labels:
        assert method.of_sound(SOUND).signals_read == ("audio",)
    elif method.signals == ("image",):
        with pytest.raises(BadInput, match="learns from pictures, and these data have sound only"):
            method.of_sound(SOUND)


@pytest.mark.parametrize("name", [n for n in methods.names() if "transformer" in methods.method_class(n).needs])
def test_a_method_of_transformers_says_why_a_convnet_does_not_do(digits, name):
    method, _ = method_of(name, {})
    with pytest.raises(BadInput, match="a convnet has no tokens to drop"):
        method.networks(encoders.build("conv", channels=1, image_size=8), digits.facts(8))


@pytest.mark.parametrize("name", [n for n in methods.names() if methods.method_class(n).embeds_views])
def test_masked_patches_are_dropped_tokens_to_a_transformer(digits, name, monkeypatch):
    """What a patch shows that the view has masked changes nothing, not even by the color that fills it."""
    losses = []
    for offset in (0.0, 0.5):
        monkeypatch.setattr("sanslabel.views.masks.means", lambda images, o=offset: means(images) * 0 + o)
        records = Session(digits, name, {"masked": 2}, encoder={"name": "vit_micro", "patch": 2}).records
        losses.append([o.loss.item() for record in islice(records, 4) for o in record.objectives])
    assert losses[0]
    assert losses[0] == losses[1]


def test_a_new_file_is_a_new_method(tmp_path, monkeypatch):
    """Nothing but the file is needed: it is found and listed, and the tests above train it."""
    (folder, *_) = methods.__path__
    source = Path(folder, "simclr.py").read_text().replace("class SimCLR", "class Brandnew")
    (tmp_path / "brandnew.py").write_text(source)
    monkeypatch.setattr(methods, "__path__", [str(tmp_path)])
    assert methods.names() == ["brandnew"]
    assert methods.method_class("brandnew").__name__ == "Brandnew"
    assert methods.sentence("brandnew").startswith("SimCLR")
