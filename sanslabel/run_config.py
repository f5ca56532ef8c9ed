"""The plan of a run: all that decides it, as run.json stores it. This file imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import PurePath
from typing import Annotated, Any, get_type_hints

from sanslabel.constraints import Bounds, NonNegative, Positive, bounds_of
from sanslabel.errors import BadInput
from sanslabel.inputs import InputSpec
from sanslabel.serialization import from_plain
from sanslabel.settings import BatchSize, Cache, Chunk, Epochs, Precision, Seed, Sharding, Workers


@dataclass(frozen=True, kw_only=True)
class GivenNetwork:
    """A network that a run receives from outside, like its data. Checkpoints do not contain it, and a resume refuses
    another network."""

    path: str
    """the file of its weights, or the run folder that has them"""
    sha256: str
    """the SHA-256 of the weights' file"""
    license: str | None
    """the license that its file or folder states"""


@dataclass(frozen=True, kw_only=True)
class Expected:
    """The time, memory and disk space that a run is expected to take, evaluation included."""

    seconds: float
    memory: int
    """bytes, of main memory on the CPU, else of the device"""
    disk: int
    """bytes that the run folder takes at most"""


@dataclass(frozen=True, kw_only=True)
class LabelsGiven:
    """The file that states the labels of a run's pictures."""

    path: str
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All that decides a run, with every default resolved. run.json stores it with the versions, and a resume needs
    nothing else."""

    data: str | tuple[str, ...]
    """a path, the name of an embedded set, or several of them, which are read as one set"""
    fingerprint: str
    """the SHA-256 of the data"""
    samples: Annotated[int, Bounds(least=1, most=1 << 40)]
    method: str
    """the name of the method's file, or of its class if it was handed over as an instance of another class"""
    hyperparameters: dict[str, Any]
    """the method's fields as JSON"""
    recipe: dict[str, Any]
    """the recipe's fields as JSON"""
    encoder: dict[str, Any]
    """the configuration of the encoder, or of the first signal's encoder if the method reads several signals"""
    image_size: Annotated[int, Bounds(least=0, most=1 << 14)]
    """side in pixels of the images that the encoder reads; 0 if the method reads no images"""
    epochs: Epochs
    batch: BatchSize
    chunk: Chunk | None
    workers: Workers
    seed: Seed
    world_size: Annotated[int, Bounds(least=1, most=1 << 20)]
    """processes"""
    device: str
    precision: Precision
    threads: Annotated[int, Bounds(least=1, most=1 << 10)]
    sharding: Sharding = "replicate"
    compile: bool = False
    recompute: bool = False
    cache: Cache = "none"
    classes: Annotated[int, Bounds(least=0, most=1 << 40)] | None = None
    """classes of the data; None in runs of earlier versions, which did not record them"""
    encoders: dict[str, dict[str, Any]] = field(default_factory=dict)
    """the configuration of each signal's encoder if the method reads several signals; else empty"""
    weights: GivenNetwork | None = None
    """the weights that the encoder started from; None for random ones"""
    allow_missing: bool = False
    teacher: GivenNetwork | None = None
    """the frozen network that the method learns from; None if there is none"""
    labels: LabelsGiven | None = None
    """the file that states the labels; None if the data state them"""
    skip_unreadable: bool = False
    """True if the run goes on however many pictures cannot be read"""
    near: Annotated[float, NonNegative] | None = None
    """seconds up to which a frame's partner is away; None if both views are drawn from one sample"""
    fps: Annotated[float, Positive] | None = None
    """frames a second, as the person chose them; None for the default, and for data without time"""
    frame_side: Annotated[int, Bounds(least=1, most=1 << 16)] | None = None
    """the shorter side in pixels to which frames of videos are reduced; None for other data"""
    languages: tuple[str, ...] = ()
    """languages of the source and of the target, as the person chose them; empty if the data have only two"""
    copies: bool = True
    """True if each copy of an image file is a sample of its own, as in runs of earlier versions"""
    inputs: dict[str, InputSpec] = field(default_factory=dict)
    """the shape of each signal as encoders read it; empty in runs of earlier versions, which read images alone"""
    noun: str = "image"
    """the word for a sample, such as "frame"; "image" in runs of earlier versions"""
    held_out: Annotated[int, Bounds(least=0, most=1 << 40)] = 0
    """labeled samples of the data that training left out, since the method learns from labels and evaluation measures
    these samples; 0 in runs of earlier versions"""
    remarks: tuple[str, ...] = ()
    """sentences about the data for a person, such as what was left out; empty in runs of earlier versions"""
    chosen: dict[str, str] = field(default_factory=dict)
    """the reason for each setting that was chosen for the data and the machine, by the setting's name"""
    expected: Expected | None = None
    """the time, memory and disk space that were expected at the start; None in runs of earlier versions"""

    @property
    def places(self) -> tuple[str, ...]:
        """Returns the paths or names of the data."""
        return (self.data,) if isinstance(self.data, str) else self.data

    @property
    def data_name(self) -> str:
        """Returns the names of the data's folders, files or sets, without the folders that they lie in."""
        return " + ".join(PurePath(place).name for place in self.places)


