"""translations by a run of the method translation"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from sanslabel.cli.flags import parse_flags
from sanslabel.console import errors
from sanslabel.constraints import NonNegative, Positive

GROUP = "Generate"
USAGE = "translate RUN TEXT|FILE|-"


@dataclass(frozen=True)
class TranslateFlags:
    """Translate a sentence, or each line of a file, by a run of the method translation."""

    run: str
    """the run folder"""
    text: str
    """a sentence, a file with a sentence in each line, or - for standard input"""
    beam: Annotated[int, Positive] = 4
    """translations of each sentence that the search keeps; 1 is greedy search"""
    alpha: Annotated[float, NonNegative] = 1.0
    """α: log-likelihoods are divided by ((5 + length) / 6)^α, so that a large one favors long translations"""
    device: str | None = None
    """cpu, cuda, cuda:1, mps; by default cuda if there is one, else cpu"""


def run(arguments: list[str]) -> None:
    """Prints a line for each sentence, as soon as it is translated."""
    flags = parse_flags(TranslateFlags, "translate", arguments, TranslateFlags.__doc__ or "")
    from sanslabel.generation import translations
    from sanslabel.sources.progress import shown_progress
    from sanslabel.wording import counted

    options = {"beam": flags.beam, "alpha": flags.alpha, "device": flags.device}
    sentences, long = _sentences(flags.text), 0
    progress = nullcontext(lambda done: None)
    if isinstance(sentences, list) and len(sentences) > 1 and not sys.stdout.isatty():  # else the lines themselves show
        progress = shown_progress(flags.text, len(sentences), "translated")
    with progress as show:
        for number, text in enumerate(translations(flags.run, sentences, **options), 1):
            long += text is None
            print(text or "", flush=True)
            show(number)
    if long:
        remedy = "Split them, or train with a larger --longest."
        print(f"Left empty: {counted(long, 'line')} longer than the sentences of the training. {remedy}", file=errors())


def _sentences(text: str) -> Iterable[str]:
    """Returns the sentences that an argument names. Those of standard input are read as they come."""
    from sanslabel.sources.texts.text_files import decoded_line, lines_of

    if text == "-":
        lines = enumerate((line.rstrip(b"\r\n") for line in sys.stdin.buffer), 1)
        return (decoded_line(line, Path("standard input"), number) for number, line in lines)
    return list(lines_of(Path(text))) if os.path.isfile(text) else [text]
