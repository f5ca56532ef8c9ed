"""Scores as tables on the screen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console

from sanslabel.cli.processes import clear_progress, show_progress
from sanslabel.console import errors
from sanslabel.evaluation import evaluate
from sanslabel.evaluation.table import tables
from sanslabel.usefulness import usefulness


def print_scores(run: str | Path, **options: Any) -> None:
    """Evaluates a run with the options of `evaluate`, and prints its scores and how useful the training was."""
    scores = evaluate(run, report=show_progress, **options)
    clear_progress()
    for remark in scores.remarks:
        print(remark, file=errors())
    for table in tables(scores):
        Console().print(table)
    if sentence := usefulness(scores):
        print(sentence)
