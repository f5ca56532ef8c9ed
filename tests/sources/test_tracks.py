"""Boxes of tracked objects as data: a sample is an object in a frame, its group the track."""

import json
import os
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sanslabel.errors import BadInput
from sanslabel.randomness import fold, uniform
from sanslabel.sources import Request, open_source, paired, splits
from sanslabel.sources.pictures.cache import cached
from sanslabel.sources.pictures.picture_file import PictureWriter
from sanslabel.sources.tracks import tracks
from sanslabel.sources.tracks.crops import CONTEXT, PLAIN, REACH, SCALE, SHIFT, Crops, regions_around, square_boxes
from sanslabel.sources.tracks.tracks import intersection_over_union, static_boxes
from tests.sources.conftest import die

WIDTH, HEIGHT, FRAMES, FPS = 96, 96, 6, 10.0
TURNS = ["north", "south"]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """The user's cache folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def sprites(video: int) -> tuple[list[np.ndarray], list[tuple[int, int, str, tuple]]]:
    """The frames of a video, and (frame, id, class, (left, top, width, height)) of two textured squares that move and
    change. Coordinates count from 0."""
    random = np.random.default_rng(video)
    ground, boxes, frames = random.integers(0, 60, (HEIGHT, WIDTH, 3)), [], []
    textures = random.integers(100, 255, (2, 32, 32, 3))
    for frame in range(FRAMES):
        picture = ground.copy()
        for number, texture in enumerate(textures):
            left, top = 4 + 9 * frame + number, 6 + 3 * frame + 30 * number
            picture[top : top + 32, left : left + 32] = np.roll(texture, frame, axis=number)
            boxes.append((frame, 7 + number, TURNS[number], (left, top, 32, 32)))
        frames.append(picture.astype(np.uint8))
    return frames, boxes


def written_as_mot(root, videos=2, rate=FPS, ending="png"):
    """The videos in MOTChallenge's folders, where frames, ids and coordinates count from 1."""
    for video in range(videos):
        folder = root / f"v{video}"
        (folder / "img1").mkdir(parents=True)
        (folder / "gt").mkdir()
        frames, boxes = sprites(video)
        for number, frame in enumerate(frames, 1):
            Image.fromarray(frame).save(folder / "img1" / f"{number:06d}.{ending}")
        lines = [
            f"{frame + 1},{i},{x + 1},{y + 1},{w},{h},1,{TURNS.index(name) + 1},1.0"
            for frame, i, name, (x, y, w, h) in boxes
        ]
        (folder / "gt" / "gt.txt").write_text("\n".join(lines) + "\n")
        (folder / "gt" / "labels.txt").write_text("\n".join(TURNS))
        if rate:
            (folder / "seqinfo.ini").write_text(f"[Sequence]\nname=v{video}\nimDir=img1\nframeRate={rate:g}\n")
    return root


def coco(videos=2, tao=False) -> dict:
    """The json of the videos, where frames and coordinates count from 0, with the keys of COCO-VID or TAO."""
    content: dict = {
        "videos": [{"id": v, "name": f"v{v}", "fps": FPS} for v in range(videos)],
        "images": [],
        "annotations": [],
        "categories": [{"id": 5 + n, "name": name} for n, name in enumerate(TURNS)] + [{"id": 9, "name": "unused"}],
    }
    for v in range(videos):
        for frame in range(FRAMES):
            number = {"frame_index" if tao else "frame_id": frame}
            name = f"v{v}/img1/{frame + 1:06d}.png"
            content["images"].append({"id": 100 * v + frame, "video_id": v, "file_name": name, **number})
        for frame, i, name, box in sprites(v)[1]:
            content["annotations"].append(
                {
                    "id": len(content["annotations"]),
                    "image_id": 100 * v + frame,
                    "video_id": v,
                    "category_id": 5 + TURNS.index(name),
                    "track_id" if tao else "instance_id": i,
                    "bbox": list(box),
                }
            )
    return content


@pytest.fixture
def mot(tmp_path):
    return written_as_mot(tmp_path / "mot")


