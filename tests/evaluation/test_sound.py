"""Evaluation of an encoder that reads spectrograms, on a source of tones."""

from dataclasses import dataclass, replace

import pytest
import torch
from torch import nn

from sanslabel.batch import Audio
from sanslabel.encoders import Encoder
from sanslabel.errors import BadInput
from sanslabel.evaluation.comparison import Comparison
from sanslabel.evaluation.feature_cache import FeatureCache
from sanslabel.evaluation.labeled_split import EvaluationSplit, open_for
from sanslabel.evaluation.probe import chosen_probe
from sanslabel.evaluation.protocols.finetune import Finetune, fine_tuned
from sanslabel.evaluation.protocols.invariance import Invariance
from sanslabel.evaluation.protocols.knn import KNN
from sanslabel.evaluation.representation import represent, settle_
from sanslabel.evaluation.subjects import pixel_baseline
from sanslabel.inputs import SpectrogramSpec
from sanslabel.sources import Loaded, Source

CPU = torch.device("cpu")
SOUND = SpectrogramSpec(mels=8, frames=6, rate=1000)
OPTIONS = {"reads": SOUND, "device": CPU, "dtype": torch.float32, "workers": 0}


class Ears(Encoder):
    """A linear layer and BatchNorm on a spectrogram."""

    names = ("ears",)
    input = SpectrogramSpec

    def __init__(self):
        super().__init__({"name": "ears", **SOUND.arguments}, 16, None)
        self.layer = nn.Sequential(nn.Flatten(), nn.Linear(48, 16), nn.BatchNorm1d(16))

    def stages(self, images):
        return [self.layer(images)]

    def pooled(self, stage):
        return stage


@dataclass(frozen=True, kw_only=True, eq=False)
class Tones(Source):
    """Tones in noise; the class is the octave."""

    waves: torch.Tensor

    @property
    def fingerprint(self):
        return f"tones {len(self)}"

    def id(self, index):
        return str(index)

    def load(self, request):
        return Loaded(request.index, {"audio": Audio(self.waves[request.index])}, [])

    def subset(self, index):
        return replace(self, waves=self.waves[index], labels=self.labels[index])


@pytest.fixture
def tones(generator):
    labels = torch.arange(120) % 3
    time = torch.arange(100) / SOUND.rate
    waves = (2 * torch.pi * 100 * 2.0 ** labels[:, None] * time).sin()
    waves = waves + 0.2 * torch.randn(waves.shape, generator=generator)
    inputs = {"audio": SOUND}
    return Tones(name="tones", split="all", labels=labels, classes=("a", "b", "c"), inputs=inputs, waves=waves[:, None])


@pytest.fixture
def split(tones):
    test = torch.arange(120) >= 90
    return EvaluationSplit(
        "tones",
        tones.subset((~test).nonzero()[:, 0]),
        tones.subset(test.nonzero()[:, 0]),
        "test",
        OPTIONS,
        FeatureCache(None),
    )


@pytest.fixture
def ears():
    torch.manual_seed(0)
    return Ears()


def test_features_and_settled_statistics(tones, ears):
    settle_(ears, tones, reads=SOUND, device=CPU)
    features, index = represent({"ears": ears}, tones, reads=SOUND, device=CPU, batch=50)
    assert torch.equal(index, torch.arange(120))
    assert features["ears"].shape == (120, 16)
    assert features["ears"].std() == pytest.approx(1, abs=0.05)


def test_octaves_are_told_apart_by_neighbors_and_by_fine_tuning(split, ears):
    comparison = Comparison(representations={"ears": ears}, encoders={"ears": ears}, split=split)
    neighbors = KNN(k=5, labels_per_class=3, draws=1).measure(comparison)[0]
    assert neighbors.value > 90
    probe, _ = chosen_probe(comparison.features["ears"].train, comparison.division.train, classes=3, seed=0)
    how = Finetune(steps=20, batch=30)
    net = fine_tuned(ears, probe, split.train, how, seed=0, **OPTIONS)
    logits, _ = represent({"": net}, split.test, **OPTIONS)
    assert (logits[""].argmax(dim=1) == split.test.labels).float().mean() > 0.9


def test_what_needs_images_is_left_out_or_refused(split, ears):
    assert pixel_baseline(SOUND) == {}
    comparison = Comparison(representations={"ears": ears}, split=split)
    with pytest.raises(BadInput, match="'invariance' changes images"):
        Invariance().check_comparison(comparison)
    with pytest.raises(BadInput, match="digits: has no spectrogram for the encoder to read; name other data"):
        open_for(SOUND, "digits", "train")
