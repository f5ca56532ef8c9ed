"""What a run leaves on disk: checkpoints that cannot be half-written, and the encoder.

A checkpoint is a folder of safetensors and JSON. It is written under a temporary name, every file flushed to the disk,
a manifest of sizes and sha256 last, and then renamed: whatever bears its name is whole, and `newest` proves it by the
manifest before it is read. No pickle is read or written.
"""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from hashlib import file_digest
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from sanslabel import encoders, run_config
from sanslabel.encoders import Encoder
from sanslabel.errors import BadInput, DiskError, NotFinite, bad_input_as
from sanslabel.serialization import parse_json

FORMAT = 1
"""of every JSON and safetensors file but run.json; a newer one is refused"""

LARGEST_JSON, LARGEST_HEADER = 1 << 22, 1 << 22
"""bytes of a JSON file, and of the JSON at the head of a safetensors file, at most: of thirty thousand tensors"""

Tensors = Mapping[str, Tensor]


def save(folder: Path, step: int, parts: Mapping[str, Tensors], state: Mapping[str, Any], keep: int = 2) -> Path:
    """Writes `parts` (file name -> tensors) and `state` as checkpoint `step` in `folder`, and drops all but the last
    `keep` up to it; later ones are of a past that a resume has left. A whole one of that step stays as it is, since
    a run has one state after so many steps. NotFinite for a value that is not finite, and DiskError if the disk
    refuses; older checkpoints are then as they were."""
    for part, tensors in parts.items():
        for tensor, value in tensors.items():
            if value.is_floating_point() and not torch.isfinite(value).all():
                raise NotFinite(
                    f"{folder}: not saved after step {step}, since {tensor} of {part} has values that are not finite;"
                    " start again with a lower --lr. The last good checkpoint is kept."
                )
    name = f"step-{step:08d}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        sweep(folder)
        if not (folder / name).exists() or _fault(folder / name) is not None:
            partial = folder / f".{name}.part"
            partial.mkdir()
            for part, tensors in parts.items():
                _write_tensors(partial / f"{part}.safetensors", tensors)
            _write_json(partial / "state.json", {"format": FORMAT, "step": step, **state})
            files = {f.name: {"bytes": f.stat().st_size, "sha256": sha256(f)} for f in sorted(partial.iterdir())}
            _write_json(partial / "manifest.json", _manifest(files))
            _flush(partial)
            if (folder / name).exists():
                _drop(folder / name)
            partial.rename(folder / name)
            _flush(folder)
        later = [c for c in checkpoints(folder) if c.name > name]
        for old in later + [c for c in checkpoints(folder) if c not in later][keep:]:
            _drop(old)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(folder / f".{name}.part", ignore_errors=True)
        raise DiskError(f"{folder}: the checkpoint could not be written ({error}); free some space.") from error
    return folder / name


def sweep(folder: Path) -> None:
    """Removes what a save that was cut off has left. OSError if the disk refuses."""
    for left in folder.glob(".*.part"):
        shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink(missing_ok=True)


def checkpoints(folder: Path) -> list[Path]:
    """All that bear a checkpoint's name, the newest first."""
    return sorted(folder.glob("step-*"), reverse=True)


def newest(folder: Path) -> Path | None:
    """The newest whole checkpoint, with a warning for each that is not; None where there is none at all. BadInput where
    none is whole."""
    found = checkpoints(folder)
    for checkpoint in found:
        if (fault := _fault(checkpoint)) is None:
            return checkpoint
        warnings.warn(f"{fault}; falling back to the checkpoint before it", stacklevel=2)
    if found:
        raise BadInput(f"{folder}: none of the checkpoints is whole; start a new run.")
    return None


def load_networks_(net: nn.Module, checkpoint: Path) -> None:
    """Loads the networks of a checkpoint."""
    path = checkpoint / "networks.safetensors"
    load_strictly_(net, read_tensors(path), path)


