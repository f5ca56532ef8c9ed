"""Constraints of settings, in the annotations of fields: `temperature: Annotated[float, Positive] = 0.1`."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from math import inf, isfinite
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from sanslabel.errors import BadValue

NOUNS: Mapping[type, str] = {int: "a whole number", float: "a number", str: "text", bool: "True or False"}
PLURALS: Mapping[type, str] = {int: "whole numbers", float: "numbers", str: "words"}
ADMITTED: Mapping[type, tuple[type, ...]] = {
    int: (int,),
    float: (int, float),
    str: (str, os.PathLike),
    bool: (bool,),
}
"""the types of values that an annotation admits; True and False are no numbers"""
WORDLESS = 1 << 31
"""limits of this size are no part of a description, since nobody comes near them"""


ARRAYS = "must be a path or the name of a set; write arrays with numpy.save, and give the path of the .npy file"
"""the remedy for data that are no path"""


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """An interval that a number must lie in. An end that is None has no limit."""

    above: float | None = None
    """the number must be greater than this"""
    least: float | None = None
    """the smallest number that is admitted"""
    most: float | None = None
    """the largest number that is admitted"""

    def admits(self, value: Any) -> bool:
        """Returns True for a number within the bounds, and False for anything else."""
        return (
            isinstance(value, int | float)
            and (self.above is None or value > self.above)
            and (self.least is None or value >= self.least)
            and (self.most is None or value <= self.most)
        )

    @property
    def sentence(self) -> str:
        """Returns the bounds in words, as the end of an error: "must be above 0"."""
        if self.least is not None and self.most is not None:
            return f"must be from {self.least:,} to {self.most:,}"
        limits = [f"above {self.above:,}"] if self.above is not None else []
        limits += [f"{self.least:,} or more"] if self.least is not None else []
        limits += [f"at most {self.most:,}"] if self.most not in (None, inf) else []
        return f"must be {' and '.join(limits)}"

    @property
    def description(self) -> str:
        """Returns the bounds in words, as the end of a help text: "1 or more". Huge limits are left out."""
        least = None if self.least is None or abs(self.least) >= WORDLESS else self.least
        most = None if self.most is None or abs(self.most) >= WORDLESS else self.most
        if (self.above, least, most) == (None, None, None):
            return ""
        return Bounds(above=self.above, least=least, most=most).sentence.removeprefix("must be ")


Positive = Bounds(above=0)
NonNegative = Bounds(least=0)
Fraction = Bounds(least=0, most=1)
Count = Bounds(least=1, most=1000)
"""the bounds of a number of modules, such as layers: each takes time and memory to build"""


def bounds_of(hint: Any) -> tuple[Bounds, ...]:
    """Returns the bounds in an annotation such as `Annotated[float, Positive]`, with or without `| None`."""
    if get_origin(hint) is Annotated:
        return tuple(mark for mark in hint.__metadata__ if isinstance(mark, Bounds)) + bounds_of(hint.__origin__)
    if get_origin(hint) in (Union, UnionType):
        return tuple(bounds for member in get_args(hint) for bounds in bounds_of(member))
    return ()


def choices_of(hint: Any) -> tuple[Any, ...]:
    """Returns the values of an annotation's `Literal`. The result is empty if the annotation admits other values,
    too."""
    if get_origin(hint) is Annotated:
        return choices_of(hint.__origin__)
    if get_origin(hint) is Literal:
        return get_args(hint)
    if get_origin(hint) in (Union, UnionType):
        members = [choices_of(member) for member in get_args(hint) if member is not type(None)]
        return tuple(value for choices in members for value in choices) if all(members) else ()
    return ()


def members_of(hint: Any) -> tuple[Any, ...]:
    """Returns the types that an annotation admits besides None, without bounds: (int,) of
    `Annotated[int | None, Positive]`."""
    if get_origin(hint) is Annotated:
        return members_of(hint.__origin__)
    if get_origin(hint) in (Union, UnionType):
        return tuple(member for inner in get_args(hint) for member in members_of(inner))
    return () if hint is NoneType else (hint,)


def description_of(hint: Any) -> str:
    """Returns the values of an annotation in words, such as "a whole number, 1 or more". The result is empty if the
    annotation admits objects, which have no short description."""
    choices = choices_of(hint)
    if choices:
        return f"one of {', '.join(map(str, choices))}"
    nouns = [_noun(member) for member in members_of(hint)]
    if not all(nouns):
        return ""
    bounds = " and ".join(b.description for b in bounds_of(hint) if b.description)
    comma = "," if bounds[:1].isdigit() else ""
    return f"{' or '.join(nouns)}{comma} {bounds}".strip() if bounds else " or ".join(nouns)


def check_constraints(instance: Any, flag_prefix: str = "--") -> None:
    """Raises BadInput if a field of a dataclass has a value of another type than its annotation, or one outside of its
    bounds or choices.

    Numbers must be finite, except in fields whose bounds end at infinity. In a tuple, each item must lie within the
    bounds. A field that is None has no value to check. The error names the setting: `flag_prefix` and the field's name
    with hyphens.
    """
    hints = _hints(type(instance))
    for field in fields(instance):
        flag = f"{flag_prefix}{field.name.replace('_', '-')}"
        check_value(flag, getattr(instance, field.name), hints.get(field.name), field.default)


def check_value(flag: str, value: Any, hint: Any, default: Any = None) -> None:
    """Raises BadInput, which names the flag, if an annotation does not admit a value."""
    if value is None and admits_none(hint):
        return
    if not has_type(hint, value):
        words = description_of(hint)
        if choices_of(hint):
            raise BadValue(flag, value, f"choose {words}")
        raise BadValue(flag, value, f"must be {words}", _example(hint, value, default))
    for sentence in _violations(hint, value):
        raise BadValue(flag, value, sentence)


def check_path(flag: str, value: Any, remedy: str = "must be a path") -> None:
    """Raises BadInput, which names the flag and the remedy, for a value that is no path. None is admitted."""
    if value is not None and not isinstance(value, ADMITTED[str]):
        raise BadValue(flag, value, remedy)


def admits_none(hint: Any) -> bool:
    """Returns True if an annotation admits None, or if there is no annotation."""
    if get_origin(hint) is Annotated:
        return admits_none(hint.__origin__)
    return hint in (None, NoneType, Any) or (
        get_origin(hint) in (Union, UnionType) and any(map(admits_none, get_args(hint)))
    )


def has_type(hint: Any, value: Any) -> bool:
    """Returns True if a value has one of the types of an annotation. Types without a description admit any value."""
    return any(_is_of(member, value) for member in members_of(hint)) or not description_of(hint)


def _hints(kind: type) -> Mapping[str, Any]:
    try:
        return get_type_hints(kind, include_extras=True)
    except NameError:  # a class within a function, whose annotations use names of that function
        return {}


def _violations(hint: Any, value: Any) -> Iterator[str]:
    for number in value if isinstance(value, tuple) else (value,):
        if isinstance(number, float) and not isfinite(number) and not any(b.most == inf for b in bounds_of(hint)):
            yield "must be a finite number"
        for bounds in bounds_of(hint):
            if not bounds.admits(number):
                huge = bounds.most is not None and isinstance(number, int | float) and number > bounds.most
                yield bounds.sentence if huge else f"must be {bounds.description or bounds.sentence}"


def _noun(member: Any) -> str:
    """Returns a type in words, or nothing for objects."""
    items = get_args(member)
    if get_origin(member) is Literal:
        return " or ".join(map(str, items))
    if get_origin(member) is tuple and items and (plural := PLURALS.get(_plain(items[0]), "")):
        return plural if items[-1] is ... else f"{len(items)} {plural}"
    return NOUNS.get(member, "")


def _plain(hint: Any) -> Any:
    """Returns the type of an annotation that admits one type."""
    return members_of(hint)[0]


def _is_of(member: Any, value: Any) -> bool:
    """Returns True if a value has a type that an annotation names."""
    items = get_args(member)
    if get_origin(member) is Literal:
        return any(value == item and type(value) is type(item) for item in items)
    if get_origin(member) is tuple:
        fits = isinstance(value, tuple | list) and (items[-1] is ... or len(value) == len(items))
        return fits and all(_is_of(items[0], item) for item in value)
    return isinstance(value, ADMITTED.get(_plain(member), (object,))) and not (
        isinstance(value, bool) and member is not bool
    )


def _example(hint: Any, value: Any, default: Any) -> Any:
    """Returns a value that fits, close to the one that does not: 64 for "64x64". Without digits, it is the default."""
    kind = next((member for member in members_of(hint) if member in (int, float)), None)
    digits = re.search(r"\d+(\.\d+)?", str(value))
    if kind is None:
        return None
    close = [] if digits is None else [round(float(digits[0])) if kind is int else float(digits[0])]
    fits = [n for n in (*close, default) if type(n) is kind and all(b.admits(n) for b in bounds_of(hint))]
    return fits[0] if fits else None
