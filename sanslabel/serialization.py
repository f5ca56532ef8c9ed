"""Frozen dataclasses as JSON and back.

The annotations in the code decide which objects are built. A name in a file chooses among the classes that a field
allows, and can never bring in another one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from math import isfinite
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from sanslabel.errors import BadInput

DEEPEST = 32
"""nested lists and objects in a JSON file, at most"""
NUMBER_LIMIT = 1 << 63
"""numbers in a file must be below this, so that they fit into 64 bits"""


def to_plain(value: Any) -> Any:
    """Returns the value as numbers, strings, lists and dicts.

    A dataclass becomes a dict with its fields, and with the name of its class as "kind".
    """
    if is_dataclass(value) and not isinstance(value, type):
        return {"kind": type(value).__name__} | {f.name: to_plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {k: to_plain(v) for k, v in value.items()}
    return [to_plain(v) for v in value] if isinstance(value, (tuple, list)) else value


def parse_json(text: str | bytes) -> Any:
    """Returns the content of a JSON text.

    Raises ValueError if it is not UTF-8, is nested more than 32 levels deep, or has a number that is not finite.
    """
    text = text if isinstance(text, str) else text.decode()  # json itself would guess other encodings
    try:
        content = json.loads(text, parse_constant=_number, parse_float=_number)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    level = [content]
    for _ in range(DEEPEST):
        items = (list(item.values()) if isinstance(item, dict) else item for item in level)
        if not (level := [inner for item in items if isinstance(item, list) for inner in item]):
            return content
    raise ValueError(f"nested more than {DEEPEST} levels deep")


def from_plain(hint: Any, value: Any) -> Any:
    """Returns the object from which `to_plain` made `value`. `hint` is the annotation that the object must fit.

    Raises BadInput if the annotation does not allow a class, field or value.
    """
    kinds = {c.__name__: c for c in _dataclasses(hint)}
    if isinstance(value, dict) and "kind" in value and kinds:
        return _built(kinds, value)
    for allowed in get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,):
        if _allows(allowed, value):
            return _filled(allowed, value)
    raise BadInput(f"{_short(value)} must be one of: {', '.join(kinds) or hint}.")


def _number(text: str) -> float:
    if not isfinite(number := float(text)):
        raise ValueError(f"{text} is not a finite number")
    return number


def _built(kinds: Mapping[str, type], value: Mapping[str, Any]) -> Any:
    """Returns an instance of the dataclass that the value names."""
    name = value["kind"]
    if not isinstance(name, str) or name not in kinds:
        raise BadInput(f"{_short(name)} must be one of: {', '.join(kinds)}.")
    kind, given = kinds[name], {k: v for k, v in value.items() if k != "kind"}
    if unknown := given.keys() - {f.name for f in fields(kind)}:
        raise BadInput(f"{name} has no field {_short(min(unknown))}.")
    hints = get_type_hints(kind)
    arguments = {}
    for field, content in given.items():
        try:
            arguments[field] = from_plain(hints[field], content)
        except BadInput as error:
            raise BadInput(f"{field} of {name}: {error}") from error
    try:
        return kind(**arguments)
    except TypeError as error:  # a field is missing
        raise BadInput(f"{name}: {error}.") from error


def _allows(hint: Any, value: Any) -> bool:
    """Returns whether an annotation allows a value of JSON, without a check of the values inside it."""
    origin = get_origin(hint) or hint
    if hint is Any:
        return True
    if origin is Literal:
        return any(value == allowed and type(value) is type(allowed) for allowed in get_args(hint))
    if isinstance(value, bool | NoneType):
        return origin is type(value)
    if isinstance(value, int | float):
        return (origin is float or origin is type(value)) and abs(value) < NUMBER_LIMIT
    if isinstance(value, list):
        fixed = origin is tuple and ... not in get_args(hint)
        return origin in (tuple, list, Sequence) and (not fixed or len(value) == len(get_args(hint)))
    return origin is str if isinstance(value, str) else origin in (dict, Mapping)


def _filled(hint: Any, value: Any) -> Any:
    """Builds the objects inside a value, and returns the value with these objects."""
    inner = get_args(hint)
    if isinstance(value, list) and inner:
        hints = inner if len(inner) == len(value) and ... not in inner else inner[:1] * len(value)
        return tuple(from_plain(h, v) for h, v in zip(hints, value, strict=True))
    if isinstance(value, dict) and inner:
        return {k: from_plain(inner[1], v) for k, v in value.items()}
    return value


def _short(value: Any) -> str:
    """Returns the value as text of at most 80 characters and an ellipsis."""
    return text if len(text := repr(value)) <= 80 else f"{text[:80]}…"


def _dataclasses(hint: Any) -> list[type]:
    """Returns the dataclasses that an annotation allows for one value."""
    if get_origin(hint) in (Union, UnionType):
        return [c for inner in get_args(hint) for c in _dataclasses(inner)]
    return [hint] if isinstance(hint, type) and is_dataclass(hint) else []
