"""Flags from dataclasses: a field is a flag, and the sentence below it is its help."""

from __future__ import annotations

import inspect
import re
import shutil
import textwrap
from argparse import SUPPRESS, Action, ArgumentError, ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass, replace
from typing import Any, Literal, NoReturn, get_args, get_origin, get_type_hints

from sanslabel.constraints import NOUNS, admits_none, bounds_of, check_value, choices_of, description_of, members_of
from sanslabel.errors import BadInput, BadValue, suggestion
from sanslabel.field_sentences import field_sentences

METAVARS = {int: "N", float: "X", str: "TEXT"}
HELP = {"-h", "--help"}
ELSEWHERE = {
    "--gpu": "--device",
    "--cuda": "--device",
    "--size": "--image-size",
    "--bs": "--batch",
    "--learning-rate": "--lr",
    "--model": "--encoder",
    "--backbone": "--encoder",
    "--arch": "--encoder",
    "--output": "--out",
    "--pretrained": "--weights",
}
"""flags of other programs, and the flags that mean the same here"""


@dataclass(frozen=True)
class Flag:
    """A flag of the command line, or an argument without a name."""

    name: str
    """its name, with dots between a dataclass in a field and the fields of that dataclass"""
    hint: Any
    """the annotation of its field"""
    default: Any
    """its default; MISSING for an argument without a name"""
    help: str = ""

    @property
    def spelling(self) -> str:
        """Returns the flag as it is written, or the name of an argument in capitals."""
        return self.name.upper() if self.default is MISSING else f"--{self.name}"

    @property
    def description(self) -> str:
        """Returns the help with the values that are admitted, and the default."""
        remarks = [text for bounds in bounds_of(self.hint) if (text := bounds.description)]
        if self.default not in (MISSING, None, (), "") and members_of(self.hint) != (bool,):
            default = " ".join(map(str, self.default)) if isinstance(self.default, tuple) else self.default
            remarks.append(f"default: {default}")
        elif self.default is True:
            remarks.append("on by default")
        return " ".join([self.help, f"({'; '.join(remarks)})" * bool(remarks)]).strip()

    @property
    def items(self) -> tuple[Any, ...]:
        """Returns the types of the items of a tuple, or nothing for a single value."""
        kinds = [member for member in members_of(self.hint) if get_origin(member) is tuple]
        return get_args(kinds[0]) if kinds else ()

    def parse(self, word: str) -> Any:
        """Returns the value, or an item of it, that a word stands for. Raises BadInput if there is none."""
        hint = self.items[0] if self.items else self.hint
        for member in members_of(hint):
            for choice in get_args(member) if get_origin(member) is Literal else ():
                if word == str(choice):
                    return choice
            if member in (int, float, str):
                try:
                    return member(word)
                except ValueError:
                    continue
        if word.lower() == "none" and admits_none(self.hint):
            return None
        check_value(self.spelling, word, hint, self.default)
        raise BadValue(self.spelling, word, f"must be {description_of(self.hint)}")


def parse_flags(flags: type, command: str, arguments: list[str], description: str) -> Any:
    """Returns an instance of the dataclass `flags` with the values from the arguments.

    --help prints the flags and exits. Raises BadInput with one line for a value that does not fit, a missing value, a
    flag that is given twice, and an unknown flag; the line names the nearest known flag.
    """
    needs_help = bool(HELP & set(arguments))
    known = list(flags_of(flags, None, "", needs_help))
    parser = _Parser(known, command, description)
    if needs_help:
        print(parser.format_help())
        raise SystemExit(0)
    try:
        namespace, unknown = parser.parse_known_intermixed_args(arguments)
    except ArgumentError as error:
        raise _bad_count(known, command, error) from None
    if unknown:
        raise _unknown(known, command, arguments, unknown[0])
    return _filled(flags, None, vars(namespace), "")


def flags_of(flags: type, instance: Any, prefix: str, with_help: bool = False) -> Iterator[Flag]:
    """Yields the flags of a dataclass. A dataclass in a field gives names like `field.name`."""
    hints, helps = get_type_hints(flags, include_extras=True), field_sentences(flags) if with_help else {}
    for field in fields(flags):
        name = prefix + field.name.replace("_", "-")
        default = field.default if instance is None else getattr(instance, field.name)
        if is_dataclass(default) and not isinstance(default, type):
            yield from flags_of(type(default), default, f"{name}.", with_help)
        elif description_of(hints[field.name]):
            yield Flag(name, hints[field.name], default, helps.get(field.name, ""))


class _Parser(ArgumentParser):
    """A parser of flags whose errors are sentences."""

    def __init__(self, known: Sequence[Flag], command: str, description: str) -> None:
        required = " ".join(flag.spelling for flag in known if flag.default is MISSING)
        super().__init__(
            prog=f"sanslabel {command}",
            usage=f"sanslabel {command} {required} [flags]".replace("  ", " "),
            description=description,
            formatter_class=_Formatter,
            add_help=False,
            allow_abbrev=False,
            argument_default=SUPPRESS,
            exit_on_error=False,
        )
        group = self.add_argument_group("flags")
        for flag in known:
            _add(group.add_argument, flag)
        group.add_argument("-h", "--help", action="store_true", help="show this text")

    def error(self, message: str) -> NoReturn:
        """Raises ArgumentError with a message of the parser."""
        raise ArgumentError(None, message)


