"""train an encoder and evaluate it; --resume RUN continues"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, make_dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

from sanslabel.cli.flags import parse_flags
from sanslabel.cli.next_steps import next_steps, quoted
from sanslabel.cli.processes import joined_command, process_number
from sanslabel.console import errors
from sanslabel.errors import BadInput, suggestion
from sanslabel.settings import RESUMABLE, RecipeName, Settings
from sanslabel.wording import counted

GROUP = "Learn"
USAGE = "train [METHOD] [FOLDER] …"


@dataclass(frozen=True)
class Choices:
    """The flags for the data, the encoder, the recipe and the run folder."""

    data: tuple[str, ...] = ()
    """a folder of images, or several; a folder of sounds, or of pictures and sounds of the same names; a video, or a
    folder of videos; boxes of tracked objects (folders of MOTChallenge, COCO-VID or TAO); a file or folder of arrays
    (IDX, CIFAR, .npy, .npz); or fashion (the default), digits or fashion-mnist. With --recipe toy: spiral, moons or
    ring. For methods of texts: two aligned files, a folder of them, a .tsv file, catalogs of messages, HTML pages in
    two languages, a text file, numbers or longer-numbers"""
    out: str | None = None
    """the run folder; by default runs/METHOD-DATA-NUMBER"""
    resume: str | None = None
    """a run folder to continue; its run.json has the other settings"""
    recipe: RecipeName = "small"
    """hyper-parameters: small for small images without an accelerator, paper for those of the paper, toy for points in
    a plane"""
    encoder: str | None = None
    """conv, resnet18, resnet34, resnet50, vit_micro, vit_tiny, vit_small, vit_base, mlp, dcgan, text_micro, text_small,
    text_medium or text_base; by default the recipe's. For pictures with sound: that of pictures, or
    image=NAME,audio=NAME"""
    encoder_options: tuple[str, ...] = ()
    """options of the encoder, such as patch=4 pool=mean, stem=small, hidden=500,30"""


@dataclass(frozen=True)
class Train(Settings, Choices):
    """Train an encoder without labels on images, videos, sounds or tracks, and evaluate it where labels exist."""

    evaluate: bool = True
    """evaluate the encoder at the end"""
    timeout: float = 600.0
    """seconds that one of several processes waits for another before it gives up"""


def run(arguments: list[str]) -> None:
    """Trains or resumes a run, evaluates its encoder, and prints what was made."""
    from sanslabel.methods import method_class, names, sentence

    name, arguments = _method_and_flags(arguments)
    if name is None and {"-h", "--help"} & set(arguments):
        listing = "\n".join(f"  {n:<12} {sentence(n)}" for n in names())
        parse_flags(Train, "train [METHOD]", arguments, f"{Train.__doc__}\n\nMethods, simclr by default:\n{listing}")
    # The defaults of a method's flags depend on the recipe, so --recipe is read before all other flags.
    line = " ".join(arguments).replace("--recipe=", "--recipe ")
    recipe = next((r for r in ("paper", "toy") if f"--recipe {r}" in line), "small")
    chosen = method_class(name or "simclr")
    default = chosen.under(chosen.recipe_named(recipe))
    flags_class = make_dataclass("Train", [("method", chosen, field(default=default))], bases=(Train,), frozen=True)
    flags = parse_flags(flags_class, f"train {name or ''}".strip(), arguments, sentence(name or "simclr"))
    with joined_command(flags.timeout):
        before = None if flags.resume is None else _seconds(flags.resume)
        finished = _resumed(flags, name) if flags.resume is not None else _trained(flags)
        _print_summary(finished, before)
        measured = flags.evaluate and _evaluated(finished, _data(flags))
        _print_next_steps(finished, arguments, measured)


def _method_and_flags(arguments: list[str]) -> tuple[str | None, list[str]]:
    """Returns the method, if the arguments begin with one, and the flags. A path, or the name of a set, after it or in
    its place is read as --data. Raises BadInput for any other word."""
    from sanslabel.methods import names

    if "--method" in arguments:
        raise BadInput("The method comes first and has no flag: sanslabel train vicreg --data FOLDER.")
    words = list(takewhile(lambda word: not word.startswith("-"), arguments))
    flags = arguments[len(words) :]
    name = words.pop(0) if words and words[0] in names() else None
    for word in words:
        if not _is_data(word):
            raise _unknown(word, names() if name is None else [])
    if words and any(flag.partition("=")[0] == "--data" for flag in flags):
        raise BadInput(f"{words[0]!r} and --data both name pictures; keep one of the two.")
    if words:
        data = ["--data", *words]
        if not process_number():
            print(
                f"read as: {shlex.join(['sanslabel', 'train', *([name] if name else []), *data, *flags])}",
                file=errors(),
            )
        flags = [*data, *flags]
    return name, flags


def _unknown(word: str, methods: list[str]) -> BadInput:
    """Returns the error for a word that is neither a method nor data."""
    if "did you mean" in (similar := suggestion(word, methods)):
        return BadInput(f"There is no method {word!r}: {similar}")
    kind = "method and no folder" if methods else "folder"
    return BadInput(f"There is no {kind} {word!r}; name your pictures with --data FOLDER.")


def _is_data(word: str) -> bool:
    """Returns True for a path that exists, for anything that looks like a path, and for the name of a set."""
    from sanslabel.sources import names

    return "/" in word or Path(word).exists() or word in names()


def _resumed(flags: Any, method: str | None) -> Any:
    from sanslabel.training.run import resume

    changed = [f.name for f in fields(flags) if getattr(flags, f.name) != f.default]
    if extra := [name for name in changed if name not in {"resume", "evaluate", "timeout", "data", *RESUMABLE}]:
        flag = extra[0].replace("_", "-")
        raise BadInput(
            f"--{flag} does not go with --resume: the run keeps the value in its run.json; leave the flag out."
        )
    settings = {name: getattr(flags, name) for name in RESUMABLE}
    return resume(flags.resume, method=method, data=_data(flags), **settings)


def _data(flags: Any) -> str | Sequence[str] | None:
    """Returns the data that the flags name: one place, several, or None."""
    return flags.data[0] if len(flags.data) == 1 else flags.data or None


def _trained(flags: Any) -> Any:
    from sanslabel.training.run import train

    here = {"resume", "evaluate", "encoder_options", "data", "timeout"}
    settings = {name: value for name, value in vars(flags).items() if name not in here}
    settings["encoder"] = _encoder(flags.encoder, flags.encoder_options)
    return train(_data(flags) or "fashion", **settings)


def _seconds(run: str) -> float:
    """Returns the seconds of training before a resume, 0 if they are unknown."""
    from sanslabel.run_folder import RunFolder

    return RunFolder.open(run).seconds


def _print_summary(finished: Any, before: float | None) -> None:
    """Prints what was trained, and in which time.

    before: the seconds before a resume, 0 if they are unknown, since a run that is killed records none; None for a run
        in one piece.
    """
    from sanslabel.cli.verdicts import print_verdict

    plan, seconds = finished.plan, f"{finished.seconds:.0f} s"
    if before:
        seconds = f"in {seconds}, {finished.seconds - before:.0f} s of it since the resume"
    else:
        seconds = f"in {seconds}" if before is None else f"(the last of them in {seconds})"
    print(f"\nTrained {plan.method} for {counted(plan.epochs, 'epoch')} {seconds}: {finished.path}")
    print_verdict(finished.verdict())
    if bad := finished.bad_samples():
        print(f"{len(bad)} samples could not be read: {finished.path}/bad_samples.jsonl")


def _evaluated(finished: Any, data: str | Sequence[str] | None) -> bool:
    """Prints the scores. Returns False, after a sentence with the reason, if the data have no labels."""
    from sanslabel.cli.tables import print_scores
    from sanslabel.evaluation import Unlabeled

    try:
        print_scores(finished.path, data=data, device=finished.plan.device)
    except Unlabeled as reason:
        print(f"Not evaluated: {reason}")
        return False
    except KeyboardInterrupt:
        print(f"The encoder is saved; evaluate it with: sanslabel evaluate {quoted(finished.path)}", file=errors())
        raise
    return True


def _print_next_steps(finished: Any, arguments: Sequence[str], measured: bool) -> None:
    from sanslabel.sources import names

    path = finished.path
    print(f"""