@pytest.fixture
def coco_vid(tmp_path, mot):
    """The same pictures with a json in place of gt.txt."""
    root = tmp_path / "coco"
    for file in mot.rglob("*.png"):
        (root / "frames" / file.relative_to(mot)).parent.mkdir(parents=True, exist_ok=True)
        (root / "frames" / file.relative_to(mot)).write_bytes(file.read_bytes())
    (root / "annotations").mkdir()
    (root / "annotations" / "train.json").write_text(json.dumps(coco()))
    return root


def all_of(source):
    return source.load(Request(torch.arange(len(source)))).images


@pytest.mark.parametrize("tao", [False, True])
def test_one_set_written_as_mot_and_as_coco_gives_identical_crops(mot, coco_vid, tao):
    """A first pixel that counts as 1 in one file and as 0 in the other would shift them."""
    (coco_vid / "annotations" / "train.json").write_text(json.dumps(coco(tao=tao)))
    ours, theirs = open_source(mot), open_source(coco_vid)
    assert len(ours) == len(theirs) == 2 * 2 * FRAMES
    assert ours.noun == theirs.noun == "crop of a track"
    assert torch.equal(all_of(ours).pixels, all_of(theirs).pixels)
    for one, other in [(ours.group, theirs.group), (ours.time, theirs.time), (ours.labels, theirs.labels)]:
        assert torch.equal(one, other)
    assert ours.classes == theirs.classes == tuple(TURNS)


def test_a_crop_is_its_box_with_a_quarter_more_around_it(mot):
    source = open_source(mot, image_size=64)
    frames, boxes = sprites(0)
    for row, (frame, _, _, (left, top, side, _)) in enumerate(boxes):
        pixels = source.load(Request(torch.tensor([row]))).images.pixels[0].permute(1, 2, 0).numpy()
        low, high = (np.array([top, left]) + side / 2 + sign * PLAIN * side / 2 for sign in (-1, 1))
        top, left = np.clip(np.round(low), 0, None).astype(int)
        bottom, right = np.round(high).astype(int)
        np.testing.assert_array_equal(pixels, frames[frame][top:bottom, left:right])


def test_samples_are_named_by_frame_box_and_object(mot):
    source = open_source(mot)
    assert source.id(3) == "v0/img1/000002.png#xywh=14,39,32,32&id=8"
    assert source.time.tolist()[:4] == [0, 0, 0.1, 0.1]
    assert source.group.tolist()[:4] == [0, 1, 0, 1]
    assert source.subset(torch.tensor([3])).id(0) == source.id(3)


def test_a_partner_is_another_box_of_the_same_object_in_reach(mot):
    source = open_source(mot)
    pairs = paired(source, 0.25)
    for key in range(20):
        partner = pairs.partners(torch.arange(len(source)), key)
        assert torch.equal(source.group[partner], source.group)
        assert (partner != torch.arange(len(source))).all()
        assert ((source.time[partner] - source.time).abs() < 0.25).all()
    assert all(source.group.bincount() >= 2)


def test_the_boxes_of_pairs_are_drawn_by_key(mot):
    source = open_source(mot, image_size=32)
    pairs, index = paired(source, 0.25), torch.arange(len(source))
    once, again, other = (pairs.load(Request(index, key)) for key in (1, 1, 2))
    assert torch.equal(once.images.pixels, again.images.pixels)
    assert once.images.pixels.shape != other.images.pixels.shape or (once.images.pixels != other.images.pixels).any()
    some = pairs.load(Request(torch.tensor([5, 2]), 1)).images
    for place, row in enumerate([5, 2]):
        height, width = once.images.sizes[row].tolist()
        shown = list(some.pixels.shape[2:]) if some.sizes is None else some.sizes[place].tolist()
        assert shown == [height, width]
        assert torch.equal(some.pixels[place, :, :height, :width], once.images.pixels[row, :, :height, :width])
    assert paired(source, 0) is source
    assert not source.varied


