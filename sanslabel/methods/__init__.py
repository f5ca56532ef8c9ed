"""Methods: each file in this folder is a method, and a new file is a new method."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from sanslabel.discovery import defined_class, first_line, module_names, search_path
from sanslabel.errors import BadInput, suggestion

if TYPE_CHECKING:
    from sanslabel.methods.method import Method

__path__ = search_path(__path__, "methods")


def names() -> list[str]:
    """Returns the names of all methods, without importing any."""
    return module_names(__path__, without=("abilities", "method"))


def sentence(name: str) -> str:
    """Returns the first line of the method's file, without importing it."""
    return first_line(__path__, name)


def method_class(name: str) -> type[Method]:
    """Returns the class that the method's file defines. Raises BadInput if no file has this name."""
    if name not in names():
        raise BadInput(f"There is no method {name!r}: {suggestion(name, names())}")
    from sanslabel.methods.method import Method

    return defined_class(import_module(f"{__name__}.{name}"), Method)
