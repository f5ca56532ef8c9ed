"""Checkpoints that cannot be half-written, and the exported encoders of a run.

A checkpoint is a folder of safetensors and JSON. It is written under a temporary name, and every file is flushed to the
disk. The last file is a manifest of sizes and SHA-256. Then the folder is renamed, so a folder with a checkpoint's name
is complete. `newest` proves that by the manifest before anything is read. No pickle is read or written.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialized
from safetensors.torch import save_file
from torch import Tensor, nn

from sanslabel import encoders
from sanslabel.encoders import Encoder
from sanslabel.errors import BadInput, DiskError, NotFinite, bad_input_as
from sanslabel.serialization import parse_json

FORMAT = 1
"""the format of every JSON and safetensors file except run.json; a newer one is refused"""

LARGEST_JSON, LARGEST_HEADER = 1 << 22, 1 << 22
"""the most bytes of a JSON file, and of the JSON at the head of a safetensors file: enough for 30,000 tensors"""

RENAMED_TENSORS = {"rows": "embeddings", "next": "cursor", "part": "tile_projector", "whole": "joint_projector"}
"""components of tensors' names in earlier checkpoints -> their names today: for queues, banks and PIRL's heads"""

Tensors = Mapping[str, Tensor]


def save(folder: Path, step: int, files: Mapping[str, Tensors], state: Mapping[str, Any], keep: int = 2) -> Path:
    """Writes the checkpoint of a step, and returns its folder.

    files: the tensors of each file, by the file's name.
    state: the content of state.json besides the step.
    keep: how many checkpoints up to this step stay. Later ones are removed, since the run was resumed before them.

    An undamaged checkpoint of that step stays as it is, since a run has only one state after each step. Raises
    NotFinite for a value that is not finite, and DiskError if the disk refuses; older checkpoints are then unchanged.
    """
    _check_finite(folder, step, files)
    name = f"step-{step:08d}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        sweep(folder)
        if not (folder / name).exists() or _fault(folder / name) is not None:
            _write_checkpoint(folder, name, step, files, state)
        later = [c for c in checkpoints(folder) if c.name > name]
        for old in later + [c for c in checkpoints(folder) if c not in later][keep:]:
            _remove(old)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(folder / f".{name}.part", ignore_errors=True)
        raise DiskError(f"{folder}: the checkpoint could not be written ({error}); free some space.") from error
    return folder / name


def sweep(folder: Path) -> None:
    """Removes the files that an interrupted save has left. Raises OSError if the disk refuses."""
    for remainder in folder.glob(".*.part"):
        if remainder.is_dir() and not remainder.is_symlink():
            shutil.rmtree(remainder)
        else:
            remainder.unlink(missing_ok=True)


def keep_newest(folder: Path) -> None:
    """Removes all checkpoints but the newest undamaged one, for a run that has ended. Warns if the disk refuses. Raises
    BadInput if all are damaged."""
    last = newest(folder)
    try:
        for old in checkpoints(folder):
            if old != last:
                _remove(old)
    except OSError as error:
        warnings.warn(f"{folder}: earlier checkpoints could not be removed ({error}); remove them", stacklevel=2)


def checkpoints(folder: Path) -> list[Path]:
    """Returns all folders with a checkpoint's name, the newest first."""
    return sorted(folder.glob("step-*"), reverse=True)


def newest_step(folder: Path) -> int:
    """Returns the step of the newest checkpoint by its name, or 0 if there are no checkpoints."""
    return max((int(digits) for path in checkpoints(folder) if (digits := path.name[5:]).isdecimal()), default=0)


def newest(folder: Path) -> Path | None:
    """Returns the newest undamaged checkpoint, or None if there are no checkpoints. Warns of each newer one that is
    damaged. Raises BadInput if all are damaged."""
    candidates = checkpoints(folder)
    for checkpoint in candidates:
        if (fault := _fault(checkpoint)) is None:
            return checkpoint
        warnings.warn(f"{fault}; falling back to the checkpoint before it", stacklevel=2)
    if candidates:
        raise BadInput(f"{folder}: all checkpoints are damaged; start a new run.")
    return None


