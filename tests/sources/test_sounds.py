"""Sound files as data: what is read of them, which windows they make, and what a silent or damaged one does."""

import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import sanslabel
from sanslabel.batch import Audio
from sanslabel.errors import BadInput
from sanslabel.inputs import SpectrogramSpec
from sanslabel.sources import Request, open_source, splits
from sanslabel.sources.sounds import waves as waves_module
from sanslabel.sources.sounds.sounds import Sounds, windows_of
from sanslabel.sources.sounds.wave import BLOCK, RATE, resampled, wave_blocks
from sanslabel.sources.sounds.waves import Waves, waves_of
from sanslabel.sources.stores.files import Files
from tests.sources.conftest import die

soundfile = pytest.importorskip("soundfile")


def tone(seconds: float, hertz: float = 440.0, rate: int = RATE, level: float = 0.5) -> np.ndarray:
    return level * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)


def write(path: Path, wave: np.ndarray, rate: int = RATE, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, wave, rate, **options)
    return path


def read(path: Path) -> np.ndarray:
    return np.concatenate(list(wave_blocks(lambda: path.open("rb"))))


@pytest.fixture
def folder(tmp_path) -> Path:
    """Two classes of three sounds each, of which one is silent."""
    for row in range(3):
        write(tmp_path / f"set/low/{row}.wav", tone(0.4 + row / 10, 300))
        write(tmp_path / f"set/high/{row}.flac", tone(0.5 + row / 10, 2000))
    write(tmp_path / "set/high/silence.wav", tone(1, level=1e-5), subtype="FLOAT")
    return tmp_path / "set"


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 44_100, 48_000, 44_101, 96_000])
def test_a_tone_stays_the_same_at_any_rate(rate):
    wave = tone(0.5, 997, rate).astype(np.float32)
    whole = np.concatenate(list(resampled([wave], rate)))
    assert len(whole) == -(-len(wave) * RATE // rate) or rate == 44_101  # whose ratio is rounded, by 0.002 %
    inner = slice(300, -300)
    expected = tone(0.5, 997, RATE)[: len(whole)]
    assert np.abs(whole[: len(expected)] - expected)[inner].max() < (1e-2 if rate == 44_101 else 1e-3)
    pieces = np.concatenate(list(resampled(np.split(wave, [1, 7, 700, 701]), rate)))
    assert np.allclose(whole, pieces, atol=1e-6)


def test_resampling_is_a_sum_over_samples_with_a_sinc():
    random, up, down = np.random.default_rng(0), 160, 441
    wave = random.standard_normal(2000).astype(np.float32)
    result = np.concatenate(list(resampled([wave], 44_100)))
    cutoff = up / down * 0.96
    half = int(np.ceil(64 / cutoff))
    for n in (0, 1, 300, len(result) - 1):
        distance = np.arange(len(wave)) - n * down / up
        inside = np.abs(distance) <= half
        window = np.i0(7 * np.sqrt(np.clip(1 - (distance / half) ** 2, 0, None))) * inside
        weight = np.sinc(cutoff * distance) * window
        everywhere = np.arange(-half, half + 1) - (n * down / up) % 1
        total = np.sinc(cutoff * everywhere) * np.i0(7 * np.sqrt(np.clip(1 - (everywhere / half) ** 2, 0, None)))
        assert result[n] == pytest.approx((weight * wave).sum() / total.sum(), abs=2e-4)


def test_what_would_fold_back_is_gone():
    assert (
        np.abs(np.concatenate(list(resampled([tone(0.5, 9_000, 44_100).astype(np.float32)], 44_100))))[300:-300].max()
        < 5e-4
    )


@pytest.mark.parametrize("kind", ["wav", "flac", "ogg", "mp3"])
def test_all_kinds_become_mono_waves(tmp_path, kind):
    stereo = np.stack([tone(0.5, rate=32_000), 0 * tone(0.5, rate=32_000)], axis=1)
    wave = read(write(tmp_path / f"a.{kind}", stereo, 32_000))
    assert wave.dtype == np.int16
    assert len(wave) == pytest.approx(RATE / 2, abs=1200)  # MP3 has whole frames
    middle = wave[2000:6000].astype(float)
    assert np.sqrt((middle**2).mean()) == pytest.approx(32768 * 0.25 / np.sqrt(2), rel=0.05)


def test_a_folder_of_sounds_is_a_data_set(folder):
    source = open_source(folder)
    assert isinstance(source, Sounds)
    assert source.classes == ("high", "low")
    assert source.noun == "window of sound"
    assert source.inputs == {"audio": SpectrogramSpec(mels=64, frames=96, rate=16_000)}
    assert [source.id(row) for row in range(6)] == [f"high/{i}.flac" for i in range(3)] + [
        f"low/{i}.wav" for i in range(3)
    ]
    assert source.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert source.remarks[-1] == (
        "7 sounds make 7 windows of up to 2 seconds. Silent, below -60 dB, and left out: 1 (14.3 %)."
    )
    loaded = source.load(Request(torch.tensor([3, 0])))
    audio = loaded.signals["audio"]
    assert isinstance(audio, Audio)
    assert audio.waves.shape == (2, 1, 32_000)
    assert audio.waves.dtype == torch.int16
    assert audio.lengths.tolist() == [6400, 8000]
    expected = np.round(tone(0.4, 300) * 32768)
    assert np.abs(audio.waves[0, 0, :6400].numpy() - expected).max() <= 1
    assert not audio.waves[0, 0, 6400:].any()
    few = source.subset(torch.tensor([4, 1]))
    assert [few.id(row) for row in range(2)] == ["low/1.wav", "high/1.flac"]
    again = few.load(Request(torch.tensor([0]))).signals["audio"]
    assert torch.equal(again.waves, source.load(Request(torch.tensor([4]))).signals["audio"].waves)


def test_windows_follow_each_other():
    lengths = [100, 32_000, 39_999, 40_000, 96_000, 0]
    ends = np.cumsum([0, *lengths])
    loud = np.full(ends[-1], 1000, np.int16)
    loud[ends[4] + 32_000 : ends[4] + 64_000] = 10
    windows = windows_of(Waves(loud, ends, {5: "damaged"}))
    expected = [(0, 0, 100), (1, 0, 32_000), (2, 0, 32_000), (3, 0, 32_000), (3, 32_000, 8_000)]
    expected += [(4, begin, 32_000) for begin in (0, 32_000, 64_000)]
    assert list(zip(windows.file, windows.begin, windows.length, strict=True)) == expected
    assert windows.silent.tolist() == [False] * 6 + [True, False]


def test_windows_of_a_file_are_named_and_grouped(tmp_path):
    write(tmp_path / "set/a.wav", tone(5))
    write(tmp_path / "set/b.wav", tone(1))
    source = open_source(tmp_path / "set")
    assert [source.id(row) for row in range(4)] == ["a.wav", "a.wav#t=2", "a.wav#t=4", "b.wav"]
    assert source.group.tolist() == [0, 0, 0, 1]
    assert source.load(Request(torch.arange(2))).signals["audio"].lengths is None


def test_copies_splits_and_label_files_work_as_for_pictures(folder, tmp_path):
    shutil.copy(folder / "low/0.wav", folder / "low/again.wav")
    assert "1 of 8 sounds is a copy of others; each is used once." in open_source(folder).remarks
    labels = tmp_path / "labels.csv"
    labels.write_text("path,label\nlow/0.wav,x\nlow/1.wav,y\n")
    labeled = open_source(sanslabel.sources.Data((folder,), labels=str(labels)))
    assert labeled.classes == ("x", "y")
    assert "Labels from labels.csv: 2 of 8 sounds." in labeled.remarks
    shutil.move(folder, tmp_path / "data/train")
    write(tmp_path / "data/test/low/9.wav", tone(0.3))
    assert splits(tmp_path / "data") == ("train", "test")
    assert len(open_source(tmp_path / "data", "test")) == 1


def test_damaged_files_are_replaced_and_counted(folder):
    (folder / "low/1.wav").write_bytes(b"damaged")
    (folder / "high/9.ogg").write_bytes(b"OggS" + bytes(100))
    source = open_source(folder)
    assert len(source) == 7
    loaded = source.load(Request(torch.arange(7)))
    assert loaded.index.tolist() == [0, 1, 2, 4, 4, 6, 6]
    assert [bad.id for bad in loaded.replaced] == ["high/9.ogg", "low/1.wav"]
    assert all(bad.reason for bad in loaded.replaced)
    for file in folder.rglob("*.*"):
        file.write_bytes(file.name.encode())
    with pytest.raises(BadInput, match=r"none of its 8 sounds can be read \(high/0.flac"):
        open_source(folder)


def test_a_file_beyond_the_bounds_is_unreadable(tmp_path):
    write(tmp_path / "set/fine.wav", tone(1))
    write(tmp_path / "set/slow.wav", tone(1), 500)
    write(tmp_path / "set/wide.wav", np.zeros((10, 65)))
    write(tmp_path / "set/infinite.wav", np.full(1000, np.inf), subtype="FLOAT")
    write(tmp_path / "set/empty.wav", tone(0))
    source = open_source(tmp_path / "set")
    assert sorted(source.waves.reasons.values()) == [
        "has 500 samples a second, and 1,000 to 768,000 are read",
        "has 65 channels, and up to 64 are read",
        "has no samples",
        "has samples that are not finite",
    ]


def test_silence_alone_is_refused(tmp_path):
    write(tmp_path / "set/a.wav", np.zeros(RATE))
    with pytest.raises(BadInput, match="all sounds are silent, below -60 dB"):
        open_source(tmp_path / "set")


def test_waves_are_decoded_once(folder, monkeypatch, cache):
    monkeypatch.setattr(waves_module, "SETTLED", 0)
    first = open_source(folder)
    assert isinstance(first.waves.samples, np.memmap)
    with monkeypatch.context() as patch:
        patch.setattr(waves_module, "wave_blocks", None)
        again = open_source(folder)
    index = torch.arange(len(first))
    waves = first.load(Request(index)).signals["audio"].waves
    assert torch.equal(again.load(Request(index)).signals["audio"].waves, waves)
    there = pickle.loads(pickle.dumps(again))  # as a worker process gets it
    assert torch.equal(there.load(Request(index)).signals["audio"].waves, waves)
    (table,) = (cache / "sounds").glob("*.npz")
    table.write_bytes(b"damaged")
    assert torch.equal(open_source(folder).load(Request(index)).signals["audio"].waves, waves)
    monkeypatch.setattr(waves_module, "SETTLED", 10**12)  # as if the files had just changed
    fresh = open_source(folder)
    assert not isinstance(fresh.waves.samples, np.memmap)
    assert torch.equal(fresh.load(Request(index)).signals["audio"].waves, waves)
    assert first.fingerprint == fresh.fingerprint


def test_a_run_that_is_killed_while_it_decodes_leaves_nothing_that_counts(folder, monkeypatch, cache, dies):
    monkeypatch.setattr(waves_module, "SETTLED", 0)
    with monkeypatch.context() as patch:
        patch.setattr(waves_module, "packed_strings", lambda _: die())  # between the waves and their table
        dies(lambda: open_source(folder))
    assert [path.suffix for path in (cache / "sounds").iterdir()] == [".waves"]

    def blocks(opener):
        yield from wave_blocks(opener)
        die()

    dies(lambda: waves_of(Files(folder, ["low/0.wav", "low/1.wav"]), "tones", blocks))
    (left,) = (path for path in (cache / "sounds").iterdir() if path.suffix != ".waves")
    assert left.suffix[1:].isdigit(), "the number of the process"
    source, index = open_source(folder), torch.arange(6)
    assert {path.suffix for path in (cache / "sounds").iterdir()} == {left.suffix, ".waves", ".npz"}
    monkeypatch.setattr(waves_module, "SETTLED", 10**12)  # decoded into memory
    direct = open_source(folder).load(Request(index)).signals["audio"].waves
    assert torch.equal(source.load(Request(index)).signals["audio"].waves, direct)
    os.utime(left, (0, 0))
    waves_module._make_room(cache / "sounds")
    assert not left.exists(), "what a killed run has left goes after a day"


def test_sounds_without_room_are_refused(folder, monkeypatch):
    monkeypatch.setattr(waves_module, "free_memory", lambda: 1000)
    with pytest.raises(BadInput, match="more than half of the free memory"):
        open_source(folder)


def test_a_long_file_is_decoded_in_blocks(tmp_path):
    wave = tone(2 * BLOCK / 44_100 + 1, rate=44_100)
    decoded = read(write(tmp_path / "a.wav", wave, 44_100))
    assert len(decoded) == -(-len(wave) * RATE // 44_100)
    expected = np.round(tone(len(decoded) / RATE) * 32768)
    assert np.abs(decoded[500:-500] - expected[500:-500]).max() < 40


def test_a_missing_package_is_named(folder, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "soundfile", None)
    with pytest.raises(BadInput, match=r"Reading sounds needs soundfile .*; pip install 'sanslabel\[audio\]'"):
        open_source(folder)
    with pytest.raises(BadInput, match="is a single sound; give the folder that its sounds lie in"):
        open_source(folder / "low/0.wav")
