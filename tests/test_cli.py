import json
import os
import re
import shlex
import subprocess
import sys
import time
import warnings
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple
from unittest import mock

import numpy as np
import pytest

from sanslabel import methods
from sanslabel.cli.flags import parse_flags
from sanslabel.cli.main import GROUPS, command, command_names, main
from sanslabel.cli.next_steps import next_steps
from sanslabel.cli.verdicts import print_verdict
from sanslabel.verdict import Verdict

QUICK = ["--data", "digits", "--epochs", "1", "--device", "cpu"]


class Done(NamedTuple):
    """What a command left."""

    returncode: int
    stdout: str
    stderr: str


def run(*arguments: str, columns: str = "120") -> Done:
    """The command in this process."""
    output, messages = StringIO(), StringIO()
    with (
        mock.patch.dict(os.environ, {"COLUMNS": columns}),
        warnings.catch_warnings(),
        redirect_stdout(output),
        redirect_stderr(messages),
        pytest.raises(SystemExit) as stop,
    ):
        main(arguments)
    assert isinstance(stop.value.code, int)
    return Done(stop.value.code, output.getvalue(), messages.getvalue())


def run_alone(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
    """The command as a person runs it, in a process of its own."""
    command = [sys.executable, "-m", "sanslabel", *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "120"} | environment
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def refusal(*arguments: str) -> str:
    """The one line on standard error of a call that exits with 2."""
    done = run(*arguments)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("sanslabel: error: ")
    return line


def test_help_answers_at_once_without_torch():
    times = []
    for _ in range(3):
        start = time.perf_counter()
        done = run_alone("--help")
        times.append(time.perf_counter() - start)
    assert done.returncode == 0
    assert "sanslabel train" in done.stdout
    assert min(times) < 0.5
    code = "import sys, sanslabel.cli; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("False\n")


def test_help_of_train_lists_the_methods_and_of_a_method_its_numbers():
    general = run("train", "--help")
    assert general.returncode == 0
    assert all(name in general.stdout for name in methods.names())
    assert "--image-size" in general.stdout
    special = run("train", "vicreg", "--help")
    assert special.returncode == 0
    assert "--method.covariance" in special.stdout
    assert "--method.view.crop" in special.stdout


def test_train_evaluates_and_says_what_it_made(tmp_path):
    out = str(tmp_path / "run")
    done = run("train", "simclr", *QUICK, "--out", out, "--method.temperature", "0.3", "--method.view.crop", "0.4", "1")
    assert done.returncode == 0, done.stderr
    for word in ("pixels", "random", "kNN", "linear", "encoder.safetensors", "Next"):
        assert word in done.stdout, done.stdout
    said = json.loads((tmp_path / "run" / "run.json").read_text())
    assert said["hyperparameters"]["temperature"] == 0.3
    assert said["hyperparameters"]["view"]["crop"] == [0.4, 1.0]
    again = run("evaluate", out, "--protocols", "knn", "--knn.k", "5")
    assert again.returncode == 0, again.stderr
    assert "kNN" in again.stdout
    resumed = run("train", "--resume", out, "--no-evaluate")
    assert resumed.returncode == 0, resumed.stderr
    assert "Trained simclr" in resumed.stdout
    assert "--epochs does not go with --resume" in refusal("train", "--resume", out, "--epochs", "3")
    assert "trained with simclr, not vicreg" in refusal("train", "vicreg", "--resume", out)
    assert "exists already" in refusal("train", *QUICK, "--out", out)


def test_masked_patches_take_the_place_of_the_crop(tmp_path):
    out = str(tmp_path / "run")
    options = ["--masked", "--encoder", "vit_micro", "--no-evaluate", "--out", out]
    assert run("train", "simclr", *QUICK, *options).returncode == 0
    said = json.loads((tmp_path / "run" / "run.json").read_text())
    assert said["hyperparameters"]["view"]["kind"] == "Masked"
    assert said["hyperparameters"]["view"]["patch"] == said["encoder"]["patch"] == 2
    assert run("train", "--resume", out, "--no-evaluate").returncode == 0
    assert "embeds no views" in refusal("train", "supervised", *QUICK, "--masked")


def test_data_without_labels_trains_and_says_why_it_is_not_evaluated(tmp_path):
    np.save(tmp_path / "images.npy", np.random.default_rng(0).integers(0, 256, (64, 8, 8), dtype=np.uint8))
    out = str(tmp_path / "run")
    done = run("train", "--data", str(tmp_path / "images.npy"), "--epochs", "1", "--batch", "32", "--out", out)
    assert done.returncode == 0, done.stderr
    assert "Not evaluated" in done.stdout
    assert (tmp_path / "run" / "encoder.safetensors").is_file()
    assert "no labels" in refusal("evaluate", out)
    assert "no labels" in refusal("train", "supervised", "--data", str(tmp_path / "images.npy"))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["trian"], "did you mean train?"),
        (["train", "simclear"], "There is no method 'simclear': did you mean simclr?"),
        (["train", "photoz"], "There is no method and no folder 'photoz'; name your pictures with --data FOLDER."),
        (["train", "vicreg", "photoz"], "There is no folder 'photoz'; name your pictures with --data FOLDER."),
        (["train", "digits", "--data", "digits"], "'digits' and --data both name pictures; keep one of the two."),
        (["train", "--data", "no/such/folder"], "no/such/folder"),
        (["train", "--data", "fashoin"], "did you mean fashion?"),
        (["train", "--encoder", "resnet"], "did you mean resnet"),
        (["train", "--batch", "0"], "--batch 0"),
        (["train", "--device", "tpu"], "--device tpu"),
        (["train", "--resume", "nowhere"], "nowhere"),
        (["evaluate", "nowhere"], "nowhere"),
        (["methods", "--fast"], "--fast"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments, sentence):
    assert sentence in refusal(*arguments)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["train", "--epoch", "3"], "did you mean --epochs?"),
        (["train", "simclr", "--method.temprature", "1"], "did you mean --method.temperature?"),
        (["train", "simclr", "--method.view.corp", "1"], "did you mean --method.view.crop?"),
        (["evaluate", "run", "--protocol", "knn"], "did you mean --protocols?"),
        (["train", "--gpu", "0"], "did you mean --device?"),
        (
            ["train", "vicreg", "--temperature", "1"],
            "There is no '--temperature' here; sanslabel train vicreg --help lists",
        ),
        (["train", "--data", "fashion", "--method", "vicreg"], "The method comes first"),
        (["train", "--learning-rate", "0.1"], "did you mean --lr?"),
        (["evaluate", "runs/a", "--protocols", "knn,linear"], "write spaces between the names: --protocols knn linear"),
        (["train", "--epochs", "ten"], "--epochs"),
        (["train", "--precision", "bf16"], "bfloat16"),
        (["train", "--method.temperature", "inf"], "--method.temperature inf"),
        (["train", "--encoder", "vit_micro", "--encoder-options", "patsh=4"], "did you mean patch?"),
        (["train", "--workers", "-1"], "--workers -1"),
    ],
)
def test_a_flag_or_value_that_does_not_fit_is_one_line_with_the_nearest_name(arguments, sentence):
    assert sentence in refusal(*arguments)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["--image-size", "64x64"],
            "--image-size 64x64: must be a whole number from 1 to 16,384; for example",
        ),
        (["--epochs", "1.5"], "--epochs 1.5: must be a whole number, 1 or more; for example --epochs 2."),
        (["--batch", "abc"], "--batch abc: must be a whole number, 2 or more."),
        (["--lr", "x"], "--lr x: must be a number above 0."),
        (["--seed", "1.0"], "--seed 1.0: must be a whole number; for example --seed 1."),
        (["--precision", "bf16"], "--precision bf16: choose one of float32, bfloat16."),
        (["--epochs"], "--epochs: its value is missing: a whole number, 1 or more."),
        (["--data"], "--data: its value is missing."),
        (["--epochs", "3", "--epochs", "4"], "--epochs: is given twice; keep one of the two."),
        (["--compile", "--no-compile"], "--compile: is given twice; keep one of the two."),
        (
            ["--method.view.crop", "1"],
            "--method.view.crop: its value is missing: 2 numbers; for example",
        ),
        (["--method.view.crop", "a", "b"], "--method.view.crop a: must be a number."),
        (
            ["--method.temperature", "x"],
            "--method.temperature x: must be a number above 0; for example",
        ),
        (
            ["--masked", "yes"],
            "--masked: takes no value; leave 'yes' out, or write no- before the name",
        ),
        (["--xyzzy"], "There is no '--xyzzy' here; sanslabel train simclr --help lists the flags."),
        (["--epochs", "3", "more"], "'more' belongs to no flag; leave it out, or write the flag before it."),
    ],
)
def test_a_value_of_the_wrong_kind_is_met_in_plain_words(arguments, sentence):
    assert refusal("train", "simclr", *arguments).removeprefix("sanslabel: error: ").startswith(sentence)


