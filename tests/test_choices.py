"""The choices that the command line and the settings offer, against what they name."""

import re
from typing import get_args, get_type_hints

import pytest
import torch

import sanslabel
from sanslabel import encoders, methods
from sanslabel.cli.commands.energy import Energy
from sanslabel.cli.commands.evaluate import Evaluate
from sanslabel.cli.commands.train import Choices
from sanslabel.constraints import choices_of
from sanslabel.device import DEVICES
from sanslabel.errors import BadInput, suggestion
from sanslabel.evaluation.stages import Tokens
from sanslabel.methods import method_class
from sanslabel.recipe import Recipe
from sanslabel.settings import RESUMABLE, RecipeName, Settings
from sanslabel.sources import names, open_source
from sanslabel.sources.formats import toy
from sanslabel.sources.pictures.cache import kinds

HINTS = get_type_hints(Settings, include_extras=True)


def docstring_of(flags: type, field: str) -> str:
    """The sentence below a field of a dataclass, which is the help of its flag."""
    import inspect

    source = inspect.getsource(flags)
    return re.search(rf'    {field}: [^\n]*\n    """(.*?)"""', source, re.DOTALL)[1]


def test_recipes():
    for name in get_args(RecipeName):
        if name != "toy":
            assert all(isinstance(method_class(m).recipe_named(name), Recipe) for m in methods.names())
    assert any(method_class(m).toy for m in methods.names())


def test_precisions_are_types_of_torch():
    assert all(isinstance(getattr(torch, name), torch.dtype) for name in choices_of(HINTS["precision"]))


def test_caches():
    assert {*kinds(), "none"} <= set(choices_of(HINTS["cache"]))


def test_devices_in_the_help_can_be_chosen():
    named = re.findall(r"cpu|cuda(?!:)|mps|xpu", docstring_of(Settings, "device"))
    assert set(named) <= set(DEVICES)


def test_encoders_in_the_help_are_all_that_there_are():
    named = re.split(r", | or |;", docstring_of(Choices, "encoder").replace("\n    ", " "))
    assert set(encoders.names()) == {name.strip() for name in named} & set(encoders.names())


def test_sets_in_the_help_can_be_opened():
    named = set(re.findall(r"[a-z-]+", docstring_of(Choices, "data")))
    assert set(names()) - {"fashion-mnist"} <= named, "Debian's package has the files of that one"
    assert all(len(open_source(name)) for name in names() if name != "fashion-mnist")


def test_toys():
    assert set(choices_of(get_type_hints(Energy)["toy"])) == set(toy.NAMES)


def test_tokens():
    assert set(choices_of(get_type_hints(Evaluate)["tokens"])) == set(get_args(Tokens))


@pytest.mark.parametrize("name", [name for name in HINTS if choices_of(HINTS[name])])
def test_a_setting_refuses_what_it_does_not_name(name):
    with pytest.raises(BadInput, match=f"{name}='tape': choose one of "):
        sanslabel.train("digits", **{name: "tape"})


@pytest.mark.parametrize(
    ("keywords", "sentence"),
    [
        ({"epochs": "3"}, "epochs='3': must be a whole number, 1 or more; for example epochs=3."),
        ({"epochs": 1.5}, "epochs=1.5: must be a whole number, 1 or more; for example epochs=2."),
        (
            {"image_size": (64, 64)},
            "image_size=(64, 64): must be a whole number from 1 to 16,384; for example",
        ),
        ({"batch": True}, "batch=True: must be a whole number, 2 or more."),
        ({"batch": 0}, "batch=0: must be 2 or more."),
        ({"lr": "fast"}, "lr='fast': must be a number above 0."),
        ({"masked": "yes"}, "masked='yes': must be True or False."),
        ({"device": 0}, "device=0: must be text."),
        ({"seed": None}, "seed=None: must be a whole number; for example seed=0."),
        ({"encoder": 3}, 'encoder=3: must be a name, or a name with options: {"name": "vit_micro", "patch": 4}.'),
        (
            {"method": Recipe},
            "method=<class 'sanslabel.recipe.Recipe'>: must be a method's name, or an instance",
        ),
        ({"recipe": 3}, "recipe=3: must be a recipe, or small, paper or toy."),
        ({"out": 3}, "out=3: must be a path."),
        ({"sharding": "full", "chunk": 3}, "`chunk`: does not go with sharding='full'; leave one of them out."),
    ],
)
def test_in_python_an_error_names_the_argument(keywords, sentence):
    with pytest.raises(BadInput) as error:
        sanslabel.train("digits", **keywords)
    assert str(error.value).startswith(sentence)


def test_data_that_are_no_path_are_refused():
    array, sentence = torch.zeros(20, 8, 8), "data=Tensor(…): must be a path or the name of a set; write arrays with"
    for call in (sanslabel.train, lambda data: sanslabel.evaluate("run", data=data)):
        with pytest.raises(BadInput, match=re.escape(sentence)):
            call(array)
    with pytest.raises(BadInput, match=r"run=Tensor\(…\): must be a path"):
        sanslabel.load_encoder(array)
    with pytest.raises(BadInput, match=r"temperature='0.1': must be a number above 0; for example temperature=0.1"):
        method_class("simclr")(temperature="0.1")  # pyright: ignore[reportCallIssue]


def test_keywords_are_the_settings():
    from inspect import signature

    keywords = set(signature(sanslabel.train).parameters) - {"data", "method", "recipe", "encoder", "out"}
    assert keywords == set(HINTS)
    assert set(signature(sanslabel.resume).parameters) - {"run", "method", "data"} == set(RESUMABLE)
    with pytest.raises(BadInput, match="no setting 'epoch' here: did you mean epochs"):
        sanslabel.train("digits", epoch=3)
    with pytest.raises(BadInput, match="no setting 'epochs' here"):
        sanslabel.resume("run", epochs=3)


def test_a_name_in_other_letters_is_suggested():
    assert suggestion("SimCLR", list(methods.names())) == "did you mean simclr?"
