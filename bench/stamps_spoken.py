"""Tuxpaint's stamps and their spoken names: python -m bench.stamps_spoken FOLDER

A sample is a stamp with a recording of its name, in French, Romanian, Russian or Bulgarian: one speaker for each
language. `cross_modal` is trained on the pairs of all four, without labels, and measured on stamps that were held out,
in each language by itself. It is compared with the same networks before training, and with a training on shuffled
names.

Two parts are held out. Of every name that several stamps share, one stamp: its picture is new, and its recording, the
same file, was heard in training. And every eighth of the other stamps: picture and name are new, so that nothing but
their kind can be known. All names of a part differ, so that the recall at 1 is that of the name; its chance is 1 of
the number of stamps. The precision is that of the category: the folder, such as animals/birds.

Writes one line per finished run to bench/results/stamps_spoken.jsonl, which a later call skips, and prints the table.
The stamps are Debian's package tuxpaint-stamps-default, 161 MB, fetched into the cache folder; which of them are used,
bench/tuxpaint.py states. --picture FILE draws pairs.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from bench.arms import Line, keep, lines_of, missing
from bench.learning_page import spread
from bench.markdown import table
from bench.pair_picture import pair_picture
from bench.tuxpaint import LANGUAGES, Stamp, stamps
from bench.two_signals import DIRECTIONS, pair_scores, render, trained, untrained
from sanslabel.sources.sounds.wave import RATE, wave_blocks

RESULTS = Path(__file__).parent / "results" / "stamps_spoken.jsonl"
SIDE, SECONDS, GROUND = 32, 1.5, 160
"""side of a picture, length of a recording from its first sound on, and the gray behind a stamp"""
EVERY = 8
"""every so many stamps whose name is their own, one is held out"""
NAMED = {"bg": "Bulgarian", "fr": "French", "ro": "Romanian", "ru": "Russian"}
PARTS = {"known": "name heard in training", "new": "new name"}
SETTINGS: dict[str, Any] = {"epochs": 14, "batch": 128, "precision": "bfloat16"}
BOTH = {"image": "conv", "audio": "conv"}
ARMS = ("untrained", "cross_modal", "cross_modal, names shuffled")
SEEDS = range(3)


class Parts(NamedTuple):
    """Stamps to train on, and the two parts that are held out."""

    train: list[Stamp]
    known: list[Stamp]
    new: list[Stamp]


def parts(cache: Path) -> Parts:
    """Returns the parts of the stamps that may be used. Stamps without a .png picture or a name are left out."""
    used = [stamp for stamp in stamps(cache) if stamp.picture.suffix == ".png" and stamp.text]
    shared, of = Counter(stamp.text for stamp in used), Parts([], [], [])
    done, alone = set[str](), 0
    for stamp in used:
        if shared[stamp.text] > 1:
            (of.train if stamp.text in done else of.known).append(stamp)
            done.add(stamp.text)
        else:
            (of.train if alone % EVERY else of.new).append(stamp)
            alone += 1
    return of


def pixels(stamp: Stamp) -> np.ndarray:
    """Returns the picture of a stamp in the middle of a gray square, (32, 32, 3) uint8."""
    with Image.open(stamp.picture) as file:
        picture = file.convert("RGBA")
    picture.thumbnail((SIDE, SIDE))
    square = Image.new("RGBA", (SIDE, SIDE), (GROUND, GROUND, GROUND, 255))
    square.alpha_composite(picture, ((SIDE - picture.width) // 2, (SIDE - picture.height) // 2))
    return np.asarray(square.convert("RGB"))


def sound(recording: Path) -> np.ndarray:
    """Returns the recording from its first sound on, (T,) int16, cut off or filled with zeros."""
    samples = np.concatenate(list(wave_blocks(lambda: recording.open("rb")))).astype(np.float32)
    loud = np.flatnonzero(np.abs(samples) > 0.03 * np.abs(samples).max())
    samples = samples[loud[0] :][: round(SECONDS * RATE)] / np.abs(samples).max()
    return (16384 * np.pad(samples, (0, round(SECONDS * RATE) - len(samples)))).round().astype(np.int16)


def pairs(chosen: Sequence[Stamp], languages: Sequence[str], categories: Sequence[str]) -> dict[str, np.ndarray]:
    """Returns pictures, waves and the numbers of categories of all stamps that have a recording."""
    samples = [(stamp, file) for language in languages for stamp in chosen if (file := stamp.recording(language))]
    return {
        "images": np.stack([pixels(stamp) for stamp, _ in samples]),
        "waves": np.stack([sound(file) for _, file in samples]),
        "labels": np.array([categories.index(stamp.category) for stamp, _ in samples]),
    }


def files(folder: Path, cache: Path) -> dict[str, Path]:
    """Returns the files of training pairs, of those with shuffled names, and of each part in each language."""
    tests = {f"{part}-{language}": (part, language) for part in PARTS for language in LANGUAGES}
    names = {name: folder / f"{name}.npz" for name in ("train", "shuffled", *tests)}
    if not all(file.exists() for file in names.values()):
        of = parts(cache)
        categories = sorted({stamp.category for part in of for stamp in part})
        rest = {"rate": np.array(RATE), "classes": np.array(categories)}
        for name, (part, language) in tests.items():
            test = pairs(getattr(of, part), [language], categories)
            both = test | {f"test_{key}": array for key, array in test.items()}  # a file has a training split
            np.savez(names[name], **both, **rest)  # pyright: ignore[reportArgumentType]
        train = pairs(of.train, LANGUAGES, categories)
        shuffled = np.random.default_rng(0).permutation(len(train["waves"]))
        np.savez(names["shuffled"], **(train | {"waves": train["waves"][shuffled]}), **rest)  # pyright: ignore[reportArgumentType]
        np.savez(names["train"], **train, **rest)  # pyright: ignore[reportArgumentType]
    return names


def result(arm: str, seed: int, folder: Path, cache: Path) -> dict[str, Any]:
    """Trains and measures once. Returns a line."""
    data, settings = files(folder, cache), {**SETTINGS, "seed": seed, "encoder": BOTH}
    run_folder = folder / f"{arm.replace(', ', '-').replace(' ', '-')}-{seed}"
    if arm == "untrained":
        run, seconds = untrained("cross_modal", data["train"], run_folder, settings), 0
    else:
        method, _, names = arm.partition(", ")
        run, seconds = trained(method, data["shuffled" if names else "train"], run_folder, settings)
    scores = {
        part: {language: pair_scores(run, data[f"{part}-{language}"]) for language in LANGUAGES} for part in PARTS
    }
    counts = {}
    for name, file in data.items():
        if name != "shuffled":
            with np.load(file) as arrays:
                counts[name] = len(arrays["labels"])
    return {**about(arm, seed), "core_seconds": seconds, "pairs": counts, "scores": scores}


def about(arm: str, seed: int) -> dict[str, Any]:
    """Returns the fields of a line that identify its run."""
    return {"arm": arm, "seed": seed, **SETTINGS}


def rendered(lines: Sequence[Line]) -> str:
    """Returns the table: a row for each arm and direction, means over languages and their deviation over seeds."""

    def mean(runs: Sequence[Line], part: str, row: str, metric: str) -> str:
        """Returns the mean over languages of a figure, with its deviation over seeds."""
        values = [[of[row][metric] for of in line["scores"][part].values() if metric in of[row]] for line in runs]
        return spread([sum(some) / len(some) for some in values if some])

    metrics = ("recall at 1", "recall at 10", "median rank", "precision at 1")
    cells = []
    for part, title in PARTS.items():
        cells.append([title, "chance", "", "", *(mean(lines[:1], part, "chance", m) for m in metrics), "50.0"])
        for arm in ARMS:
            runs = [line for line in lines if line["arm"] == arm]
            for number, (direction, row) in enumerate(DIRECTIONS.items() if runs else ()):
                auroc = "" if number else mean(runs, part, "true against shuffled pairs", "AUROC")
                cells.append(
                    [title, arm, direction, str(len(runs)), *(mean(runs, part, row, m) for m in metrics), auroc]
                )
    head = ["held-out stamps", "", "", "seeds", "recall at 1", "at 10", "median rank", "category at 1", "AUROC"]
    return table(head, cells, right=range(3, 9))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="where pairs and runs are kept")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache/sanslabel/bench", help="of the package")
    parser.add_argument("--arm", action="append", choices=ARMS, help="only this arm")
    parser.add_argument("--seed", type=int, action="append", help="only this seed")
    parser.add_argument("--render", action="store_true", help="only write the table into docs/pairs.md")
    parser.add_argument("--picture", type=Path, help="draw ten training pairs into this file, and train nothing")
    flags = parser.parse_args()
    done = lines_of(RESULTS)
    if not flags.render:
        if flags.folder is None:
            parser.error("name a folder for pairs and runs")
        flags.folder.mkdir(parents=True, exist_ok=True)
        data = files(flags.folder, flags.cache)
        if flags.picture is not None:
            chosen = [stamp for stamp in parts(flags.cache).train if stamp.recording("fr")][::37][:10]
            shown, titles = pairs(chosen, ["fr"], sorted({s.category for s in chosen})), [s.text[:32] for s in chosen]
            pair_picture(flags.picture, shown["images"], shown["waves"], RATE, titles=titles)
            return
        print(", ".join(f"{name} {len(np.load(file)['labels'])}" for name, file in data.items()))
        for arm, seed in missing(done, flags.arm or ARMS, flags.seed or SEEDS, about):
            done.append(keep(result(arm, seed, flags.folder, flags.cache), RESULTS))
    render("stamps", rendered(done)) if flags.render else print(rendered(done))


if __name__ == "__main__":
    main()