def test_what_is_missing_is_named():
    assert refusal("evaluate").endswith("RUN is missing; sanslabel evaluate --help shows what to give.")
    assert refusal("report").endswith("RUN is missing; sanslabel report --help shows what to give.")


def test_flags_may_stand_before_and_between_what_has_no_name():
    @dataclass(frozen=True)
    class Flags:
        """Flags of every kind."""

        runs: tuple[str, ...]
        """run folders"""
        seed: int = 0
        """a seed"""
        crop: tuple[float, float] | None = None
        """a range"""
        size: int | None = 8
        """a side"""
        fast: bool = True
        """be fast"""

    made = parse_flags(Flags, "x", ["a", "--seed", "-3", "b", "--no-fast", "--crop", "0.5", "1", "--size=none"], "")
    assert made == Flags(runs=("a", "b"), seed=-3, crop=(0.5, 1.0), size=None, fast=False)
    assert parse_flags(Flags, "x", ["a"], "") == Flags(runs=("a",))


def test_help_fits_the_terminal_and_states_bounds_and_defaults():
    text = run("train", "simclr", "--help", columns="80").stdout
    assert max(map(len, text.splitlines())) <= 80
    plain = " ".join(text.split())
    assert re.search(r"--epochs N passes over the data; by default [^()]* \(1 or more\)", plain)
    assert re.search(r"--image-size N side in pixels of the images [^()]* \(from 1 to 16,384\)", plain)
    assert "--method.temperature X" in plain
    assert "(above 0; default: 0.2)" in plain
    assert "evaluate the encoder at the end (on by default)" in plain
    assert "{None}" not in plain


