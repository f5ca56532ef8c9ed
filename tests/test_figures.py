"""The catalogue has an entry for everything that a run logs, and for nothing else."""

import ast
from pathlib import Path

import torch

from bench import figures as page
from sanslabel import diagnostics, verdict
from sanslabel.figures import FIGURES, GROUPS, RETIRED, figure_of, keys_of
from sanslabel.training.timesheet import Entry

PACKAGE = Path(diagnostics.__file__).parent
ENTRY = Entry(1, 2.0, dict.fromkeys(("network", "views", "waiting", "rest"), 0.25), 10.0, 1, 0)


def words(file: Path) -> set[str]:
    """Returns all strings in the code of a file."""
    return {n.value for n in ast.walk(ast.parse(file.read_text())) if isinstance(n, ast.Constant)} - {None}


def test_each_figure_has_one_entry_that_explains_it():
    entries = [figure for group in GROUPS.values() for figure in group]
    assert len({figure.name for figure in entries}) == len(entries)
    assert len({figure.title for figure in entries}) == len(entries)
    for figure in entries:
        assert figure.meaning.endswith(".")
        assert figure.meaning[0].isupper()
        assert len(figure.title) <= 50


def test_the_measures_of_an_embedding_are_in_it():
    z = torch.randn(20, 4)
    assert diagnostics.measures(z, z).keys() <= FIGURES.keys()


def test_the_entries_of_a_timesheet_are_in_it():
    assert ENTRY.figures.keys() <= FIGURES.keys()


def test_every_entry_is_logged_by_some_code():
    files = [*(PACKAGE / "methods").glob("*.py"), *(PACKAGE / "training").glob("*.py"), PACKAGE / "diagnostics.py"]
    logged = {key.rpartition("}")[2] for file in files for key in words(file) if isinstance(key, str)}
    assert FIGURES.keys() - ENTRY.figures.keys() - logged == set()


def test_the_verdict_looks_at_figures_that_are_in_it():
    tree = ast.parse(Path(verdict.__file__).read_text())
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)]
    readers = {"recent", "throughout", "typical", "last"}
    names = {c.args[0].value for c in calls if c.func.attr in readers and isinstance(c.args[0], ast.Constant)}
    assert len(names) > 15
    assert names <= FIGURES.keys()


def test_a_term_that_is_not_in_it_has_an_entry_of_its_own_name():
    assert figure_of("critic/loss") is FIGURES["loss"]
    figure = figure_of("player/my_term")
    assert (figure.name, figure.title, figure.drawn, figure.comparable) == ("my_term", "my_term", True, False)


def test_figures_of_earlier_versions_are_explained_and_not_drawn():
    assert not RETIRED.keys() & FIGURES.keys()
    figure = figure_of("lidar")
    assert "biased" in figure.meaning
    assert not figure.drawn


def test_keys_of_a_figure_are_those_of_all_players_with_a_number():
    line = {"step": 1, "critic/loss": 1.0, "generator/loss": 2, "loss": None, "teacher_loss": 3.0, "usage": [1.0]}
    assert list(keys_of(line, "loss")) == ["critic/loss", "generator/loss"]
    assert list(keys_of(line, "usage")) == []


def test_the_page_is_what_the_catalogue_says():
    """Made anew after each change: python -m bench.figures."""
    assert page.PAGE.read_text() == page.page()


def test_the_progress_line_has_loss_and_rank():
    assert {name: figure.short for name, figure in FIGURES.items() if figure.short} == {
        "loss": "loss",
        "effective_rank": "rank",
    }
