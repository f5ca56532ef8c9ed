"""The language of short recordings, from sound alone: python -m bench.languages --cache FOLDER --out RUN

SimCLR learns from klettres' recordings of letters and syllables in 20 languages, without labels. Then French is told
from Russian, by speakers that the probe has not heard. It learns from klettres' speakers and is measured on tuxpaint's,
which say names of things, and the other way round. Each set has one speaker of each language, who is also the only one
to use that microphone. A last measurement is easier: four languages of tuxpaint, each by the same speaker in training
and test. All are shown beside statistics of mel bands and the random encoder.

Of tuxpaint's stamps, those whose number is a multiple of 5 are left out, counted from 0 or from 1: they are kept for
other measurements.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import sanslabel
from bench.debian import Package, unpacked
from bench.markdown import table

KLETTRES = Package("klettres-data", "4:22.12.3-1", "1186d257a19e84230856baea0b0b1ded8be9195080fcdb2588970b5cd937f5a8")
TUXPAINT = Package(
    "tuxpaint-stamps-default", "2022.06.04-1", "6db6c1bfc870a47f1499d6203b083522eacb57c5f9c87d468f2e92eb6d9d5f34"
)
SHARED = ("fr", "ru")
"""languages of both sets"""
LANGUAGES = ("bg", "fr", "ro", "ru")
"""languages of tuxpaint's recordings that are measured"""


def klettres(cache: Path) -> Iterator[tuple[str, Path]]:
    """Yields the language and the file of each recording of klettres."""
    folder = unpacked(KLETTRES, cache) / "usr/share/klettres"
    for file in sorted(folder.glob("*/*/*.ogg")):
        yield file.relative_to(folder).parts[0], file


def tuxpaint(cache: Path) -> Iterator[tuple[str, Path]]:
    """Yields the language and the file of each recording of tuxpaint's stamps that may be used."""
    folder = unpacked(TUXPAINT, cache) / "usr/share/tuxpaint/stamps"
    stamps = sorted(path for path in folder.rglob("*.*") if path.suffix in (".png", ".svg"))
    for number, stamp in enumerate(stamps):
        for language in LANGUAGES if number % 5 and (number + 1) % 5 else ():
            if (file := stamp.with_name(f"{stamp.stem}_desc_{language}.ogg")).is_file():
                yield language, file


def linked(folder: Path, recordings: Iterator[tuple[str, Path]], languages: tuple[str, ...] | None = None) -> Path:
    """Returns the folder, with a link to each recording in a sub-folder for its language."""
    for number, (language, file) in enumerate(recordings):
        if languages is None or language in languages:
            (folder / language).mkdir(parents=True, exist_ok=True)
            link = folder / language / f"{number:04}-{file.stem}{file.suffix}"
            if not link.is_symlink():
                os.symlink(file, link)
    return folder


def measured(run: Path, data: Path) -> Mapping[str, str]:
    """Returns the accuracies of kNN and of a linear probe, by representation."""
    scores = [s for s in sanslabel.evaluate(run, data=data, cache=False) if s.labels_per_class is None]
    by_name: dict[str, dict[str, float]] = {}
    for score in scores:
        by_name.setdefault(score.representation, {}).setdefault(score.protocol, score.value)
    return {
        name: f"{values['knn']:.1f} / {values['linear']:.1f}" for name, values in by_name.items() if len(values) == 2
    }


def main() -> None:
    """Trains, and prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache/sanslabel/bench")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    cache = chosen.cache.resolve()
    sets = {
        "klettres to tuxpaint": ("forward", klettres(cache), tuxpaint(cache)),
        "tuxpaint to klettres": ("backward", tuxpaint(cache), klettres(cache)),
    }
    folders = {}
    for title, (name, train, test) in sets.items():
        linked(cache / "languages" / name / "train", train, SHARED)
        linked(cache / "languages" / name / "test", test, SHARED)
        folders[title] = cache / "languages" / name
    folders["the same speakers, four languages"] = linked(cache / "languages/same", tuxpaint(cache))
    data = linked(cache / "languages/klettres", klettres(cache))
    began = time.process_time()
    options = {"epochs": chosen.epochs, "seed": chosen.seed, "batch": 128, "device": "cpu"}
    sanslabel.train(data, method="simclr", encoder="conv", out=chosen.out, **options)
    print(f"{chosen.epochs} epochs took {time.process_time() - began:.0f} seconds of the CPU.")
    columns = {title: measured(chosen.out, folder) for title, folder in folders.items()}
    names = dict.fromkeys(name for column in columns.values() for name in column)
    lines = [[name, *(column.get(name, "") for column in columns.values())] for name in names]
    print(table(["kNN / linear probe (%)", *columns], lines))


if __name__ == "__main__":
    main()
