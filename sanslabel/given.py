"""Given networks: weights that exist before a run, to start from or to learn from.

They are input, like data: nothing is downloaded, and only tensors are read, never pickles. A run records their path,
SHA-256 and license, and its checkpoints do not contain them.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor

from sanslabel import checkpoint
from sanslabel.encoders import Encoder
from sanslabel.encoders.given_weights import KeyReport
from sanslabel.errors import BadInput, bad_input_as
from sanslabel.memory_limits import main_memory
from sanslabel.serialization import parse_json

WEIGHTS = "model.safetensors"
"""name of the file of weights in a folder that is not a run folder"""
PICKLES = {".pth", ".pt", ".bin", ".ckpt", ".pkl", ".pickle", ".tar"}
"""suffixes of files that torch.save and pickle write"""
README = "README.md"
"""model card, whose head may state the license"""
LICENSE = re.compile(r"[\w.+() -]{1,80}")


@dataclass(frozen=True, kw_only=True)
class Given:
    """Weights in a file, and where they come from."""

    path: Path
    """file of the weights"""
    sha256: str
    """hash of that file"""
    license: str | None
    """license that the file or its folder states"""
    tensors: Mapping[str, Tensor]
    run: Path | None = None
    """run folder of the weights; None for other weights"""

    def __str__(self) -> str:
        """Returns the path, the beginning of the SHA-256 and the license."""
        return f"{self.path} (sha256 {self.sha256[:12]}…, license {self.license or 'not stated'})"


def open_weights(source: str) -> Given:
    """Returns the weights of a run folder, of a .safetensors file, or of a folder with `model.safetensors`.

    Raises BadInput if there are none, if they are stored as a pickle, or if the file is damaged or larger than the main
    memory.
    """
    known = f"name a run folder, a .safetensors file or a folder with {WEIGHTS}"
    with bad_input_as(source, known):
        path = Path(source)
        run = path if path.is_dir() and not (path / WEIGHTS).exists() else None
        file = path if not path.is_dir() else path / WEIGHTS if run is None else _exported(path)
        if file.suffix.lower() in PICKLES:
            raise _pickle_refused(file)
        if not file.exists():
            raise BadInput(f"{source}: there is no such file or folder; {known}.")
        if file.stat().st_size > main_memory():
            raise BadInput(f"{file}: larger than this machine's memory; name smaller weights.")
        tensors = checkpoint.read_tensors(file)
        return Given(path=file, sha256=checkpoint.sha256(file), license=_license(file), tensors=tensors, run=run)


def start_from_(encoder: Encoder, given: Given, allow_missing: bool = False) -> KeyReport:
    """Copies given weights into an encoder and returns a report to be printed. Raises BadInput as `Encoder.load_given_`
    does, and then leaves the encoder unchanged."""
    report = encoder.load_given_(given.tensors, str(given.path), allow_missing)
    return replace(report, source=str(given))


def given_encoder(given: Given) -> Encoder:
    """Returns the encoder that has the given weights, in evaluation mode. Raises BadInput if they are not from a run
    folder, since nothing else states how to build the encoder."""
    if given.run is None:
        raise BadInput(f"{given.path}: does not state how its encoder is built; name the folder of a run.")
    return checkpoint.load_encoder(given.run)


def _exported(folder: Path) -> Path:
    """Returns the file of the first encoder that a run exports. Raises BadInput if the folder is not that of a finished
    run."""
    if (folder / "config.json").is_file():
        return checkpoint.encoder_file(folder)
    if pickles := sorted(file for file in folder.iterdir() if file.suffix.lower() in PICKLES):
        raise _pickle_refused(pickles[0])
    if (folder / "run.json").is_file():
        command = f"sanslabel train --resume {shlex.quote(str(folder))}"
        raise BadInput(f"{folder}: no weights here, since the run has not ended; finish it with: {command}")
    raise BadInput(f"{folder}: no weights here (no config.json, no {WEIGHTS}); name the folder of a finished run.")


def _pickle_refused(path: Path) -> BadInput:
    return BadInput(
        f"{path}: pickles are not read, since they can run code; store the tensors as .safetensors "
        "(safetensors.torch.save_file) and name that file."
    )


def _license(file: Path) -> str | None:
    """Returns the license stated in the file's header, or in the config.json or README.md beside a
    `model.safetensors`."""
    with bad_input_as(file, "name a safetensors file that is intact"), safe_open(file, framework="pt") as content:
        stated: list[Any] = [(content.metadata() or {}).get("license")]
    config, readme = file.with_name("config.json"), file.with_name(README)
    if file.name == WEIGHTS and config.is_file():
        with suppress(ValueError):  # the weights can be used without a license
            parsed = parse_json(_text(config))
            stated.append(parsed.get("license") if isinstance(parsed, dict) else None)
    if file.name == WEIGHTS and readme.is_file() and (card := _text(readme)).startswith("---"):
        head, _, _ = card.removeprefix("---").partition("\n---")
        line = re.search(r"^license: *(.+)$", head, re.MULTILINE)
        stated.append(line and line.group(1).strip("'\" "))
    return next((text for text in stated if isinstance(text, str) and LICENSE.fullmatch(text)), None)


def _text(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(checkpoint.LARGEST_JSON).decode(errors="replace")
