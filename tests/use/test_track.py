"""The command that follows objects: what it writes is data, and what it cannot do it says."""

import numpy as np
import pytest
from PIL import Image

from sanslabel.errors import BadInput
from sanslabel.sources import open_source
from sanslabel.use.track import track

FRAMES, SIDE = 24, 40


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def place(frame: int) -> tuple[int, int]:
    return 6 + 5 * frame, 20 + 2 * frame


def written(folder, moves=True):
    """Frames of an object before a textured background."""
    random = np.random.default_rng(0)
    ground = random.integers(0, 100, (30, 40)).repeat(5, 0).repeat(5, 1)
    texture = random.integers(130, 255, (10, 10)).repeat(4, 0).repeat(4, 1)
    folder.mkdir(parents=True)
    for frame in range(FRAMES):
        x, y = place(frame if moves else 0)
        picture = ground.copy()
        picture[y : y + SIDE, x : x + SIDE] = texture
        Image.fromarray(picture.astype(np.uint8)).save(folder / f"{frame}.png")  # in natural order
    return folder


def test_boxes_are_written_as_data_with_a_contact_sheet(tmp_path):
    (tracked,) = track(written(tmp_path / "clips" / "one").parent, tmp_path / "tracks", fps=10)
    assert tracked.folder == tmp_path / "tracks" / "one"
    assert (tracked.tracks, tracked.unreadable) == (1, 0)
    lines = (tracked.folder / "gt" / "gt.txt").read_text().splitlines()
    assert len(lines) == tracked.boxes > 15
    for line in lines:
        frame, number, left, top, width, height, score, *_ = map(float, line.split(","))
        x, y = place(int(frame) - 1)
        np.testing.assert_allclose([left - 1, top - 1, width, height], [x, y, SIDE, SIDE], atol=6)
        assert number == 1
        assert 0.6 <= score <= 1
    with Image.open(tracked.folder / "contact.png") as sheet:
        assert sheet.height == 64
    source = open_source(tmp_path / "tracks")
    assert len(source) == tracked.boxes
    assert source.group is not None
    assert source.time is not None
    assert source.group.unique().tolist() == [0]
    assert source.time.diff().min().item() == pytest.approx(0.1)
    assert not list(tmp_path.glob(".*"))


def test_a_video_gives_the_boxes_of_its_frames(tmp_path):
    av = pytest.importorskip("av")
    folder = written(tmp_path / "one")
    with av.open(str(tmp_path / "clip.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 200, 150, "yuv420p", 4_000_000
        for number in range(FRAMES):
            picture = np.asarray(Image.open(folder / f"{number}.png").convert("RGB"))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    (tracked,) = track(tmp_path / "clip.mp4", tmp_path / "tracks")
    assert tracked.folder == tmp_path / "tracks" / "clip"
    assert tracked.boxes > 15
    assert "frameRate=10\n" in (tracked.folder / "seqinfo.ini").read_text()
    for line in (tracked.folder / "gt" / "gt.txt").read_text().splitlines():
        frame, _, left, top, *_ = map(float, line.split(","))
        np.testing.assert_allclose([left - 1, top - 1], place(int(frame) - 1), atol=8)
    assert len(open_source(tmp_path / "tracks")) == tracked.boxes


def test_a_frame_that_cannot_be_read_has_no_box(tmp_path):
    folder = written(tmp_path / "one")
    (folder / "9.png").write_bytes(b"no picture")
    (tracked,) = track(folder, tmp_path / "tracks")
    assert tracked.unreadable == 1
    frames = {int(line.split(",")[0]) for line in (tracked.folder / "gt" / "gt.txt").read_text().splitlines()}
    assert 10 not in frames
    assert {9, 11} <= frames


def test_what_cannot_be_followed_is_said_and_nothing_is_written(tmp_path):
    still, empty, single = written(tmp_path / "still", moves=False), tmp_path / "empty", tmp_path / "single"
    empty.mkdir()
    single.mkdir()
    Image.new("L", (20, 20)).save(single / "1.png")
    mixed = written(tmp_path / "mixed")
    Image.new("L", (20, 30)).save(mixed / "5.png")
    full = tmp_path / "full"
    full.mkdir()
    (full / "notes.txt").touch()
    for data, out, message in [
        (still, "tracks", "no moving object could be followed; give a clip in which something moves"),
        (empty, "tracks", "holds no frames and no videos; give a folder of pictures"),
        (single, "tracks", "has one frame, and nothing moves in it; give a folder of at least two"),
        (mixed, "tracks", "has another size than the frames before; give one clip a folder"),
        (tmp_path / "none", "tracks", "no such file or folder; give a video, or a folder of frames"),
        (still, "full", "must be a new or an empty folder, since tracks of two runs would mix"),
    ]:
        with pytest.raises(BadInput, match=message):
            track(data, tmp_path / out)
    assert not (tmp_path / "tracks").exists()
    assert not list(tmp_path.glob(".*"))
