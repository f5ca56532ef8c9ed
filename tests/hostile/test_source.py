"""What the package's own source may not say: nothing in it loads code from a file, by whatever way."""

import ast
import re
import sys
from pathlib import Path

import pytest

import sanslabel
from sanslabel import methods
from sanslabel.errors import BadInput

PACKAGE = Path(sanslabel.__file__).parent
FILES = {str(file.relative_to(PACKAGE)): file.read_text() for file in PACKAGE.rglob("*.py")}

MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "yaml", "jsonpickle"}
MODULES |= {"runpy", "urllib", "http", "requests", "huggingface_hub"}
FUNCTIONS = {"eval", "exec", "__import__"}
ATTRIBUTES = {"LOAD_TRUNCATED_IMAGES", "extractall", "extract", "unpack_archive", "add_safe_globals"}
METHODS = {"torch": {"load", "hub"}, "os": {"system", "popen"}, "sys": {"path"}}
FLAGS = {"trust_remote_code", "weights_only", "shell"}


def forbidden(text: str) -> list[str]:
    """What code must not have, in the words of the code."""
    return [ast.unparse(node) for node in ast.walk(ast.parse(text)) if _is_forbidden(node)]


def _is_forbidden(node: ast.AST) -> bool:
    match node:
        case ast.Import(names=names):
            return any(name.name.partition(".")[0] in MODULES for name in names)
        case ast.ImportFrom(module=str(module)):
            return module.partition(".")[0] in MODULES
        case ast.Name(id=name):
            return name in FUNCTIONS | MODULES
        case ast.Attribute(value=value, attr=name):
            return name in ATTRIBUTES or (isinstance(value, ast.Name) and name in METHODS.get(value.id, ()))
        case ast.Call(func=ast.Name(id="compile")):  # a flag is called so, too
            return True
        case ast.Call(func=ast.Attribute(value=ast.Name(id="np"), attr="load"), keywords=keywords):
            arguments = {keyword.arg: ast.unparse(keyword.value) for keyword in keywords}
            return arguments.get("allow_pickle") != "False"
        case ast.keyword(arg=name, value=value):
            return name in FLAGS or (name == "allow_pickle" and ast.unparse(value) != "False")
    return False


@pytest.mark.parametrize("name", FILES)
def test_no_file_loads_code(name):
    assert forbidden(FILES[name]) == []


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "from yaml import load",
        "import numpy as np\nnp.load(file)",
        "read(file, allow_pickle=True)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "load(path, weights_only=False)",
        "eval('1')",
        "exec(text)",
        "compile(text, name, mode)",
        "__import__(name)",
        "archive.extractall(folder)",
        "ImageFile.LOAD_TRUNCATED_IMAGES = True",
        "create(name, trust_remote_code=True)",
        "os.system(command)",
    ],
)
def test_what_would_is_found(text):
    assert forbidden(text)


def test_what_is_meant_otherwise_is_not():
    assert not forbidden(
        "net.eval()\ntrain(compile=compile)\nnp.load(path, allow_pickle=False)\n'''no pickle'''\nload_file(path)"
    )


def test_modules_are_imported_by_name_from_the_packages_own_lists_alone():
    calls = {
        name: [ast.unparse(node.args[0]) for node in ast.walk(ast.parse(text)) if _names_a_module(node)]
        for name, text in FILES.items()
    }
    # All are in the package, or in one of its packages whose folders are looked into.
    inside = r"f'sanslabel\.\{name\}'|_HOMES\[name\]|f'\{(\w+\.)?__name__\}\.\{\w+\}'"
    assert {call for found in calls.values() for call in found if not re.fullmatch(inside, call)} == set()
    assert calls["__init__.py"] == ["f'sanslabel.{name}'", "_HOMES[name]"]
    assert calls["sources/opening.py"] == ["f'{formats.__name__}.{name}'"]
    before = set(sys.modules)
    for name in ("os", "..cli", "antigravity", "simclr.antigravity", "__init__", "method", "", "../methods/simclr"):
        with pytest.raises(BadInput, match="There is no method"):
            methods.method_class(name)
    for name in ("os", "antigravity", "cli.main", "..methods"):
        with pytest.raises(AttributeError):
            getattr(sanslabel, name)
    assert set(sys.modules) == before


def _names_a_module(node: ast.AST) -> bool:
    name = getattr(getattr(node, "func", None), "id", getattr(getattr(node, "func", None), "attr", ""))
    return isinstance(node, ast.Call) and name in {"import_module", "load_module", "exec_module", "import_from_string"}
