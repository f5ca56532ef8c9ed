"""Features that were computed once, by what they are of."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from sanslabel.checkpoint import read_tensors, replacing
from sanslabel.distributed import rank, world_size
from sanslabel.errors import BadInput, DiskError
from sanslabel.evaluation.representation import Encoder
from sanslabel.sources import Source

LARGEST = 1 << 30
"""bytes of features that are kept of one source"""


@dataclass(frozen=True)
class FeatureCache:
    """A folder of features, or none: nothing is then kept. A file is named by a digest of the encoder's configuration
    and weights, the data's fingerprint and all that decides the bits; what is not to be read is computed again."""

    folder: Path | None

    def recalled(self, path: Path | None, device: torch.device, samples: int) -> tuple[Tensor, Tensor] | None:
        """Features (n, D) and the rows (n,) that they are of, out of so many, where they are known. Many processes
        share the work instead, since what one of them finds another may not."""
        if path is None or world_size() > 1 or not path.is_file():
            return None
        try:
            found = read_tensors(path)
            features, rows = found["features"], found["rows"]
        except (BadInput, KeyError):
            return None
        if features.ndim != 2 or not features.is_floating_point() or rows.shape != features.shape[:1]:
            return None
        if rows.dtype != torch.int64 or ((rows < 0) | (rows >= samples)).any():
            return None
        return features.to(device if device.type == "cuda" else "cpu"), rows

    def keep(self, path: Path | None, features: Tensor, rows: Tensor) -> None:
        """A disk that refuses is told of, and is no reason to stop. The first process alone writes."""
        if path is None or rank() > 0 or features.nbytes > LARGEST:
            return
        try:
            with replacing(path) as partial:
                save_file({"features": features.cpu().contiguous(), "rows": rows.contiguous()}, partial)
        except DiskError as error:
            warnings.warn(f"Features are not kept: {error}", stacklevel=2)

    def place(self, encoder: Encoder, source: Source, options: Mapping[str, Any]) -> Path | None:
        """The file of an encoder's features of a source, as `represent` makes them with these options; None for what is
        no module, such as pixels, which cost nothing. Reads all weights."""
        if self.folder is None or not isinstance(encoder, nn.Module):
            return None
        how = [source.fingerprint, options["image_size"], str(options["dtype"]), options["device"].type]
        return self.folder / f"{digest(encoder, how)}.safetensors"


def digest(module: nn.Module, how: list[Any]) -> str:
    """Of a module's configuration and weights, and of how it is used: the first 20 digits of a sha256."""
    configs = [m.config for m in module.modules() if hasattr(m, "config")]  # a reading's own, and its encoder's
    said = [str(module), configs, how, torch.__version__]
    found = sha256(json.dumps(said, default=str).encode())
    for name, tensor in module.state_dict().items():
        found.update(f"{name}{tuple(tensor.shape)}".encode())
        found.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()[:20]