Made    {path}/encoder.safetensors   the encoder: sanslabel.load_encoder({str(path)!r})
        {path}/metrics.jsonl         loss, spread and rank of the embedding over time""")
    embedded = set(finished.plan.places) <= set(names())
    print("Next    " + "\n        ".join(next_steps(finished, arguments, embedded, measured)))


def _encoder(name: str | None, options: Sequence[str]) -> str | dict[str, Any] | None:
    """Returns the encoder's name, a dictionary of its name and options, or signal -> name for several encoders."""
    if name is not None and "=" in name:
        if options:
            raise BadInput("--encoder-options: apply to one encoder only; leave them out if --encoder names several.")
        return {signal: encoder for signal, _, encoder in (choice.partition("=") for choice in name.split(","))}
    if not options:
        return name
    if name is None:
        raise BadInput("--encoder-options: need an encoder; name it with --encoder.")
    encoder: dict[str, Any] = {"name": name}
    for option in options:
        key, equals, value = option.partition("=")
        if not equals:
            raise BadInput(f"--encoder-options {option}: write name=value, such as patch=4.")
        encoder[key] = _option(value)
    return encoder


def _option(value: str) -> str | int | list[int]:
    """Returns the value of an option: an integer, a list of integers between commas, or the word itself."""
    words = value.split(",")
    if not all(word.isdigit() for word in words):
        return value
    integers = [int(word) for word in words]
    return integers if len(integers) > 1 else integers[0]
