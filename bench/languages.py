"""The language of short recordings, from sound alone: python -m bench.languages FOLDER

SimCLR learns from recordings of four packages, without labels: klettres says letters and syllables, ktuberling and
tuxpaint say names of things, and Asterisk says sentences of a telephone exchange. Each has one speaker and one
microphone for each language, two for klettres' English. Asterisk's English and Spanish are spoken by one person.

Then languages are told apart by speakers that the probe has not heard: it is fitted on three of the packages and
measured on the fourth. Of each package, only languages are measured that another one has, too. All languages of a
package have the same number of windows, up to 100, so that chance is 1 of their number. A last column tells all
speakers apart, by other recordings of theirs. All are shown beside statistics of mel bands and a random encoder.

Writes one line per finished run to bench/results/languages.jsonl, which a later call skips, and prints the table. A run
takes two minutes of one core. Of tuxpaint's stamps, those are used that bench/tuxpaint.py states.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from time import process_time
from typing import Any

import torch
from torch import Tensor

import sanslabel
from bench.arms import Line, keep, lines_of, missing
from bench.debian import Package, unpacked
from bench.learning_page import Paired
from bench.learns import ONE_DRAW, accuracies
from bench.markdown import table
from bench.tuxpaint import stamps
from bench.two_signals import CPU, mean_of, render
from sanslabel.evaluation import represent, scores_of_features
from sanslabel.evaluation.features import Division, Features
from sanslabel.evaluation.representation import Representation, mel_statistics
from sanslabel.evaluation.subjects import random_encoder
from sanslabel.randomness import permutation
from sanslabel.run_folder import RunFolder
from sanslabel.sources import Source, open_source

RESULTS = Path(__file__).parent / "results" / "languages.jsonl"
KLETTRES = Package("klettres-data", "4:22.12.3-1", "1186d257a19e84230856baea0b0b1ded8be9195080fcdb2588970b5cd937f5a8")
KTUBERLING = Package(
    "ktuberling-data", "4:22.12.3-1", "fba44c875bfa31ea488dadd9263e87a4dcaea0bd47d28817f6c0dc6d2af970ed"
)
ASTERISK = {
    language: Package(f"asterisk-core-sounds-{language}-wav", "1.6.1-1", sha256)
    for language, sha256 in {
        "en": "2be3ea287d83299d143815fa804f11179a75b7affd4a758b98b55f5afc18a35d",
        "es": "9283a09a6d56fccdcc2bcfe86c48f0f844289cfbd46a3184d8785a6f7f569903",
        "fr": "8d4e1bc32ed5ba7fbda40841ca1825ed20cc6232724a473c90f8bb0e53e6073e",
        "it": "5a26638089e134b8ac39363fe249c5c93c50cd8bfdc9b2499ae61ec4a35e2fcb",
        "ru": "ccbfaebfa450b7a9ddf644ae0f3d1e9017d5df7c0aebe816e946345589d38201",
    }.items()
}
LANGUAGES = ("da", "de", "en", "es", "fr", "it", "lt", "ru", "uk")
"""languages of which two packages have recordings"""
FILES = 150
"""recordings of a speaker, at most"""
WINDOWS, LEAST = 100, 40
"""windows of a speaker that a probe is fitted on or measured on at most, and those that a language must have"""
SETTINGS: dict[str, Any] = {"epochs": 2, "batch": 64}
SEEDS = range(5)
SPEAKERS = "speaker"


def recordings(cache: Path) -> Iterator[tuple[str, str, Path]]:
    """Yields package, speaker and file of each recording. The speaker begins with the language."""
    for name, package in (("klettres", KLETTRES), ("ktuberling", KTUBERLING)):
        folder = unpacked(package, cache) / "usr/share" / name / ("sounds" if name == "ktuberling" else "")
        for file in sorted((*folder.rglob("*.ogg"), *folder.rglob("*.wav"))):
            yield name, file.relative_to(folder).parts[0], file
    for language, package in ASTERISK.items():
        for file in sorted((unpacked(package, cache) / "usr/share/asterisk/sounds").rglob("*.wav")):
            if file.parent.name != "silence" and file.stat().st_size > 8000:  # half a second
                yield "asterisk", language, file
    for stamp in stamps(cache):
        for language in ("fr", "ru"):
            if (recording := stamp.recording(language)) is not None:
                yield "tuxpaint", language, recording


def linked(folder: Path, cache: Path) -> Path:
    """Returns the folder, with a link to each recording that is used, in a sub-folder for its package and speaker."""
    by_speaker: dict[str, list[Path]] = {}
    for package, speaker, file in recordings(cache):
        if speaker[:2] in LANGUAGES and speaker in (*LANGUAGES, "en_GB"):
            by_speaker.setdefault(f"{package}-{speaker}", []).append(file)
    for speaker, files in by_speaker.items():
        (folder / speaker).mkdir(parents=True, exist_ok=True)
        for number in permutation(0, len(files))[:FILES].tolist():
            link = folder / speaker / f"{number:04}-{files[number].name}"
            if not link.is_symlink():
                os.symlink(files[number], link)
    return folder


def drawn(chosen: Tensor, labels: Tensor, most: int) -> Tensor:
    """Returns up to so many positions of each label, among those that are chosen: (N,) bool, (N,) int64 -> (n,)."""
    order = permutation(1, len(labels))
    order = order[chosen[order]]
    return torch.cat([order[labels[order] == label][:most] for label in labels[chosen].unique()])


def divisions(source: Source, index: Tensor) -> Iterator[tuple[str, Tensor, Tensor, Division]]:
    """Yields for each column its title, the positions to fit on and to measure on, and their division.

    index: (n,), the rows of the source that could be read, to which positions refer.
    """
    speaker = source.labels[index]
    names = [name.split("-") for name in source.classes]
    packages = sorted({package for package, _ in names})
    package = torch.tensor([packages.index(package) for package, _ in names])[speaker]
    language = torch.tensor([LANGUAGES.index(spoken[:2]) for _, spoken in names])[speaker]
    for number, name in enumerate(packages):
        counts = [language[mask].bincount(minlength=len(LANGUAGES)) for mask in (package == number, package != number)]
        shared = (torch.stack(counts) >= LEAST).all(dim=0)
        measured = (package == number) & shared[language]
        most = min(WINDOWS, int(counts[0][shared].min()))
        fit = drawn((package != number) & shared[language], speaker, WINDOWS)
        test = drawn(measured, language, most)
        title = f"{name}: {', '.join(LANGUAGES[i] for i in shared.nonzero()[:, 0].tolist())}"
        number_of = shared.cumsum(0) - 1  # languages are counted from 0 on
        yield title, fit, test, Division(number_of[language[fit]], number_of[language[test]], int(shared.sum()), title)
    assert source.group is not None
    halves = permutation(2, int(source.group.max()) + 1)[source.group[index]] % 2 == 0
    fit, test = (drawn(half, speaker, WINDOWS) for half in (halves, ~halves))
    yield SPEAKERS, fit, test, Division(speaker[fit], speaker[test], len(names), SPEAKERS)


@lru_cache(1)
def data(folder: Path, cache: Path) -> tuple[Path, Source]:
    """Returns the folder of links and its windows of sound."""
    recorded = linked(folder / "recordings", cache)
    return recorded, open_source(recorded)


def result(seed: int, folder: Path, cache: Path) -> dict[str, Any]:
    """Trains and measures once. Returns a line."""
    recorded, source = data(folder, cache)
    out, began = folder / f"simclr-{seed}", process_time()
    fresh = not (out / "config.json").exists()
    options: dict[str, Any] = {**SETTINGS, "seed": seed, "precision": "bfloat16", "device": "cpu"}
    run = (
        sanslabel.train(recorded, method="simclr", encoder="conv", out=out, **options) if fresh else RunFolder.open(out)
    )
    seconds = round(process_time() - began) if fresh else None
    encoder = run.encoder()
    reads: Any = encoder.reads
    start = {"reads": reads, "device": CPU, "dtype": torch.float32, "workers": 0}
    compared: dict[str, Representation] = {
        "mel statistics": mel_statistics,
        "random encoder": random_encoder(encoder.config, source, seed, start),  # pyright: ignore[reportArgumentType]
        "trained encoder": encoder,
    }
    h, index = represent(compared, source, reads=reads, device=CPU)
    scores = {}
    for title, fit, test, division in divisions(source, index):
        features = {name: Features(x[fit], x[test]) for name, x in h.items()}
        measured = accuracies(scores_of_features(features, division, protocols=ONE_DRAW, seed=seed))
        scores[title] = {"classes": division.classes, "windows": len(test), **measured}
    return {**about("simclr", seed), "core_seconds": seconds, "windows": len(source), "scores": scores}


def about(method: str, seed: int) -> dict[str, Any]:
    """Returns the fields of a line that identify its run."""
    return {"method": method, "seed": seed, **SETTINGS}


def rendered(lines: Sequence[Line]) -> str:
    """Returns the table: kNN and linear probe of each representation, and the gain of training over the start."""
    cells = []
    for title in lines[0]["scores"] if lines else ():
        first: Mapping[str, Any] = lines[0]["scores"][title]
        for number, name in enumerate(("mel statistics", "random encoder", "trained encoder")):
            values = [mean_of(lines, "scores", title, name, protocol) for protocol in ("knn", "linear")]
            gains = ["", ""]
            if name == "trained encoder":
                differences = [[line["scores"][title][n] for n in (name, "random encoder")] for line in lines]
                gains = [Paired(tuple(a[p] - b[p] for a, b in differences)).cell for p in ("knn", "linear")]
            chance = f"{100 / first['classes']:.1f}"
            head = ["", "", ""] if number else [title, str(first["windows"]), chance]
            cells.append([*head, name, values[0], gains[0], values[1], gains[1]])
    head = ["left out", "windows", "chance", "read from", "kNN", "over random", "linear", "over random"]
    return table(head, cells, right=(1, 2, 4, 5, 6, 7))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="where links and runs are kept")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache/sanslabel/bench", help="of the packages")
    parser.add_argument("--seed", type=int, action="append", help="only this seed")
    parser.add_argument("--render", action="store_true", help="only write the table into docs/pairs.md")
    flags = parser.parse_args()
    done = lines_of(RESULTS)
    if not flags.render:
        if flags.folder is None:
            parser.error("name a folder for links and runs")
        folder, cache = flags.folder.resolve(), flags.cache.resolve()
        for _, seed in missing(done, ["simclr"], flags.seed or SEEDS, about):
            done.append(keep(result(seed, folder, cache), RESULTS))
    render("languages", rendered(done)) if flags.render else print(rendered(done))


if __name__ == "__main__":
    main()
