"""Files with one JSON object in each line, as a run writes them while it goes on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sanslabel.errors import BadInput, bad_input_as
from sanslabel.serialization import from_plain, parse_json

LONGEST = 1 << 20
"""the largest number of bytes in a line"""

Figures = Mapping[str, float | bool | list[float | None] | None]
"""a line of metrics.jsonl: figure -> a number, or a list with a number for each dimension; null for one that is not
finite"""


def json_line(content: Mapping[str, Any]) -> str:
    """Returns the content as one line of JSON, with the line's end."""
    return json.dumps(content, allow_nan=False) + "\n"


def read_json_lines(path: Path, hint: Any, required: Mapping[str, type]) -> list[dict[str, Any]]:
    """Returns the lines of a file up to the first that is damaged: a run that was killed may have left half a line.

    hint: the annotation that each line must fit. required: fields that each line must have, with their types. A file
    that does not exist has no lines. Raises BadInput for a link, a pipe or a folder, and if the file cannot be read.
    """
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise BadInput(f"{path}: not a file of this run; remove it.")
    if not path.exists():
        return []
    lines = []
    with bad_input_as(path, "remove it"), path.open("rb") as file:
        while text := file.readline(LONGEST):
            try:
                from_plain(hint, line := parse_json(text))
            except (ValueError, BadInput):
                break
            if any(type(line.get(name)) is not kind for name, kind in required.items()):
                break
            lines.append(line)
    return lines


def read_figures(path: Path) -> list[dict[str, Any]]:
    """Returns the undamaged lines of a metrics.jsonl. Each has its step."""
    return read_json_lines(path, dict[str, float | bool | list[float | None] | None], {"step": int})
