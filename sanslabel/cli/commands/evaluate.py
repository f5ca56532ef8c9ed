"""accuracy of the encoder, beside pixels and a random encoder"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, make_dataclass
from typing import TYPE_CHECKING, Any, Literal

from sanslabel.cli.flags import parse_flags
from sanslabel.cli.processes import joined_command
from sanslabel.errors import BadInput
from sanslabel.settings import FrameRate

if TYPE_CHECKING:
    from sanslabel.evaluation.protocol import Protocol

GROUP = "Measure"
USAGE = "evaluate RUN [--data PATH] …"


@dataclass(frozen=True)
class Evaluate:
    """Measure the encoder of a run, beside raw pixels and a random encoder."""

    run: str
    """the run folder, or timm/NAME for a pretrained encoder of timm"""
    data: str | None = None
    """labeled data; by default those that the encoder was trained on"""
    labels: str | None = None
    """a CSV or Parquet file with the columns path and label, in place of the labels that folders state"""
    fps: FrameRate | None = None
    """frames a second of folders of frames, each of which is then a clip, or the most that are kept of a video; by
    default as in training for the data of the run, while other folders are classes"""
    protocols: tuple[str, ...] = ("knn", "linear")
    """names of protocols from the list above"""
    network: str | None = None
    """student, teacher, mean or critic; by default the first that the method exports"""
    stage: int | None = None
    """the stage of the encoder to read, 1 for the first; by default the last"""
    tokens: Literal["class", "mean", "patches"] | None = None
    """the tokens of a transformer to read; by default those that it pools itself"""
    cache: bool = True
    """keep features in the run folder, and reuse those that are there"""
    seed: int = 0
    """seed of all random choices"""
    device: str | None = None
    """cpu, cuda, cuda:1, mps; by default cuda if there is one, else cpu"""


def run(arguments: list[str]) -> None:
    """Prints tables of scores, and the peak memory."""
    from sanslabel.evaluation.protocols import names, protocol_class, sentence

    defaults = {name: protocol_class(name)() for name in names()}
    settings = [(name, type(protocol), field(default=protocol)) for name, protocol in defaults.items()]
    flags_class = make_dataclass("Evaluate", settings, bases=(Evaluate,), frozen=True)
    listed = "\n".join(f"  {sentence(name)}" for name in names())
    flags = parse_flags(flags_class, "evaluate", arguments, f"{Evaluate.__doc__}\n\nProtocols:\n{listed}")
    from sanslabel.cli.tables import print_scores
    from sanslabel.memory_limits import peak_memory

    options: dict[str, Any] = {option.name: getattr(flags, option.name) for option in fields(Evaluate)}
    options["protocols"] = _with_settings(flags.protocols, {name: getattr(flags, name) for name in defaults}, defaults)
    with joined_command():
        print_scores(options.pop("run"), **options)
        if peak := peak_memory():
            print(f"Peak memory {peak / 2**30:.2f} GiB")


def _with_settings(
    chosen: Sequence[str], settings: Mapping[str, Protocol], defaults: Mapping[str, Protocol]
) -> list[str | Protocol]:
    """Returns the chosen protocols with their settings. Raises BadInput for settings of a protocol that is not
    chosen."""
    for name, protocol in settings.items():
        changed = [f.name for f in fields(protocol) if getattr(protocol, f.name) != getattr(defaults[name], f.name)]
        if changed and name not in chosen:
            flag = f"--{name}.{changed[0]}".replace("_", "-")
            raise BadInput(f"{flag} is only used with --protocols {name}; add the protocol, or leave the flag out.")
    return [settings.get(name, name) for name in chosen]
