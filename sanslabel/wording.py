"""Words of sentences: counted things, and settings as flags at the command line and as arguments in Python.

Sentences in the code name a setting as a flag: "--batch 0: must be 2 or more". At the command line they are shown as
they are; in Python the same sentence reads "batch=0: must be 2 or more".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

FLAG = r"--(?:no-)?[a-z][a-z0-9-]*(?:\.[a-z][a-z0-9-]*)*"
NUMBER = r"-?\d[\d_]*(?:\.\d+)?(?:e-?\d+)?(?![\w.]*\w)"
WORDS = (
    "cpu cuda mps ram disk none replicate full float32 bfloat16 warn stop tensorboard small paper toy"
    " knn linear few layers cluster retrieval finetune relation invariance transfer"
)
"""values of settings that sentences quote within their text"""
PATH = r"'[^']*'|[^\s;,)`]*[^\s;,).`]"
OTHERS = {"encoder-options": "encoder={…}", "max-restarts": "--max-restarts", "n": "count"}
"""flags with another name in Python, and a flag of torchrun"""

_at_command_line = False


@contextmanager
def flags_in_sentences() -> Iterator[None]:
    """Context manager within which sentences name settings as flags, for a command."""
    global _at_command_line
    before, _at_command_line = _at_command_line, True
    try:
        yield
    finally:
        _at_command_line = before


def at_command_line() -> bool:
    """Returns True within `flags_in_sentences`."""
    return _at_command_line


def worded(sentence: str) -> str:
    """Returns a sentence for the person who reads it: with flags at the command line, with arguments in Python."""
    return sentence if _at_command_line else with_arguments(sentence)


def with_arguments(sentence: str) -> str:
    """Returns a sentence with arguments in place of flags.

    A flag with its value becomes `name=value`, where the value is a number, a word of `WORDS`, or stands between the
    beginning and the first colon. Any other flag becomes its name between backticks.
    """
    sentence = re.sub(rf"(?:sanslabel train )?--resume ({PATH})", _resumed, sentence)
    sentence = re.sub(rf"^({FLAG}) (.+?): ", lambda m: f"{argument_name(m[1])}={_literal(m[2])}: ", sentence)
    values = rf"{NUMBER}|(?:{WORDS.replace(' ', '|')})\b"
    sentence = re.sub(rf"({FLAG})[ =]({values})", lambda m: f"{argument_name(m[1])}={_literal(m[2])}", sentence)
    return re.sub(rf"(?<![\w`-]){FLAG}", _quoted, sentence)


def argument_name(flag: str) -> str:
    """Returns the argument of Python for a flag: image_size for --image-size, temperature for --method.temperature."""
    name = flag.removeprefix("--").removeprefix("method.")
    return OTHERS.get(name, name.replace("-", "_"))


def plural(thing: str) -> str:
    """Returns the word for several things: "windows of sound" for "window of sound", "crops of tracks" for "crop of a
    track"."""
    head, of, rest = thing.partition(" of ")
    return f"{head}s{of}" + (f"{rest.removeprefix('a ')}s" if rest.startswith("a ") else rest)


def counted(count: int, thing: str) -> str:
    """Returns the number with the thing that it counts: "1 step", "1,200 steps"."""
    return f"{count:,} {thing if count == 1 else plural(thing)}"


def _literal(text: str) -> str:
    """Returns a value as Python writes it."""
    return text if re.fullmatch(rf"{NUMBER}|None|True|False|\(.*\)|\[.*\]", text) else repr(text)


def _resumed(match: re.Match[str]) -> str:
    return f"sanslabel.resume({match[1].strip(chr(39))!r})"


def _quoted(match: re.Match[str]) -> str:
    name = argument_name(match[0])
    return name if name.startswith("--") or "=" in name else f"`{name}`"
