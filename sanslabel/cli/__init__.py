"""The command `sanslabel`. Nothing heavy is imported before a command that needs it: `--help` answers at once."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import field, fields, make_dataclass
from io import StringIO
from pathlib import Path
from typing import Any, NoReturn

from sanslabel.cli.flags import Energy, Evaluate, QualityOf, Report, Sample, Train, parsed
from sanslabel.console import errors
from sanslabel.errors import BadInput, SanslabelError, suggestion
from sanslabel.training.signals import interrupting

HELP = """Learn an image encoder from pictures without labels, and measure it.

  sanslabel train [METHOD] [--data PATH] …   train an encoder, then evaluate it; a bare `sanslabel train` shows it all
  sanslabel train --resume RUN               continue a run that was stopped
  sanslabel evaluate RUN [--data PATH] …     kNN and linear accuracy, beside raw pixels and a random encoder
  sanslabel sample RUN [--interpolate] …     new images of a generative model, or reconstructions of given ones
  sanslabel energy RUN [--data PATH] …       the energy of every image, low for what is like the training data
  sanslabel energy METHOD --toy spiral       train on points in a plane, and draw the energy over it
  sanslabel quality RUN ENCODER …            nats, Fréchet distance, precision and recall by a trained encoder
  sanslabel report RUN [RUN …]               one page: verdict, curves, views, scores, a map of the embedding
  sanslabel methods                          the methods, what they prevent collapse by, and their papers

`sanslabel train METHOD --help` lists every number of a method.
"""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs the command and exits: 0; 2 bad input; 3 disk; 4 not finite; 5 collapsed; 6 process lost; 128 + signal."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    with suppress(AttributeError):  # a letter that the terminal does not know is no reason to stop
        sys.stdout.reconfigure(errors="backslashreplace")  # pyright: ignore[reportAttributeAccessIssue]
    warnings.showwarning = lambda message, *_: print(f"{_speaker()}: warning: {message}", file=errors())
    code = 0  # exits below, where no exception holds on to what was under way
    try:
        with interrupting():
            _run(arguments)
    except SanslabelError as error:
        print(f"{_speaker()}: error: {error}", file=errors())
        code = error.exit_code
    except KeyboardInterrupt as stop:
        sentence = "a run goes on with --resume, all else with the same command"
        print(f"{_speaker()}: stopped at once ({stop}); {sentence}", file=errors())
        code = 128 + getattr(stop, "number", 2)
    except BrokenPipeError:  # whoever read the output has left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 141
    if _number() is not None:  # threads of the connection may outlive what they call at the end of the interpreter
        sys.stdout.flush()
        os._exit(code)
    sys.exit(code)


def _number() -> int | None:
    """This process's among several, from the variables that torchrun and srun set."""
    number = os.environ.get("RANK") or os.environ.get("SLURM_PROCID")
    several = {os.environ.get("WORLD_SIZE"), os.environ.get("SLURM_STEP_NUM_TASKS")} - {None, "1"}
    return int(number) if several and number else None


def _speaker() -> str:
    return "sanslabel" if _number() is None else f"sanslabel (process {_number()})"


def _run(arguments: list[str]) -> None:
    commands = {
        "train": _train,
        "evaluate": _evaluate,
        "sample": _sample,
        "energy": _energy,
        "quality": _quality,
        "report": _report,
        "methods": _methods,
    }
    command, *rest = arguments or ["--help"]
    if command in {"-h", "--help"}:
        print(HELP)
    elif command == "--version":
        from sanslabel import __version__

        print(f"sanslabel {__version__}")
    elif command in commands:
        commands[command](rest)
    else:
        raise BadInput(f"There is no command {command!r}: {suggestion(command, list(commands))}")


def _train(arguments: list[str]) -> None:
    from sanslabel.methods import method_class, names, sentence

    name = arguments.pop(0) if arguments and not arguments[0].startswith("-") else None
    if name is None and {"-h", "--help"} & set(arguments):
        listed = "\n".join(f"  {n:<12} {sentence(n)}" for n in names())
        parsed(Train, "train [METHOD]", arguments, f"{Train.__doc__} Methods, simclr by default:\n{listed}")
    # The method's numbers depend on the recipe, so this one flag is looked for before the flags are read.
    said = " ".join(arguments).replace("--recipe=", "--recipe ")
    recipe = next((r for r in ("paper", "toy") if f"--recipe {r}" in said), "small")
    chosen = method_class(name or "simclr")
    default = chosen.under(chosen.recipe_named(recipe))
    flags_class = make_dataclass("Train", [("method", chosen, field(default=default))], bases=(Train,), frozen=True)
    flags = parsed(flags_class, f"train {name or ''}".strip(), arguments, sentence(name or "simclr"))

    with _as_one(flags.timeout):
        _trained(flags, name)


