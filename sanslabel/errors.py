"""Errors that a user can correct. Each is one sentence, and each kind has an exit code of the command."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sanslabel.wording import argument_name, at_command_line, worded

LONGEST_QUOTE = 400
"""characters of a parser's message that are passed on, since some quote their whole input"""


class SanslabelError(Exception):
    """An error whose sentence names the file or setting, and the remedy. The command prints it without a traceback.

    The code writes a setting as a flag; in Python the sentence shows it as an argument (see `wording`).
    """

    exit_code = 1

    def __str__(self) -> str:
        return worded(super().__str__())


class BadInput(SanslabelError):
    """A file, flag or argument that cannot be used as it is."""

    exit_code = 2


class BadValue(BadInput):
    """A setting whose value does not fit."""

    def __init__(self, flag: str, value: Any, remedy: str, example: Any = None) -> None:
        """Takes the setting as a flag, its value, what it must be, and a value that would fit, if one is known."""
        super().__init__(flag, value, remedy, example)
        self.flag, self.value, self.remedy, self.example = flag, value, remedy, example

    def __str__(self) -> str:
        ending = "" if self.example is None else f"; for example {self._setting(self.example)}"
        return f"{self._setting(self.value)}: {self.remedy}{ending}."

    def _setting(self, value: Any) -> str:
        if at_command_line() or not self.flag.startswith("--"):
            return f"{self.flag} {value}"
        return f"{argument_name(self.flag)}={_short(value)}"


class DiskError(SanslabelError):
    """A file that could not be written."""

    exit_code = 3


class NotFinite(SanslabelError):
    """A loss or gradient that was not finite for several steps in a row, or a weight that is not finite."""

    exit_code = 4


class Collapsed(SanslabelError):
    """A run that stopped because its figures show that it learns nothing."""

    exit_code = 5


class ProcessLost(SanslabelError):
    """Another process of the same run that died or no longer answers."""

    exit_code = 6


class CollapseWarning(UserWarning):
    """A run whose figures show that it learns nothing."""


class UnfinishedWarning(UserWarning):
    """A run whose newest checkpoint is used, since it has not ended."""


@contextmanager
def bad_input_as(what: object, remedy: str) -> Iterator[None]:
    """Context manager that turns any exception into a BadInput, which says what cannot be read, and names the remedy.

    It belongs around all code that parses a file: damaged or hostile files make parsers raise errors of many kinds.
    """
    try:
        yield
    except SanslabelError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:LONGEST_QUOTE] or type(error).__name__
        raise BadInput(f"{what} cannot be read ({reason}); {remedy}.") from error


def suggestion(name: str, known: list[str]) -> str:
    """Returns the end of an error message: the most similar known name, and all known names if they are few."""
    from difflib import get_close_matches

    spelled = {word.lower().lstrip("-"): word for word in reversed(known)}  # all flags begin alike
    close = get_close_matches(name.lower().lstrip("-"), spelled, n=1, cutoff=0.5)
    similar = f"did you mean {spelled[close[0]]}?" if close else ""
    return similar if similar and len(known) > 12 else f"{similar} There are: {', '.join(known)}.".strip()


def _short(value: Any) -> str:
    """Returns a value as Python writes it, or its type if that is longer than 80 characters or a line."""
    text = repr(value)
    return text if len(text) <= 80 and "\n" not in text else f"{type(value).__name__}(…)"
