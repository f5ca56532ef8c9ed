"""A person's own files are found from outside of the package: one of each kind, and no file edits another.

tests/extensions has a folder that SANSLABEL_PATH names. It adds pairs and sound as data, an encoder that reads
spectrograms, a method that reads two signals, a protocol, and a command.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent / "extensions"

STORY = """
import warnings
from pathlib import Path

import sanslabel
from sanslabel import encoders, methods
from sanslabel.checkpoint import newest
from sanslabel.run_folder import RunFolder
from sanslabel.report import report
from sanslabel.sources import open_source

warnings.simplefilter("error")
quick = {"batch": 64, "epochs": 2, "precision": "float32", "device": "cpu"}

# Pairs as data: a method of two views that was written without them.
assert set(open_source("digit-pairs").inputs) == {"image", "partner"}
pairs = sanslabel.train("digit-pairs", method="simclr", encoder={"name": "mlp", "hidden": 16}, out="pairs", **quick)
assert not pairs.unfinished

# Sound as data, an encoder of spectrograms, and a method that reads two signals.
assert "ears" in encoders.names() and "listening" in methods.names()
chosen = {"image": {"name": "mlp", "hidden": 16}, "audio": "ears"}
run = sanslabel.train("beeps", method="listening", encoder=chosen, out="run", **quick)
assert run.exported() == ["image", "audio"]
assert run.plan.encoders["audio"]["name"] == "ears"

# It resumes to the same bits.
weights = run.encoder_file("audio").read_bytes()
for file in (run.encoder_file("image"), run.encoder_file("audio"), Path("run/config.json")):
    file.unlink()
again = sanslabel.resume("run")
assert again.encoder_file("audio").read_bytes() == weights

# It is evaluated, by a protocol of its own, and reported.
for network in ("image", "audio"):
    scores = sanslabel.evaluate("run", network=network, protocols=("knn", "norms"), baselines=False)
    assert {score.protocol for score in scores} == {"knn", "norms"}
    assert all(score.value >= 0 for score in scores)
assert report("run", "pairs", out="both.html", points=50).stat().st_size > 10_000
print("done")
"""


@pytest.fixture(scope="module")
def environment() -> dict[str, str]:
    path = {"SANSLABEL_PATH": str(FOLDER), "OMP_NUM_THREADS": "1"}
    return os.environ | path | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def test_files_of_each_kind_train_resume_evaluate_and_report(environment, tmp_path):
    command = [sys.executable, "-c", STORY]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)
    assert (done.returncode, done.stdout.splitlines()[-1:]) == (0, ["done"]), done.stderr


def test_a_command_is_found_and_run(environment):
    command = [sys.executable, "-m", "sanslabel", "shout", "hello"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, done.stdout) == (0, "HELLO\n"), done.stderr


def test_each_kind_is_one_file():
    files = sorted(str(file.relative_to(FOLDER)) for file in FOLDER.rglob("*.py"))
    assert files == [
        "commands/shout.py",
        "encoders/ears.py",
        "formats/beeps.py",
        "formats/digit_pairs.py",
        "methods/listening.py",
        "protocols/norms.py",
    ]