def load_networks_(net: nn.Module, checkpoint: Path) -> None:
    """Loads the networks of a checkpoint. Raises BadInput if they are other networks."""
    path = checkpoint / "networks.safetensors"
    load_strictly_(net, with_new_names(read_tensors(path), net.state_dict()), path)


def with_new_names(tensors: Tensors, known: Collection[str]) -> dict[str, Tensor]:
    """Returns the tensors of a checkpoint under the names of today, since earlier checkpoints have other names.

    known: the names that today's networks have, which stay as they are. The state of an optimizer has names of the form
        player/slot/name.
    """
    return {_new_name(name, known): tensor for name, tensor in tensors.items()}


def _new_name(name: str, known: Collection[str]) -> str:
    prefix, _, of_tensor = name.rpartition("/")
    if of_tensor in known:
        return name
    renamed = ".".join(RENAMED_TENSORS.get(component, component) for component in of_tensor.split("."))
    return f"{prefix}/{renamed}" if prefix else renamed


def read_state(checkpoint: Path) -> dict[str, Any]:
    """Returns the content of state.json, with the number of steps that were done. Raises BadInput if it has none."""
    state = read_json(checkpoint / "state.json")
    if type(state.get("step")) is not int or state["step"] < 0:
        raise BadInput(f"{checkpoint / 'state.json'}: does not say after how many steps it was written; remove it.")
    return state


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Returns the tensors of a safetensors file. Tensors that shared memory when they were saved share it again. Raises
    BadInput if the file is damaged or of a newer format."""
    with bad_input_as(path, "it is no safetensors file, or damaged"):
        with _regular(path).open("rb") as file:
            if (header := int.from_bytes(file.read(8), "little")) > LARGEST_HEADER:
                raise BadInput(f"{path}: not a readable safetensors file (a header of {header:,} bytes).")
        with safe_open(path, framework="pt") as file:
            metadata = parse_json((file.metadata() or {}).get("sanslabel", "{}"))
            if metadata.get("format", FORMAT) != FORMAT:
                raise BadInput(f"{path}: written by another version of sanslabel; upgrade to read it.")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return tensors | {twin: tensors[name] for twin, name in metadata.get("shared", {}).items()}


def sha256(path: Path) -> str:
    """Returns the SHA-256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def weights_sha256(tensors: Tensors) -> str:
    """Returns the SHA-256 that a file with these tensors would have, in hexadecimal."""
    return hashlib.sha256(serialized(*_stored(tensors))).hexdigest()


def read_json(path: Path, newest: int = FORMAT) -> dict[str, Any]:
    """Returns the JSON object of a file. Raises BadInput for anything else, and for a format after `newest`."""
    with bad_input_as(path, "it is no JSON file, or damaged"), _regular(path).open("rb") as file:
        if len(text := file.read(LARGEST_JSON + 1)) > LARGEST_JSON:
            raise BadInput(f"{path}: more than {LARGEST_JSON:,} bytes, which no file of a run has.")
        content = parse_json(text)
    if not isinstance(content, dict):
        raise BadInput(f"{path}: not a JSON object.")
    if content.get("format") not in range(1, newest + 1):
        raise BadInput(
            f"{path}: format {content.get('format')!r}, and {newest} is the newest known; upgrade sanslabel to read it."
        )
    return content


def write_json(path: Path, content: Mapping[str, Any], version: int = FORMAT) -> None:
    """Writes a JSON object in one step, so that nobody reads half of it. Raises DiskError if the disk refuses."""
    with replacing(path) as partial:
        _write_json(partial, {"format": version, **{k: v for k, v in content.items() if k != "format"}})


