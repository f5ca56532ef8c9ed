import json
from dataclasses import dataclass

import pytest

from sanslabel.errors import BadInput
from sanslabel.optimizers import SGD, AdamW
from sanslabel.recipe import Group, Recipe
from sanslabel.serialization import DEEPEST, from_plain, parse_json, to_plain


@dataclass(frozen=True)
class Inner:
    range: tuple[float, float] | None = None


@dataclass(frozen=True)
class Outer:
    inner: Inner | SGD
    name: str = "x"


@pytest.mark.parametrize(
    "value",
    [
        Outer(Inner((0.1, 1.0))),
        Outer(Inner()),
        Outer(SGD(lr=0.1)),
        Recipe(optimizer=AdamW(lr=1e-3, betas=(0.9, 0.95)), epochs=3, groups=(Group(match="a.*", constant=True),)),
        Recipe(optimizer={"critic": SGD(lr=1.0), "generator": AdamW(lr=0.1)}, epochs=3),
    ],
)
def test_there_and_back(value):
    assert from_plain(type(value), json.loads(json.dumps(to_plain(value)))) == value


def test_a_file_cannot_name_a_class_that_the_code_does_not_admit():
    for kind in ("Recipe", "os.system", "Outer", ""):
        with pytest.raises(BadInput):
            from_plain(Outer, {"kind": "Outer", "inner": {"kind": kind}})
    with pytest.raises(BadInput, match="has no field 'more'"):
        from_plain(Outer, {"kind": "Outer", "inner": {"kind": "Inner", "more": 1}})


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ({"kind": "Outer", "inner": {"kind": "Inner", "range": [0.1]}}, "range of Inner: .*must be one of"),
        ({"kind": "Outer", "inner": {"kind": "Inner", "range": [0.1, "1"]}}, "range of Inner: '1' must be one of"),
        ({"kind": "Outer", "inner": {"kind": "SGD"}}, "missing"),
        ({"kind": "Outer", "inner": {"kind": "SGD", "lr": True}}, "lr of SGD: True must be one of"),
        ({"kind": "Outer", "inner": {"kind": "SGD", "lr": 10**400}}, "lr of SGD: 1000"),
        ({"kind": "Outer", "inner": None}, "inner of Outer: None must be one of: Inner, SGD"),
        ({"kind": "Outer", "inner": {"kind": []}}, "must be one of: Inner, SGD"),
        ({"kind": "Outer", "inner": {"kind": "Inner"}, "name": 3}, "name of Outer: 3 must be one of"),
        ("Outer", "'Outer' must be one of: Outer"),
    ],
)
def test_values_are_of_the_types_that_annotations_say(value, sentence):
    with pytest.raises(BadInput, match=sentence):
        from_plain(Outer, value)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("NaN", "NaN is not a finite number"),
        ("-Infinity", "not a finite"),
        ("[1e999]", "1e999 is not a finite number"),
        ("[" * (DEEPEST + 1) + "]" * (DEEPEST + 1), "more than 32"),
        ('{"a": ' * (DEEPEST + 1) + "1" + "}" * (DEEPEST + 1), "more than 32"),
        ("[" * 100_000, "too deeply"),
        ("1" * 5000, "digits"),
        ('"ü"'.encode("latin-1"), "utf-8"),
        ("[]".encode("utf-16"), "utf-8"),
    ],
    ids=lambda x: str(x)[:9],
)
def test_json_is_finite_and_not_deep(text, sentence):
    with pytest.raises(ValueError, match=sentence):
        parse_json(text)
    assert parse_json("[" * DEEPEST + "]" * DEEPEST)
    assert parse_json(b'{"a": [1.5, null, "\\u00fc"]}') == {"a": [1.5, None, "ü"]}
