"""Constraints that stand at the fields of a dataclass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, get_type_hints

import pytest

from sanslabel.constraints import (
    Bounds,
    Count,
    Fraction,
    NonNegative,
    Positive,
    bounds_of,
    check_constraints,
    choices_of,
)
from sanslabel.errors import BadInput
from sanslabel.wording import flags_in_sentences


@dataclass(frozen=True)
class Numbers:
    """Fields with every kind of constraint."""

    temperature: Annotated[float, Positive] = 0.1
    teacher_momentum: Annotated[float | None, Fraction] = None
    layers: Annotated[int, Count] | None = 2
    scale: Annotated[tuple[float, ...], Positive, Fraction] = (0.2, 1.0)
    free: float = 0.0
    mode: Literal["mean", "sum"] = "mean"
    other: Literal["a", "b"] | None = None
    open: Literal["a"] | int = 3
    flag: bool = True


@pytest.mark.parametrize(
    ("bounds", "inside", "outside", "sentence"),
    [
        (Positive, [1e-9, 1, 10**9], [0, -1, float("nan")], "must be above 0"),
        (NonNegative, [0, 0.5], [-0.1], "must be 0 or more"),
        (Fraction, [0, 0.5, 1], [-0.1, 1.1], "must be from 0 to 1"),
        (Count, [1, 1000], [0, 1001], "must be from 1 to 1,000"),
        (Bounds(most=5), [-7, 5], [6], "must be at most 5"),
        (Bounds(above=0, most=2), [2], [0, 3], "must be above 0 and at most 2"),
    ],
)
def test_bounds_admit_what_their_sentence_states(bounds, inside, outside, sentence):
    assert all(map(bounds.admits, inside))
    assert not any(map(bounds.admits, [*outside, "1", None]))
    assert bounds.sentence == sentence


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("temperature", 0, r"temperature=0: must be above 0\."),
        ("temperature", float("inf"), r"temperature=inf: must be a finite number\."),
        ("free", float("nan"), r"free=nan: must be a finite number\."),
        ("teacher_momentum", 1.5, r"teacher_momentum=1.5: must be from 0 to 1\."),
        ("layers", 1001, r"layers=1001: must be from 1 to 1,000\."),
        ("scale", (0.5, 1.5), r"scale=\(0.5, 1.5\): must be from 0 to 1\."),
        ("mode", "max", r"mode='max': choose one of mean, sum\."),
        ("other", "c", r"other='c': choose one of a, b\."),
    ],
)
def test_a_violation_is_one_sentence_with_the_flag(field, value, sentence):
    with pytest.raises(BadInput, match=f"^{sentence}$") as error:
        check_constraints(Numbers(**{field: value}), "--method.")
    with flags_in_sentences():
        assert str(error.value).startswith(f"--method.{field.replace('_', '-')} {value}: ")


def test_admitted_values_pass():
    check_constraints(Numbers())
    check_constraints(Numbers(teacher_momentum=1, layers=None, open=7, flag=False))


def test_constraints_are_read_from_annotations():
    hints = get_type_hints(Numbers, include_extras=True)
    assert bounds_of(hints["temperature"]) == (Positive,)
    assert bounds_of(hints["layers"]) == (Count,)
    assert bounds_of(hints["scale"]) == (Positive, Fraction)
    assert bounds_of(hints["free"]) == ()
    assert choices_of(hints["other"]) == ("a", "b")
    assert choices_of(hints["open"]) == ()


def test_a_class_within_a_function_is_checked_as_far_as_its_annotations_are_known():
    class Local:
        pass

    @dataclass(frozen=True)
    class Inner:
        kind: Local
        width: Annotated[int, Positive] = 1

    with pytest.raises(BadInput, match="finite"):
        check_constraints(Inner(kind=Local(), width=float("inf")))  # pyright: ignore[reportArgumentType]
