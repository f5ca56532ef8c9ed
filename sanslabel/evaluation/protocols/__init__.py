"""Protocols, one file each, found by looking in this folder: a new file is a new protocol.

A person's own protocols lie in `protocols/` of a folder that SANSLABEL_PATH names.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING

from sanslabel.discovery import defined_class, first_line, module_names, search_path
from sanslabel.errors import BadInput, suggestion

if TYPE_CHECKING:
    from sanslabel.evaluation.protocol import Protocol

__path__ = search_path(__path__, "protocols")


def names() -> list[str]:
    """Returns the names of all protocols, sorted, without importing any."""
    return module_names(__path__)


def sentence(name: str) -> str:
    """Returns the first line of a protocol's file, without importing it."""
    return first_line(__path__, name)


@cache
def protocol_class(name: str) -> type[Protocol]:
    """Returns the class that the protocol's file defines. Raises BadInput if there is no file of that name."""
    if name not in names():
        if "," in name:
            raise BadInput(f"--protocols {name}: write spaces between the names: --protocols {name.replace(',', ' ')}")
        raise BadInput(f"--protocols: there is no protocol {name!r}; {suggestion(name, names())}")
    from sanslabel.evaluation.protocol import Protocol

    return defined_class(import_module(f"{__name__}.{name}"), Protocol)
