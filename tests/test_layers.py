"""The house has floors and no stairs that lead back up: a file imports from its own floor's folder and from below."""

import ast
from pathlib import Path

import pytest

from sanslabel.methods import names

PACKAGE = Path(__file__).parent.parent / "sanslabel"
FLOORS = [
    {
        "version",
        "errors",
        "wording",
        "field_sentences",
        "notebook",
        "console",
        "discovery",
        "constraints",
        "settings",
        "serialization",
        "device",
        "memory_limits",
        "inputs",
    }
    | {"json_lines", "run_config"}
    | {"randomness", "fifths", "batch", "distributed", "heartbeat", "process_group", "batchnorm", "stopwatch"}
    | {"schedules", "optimizers", "recipe", "figures"},
    {"views", "encoders", "memory", "clustering", "consensus", "beam_search", "losses", "diagnostics", "verdict"},
    {"heads"},
    {"methods", "checkpoint", "sources"},
    {"scores", "given"},
    {"engine", "run_folder", "usefulness"},
    {"training", "evaluation"},
    {"generation", "use"},
    {"report"},
    {"cli"},
    {"__main__"},
]
FLOOR = {name: level for level, names in enumerate(FLOORS) for name in names}


def imports(text: str) -> list[str]:
    """The parts of the package that a file names in imports, wherever they stand in it."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            found += [
                f"{node.module}.{alias.name}" if node.module == "sanslabel" else node.module for alias in node.names
            ]
    # A bare `import sanslabel` brings names of all floors: what is then used of it counts.
    used = ast.walk(ast.parse(text))
    names = [n.attr for n in used if isinstance(n, ast.Attribute) and getattr(n.value, "id", "") == "sanslabel"]
    return [name.split(".")[1] for name in found if name.startswith("sanslabel.")] + names


def climbs(part: str, text: str) -> list[str]:
    """What a file of `part` imports although it may not: from above, or from a neighbor on its own floor."""
    neighbors = 1 if FLOOR[part] == 0 else 0  # on the ground the files are one floor, in the order of their imports
    allowed = {name for name, level in FLOOR.items() if level < FLOOR[part] + neighbors} | {part, "__version__"}
    return [name for name in imports(text) if name not in allowed]


def files() -> list[Path]:
    return [f for f in PACKAGE.rglob("*.py") if f != PACKAGE / "__init__.py"]


@pytest.mark.parametrize("file", files(), ids=lambda f: str(f.relative_to(PACKAGE)))
def test_no_import_climbs(file):
    part = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
    assert climbs(part, file.read_text()) == []


def test_an_import_turned_round_is_found():
    assert climbs("losses", "from sanslabel.methods import names") == ["methods"]
    assert climbs("methods", "def f():\n    from sanslabel.training.session import Session") == ["training"]
    assert climbs("evaluation", "import sanslabel.training.run") == ["training"]
    assert climbs("training", "from sanslabel import evaluation, views") == ["evaluation"]
    assert climbs("training", "import sanslabel\nsanslabel.evaluate('x')") == ["evaluate"]
    assert climbs("recipe", "from sanslabel import encoders") == ["encoders"]
    assert climbs("training", "from sanslabel import checkpoint, methods") == []


def test_only_the_packages_that_the_project_names_are_imported():
    allowed = {"sanslabel", "torch", "numpy", "PIL", "safetensors", "rich"}
    extras = {
        "matplotlib",
        "pyarrow",
        "scipy",
        "sklearn",
        "soundfile",
        "altair",
        "av",
        "vl_convert",
        "tifffile",
        "timm",
        "tokenizers",
    }  # imported where they are used
    allowed |= extras
    import sys

    for file in files():
        for node in ast.walk(ast.parse(file.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            foreign = {n.split(".")[0] for n in names} - allowed - set(sys.stdlib_module_names)
            assert not foreign, f"{file} imports {foreign}"


def test_the_engine_names_no_method_and_losses_do_not_gather():
    engine = (PACKAGE / "engine.py").read_text()
    methods = {f.stem for f in (PACKAGE / "methods").glob("*.py")} - {"__init__", "method"}
    assert not [m for m in methods if m in engine]
    for loss in (PACKAGE / "losses").glob("*.py"):
        text = loss.read_text()
        assert "distributed" not in text
        assert ".item()" not in text


@pytest.mark.parametrize("name", names())
def test_a_step_fits_on_a_screen(name):
    tree = ast.parse((PACKAGE / "methods" / f"{name}.py").read_text())
    (step,) = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == "step"]
    assert (step.end_lineno or 0) - step.lineno < 35
