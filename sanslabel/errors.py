"""What can go wrong that a person can put right: one sentence each, and the exit code of the command."""

from collections.abc import Iterator
from contextlib import contextmanager

LONGEST = 400
"""characters of a parser's message that are passed on: some quote what they were given"""


class SanslabelError(Exception):
    """A sentence that names the file or the flag and says what to do; the command prints it without a traceback."""

    exit_code = 1


class BadInput(SanslabelError):
    """A file, flag or argument that cannot be used as it is."""

    exit_code = 2


class DiskError(SanslabelError):
    """What was asked for could not be written."""

    exit_code = 3


class NotFinite(SanslabelError):
    """The loss or its gradient stayed infinite or not a number for several steps in a row, or a weight became so."""

    exit_code = 4


class Collapsed(SanslabelError):
    """The figures of a run say that it learns nothing, and it was asked to stop then."""

    exit_code = 5


class ProcessLost(SanslabelError):
    """Another process of the same run died or no longer answers."""

    exit_code = 6


class CollapseWarning(UserWarning):
    """The figures of a run say that it learns nothing."""


@contextmanager
def bad_input_as(what: object, remedy: str) -> Iterator[None]:
    """Around whatever looks into a file: what a damaged or hostile one leads a parser into, errors of a dozen kinds,
    comes out as the one sentence of a BadInput."""
    try:
        yield
    except SanslabelError:
        raise
    except Exception as error:
        said = " ".join(str(error).split())[:LONGEST] or type(error).__name__
        raise BadInput(f"{what} cannot be read ({said}); {remedy}.") from error


def suggestion(name: str, known: list[str]) -> str:
    """The end of an error sentence: the likeliest meant name, and all that there are."""
    from difflib import get_close_matches

    close = get_close_matches(name, known, n=1, cutoff=0.5)
    meant = f"did you mean {close[0]}?" if close else ""
    return meant if meant and len(known) > 12 else f"{meant} There are: {', '.join(known)}.".strip()
