"""Scores as a list that shows itself as tables."""

from __future__ import annotations

from io import StringIO

from sanslabel.evaluation.table import tables
from sanslabel.notebook import html_table
from sanslabel.scores import Score
from sanslabel.usefulness import usefulness

WIDTH = 160
"""characters of a line of text, at most"""


class ScoreList(list[Score]):
    """A list of scores. Printed, or shown in a notebook, it is one table or several, and what the training gained."""

    remarks: tuple[str, ...] = ()
    """sentences about the measured data that a person should know, such as which files were left out"""

    def __repr__(self) -> str:
        from rich.console import Console

        text = StringIO()
        for table in tables(self):
            Console(file=text, width=WIDTH, color_system=None).print(table)
        lines = [line.rstrip() for line in text.getvalue().splitlines()]
        return "\n".join(lines + [usefulness(self)] * bool(usefulness(self)))

    def _repr_html_(self) -> str:
        """Returns the tables as HTML, for a notebook."""
        pieces = []
        for table in tables(self):
            columns = [list(map(str, column.cells)) for column in table.columns]
            header = [str(column.header) for column in table.columns]
            pieces.append(html_table(str(table.title), header, zip(*columns, strict=True)))
        return "".join(pieces) + f"<p>{usefulness(self)}</p>" * bool(usefulness(self))