@contextmanager
def _as_one(timeout: float = 600.0) -> Iterator[None]:
    """Joins the processes that were started for the same command; the first one speaks."""
    from sanslabel.distributed import rank
    from sanslabel.process_group import joined

    with joined(timeout), redirect_stdout(sys.stdout if rank() == 0 else StringIO()):
        yield


def _trained(flags: Any, name: str | None) -> None:
    from sanslabel.training.run import resume, train

    if flags.resume is not None:
        changed = [f.name for f in fields(flags) if getattr(flags, f.name) != f.default]
        fitting = ("data", "device", "on_collapse", "track", "workers", "cache", "profile")
        if extra := [n for n in changed if n not in {"resume", "evaluate", "timeout", *fitting}]:
            flag = extra[0].replace("_", "-")
            raise BadInput(f"--{flag} does not go with --resume, which takes it from the run's run.json.")
        run = resume(flags.resume, method=name, **{name: getattr(flags, name) for name in fitting})
    else:
        ours = {"resume", "evaluate", "encoder_options", "data", "timeout"}
        kept = {k: v for k, v in vars(flags).items() if k not in ours}
        kept["encoder"] = _encoder(flags.encoder, flags.encoder_options)
        run = train(flags.data or "fashion", **kept)
    print(f"\nTrained {run.plan.method} for {run.plan.epochs} epochs in {run.seconds:.0f} s: {run.path}")
    print(run.verdict.sentence)
    if run.bad_samples:
        print(f"{run.bad_samples} samples could not be read: {run.path}/bad_samples.jsonl")
    if flags.evaluate:
        try:
            _print_scores(run.path, flags.data, run.plan.device)
        except KeyboardInterrupt:
            print(f"The encoder is whole; evaluate it with: sanslabel evaluate {run.path}", file=errors())
            raise
    other = "simclr" if run.plan.method == "vicreg" else "vicreg"
    print(f"""
Made    {run.path}/encoder.safetensors   the encoder: sanslabel.load_encoder("{run.path}")
        {run.path}/metrics.jsonl         loss, spread and rank of the embedding over time
Next    sanslabel report {run.path}   it all on one page
        sanslabel train {run.plan.method} --data FOLDER        your own pictures; no labels needed
        sanslabel train {other:<22} another way to keep the energy from collapsing
        sanslabel methods                      what else there is""")


def _encoder(name: str | None, options: Sequence[str]) -> str | dict[str, Any] | None:
    """The encoder's name, with its options where there are any."""
    if not options:
        return name
    if name is None:
        raise BadInput("--encoder-options: name the encoder that they are of with --encoder.")
    found: dict[str, Any] = {"name": name}
    for option in options:
        key, equals, value = option.partition("=")
        if not equals:
            raise BadInput(f"--encoder-options {option}: write name=value, such as patch=4.")
        found[key] = _option(value)
    return found


def _option(value: str) -> str | int | list[int]:
    """A number, several with commas between them, or else the word itself."""
    parts = value.split(",")
    if not all(part.isdigit() for part in parts):
        return value
    numbers = [int(part) for part in parts]
    return numbers if len(numbers) > 1 else numbers[0]


def _print_scores(run: Path, data: str | None, device: str) -> None:
    from sanslabel.evaluation import Unlabeled, evaluate

    try:
        _print_tables(evaluate(run, data=data, device=device, report=_progress))
    except Unlabeled as reason:
        print(f"Not evaluated: {reason}")


def _evaluate(arguments: list[str]) -> None:
    flags = parsed(Evaluate, "evaluate", arguments, Evaluate.__doc__ or "")
    from sanslabel.evaluation import FineTuning, evaluate

    asked = vars(flags) | {"finetuning": FineTuning(steps=flags.finetune_steps, lr=flags.finetune_lr)}
    kept = {name: value for name, value in asked.items() if name not in {"finetune_steps", "finetune_lr"}}
    from sanslabel.memory_limits import peak_memory

    with _as_one():
        _print_tables(evaluate(**kept, report=_progress))
        if peak := peak_memory():
            print(f"Peak memory {peak / 2**30:.2f} GiB")


