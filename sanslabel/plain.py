"""Frozen dataclasses as JSON and back. What is built comes from the annotations in the code: a name in a file picks
among the classes that a field admits, and can never bring in another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, get_args, get_type_hints

from sanslabel.errors import BadInput


def plain(value: Any) -> Any:
    """Numbers, strings, lists and dicts; a dataclass becomes a dict with its class's name as "kind"."""
    if is_dataclass(value) and not isinstance(value, type):
        return {"kind": type(value).__name__} | {f.name: plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {k: plain(v) for k, v in value.items()}
    return [plain(v) for v in value] if isinstance(value, (tuple, list)) else value


def built(hint: Any, value: Any) -> Any:
    """What `plain` made `value` of, where annotations admit `hint`. BadInput for a kind or field that they do not."""
    if isinstance(value, list):
        inner = next(iter(get_args(hint)), Any)
        return tuple(built(inner, v) for v in value)
    if not isinstance(value, dict):
        return value
    if "kind" not in value:
        return {k: built(hint, v) for k, v in value.items()}
    kinds = {c.__name__: c for c in _dataclasses(hint)}
    if value["kind"] not in kinds:
        raise BadInput(f"{value['kind']!r} is none of: {', '.join(kinds)}.")
    kind = kinds[value["kind"]]
    hints = get_type_hints(kind)
    given = {k: v for k, v in value.items() if k != "kind"}
    if unknown := given.keys() - {f.name for f in fields(kind)}:
        raise BadInput(f"{value['kind']} has no {min(unknown)!r}.")
    return kind(**{k: built(hints[k], v) for k, v in given.items()})


def _dataclasses(hint: Any) -> list[type]:
    """All that an annotation names, at any depth."""
    own = [hint] if isinstance(hint, type) and is_dataclass(hint) else []
    return own + [c for inner in get_args(hint) for c in _dataclasses(inner)]