def test_boxes_are_drawn_as_a_loop_draws_them():
    boxes = torch.tensor([[0.3, 0.25, 0.7, 0.75], [0.0, 0.0, 0.5, 1.0]])
    varied = Crops.__new__(Crops)
    object.__setattr__(varied, "boxes", boxes)
    object.__setattr__(varied, "varied", True)
    sizes, index = torch.tensor([[60, 80], [50, 70]]), torch.arange(2)
    for key in range(50):
        for row, cut in enumerate(varied.cuts(index, sizes, key).tolist()):
            across, down, scale, context = uniform(fold(fold(torch.tensor([key]), row), 26), 4, 0)[0].tolist()
            left, top, right, bottom = boxes[row].tolist()
            height, width = sizes[row].tolist()
            factor = (1 - SCALE + 2 * SCALE * scale) * (CONTEXT[0] + (CONTEXT[1] - CONTEXT[0]) * context)
            x = (left + right) / 2 + SHIFT * (2 * across - 1) * (right - left)
            y = (top + bottom) / 2 + SHIFT * (2 * down - 1) * (bottom - top)
            expected = [
                max(0, (x - factor * (right - left) / 2) * width),
                max(0, (y - factor * (bottom - top) / 2) * height),
                min(width, (x + factor * (right - left) / 2) * width),
                min(height, (y + factor * (bottom - top) / 2) * height),
            ]
            np.testing.assert_allclose(cut, expected, atol=0.51)


def test_every_draw_lies_within_the_region():
    boxes = square_boxes(np.array([[100.0, 100.0, 140.0, 120.0]]))
    (left, top, right, bottom) = regions_around(boxes, np.array([[400, 400]]))[0]
    side = boxes[0, 2] - boxes[0, 0]
    assert side == 40
    assert right - left == bottom - top == pytest.approx(REACH * side, abs=2)
    assert side * (1 + SCALE) * CONTEXT[1] + 2 * SHIFT * side <= right - left


def test_regions_end_with_their_picture_and_are_at_most_twice_as_long_as_wide():
    random = np.random.default_rng(0)
    corners = random.uniform(0, 200, (500, 4))
    corners = np.concatenate(
        [np.minimum(corners[:, :2], corners[:, 2:]), np.maximum(corners[:, :2], corners[:, 2:]) + 1], 1
    )
    sizes = np.array([[201, 60]]).repeat(500, 0)
    corners[:, 1::2] = np.clip(corners[:, 1::2], 0, 60)
    corners[:, 3] = np.maximum(corners[:, 3], corners[:, 1] + 1)
    regions = regions_around(square_boxes(corners), sizes)
    assert (regions[:, :2] >= 0).all()
    assert (regions[:, 2:] <= sizes).all()
    lengths = regions[:, 2:] - regions[:, :2]
    assert (lengths > 0).all()
    assert (lengths.max(1) <= 2 * lengths.min(1)).all()


def test_a_cache_and_worker_processes_change_nothing(mot):
    source = open_source(mot, image_size=16)
    kept = cached(source, "ram", workers=0)
    assert not kept.decodes
    assert torch.equal(all_of(source).pixels, all_of(kept).pixels)
    import pickle

    assert torch.equal(all_of(pickle.loads(pickle.dumps(source))).pixels, all_of(source).pixels)


def test_worker_processes_compare_the_same_crops(mot, monkeypatch):
    """One of them cannot be read, and none of the others depends on it."""
    (mot / "v0" / "img1" / "000003.png").write_bytes(b"no picture")
    monkeypatch.setattr(tracks, "ALIKE", 0.2)  # so that some count as the same
    alone = open_source(mot, image_size=16)
    (folder,) = Path(os.environ["XDG_CACHE_HOME"]).glob("*/tracks")
    shutil.rmtree(folder)
    monkeypatch.setattr(tracks, "ALONE", 0)
    monkeypatch.setattr(tracks, "PIECE", 3)
    monkeypatch.setattr(tracks, "cores", lambda: 1)
    together = open_source(mot, image_size=16)
    assert together.remarks == alone.remarks
    assert any("nearly" in remark or "differ" in remark for remark in alone.remarks), alone.remarks
    assert [together.id(row) for row in range(len(together))] == [alone.id(row) for row in range(len(alone))]


