"""Pictures of clothes and the spoken words for them: python -m bench.spoken_garments FOLDER

A sample is a picture of Fashion-MNIST with the word of its class, spoken by espeak-ng: in one of 7 accents, by one of
many voices, at a speed and pitch of its own. 2,560 pairs are trained on, without labels, in 160 steps of 64. The test
has 1,000 pairs of other pictures and of voices that were not trained on. `cross_modal` and `avid` are compared with
the same networks before training, and with `cross_modal` on pictures whose words are shuffled. SimCLR on the pictures
alone, with the same encoder and number of steps, is the control of the picture's encoder.

There are ten words, and a picture cannot tell which of the twenty voices said its own. So the recall at 1 is at most
about 1 %, and the figure to read is the precision by class: the share of samples of the right class at the first place.

Writes one line per finished run to bench/results/spoken_garments.jsonl, which a later call skips, and prints the
tables. Three seeds draw the weights and the order. A run takes about a minute of one core. espeak-ng and
Fashion-MNIST are Debian's packages: apt-get install espeak-ng dataset-fashion-mnist. --picture FILE draws pairs.
"""

from __future__ import annotations

import argparse
import io
import subprocess
import wave
from collections.abc import Mapping, Sequence
from pathlib import Path
from shutil import which
from typing import Any

import numpy as np
import torch

from bench.arms import Line, keep, lines_of, missing
from bench.markdown import table
from bench.pair_picture import pair_picture
from bench.two_signals import (
    SIGNALS,
    mean_of,
    pair_rows,
    pair_scores,
    probe_scores,
    render,
    trained,
    untrained,
)
from sanslabel.errors import BadInput
from sanslabel.sources import Request, Split, open_source
from sanslabel.sources.sounds.wave import RATE, resampled

