"""A cache of features on disk. Everything that decides their bits also decides the name of their file."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sanslabel.checkpoint import read_tensors, replacing, write_safetensors
from sanslabel.distributed import rank, world_size
from sanslabel.errors import BadInput, DiskError
from sanslabel.evaluation.representation import Representation, RepresentOptions
from sanslabel.sources import Source

LARGEST = 1 << 30
"""the most bytes of one source's features that are kept"""


@dataclass(frozen=True)
class FeatureCache:
    """A folder of features.

    A file is named by a digest of the encoder's configuration and weights, the data's fingerprint, and all else that
    decides the bits. Features whose file cannot be read are computed again.
    """

    folder: Path | None
    """None keeps nothing"""

    def load(self, file: Path | None, device: torch.device, samples: int) -> tuple[Tensor, Tensor] | None:
        """Returns features (n, D) and the positions (n,) of their images among `samples`, or None if they are unknown.

        Several processes compute features together instead, since a file that one of them sees may be hidden from
        another.
        """
        if file is None or world_size() > 1 or not file.is_file():
            return None
        try:
            tensors = read_tensors(file)
            features, index = tensors["features"], tensors["rows"]
        except (BadInput, KeyError):
            return None
        if features.ndim != 2 or not features.is_floating_point() or index.shape != features.shape[:1]:
            return None
        if index.dtype != torch.int64 or ((index < 0) | (index >= samples)).any():
            return None
        return features.to(device if device.type == "cuda" else "cpu"), index

    def save(self, file: Path | None, features: Tensor, index: Tensor) -> None:
        """Writes features (n, D) and the positions (n,) of their images, on the first process only. Warns if the disk
        refuses them."""
        if file is None or rank() > 0 or features.nbytes > LARGEST:
            return
        try:
            with replacing(file) as partial:
                write_safetensors({"features": features.cpu().contiguous(), "rows": index.contiguous()}, partial)
        except DiskError as error:
            warnings.warn(f"Features are not kept: {error}", stacklevel=2)

    def file(self, encoder: Representation, source: Source, options: RepresentOptions) -> Path | None:
        """Returns the file of an encoder's features, as `represent` computes them with these options.

        Returns None for a function that is not a module, such as raw pixels, since its features cost nothing. The name
        is a digest, for which all weights are read.
        """
        if self.folder is None or not isinstance(encoder, nn.Module):
            return None
        how = [source.fingerprint, repr(options["reads"]), str(options["dtype"]), options["device"].type]
        how += [repr(spec) for spec in source.inputs.values() if getattr(spec, "levels", None)]
        return self.folder / f"{digest(encoder, how)}.safetensors"


def digest(module: nn.Module, how: list[Any]) -> str:
    """Returns the first 20 digits of a SHA-256 of a module's configuration and weights, and of how it is used."""
    configs = [m.config for m in module.modules() if hasattr(m, "config")]  # a readout's, and its encoder's
    content = [str(module), configs, how, torch.__version__]
    result = sha256(json.dumps(content, default=str).encode())
    for name, tensor in module.state_dict().items():
        result.update(f"{name}{tuple(tensor.shape)}".encode())
        result.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return result.hexdigest()[:20]
