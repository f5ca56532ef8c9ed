"""Log-mel spectrograms: known values of the scale, the bank and a pure tone, and the place of windows."""

import math

import pytest
import torch

from sanslabel.batch import Audio, Batch
from sanslabel.errors import BadInput
from sanslabel.inputs import ImageSpec, SpectrogramSpec, TextSpec
from sanslabel.views import LogMel, Text, View, plain_view
from sanslabel.views.spectrogram import mel_bank, to_hertz, to_mel


def batch_of(waves, lengths=None):
    index = torch.arange(len(waves))
    return Batch(index, index + 7, {"audio": Audio(waves, lengths)})


def test_the_mel_scale_has_slaneys_values():
    hertz = torch.tensor([100, 440, 1000, 4000, 8000], dtype=torch.float64)
    expected = torch.tensor([1.5, 6.6, 15, 35.163760, 45.245640], dtype=torch.float64)
    torch.testing.assert_close(to_mel(hertz), expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(to_hertz(to_mel(hertz)), hertz)


def test_the_bank_is_that_of_librosa():
    bank = mel_bank(64, 1024, 16_000, 60, 7800)
    assert bank.shape == (64, 513)
    assert float(bank.sum()) == pytest.approx(4.095739, abs=1e-6)
    low, high = to_mel(torch.tensor([60.0, 7800.0], dtype=torch.float64)).tolist()
    centers = to_hertz(torch.linspace(low, high, 66, dtype=torch.float64))[1:-1]
    assert centers[[0, 31, 63]].tolist() == pytest.approx([105.105, 1680.521, 7445.486], abs=1e-3)
    assert float(mel_bank(80, 400, 16_000, 0, 8000).sum()) == pytest.approx(1.999024, abs=1e-6)
    assert (bank.sum(dim=1) > 0).all(), "no band is empty"


def test_a_bank_is_that_of_a_loop_over_triangles():
    bank, rate, window = mel_bank(7, 64, 1000, 50, 450), 1000, 64
    low, high = to_mel(torch.tensor([50.0, 450.0], dtype=torch.float64)).tolist()
    corners = to_hertz(torch.linspace(low, high, 9, dtype=torch.float64)).tolist()
    for i in range(7):
        left, center, right = corners[i : i + 3]
        for k in range(window // 2 + 1):
            f = k * rate / window
            height = (f - left) / (center - left) if f <= center else (right - f) / (right - center)
            assert float(bank[i, k]) == pytest.approx(max(0.0, height) * 2 / (right - left))


def test_a_tone_has_its_energy_in_its_band():
    """A unit cosine on bin 64 of a periodic Hann window has power (512 / 2)², and its neighbors a quarter of it."""
    view = LogMel()
    tone = torch.cos(2 * math.pi * 64 / 1024 * torch.arange(view.samples, dtype=torch.float64)).float()
    hann = torch.hann_window(1024)
    assert float(hann.sum()) == pytest.approx(512)
    assert float(hann.square().sum()) == pytest.approx(384)
    frame = torch.fft.rfft(tone[:1024] * hann).abs().square()
    assert frame[63:66].tolist() == pytest.approx([16_384, 65_536, 16_384], rel=1e-4)
    spectrogram = view.spectrogram(tone[None])[0]
    assert spectrogram.shape == (64, 96)
    middle = spectrogram[:, 48].exp()
    assert int(middle.argmax()) == 20
    assert float(middle.max()) == pytest.approx(1637.25, rel=1e-4)


def test_silence_is_the_floor_and_frames_follow_from_the_window():
    view = LogMel()
    assert view.samples == 15_200
    silent = view.plain(batch_of(torch.zeros(2, 1, 20_000))).images
    assert silent.shape == (2, 1, 64, 96)
    torch.testing.assert_close(silent, torch.full_like(silent, -15.942385))


@pytest.fixture
def view():
    return LogMel(mels=8, frames=5, rate=1000, window=64, hop=10, high=400.0)


def test_the_plain_view_is_the_central_window_of_all_channels(view):
    waves = torch.rand(3, 2, 100) * 2 - 1
    lengths = torch.tensor([100, 60, 30])
    images = view.plain(batch_of(waves, lengths)).images[:, 0]
    mono = waves.mean(dim=1)
    short = torch.cat([mono[2, :40]])  # a sound that is shorter than the window, which the batch has padded
    for image, window in zip(images, (mono[0, 30:70], mono[1, 10:50], short), strict=True):
        torch.testing.assert_close(image, view.spectrogram(window[None])[0])
    shortest = view.plain(batch_of(waves[:, :, :25])).images
    padded = torch.cat([mono[0, :25], torch.zeros(15)])
    torch.testing.assert_close(shortest[0, 0], view.spectrogram(padded[None])[0])


def test_windows_are_functions_of_the_key_and_the_stream(view):
    ramp = torch.arange(200).float()[None, None].expand(400, 1, 200) / 200
    batch = batch_of(ramp, torch.full((400,), 150))
    first = view.input(batch, 0).images
    assert torch.equal(first, view.input(batch, 0).images)
    assert not torch.equal(first, view.input(batch, 1).images)
    chosen = batch.map(lambda tensor: tensor[[5, 3]])
    torch.testing.assert_close(view.input(chosen, 0).images, first[[5, 3]])
    every = {start: view.spectrogram(ramp[:1, 0, start : start + 40])[0] for start in range(111)}
    table = torch.stack(list(every.values()))
    nearest = torch.cdist(first.flatten(1), table.flatten(1)).argmin(dim=1)
    assert nearest.unique().numel() > 100, "almost every place that leaves the window within the sound"
    assert torch.cdist(first.flatten(1), table.flatten(1)).min(dim=1).values.max() < 0.05, "and no other"


def test_autocast_does_not_change_a_spectrogram(view):
    batch = batch_of(torch.rand(2, 1, 80))
    expected = view.plain(batch).images
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(view.plain(batch).images, expected)


def test_the_plain_view_of_a_specification():
    assert plain_view(ImageSpec(channels=3, height=32, width=32)) == View(size=32)
    spectrogram = plain_view(SpectrogramSpec(mels=64, frames=96, rate=16_000))
    assert isinstance(spectrogram, LogMel)
    assert (spectrogram.window, spectrogram.hop, spectrogram.high) == (1024, 160, pytest.approx(7800))
    assert LogMel.of(SpectrogramSpec(mels=64, frames=96, rate=8000)).window == 512
    assert plain_view(TextSpec(vocabulary=10, length=4)) == Text(signal="source")


@pytest.mark.parametrize(
    ("numbers", "sentence"),
    [({"mels": 0}, "LogMel.mels 0: must be 1 or more"), ({"high": 9000.0}, "at most half of the rate")],
)
def test_numbers_that_cannot_be(numbers, sentence):
    with pytest.raises(BadInput, match=sentence):
        LogMel(**numbers)
