"""The commands that help after a training run, in the user's own words: the same data, sizes and recipe."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

WIDEST = 58
"""characters of a command that still has its meaning on the same column as the others"""
RUN_FLAGS = ("--out", "--resume", "--weights", "--teacher", "--allow-missing", "--profile", "--track", "--seed")
"""flags that belong to one run, and are not repeated for another"""
METHOD_FLAGS = ("--method.", "--encoder", "--recipe", "--lr", "--batch", "--chunk", "--masked", "--no-masked")
"""flags that were chosen for one method"""
ALTERNATIVES = {"pair of sentences": ("translation", "bitext"), "sentence": ()}
"""for texts, the methods that learn from the same samples"""


def next_steps(finished: Any, arguments: Sequence[str], embedded: bool, measured: bool) -> list[str]:
    """Returns lines with commands and their meaning, at most four.

    finished: the run folder. arguments: the flags of this run. embedded: True if the data are a
    set of this package. measured: True if the encoder was evaluated.
    """
    commands = dict(_commands(finished, arguments, embedded, measured))
    width = max([len(command) for command in commands if len(command) <= WIDEST], default=0)
    return [f"{command:<{width}}   {meaning}" for command, meaning in commands.items()][:4]


def quoted(path: str | Path) -> str:
    """Returns a path as a shell reads it."""
    return shlex.quote(str(path))


def repeated(arguments: Sequence[str]) -> list[str]:
    """Returns the flags, with their values, that also fit a run of another method."""
    words: list[str] = []
    keep = False
    for word in arguments:
        if word.startswith("--"):
            keep = word.partition("=")[0] not in RUN_FLAGS and not word.startswith(METHOD_FLAGS)
        if keep:
            words.append(word)
    return words


def _commands(finished: Any, arguments: Sequence[str], embedded: bool, measured: bool) -> Iterator[tuple[str, str]]:
    """Yields commands with their meaning, the most helpful first."""
    from sanslabel.methods.abilities import Samples, Translates
    from sanslabel.wording import plural

    plan, run, method = finished.plan, quoted(finished.path), finished.method()
    texts = plan.noun in ALTERNATIVES
    yield f"sanslabel report {run}", "everything on one page"
    if not measured and (plan.classes or 0) > 1:
        yield f"sanslabel evaluate {run}", "accuracy of the encoder"
    elif not measured and plan.noun == "frame":
        yield f"sanslabel evaluate {run} --protocols near_far shots", "near frames against far ones; no labels needed"
    elif not measured and not embedded and not texts:
        yield f"sanslabel evaluate {run} --data LABELED", f"accuracy on {plural(plan.noun)} in a folder for each class"
    if isinstance(method, Samples):
        yield f"sanslabel sample {run}", "new pictures, drawn by the model"
    if isinstance(method, Translates):
        yield f"sanslabel translate {run} TEXT", "a translation of a sentence, or of each line of a file"
    if texts or not embedded:
        names = [name for name in ALTERNATIVES.get(plan.noun, ("vicreg", "simclr")) if name != plan.method]
        words = repeated(arguments) or ["--data", *([plan.data] if isinstance(plan.data, str) else plan.data)]
        if names:
            yield shlex.join(["sanslabel", "train", names[0], *words]), "another method, the same data"
    else:
        yield f"sanslabel train {plan.method} --data FOLDER", "your own pictures; no labels needed"
    yield "sanslabel methods", "all methods"