@pytest.mark.parametrize("folder", ["tracks", "pictures"])
def test_a_run_that_is_killed_while_it_writes_crops_leaves_nothing_that_counts(
    tmp_path, mot, folder, monkeypatch, dies
):
    """It dies while it compares the crops of each track, or while it decodes them into the cache."""
    kept, append = tmp_path / "cache" / "sanslabel", PictureWriter.append
    source = open_source(mot, image_size=16) if folder == "pictures" else None
    with monkeypatch.context() as patch:
        patch.setattr(tracks, "remember_arrays", lambda *a, **k: die())
        patch.setattr(PictureWriter, "append", lambda *a: (append(*a), die()))
        dies(lambda: cached(source or open_source(mot, image_size=16), "disk", workers=0))
    assert [path.suffix for path in (kept / "pictures").glob("*")] == ([".part"] if source else [])
    assert len(list((kept / "tracks").glob("*"))) == bool(source)
    source = open_source(mot, image_size=16)
    assert torch.equal(all_of(cached(source, "disk", workers=0)).pixels, all_of(source).pixels)


def test_the_fingerprint_depends_on_each_box(tmp_path):
    one, same, other = (written_as_mot(tmp_path / name) for name in ("one", "same", "other"))
    file = other / "v1" / "gt" / "gt.txt"
    file.write_text(file.read_text().replace("\n3,7,", "\n3,7,1", 1))
    prints = [open_source(root).fingerprint for root in (one, same, other)]
    assert prints[0] == prints[1] != prints[2]


def test_boxes_outside_the_picture_are_clipped_and_counted(mot):
    file = mot / "v0" / "gt" / "gt.txt"
    lines = file.read_text().splitlines()
    lines[0] = "1,7,-9,-4,40,40,1,1,1"  # reaches out at the left and at the top
    lines[2] = "2,7,200,200,40,40,1,1,1"
    file.write_text("\n".join(lines))
    source = open_source(mot)
    assert source.id(0) == "v0/img1/000001.png#xywh=0,0,30,35&id=7"
    assert len(source) == 2 * 2 * FRAMES - 1
    assert "Boxes that reach out of their picture are clipped: 8.3 % (2 of 24)." in source.remarks
    assert "Boxes outside of their picture are left out: 4.2 % (1 of 24)." in source.remarks


def test_still_small_and_equal_boxes_are_left_out_and_their_share_is_stated(mot):
    lines = [f"{frame},1,10,10,30,30,1,1,1" for frame in range(1, FRAMES + 1)]  # a box that does not move
    lines += [f"{frame},2,{frame + 8},50,9,9,1,1,1" for frame in range(1, FRAMES + 1)]
    lines += [f"{frame},3,{5 + 9 * frame},{7 + 3 * frame},32,32,1,1,1" for frame in range(1, FRAMES + 1)]
    lines += ["1,4,40,40,30,30,1,1,1", "1,5,40,40,30,30,0,1,1", "2,5,50,40,30,30,1,1,0.2"]
    (mot / "v0" / "gt" / "gt.txt").write_text("\n".join(lines))
    frames, _ = sprites(0)
    for number in (2, 3):  # frames of one look
        shifted = np.roll(frames[0], (3 * (number - 1), 9 * (number - 1)), (0, 1))
        Image.fromarray(shifted).save(mot / "v0" / "img1" / f"{number:06d}.png")
    source = open_source(mot)
    total = 3 * FRAMES + 1 + 2 * FRAMES
    assert "Boxes that are hidden, or marked to be ignored: 2." in source.remarks
    assert f"Boxes of less than 24 pixels are left out: 19.4 % (6 of {total})." in source.remarks
    assert f"Boxes that do not move are left out: 19.4 % (6 of {total})." in source.remarks
    assert f"Crops that hardly differ from the one before are left out: 6.5 % (2 of {total})." in source.remarks
    assert f"Boxes without another one of their track are left out: 3.2 % (1 of {total})." in source.remarks
    kept = [source.id(row).partition("#")[0][-6:-4] for row in range(len(source)) if "v0" in source.id(row)]
    assert kept == ["01", "04", "05", "06"]


