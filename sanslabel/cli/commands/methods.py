"""the methods, what prevents their collapse, and their papers"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby

from sanslabel.cli.flags import parse_flags

GROUP = "Data"
USAGE = "methods"


@dataclass(frozen=True)
class Methods:
    """List the methods by family: the energy of each, how it prevents collapse, what it needs, and its paper. The flags
    of a method are listed by `sanslabel train METHOD --help`."""


def run(arguments: list[str]) -> None:
    """Prints every method under its family."""
    parse_flags(Methods, "methods", arguments, Methods.__doc__ or "")
    from rich.console import Console
    from rich.table import Table

    from sanslabel.methods import method_class, names, sentence

    console = Console()
    by_family = sorted((str(method_class(name).family), name) for name in names())
    for family, members in groupby(by_family, key=lambda pair: pair[0]):
        console.print(f"\n[bold]{family}[/bold]")
        table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
        table.add_column(style="bold", min_width=17, no_wrap=True)
        table.add_column(min_width=11, no_wrap=True)
        table.add_column(overflow="fold")
        for _, name in members:
            method = method_class(name)
            table.add_row(name, "", sentence(name).partition(": ")[2])
            table.add_row("", "energy", method.energy)
            table.add_row("", "no collapse", method.prevents_collapse)
            table.add_row("", "needs", method.needs or "images")
            table.add_row("", "paper", f"{method.paper} ({method.year})")
        console.print(table)
