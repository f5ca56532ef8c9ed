"""The command `sanslabel`: it finds the file of the command that is called, and turns errors into sentences and exit
codes. Nothing heavy is imported before a command that needs it, so that `--help` answers at once."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from types import ModuleType
from typing import NoReturn

from sanslabel.cli import commands
from sanslabel.cli.processes import process_number, program
from sanslabel.console import errors
from sanslabel.discovery import module_names
from sanslabel.errors import BadInput, SanslabelError, suggestion
from sanslabel.training.signals import Stopped, interrupting
from sanslabel.wording import flags_in_sentences

GROUPS = ("Learn", "Measure", "Use", "Generate", "Data")
"""the headings of `sanslabel --help` in their order; headings of other commands follow"""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs the command and exits with a code.

    The code is 0 (done), 2 (bad input), 3 (disk), 4 (not finite), 5 (collapsed), 6 (process lost), or 128 + the number
    of a signal.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    with suppress(AttributeError):  # a character that the terminal lacks is escaped
        sys.stdout.reconfigure(errors="backslashreplace")  # pyright: ignore[reportAttributeAccessIssue]
    warnings.showwarning = lambda message, *_: print(f"{program()}: warning: {message}", file=errors())
    code = 0  # exit comes at the end, where no exception keeps objects of the run alive
    try:
        with interrupting(), flags_in_sentences():
            _run(arguments)
    except SanslabelError as error:
        with flags_in_sentences():
            print(f"{program()}: {'' if isinstance(error, Stopped) else 'error: '}{error}", file=errors())
        code = error.exit_code
    except KeyboardInterrupt as stop:
        sentence = "repeat the command" + ", or continue its run folder with --resume" * (arguments[:1] == ["train"])
        print(f"{program()}: stopped at once ({stop}); {sentence}", file=errors())
        code = 128 + getattr(stop, "number", 2)
    except BrokenPipeError:  # the program that read the output has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 141
    # At the interpreter's end, threads of the connection may call objects that no longer exist.
    if process_number() is not None:
        sys.stdout.flush()
        os._exit(code)
    sys.exit(code)


def command_names() -> list[str]:
    """Returns the names of all commands, without importing any."""
    return module_names(list(commands.__path__))


def command(name: str) -> ModuleType:
    """Returns the file of a command. Raises BadInput for an unknown name."""
    if name not in command_names():
        raise BadInput(f"There is no command {name!r}: {suggestion(name, command_names())}")
    return import_module(f"{commands.__name__}.{name}")


def help_text() -> str:
    """Returns the text of `sanslabel --help`: every command under its heading."""
    files = [command(name) for name in command_names()]
    headings = [*GROUPS, *sorted({file.GROUP for file in files} - set(GROUPS))]
    lines = ["Learn an encoder from unlabeled data, measure it, and put it to use."]
    for heading in headings:
        members = [file for file in files if heading == file.GROUP]
        if members:
            lines += ["", heading]
        for file in members:
            summary = (file.__doc__ or "").splitlines()[0]
            lines.append(f"  sanslabel {file.USAGE:<32} {summary}")
    lines += ["", "`sanslabel COMMAND --help` lists a command's flags, `sanslabel train METHOD --help` a method's."]
    return "\n".join(lines)


def _run(arguments: list[str]) -> None:
    name, *others = arguments or ["--help"]
    if name in {"-h", "--help", "help"}:
        print(help_text())
    elif name == "--version":
        from sanslabel import __version__

        print(f"sanslabel {__version__}")
    else:
        command(name).run(others)