def test_help_lists_one_method_a_line():
    lines = run("train", "--help", columns="80").stdout.splitlines()
    starts = [line.split()[0] for line in lines if re.match(r"  [a-z]", line)]
    assert set(methods.names()) <= set(starts)


@pytest.mark.parametrize(
    ("arguments", "method", "data"),
    [
        (["my photos"], "simclr", "my photos"),
        (["my photos/", "--epochs", "1"], "simclr", "my photos/"),
        (["vicreg", "my photos"], "vicreg", "my photos"),
        (["digits"], "simclr", "digits"),
        (["nowhere/photos"], "simclr", "nowhere/photos"),
        (["vae", "--data", "my photos"], "vae", "my photos"),
        (["vicreg"], "vicreg", "fashion"),
    ],
)
def test_a_folder_after_train_is_the_data(arguments, method, data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my photos").mkdir()
    (tmp_path / "vicreg").mkdir()  # a method's name is the method
    asked = []
    monkeypatch.setattr(
        "sanslabel.training.run.train", lambda data, **settings: asked.append((data, settings)) or 1 / 0
    )
    messages = StringIO()
    with redirect_stderr(messages), pytest.raises(ZeroDivisionError):
        main(["train", *arguments])
    ((chosen, settings),) = asked
    assert (chosen, type(settings["method"]).__name__.lower()) == (data, method)
    noted = "" if "--data" in arguments or data == "fashion" else "read as: sanslabel train"
    assert messages.getvalue().startswith(noted)
    assert bool(messages.getvalue()) == bool(noted)
    assert not noted or shlex.split(messages.getvalue())[-2 - 2 * ("--epochs" in arguments) :][:2] == ["--data", data]


def finished(method: str, data: str, classes: int, noun: str = "image") -> SimpleNamespace:
    """What a run leaves of interest for the commands that come next."""
    plan = SimpleNamespace(method=method, data=data, classes=classes, noun=noun)
    chosen = methods.method_class(method)
    return SimpleNamespace(path=Path("runs/ü x"), plan=plan, method=lambda: chosen.under(chosen.small))


def test_next_lines_repeat_the_flags_of_the_run():
    flags = [
        "--data",
        "my photos",
        "--image-size",
        "64",
        "--epochs=5",
        "--out",
        "runs/ü x",
        "--method.temperature",
        "1",
    ]
    flags += ["--lr", "1", "--no-evaluate", "--encoder", "vit_micro", "--encoder-options", "patch=4", "pool=mean"]
    lines = next_steps(finished("simclr", "/x/my photos", 0), flags, embedded=False, measured=False)
    assert [line.partition("   ")[0] for line in lines] == [
        "sanslabel report 'runs/ü x'",
        "sanslabel evaluate 'runs/ü x' --data LABELED",
        "sanslabel train vicreg --data 'my photos' --image-size 64 --epochs=5 --no-evaluate",
        "sanslabel methods",
    ]
    assert not any("your own pictures" in line for line in lines)


@pytest.mark.parametrize(
    ("arguments", "embedded", "measured", "commands"),
    [
        (("vicreg", "/x/stamps", 14), False, True, ["report", "train simclr --data", "methods"]),
        (("vicreg", "/x/stamps", 14), False, False, ["report", "evaluate", "train", "methods"]),
        (
            ("simclr", "/x/film.mp4", 0, "frame"),
            False,
            False,
            ["report", "evaluate 'runs/ü x' --protocols near_far shots", "train vicreg", "methods"],
        ),
        (("vae", "/x/stamps", 0), False, False, ["report", "evaluate", "sample", "train vicreg"]),
        (
            ("translation", "numbers", 0, "pair of sentences"),
            True,
            False,
            ["report", "translate 'runs/ü x' TEXT", "train bitext --data numbers", "methods"],
        ),
        (("simclr", "fashion", 10), True, True, ["report", "train simclr --data F", "methods"]),
        (("vae", "spiral", 0), True, False, ["report", "sample", "train vae --data F", "methods"]),
    ],
)
def test_next_lines_are_those_that_help(arguments, embedded, measured, commands):
    lines = next_steps(finished(*arguments), [], embedded, measured)
    assert len(lines) == len(commands) <= 4
    assert all(line.startswith(f"sanslabel {command}") for line, command in zip(lines, commands, strict=True))


@pytest.mark.parametrize("name", command_names())
def test_every_command_has_help(name):
    done = run(name, "--help", columns="80")
    assert done.returncode == 0
    assert done.stdout.startswith(f"usage: sanslabel {name}")
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_an_empty_folder_and_one_without_images(tmp_path):
    assert str(tmp_path) in refusal("train", "--data", str(tmp_path))
    (tmp_path / "notes.txt").write_text("x")
    assert str(tmp_path) in refusal("train", "--data", str(tmp_path))


def test_methods_are_listed_with_what_prevents_collapse():
    done = run("methods")
    assert done.returncode == 0
    assert all(name in done.stdout for name in methods.names())
    assert "negative" in done.stdout


def test_version():
    done = run_alone("--version")
    assert done.stdout.startswith("sanslabel 0")


def test_a_new_file_is_a_new_command(tmp_path):
    """A person's file in a folder that SANSLABEL_PATH names is found, listed under its heading, and run."""
    (tmp_path / "commands").mkdir()
    text = '"""counts its arguments"""\nGROUP = "Mine"\nUSAGE = "count …"\n'
    text += "def run(arguments):\n    print(len(arguments))\n"
    (tmp_path / "commands" / "count.py").write_text(text)
    path = {"SANSLABEL_PATH": str(tmp_path)}
    assert re.search(
        r"^Mine\n  sanslabel count … +counts its arguments$", run_alone("--help", **path).stdout, re.MULTILINE
    )
    assert run_alone("count", "a", "b", **path).stdout == "2\n"
    assert "no command 'count'" in refusal("count")


@pytest.mark.parametrize("name", command_names())
def test_a_command_says_what_it_is_in_its_file(name):
    file = command(name)
    assert file.GROUP in GROUPS
    assert file.USAGE.split()[0] == name
    assert file.__doc__.splitlines()[0]


def test_a_verdict_has_the_color_of_its_level(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    for level, code in (("healthy", 32), ("doubtful", 33), ("failed", 31)):
        print_verdict(Verdict("name", "Name: a sentence.", level))
        assert capsys.readouterr().out == f"\x1b[{code}mName: a sentence.\x1b[0m\n"
    monkeypatch.delenv("FORCE_COLOR")
    print_verdict(Verdict("name", "Name: a sentence.", "failed"))
    assert capsys.readouterr().out == "Name: a sentence.\n"