def _sample(arguments: list[str]) -> None:
    flags = parsed(Sample, "sample", arguments, Sample.__doc__ or "")
    if flags.interpolate and flags.reconstruct:
        raise BadInput("--interpolate and --reconstruct are two pictures; ask for one of them.")
    from sanslabel.generation import interpolation, reconstructions, samples

    common = {"out": flags.out, "seed": flags.seed, "device": flags.device}
    few = {} if flags.n is None else {"rows" if flags.interpolate else "count": flags.n}
    if flags.interpolate:
        print(interpolation(flags.run, data=flags.data, **few, **common))
    elif flags.reconstruct:
        print(reconstructions(flags.run, data=flags.data, **few, **common))
    elif flags.data is not None:
        raise BadInput("--data: samples are made of nothing; it goes with --reconstruct and --interpolate.")
    else:
        print(samples(flags.run, **few, **common))


def _energy(arguments: list[str]) -> None:
    flags = parsed(Energy, "energy", arguments, Energy.__doc__ or "")
    if flags.toy is not None:
        if flags.data or flags.against or flags.complexity:
            raise BadInput("--toy draws a plane; --data, --against and --complexity are of images.")
        from sanslabel.generation import surface
        from sanslabel.generation.surface import check
        from sanslabel.training.run import train

        check(flags.out or "energy.png")  # what cannot be drawn is refused before the training, not after it
        options = {"recipe": "toy", "precision": "float32", "seed": flags.seed, "device": flags.device}
        trained = train(flags.toy, method=flags.run, **options)
        print(surface(trained.path, out=flags.out, seed=flags.seed, device=flags.device))
        return
    if (flags.out or "").lower().endswith(".png"):
        from sanslabel.generation import surface

        print(surface(flags.run, out=flags.out, seed=flags.seed, device=flags.device))
        return
    from sanslabel.generation import energies

    found = energies(
        flags.run,
        flags.data,
        against=flags.against,
        complexity=flags.complexity,
        out=flags.out,
        device=flags.device,
    )
    print(f"{found.count:,} images, the median of the first set {found.median:.4g}: {found.path}")
    if found.unreadable:
        print(f"{found.unreadable:,} more could not be read, and have no energy")
    if found.slope is not None:
        print(f"less {found.slope:.3g} for every nat of an image's compressed size")
    if found.auroc is not None:
        print(f"AUROC {found.auroc:.4f}: how often a foreign image has the higher energy of two")


def _quality(arguments: list[str]) -> None:
    flags = parsed(QualityOf, "quality", arguments, QualityOf.__doc__ or "")
    from sanslabel.generation import quality

    found = quality(flags.run, flags.encoder, data=flags.data, count=flags.n, seed=flags.seed, device=flags.device)
    print(f"{found.samples:,} samples against as many test images, by the features of {found.encoder}")
    print(f"Fréchet distance   {found.distance:.4g}   (training images: {found.floor:.4g})")
    print(f"precision, recall  {found.precision:.3f}, {found.recall:.3f}")
    for name, nats in found.bounds.items():
        print(f"nats of a test image, {name}: {nats:.2f}")


def _report(arguments: list[str]) -> None:
    flags = parsed(Report, "report", arguments, Report.__doc__ or "")
    from sanslabel.report import report

    path = report(*flags.runs, tell=_progress, **{k: v for k, v in vars(flags).items() if k != "runs"})
    _clear()
    print(path)


def _methods(arguments: list[str]) -> None:
    if arguments:
        raise BadInput(f"methods takes no {arguments[0]!r}; for one method's numbers: sanslabel train METHOD --help.")
    from itertools import groupby

    from rich.console import Console
    from rich.table import Table

    from sanslabel.methods import method_class, names, sentence

    console = Console()
    found = sorted((method_class(name).family, name) for name in names())
    for family, members in groupby(found, key=lambda pair: pair[0]):
        console.print(f"\n[bold]{family}[/bold]")
        table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
        table.add_column(style="bold", min_width=17, no_wrap=True)
        table.add_column(min_width=11, no_wrap=True)
        table.add_column(overflow="fold")
        for _, name in members:
            m = method_class(name)
            table.add_row(name, "", sentence(name).partition(": ")[2])
            table.add_row("", "energy", m.energy)
            table.add_row("", "no collapse", m.prevents_collapse)
            table.add_row("", "needs", m.needs or "images")
            table.add_row("", "paper", f"{m.paper} ({m.year})")
        console.print(table)


def _print_tables(scores: Any) -> None:
    from rich.console import Console

    from sanslabel.evaluation.table import tables

    _clear()
    for table in tables(scores):
        Console().print(table)


def _clear() -> None:
    """Takes the last line of `_progress` off a terminal."""
    if errors().isatty():
        print("\r\033[K", end="", file=errors(), flush=True)


def _progress(sentence: str) -> None:
    """What is done now: on a terminal in one line that changes."""
    if _number():
        return
    terminal = errors().isatty()
    print(f"\r\033[K{sentence}" if terminal else sentence, end="" if terminal else "\n", file=errors(), flush=True)
