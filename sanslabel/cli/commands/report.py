"""one page: verdict, curves, views, scores, a map of the embedding"""

from __future__ import annotations

from dataclasses import dataclass

from sanslabel.cli.flags import parse_flags
from sanslabel.cli.processes import clear_progress, show_progress

GROUP = "Measure"
USAGE = "report RUN [RUN …]"


@dataclass(frozen=True)
class Report:
    """Show runs on one page: verdicts, curves, views, scores, a map of the embedding, samples."""

    runs: tuple[str, ...]
    """run folders; the page compares several runs"""
    out: str | None = None
    """the .html file; by default report.html in the first run folder"""
    data: str | None = None
    """images of the map; by default those that the run was trained on"""
    points: int = 5000
    """images in all maps together, from the test split if there is one"""
    seed: int = 0
    """seed that draws the images of the maps"""
    device: str | None = None
    """cpu, cuda, cuda:1, mps; by default cuda if there is one, else cpu"""


def run(arguments: list[str]) -> None:
    """Writes the page and prints its path."""
    flags = parse_flags(Report, "report", arguments, Report.__doc__ or "")
    from sanslabel.report import report

    options = {name: value for name, value in vars(flags).items() if name != "runs"}
    path = report(*flags.runs, log=show_progress, **options)
    clear_progress()
    print(path)