def write_file(path: Path, content: bytes) -> None:
    """Writes a file in one step, so that nobody reads half of it. Raises DiskError if the disk refuses."""
    with replacing(path) as partial:
        partial.write_bytes(content)
        _flush(partial)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Context manager that yields a temporary path to write to, which then replaces `path` in one step. The folder is
    created. Raises DiskError if the disk refuses."""
    partial = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.unlink(missing_ok=True)  # a symbolic link of that name would redirect the writing
        yield partial
        partial.replace(path)  # on Windows, `rename` does not replace a file
        _flush(path.parent)
    except (OSError, SafetensorError) as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise DiskError(f"{path}: could not be written ({error}); free some space, or write elsewhere.") from error


def save_encoders(run: Path, networks: Mapping[str, nn.Module], weights: Mapping[str, Tensors] | None = None) -> None:
    """Writes the encoders that a method exports.

    The first becomes encoder.safetensors, the others encoder-NAME.safetensors, and config.json has the configuration of
    each. weights: their full tensors, if the networks are sharded over processes.
    """
    first, *_ = networks
    for name, network in networks.items():
        with replacing(_weights_file(run, name, first)) as partial:
            _write_tensors(partial, network.state_dict() if weights is None else weights[name])
    write_json(run / "config.json", {"networks": {name: network.config for name, network in networks.items()}})


def load_encoder(run: str | Path, network: str | None = None) -> Encoder:
    """Returns the exported encoder of a folder, in evaluation mode: images (N, C, H, W) in [0, 1] -> (N, D).

    network: the name of the exported encoder ("student", "teacher", …), by default the first. Raises BadInput if the
    folder has no exported encoder, or one whose weights do not match its configuration key by key.
    """
    run = Path(run)
    if not (run / "config.json").is_file():
        raise BadInput(f"{run}: no trained encoder here (no config.json); name the folder of a run.")
    config, path = exported_config(run, network), encoder_file(run, network)
    outline, tensors = encoders.outline(config, run / "config.json"), read_tensors(path)
    check_fit(outline, tensors, path)  # before the encoder takes memory
    return encoder_of(config, tensors, path)


def encoder_of(config: Mapping[str, Any], tensors: Tensors, path: Path) -> Encoder:
    """Returns the encoder of a configuration with the given weights, in evaluation mode. Raises BadInput, which names
    the path, if they do not fit."""
    with torch.random.fork_rng(devices=()):  # the weights drawn here are overwritten
        encoder = encoders.build(**encoders.encoder_class(config["name"]).completed(config, tensors))
    load_strictly_(encoder, tensors, path)
    encoder.range_unknown = True
    return encoder.eval()


def exported(run: str | Path) -> list[str]:
    """Returns the names of the encoders that a run exported, the default first."""
    return list(_configs(Path(run)))


def exported_config(run: str | Path, network: str | None = None) -> dict[str, Any]:
    """Returns the configuration of an exported encoder, by default the first. Raises BadInput if there is none."""
    configs = _configs(Path(run))
    return configs[chosen_network(run, configs, network)]


def encoder_file(run: str | Path, network: str | None = None) -> Path:
    """Returns the file with the weights of an exported encoder. Raises BadInput if there is none."""
    configs = _configs(Path(run))
    return _weights_file(Path(run), chosen_network(run, configs, network), next(iter(configs)))


def chosen_network(run: str | Path, networks: Collection[str], network: str | None) -> str:
    """Returns the name of the encoder that `network` chooses, by default the first. Raises BadInput for an unknown
    name."""
    if network is not None and network not in networks:
        raise BadInput(f"{run}: has no network {network!r}; there are: {', '.join(networks)}.")
    return network or next(iter(networks))


def load_strictly_(module: nn.Module, tensors: Tensors, path: Path) -> None:
    """Copies tensors into a module. Raises BadInput if a name or a shape differs."""
    check_fit(module, tensors, path)
    state = module.state_dict()
    with torch.no_grad():
        for name, tensor in tensors.items():
            state[name].copy_(tensor)


def check_fit(module: nn.Module, tensors: Tensors, path: Path) -> None:
    """Raises BadInput for the first tensor whose name or shape differs from the module's."""
    state = module.state_dict()
    for name in sorted(state.keys() ^ tensors.keys()):
        raise BadInput(
            f"{path}: {'lacks' if name in state else 'has an unknown'} tensor {name!r}; it is of another network."
        )
    for name, tensor in tensors.items():
        if tensor.shape != state[name].shape:
            shapes = f"{tuple(tensor.shape)} where {tuple(state[name].shape)} is needed"
            raise BadInput(f"{path}: tensor {name!r} is of shape {shapes}; it is of another network.")
        if tensor.is_complex() != state[name].is_complex():
            raise BadInput(f"{path}: tensor {name!r} is of {tensor.dtype}; it is of another network.")


