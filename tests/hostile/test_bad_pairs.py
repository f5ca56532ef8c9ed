"""Data that cannot be paired: a run ends with one line and exit code 2, and has written nothing."""

import numpy as np
import pytest
from PIL import Image

from sanslabel.cli.main import main
from tests.sources.test_tracks import written_as_mot
from tests.sources.video_files import moving, write_video


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def pictures(folder, name="{}.png"):
    folder.mkdir()
    for row in range(4):
        pixels = np.random.default_rng(row).integers(0, 256, (16, 16), np.uint8)
        Image.fromarray(pixels).save(folder / name.format(row))
    return folder


def one_frame(folder):
    pytest.importorskip("av")
    folder.mkdir()
    return write_video(folder / "one.mp4", moving(1))


def other_codec(folder):
    pytest.importorskip("av")
    folder.mkdir()
    file = write_video(folder / "other.mp4", moving(3))
    file.write_bytes(file.read_bytes().replace(b"avc1", b"zzzz"))
    return file


def without_common_stem(folder):
    soundfile = pytest.importorskip("soundfile")
    pictures(folder)
    for row in range(4):
        soundfile.write(folder / f"s{row}.wav", np.ones(8000) / 4, 16_000)
    return folder


def tracks(change):
    def write(folder):
        file = written_as_mot(folder, videos=1) / "v0" / "gt" / "gt.txt"
        file.write_text(change(file.read_text()))
        return folder

    return write


@pytest.mark.parametrize(
    ("write", "arguments", "message"),
    [
        (one_frame, ["simclr"], "has 1 frame, and training needs two"),
        (other_codec, ["simclr"], "its codec is one that this FFmpeg cannot decode"),
        (lambda _: "digits", ["simclr", "--near", "1"], "--near needs samples that have a time"),
        (without_common_stem, ["cross_modal"], "no picture and sound share a stem"),
        (tracks(lambda text: text + "99,7,1,1,30,30,1,1,1\n"), ["simclr"], "frame 99 has a box and no picture"),
        (tracks(lambda text: text + text), ["simclr"], "has a second box of id 7"),
    ],
)
def test_one_line_and_nothing_written(tmp_path, capsys, write, arguments, message):
    data = write(tmp_path / "set")
    with pytest.raises(SystemExit) as stop:
        main(["train", *arguments, "--data", str(data), "--out", str(tmp_path / "run"), "--device", "cpu"])
    (line,) = capsys.readouterr().err.splitlines()
    assert stop.value.code == 2
    assert message in line
    assert not (tmp_path / "run").exists()