class _Value(Action):
    """The value of a flag, which may be given once."""

    def __call__(self, parser: Any, namespace: Namespace, values: Any, option: str | None = None) -> None:
        """Stores the value. Raises BadInput if the flag was given before."""
        if option is not None and hasattr(namespace, self.dest):
            raise BadInput(f"{self.option_strings[0]}: is given twice; keep one of the two.")
        setattr(namespace, self.dest, values)


class _Switch(_Value):
    """A flag without a value, and its opposite."""

    def __call__(self, parser: Any, namespace: Namespace, values: Any, option: str | None = None) -> None:
        """Stores True, or False for the second spelling. Raises BadInput if the flag was given before."""
        super().__call__(parser, namespace, option == self.option_strings[0], option)


class _Formatter(RawDescriptionHelpFormatter):
    """Help in the width of the terminal, with lines of a list that go on below their text."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=26, width=min(shutil.get_terminal_size().columns, 120) - 1)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        text = re.sub(r"(?<=\S)\n(?=\S)", " ", inspect.cleandoc(text))  # the lines of a paragraph become one
        lines = []
        for line in text.splitlines():
            label = re.match(r"  \S+ +", line)
            lines += textwrap.wrap(line, width, subsequent_indent=" " * (len(label[0]) if label else 0)) or [""]
        return "\n".join(lines)


def _add(add_argument: Callable[..., Any], flag: Flag) -> None:
    """Adds a flag to a parser."""
    text = flag.description.replace("%", "%%")
    if members_of(flag.hint) == (bool,):
        *prefix, last = flag.name.split(".")
        opposite = "--" + ".".join([*prefix, f"no-{last}"])
        add_argument(flag.spelling, opposite, action=_Switch, nargs=0, dest=flag.name, help=text)
        return
    options: dict[str, Any] = {"type": flag.parse, "action": _Value, "help": text, "metavar": _metavar(flag)}
    if flag.items:
        options["nargs"] = "+" if flag.items[-1] is ... else len(flag.items)
    if flag.default is not MISSING:
        options["dest"] = flag.name
    add_argument(flag.name if flag.default is MISSING else flag.spelling, **options)


def _metavar(flag: Flag) -> Any:
    """Returns the placeholder of a flag's value in the help, or one for each item of a tuple."""
    if flag.default is MISSING:
        return flag.spelling
    if choices := choices_of(flag.hint):
        return "{" + ",".join(map(str, choices)) + "}"
    if flag.items and flag.items[-1] is not ...:
        return tuple(METAVARS.get(item, "TEXT") for item in flag.items)
    kinds = [flag.items[0]] if flag.items else members_of(flag.hint)
    return METAVARS.get(kinds[0], "TEXT")


def _filled(flags: type, instance: Any, values: dict[str, Any], prefix: str) -> Any:
    """Returns an instance of a dataclass with the values by flag; all others stay as they are in `instance`."""
    changes = {}
    for field in fields(flags):
        name = prefix + field.name.replace("_", "-")
        default = field.default if instance is None else getattr(instance, field.name)
        value = values.get(name, values.get(field.name) if not prefix else None)
        if is_dataclass(default) and not isinstance(default, type):
            changes[field.name] = _filled(type(default), default, values, f"{name}.")
        elif value is not None or name in values:
            changes[field.name] = tuple(value) if isinstance(value, list) else value
    if instance is None:
        return flags(**changes)
    return replace(instance, **changes)


def _bad_count(known: Sequence[Flag], command: str, error: ArgumentError) -> BadInput:
    """Returns the error for a flag with too few or too many values, or for an argument that is missing."""
    for flag in known:
        if error.argument_name is not None and flag.spelling in error.argument_name.split("/"):
            text = description_of(flag.items[0] if flag.items else flag.hint) == NOUNS[str]
            wanted = "" if text else f": {description_of(flag.hint)}"
            default = " ".join(map(str, flag.default)) if flag.items and flag.default else ""
            example = f"; for example {flag.spelling} {default}" if default else ""
            return BadInput(f"{flag.spelling}: its value is missing{wanted}{example}.")
    missing = error.message.rpartition(": ")[2].upper().removesuffix("S")
    return BadInput(f"{missing} is missing; sanslabel {command} --help shows what to give.")


def _unknown(known: Sequence[Flag], command: str, arguments: Sequence[str], word: str) -> BadInput:
    """Returns the error for a word that is no flag, or belongs to none."""
    before = arguments[arguments.index(word) - 1]
    if not word.startswith("-") and before.startswith("--"):
        return BadInput(f"{before}: takes no value; leave {word!r} out, or write no- before the name to turn it off.")
    if not word.startswith("-"):
        return BadInput(f"{word!r} belongs to no flag; leave it out, or write the flag before it.")
    name = word.partition("=")[0]
    names = [flag.spelling for flag in known if flag.default is not MISSING]
    similar = suggestion(ELSEWHERE[name] if ELSEWHERE.get(name) in names else name, names)
    if "did you mean" in similar:
        return BadInput(f"There is no {name!r} here: {similar}")
    return BadInput(f"There is no {name!r} here; sanslabel {command} --help lists the flags.")
