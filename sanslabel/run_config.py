"""What decides a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any, Literal, get_type_hints

from sanslabel.device import Precision, Sharding
from sanslabel.errors import BadInput
from sanslabel.serialization import from_plain

Cache = Literal["ram", "disk", "none"]
"""where decoded images are kept"""
BOUNDS = {
    "samples": (1, 1 << 40),
    "image_size": (1, 1 << 14),
    "epochs": (1, 1 << 31),
    "batch": (2, 1 << 31),
    "chunk": (1, 1 << 31),
    "workers": (0, 1 << 10),
    "world_size": (1, 1 << 20),
    "threads": (1, 1 << 10),
    "seed": (-(1 << 63), (1 << 63) - 1),
}
"""the least and the most of a plan's numbers, from a person or from a file"""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All that decides a run, resolved; with the versions it is run.json, and a resume needs nothing else."""

    data: str
    fingerprint: str
    samples: int
    method: str
    """the name of its file; a class's name for a method of one's own"""
    hyperparameters: dict[str, Any]
    recipe: dict[str, Any]
    encoder: dict[str, Any]
    image_size: int
    epochs: int
    batch: int
    chunk: int | None
    workers: int
    seed: int
    world_size: int
    device: str
    precision: Precision
    threads: int
    sharding: Sharding = "replicate"
    """of weights over processes: a copy on each, or a part"""
    compile: bool = False
    """whether networks run as torch compiles them"""
    recompute: bool = False
    """whether a transformer's blocks are computed again in the backward pass"""
    cache: Cache = "none"
    classes: int | None = None
    """classes of the data; None in runs of earlier versions, which did not record it"""


@dataclass(frozen=True, kw_only=True)
class Spent:
    """What a run has taken, in all its starts that came to their end or were stopped."""

    seconds: float
    """of training"""
    peak_memory: int
    """bytes of main memory that one of its processes held at most"""
    device_memory: int
    """bytes that tensors took on one CUDA device at most; 0 for others"""

    def and_then(self, later: Spent) -> Spent:
        """With those of a later start."""
        return Spent(
            seconds=self.seconds + later.seconds,
            peak_memory=max(self.peak_memory, later.peak_memory),
            device_memory=max(self.device_memory, later.device_memory),
        )


NEEDED = tuple(field.name for field in fields(Plan) if field.default is MISSING)
"""what a run.json must have; earlier releases know no more"""


FORMAT = 2
"""of run.json; 1 had other names for some fields"""
RENAMED: Mapping[str, Mapping[str, str]] = {
    "Recipe": {
        "first": "warmup_start",
        "final": "final_lr_factor",
        "drops": "milestones",
        "numbers": "hyperparameters",
    },
    "Group": {"rate": "lr_factor"},
    "SGD": {"rate": "lr"},
    "AdamW": {"rate": "lr"},
    "LARS": {"rate": "lr"},
}
"""fields of dataclasses that had another name in run.json of format 1"""


def upgraded(content: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what a run.json of an earlier format holds, with the names of today."""
    if content.get("format", 1) > 1:
        return dict(content)
    renamed = {"hyperparameters" if name == "numbers" else name: value for name, value in content.items()}
    return {name: _renamed(value) for name, value in renamed.items()}


def _renamed(value: Any) -> Any:
    if isinstance(value, list):
        return [_renamed(item) for item in value]
    if not isinstance(value, dict):
        return value
    names = RENAMED.get(kind, {}) if isinstance(kind := value.get("kind"), str) else {}
    return {names.get(name, name): _renamed(item) for name, item in value.items()}


def read_plan(content: Mapping[str, Any]) -> Plan:
    """Returns the plan in the content of a run.json of today's format. Raises BadInput if a field is missing, of
    another type or out of bounds."""
    if missing := set(NEEDED) - content.keys():
        raise BadInput(f"no {', '.join(sorted(missing))}")
    return planned(checked(content))


def planned(said: Mapping[str, Any]) -> Plan:
    """The plan that run.json says."""
    return Plan(**{field.name: said[field.name] for field in fields(Plan) if field.name in said})


def checked(said: Mapping[str, Any]) -> dict[str, Any]:
    """What a file says of a plan and of what it took, each field that it has of its type and within bounds; BadInput
    for others."""
    hints = get_type_hints(Plan) | {"spent": Spent}
    found = dict(said)
    for name in hints.keys() & said.keys():
        try:
            found[name] = from_plain(hints[name], said[name])
        except BadInput as error:
            raise BadInput(f"{name}: {error}") from error
        if name in BOUNDS and said[name] is not None and not BOUNDS[name][0] <= said[name] <= BOUNDS[name][1]:
            raise BadInput(f"{name}: {said[name]} is not from {BOUNDS[name][0]} to {BOUNDS[name][1]}.")
    return found
