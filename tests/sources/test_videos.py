"""Videos as data: their frames at their times, upright, in true colors, decoded once, and what is refused."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import sanslabel
from sanslabel.errors import BadInput
from sanslabel.run_folder import RunFolder
from sanslabel.sources import Data, Pairs, Request, open_source, paired, splits
from sanslabel.sources.stores.frames import bitmap
from sanslabel.sources.stores.store import Unreadable
from sanslabel.sources.videos import videos as module
from sanslabel.sources.videos.cuts import shots, still_shots
from sanslabel.sources.videos.video_file import frame_at, frames, video_file

pytest.importorskip("av")

from tests.sources.conftest import die
from tests.sources.video_files import counter, level, moving, write_video

QUICK = {"encoder": {"name": "mlp", "hidden": 16}, "batch": 8, "epochs": 2, "image_size": 16, "device": "cpu"}
QUICK |= {"precision": "float32", "workers": 0}
IRREGULAR = np.cumsum(np.tile([0.033, 0.1, 0.033, 0.25, 0.067], 12)) - 0.033
"""times of 60 frames at an irregular rate"""


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "sanslabel"


def opened(*places, **choices):
    size = choices.pop("image_size", 32)
    return open_source(Data(places, **choices), image_size=size)


def levels(source) -> np.ndarray:
    pixels = source.load(Request(torch.arange(len(source)))).images.pixels
    return pixels.float().mean((1, 2, 3)).numpy()


@pytest.mark.parametrize("kind", ["mp4", "mkv"])
@pytest.mark.parametrize("times", [None, IRREGULAR], ids=["regular", "irregular"])
def test_a_counter_is_read_at_every_time_in_any_order_with_any_number_of_threads(tmp_path, kind, times):
    file = write_video(tmp_path / f"counter.{kind}", counter(), times=times, max_b_frames=2)
    stated = [frame.time for frame in frames(file)]
    exact = np.arange(60) / 25 if times is None else times
    assert np.abs(np.array(stated) - exact).max() < 2e-3  # Matroska rounds to milliseconds
    moments = np.concatenate([stated, np.array(stated) + 0.013, [-1.0, 99.0]])
    for threads in (1, 3):
        for time in np.random.default_rng(threads).permutation(moments)[:40]:
            expected = max(0, int(np.searchsorted(stated, time + 1e-6, side="right")) - 1)
            read = frame_at(file, float(time), threads).pixels(1, 48).mean()
            assert abs(read - level(expected)) < 1.5


def test_every_number_of_threads_decodes_the_same_bits(tmp_path):
    file = write_video(tmp_path / "a.mp4", moving())
    one, several = ([f.pixels(3, 24).copy() for f in frames(file, threads)] for threads in (1, 4))
    assert len(one) == 30
    assert np.array_equal(one, several)


def test_the_source_has_every_frame_at_its_time(tmp_path):
    file = write_video(tmp_path / "counter.mp4", counter(), times=IRREGULAR)
    source = opened(file)
    assert (source.name, len(source), source.noun, source.channels) == ("counter", 60, "frame", 1)
    assert np.abs(levels(source) - [level(n) for n in range(60)]).max() < 1.5
    assert np.abs(source.time.numpy() - IRREGULAR).max() < 1e-3
    assert source.group.tolist() == [0] * 60
    assert source.id(1) == "counter.mp4#t=0.100"
    assert any("60 frames, of 1 video in 1 shot" in remark for remark in source.remarks)
    assert splits(file) == ("train",)


def test_a_rate_bounds_what_is_kept(tmp_path):
    regular = opened(write_video(tmp_path / "a.mp4", counter(), fps=25), fps=5)
    assert torch.allclose(regular.time, torch.arange(12).double() / 5)
    irregular = opened(write_video(tmp_path / "b.mp4", counter(), times=IRREGULAR), fps=5)
    gaps = np.floor((irregular.time.numpy() + 1e-6) * 5)
    assert len(set(gaps)) == len(gaps)  # at most one in each fifth of a second
    assert set(gaps) == set(np.floor((IRREGULAR + 1e-6) * 5))  # and one wherever there is one
    assert (
        np.abs(levels(irregular) - [level(int(np.abs(IRREGULAR - t).argmin())) for t in irregular.time.tolist()]).max()
        < 1.5
    )


def test_frames_are_as_large_as_the_requested_size_needs(tmp_path):
    file = write_video(tmp_path / "a.mp4", moving(3, height=96, width=160))
    assert opened(file, image_size=32).load(Request(torch.arange(1))).images.pixels.shape == (1, 3, 37, 62)
    assert opened(file, image_size=None).load(Request(torch.arange(1))).images.pixels.shape == (1, 3, 96, 160)


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_a_turned_file_is_the_turned_picture(tmp_path, degrees):
    upright = write_video(tmp_path / "upright.mp4", moving(3))
    with sanslabel_free_copy(upright, tmp_path / "turned.mp4", degrees):
        pass
    plain = next(frames(upright)).pixels(3, 48)
    turned = next(frames(tmp_path / "turned.mp4")).pixels(3, 48)
    assert np.array_equal(turned, np.rot90(plain, degrees // 90, axes=(1, 2)))
    facts = video_file(tmp_path / "turned.mp4")
    assert facts.upright == ((64, 48) if degrees == 180 else (48, 64))


def sanslabel_free_copy(source: Path, target: Path, degrees: int):
    """The same packets in a file whose matrix of display is turned."""
    from contextlib import nullcontext

    import av

    with av.open(str(source)) as read, av.open(str(target), "w") as written:
        stream = read.streams.video[0]
        copy = written.add_stream_from_template(stream)
        copy.set_display_rotation(degrees)
        for packet in read.demux(stream):
            if packet.dts is not None:
                packet.stream = copy
                written.mux(packet)
    return nullcontext()


@pytest.mark.parametrize("matrix", [1, 5])
@pytest.mark.parametrize("color_range", [1, 2])
def test_colors_follow_the_stated_matrix_and_range(tmp_path, matrix, color_range):
    import av

    colors = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [250, 250, 250], [8, 8, 8]], np.uint8)
    for color in colors:
        path, frame = tmp_path / "c.mkv", np.full((48, 64, 3), color, np.uint8)
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=25, options={"qp": "0"})
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv444p"
            stream.codec_context.colorspace, stream.codec_context.color_range = matrix, color_range
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(
                format="yuv444p", dst_colorspace={1: "ITU709", 5: "ITU601"}[matrix], dst_color_range=color_range
            )
            container.mux(stream.encode(picture))
            container.mux(stream.encode())
        assert np.abs(next(frames(path)).pixels(3, 48)[:, 20, 20].astype(int) - color).max() <= 4


def test_a_shot_ends_at_a_hard_cut(tmp_path):
    clips = [moving(20, seed=1), moving(25, seed=2), moving(15, start=300, seed=3)]
    file = write_video(tmp_path / "film.mp4", [frame for clip in clips for frame in clip])
    for fps in (None, 10):
        source = opened(file, fps=fps)
        expected = np.searchsorted([20, 45], np.round(source.time.numpy() * 25), side="right")
        assert source.group.tolist() == expected.tolist()
        assert not source.recording.any()
    pairs, index = Pairs(base=opened(file), near=0.5), torch.arange(60)
    for key in range(20):
        partners = pairs.partners(index, key)
        assert torch.equal(pairs.group[partners], pairs.group)
        assert ((pairs.time[partners] - pairs.time).abs() <= 0.5 + 1e-6).all()
        assert (partners != index).all()


def test_shots_are_peaks_of_the_difference():
    steps = np.array([99, 1, 2, 40, 1, 2, 1, 30, 31, 29, 30, 31, 1, 1, 7, 1, 1, 60.0])
    assert np.flatnonzero(np.diff(shots(steps))).tolist() == [2, 16]  # neither fast motion nor a small step is a cut
    assert shots(np.zeros(0)).tolist() == []
    still = np.repeat(np.array([10, 11, 90, 99], np.uint8), 576).reshape(4, 18, 32)
    assert still_shots(np.array([0, 0, 1, 1]), still).tolist() == [0]


def test_shots_that_do_not_move_are_reported(tmp_path):
    still = [moving(1)[0]] * 40
    source = opened(write_video(tmp_path / "a.mp4", still + moving(40, seed=5)))
    remark = next(r for r in source.remarks if "do not move" in r)
    assert remark == "Shots that do not move, so that near frames are copies: 1 (a.mp4#t=0.000)."


def test_a_folder_of_videos_has_classes_and_splits(tmp_path):
    for split, count, first in (("train", 2, 0), ("test", 1, 5)):
        for number, label in enumerate(("jump", "run")):
            folder = tmp_path / "data" / split / label
            folder.mkdir(parents=True)
            for video in range(count):
                write_video(folder / f"{video}.mp4", moving(4, seed=10 * number + first + video))
    train, test = opened(tmp_path / "data"), open_source(Data((tmp_path / "data",)), "test")
    assert train.classes == test.classes == ("jump", "run")
    assert train.labels.tolist() == [0] * 8 + [1] * 8
    assert len(test) == 8
    assert len(train.group.unique()) == 4
    assert (
        train.recording.tolist() == train.subset(torch.arange(16)).recording.tolist() == [row // 4 for row in range(16)]
    )
    two = opened(tmp_path / "data/train/jump/0.mp4", tmp_path / "data/train/run")
    assert len(two) == 12
    assert {two.id(row).partition("#")[0] for row in range(12)} == {"jump/0.mp4", "run/0.mp4", "run/1.mp4"}


def test_videos_are_decoded_once(tmp_path, monkeypatch, cache):
    file = write_video(tmp_path / "a.mp4", moving())
    first = opened(file)
    pixels = first.load(Request(torch.arange(30))).images.pixels

    def refuse(*_, **__):
        raise AssertionError("decoded again")

    monkeypatch.setattr(module, "frames", refuse)
    monkeypatch.setattr(module, "video_file", refuse)
    again = opened(file)
    assert torch.equal(again.load(Request(torch.arange(30))).images.pixels, pixels)
    assert again.fingerprint == first.fingerprint
    assert (torch.equal(again.group, first.group), torch.equal(again.time, first.time)) == (True, True)
    assert len(list((cache / "pictures").iterdir())) == 1


def test_a_damaged_file_of_frames_gives_the_same_pixels(tmp_path, cache):
    file = write_video(tmp_path / "a.mp4", moving())
    source = opened(file)
    pixels = source.load(Request(torch.arange(30))).images.pixels
    (frames_file,) = (cache / "pictures").iterdir()
    with frames_file.open("r+b") as content:
        content.seek(5000)
        content.write(b"\0" * 9000)
    assert torch.equal(opened(file).load(Request(torch.arange(30))).images.pixels, pixels)


def test_bitmaps_are_read_as_they_were_written(tmp_path):
    from sanslabel.sources.pictures.picture import picture

    for shape in ((3, 5, 7), (1, 6, 9), (3, 4, 4)):
        pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        (tmp_path / "a.bmp").write_bytes(bitmap(pixels))
        assert np.array_equal(picture(tmp_path / "a.bmp", shape[0], 99), pixels)


def test_frames_that_take_too_much_room_are_refused(tmp_path, monkeypatch):
    file = write_video(tmp_path / "a.mp4", moving())
    monkeypatch.setattr(module, "room_for_decoded", lambda: 1000)
    with pytest.raises(BadInput, match=r"a: its frames take about .* GB at 37 pixels, .*; lower `fps` or `image_"):
        opened(file)


def test_without_a_size_frames_are_as_large_as_fit(tmp_path, monkeypatch):
    file = write_video(tmp_path / "a.mp4", moving(4, height=300, width=400))
    monkeypatch.setattr(module, "room_for_decoded", lambda: 400_000)
    assert opened(file, image_size=None).store.side == 146


def test_a_cut_file_has_the_frames_before_the_cut(tmp_path):
    file = write_video(tmp_path / "a.mkv", moving(60, height=96, width=160), gop=10)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    source = opened(file)
    assert 5 < len(source) < 60


def test_a_video_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "videos").mkdir()
    for number in range(2):
        write_video(tmp_path / "videos" / f"{number}.mp4", moving(5, seed=number))
    (tmp_path / "videos" / "bad.mp4").write_bytes(b"nothing of a video" * 50)
    source = opened(tmp_path / "videos")
    assert len(source) == 10
    assert any(r.startswith("Videos that cannot be read: bad.mp4 (") for r in source.remarks)
    with pytest.raises(BadInput, match=r"bad\.mp4: FFmpeg cannot read it .*; give other videos\."):
        opened(tmp_path / "videos" / "bad.mp4")


def test_what_is_no_video_to_learn_from_is_refused(tmp_path):
    import av

    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=16_000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 16_000), np.float32), format="fltp", layout="mono")
        sound.rate = 16_000
        container.mux(stream.encode(sound))
        container.mux(stream.encode())
    with pytest.raises(BadInput, match=r"sound\.mp4: has no video, only sound or other data; give other videos\."):
        opened(tmp_path / "sound.mp4")
    with pytest.raises(BadInput, match=r"one\.mp4: has 1 frame, and training needs two; give longer videos\."):
        opened(write_video(tmp_path / "one.mp4", moving(1)))
    file = write_video(tmp_path / "codec.mp4", moving(3))
    file.write_bytes(file.read_bytes().replace(b"avc1", b"zzzz"))
    with pytest.raises(BadInput, match=r"codec\.mp4: its codec is one that this FFmpeg cannot decode; give other"):
        opened(file)


def test_an_absent_package_is_named(tmp_path, monkeypatch):
    file = write_video(tmp_path / "a.mp4", moving(3))
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(BadInput, match=r"a\.mp4: reading videos needs PyAV .*; pip install 'sanslabel\[video\]'\."):
        opened(file)


def test_a_run_on_pairs_of_a_video(tmp_path):
    """It resumes and is evaluated, and without a time between partners it is the run without pairs."""
    clips = [frame for seed in range(4) for frame in moving(12, seed=seed)]
    file, weights = write_video(tmp_path / "film.mp4", clips), {}
    for name, chosen in {"near": {"near": 0.2}, "zero": {"near": 0}, "none": {}, "rate": {"fps": 12}}.items():
        run = sanslabel.train(file, out=tmp_path / name, **QUICK, **chosen)
        weights[name] = run.encoder_file().read_bytes()
    assert weights["zero"] == weights["none"] != weights["near"]
    plan = RunFolder.open(tmp_path / "near").plan
    assert (plan.near, plan.frame_side, set(plan.inputs)) == (0.2, 18, {"image", "partner"})
    for made in (tmp_path / "near" / "encoder.safetensors", tmp_path / "near" / "config.json"):
        made.unlink()
    assert sanslabel.resume(tmp_path / "near").encoder_file().read_bytes() == weights["near"]
    assert len(RunFolder.open(tmp_path / "rate").source()) == RunFolder.open(tmp_path / "rate").plan.samples < 48
    assert paired(RunFolder.open(tmp_path / "near").source(), None).group is not None


def test_a_run_that_is_killed_while_it_decodes_leaves_nothing_behind(tmp_path, cache, monkeypatch, dies):
    file, add = write_video(tmp_path / "a.mp4", moving(60)), module._Pieces.add

    def add_and_die(pieces, frame):
        done = add(pieces, frame)
        if done == 40:
            die()
        return done

    with monkeypatch.context() as patch:
        patch.setattr(module._Pieces, "add", add_and_die)
        dies(lambda: opened(file, image_size=32))
    assert [path.suffix for path in (cache / "pictures").iterdir()] == [".part"]
    source = opened(file)
    assert len(source) == 60
    assert [path.suffix for path in (cache / "pictures").iterdir()] == [""]
    direct = np.stack([frame.pixels(3, 37).copy() for frame in frames(file)])
    assert np.array_equal(source.load(Request(torch.arange(60))).images.pixels.numpy(), direct)


@pytest.mark.parametrize("announced", ["frames", "width"])
def test_what_a_header_announces_is_refused_before_memory_is_taken(tmp_path, announced):
    file = write_video(tmp_path / "a.mp4", moving(3))
    content = bytearray(file.read_bytes())
    if announced == "frames":
        at = content.index(b"stsz") + 8
        content[at : at + 8] = (1).to_bytes(4, "big") + (10**9).to_bytes(4, "big")
    else:
        at = content.rindex(b"avc1") + 28
        assert content[at : at + 4] == (64).to_bytes(2, "big") + (48).to_bytes(2, "big")
        content[at : at + 4] = (60_000).to_bytes(2, "big") * 2
    file.write_bytes(content)
    with pytest.raises(Unreadable, match=r"announces 1,000,000,000 frames|60,000 x 60,000 pixels are too large"):
        video_file(file)


def test_frames_have_the_sound_around_them_for_a_method_that_reads_both(tmp_path):
    """In the first second there is silence, then a tone."""
    import av

    file = tmp_path / "a.mp4"
    wave = np.concatenate([np.zeros(32_000), 0.5 * np.sin(np.arange(48_000) / 16_000 * 2 * np.pi * 440)])
    with av.open(str(file), "w") as container:
        video, audio = container.add_stream("libx264", rate=10), container.add_stream("aac", rate=16_000)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        for frame in moving(50):
            container.mux(video.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        sound = av.AudioFrame.from_ndarray(wave.astype(np.float32)[None], format="fltp", layout="mono")
        sound.rate = 16_000
        container.mux(audio.encode(sound))
        for stream in (video, audio):
            container.mux(stream.encode())
    both = open_source(Data((file,), signals=("image", "audio")), image_size=32)
    assert set(both.inputs) == {"image", "audio"}
    assert 38 <= len(both) <= 41  # frames a second or more before the tone are left out
    assert both.time.min() > 0.8
    assert set(opened(file).inputs) == {"image"}
