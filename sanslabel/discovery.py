"""Discovery of files: each file in certain folders is a method, an encoder, a format, a protocol or a command.

A person's own files are found beside the package's. The environment variable SANSLABEL_PATH names folders (with the
system's separator between them); in each, `methods/`, `encoders/`, `formats/`, `protocols/` and `commands/` are looked
into. No run folder, no data and no configuration can name a file to import.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import TypeVar

VARIABLE = "SANSLABEL_PATH"
T = TypeVar("T")


def search_path(package: Iterable[str], kind: str) -> list[str]:
    """Returns the folders in which files of a kind are looked for: the package's own first, then `kind` in each folder
    of SANSLABEL_PATH. If the result is a package's `__path__`, every process of a run can import these files."""
    extra = [Path(folder).expanduser() / kind for folder in os.environ.get(VARIABLE, "").split(os.pathsep) if folder]
    return [*package, *(str(folder.resolve()) for folder in extra if folder.is_dir())]


def module_names(path: Sequence[str], without: Iterable[str] = ()) -> list[str]:
    """Returns the names of the files in these folders, sorted, without importing any."""
    stems = {file.stem for folder in path for file in Path(folder).glob("*.py")}
    return sorted(stems - {"__init__", *without})


def module_file(path: Sequence[str], name: str) -> Path:
    """Returns the file of that name in the first folder that has one."""
    return next(file for folder in path if (file := Path(folder, f"{name}.py")).is_file())


def first_line(path: Sequence[str], name: str) -> str:
    """Returns the first line of the docstring of a file in these folders, without importing it; its name if it has
    none."""
    docstring = ast.get_docstring(ast.parse(module_file(path, name).read_bytes())) or name
    return docstring.splitlines()[0]


def defined_class(module: ModuleType, base: type[T]) -> type[T]:
    """Returns the one subclass of `base` that the module defines."""
    (only,) = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, base) and value.__module__ == module.__name__
    ]
    return only
