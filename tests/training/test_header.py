import json

import numpy as np
import pytest

import sanslabel
from sanslabel.errors import BadInput
from sanslabel.inputs import ImageSpec, SpectrogramSpec
from sanslabel.run_config import Expected, Plan
from sanslabel.sources import open_source
from sanslabel.training.header import duration, header, readable_count
from sanslabel.wording import counted

TINY = dict(encoder={"name": "dcgan", "filters": 8}, batch=16, epochs=2, precision="float32", device="cpu")


def photos(folder, count=24, side=16):
    """A folder of random color pictures, and its path."""
    from PIL import Image

    draw = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    for row in range(count):
        Image.fromarray(draw.integers(0, 256, (side, side, 3), np.uint8)).save(folder / f"{row}.png")
    return folder


def test_a_header_says_how_a_run_trains(tmp_path, capsys):
    np.save(tmp_path / "dots.npy", np.random.default_rng(0).integers(0, 256, (40, 8, 8), np.uint8))
    sanslabel.train(tmp_path / "dots.npy", out=tmp_path / "run", **TINY)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "dots: 40 images, gray"
    assert lines[1].startswith("training: simclr, 8 x 8 pixels, encoder dcgan (")
    assert lines[1].endswith(" weights), batch 16, 2 epochs = 4 steps")


def test_a_header_has_the_remarks_of_the_data_and_run_json_keeps_them(tmp_path, capsys, monkeypatch):
    from dataclasses import replace

    from sanslabel.training import run

    monkeypatch.setattr(run, "open_source", lambda *a, **k: replace(open_source(*a, **k), remarks=("3 SVG left out",)))
    sanslabel.train(photos(tmp_path / "pictures"), out=tmp_path / "run", **TINY)
    assert capsys.readouterr().err.splitlines()[1] == "3 SVG left out"
    assert json.loads((tmp_path / "run" / "run.json").read_text())["remarks"] == ["3 SVG left out"]
    assert sanslabel.resume(tmp_path / "run").known_plan.remarks == ("3 SVG left out",)


def test_counts_are_short():
    assert [readable_count(n) for n in (12, 9_600, 1_150_000, 25_600_000)] == ["12", "9.6 k", "1.1 M", "26 M"]
    assert [counted(n, "step") for n in (1, 1200)] == ["1 step", "1,200 steps"]


def header_of(**settings):
    """The lines of a header for a plan with these fields."""
    plan = dict(
        data="x", fingerprint="", samples=796, method="simclr", hyperparameters={}, recipe={}, encoder={"name": "conv"},
        image_size=48, epochs=160, batch=64, chunk=None, workers=0, seed=0, world_size=1, device="cpu",
        precision="float32", threads=1, inputs={"image": ImageSpec(channels=3, height=48, width=48)},
    )  # fmt: skip
    return list(header(Plan(**plan | settings), "stamps", 1_153_000))


def test_a_header_says_what_was_chosen_and_what_it_takes():
    reasons = {"image_size": "since x", "batch": "for 12 steps an epoch", "epochs": "for 1,920 steps in all"}
    assert header_of(chosen=reasons, expected=Expected(seconds=250, memory=1_400_000_000, disk=31 << 20)) == [
        "stamps: 796 images, color",
        "training: simclr, 48 x 48 pixels, encoder conv (1.2 M weights), batch 64, 160 epochs = 1,920 steps",
        "chosen: 48 pixels, since x; batch 64, for 12 steps an epoch; 160 epochs, for 1,920 steps in all",
        "expected: about 4 minutes, 1.3 GiB of memory, up to 31 MiB of disk",
        "change it with --minutes, --image-size, --batch, --epochs, --encoder",
    ]


def test_a_header_has_the_number_of_classes():
    assert header_of(classes=16)[0] == "stamps: 796 images, color, 16 classes"


