"""Writes docs/figures.md, the catalogue of everything that a run logs: python -m bench.figures"""

from __future__ import annotations

from pathlib import Path

from bench.markdown import table
from sanslabel.figures import GROUPS

PAGE = Path(__file__).parent.parent / "docs" / "figures.md"
INTRODUCTION = """# Figures of a run

Each line of `RUN/metrics.jsonl` is a JSON object with the keys below. A run logs the figures that its method has.
A method with several players writes their names before the keys, such as `critic/loss`.
A value that is not finite is `null`.

This page is made by `python -m bench.figures` from `sanslabel/figures.py`.
"""


def page() -> str:
    """Returns the page as Markdown, with a table for each group of figures."""
    sections = [INTRODUCTION]
    for title, group in GROUPS.items():
        lines = [(f"`{figure.name}`", figure.unit, figure.better, figure.meaning) for figure in group]
        sections.append(f"## {title}\n\n{table(['key', 'unit', 'better', 'meaning'], lines)}\n")
    return "\n".join(sections)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
