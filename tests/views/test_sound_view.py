"""Views of sound: crop, gain, mixture and masks as a loop draws them, and known values."""

from dataclasses import replace
from math import log

import pytest
import torch

from sanslabel import views
from sanslabel.batch import Audio, Batch
from sanslabel.errors import BadInput
from sanslabel.inputs import SpectrogramSpec
from sanslabel.randomness import fold, uniform
from sanslabel.views import LogMel, SoundCrops, sound_view
from sanslabel.views import spectrogram as spectrogram_module
from sanslabel.views.spectrogram import BRANCH, DRAWS, interval, mel_bank, mixed, stripe, striped, to_hertz, to_mel

SPEC = SpectrogramSpec(mels=64, frames=96, rate=16_000)


def batch_of(waves, lengths=None):
    index = torch.arange(len(waves))
    return Batch(index, index + 7, {"audio": Audio(waves, lengths)})


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


@pytest.fixture
def plain():
    return LogMel(mels=8, frames=5, rate=1000, window=64, hop=10, high=400.0)


@pytest.fixture
def full(plain):
    return replace(plain, gain=6.0, mixup=0.4, crop_time=(0.6, 1.5), crop_mels=(0.6, 1.0), mask_time=0.4, mask_mels=0.4)


@pytest.mark.parametrize(
    ("scale", "expected"), [("htk", [150.489102, 549.638675, 999.985537, 2146.064528, 2840.023047])]
)
def test_the_scale_of_htk(scale, expected):
    hertz = torch.tensor([100, 440, 1000, 4000, 8000], dtype=torch.float64)
    assert to_mel(hertz, scale).tolist() == pytest.approx(expected, abs=1e-6)
    torch.testing.assert_close(to_hertz(to_mel(hertz, scale), scale), hertz)


@pytest.mark.parametrize(
    ("scale", "equal_area", "total"),
    [
        ("htk", False, 484.496885),
        ("htk", True, 4.095211),
        ("slaney", False, 482.559101),
        ("slaney", True, 4.095739),
    ],
)
def test_the_banks_have_known_sums(scale, equal_area, total):
    assert float(mel_bank(64, 1024, 16_000, 60, 7800, scale, equal_area).sum()) == pytest.approx(total, abs=1e-6)


def test_the_bands_of_htk_and_a_tone_in_them():
    low, high = to_mel(torch.tensor([60.0, 7800.0], dtype=torch.float64), "htk").tolist()
    centers = to_hertz(torch.linspace(low, high, 66, dtype=torch.float64), "htk")[1:-1]
    assert centers[[0, 31, 63]].tolist() == pytest.approx([88.762, 1794.882, 7490.050], abs=1e-3)
    view = LogMel(scale="htk", equal_area=False)
    tone = torch.cos(2 * torch.pi * 64 / 1024 * torch.arange(view.samples, dtype=torch.float64)).float()
    middle = view.power(tone[None])[0, :, 48]
    assert int(middle.argmax()) == 21
    assert float(middle.max()) == pytest.approx(65_743.95, rel=1e-4)


def test_the_bank_is_that_of_librosa_where_it_imports():
    librosa = pytest.importorskip("librosa")
    for scale, equal_area in (("slaney", True), ("htk", False)):
        theirs = librosa.filters.mel(
            sr=16_000,
            n_fft=1024,
            n_mels=64,
            fmin=60,
            fmax=7800,
            htk=scale == "htk",
            norm="slaney" if equal_area else None,
        )
        torch.testing.assert_close(
            mel_bank(64, 1024, 16_000, 60, 7800, scale, equal_area).float(), torch.from_numpy(theirs).float()
        )


def test_a_mixture_is_one_of_powers():
    """A mixture of ln 4 and ln 1 with weights 0.75 and 0.25 is ln 3.25; the mean of logarithms would be 1.039721."""
    power = torch.tensor([4.0, 1.0])[:, None, None].expand(2, 3, 2)
    result = mixed(power, torch.zeros(2), torch.tensor([0.25, 0.0])).log()
    torch.testing.assert_close(result[0], torch.full((3, 2), 1.178655))
    torch.testing.assert_close(result[1], torch.zeros(3, 2))


def test_a_mixture_takes_every_other_sample_and_never_itself():
    power, draws = torch.arange(5.0)[:, None, None], (torch.arange(4) + 0.5) / 4
    others = [mixed(power, draw.expand(5), torch.ones(5)).flatten().tolist() for draw in draws]
    for row in range(5):
        assert sorted(other[row] for other in others) == [other for other in range(5) if other != row]


def test_a_mixture_is_the_same_on_two_processes(monkeypatch, generator):
    power, draws = torch.rand(8, 3, 2, generator=generator), torch.rand(2, 8, generator=generator)
    alone = mixed(power, *draws)
    for process, half in enumerate((slice(0, 4), slice(4, 8))):
        monkeypatch.setattr(spectrogram_module, "gather", lambda local: power)
        monkeypatch.setattr(spectrogram_module, "rank", lambda process=process: process)
        assert torch.equal(mixed(power[half], *draws[:, half]), alone[half])


def test_without_operations_it_is_the_window(plain):
    batch = batch_of(torch.rand(20, 1, 200) * 2 - 1)
    same = replace(plain, crop_time=(1.0, 1.0), crop_mels=(1.0, 1.0), gain=0.0, mixup=0.0)
    assert torch.equal(plain.input(batch, 0).images, same.input(batch, 0).images)
    assert not plain.cropped
    spectrogram = torch.rand(3, 8, 5)
    draws = torch.rand(3, 4)
    torch.testing.assert_close(plain._crop(spectrogram, draws), spectrogram)
    assert torch.equal(striped(spectrogram, draws, 0.0, 0.0), spectrogram)