def test_what_is_known_of_crops_is_remembered_until_a_frame_changes(mot, tmp_path, monkeypatch):
    first = open_source(mot)
    assert list((tmp_path / "cache" / "sanslabel" / "tracks").glob("*.npz"))
    decoded = []
    monkeypatch.setattr("sanslabel.sources.tracks.tracks._thumbnails", lambda *_: decoded.append(1) or [])
    assert len(open_source(mot)) == len(first)
    assert not decoded
    (mot / "v0" / "img1" / "000001.png").touch()
    open_source(mot)
    assert decoded
    assert decoded


def test_overlaps_and_static_tracks_by_a_loop():
    random = np.random.default_rng(1)
    low = random.uniform(0, 10, (2, 30, 2))
    a, b = np.concatenate([low, low + random.uniform(1, 10, (2, 30, 2))], 2)
    for one, other, overlap in zip(a, b, intersection_over_union(a, b), strict=True):
        width = max(0, min(one[2], other[2]) - max(one[0], other[0]))
        height = max(0, min(one[3], other[3]) - max(one[1], other[1]))
        union = (one[2] - one[0]) * (one[3] - one[1]) + (other[2] - other[0]) * (other[3] - other[1]) - width * height
        assert overlap == pytest.approx(width * height / union)
    track = np.array([3, 3, 3, 5, 5, 9])
    still = np.array(
        [[0, 0, 20, 20], [1, 0, 21, 20], [0, 1, 20, 21], [0, 0, 20, 20], [9, 0, 29, 20], [0, 0, 9, 9]], float
    )
    assert static_boxes(track, still).tolist() == [True] * 3 + [False] * 3


def test_splits_are_folders_of_sequences_and_names_of_json_files(tmp_path, coco_vid):
    written_as_mot(tmp_path / "both" / "train")
    written_as_mot(tmp_path / "both" / "val", videos=1)
    assert splits(tmp_path / "both") == ("train", "test")
    assert len(open_source(tmp_path / "both", "test")) == 2 * FRAMES
    assert len(open_source(tmp_path / "both", "all")) == 3 * 2 * FRAMES
    assert open_source(tmp_path / "both" / "val" / "v0").id(0).startswith("img1/000001.png#")
    (coco_vid / "annotations" / "validation.json").write_text(json.dumps(coco(videos=1)))
    assert splits(coco_vid) == ("train", "test")
    assert len(open_source(coco_vid, "test")) == 2 * FRAMES
    assert len(open_source(coco_vid / "annotations" / "validation.json")) == 2 * FRAMES


def test_frames_without_a_rate_have_25_a_second(mot, coco_vid, tmp_path):
    plain = open_source(written_as_mot(tmp_path / "plain", rate=0))
    assert plain.time.unique().tolist() == pytest.approx([frame / 25 for frame in range(FRAMES)])
    assert plain.remarks[0].startswith("25 frames a second are assumed, since no seqinfo.ini states a rate: v0/, v1/")
    content = coco()
    for video in content["videos"]:
        del video["fps"]
    (coco_vid / "annotations" / "train.json").write_text(json.dumps(content))
    assert torch.equal(open_source(coco_vid).time, plain.time)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("9,7,1,1,30,30,1,1,1", "gt.txt, line 2: frame 9 has a box and no picture in v0/img1/; add the picture"),
        ("1,7,5,5,30,30,1,1,1", "gt.txt, line 2: frame 1 has a second box of id 7, after line 1; keep one of them"),
        ("1,7,5,5,30", "line 2: is no list of frame, id, left, top, width and height; correct it"),
        ("1,7,5,x,30,30", "line 2: is no list of frame"),
        ("1,7,5,nan,30,30", "line 2: is no list of frame"),
        ("0,7,5,5,30,30", "line 2: frames count from 1, and ids are whole numbers"),
        ("1,-1,5,5,30,30", "line 2: id -1 names no object; give tracks, not single detections"),
        ("1,8,5,5,-30,30", "line 2: a box of -30 x 30 pixels; correct it"),
    ],
)
def test_bad_lines_are_named(mot, line, message):
    (mot / "v0" / "gt" / "gt.txt").write_text(f"1,7,10,10,30,30,1,1,1\n{line}\n")
    with pytest.raises(BadInput, match=message):
        open_source(mot)


