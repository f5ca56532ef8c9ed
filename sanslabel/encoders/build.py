"""Lists encoders by name, and builds them from a name or a configuration."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from fnmatch import fnmatchcase
from functools import cache
from importlib import import_module
from inspect import Parameter, signature
from pathlib import Path
from typing import Any

import torch

from sanslabel import encoders
from sanslabel.discovery import module_file, module_names
from sanslabel.encoders.encoder import Encoder
from sanslabel.errors import BadInput, BadValue, bad_input_as, suggestion
from sanslabel.inputs import ImageSpec, SpectrogramSpec, TextSpec, height_and_width

DEFAULTS = {"channels": 3, "image_size": 224}
"""default shape of the input of encoders of images"""
INPUTS = {ImageSpec: "images", SpectrogramSpec: "spectrograms", TextSpec: "texts"}


@cache
def encoder_classes() -> dict[str, type[Encoder]]:
    """Returns the classes of encoders in the files of the folder, by their names. Raises BadInput if a file cannot be
    imported, or if two encoders have one name."""
    classes: dict[str, type[Encoder]] = {}
    for file in module_names(encoders.__path__, without=("build",)):
        path = module_file(encoders.__path__, file)
        with bad_input_as(path, "correct the file, or take it out of the folder"):
            module = import_module(f"{encoders.__name__}.{file}")
        for value in vars(module).values():
            if isinstance(value, type) and issubclass(value, Encoder) and value.__module__ == module.__name__:
                for name in value.names:
                    if name in classes:
                        other = module_file(encoders.__path__, classes[name].__module__.rpartition(".")[2])
                        raise BadInput(f"{other} and {path} define the same encoder {name!r}; rename one.")
                    classes[name] = value
    return classes


def names() -> list[str]:
    """Returns the names of the encoders that can be built without options. Encoders of other libraries, and those that
    methods build on another encoder, are left out."""
    return [name for name, encoder in encoder_classes().items() if "*" not in name and not _required(encoder)]


def encoder_options(encoder: str | Mapping[str, Any]) -> dict[str, Any]:
    """Returns the arguments of `build` for an encoder that is given as a name, or as a mapping of name and options.
    Raises BadInput for anything else."""
    if isinstance(encoder, str):
        return {"name": encoder}
    if not isinstance(encoder, Mapping):
        raise BadValue(
            "--encoder", encoder, 'must be a name, or a name with options: {"name": "vit_micro", "patch": 4}'
        )
    return dict(encoder)


def encoder_class(name: str) -> type[Encoder]:
    """Returns the class of the encoders of this name. Raises BadInput for an unknown name."""
    for pattern, encoder in encoder_classes().items():
        if fnmatchcase(name, pattern):
            return encoder
    raise BadInput(f"--encoder: there is no encoder {name!r}: {suggestion(name, names())}")


def build(name: str, **options: Any) -> Encoder:
    """Returns an encoder with fresh weights.

    The options are the arguments of the encoder's class, which describes them. Some state the shape of the input:
    `channels` (by default 3) and `image_size` (by default 224, the side in pixels of square images), or the fields of
    another specification. `levels` are recorded in the configuration, see `ImageSpec`. Raises BadInput for an unknown
    name or option, and for a value that cannot be used.
    """
    encoder = encoder_class(name)
    arguments = _arguments(encoder)
    if encoder.rectangles and "mels" in options:
        return _build_for_spectrograms(name, encoder, options)
    levels = options.pop("levels", None) if encoder.input is ImageSpec else None
    unknown = [option for option in options if option not in arguments]
    _check_kind(name, encoder, unknown)
    for option in unknown:
        known = [key for key, argument in arguments.items() if argument.kind is Parameter.KEYWORD_ONLY]
        raise BadInput(f"--encoder {name}: there is no option {option!r}: {suggestion(option, known)}")
    options = {key: value for key, value in DEFAULTS.items() if key in arguments} | options
    if encoder.input is ImageSpec:
        _check_images(name, encoder, options["channels"], options["image_size"])
    if isinstance(options.get("of"), Mapping):
        options["of"] = build(**options["of"])
    missing = [key for key, a in arguments.items() if a.default is Parameter.empty and key not in options]
    if missing:
        if "of" in missing:
            raise BadInput(f"--encoder {name}: is made only by methods, on top of another encoder; name that encoder.")
        raise BadInput(f"--encoder {name}: needs {', '.join(missing)}; add what is missing (--encoder-options).")
    built = encoder(name, **options)  # pyright: ignore[reportArgumentType, reportCallIssue]
    if levels is not None:
        built.record_levels_(levels)
    return built


def _build_for_spectrograms(name: str, encoder: type[Encoder], options: dict[str, Any]) -> Encoder:
    """Returns an encoder of images that reads spectrograms, as images of one channel. Raises BadInput as `build`
    does."""
    shape, rest = SpectrogramSpec.argument_names, dict(options)
    if missing := [key for key in shape if key not in options]:
        raise BadInput(f"--encoder {name}: needs {', '.join(missing)}; add what is missing (--encoder-options).")
    spec = SpectrogramSpec(**{key: rest.pop(key) for key in shape})
    if twice := [key for key in ImageSpec.argument_names if key in rest]:
        raise BadInput(f"--encoder {name}: {', '.join(twice)} and mels are given; leave one of them out.")
    smallest = min(spec.mels, spec.frames)
    if smallest < encoder.smallest:
        raise BadInput(f"--encoder {name}: needs {encoder.smallest} mels and frames or more, and is given {smallest}.")
    built = build(name, channels=1, image_size=(spec.mels, spec.frames), **rest)
    built.read_spectrograms_(spec)
    return built


def outline(config: Any, path: Path) -> Encoder:
    """Returns the encoder of a configuration from a file, on the device "meta": it has names, shapes and configuration,
    but no memory for weights. Raises BadInput if the configuration describes no encoder, or one whose weights would be
    downloaded, since a file must not cause downloads."""
    unreadable = bad_input_as(f"{path}: the encoder", "name a folder that training wrote")
    with unreadable, torch.random.fork_rng(devices=()), torch.device("meta"):
        inner = config
        while isinstance(inner, Mapping):
            if "pretrained" in inner:
                raise BadInput(f"{path}: has an encoder whose weights would be fetched (pretrained); take that out.")
            inner = inner.get("of")
        return build(**config)


def _arguments(encoder: type[Encoder]) -> dict[str, Parameter]:
    """Returns the arguments of the class besides the name."""
    _, *arguments = signature(encoder).parameters.items()
    return dict(arguments)


def _required(encoder: type[Encoder]) -> list[str]:
    """Returns the options that have no default."""
    arguments = _arguments(encoder).items()
    return [key for key, a in arguments if a.kind is Parameter.KEYWORD_ONLY and a.default is Parameter.empty]


def _check_kind(name: str, encoder: type[Encoder], unknown: Collection[str]) -> None:
    """Raises BadInput if an unknown option states the shape of another kind of input, such as texts."""
    for kind, noun in INPUTS.items():
        if kind is not encoder.input and not set(kind.argument_names).isdisjoint(unknown):
            raise BadInput(f"--encoder {name}: reads {INPUTS[encoder.input]}, not {noun}; choose another encoder.")


def _check_images(name: str, encoder: type[Encoder], channels: int, image_size: int | tuple[int, int]) -> None:
    if channels < 1:
        raise BadInput(f"channels is {channels}: give the number of channels of the images, 1 or more.")
    if min(height_and_width(image_size)) < encoder.smallest:
        raise BadInput(
            f"--image-size {image_size}: {name} needs {encoder.smallest} pixels or more; enlarge the images."
        )
