"""Files of boxes that someone else has made: they are read, or refused in one sentence, in little memory and soon."""

import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sanslabel.errors import BadInput, SanslabelError
from sanslabel.sources import Request, open_source, splits

LINES = [f"{frame},{i},{3 + 4 * frame},{5 + 2 * frame},30,30,1,1,1" for frame in range(1, 4) for i in (1, 2)]
NUMBERS = ["0", "-1", "1e308", "-1e308", "nan", "inf", "9" * 400, "1e-320", "2147483648", "", "x", "1.5", "\x00", "٣"]
VALUES = [None, True, -1, 0, 2**63, 1e308, float("nan"), "x", "../x", "\x00", [], {}, [1, 2], [1e308] * 4, "9" * 400]
CONTENT = {
    "videos": [{"id": 1, "name": "v", "fps": 10}],
    "images": [{"id": f, "video_id": 1, "frame_id": f, "file_name": f"{f:06d}.png"} for f in range(1, 4)],
    "annotations": [
        {"id": n, "image_id": f, "instance_id": 7, "category_id": 1, "bbox": [3 + 9 * f, 5, 30, 30]}
        for n, f in enumerate(range(1, 4))
    ],
    "categories": [{"id": 1, "name": "fish"}],
}


@pytest.fixture
def folder(tmp_path):
    """Three frames, for both formats."""
    for name in ("mot/v/img1", "mot/v/gt", "coco"):
        (tmp_path / name).mkdir(parents=True)
    for frame in range(1, 4):
        picture = Image.effect_noise((80, 60), 90)
        picture.save(tmp_path / "mot" / "v" / "img1" / f"{frame:06d}.png")
        picture.save(tmp_path / "coco" / f"{frame:06d}.png")
    return tmp_path


def tried(path) -> None:
    """Opens the data and loads a sample, or gets the project's own error."""
    message = "read"
    try:
        if splits(path):
            source = open_source(path, "all", image_size=8)
            source.load(Request(source.labels.new_tensor([0])))
    except SanslabelError as error:
        message = str(error)
    assert 0 < len(message) < 2000
    assert "\n" not in message


@settings(max_examples=12)
@given(data=st.data())
def test_changed_lines_of_boxes(folder, data):
    lines = list(LINES)
    for _ in range(data.draw(st.integers(1, 3))):
        row = data.draw(st.integers(0, len(lines) - 1))
        words = lines[row].split(",")
        place = data.draw(st.integers(0, len(words) - 1))
        words[place] = data.draw(st.sampled_from(NUMBERS))
        lines[row] = ",".join(words[: data.draw(st.sampled_from([3, 6, 7, 9]))])
    (folder / "mot" / "v" / "gt" / "gt.txt").write_text("\n".join(lines))
    tried(folder / "mot")


@settings(max_examples=8)
@given(content=st.binary(max_size=200))
def test_any_bytes_as_boxes_and_as_notes(folder, content):
    gt, note = folder / "mot" / "v" / "gt" / "gt.txt", folder / "mot" / "v" / "seqinfo.ini"
    gt.write_bytes(content)
    note.unlink(missing_ok=True)
    tried(folder / "mot")
    gt.write_text("\n".join(LINES))
    note.write_bytes(b"[Sequence]\n" + content)
    tried(folder / "mot")


@settings(max_examples=15)
@given(data=st.data())
def test_changed_entries_of_json(folder, data):
    content = json.loads(json.dumps(CONTENT))
    for _ in range(data.draw(st.integers(1, 3))):
        entries = content[data.draw(st.sampled_from(sorted(content)))]
        if isinstance(entries, list) and entries and isinstance(entry := entries[0], dict) and entry:
            entry[data.draw(st.sampled_from(sorted(entry)))] = data.draw(st.sampled_from(VALUES))
    if data.draw(st.booleans()):
        content[data.draw(st.sampled_from(sorted(content)))] = data.draw(st.sampled_from(VALUES))
    (folder / "coco" / "train.json").write_text(json.dumps(content))
    tried(folder / "coco")


def test_files_of_many_boxes_and_of_deep_json_are_refused_soon(folder):
    gt, file = folder / "mot" / "v" / "gt" / "gt.txt", folder / "coco" / "train.json"
    with gt.open("wb") as opened:
        opened.truncate(1 << 40)  # a hole, which takes no room
    file.write_text('{"video_id":' + "[" * 100_000)
    began = time.perf_counter()
    with pytest.raises(BadInput, match="has more than 67,108,864 bytes; divide it into several sequences"):
        open_source(folder / "mot")
    with pytest.raises(BadInput, match="cannot be read"):
        open_source(folder / "coco")
    assert time.perf_counter() - began < 10