def test_other_bad_folders_are_named(mot, tmp_path):
    note = mot / "v0" / "seqinfo.ini"
    note.write_text("[Sequence]\nimDir=../v1/img1\n")
    with pytest.raises(BadInput, match="leads out of the folder"):
        open_source(mot)
    note.write_text("[Sequence]\nframeRate=-3\n")
    with pytest.raises(BadInput, match="frameRate is no number of frames a second"):
        open_source(mot)
    note.write_text("[Sequence]\nimDir=pictures\n")
    with pytest.raises(BadInput, match=r"cannot be listed .*; put the frames there"):
        open_source(mot)
    still = written_as_mot(tmp_path / "still", videos=1)
    (still / "v0" / "gt" / "gt.txt").write_text("1,1,5,5,30,30\n2,1,5,5,30,30\n")
    with pytest.raises(BadInput, match="no track has two boxes that differ; give tracks of objects that move"):
        open_source(still)


def without(key):
    return lambda content: content["annotations"][3].pop(key)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("instance_id"), "annotation 3: has no instance_id or track_id; give tracks"),
        (without("bbox"), "annotation 3 cannot be read .'bbox'.; correct the entry"),
        (lambda c: c["annotations"][3].update(bbox=[1, 2, -3, 4]), "annotation 3: bbox .1, 2, -3, 4. is no left, top"),
        (lambda c: c["annotations"][3].update(image_id=999), "annotation 3: there is no image 999; remove the box"),
        (
            lambda c: c["annotations"].append(c["annotations"][3]),
            "frame 1 of video 0 has a second box of object 8, after",
        ),
        (lambda c: c["images"][1].update(file_name="../x.png"), "image 1: file_name ../x.png leads out of the folder"),
        (lambda c: c["images"][1].update(frame_id=-1), "image 1: has no frame_id or frame_index from 0 on"),
        (lambda c: c["images"][1].update(id=0), "image 0: occurs twice"),
        (lambda c: c["images"][1].update(video_id=7), "image 1: there is no video 7"),
        (lambda c: c["images"][1].update(file_name="v0/none.png"), "boxes for frames/v0/none.png, which is missing"),
        (lambda c: c["images"][0].update(file_name="none.png"), "its first frame, none.png, is not below"),
        (lambda c: c["videos"][0].update(fps="fast"), "video 0: fps fast is no rate of frames"),
        (lambda c: c.update(annotations=3), "has no list of annotations"),
    ],
)
def test_bad_entries_are_named(coco_vid, change, message):
    content = coco()
    change(content)
    (coco_vid / "annotations" / "train.json").write_text(json.dumps(content))
    with pytest.raises(BadInput, match=message):
        open_source(coco_vid)


def test_other_json_is_no_set_of_tracks(tmp_path, coco_vid):
    (coco_vid / "annotations" / "other.json").write_text('{"images": [], "annotations": []}')
    assert splits(coco_vid) == ("train",)
    (coco_vid / "annotations" / "train_more.json").write_text(json.dumps(coco()))
    with pytest.raises(BadInput, match=r"train.json and train_more.json are of one split; name one file with `data`"):
        splits(coco_vid)


def test_a_frame_that_cannot_be_read_is_replaced_and_named(mot):
    (mot / "v0" / "img1" / "000002.png").write_bytes(b"no picture")
    source = open_source(mot)
    loaded = source.load(Request(torch.tensor([0, 2, 3])))
    assert [bad.id.partition("#")[0] for bad in loaded.replaced] == ["v0/img1/000002.png"] * 3
    assert loaded.index.tolist() == [0, 4, 4]
    assert all(bad.reason == "no JPEG, PNG, WebP, BMP, GIF or TIFF" for bad in loaded.replaced)


def test_times_of_a_track_follow_each_other(mot):
    source = open_source(mot)
    for track in source.group.unique():
        assert all(a < b for a, b in pairwise(source.time[source.group == track].tolist()))
