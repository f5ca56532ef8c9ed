"""Flags from dataclasses: a field is a flag, and the sentence below it is its help."""

from __future__ import annotations

from contextlib import redirect_stderr
from dataclasses import fields, is_dataclass
from io import StringIO
from itertools import dropwhile, takewhile
from typing import Any

from sanslabel.errors import BadInput, suggestion


def parse_flags(flags: type, command: str, arguments: list[str], description: str) -> Any:
    """Returns an instance of the dataclass `flags` with the values from the arguments.

    --help prints the flags and exits. Raises BadInput with one line for a value that does not fit, and for an unknown
    flag; the line names the nearest known flag.
    """
    import tyro

    config = (tyro.conf.PositionalRequiredArgs, tyro.conf.AvoidSubcommands)
    messages = StringIO()
    try:
        with redirect_stderr(messages):
            instance, unknown = tyro.cli(
                flags,
                prog=f"sanslabel {command}",
                args=arguments,
                description=description,
                config=config,
                return_unknown_args=True,
            )
    except SystemExit as stop:
        if not stop.code:
            raise
        reason = _first_message(messages.getvalue())
        raise BadInput(f"{reason} (sanslabel {command} --help lists the flags)") from None
    if unknown:
        known = [f"--{name}" for name in flag_names(instance)]
        raise BadInput(f"There is no {unknown[0]!r} here: {suggestion(unknown[0].partition('=')[0], known)}")
    return instance


def flag_names(flags: Any) -> list[str]:
    """Returns the names of all flags of a dataclass. A dataclass in a field gives names like `field.name`."""
    names = []
    for field in fields(flags):
        name, value = field.name.replace("_", "-"), getattr(flags, field.name)
        names += [f"{name}.{inner}" for inner in flag_names(value)] if is_dataclass(value) else [name]
    return names


def _first_message(boxed: str) -> str:
    """Returns the text between the first two horizontal lines of a box, which the encoding may turn into dashes."""
    lines = (line.strip("│ ") for line in boxed.splitlines())

    def is_text(line: str) -> bool:
        return not line.startswith(("╭", "╰", "──", "---"))

    within = dropwhile(is_text, lines)
    next(within, None)
    return " ".join(takewhile(is_text, within)).strip()
