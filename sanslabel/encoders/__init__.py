"""Encoders: images (N, C, H, W) in, one vector each, (N, D), out.

`build` makes one from its name, and `build(**encoder.config)` makes another like it.
"""

from __future__ import annotations

from collections.abc import Mapping
from inspect import Parameter, signature
from pathlib import Path
from typing import Any

import torch

from sanslabel.encoders.conv import Conv
from sanslabel.encoders.dcgan import DCGAN
from sanslabel.encoders.encoder import Encoder
from sanslabel.encoders.linear_code import LinearCode
from sanslabel.encoders.mlp import MLP
from sanslabel.encoders.resnet import ResNet
from sanslabel.encoders.vit import VisionTransformer
from sanslabel.errors import BadInput, bad_input_as, suggestion

__all__ = ["DCGAN", "Encoder", "LinearCode", "build", "encoder_class", "encoder_options", "names", "outline"]

_ENCODERS: dict[str, type[Encoder]] = {
    "conv": Conv,
    "resnet18": ResNet,
    "resnet34": ResNet,
    "resnet50": ResNet,
    "vit_micro": VisionTransformer,
    "vit_tiny": VisionTransformer,
    "vit_small": VisionTransformer,
    "vit_base": VisionTransformer,
    "mlp": MLP,
    "dcgan": DCGAN,
    "coded": LinearCode,
}


def names() -> list[str]:
    """What `build` can make by itself."""
    return [name for name in _ENCODERS if name != "coded"]


def encoder_options(encoder: str | Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of `build` that a name is, or a name with options."""
    return {"name": encoder} if isinstance(encoder, str) else dict(encoder)


def encoder_class(name: str) -> type[Encoder]:
    """BadInput for a name that there is not."""
    if name.startswith("timm/"):
        from sanslabel.encoders.timm import Timm

        return Timm
    if name not in _ENCODERS:
        raise BadInput(f"--encoder: there is no encoder {name!r}: {suggestion(name, names())}")
    return _ENCODERS[name]


def build(name: str, *, channels: int = 3, image_size: int = 224, **options: Any) -> Encoder:
    """An encoder with fresh weights, for square images of `image_size` pixels a side, 8 or more but for an `mlp`.

    The options are the keyword arguments of its class: `stem` of ResNets, `patch` and `pool` of vision transformers,
    `scaling` of all; each class says what it does where one is left out. Raises BadInput for an unknown name or option,
    and for a value that cannot be used.
    """
    encoder = encoder_class(name)
    known = [key for key, option in signature(encoder).parameters.items() if option.kind is Parameter.KEYWORD_ONLY]
    for option in options:
        if option not in known:
            raise BadInput(f"--encoder {name}: there is no option {option!r}: {suggestion(option, known)}")
    if channels < 1:
        raise BadInput(f"channels is {channels}: give the number of channels of the images, 1 or more.")
    if image_size < encoder.smallest:
        raise BadInput(
            f"--image-size is {image_size}: {name} needs {encoder.smallest} pixels or more; enlarge the images."
        )
    if name == "coded" and not isinstance(options.get("of"), Encoder):
        if not isinstance(options.get("of"), Mapping):
            raise BadInput("--encoder coded: is made by methods, on another encoder; name that one.")
        options["of"] = build(**options["of"])
    return encoder(name, channels, image_size, **options)  # pyright: ignore[reportArgumentType, reportCallIssue]


def outline(config: Any, path: Path) -> Encoder:
    """The encoder of a configuration that a file holds, on the device "meta": names, shapes and numbers, without their
    memory. BadInput for what describes none, or one with weights to be fetched: no file brings about a download."""
    told = bad_input_as(f"{path}: the encoder", "name a folder that training wrote")
    with told, torch.random.fork_rng(devices=()), torch.device("meta"):
        inner = config
        while isinstance(inner, Mapping):
            if "pretrained" in inner:
                raise BadInput(f"{path}: has an encoder whose weights would be fetched (pretrained); take that out.")
            inner = inner.get("of")
        return build(**config)
