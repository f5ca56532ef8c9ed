"""Runs on texts: the vocabulary lies in the run folder, is read back by all that opens the run, and may not change."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import log
from pathlib import Path

import pytest
from torch import Tensor, nn

import sanslabel
from sanslabel import checkpoint
from sanslabel.batch import Batch, Clock, Facts
from sanslabel.encoders import Encoder
from sanslabel.encoders.build import encoder_classes
from sanslabel.errors import BadInput
from sanslabel.inputs import TextSpec
from sanslabel.losses import nt_xent
from sanslabel.methods.method import Family, Method, Networks, Objective
from sanslabel.optimizers import AdamW
from sanslabel.recipe import Recipe
from sanslabel.run_folder import RunFolder
from sanslabel.sources.texts.tokenizer import Tokenizer

pytest.importorskip("tokenizers")
WORDS = {"cat": "chat", "dog": "chien", "bird": "oiseau", "house": "maison", "tree": "arbre", "king": "roi"}


class Bag(Encoder):
    """The mean of a vector for each token: (N, T) -> (N, 16)."""

    names = ("bag",)
    input = TextSpec

    def __init__(self, name: str, vocabulary: int, length: int, *, tokenizer: str = ""):
        super().__init__({"name": name, "vocabulary": vocabulary, "length": length, "tokenizer": tokenizer}, width=16)
        self.vectors = nn.Embedding(vocabulary, 16)

    def forward(self, ids: Tensor) -> Tensor:
        """Returns the mean over real tokens."""
        return self.pooled(self.stages(ids)[-1])

    def stages(self, images: Tensor) -> list[Tensor]:
        """Returns the vectors of all tokens, with zeros after the end."""
        return [self.vectors(images) * (images > 0)[..., None]]

    def pooled(self, stage: Tensor) -> Tensor:
        """Returns the mean over tokens that are not zero."""
        return stage.sum(1) / (stage != 0).any(2).sum(1, keepdim=True)


@dataclass(frozen=True, kw_only=True)
class Matching(Method):
    """A sentence and its translation must find each other in the batch."""

    family = Family.CONTRASTIVE
    energy = "minus the cosine of a sentence and its translation"
    prevents_collapse = "every other sentence of the batch is a negative"
    paper = "a test"
    year = 2026
    signals = ("source", "target")
    recipe = small = Recipe(optimizer=AdamW(lr=3e-3), epochs=2, encoder="bag")

    def networks(self, encoder, facts: Facts) -> Networks:
        """Returns an encoder for each language."""
        return Networks(encoders=nn.ModuleDict(encoder))

    def step(self, net: Networks, batch: Batch, clock: Clock) -> Iterator[Objective]:
        """Yields the cross-entropy of sentences and their translations."""
        a, b = (net.encoders[name](batch.signals[name].ids) for name in self.signals)
        yield Objective(nt_xent(a, b, 0.2), embedding=a, positive=b, trivial=log(2 * len(a) - 1))

    def encoders(self, net: Networks):
        """Returns both encoders."""
        return dict(net.encoders.items())


@dataclass(frozen=True, kw_only=True)
class Spreading(Method):
    """Sentences of one language must differ from each other."""

    family = Family.CONTRASTIVE
    energy = "minus the cosine of a sentence and itself"
    prevents_collapse = "every other sentence of the batch is a negative"
    paper = "a test"
    year = 2026
    signals = ("source",)
    recipe = small = Recipe(optimizer=AdamW(lr=3e-3), epochs=2, encoder="bag")

    def networks(self, encoder, facts: Facts) -> Networks:
        """Returns the encoder."""
        return Networks(encoder=encoder)

    def step(self, net: Networks, batch: Batch, clock: Clock) -> Iterator[Objective]:
        """Yields the cross-entropy of sentences and themselves."""
        a = net.encoder(batch.signals["source"].ids)
        yield Objective(nt_xent(a, a, 0.2), embedding=a)


@pytest.fixture(autouse=True)
def bag(monkeypatch):
    monkeypatch.setitem(encoder_classes(), "bag", Bag)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    lines = [[words[(n * k + k) % 6] for k in range(1, 3 + n % 9)] for words in (list(WORDS),) for n in range(200)]
    (folder / "a.en").write_text("\n".join(f"{' '.join(line)} {n}" for n, line in enumerate(lines)))
    (folder / "a.fr").write_text("\n".join(f"{' '.join(map(WORDS.get, line))} {n}" for n, line in enumerate(lines)))
    return folder


def train(corpus: Path, out: Path, **settings) -> RunFolder:
    quick = {"batch": 16, "epochs": 2, "precision": "float32", "device": "cpu", **settings}
    return sanslabel.train(corpus, method=Matching(), out=out, **quick)


@pytest.fixture(scope="module")
def run(corpus, tmp_path_factory) -> RunFolder:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(encoder_classes(), "bag", Bag)
        return train(corpus, tmp_path_factory.mktemp("runs") / "run")


def test_the_vocabulary_lies_in_the_run_and_its_hash_in_every_configuration(run):
    sha256 = checkpoint.sha256(run.path / "tokenizer.json")
    spec = run.plan.inputs["source"]
    assert spec == run.plan.inputs["target"]
    assert (spec.tokenizer, spec.length) == (sha256, 64)
    for network in ("source", "target"):
        assert checkpoint.exported_config(run.path, network)["tokenizer"] == sha256
        assert run.encoder(network).reads == spec


def test_the_run_reads_texts_with_its_vocabulary(run, corpus, tmp_path):
    train_split, test = run.source("train"), run.source("test")
    assert train_split.fingerprint == run.plan.fingerprint
    assert train_split.inputs == test.inputs == run.plan.inputs
    assert not set(train_split.sentences["source"]) & set(test.sentences["source"])
    (tmp_path / "b.en").write_text("the cow\nthe cat")
    (tmp_path / "b.fr").write_text("la vache\nle chat")
    assert run.source("all", tmp_path).inputs == run.plan.inputs


def test_a_run_resumes_to_the_same_bits(run, corpus, tmp_path, interrupted):
    with interrupted(13), pytest.raises(KeyboardInterrupt):
        train(corpus, tmp_path / "again")
    again = sanslabel.resume(tmp_path / "again", method=Matching())
    for name in ("encoder.safetensors", "encoder-target.safetensors", "config.json", "tokenizer.json"):
        assert (again.path / name).read_bytes() == (run.path / name).read_bytes()


def test_a_method_of_one_language_reads_one_side_and_finds_the_test_split_again(corpus, tmp_path):
    quick = dict(batch=16, epochs=1, precision="float32", device="cpu")
    run = sanslabel.train(corpus, method=Spreading(), out=tmp_path / "run", **quick)
    assert run.exported() == ["student"]
    assert run.source().split == "test"
    assert run.source("train").fingerprint == run.plan.fingerprint
    assert sanslabel.resume(run.path, method=Spreading()).path == run.path


def test_weights_of_a_run_bring_its_vocabulary(corpus, tmp_path):
    quick = dict(batch=16, epochs=1, precision="float32", device="cpu")
    first = sanslabel.train(corpus, method=Spreading(), out=tmp_path / "first", vocabulary=300, **quick)
    (tmp_path / "b.txt").write_text("\n".join(f"other words {n} here" for n in range(60)))
    second = sanslabel.train(
        tmp_path / "b.txt", method=Spreading(), out=tmp_path / "second", weights=str(first.path), **quick
    )
    assert second.plan.inputs["source"] == first.plan.inputs["source"]
    assert (second.path / "tokenizer.json").read_bytes() == (first.path / "tokenizer.json").read_bytes()
    with pytest.raises(BadInput, match=r"is that of .weights., whose tokens it numbers"):
        sanslabel.train(corpus, method=Spreading(), weights=str(first.path), vocabulary=300, **quick)


def test_a_changed_vocabulary_is_refused(run, corpus, tmp_path):
    other = train(corpus, tmp_path / "other", epochs=1)
    file = other.path / "tokenizer.json"
    file.write_bytes(Tokenizer.trained(["other words"] * 3).content)
    for use in (lambda: sanslabel.resume(other.path, method=Matching()), lambda: other.source("test")):
        with pytest.raises(BadInput, match="is not the vocabulary that the encoder was trained with"):
            use()
    file.unlink()
    with pytest.raises(BadInput, match=r"tokenizer\.json cannot be read .*; put the vocabulary of the run there"):
        other.source("test")


def test_a_run_that_fails_at_once_leaves_no_vocabulary(corpus, tmp_path):
    class Failing(Matching):
        def step(self, net, batch, clock):
            raise RuntimeError("at once")
            yield

    with pytest.raises(RuntimeError, match="at once"):
        sanslabel.train(corpus, method=Failing(), out=tmp_path / "run", batch=16, epochs=1, device="cpu")
    assert not (tmp_path / "run").exists()


def test_a_file_in_the_way_of_the_vocabulary_is_kept(corpus, tmp_path):
    (tmp_path / "tokenizer.json").write_text("mine")
    with pytest.raises(BadInput, match=r"tokenizer\.json: is in the way"):
        train(corpus, tmp_path)
    assert (tmp_path / "tokenizer.json").read_text() == "mine"


def test_texts_of_one_language_have_no_target_to_read(corpus, tmp_path):
    (tmp_path / "a.txt").write_text("\n".join(f"line {'x' * n}" for n in range(20)))
    with pytest.raises(BadInput, match="has no target, which the method reads"):
        train(tmp_path / "a.txt", tmp_path / "run")


def test_settings_of_texts_travel(corpus, tmp_path):
    run = train(corpus, tmp_path / "run", languages=("fr", "en"), vocabulary=270, longest=9, epochs=1)
    spec = run.plan.inputs["source"]
    assert (spec.vocabulary, spec.length) == (270, 9)
    assert run.plan.languages == ("fr", "en")
    source = run.source("train")
    assert source.fingerprint == run.plan.fingerprint
    assert "chat" in " ".join(source.sentences["source"])
    assert int(source.tokens["target"].length.max()) <= 9
