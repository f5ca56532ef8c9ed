"""Sound tracks of videos: the samples lie at the times that the file states, and silence is left out."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sanslabel.batch import Audio
from sanslabel.errors import BadInput
from sanslabel.sources import Data, Pairs, Request, open_source
from sanslabel.sources.sounds.sound_track import track_blocks
from sanslabel.sources.sounds.sounds import WINDOW, windows_around
from sanslabel.sources.sounds.wave import RATE
from sanslabel.sources.sounds.waves import Waves
from sanslabel.sources.sounds.with_sounds import with_sound_tracks
from sanslabel.sources.stores.files import Files
from sanslabel.sources.stores.store import Unreadable

av = pytest.importorskip("av")


def video(
    path: Path, wave: np.ndarray | None, hertz: int = 48_000, codec: str = "pcm_s16le", late: float = 0.0
) -> Path:
    """Writes eight gray frames a second, and stereo sound that begins `late` seconds after the first frame."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        pictures = container.add_stream("mpeg4", rate=8)
        pictures.width = pictures.height = 32
        sound = None if wave is None else container.add_stream(codec, rate=hertz, layout="stereo")
        for number in range(24):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 10 * number, np.uint8), format="rgb24")
            container.mux(pictures.encode(frame))
        container.mux(pictures.encode(None))
        if wave is not None:
            stereo = np.repeat((wave * 32767).astype(np.int16), 2)[None]
            frame = av.AudioFrame.from_ndarray(stereo, format="s16", layout="stereo")
            frame.sample_rate, frame.pts = hertz, round(late * hertz)
            container.mux(sound.encode(frame))
            container.mux(sound.encode(None))
    return path


def read(path: Path) -> np.ndarray:
    return np.concatenate(list(track_blocks(lambda: path.open("rb"))))


def click(second: float, seconds: float = 3.0, hertz: int = 48_000) -> np.ndarray:
    """Returns silence with a loud tenth of a second."""
    time = np.arange(round(seconds * hertz)) / hertz
    return np.where((time >= second) & (time < second + 0.1), 0.5 * np.sin(2 * np.pi * 500 * time), 0)


@pytest.mark.parametrize("late", [0.0, 0.5])
def test_samples_lie_at_their_times(tmp_path, late):
    wave = read(video(tmp_path / "a.mkv", click(1.0), late=late))
    assert wave.dtype == np.int16
    assert len(wave) == pytest.approx((3 + late) * RATE, abs=RATE // 50)
    loud = np.flatnonzero(np.abs(wave) > 3000)
    assert loud[0] / RATE == pytest.approx(1 + late, abs=0.01)
    assert loud[-1] / RATE == pytest.approx(1.1 + late, abs=0.01)
    assert np.abs(wave).max() == pytest.approx(16_384, rel=0.02)


def test_a_compressed_track_is_read(tmp_path):
    wave = read(video(tmp_path / "a.mp4", click(1.0), codec="aac"))
    loud = np.flatnonzero(np.abs(wave) > 5000)
    assert loud[0] / RATE == pytest.approx(1, abs=0.03)


def test_a_video_without_sound_is_unreadable(tmp_path):
    path = video(tmp_path / "a.mkv", None)
    with pytest.raises(Unreadable, match="has no sound track"):
        read(path)
    path.write_bytes(b"damaged")
    with pytest.raises(Unreadable):
        read(path)


def test_windows_lie_around_times():
    lengths = [5 * RATE, RATE, 0]
    ends = np.cumsum([0, *lengths])
    samples = np.zeros(ends[-1], np.int16)
    samples[int(2.9 * RATE) : 3 * RATE] = 5000
    samples[5 * RATE :] = 100
    waves = Waves(samples, ends, {2: "damaged"})
    file, time = np.array([0, 0, 0, 0, 0, 1, 2]), np.array([0.2, 1.8, 2.5, 4.9, 4.05, 0.5, 0.5])
    begin, silent = windows_around(waves, file, time)
    for place, (row, second) in enumerate(zip(file.tolist(), time.tolist(), strict=True)):
        latest = max(0, lengths[row] - WINDOW)
        expected = min(max(0, round(second * RATE) - WINDOW // 2), latest)
        assert begin[place] == (expected if lengths[row] else 0)
        window = samples[ends[row] + begin[place] :][: min(WINDOW, lengths[row])].astype(float)
        assert silent[place] == (not len(window) or (window**2).mean() < 32768**2 * 1e-6)
    assert silent.tolist() == [True, True, False, True, True, False, True]


def test_frames_have_the_sound_around_them(tmp_path):
    video(tmp_path / "v/loud.mkv", click(0.2))
    video(tmp_path / "v/mute.mkv", None)
    (tmp_path / "p").mkdir()
    for gray, name in enumerate("abcd"):
        Image.new("L", (8, 8), gray).save(tmp_path / f"p/{name}.png")
    frames, videos = open_source(tmp_path / "p"), Files(tmp_path / "v", ["loud.mkv", "mute.mkv"])
    source = with_sound_tracks(frames, videos, np.array([0, 0, 0, 1]), np.array([0.0, 1.1, 2.5, 1.0]))
    assert [source.id(row) for row in range(len(source))] == ["a.png", "b.png"]
    audio = source.load(Request(torch.arange(2))).signals["audio"]
    assert isinstance(audio, Audio)
    loud = [float((wave[0].abs() > 3000).nonzero()[0]) / RATE for wave in audio.waves]
    assert loud == pytest.approx([0.2, 0.1], abs=0.02)
    assert any("silent, below -60 dB: 2 of 4 (50.0 %)" in remark for remark in source.remarks)
    assert any("Videos without sound that can be read: 1 (mute.mkv)." in remark for remark in source.remarks)
    with pytest.raises(BadInput, match=r"no video has sound that can be read \(mute.mkv: has no sound track\)"):
        with_sound_tracks(frames, Files(tmp_path / "v", ["mute.mkv"]), np.zeros(4, int), np.zeros(4))


def test_a_video_has_its_sound_for_methods_of_both(tmp_path):
    video(tmp_path / "v/a.mkv", 0.3 * np.sin(np.arange(144_000) / 20))
    plain = open_source(tmp_path / "v")
    assert set(plain.inputs) == {"image"}
    source = open_source(Data((tmp_path / "v",), signals=("image", "audio")))
    assert set(source.inputs) == {"image", "audio"}
    assert len(source) == len(plain)
    assert torch.equal(source.time, plain.time)
    loaded = source.load(Request(torch.arange(3)))
    assert loaded.signals["audio"].waves.shape == (3, 1, WINDOW)
    assert torch.equal(loaded.images.pixels, plain.load(Request(torch.arange(3))).images.pixels)
    near = Pairs(base=source, near=1.0).load(Request(torch.arange(3)))
    assert set(near.signals) == {"image", "partner", "audio"}