def test_a_header_names_what_a_sample_is():
    sound = {"audio": SpectrogramSpec(mels=64, frames=96, rate=16_000)}
    assert header_of(inputs=sound, image_size=0, noun="window of sound", classes=2)[:2] == [
        "stamps: 796 windows of sound, 2 classes",
        "training: simclr, 64 mel bands x 96 frames, encoder conv (1.2 M weights), batch 64, 160 epochs = 1,920 steps",
    ]
    assert header_of(noun="crop of a track", near=2.0)[::2] == [
        "stamps: 796 crops of tracks, color",
        "pairs: the second view is drawn from up to 2 s before or after the first one (--near)",
    ]
    assert header_of(noun="frame", samples=2, batch=2)[-1].startswith("2 frames are few: ")


def test_a_header_without_choices_and_of_few_pictures():
    assert header_of(samples=2, batch=2)[2:] == [
        "2 images are few: an encoder needs hundreds to learn anything, better thousands"
    ]
    assert header_of(world_size=2)[1].endswith("batch 64 (32 on each of 2 processes), 160 epochs = 1,920 steps")


def test_times_are_as_precise_as_estimates():
    times = [duration(s) for s in (1, 34, 70, 95, 400, 5_000, 20_000, 200_000)]
    assert times == [
        f"about {words}"
        for words in (
            "10 seconds", "30 seconds", "a minute", "2 minutes", "7 minutes", "83 minutes", "5.6 hours", "2.3 days"
        )
    ]  # fmt: skip


def test_the_values_that_are_open_are_chosen_for_a_folder_and_recorded(tmp_path, capsys):
    folder = photos(tmp_path / "pictures", count=40)
    options = {name: value for name, value in TINY.items() if name not in {"batch", "epochs"}}
    run = sanslabel.train(folder, out=tmp_path / "run", minutes=0.1, **options)
    plan = run.known_plan
    assert (plan.image_size, plan.batch) == (16, 32)
    assert plan.epochs > 2
    assert list(plan.chosen) == ["image_size", "batch", "epochs"]
    assert plan.expected.memory > plan.expected.disk > 0
    lines = capsys.readouterr().err.splitlines()
    assert next(line for line in lines if line.startswith("chosen: 16 pixels, the pictures' own size; batch 32, "))
    given = sanslabel.train(folder, out=tmp_path / "given", **TINY).known_plan
    assert (given.batch, given.epochs, list(given.chosen)) == (16, 2, ["image_size"])


def test_the_sets_of_the_package_keep_their_recipe(tmp_path, monkeypatch):
    from sanslabel.training import run

    monkeypatch.setattr(run, "_trained", lambda folder, *others, **options: folder)
    plan = sanslabel.train("digits", out=tmp_path / "run").known_plan
    assert (plan.image_size, plan.batch, plan.epochs, plan.chosen) == (8, 256, 20, {})
    assert plan.expected.seconds > 0
    timed = sanslabel.train("digits", out=tmp_path / "run", minutes=0.001).known_plan
    assert (timed.batch, timed.epochs, list(timed.chosen)) == (256, 1, ["epochs"])
    assert "5 steps are few" in timed.chosen["epochs"]
    paper = sanslabel.train("digits", out=tmp_path / "run", recipe="paper", encoder="conv").known_plan
    assert (paper.batch, paper.epochs, paper.chosen) == (1438, 100, {})


def test_a_run_that_does_not_fit_into_memory_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    from sanslabel.training import choice

    monkeypatch.setattr(choice, "free_memory", lambda: 1 << 20)
    folder = photos(tmp_path / "pictures", count=40)
    with pytest.raises(BadInput, match=r"pictures: training takes about .* of memory, and .* free; lower `batch`"):
        sanslabel.train(folder, out=tmp_path / "run", **TINY | {"encoder": "conv", "image_size": 32, "batch": 40})
    assert not (tmp_path / "run").exists()


def test_pictures_of_one_color_are_told_before_the_first_step(tmp_path, capsys):
    from PIL import Image

    icons = tmp_path / "icons"
    icons.mkdir()
    for number in range(12):
        drawing = np.zeros((16, 16, 4), np.uint8)
        drawing[number : number + 4] = 255  # white on a transparent ground
        Image.fromarray(drawing).save(icons / f"{number}.png")
    sanslabel.train(icons, out=tmp_path / "run", **{**TINY, "encoder": {"name": "mlp", "hidden": [8]}})
    lines = capsys.readouterr().err.splitlines()
    assert next(line for line in lines if line.startswith("all images that were looked at have one color"))
