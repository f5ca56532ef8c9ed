import json
from dataclasses import dataclass

import pytest

from sanslabel.errors import BadInput
from sanslabel.optimizers import SGD, AdamW
from sanslabel.plain import built, plain
from sanslabel.recipe import Group, Recipe


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
        Outer(SGD(rate=0.1)),
        Recipe(optimizer=AdamW(rate=1e-3, betas=(0.9, 0.95)), epochs=3, groups=(Group(match="a.*", constant=True),)),
        Recipe(optimizer={"critic": SGD(rate=1.0), "generator": AdamW(rate=0.1)}, epochs=3),
    ],
)
def test_there_and_back(value):
    assert built(type(value), json.loads(json.dumps(plain(value)))) == value


def test_a_file_cannot_name_a_class_that_the_code_does_not_admit():
    for kind in ("Recipe", "os.system", "Outer", ""):
        with pytest.raises(BadInput):
            built(Outer, {"kind": "Outer", "inner": {"kind": kind}})
    with pytest.raises(BadInput, match="has no 'more'"):
        built(Outer, {"kind": "Outer", "inner": {"kind": "Inner", "more": 1}})
