"""Everything that `bench.learns` can measure, and the settings that identify a measurement."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any, Literal

from sanslabel import encoders, methods
from sanslabel.inputs import DECODE_FACTOR
from sanslabel.serialization import to_plain

SEEDS = (0, 1, 2)
BASELINES = ("pixels", "pca")
Line = Mapping[str, Any]


@dataclass(frozen=True)
class Setting:
    """How much data, and how long."""

    title: str
    samples: int
    encoder: str | None
    """in place of the recipe's `conv`; None leaves that"""
    transformer: str
    """in place of the recipe's `vit_micro`"""
    epochs: int
    """epochs of methods that `special` does not name"""
    special: dict[str, int] = field(default_factory=dict)
    held_out: bool = False
    """True to measure on training images that are held out, and to leave the test images alone"""
    times: int = 1
    """factor of all epochs"""

    def encoder_of(self, method: str) -> str:
        """Returns the name of the encoder that a method trains."""
        of_recipe = str(_of_recipe(method)["name"])
        if of_recipe not in {"conv", "vit_micro"}:
            return of_recipe  # a discriminator, or the layers that a decoder mirrors
        return self.transformer if of_recipe.startswith("vit") else self.encoder or of_recipe

    def choices(self) -> dict[str, dict[str, Any]]:
        """Returns the encoders of all methods by name, each with the options of the first recipe that has it."""
        chosen: dict[str, dict[str, Any]] = {}
        for method in of_images():
            name = self.encoder_of(method)
            chosen.setdefault(name, options if (options := _of_recipe(method))["name"] == name else {"name": name})
        return chosen

    def epochs_of(self, method: str) -> int:
        return self.times * self.special.get(method, self.epochs)

    def without_test(self) -> Setting:
        """Returns the setting that trains on four fifths of the samples and measures on the last fifth."""
        return replace(self, title=f"{self.title}, held out", samples=self.samples * 4 // 5, held_out=True)


CPU = Setting(
    "Two cores, minutes",
    10_000,
    None,
    "vit_micro",
    epochs=10,
    special={
        "mae": 20,
        "data2vec": 10,
        "ijepa": 10,
        "rotation": 6,
        "jigsaw": 16,
        "relative_position": 16,
        "cpc": 4,
        "dino": 9,
        "npid": 20,
        "pirl": 20,
        "autoencoder": 60,
        "dae": 60,
        "vae": 60,
        "ebgan": 20,
        "dcgan": 20,
    },
)
CUDA = Setting("One GPU, longer", 60_000, "resnet18", "vit_tiny", epochs=100)


def of_images() -> list[str]:
    """Returns the methods that learn from single images. Others need frames with times, or sounds."""
    chosen = {name: methods.method_class(name)() for name in methods.names()}
    return [name for name, method in chosen.items() if method.stretch == 1 and method.signals == ("image",)]


@dataclass(frozen=True)
class Task:
    """One measurement: a baseline, or the encoders of a method before or after its training."""

    method: str
    seed: int
    state: Literal["baseline", "start", "trained"]
    encoder: str = ""
    """the name of the encoder; empty for pixels and PCA"""

    def about(self, setting: Setting, device: str) -> dict[str, Any]:
        """Returns the fields of its line that identify the measurement."""
        digest = settings(self.method, setting, self.encoder, self.state)
        return {"method": self.method, "seed": self.seed, "state": self.state, "device": device, "settings": digest}


def tasks(chosen: Sequence[str], seeds: Sequence[int], setting: Setting, trains: bool = True) -> Iterator[Task]:
    """Yields what the table needs of these methods and baselines, one seed before the next.

    The supervised reference is measured with the encoder of every method. trains: False leaves out all that trains.
    """
    for seed in seeds:
        for method in chosen:
            if method in BASELINES:
                yield Task(method, seed, "baseline")
                continue
            for encoder in setting.choices() if method == "supervised" else [setting.encoder_of(method)]:
                yield Task(method, seed, "start", encoder)
                if trains:
                    yield Task(method, seed, "trained", encoder)


def missing(wanted: Iterator[Task], setting: Setting, device: str, done: Sequence[Line]) -> Iterator[Task]:
    """Yields the tasks that have no line yet."""
    return (task for task in wanted if not any(task.about(setting, device).items() <= line.items() for line in done))


def settings(method: str, setting: Setting, encoder: str = "", state: str = "trained") -> str:
    """Returns a digest of all that decides a measurement; lines with another digest are of other settings.

    The start does not depend on the recipe and its length.
    """
    if method in BASELINES:
        return f"{setting.samples}"
    recipe = methods.method_class(method).small
    values = [to_plain(methods.method_class(method).under(recipe))]
    plain = to_plain(recipe)
    for name, default in (("decode_factor", DECODE_FACTOR), ("inverse_square_root", False)):
        if plain[name] == default:
            del plain[name]  # a field that the first results did not have
    values += [plain] if state == "trained" else []
    values += [encoder or setting.encoder_of(method), setting.samples]
    values += [setting.epochs_of(method)] if state == "trained" else []
    return sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]


def read_lines(text: str) -> list[dict[str, Any]]:
    """Returns the lines of a file of results. Those of earlier versions have no state: all methods were trained."""
    lines = map(json.loads, text.splitlines())
    return [{"state": "baseline" if line["method"] in BASELINES else "trained", **line} for line in lines]


def with_present_settings(
    lines: Sequence[Line], chosen: Sequence[str], setting: Setting, device: str
) -> list[dict[str, Any]]:
    """Returns all lines, of which those of the chosen methods get the digest of the present settings.

    That is right if a field was renamed or added, and no number changed. Lines with other settings than the latest of
    their method, encoder and state stay as they are.
    """
    of = [line for line in lines if line["method"] in chosen and line["device"] == device]
    latest = {_kind(line): line["settings"] for line in of}

    def now(line: Line) -> dict[str, Any]:
        if line not in of or line["settings"] != latest[_kind(line)]:
            return {}
        return {"settings": settings(line["method"], setting, line.get("encoder", ""), line["state"])}

    return [{**line, **now(line)} for line in lines]


def _kind(line: Line) -> tuple[str, str, str]:
    return line["method"], line.get("encoder", ""), line["state"]


def _of_recipe(method: str) -> dict[str, Any]:
    return dict(encoders.encoder_options(methods.method_class(method).small.encoder))
