"""Encoders: images (N, C, H, W) in, one vector each, (N, D), out.

`build` makes one from its name, and `build(**encoder.config)` makes another like it.
"""

from __future__ import annotations

from collections.abc import Callable
from inspect import Parameter, signature
from typing import Any

from sanslabel.encoders.conv import Conv
from sanslabel.encoders.encoder import Encoder
from sanslabel.encoders.resnet import ResNet
from sanslabel.encoders.vit import VisionTransformer
from sanslabel.errors import BadInput, nearest

__all__ = ["Encoder", "build", "names"]

_ENCODERS: dict[str, Callable[..., Encoder]] = {
    "conv": Conv,
    "resnet18": ResNet,
    "resnet34": ResNet,
    "resnet50": ResNet,
    "vit_micro": VisionTransformer,
    "vit_tiny": VisionTransformer,
    "vit_small": VisionTransformer,
    "vit_base": VisionTransformer,
}


def names() -> list[str]:
    """What `build` can make."""
    return list(_ENCODERS)


def build(name: str, *, channels: int = 3, image_size: int = 224, **options: Any) -> Encoder:
    """An encoder with fresh weights, for square images of `image_size` pixels a side, at least 8.

    The options are the keyword arguments of its class: `stem` of ResNets, `patch` and `pool` of vision transformers,
    `scaling` of all; each class says what it does where one is left out. Raises BadInput for an unknown name or option,
    and for a value that cannot be used.
    """
    if name not in _ENCODERS:
        raise BadInput(f"--encoder: there is no encoder {name!r}: {nearest(name, names())}")
    encoder = _ENCODERS[name]
    known = [key for key, option in signature(encoder).parameters.items() if option.kind is Parameter.KEYWORD_ONLY]
    for option in options:
        if option not in known:
            raise BadInput(f"--encoder {name}: there is no option {option!r}: {nearest(option, known)}")
    if channels < 1:
        raise BadInput(f"channels is {channels}: give the number of channels of the images, 1 or more.")
    if image_size < 8:
        raise BadInput(f"--image-size is {image_size}: encoders need 8 pixels a side or more, so enlarge the images.")
    return encoder(name, channels, image_size, **options)
