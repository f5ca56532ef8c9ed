"""Frozen dataclasses as JSON and back. What is built comes from the annotations in the code: a name in a file picks
among the classes that a field admits, and can never bring in another."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from math import isfinite
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from sanslabel.errors import BadInput

DEEPEST = 32
"""lists and objects within each other in a file of JSON, at most"""
LARGEST = 1 << 63
"""above all integers of a file: what counts in 64 bits cannot take more"""


def to_plain(value: Any) -> Any:
    """Numbers, strings, lists and dicts; a dataclass becomes a dict with its class's name as "kind"."""
    if is_dataclass(value) and not isinstance(value, type):
        return {"kind": type(value).__name__} | {f.name: to_plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {k: to_plain(v) for k, v in value.items()}
    return [to_plain(v) for v in value] if isinstance(value, (tuple, list)) else value


def parse_json(text: str | bytes) -> Any:
    """JSON as it is written here, UTF-8 with finite numbers and not deep; ValueError for all else."""
    text = text if isinstance(text, str) else text.decode()  # by itself, json would look for other encodings
    try:
        content = json.loads(text, parse_constant=_number, parse_float=_number)
    except RecursionError:
        raise ValueError("lists within lists without end") from None
    level = [content]
    for _ in range(DEEPEST):
        parts = (list(part.values()) if isinstance(part, dict) else part for part in level)
        if not (level := [inner for part in parts if isinstance(part, list) for inner in part]):
            return content
    raise ValueError(f"lists within lists, more than {DEEPEST}")


def from_plain(hint: Any, value: Any) -> Any:
    """What `plain` made `value` of, where annotations admit `hint`. BadInput for a kind, field or value that they do
    not."""
    kinds = {c.__name__: c for c in _dataclasses(hint)}
    if isinstance(value, dict) and "kind" in value and kinds:
        return _made(kinds, value)
    for admitted in get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,):
        if _admits(admitted, value):
            return _filled(admitted, value)
    raise BadInput(f"{_short(value)} is none of: {', '.join(kinds) or hint}.")


def _number(text: str) -> float:
    if not isfinite(number := float(text)):
        raise ValueError(f"{text} is no finite number")
    return number


def _made(kinds: Mapping[str, type], value: Mapping[str, Any]) -> Any:
    """The dataclass that is named."""
    name = value["kind"]
    if not isinstance(name, str) or name not in kinds:
        raise BadInput(f"{_short(name)} is none of: {', '.join(kinds)}.")
    kind, given = kinds[name], {k: v for k, v in value.items() if k != "kind"}
    if unknown := given.keys() - {f.name for f in fields(kind)}:
        raise BadInput(f"{name} has no {_short(min(unknown))}.")
    hints = get_type_hints(kind)
    arguments = {}
    for field, part in given.items():
        try:
            arguments[field] = from_plain(hints[field], part)
        except BadInput as error:
            raise BadInput(f"{field} of {name}: {error}") from error
    try:
        return kind(**arguments)
    except TypeError as error:  # a field is missing
        raise BadInput(f"{name}: {error}.") from error


def _admits(hint: Any, value: Any) -> bool:
    """Whether a value of JSON, by itself, is what an annotation says."""
    origin = get_origin(hint) or hint
    if hint is Any:
        return True
    if origin is Literal:
        return any(value == admitted and type(value) is type(admitted) for admitted in get_args(hint))
    if isinstance(value, bool | NoneType):
        return origin is type(value)
    if isinstance(value, int | float):
        return (origin is float or origin is type(value)) and abs(value) < LARGEST
    if isinstance(value, list):
        fixed = origin is tuple and ... not in get_args(hint)
        return origin in (tuple, list, Sequence) and (not fixed or len(value) == len(get_args(hint)))
    return origin is str if isinstance(value, str) else origin in (dict, Mapping)


def _filled(hint: Any, value: Any) -> Any:
    """The value with what is in it built."""
    inner = get_args(hint)
    if isinstance(value, list) and inner:
        each = inner if len(inner) == len(value) and ... not in inner else inner[:1] * len(value)
        return tuple(from_plain(part, v) for part, v in zip(each, value, strict=True))
    if isinstance(value, dict) and inner:
        return {k: from_plain(inner[1], v) for k, v in value.items()}
    return value


def _short(value: Any) -> str:
    return text if len(text := repr(value)) <= 80 else f"{text[:80]}…"


def _dataclasses(hint: Any) -> list[type]:
    """All that an annotation admits in the place of one value."""
    if get_origin(hint) in (Union, UnionType):
        return [c for inner in get_args(hint) for c in _dataclasses(inner)]
    return [hint] if isinstance(hint, type) and is_dataclass(hint) else []
