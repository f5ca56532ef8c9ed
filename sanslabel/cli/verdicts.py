"""The verdict on a run in the color of its level."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from sanslabel.verdict import Level, Verdict

COLORS: dict[Level, str] = {"healthy": "green", "doubtful": "yellow", "failed": "red"}


def print_verdict(verdict: Verdict) -> None:
    """Prints the sentence of a verdict; on a terminal it is green if the run is healthy, yellow if it is doubtful, and
    red if it has failed."""
    Console(soft_wrap=True).print(Text(verdict.sentence, style=COLORS[verdict.level]))