def read_state(checkpoint: Path) -> dict[str, Any]:
    """With the steps that were done; BadInput for what has none."""
    state = read_json(checkpoint / "state.json")
    if type(state.get("step")) is not int or state["step"] < 0:
        raise BadInput(f"{checkpoint / 'state.json'}: does not say after how many steps it was written; remove it.")
    return state


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file as they were saved, those that share memory once more so."""
    with bad_input_as(path, "it is no safetensors file, or damaged"):
        with _regular(path).open("rb") as file:
            if (header := int.from_bytes(file.read(8), "little")) > LARGEST_HEADER:
                raise BadInput(f"{path}: not a readable safetensors file (a header of {header:,} bytes).")
        with safe_open(path, framework="pt") as file:
            about = parse_json((file.metadata() or {}).get("sanslabel", "{}"))
            if about.get("format", FORMAT) != FORMAT:
                raise BadInput(f"{path}: written by another version of sanslabel; upgrade to read it.")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return tensors | {twin: tensors[name] for twin, name in about.get("shared", {}).items()}


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def read_json(path: Path, newest: int = FORMAT) -> dict[str, Any]:
    """BadInput for what is no JSON object or of a newer format."""
    with bad_input_as(path, "it is no JSON file, or damaged"), _regular(path).open("rb") as file:
        if len(text := file.read(LARGEST_JSON + 1)) > LARGEST_JSON:
            raise BadInput(f"{path}: more than {LARGEST_JSON:,} bytes, which no file of a run has.")
        content = parse_json(text)
    if not isinstance(content, dict):
        raise BadInput(f"{path}: not a JSON object.")
    if content.get("format") not in range(1, newest + 1):
        raise BadInput(
            f"{path}: format {content.get('format')!r} where {newest} is known; upgrade sanslabel to read it."
        )
    return content


def read_run(run: Path, needed: Collection[str] = ()) -> dict[str, Any]:
    """What run.json says of the plan, checked; BadInput where it is not there, or says less than is needed."""
    path = run / "run.json"
    if not path.is_file():
        raise BadInput(f"{run}: no run here (no run.json); name the folder of a run.")
    said = run_config.upgraded(read_json(path, run_config.FORMAT))
    if missing := set(needed) - said.keys():
        raise BadInput(f"{path}: does not describe a run (no {', '.join(sorted(missing))}).")
    try:
        return run_config.checked(said)
    except BadInput as error:
        raise BadInput(f"{path}: does not describe a run ({error})") from error


def write_json(path: Path, content: Mapping[str, Any], version: int = FORMAT) -> None:
    """Whole or not at all. DiskError if the disk refuses."""
    with replacing(path) as partial:
        _write_json(partial, {"format": version, **{k: v for k, v in content.items() if k != "format"}})


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name to write to, which then takes the place of `path`, whole or not at all; its folder is made.
    DiskError if the disk refuses."""
    partial = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.unlink(missing_ok=True)  # a link of that name would lead the writing elsewhere
        yield partial
        partial.replace(path)  # on Windows, `rename` refuses where there is one
        _flush(path.parent)
    except (OSError, SafetensorError) as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise DiskError(f"{path}: could not be written ({error}); free some space, or write elsewhere.") from error


def save_encoders(run: Path, networks: Mapping[str, nn.Module], weights: Mapping[str, Tensors] | None = None) -> None:
    """Writes the encoders that a method exports: config.json, which has the configuration of each, the first as
    encoder.safetensors, the others as encoder-NAME.safetensors. weights: their state where it is not to be had of them,
    since it lies in parts."""
    first, *_ = networks
    for name, network in networks.items():
        with replacing(_encoder_file(run, name, first)) as partial:
            _write_tensors(partial, network.state_dict() if weights is None else weights[name])
    write_json(run / "config.json", {"networks": {name: network.config for name, network in networks.items()}})


def load_encoder(run: str | Path, network: str | None = None) -> Encoder:
    """The trained encoder of a run folder, in evaluation mode: images (N, C, H, W) in [0, 1] -> (N, D).

    network: which of the exported ones ("student", "teacher", …); the first by default. BadInput if the folder has no
    encoder, or one whose weights do not match its configuration key by key.
    """
    run = Path(run)
    if not (run / "config.json").is_file():
        raise BadInput(f"{run}: no trained encoder here (no config.json); name the folder of a finished run.")
    path, config = _exported(run, network)
    outline, tensors = encoders.outline(config, run / "config.json"), read_tensors(path)
    check_fit(outline, tensors, path)  # before memory is taken for what a configuration asks for
    with torch.random.fork_rng(devices=()):  # the weights drawn here are overwritten
        encoder = encoders.build(**config)
    load_strictly_(encoder, tensors, path)
    return encoder.eval()


def encoder_file(run: str | Path, network: str | None = None) -> Path:
    """Where the weights of an exported encoder lie."""
    return _exported(Path(run), network)[0]


def load_strictly_(module: nn.Module, tensors: Tensors, path: Path) -> None:
    """Loads tensors that fit just so, see `check_fit`."""
    check_fit(module, tensors, path)
    own = module.state_dict()
    with torch.no_grad():
        for name, tensor in tensors.items():
            own[name].copy_(tensor)