def _configs(run: Path) -> dict[str, Any]:
    """Returns the configurations of the exported encoders, by name."""
    path = run / "config.json"
    configs = read_json(path).get("networks")
    if not isinstance(configs, dict) or not configs:
        raise BadInput(f"{path}: does not describe an encoder (no networks).")
    if wrong := [name for name in configs if not name.isidentifier()]:  # it becomes part of a file's name
        raise BadInput(f"{path}: {wrong[0]!r} is no name of a network; take it out.")
    return configs


def _weights_file(run: Path, network: str, first: str) -> Path:
    return run / ("encoder.safetensors" if network == first else f"encoder-{network}.safetensors")


def _check_finite(folder: Path, step: int, files: Mapping[str, Tensors]) -> None:
    for file, tensors in files.items():
        for name, value in tensors.items():
            if value.is_floating_point() and not torch.isfinite(value).all():
                raise NotFinite(
                    f"{folder}: not saved after step {step}, since {name} of {file} has values that are not finite;"
                    " start again with a lower --lr. The last good checkpoint is kept."
                )


def _write_checkpoint(
    folder: Path, name: str, step: int, files: Mapping[str, Tensors], state: Mapping[str, Any]
) -> None:
    """Writes a checkpoint under a hidden name and renames it when everything is on the disk."""
    partial = folder / f".{name}.part"
    partial.mkdir()
    for file, tensors in files.items():
        _write_tensors(partial / f"{file}.safetensors", tensors)
    _write_json(partial / "state.json", {"format": FORMAT, "step": step, **state})
    written = {f.name: {"bytes": f.stat().st_size, "sha256": sha256(f)} for f in sorted(partial.iterdir())}
    _write_json(partial / "manifest.json", _manifest(written))
    _flush(partial)
    if (folder / name).exists():
        _remove(folder / name)
    partial.rename(folder / name)
    _flush(folder)


def _fault(checkpoint: Path) -> str | None:
    """Returns the fault of a checkpoint, or None if it agrees with its manifest. The manifest must be exactly the text
    that `save` writes for its content, so that no byte of it can change unnoticed."""
    path = checkpoint / "manifest.json"
    if not path.is_file():
        return f"{path} is missing"
    try:
        with bad_input_as(path, "it is not what was written"):
            files = read_json(path)["files"]
            if path.read_bytes() != _text(_manifest(files)).encode():
                return f"{path} is not what was written"
            # The folder must have exactly the files of the manifest. Then no name in the manifest leads elsewhere, and
            # no file outside of the manifest is read.
            present = {f.name for f in checkpoint.glob("[!.]*")} - {path.name}
            if odd := sorted(files.keys() ^ present):
                fault = "is not listed there" if odd[0] in present else "is missing"
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


def _remove(checkpoint: Path) -> None:
    """Removes a checkpoint. It is renamed first, so that a half-removed folder never has a checkpoint's name."""
    unnamed = checkpoint.with_name(f".{checkpoint.name}.old.part")
    checkpoint.rename(unnamed)
    shutil.rmtree(unnamed)


def _regular(path: Path) -> Path:
    """Returns the path. Raises BadInput if it exists but is not a file: a pipe may block the reader, and a device may
    have no end."""
    if path.exists() and not path.is_file():
        raise BadInput(f"{path}: not a file; remove it.")
    return path


def _write_tensors(path: Path, tensors: Tensors) -> None:
    unique, metadata = _stored(tensors)
    write_safetensors(unique, path, metadata)
    _flush(path)


def write_safetensors(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str] | None = None) -> None:
    """Writes a safetensors file with the permissions of any new file. The library itself makes files that only their
    owner can read, whatever the umask."""
    path.touch()
    mode = path.stat().st_mode
    save_file(tensors, path, metadata)
    path.chmod(mode)


def _stored(tensors: Tensors) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Returns the tensors and the metadata of a file. Tensors that share all of their memory, such as a module under
    two names, are stored once."""
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
    # The metadata have one entry only: the library writes several in a random order, and equal state must give equal
    # bytes.
    return unique, {"sanslabel": json.dumps({"format": FORMAT, "shared": shared})}


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_bytes(_text(content).encode())  # the same bytes on every system
    _flush(path)


def _text(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def _flush(path: Path) -> None:
    """Waits until the disk has the file, or the folder's list of names. Windows cannot wait for a folder."""
    folder = path.is_dir()
    if folder and not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(path, os.O_RDONLY if folder else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
