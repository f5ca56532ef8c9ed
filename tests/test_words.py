"""One word for each thing, and sentences that are true without the name that they stand below (CONTRIBUTING.md, Words).

`python tests/test_words.py [FOLDER …]` lists every offense and counts them.
"""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "sanslabel"


def words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text))


VARIABLES = words("told said asked heard found own each whole held part parts seen numbers rows tell")
"""names that say nothing of what they hold"""
NAMES = VARIABLES | words(
    "Seen together encoded grouped coded decoded sampled reconstructed energies latents nats drops turns sides"
    " shard shard_ opened check reading projector rate"
)
"""names of functions, classes, parameters and fields that have a plainer word"""
MODULES = words(
    "plan plain launch pulse output hardware room watch conditions candidates rows readings memo relation atlas replay"
    " contents seen turns coded parts utils helpers common misc"
)
"""names of files that have a plainer one; the file of a protocol has the protocol's name"""
EXCEPT = {("inputs.py", "rate"), ("spectrogram.py", "rate")} | {
    (file, "shard") for file in ("order.py", "tar.py", "tar_index.py")
}
"""the rate of sound is its samples in a second, and WebDataset calls its archives shards"""
OPENINGS = re.compile(r"(of|what|whether|where|whose|who|that|with|within)\b", re.IGNORECASE)
"""openings of a fragment"""
LONGEST = 30
"""words of a sentence, at most"""


def files(root: Path = PACKAGE) -> list[Path]:
    return sorted(root.rglob("*.py"))


def names(tree: ast.AST) -> Iterator[tuple[str, int, str]]:
    """Name, line and kind of everything that a file defines."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name, node.lineno, "definition"
        if isinstance(node, ast.ClassDef):
            for line in node.body:
                if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
                    yield line.target.id, line.lineno, "definition"
        if isinstance(node, ast.arg):
            yield node.arg, node.lineno, "definition"
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id, node.lineno, "variable"
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr, node.lineno, "variable"


def docstrings(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Docstrings of modules, classes and functions, and those below fields and constants, with their lines."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef):
            for line in node.body:
                value = line.value if isinstance(line, ast.Expr) else None
                if isinstance(value, ast.Constant) and isinstance(value.value, str):
                    yield value.value.strip(), line.lineno


def banned_names(path: Path) -> list[str]:
    """Names of the left column that a file gives to something. `rows` beside `columns` is what it is."""
    tree = ast.parse(path.read_text())
    defined = list(names(tree))
    grid = "columns" in {name for name, _, _ in defined}
    return [
        f"{path.relative_to(PACKAGE.parent)}:{line}: {name}"
        for name, line, kind in defined
        if name.lstrip("_") in (NAMES if kind == "definition" else VARIABLES)
        and not (name == "rows" and grid)
        and (path.name, name) not in EXCEPT
    ]


def fragments(path: Path) -> list[str]:
    """Docstrings that begin as a fragment does."""
    texts = docstrings(ast.parse(path.read_text()))
    return [
        f"{path.relative_to(PACKAGE.parent)}:{line}: {text.splitlines()[0][:60]}"
        for text, line in texts
        if OPENINGS.match(text)
    ]


def long_sentences(path: Path) -> list[str]:
    """Sentences of docstrings that nobody can read at once; formulas and lists of arguments are none."""
    where = f"{path.relative_to(PACKAGE.parent)}"
    return [
        f"{where}:{line}: {sentence[:60]}…"
        for text, line in docstrings(ast.parse(path.read_text()))
        for paragraph in re.split(r"\n\s*\n|\n(?=[\w, ]+: )", text)
        for sentence in re.split(r"(?<=[.;:?])\s+", " ".join(paragraph.split()))
        if "->" not in paragraph and len(sentence.split()) > LONGEST
    ]


CHECKS = {"banned names": banned_names, "fragments": fragments, "long sentences": long_sentences}


@pytest.mark.parametrize("check", CHECKS)
def test_words_are_plain(check):
    assert [offense for path in files() for offense in CHECKS[check](path)] == []


def test_modules_have_plain_names():
    assert {path.stem for path in files() if path.parent.name != "protocols"} & MODULES == set()


def test_an_offense_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(f"{__name__}.PACKAGE", tmp_path / "sanslabel")
    file = tmp_path / "sanslabel" / "x.py"
    file.parent.mkdir()
    file.write_text('def told(parts):\n    """Of what is there."""\n    found = parts\n    return found\n')
    assert [offense.rpartition(" ")[2] for offense in banned_names(file)] == ["told", "parts", "found"]
    assert len(fragments(file)) == 1
    file.write_text(f'"""Returns {"word " * 40}."""\n')
    assert len(long_sentences(file)) == 1


if __name__ == "__main__":
    chosen = [Path(folder).resolve() for folder in sys.argv[1:]] or [PACKAGE]
    for title, check in CHECKS.items():
        offenses = [o for root in chosen for f in ([root] if root.is_file() else files(root)) for o in check(f)]
        print("\n".join(offenses), f"\n{len(offenses)} {title}\n", sep="")
