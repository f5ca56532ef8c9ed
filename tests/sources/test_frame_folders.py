"""Folders of frames as clips: which frames belong together, at which time, and what their labels are."""

import numpy as np
import pytest
import torch
from PIL import Image

import sanslabel
from sanslabel.errors import BadInput
from sanslabel.report.last_batch import images_of_last_batch
from sanslabel.run_folder import RunFolder
from sanslabel.sources import Data, Pairs, Request, open_source, paired
from sanslabel.sources.videos.frame_folders import natural

QUICK = {"encoder": {"name": "mlp", "hidden": 16}, "batch": 8, "epochs": 2, "image_size": 8, "device": "cpu"}
QUICK |= {"precision": "float32", "workers": 0}


def write_clips(root, *folders: str, frames: int = 12, level: int = 0):
    """Frames whose gray level counts: first the level, then 20 for each folder, then 1 for each frame."""
    for number, folder in enumerate(folders):
        (root / folder).mkdir(parents=True, exist_ok=True)
        for frame in range(frames):
            Image.new("L", (8, 8), level + 20 * number + frame).save(root / folder / f"frame{frame}.png")
    return root


def opened(root, **choices):
    return open_source(Data((root,), clips=True, **choices))


def test_frames_are_in_natural_order_at_their_rate(tmp_path):
    clips = opened(write_clips(tmp_path, "a", "b"), fps=10)
    level = clips.load(Request(torch.arange(24))).images.pixels[:, 0, 0, 0].long()
    assert torch.equal(level // 20, clips.group)
    assert torch.allclose(clips.time, (level % 20).double() / 10)
    assert clips.id(2) == "a/frame10.png"
    assert clips.noun == "frame"
    assert len(clips.classes) == 0
    assert "Folders of frames are clips: 2 clips of 10 frames a second." in clips.remarks
    assert sorted(["10.png", "9.png", "9a", "1x2", "1x10"], key=natural) == ["1x2", "1x10", "9.png", "9a", "10.png"]


def test_the_rate_has_a_default_which_is_stated(tmp_path):
    clips = opened(write_clips(tmp_path, "a", "b"))
    assert clips.time.max() == pytest.approx(11 / 25)
    remark = "Folders of frames are clips: 2 clips of 25 frames a second, unless --fps states another rate."
    assert remark in clips.remarks


def test_a_folder_above_the_clips_is_a_class(tmp_path):
    write_clips(tmp_path / "train", "run/1", "run/2", "jump/1", frames=3)
    write_clips(tmp_path / "test", "run/3", "jump/2", frames=3, level=100)
    train, test = opened(tmp_path), open_source(Data((tmp_path,), clips=True), "test")
    assert train.classes == test.classes == ("jump", "run")
    assert train.labels.tolist() == [0] * 3 + [1] * 6
    assert len(train.group.unique()) == 3
    assert len(test.group.unique()) == 2


def test_one_folder_is_one_clip(tmp_path):
    clips = opened(write_clips(tmp_path, "."))
    assert clips.group.tolist() == [0] * 12


def test_without_a_request_folders_are_classes(tmp_path):
    source = open_source(write_clips(tmp_path, "a", "b"))
    assert source.classes == ("a", "b")
    assert source.group is source.time is None
    with pytest.raises(BadInput, match=r"digits: `fps` is a rate of frames, and these data have none; leave it out\."):
        open_source(Data(("digits",), fps=25))


def test_no_batch_has_two_frames_of_a_clip(tmp_path):
    clips = opened(write_clips(tmp_path, *"abcdefgh", frames=12))
    by_batch = clips.group[clips.order.epoch(0, 0, 8)].view(-1, 8)
    assert all(len(batch.unique()) == 8 for batch in by_batch)
    assert isinstance(paired(clips, 2), Pairs)


def test_a_run_on_pairs_of_frames(tmp_path):
    """It resumes to the same bits, and without a time between partners it is the run without pairs."""
    root = write_clips(tmp_path / "frames", "a", "b", "c", "d")
    for folder in root.iterdir():
        for file in folder.iterdir():
            noise = np.random.default_rng(len(file.name)).integers(0, 99, (8, 8))
            Image.fromarray((np.asarray(Image.open(file)) + noise).astype(np.uint8)).save(file)
    weights = {}
    for name, chosen in {"near": {"near": 0.2}, "zero": {"near": 0}, "none": {}, "rate": {"fps": 25}}.items():
        run = sanslabel.train(root, out=tmp_path / name, **QUICK, **chosen)
        weights[name] = run.encoder_file().read_bytes()
        assert (run.plan.near, run.plan.fps) == (chosen.get("near"), chosen.get("fps"))
    assert weights["zero"] == weights["none"] != weights["rate"] != weights["near"]
    assert set(RunFolder.open(tmp_path / "near").plan.inputs) == {"image", "partner"}
    for file in (tmp_path / "near" / "encoder.safetensors", tmp_path / "near" / "config.json"):
        file.unlink()
    assert sanslabel.resume(tmp_path / "near").encoder_file().read_bytes() == weights["near"]
    shown = images_of_last_batch(RunFolder.open(tmp_path / "near"))
    assert list(shown) == ["image", "partner", "first view", "second view"], "pairs as training drew them"
    assert not torch.equal(shown["image"], shown["partner"])


def test_near_on_data_without_time_is_refused(tmp_path):
    with pytest.raises(BadInput, match=r"digits: `near` needs samples that have a time, .*; leave it out\."):
        sanslabel.train("digits", near=2, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
