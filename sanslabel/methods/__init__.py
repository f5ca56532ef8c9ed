"""Methods, one file each, found by looking in this folder: a new file is a new method."""

from __future__ import annotations

import ast
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from sanslabel.errors import BadInput, suggestion

if TYPE_CHECKING:
    from sanslabel.methods.method import Method

_FOLDER = Path(__file__).parent


@cache
def names() -> list[str]:
    """Of all methods, without importing any."""
    return sorted(p.stem for p in _FOLDER.glob("*.py") if p.stem not in {"__init__", "method"})


def sentence(name: str) -> str:
    """What the method's file says of it in its first line, without importing it."""
    docstring = ast.get_docstring(ast.parse((_FOLDER / f"{name}.py").read_bytes())) or name
    return docstring.splitlines()[0]


def method_class(name: str) -> type[Method]:
    """The class that the method's file defines; BadInput for a name that has no file."""
    if name not in names():
        raise BadInput(f"There is no method {name!r}: {suggestion(name, names())}")
    from sanslabel.methods.method import Method

    module = import_module(f"{__name__}.{name}")
    (found,) = [
        c
        for c in vars(module).values()
        if isinstance(c, type) and issubclass(c, Method) and c.__module__ == module.__name__
    ]
    return found
