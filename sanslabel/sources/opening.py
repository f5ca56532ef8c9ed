"""Opens data by path or name, with the one format that reads them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Literal, Protocol, cast

from sanslabel.discovery import module_names
from sanslabel.errors import BadInput, suggestion
from sanslabel.inputs import TextSpec
from sanslabel.sources import formats
from sanslabel.sources.data import AnyData, Data, TextChoices, data_of
from sanslabel.sources.folders.label_file import read_label_file
from sanslabel.sources.pictures.levels import Levels
from sanslabel.sources.source import Source, Wanted
from sanslabel.sources.stores.listing import SOUNDS, SUFFIXES

Split = Literal["train", "test", "all"]


class Format(Protocol):
    """The module of a format."""

    @staticmethod
    def splits(data: str | Path) -> tuple[str, ...] | None: ...

    @staticmethod
    def open_source(data: str | Path, split: str, wanted: Wanted) -> Source | None: ...


class SeveralPlaces(Protocol):
    """The module of a format that reads several places as one set."""

    @staticmethod
    def open_several(places: Sequence[str | Path], split: str, wanted: Wanted) -> Source: ...


def open_source(
    data: AnyData,
    split: Split = "train",
    *,
    image_size: int | None = None,
    channels: int | None = None,
    levels: Levels | None = None,
) -> Source:
    """Returns the samples of a split. `data` is the name of a set (see `names`) or a path.

    A path is an .npy or .npz file, a tar archive, or a folder. A folder holds IDX files (MNIST's names, gzipped or
    not), CIFAR's binary files, tar archives, images, sounds or videos. Images and sounds that share the stems of
    their names are read as pairs if `Data.signals` has both. Texts are read only if `Data.signals` has "source".
    Without a test split, "train" has all samples. `image_size` is the side in pixels at which files of images are
    trained, and limits the size of decoded images. `channels` is the number of channels to read. Gray is read as
    color by repeating the channel, and color as gray by its luma; there are no other conversions. `levels` are the
    stored numbers that become black and white in files of more than 8 bits; by default they are measured, see
    `levels.py`.

    Raises BadInput for data that are missing, empty, damaged or of the wrong kind.
    """
    data = data_of(data)
    format, available = _format_of_all(data)
    if split != "all" and split not in available:
        raise BadInput(f"{data} has no {split} split; it has: {', '.join(available)}.")
    labels = None if data.labels is None else read_label_file(data.labels)
    wanted = Wanted(
        image_size=image_size,
        channels=channels,
        levels=levels,
        labels=labels,
        skip_unreadable=data.skip_unreadable,
        clips=data.clips,
        fps=data.fps,
        frame_side=data.frame_side,
        signals=tuple(data.signals),
        copies=data.copies,
        text=data.text,
    )
    place, *others = data.places
    if others:
        source = cast(SeveralPlaces, format).open_several(data.places, split, wanted)
    else:
        source = format.open_source(place, split, wanted)
    if source is None:
        raise BadInput(f"{data}: {format} lists its splits, but does not open it; correct that format.")
    if data.fps is not None and source.time is None:
        raise BadInput(f"{data}: --fps is a rate of frames, and these data have none; leave it out.")
    of_text = any(isinstance(spec, TextSpec) for spec in source.inputs.values())
    if not of_text and replace(data.text, tokenizer=None) != TextChoices():
        raise BadInput(f"{data}: --languages, --vocabulary and --longest are for texts; leave them out.")
    if labels is not None and source.labels_sha256 != labels.sha256:
        raise BadInput(f"{labels.file}: states labels of pictures in files, and {data} has none; leave --labels out.")
    return source


def splits(data: AnyData) -> tuple[str, ...]:
    """Returns the splits that there are, "train", "test" or both, without reading images. Raises BadInput as
    `open_source` does."""
    return _format_of_all(data_of(data))[1]


def names() -> tuple[str, ...]:
    """Returns the names of the sets that all formats know. A folder with such a name is opened as ./fashion."""
    return tuple(name for format in _formats().values() for name in getattr(format, "NAMES", ()))


def locations(data: AnyData) -> tuple[str, ...]:
    """Returns the name of an embedded set as it is, and any other path as an absolute one without links."""
    known = names()
    return tuple(
        place if isinstance(place, str) and place in known else str(Path(place).resolve())
        for place in data_of(data).places
    )


def location(data: AnyData) -> str:
    """Returns the locations of the data as one text."""
    return ", ".join(locations(data))


@cache
def _formats() -> dict[str, Format]:
    """Returns all formats by name."""
    modules = module_names(formats.__path__)
    return {name: cast(Format, import_module(f"{formats.__name__}.{name}")) for name in modules}


def _format_of_all(data: Data) -> tuple[Format, tuple[str, ...]]:
    """Returns the format that reads all places, and the splits of them together. Raises BadInput if several places are
    neither all folders of images nor all videos."""
    formats_read = [_format_of(place, data.signals) for place in data.places]
    if len(formats_read) > 1:
        for place, (format, _) in zip(data.places, formats_read, strict=True):
            if not hasattr(format, "open_several") or format is not formats_read[0][0]:
                raise BadInput(
                    f"--data: {place} cannot be read together with {data.places[0]}; only folders of images can be,"
                    " videos, or texts."
                )
    available = {split for _, of_place in formats_read for split in of_place}
    return formats_read[0][0], tuple(split for split in ("train", "test") if split in available)


def _format_of(data: str | Path, signals: Sequence[str]) -> tuple[Format, tuple[str, ...]]:
    """Returns the format that reads the data for a method of these signals, and the splits of the data. Raises BadInput
    if there is none, or several."""
    named = [format for format in _formats().values() if isinstance(data, str) and data in getattr(format, "NAMES", ())]
    if named and (available := named[0].splits(data)):
        return named[0], available
    for fallback in (False, True):
        claims = {
            name: available
            for name, format in _formats().items()
            if getattr(format, "FALLBACK", False) == fallback
            and set(getattr(format, "SIGNALS", ())) <= set(signals)
            and (available := format.splits(data)) is not None
        }
        if len(claims) > 1:
            raise BadInput(f"{data} is read by several formats ({', '.join(claims)}); keep files of one format in it.")
        for name, available in claims.items():
            return _formats()[name], available
    path = Path(data)
    if path.suffix.lower() in SUFFIXES and path.is_file():
        raise BadInput(f"{data} is a single picture; give the folder that its pictures lie in.")
    if path.suffix.lower() in SOUNDS and path.is_file():
        raise BadInput(f"{data} is a single sound; give the folder that its sounds lie in.")
    if path.exists():
        raise BadInput(f"{data} is neither a folder nor an .npy, .npz or .tar file; give one of these.")
    if path.suffix or len(path.parts) != 1:
        raise BadInput(f"{data}: no such file or folder; check the spelling, and the folder that the path starts from.")
    raise BadInput(f"{data}: no such file or folder, and no set of that name; {suggestion(str(data), list(names()))}")
