"""Flags from dataclasses: a field is a flag, and the sentence below it is its help."""

from __future__ import annotations

from contextlib import redirect_stderr
from dataclasses import fields, is_dataclass
from io import StringIO
from itertools import dropwhile, takewhile
from typing import Any

from sanslabel.errors import BadInput, suggestion


def parse_flags(flags: type, command: str, arguments: list[str], description: str) -> Any:
    """Returns an instance of the dataclass `flags`; --help prints and exits. Raises BadInput in one line for an unknown
    flag, with the nearest name, and for a value that does not fit."""
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
    """Returns the names of all flags of a dataclass; those of a dataclass in a field have the field's name before."""
    names = []
    for field in fields(flags):
        name, value = field.name.replace("_", "-"), getattr(flags, field.name)
        names += [f"{name}.{inner}" for inner in flag_names(value)] if is_dataclass(value) else [name]
    return names


def _first_message(boxed: str) -> str:
    """Returns the text between the first two rules of a box, whose lines a console's encoding may draw otherwise."""
    lines = (line.strip("│ ") for line in boxed.splitlines())

    def is_text(line: str) -> bool:
        return not line.startswith(("╭", "╰", "──", "---"))

    within = dropwhile(is_text, lines)
    next(within, None)
    return " ".join(takewhile(is_text, within)).strip()