RESULTS = Path(__file__).parent / "results" / "spoken_garments.jsonl"
WORDS = ("T-shirt", "trousers", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
"""what is spoken for each class of Fashion-MNIST"""
ACCENTS = ("en-gb", "en-us", "en-gb-scotland", "en-gb-x-gbclan", "en-gb-x-rp", "en-gb-x-gbcwmd", "en-029")
VOICES: dict[Split, str] = {
    "train": "f1 f2 f3 m1 m2 m3 m4 m5 adam Alex Alicia Andrea Andy Annie anika antonio aunty belinda benjamin boris "
    "david Denis Diogo ed edward Gene grandma Henrique Hugo iven Jacky john Lee linda marcelo Marco Mario max michel",
    "test": "f4 f5 m6 m7 m8 Michael Mike norbert pablo paul pedro quincy rob robert sandro shelby steph travis victor "
    "zac",
}
"""espeak-ng's variants, without whispers, robots and monsters"""
SPEEDS, PITCHES = (120, 200), (25, 75)
"""words in a minute, and espeak-ng's pitch, from 0 to 99"""
SECONDS = 1.0
PAIRS: dict[Split, int] = {"train": 2560, "test": 1000}
SETTINGS: dict[str, Any] = {"epochs": 4, "batch": 64, "precision": "bfloat16"}
BOTH = {"image": "conv", "audio": "conv"}
ARMS = ("untrained", "cross_modal", "avid", "cross_modal, words shuffled", "simclr, pictures alone")
SEEDS = range(3)


def spoken(word: str, accent: str, voice: str, speed: int, pitch: int) -> np.ndarray:
    """Returns the wave of a word, (T,) float32 at 16,000 samples a second, without the silence around it."""
    command = ["espeak-ng", "-v", f"{accent}+{voice}", "-s", str(speed), "-p", str(pitch), "--stdout", word]
    content = subprocess.run(command, capture_output=True, check=True).stdout
    with wave.open(io.BytesIO(content)) as file:
        rate = file.getframerate()
    samples = np.frombuffer(content[44:], "<i2").astype(np.float32) / 32768  # the header of a pipe has no length
    sound = np.concatenate(list(resampled([samples], rate)))
    loud = np.flatnonzero(np.abs(sound) > 0.02 * np.abs(sound).max())
    return sound[loud[0] : loud[-1] + 1]


def placed(sound: np.ndarray, loudness: float) -> np.ndarray:
    """Returns the wave (T,) int16 of `SECONDS` with the sound in its middle, at most so loud."""
    length = round(SECONDS * RATE)
    sound = sound[:length] / np.abs(sound).max() * loudness
    before = (length - len(sound)) // 2
    return (32767 * np.pad(sound, (before, length - len(sound) - before))).round().astype(np.int16)


def garments(split: Split) -> dict[str, np.ndarray]:
    """Returns pictures (n, 28, 28), their labels, and waves (n, T) of their words, drawn without the seed of a run."""
    random, voices = np.random.default_rng({"train": 0, "test": 1}[split]), VOICES[split].split()
    source = open_source("fashion-mnist", split)
    index = torch.from_numpy(random.permutation(len(source))[: PAIRS[split]])
    pictures: Any = source.load(Request(index)).signals["image"]
    labels, waves = source.labels[index].numpy(), []
    for label in labels:
        voice, accent = random.choice(voices), random.choice(ACCENTS)
        speed, pitch = (int(random.integers(low, high + 1)) for low, high in (SPEEDS, PITCHES))
        waves.append(placed(spoken(WORDS[label], accent, voice, speed, pitch), random.uniform(0.3, 0.9)))
    return {"images": pictures.pixels.numpy()[:, 0], "labels": labels, "waves": np.stack(waves)}


def files(folder: Path) -> dict[str, Path]:
    """Returns the file of the pairs, and the one in which the words of training pictures are shuffled."""
    names = {"pairs": folder / "garments.npz", "shuffled": folder / "shuffled.npz"}
    if not all(file.exists() for file in names.values()):
        splits = {"": garments("train"), "test_": garments("test")}
        arrays = {f"{prefix}{name}": array for prefix, of in splits.items() for name, array in of.items()}
        arrays |= {"rate": np.array(RATE), "classes": np.array(WORDS)}
        np.savez(names["pairs"], **arrays)  # pyright: ignore[reportArgumentType]
        order = np.random.default_rng(2).permutation(PAIRS["train"])
        np.savez(names["shuffled"], **(arrays | {"waves": arrays["waves"][order]}))  # pyright: ignore[reportArgumentType]
    return names


def result(arm: str, seed: int, folder: Path) -> dict[str, Any]:
    """Trains and measures once. Returns a line."""
    data = files(folder)
    settings = {**SETTINGS, "seed": seed, "encoder": BOTH}
    run_folder = folder / f"{arm.replace(', ', '-').replace(' ', '-')}-{seed}"
    if arm.startswith("simclr"):
        run, seconds = trained("simclr", data["pairs"], run_folder, {**settings, "encoder": "conv"})
        return {**about(arm, seed), "core_seconds": seconds, "probes": probe_scores(run, ["student"])}
    if arm == "untrained":
        run, seconds = untrained("cross_modal", data["pairs"], run_folder, settings), 0
        return {**about(arm, seed), "core_seconds": seconds, "pairs": pair_scores(run)}
    method, _, words = arm.partition(", ")
    run, seconds = trained(method, data["shuffled" if words else "pairs"], run_folder, settings)
    probes = {} if words else {"probes": probe_scores(run, SIGNALS)}
    return {**about(arm, seed), "core_seconds": seconds, "pairs": pair_scores(run, data["pairs"]), **probes}


def about(arm: str, seed: int) -> dict[str, Any]:
    """Returns the fields of a line that identify its run."""
    return {"arm": arm, "seed": seed, **PAIRS, **SETTINGS}


def rendered(lines: Sequence[Line]) -> str:
    """Returns the tables of pairs and of probes."""
    by_arm = {arm: [line for line in lines if line["arm"] == arm] for arm in ARMS}
    bound = 100 * len(WORDS) / PAIRS["test"]
    metrics = ("recall at 1", "median rank", "precision at 1", "precision at 10")
    cells = [["most that is possible", "", "", f"{bound:.1f}", "", "100.0", "100.0", ""]]
    cells += pair_rows(lines, ARMS, metrics)
    head = ["", "", "seeds", "recall at 1", "median rank", "precision at 1", "at 10", "AUROC"]
    return f"{table(head, cells, right=range(2, 8))}\n\n{probe_table(by_arm)}"


def probe_table(by_arm: Mapping[str, Sequence[Line]]) -> str:
    """Returns the table of kNN and linear probes of each encoder alone."""
    cells = []
    for signal, title in (("image", "the garment in the picture"), ("audio", "the word that is said")):
        runs = by_arm["cross_modal"]
        for name in ("pixels", "mel statistics", "random encoder"):
            values = [mean_of(runs, "probes", signal, name, protocol) for protocol in ("knn", "linear")]
            if values[0]:
                cells.append([title, name, *values])
        for arm in ("simclr, pictures alone", "cross_modal", "avid"):
            runs = by_arm[arm]
            network = "student" if arm.startswith("simclr") else signal
            if not runs or (arm.startswith("simclr") and signal == "audio"):
                continue
            values = [mean_of(runs, "probes", network, network, protocol) for protocol in ("knn", "linear")]
            cells.append([title, arm, *values])
    return table(["class of", "read from", "kNN", "linear"], cells, right=(2, 3))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="where pairs and runs are kept")
    parser.add_argument("--arm", action="append", choices=ARMS, help="only this arm")
    parser.add_argument("--seed", type=int, action="append", help="only this seed")
    parser.add_argument("--render", action="store_true", help="only write the tables into docs/pairs.md")
    parser.add_argument("--picture", type=Path, help="draw ten test pairs into this file, and train nothing")
    flags = parser.parse_args()
    done = lines_of(RESULTS)
    if not flags.render:
        if which("espeak-ng") is None:
            raise SystemExit("Spoken garments: skipped, since espeak-ng is missing; run apt-get install espeak-ng.")
        try:
            open_source("fashion-mnist")
        except BadInput as error:
            raise SystemExit(f"Spoken garments: skipped. {error}") from None
        if flags.folder is None:
            parser.error("name a folder for pairs and runs")
        flags.folder.mkdir(parents=True, exist_ok=True)
        if flags.picture is not None:
            with np.load(files(flags.folder)["pairs"]) as arrays:
                chosen = [int(np.flatnonzero(arrays["test_labels"] == label)[0]) for label in range(len(WORDS))]
                pair_picture(
                    flags.picture, arrays["test_images"][chosen], arrays["test_waves"][chosen], RATE, titles=WORDS
                )
            return
        for arm, seed in missing(done, flags.arm or ARMS, flags.seed or SEEDS, about):
            done.append(keep(result(arm, seed, flags.folder), RESULTS))
    render("spoken garments", rendered(done)) if flags.render else print(rendered(done))


if __name__ == "__main__":
    main()
