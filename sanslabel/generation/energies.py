"""The energy of single images, as an outlier score: low for what is like the training data."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from io import BytesIO
from math import log
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sanslabel.checkpoint import replacing
from sanslabel.errors import BadInput
from sanslabel.generation.trained import Trained, trained
from sanslabel.sources import Source

if TYPE_CHECKING:
    from PIL.Image import Image

CODERS = ({"format": "PNG", "optimize": True}, {"format": "WEBP", "lossless": True})
"""of `compressed_nats`"""


@dataclass(frozen=True)
class Energies:
    """What `energies` found."""

    path: Path
    count: int
    unreadable: int
    """images that could not be read, and have no energy"""
    median: float
    auroc: float | None
    """the probability that an image of the foreign set has the higher energy; None without such a set"""
    slope: float | None
    """of the correction by complexity, energy for a nat of compressed size; None without it"""


def energies(
    run: str | Path,
    data: str | Path | None = None,
    *,
    against: str | Path | None = None,
    complexity: bool = False,
    out: str | Path | None = None,
    device: str | None = None,
) -> Energies:
    """Writes the energy of every image of `data` and of a foreign set `against`, sorted, the lowest first, with the
    columns set, id and energy: to a .csv or .parquet file, by default RUN/energies.csv. Images that cannot be read are
    left out and counted.

    data: by default what the run was trained on. Of both sets the test split, where there is one.
    complexity: takes off what an image costs as such, since simple images cost little by any model: the nats of its
        lossless compression (Serrà et al. 2020), times the slope of energy over these in the training data. (The paper
        has no slope: its energies are nats of the same eight bits.)
    BadInput for a method without energies of single images, DiskError.
    """
    model = trained(run, device)
    path = Path(out) if out is not None else model.run / "energies.csv"
    if path.suffix not in (".csv", ".parquet"):
        raise BadInput(f"--out {path}: energies are written as .csv or .parquet.")
    if path.suffix == ".parquet" and find_spec("pyarrow") is None:
        raise BadInput(f'--out {path}: Parquet needs pyarrow; pip install "sanslabel[data]", or name a .csv.')
    chosen = data if data is not None else model.said["data"]
    sets = {str(chosen): model.source(chosen)}
    if against is not None:
        sets[str(against)] = model.source(against)
        if len({source.fingerprint for source in sets.values()}) < 2:
            raise BadInput(f"--against {against}: is the same set; name a foreign one.")
    steepness = slope(model) if complexity else None
    names, ids, found = [], [], []
    for name, source in sets.items():
        values, rows = scored(model, source, steepness)
        names += [name] * len(rows)
        ids += [source.id(int(row)) for row in rows]
        found.append(values)
    order = torch.cat(found).argsort(stable=True).tolist()
    _write(path, [names[i] for i in order], [ids[i] for i in order], torch.cat(found)[order].tolist())
    return Energies(
        path=path,
        count=len(ids),
        unreadable=sum(map(len, sets.values())) - len(ids),
        median=found[0].median().item(),
        auroc=auroc(found[0], found[1]) if against is not None else None,
        slope=steepness,
    )


def scored(model: Trained, source: Source, slope: float | None = None) -> tuple[Tensor, Tensor]:
    """The energies (n,) of a source, and the rows (n,) that could be read."""
    found, rows = _measured(model, source, sizes=slope is not None)
    return found["energy"] if slope is None else found["energy"] - slope * found["size"], rows


def auroc(inside: Tensor, outside: Tensor) -> float:
    """The probability that one of `outside` (m,) is above one of `inside` (n,), a tie counting half (Mann-Whitney)."""
    ordered = inside.double().sort().values
    below = torch.searchsorted(ordered, outside.double()).double()
    up_to = torch.searchsorted(ordered, outside.double(), right=True).double()
    return ((below + up_to).mean() / (2 * len(inside))).item()


def compressed_nats(images: Tensor) -> Tensor:
    """The size of each image, (N, C, H, W) in [0, 1] -> (N,), as eight bits a number: of PNG and lossless WebP the
    smaller. Simple images can be large for one coder: the more of them, the better the bound on complexity."""
    from PIL import Image

    pixels = (images.float() * 255).round().to("cpu", torch.uint8)
    if pixels.shape[1] == 3:
        pictures = [Image.fromarray(part.numpy()) for part in pixels.permute(0, 2, 3, 1).contiguous()]
    else:  # the channels one below the other
        pictures = [Image.fromarray(part.numpy()) for part in pixels.flatten(1, 2)]
    smallest = [min(_bytes(picture, **coder) for coder in CODERS) for picture in pictures]
    return torch.tensor(smallest, device=images.device) * (8 * log(2))


def _bytes(picture: Image, **coder: Any) -> int:
    file = BytesIO()
    picture.save(file, **coder)
    return file.tell()


def slope(model: Trained) -> float:
    """Of the least squares of energy over compressed size in the training data."""
    found, _ = _measured(model, model.source(split="train"), sizes=True)
    centered = found["size"] - found["size"].mean()
    return ((centered * found["energy"]).sum() / centered.square().sum().clamp(min=1e-12)).item()


def _measured(model: Trained, source: Source, sizes: bool) -> tuple[dict[str, Tensor], Tensor]:
    """The "energy" of every image (n,), with its "size" where that is asked for, and the rows (n,)."""
    functions = {"energy": lambda images: model.method.energies(model.net, images)[:, None]}
    if sizes:
        functions["size"] = lambda images: compressed_nats(images)[:, None]
    found, rows = model.told(functions, source)
    return {name: values[:, 0].double() for name, values in found.items()}, rows


def _write(path: Path, sets: list[str], ids: list[str], values: list[float]) -> None:
    columns = {"set": sets, "id": ids, "energy": values}
    with replacing(path) as partial:
        if path.suffix == ".parquet":
            import pyarrow
            import pyarrow.parquet

            columns["id"] = [name.encode(errors="replace").decode() for name in ids]  # names may be no valid text
            table = pyarrow.table(columns).replace_schema_metadata({"format": "1"})
            pyarrow.parquet.write_table(table, partial)
        else:
            import csv

            with partial.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
                writer = csv.writer(file)
                writer.writerow(columns)
                writer.writerows(zip(*columns.values(), strict=True))