@dataclass(frozen=True, kw_only=True)
class Spent:
    """The time and memory that a run has taken, over all starts that ended or were stopped."""

    seconds: float
    """seconds of training"""
    peak_memory: int
    """bytes, the most main memory that one process of the run took"""
    device_memory: int
    """bytes, the most that tensors took on one CUDA device; 0 on others"""

    def and_then(self, later: Spent) -> Spent:
        """Returns the sum of the seconds of this and a later start, and the larger of their memories."""
        return Spent(
            seconds=self.seconds + later.seconds,
            peak_memory=max(self.peak_memory, later.peak_memory),
            device_memory=max(self.device_memory, later.device_memory),
        )


NEEDED = tuple(f.name for f in fields(Plan) if f.default is MISSING and f.default_factory is MISSING)
"""fields that each run.json must have; files of earlier versions lack the others"""

FORMAT = 2
"""the format of run.json; in format 1 some fields had other names"""
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
    "View": {"part_of": "crop_of"},
    "BarlowTwins": {"teacher": "teacher_momentum"},
    "DeepCluster": {"teacher": "teacher_momentum"},
    "NPID": {"teacher": "teacher_momentum"},
    "PIRL": {"teacher": "teacher_momentum"},
    "SimCLR": {"teacher": "teacher_momentum"},
    "SimSiam": {"teacher": "teacher_momentum"},
    "SwAV": {"teacher": "teacher_momentum"},
    "VICReg": {"teacher": "teacher_momentum"},
}
"""fields of dataclasses that have a new name since format 1: class -> old name -> new name"""


def _drew(fields_read: Mapping[str, Any]) -> bool:
    return fields_read.get("negatives") is not None


IMPLIED: Mapping[str, Mapping[str, Callable[[Mapping[str, Any]], Any]]] = {
    "NPID": {"nce": _drew},
    "PIRL": {"nce": _drew},
}
"""fields of dataclasses that files of earlier versions lack: class -> field -> its value by the others. Negatives that
were drawn were those of noise-contrastive estimation."""


def upgraded(content: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the content of a run.json of any format under the names of today's format, with the fields of methods
    that it lacks."""
    if content.get("format", 1) == 1:
        content = {"hyperparameters" if name == "numbers" else name: _renamed(v) for name, v in content.items()}
    method = content.get("hyperparameters")
    if not isinstance(method, dict) or not isinstance(kind := method.get("kind"), str):
        return dict(content)
    implied = {name: value(method) for name, value in IMPLIED.get(kind, {}).items()}
    return {**content, "hyperparameters": implied | method}


def read_plan(content: Mapping[str, Any]) -> Plan:
    """Returns the plan in the content of a run.json of today's format. Raises BadInput if a field is missing, of
    another type or out of bounds."""
    if missing := set(NEEDED) - content.keys():
        raise BadInput(f"no {', '.join(sorted(missing))}")
    fields_read = checked(content)
    return Plan(**{f.name: fields_read[f.name] for f in fields(Plan) if f.name in fields_read})


def checked(content: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the content with the plan's fields, and the time and memory spent, as objects of this module's types.
    Raises BadInput if a field is of another type or out of bounds."""
    hints, annotations = get_type_hints(Plan) | {"spent": Spent}, get_type_hints(Plan, include_extras=True)
    result = dict(content)
    for name in hints.keys() & content.keys():
        try:
            result[name] = from_plain(hints[name], content[name])
        except BadInput as error:
            raise BadInput(f"{name}: {error}") from error
        for bounds in bounds_of(annotations.get(name)):
            if content[name] is not None and not bounds.admits(content[name]):
                raise BadInput(f"{name} {content[name]}: {bounds.sentence}.")
    return result


def _renamed(value: Any) -> Any:
    if isinstance(value, list):
        return [_renamed(item) for item in value]
    if not isinstance(value, dict):
        return value
    names = RENAMED.get(kind, {}) if isinstance(kind := value.get("kind"), str) else {}
    return {names.get(name, name): _renamed(item) for name, item in value.items()}