def check_fit(module: nn.Module, tensors: Tensors, path: Path) -> None:
    """BadInput names the first tensor whose name or shape is not just the module's."""
    own = module.state_dict()
    for name in sorted(own.keys() ^ tensors.keys()):
        raise BadInput(
            f"{path}: {'lacks' if name in own else 'has an unknown'} tensor {name!r}; it is of another network."
        )
    for name, tensor in tensors.items():
        if tensor.shape != own[name].shape:
            shapes = f"{tuple(tensor.shape)} where {tuple(own[name].shape)} is needed"
            raise BadInput(f"{path}: tensor {name!r} is of shape {shapes}; it is of another network.")
        if tensor.is_complex() != own[name].is_complex():
            raise BadInput(f"{path}: tensor {name!r} is of {tensor.dtype}; it is of another network.")


def exported(run: str | Path) -> list[str]:
    """The names of the encoders that a run has, the default first."""
    return list(_networks(Path(run)))


def _networks(run: Path) -> dict[str, Any]:
    """Name -> configuration."""
    path = run / "config.json"
    networks = read_json(path).get("networks")
    if not isinstance(networks, dict) or not networks:
        raise BadInput(f"{path}: does not describe an encoder (no networks).")
    if wrong := [name for name in networks if not name.isidentifier()]:  # it becomes part of a file's name
        raise BadInput(f"{path}: {wrong[0]!r} is no name of a network; take it out.")
    return networks


def _exported(run: Path, network: str | None) -> tuple[Path, dict[str, Any]]:
    """File and configuration of an exported encoder, the first one where none is named."""
    networks = _networks(run)
    first, *_ = networks
    if network is not None and network not in networks:
        raise BadInput(f"{run}: has no network {network!r}; there are: {', '.join(networks)}.")
    return _encoder_file(run, network or first, first), networks[network or first]


def _encoder_file(run: Path, network: str, first: str) -> Path:
    return run / ("encoder.safetensors" if network == first else f"encoder-{network}.safetensors")


def _fault(checkpoint: Path) -> str | None:
    """What is wrong with a checkpoint, by its manifest. The manifest is itself held against the only text that its
    content can have, so that no byte of it can change unseen."""
    path = checkpoint / "manifest.json"
    if not path.is_file():
        return f"{path} is missing"
    try:
        with bad_input_as(path, "it is not what was written"):
            files = read_json(path)["files"]
            if path.read_bytes() != _text(_manifest(files)).encode():
                return f"{path} is not what was written"
            # Neither more nor less than lies there: a name cannot lead elsewhere, and what is not listed is not read.
            there = {f.name for f in checkpoint.glob("[!.]*")} - {path.name}
            if odd := sorted(files.keys() ^ there):
                fault = "is not listed there" if odd[0] in there else "is missing"
                return f"{path} is not what was written, or {odd[0]} {fault}"
            for name, facts in files.items():
                file = checkpoint / name
                as_written = file.is_file() and not file.is_symlink() and file.stat().st_size == facts["bytes"]
                if not as_written or sha256(file) != facts["sha256"]:
                    return f"{file} is not what was written, by its manifest.json"
    except BadInput as error:
        return str(error).removesuffix(".")
    return None


def _manifest(files: Mapping[str, Any]) -> dict[str, Any]:
    return {"format": FORMAT, "files": files}


def _drop(checkpoint: Path) -> None:
    """Takes its name from a checkpoint first: one that is deleted in part never bears it."""
    doomed = checkpoint.with_name(f".{checkpoint.name}.old.part")
    checkpoint.rename(doomed)
    shutil.rmtree(doomed)


def _regular(path: Path) -> Path:
    """BadInput for what is there and no file: a pipe would be waited for, a device has no end."""
    if path.exists() and not path.is_file():
        raise BadInput(f"{path}: not a file; remove it.")
    return path


def _write_tensors(path: Path, tensors: Tensors) -> None:
    """Tensors that share memory whole (one module under two names) are written once."""
    unique: dict[str, Tensor] = {}
    names: dict[tuple[int, torch.Size, tuple[int, ...]], str] = {}
    shared: dict[str, str] = {}
    for name, tensor in tensors.items():
        place = (tensor.data_ptr(), tensor.shape, tensor.stride())
        if tensor.numel() and place in names:
            shared[name] = names[place]
        else:
            names[place] = name
            unique[name] = tensor.detach().contiguous().cpu()
    # One entry alone, since the library writes several in a random order, and equal state is to be equal bytes.
    save_file(unique, path, metadata={"sanslabel": json.dumps({"format": FORMAT, "shared": shared})})
    _flush(path)


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_bytes(_text(content).encode())  # the same bytes on every system
    _flush(path)


def _text(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def _flush(path: Path) -> None:
    """Waits until the disk has the file, or the folder's list of names, which Windows does not let anybody wait for."""
    folder = path.is_dir()
    if folder and not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(path, os.O_RDONLY if folder else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
