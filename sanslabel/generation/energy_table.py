"""The energy of single images, as an outlier score: low for images like the training data."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import count
from pathlib import Path

import torch
from torch import Tensor

from sanslabel.checkpoint import replacing
from sanslabel.errors import BadInput
from sanslabel.generation.complexity import compressed_nats
from sanslabel.generation.model import Model, open_model
from sanslabel.methods.abilities import HasEnergy
from sanslabel.run_folder import data_of_run
from sanslabel.sources import Source


@dataclass(frozen=True)
class EnergyTable:
    """A table of energies that was written to a file, and its summary."""

    path: Path
    count: int
    """images in the table"""
    unreadable: int
    """images that could not be read, and are not in the table"""
    median: float
    """the median energy of the first set"""
    auroc: float | None
    """the probability that an image of the foreign set has the higher energy; None without such a set"""
    slope: float | None
    """the energy subtracted for each nat of compressed size; None without the correction by complexity"""


def energy_table(
    run: str | Path,
    data: str | Path | None = None,
    *,
    against: str | Path | None = None,
    complexity: bool = False,
    out: str | Path | None = None,
    device: str | None = None,
) -> EnergyTable:
    """Writes a table of the energy of every image of `data`, and of a foreign set `against`, sorted from the lowest.

    The table has the columns set, id and energy. It is a .csv or .parquet file, by default RUN/energies.csv, or
    RUN/energies-NUMBER.csv if a table of other sets has that name. Images that cannot be read are left out and counted.

    data: by default the data of the run. The test split of either set is read, if there is one.
    complexity: subtracts the nats of an image's lossless compression, since simple images have low energy by any model
        (Serrà et al. 2020). They are scaled by the slope of energy over these nats in the training data. The paper
        needs no slope, since its energies are nats of the same eight bits.
    Raises BadInput if the method has no energy of single images, DiskError.
    """
    model = open_model(run, HasEnergy, device=device)
    path = _table_path(Path(out) if out is not None else model.run.path / "energies.csv")
    numbered = (path.with_name(f"{path.stem}-{number}.csv") for number in count(2))
    chosen = data_of_run(model.plan, data)
    sets = {str(chosen): model.source(chosen)}
    if against is not None:
        sets[str(against)] = model.source(against)
        if len({source.fingerprint for source in sets.values()}) < 2:
            raise BadInput(f"--against {against}: has the same images as the data; name a foreign set.")
    if out is None and not _replaceable(path, sets):
        path = next(other for other in numbered if _replaceable(other, sets))
    correction = slope(model) if complexity else None
    names, ids, values = [], [], []
    for name, source in sets.items():
        energy, index = image_energies(model, source, correction)
        names += [name] * len(index)
        ids += [source.id(i) for i in index.tolist()]
        values.append(energy)
    order = torch.cat(values).argsort(stable=True).tolist()
    _write(path, [names[i] for i in order], [ids[i] for i in order], torch.cat(values)[order].tolist())
    return EnergyTable(
        path=path,
        count=len(ids),
        unreadable=sum(map(len, sets.values())) - len(ids),
        median=values[0].median().item(),
        auroc=auroc(values[0], values[1]) if against is not None else None,
        slope=correction,
    )


def image_energies(model: Model, source: Source, slope: float | None = None) -> tuple[Tensor, Tensor]:
    """Returns the energies (n,) of a source, less `slope` times the compressed size, and the index (n,) of the images
    that could be read."""
    values, index = _measures(model, source, sizes=slope is not None)
    return values["energy"] if slope is None else values["energy"] - slope * values["size"], index


def auroc(inside: Tensor, outside: Tensor) -> float:
    """Returns the probability that one of `outside` (m,) is above one of `inside` (n,); a tie counts half
    (Mann-Whitney)."""
    ordered = inside.double().sort().values
    below = torch.searchsorted(ordered, outside.double()).double()
    up_to = torch.searchsorted(ordered, outside.double(), right=True).double()
    return ((below + up_to).mean() / (2 * len(inside))).item()


def slope(model: Model) -> float:
    """Returns the slope of energy over compressed size in the training data, by least squares."""
    values, _ = _measures(model, model.source(split="train"), sizes=True)
    centered = values["size"] - values["size"].mean()
    return ((centered * values["energy"]).sum() / centered.square().sum().clamp(min=1e-12)).item()


def _measures(model: Model, source: Source, sizes: bool) -> tuple[dict[str, Tensor], Tensor]:
    """Returns the "energy" of every image, (n,), its "size" if requested, and the index (n,) of these images."""
    method = model.require(HasEnergy)
    functions = {"energy": lambda images: method.energy_of(model.net, images)[:, None]}
    if sizes:
        functions["size"] = lambda images: compressed_nats(images)[:, None]
    values, index = model.measure(functions, source)
    return {name: column[:, 0].double() for name, column in values.items()}, index


def _table_path(path: Path) -> Path:
    """Returns the path of the table. Raises BadInput if it cannot be written in this format."""
    if path.suffix not in (".csv", ".parquet"):
        raise BadInput(
            f"--out {path}: energies are written as .csv or .parquet; name a file with one of these endings."
        )
    if path.suffix == ".parquet" and find_spec("pyarrow") is None:
        raise BadInput(f'--out {path}: Parquet needs pyarrow; pip install "sanslabel[data]", or name a .csv file.')
    return path


def _replaceable(path: Path, sets: Iterable[str]) -> bool:
    """Returns True if there is no such file, or if it is a table of the same sets."""
    if not path.exists():
        return True
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        return {row.get("set") for row in csv.DictReader(file)} == set(sets)


def _write(path: Path, sets: list[str], ids: list[str], values: list[float]) -> None:
    columns = {"set": sets, "id": ids, "energy": values}
    with replacing(path) as partial:
        if path.suffix == ".parquet":
            import pyarrow
            import pyarrow.parquet

            columns["id"] = [name.encode(errors="replace").decode() for name in ids]  # names may be invalid Unicode
            table = pyarrow.table(columns).replace_schema_metadata({"format": "1"})
            pyarrow.parquet.write_table(table, partial)
        else:
            with partial.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
                writer = csv.writer(file)
                writer.writerow(columns)
                writer.writerows(zip(*columns.values(), strict=True))