def one_by_one(view: LogMel, batch: Batch, stream: int) -> torch.Tensor:
    """The view, sample by sample."""
    waves, lengths = batch.signals["audio"]
    draws = uniform(batch.key, DRAWS, fold(stream, BRANCH))
    canvas = -(-view.frames * 3 // 2)
    samples, powers, results = (canvas - 1) * view.hop, [], []
    for wave, length, draw in zip(waves[:, 0], lengths.tolist(), draws, strict=True):
        room = length - samples
        place = int(draw[0] * (abs(room) + 1))
        if room >= 0:
            window = wave[place : place + samples]
        else:
            window = torch.cat([torch.zeros(place), wave, torch.zeros(samples)])[:samples]
        loud = window * 10 ** (view.gain * (2 * draw[1] - 1) / 20)
        powers.append(view.power(loud[None])[0])
    for row, draw in enumerate(draws):
        other = powers[(row + 1 + int(draw[2] * (len(powers) - 1))) % len(powers)]
        share = view.mixup * draw[3]
        spectrogram = ((1 - share) * powers[row] + share * other + view.floor).log()
        tall, wide = spectrogram.shape
        boxes = []
        for pair, shares, size, limit in (
            (draw[4:6], view.crop_time, view.frames, wide),
            (draw[6:8], view.crop_mels, tall, tall),
        ):
            low, high = shares
            length = min(max(1, round(float(size * (low + (high - low) * pair[0])))), limit)
            boxes.append((int(pair[1] * (limit - length + 1)), length))
        (left, across), (top, down) = boxes
        image = torch.nn.functional.interpolate(
            spectrogram[None, None, top : top + down, left : left + across],
            (tall, view.frames),
            mode="bilinear",
            antialias=True,
        )[0, 0]
        mean = image.mean()
        hidden = torch.zeros_like(image, dtype=torch.bool)
        for pair, share, axis in ((draw[8:10], view.mask_time, 1), (draw[10:12], view.mask_mels, 0)):
            size = image.shape[axis]
            length = int(pair[0] * (int(share * size) + 1))
            start = int(pair[1] * (size - length + 1))
            hidden.narrow(axis, start, length).fill_(True)
        results.append(torch.where(hidden, mean, image)[None])
    return torch.stack(results)


def test_the_view_is_that_of_a_loop(full, generator):
    waves = torch.rand(24, 1, 200, generator=generator) * 2 - 1
    lengths = torch.tensor([200, 150, 70, 30] * 6)
    waves = waves * (torch.arange(200) < lengths[:, None, None])
    batch = batch_of(waves, lengths)
    for stream in (0, 1):
        torch.testing.assert_close(
            full.input(batch, stream).images, one_by_one(full, batch, stream), atol=2e-4, rtol=1e-4
        )
    assert not torch.equal(full.input(batch, 0).images, full.input(batch, 1).images)
    integers = batch_of((waves * 32768).round().to(torch.int16), lengths)
    torch.testing.assert_close(full.input(integers, 0).images, full.input(batch, 0).images, atol=0.05, rtol=0.01)


def test_only_the_mixture_depends_on_the_other_samples(full, generator):
    batch = batch_of(torch.rand(8, 1, 200, generator=generator) * 2 - 1)
    few = batch.map(lambda tensor: tensor[2:5])
    alone = replace(full, mixup=0.0)
    torch.testing.assert_close(alone.input(few, 0).images, alone.input(batch, 0).images[2:5])


def test_intervals_and_stripes_stay_inside(generator):
    draws = torch.rand(2, 1000, generator=generator)
    start, length = interval(draws[0], draws[1], (0.6, 1.5), 96, 144)
    assert (int(length.min()), int(length.max())) == (58, 144)
    assert int(start.min()) >= 0
    assert int((start + length).max()) == 144
    hidden = stripe(draws[0], draws[1], 0.25, 20)
    assert hidden.sum(1).unique().tolist() == [0, 1, 2, 3, 4, 5]
    assert hidden.any(0).all()


def test_presets_take_the_place_of_crops_of_images():
    for view in (views.SIMCLR, views.BYOL, views.MASKED):
        assert view.of_sound(SPEC) == sound_view(SPEC)
        assert (view.signal, view.of_sound(SPEC).signal) == ("image", "audio")
    crops = views.SWAV.of_sound(SPEC)
    assert isinstance(crops, SoundCrops)
    assert (crops.local_crop.frames, crops.local_crops) == (40, 6)
    sizes = [crop.images.shape for crop in crops.inputs(batch_of(torch.rand(2, 1, 32_000)))]
    assert sizes == [(2, 1, 64, 96)] * 2 + [(2, 1, 64, 40)] * 6
    assert crops.of_sound(SPEC) is crops
    with pytest.raises(BadInput, match="hides patches of pictures"):
        crops.masked(4)


@pytest.mark.parametrize(
    ("field", "value"), [("crop_time", (0.0, 1.0)), ("crop_mels", (0.5, 1.2)), ("mixup", 1.5), ("gain", -1.0)]
)
def test_numbers_that_cannot_be(field, value):
    with pytest.raises(BadInput, match=f"LogMel.{field}"):
        LogMel(**{field: value})


def test_the_floor_is_silence():
    silent = sound_view(SPEC).input(batch_of(torch.zeros(2, 1, 32_000, dtype=torch.int16)), 0).images
    torch.testing.assert_close(silent, torch.full_like(silent, log(torch.finfo(torch.float32).eps)))
