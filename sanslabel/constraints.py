"""Constraints of settings, in the annotations of fields: `temperature: Annotated[float, Positive] = 0.1`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from math import inf, isfinite
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from sanslabel.errors import BadInput


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
        """Returns the bounds in words, as the end of an error or of a help text: "must be above 0"."""
        if self.least is not None and self.most is not None:
            return f"must be from {self.least:,} to {self.most:,}"
        limits = [f"above {self.above:,}"] if self.above is not None else []
        limits += [f"{self.least:,} or more"] if self.least is not None else []
        limits += [f"at most {self.most:,}"] if self.most not in (None, inf) else []
        return f"must be {' and '.join(limits)}"


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


def check_constraints(instance: Any, flag_prefix: str = "--") -> None:
    """Raises BadInput if a field of a dataclass is outside of its annotation's bounds or choices.

    Numbers must be finite, except in fields whose bounds end at infinity. In a tuple, each item must lie within the
    bounds. A field that is None has no value to check. The sentence begins with the flag: `flag_prefix` and the field's
    name with hyphens.
    """
    hints = _hints(type(instance))
    for field in fields(instance):
        value = getattr(instance, field.name)
        for sentence in _violations(hints.get(field.name), value):
            raise BadInput(f"{flag_prefix}{field.name.replace('_', '-')} {value}: {sentence}.")


def _hints(kind: type) -> Mapping[str, Any]:
    try:
        return get_type_hints(kind, include_extras=True)
    except NameError:  # a class within a function, whose annotations use names of that function
        return {}


def _violations(hint: Any, value: Any) -> Iterator[str]:
    if value is None:
        return
    choices = choices_of(hint)
    if choices and value not in choices:
        yield f"choose one of {', '.join(map(str, choices))}"
    for number in value if isinstance(value, tuple) else (value,):
        if isinstance(number, float) and not isfinite(number) and not any(b.most == inf for b in bounds_of(hint)):
            yield "must be a finite number"
        for bounds in bounds_of(hint):
            if not bounds.admits(number):
                yield bounds.sentence
