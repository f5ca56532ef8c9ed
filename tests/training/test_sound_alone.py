"""Any method of views trains on sounds alone, from files to scores and a page."""

import base64
import io
import json
import re
import wave

import numpy as np
import pytest
import torch

import sanslabel
from sanslabel.batch import Audio, Batch
from sanslabel.errors import BadInput
from sanslabel.inputs import SpectrogramSpec
from sanslabel.methods.byol import BYOL
from sanslabel.methods.simclr import SimCLR
from sanslabel.report import report
from sanslabel.sources import Request, open_source
from sanslabel.training.header import header
from sanslabel.views import LogMel, plain_view

soundfile = pytest.importorskip("soundfile")
QUICK = dict(batch=12, epochs=2, precision="float32", device="cpu", encoder={"name": "mlp", "hidden": 16})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two classes of twelve noisy tones."""
    folder, random = tmp_path_factory.mktemp("data") / "tones", np.random.default_rng(0)
    for kind, hertz in (("low", 300), ("high", 2500)):
        (folder / kind).mkdir(parents=True)
        for row in range(12):
            time = np.arange(9600 + 800 * row) / 16_000
            tone = 0.4 * np.sin(2 * np.pi * hertz * (1 + row / 50) * time)
            soundfile.write(folder / kind / f"{row}.wav", tone + 0.05 * random.standard_normal(len(time)), 16_000)
    return folder


@pytest.fixture(scope="module")
def run(folder):
    return sanslabel.train(folder, method="simclr", out=folder.parent / "run", **QUICK)


def test_its_views_are_those_of_sound(run):
    spec = SpectrogramSpec(mels=64, frames=96, rate=16_000)
    plan = run.known_plan
    assert plan.inputs == {"audio": spec}
    assert plan.image_size == 0
    assert plan.encoder | spec.arguments == plan.encoder
    assert run.method().signals_read == ("audio",)
    ((mean,), (deviation,)) = plan.encoder["scaling"]
    assert -12 < mean < -2
    assert 1 < deviation < 8
    first = next(header(plan, "tones", 10))
    assert first == "tones: 24 windows of sound, 2 classes"
    assert any("24 sounds make 24 windows" in line for line in header(plan, "tones", 10))
    assert any("64 mel bands x 96 frames" in line for line in header(plan, "tones", 10))


def test_the_encoder_reads_waves_by_the_plain_view(run, folder):
    encoder = sanslabel.load_encoder(run.path)
    view = plain_view(encoder.reads)
    assert isinstance(view, LogMel)
    waves = torch.from_numpy(soundfile.read(folder / "low/3.wav", dtype="float32")[0])[None, None]
    index = torch.arange(1)
    from_wave = encoder(*view.plain(Batch(index, index, {"audio": Audio(waves)})))
    source = open_source(folder)
    row = [source.id(row) for row in range(24)].index("low/3.wav")
    loaded = source.load(Request(torch.tensor([row])))
    from_source = encoder(*view.plain(Batch(loaded.index, loaded.index, loaded.signals)))
    torch.testing.assert_close(from_wave, from_source, atol=1e-2, rtol=1e-2)


def test_it_is_measured_beside_mel_statistics_and_a_random_encoder(run):
    scores = sanslabel.evaluate(run.path, protocols=("knn", "linear"))
    names = {score.representation for score in scores}
    assert {"mel statistics", "random encoder", "trained encoder (student)"} <= names
    knn = next(s for s in scores if s.protocol == "knn" and s.representation == "mel statistics")
    assert knn.value == 100
    text = (run.path / "evaluation").glob("*.json")
    assert all(json.loads(file.read_text())["image_size"] == 0 for file in text)


def test_its_page_shows_spectrograms_and_plays_them(run, tmp_path):
    page = report(run.path, out=tmp_path / "page.html", points=24).read_text()
    sounds = re.findall(r'<audio[^>]*src="data:audio/wav;base64,([^"]*)"', page)
    assert len(sounds) == 8
    with wave.open(io.BytesIO(base64.b64decode(sounds[0]))) as sound:
        assert (sound.getframerate(), sound.getnchannels(), sound.getsampwidth()) == (16_000, 1, 2)
        assert 9600 <= sound.getnframes() <= 18_400
    assert "first view" in page


def test_it_resumes_to_the_same_bits(run, folder):
    weights = run.encoder_file().read_bytes()
    for file in (run.encoder_file(), run.path / "config.json"):
        file.unlink()
    again = sanslabel.resume(run.path, method=SimCLR.under(SimCLR.small))
    assert again.encoder_file().read_bytes() == weights
    with pytest.raises(BadInput, match="was trained with other hyper-parameters"):
        sanslabel.resume(run.path, method=SimCLR())


def test_supervised_and_an_instance_train_on_sound(folder, tmp_path):
    for method in ("supervised", BYOL.under(BYOL.small)):
        run = sanslabel.train(folder, method=method, out=tmp_path / str(method)[:4], **QUICK | {"epochs": 1})
        assert run.exported()


def test_what_does_not_fit_is_refused(folder, tmp_path):
    with pytest.raises(BadInput, match="MAE learns from pictures, and these data have sound only"):
        sanslabel.train(folder, method="mae", out=tmp_path / "mae", **QUICK)
    with pytest.raises(BadInput, match="hides patches of pictures"):
        sanslabel.train(folder, masked=True, out=tmp_path / "masked", **QUICK)
    with pytest.raises(BadInput, match=r"is a size of pictures, and .* has none; leave it out"):
        sanslabel.train(folder, image_size=32, out=tmp_path / "size", **QUICK)
    assert not list(tmp_path.iterdir())
