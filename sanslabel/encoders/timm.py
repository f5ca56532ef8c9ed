"""Encoders of the library timm, by name: "timm/convnext_tiny"."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sanslabel.encoders.encoder import Encoder, Scaling
from sanslabel.errors import BadInput, suggestion

PREFIX = "timm/"


class Timm(Encoder):
    """One of timm's models without its classifier, with fresh weights or `pretrained` ones, which timm then fetches or
    has. It has one stage, what it pools itself; images must be of a size that the model takes.
    """

    def __init__(
        self,
        name: str,
        channels: int,
        image_size: int,
        *,
        pretrained: bool = False,
        scaling: Scaling | None = None,
        patches: Sequence[int] | None = None,
    ):
        model = _made(name, channels, image_size, pretrained)
        width = int(getattr(model, "num_features", 0))
        config: dict[str, Any] = {"name": name, "channels": channels, "image_size": image_size}
        super().__init__(config, _width(model, channels, image_size, width), scaling, patches)
        self.model: Any = model

    def stages(self, images: Tensor) -> list[Tensor]:
        return [self.model(self.scaled(images)).flatten(1)]

    def pooled(self, stage: Tensor) -> Tensor:
        return stage


def pretrained_settings(name: str) -> tuple[int, Scaling]:
    """The side in pixels and the (mean, std) of three channels that the model was pretrained with."""
    _check(name)
    said = _library().get_pretrained_cfg(name.removeprefix(PREFIX))
    return said.input_size[-1], (said.mean, said.std)


def _check(name: str) -> None:
    known, model = _library().list_models(), name.removeprefix(PREFIX)
    if model.partition(".")[0] not in known:
        raise BadInput(f"--encoder {name}: timm has no {model!r}; {suggestion(model, known)}")


def _made(name: str, channels: int, size: int, pretrained: bool) -> Any:
    _check(name)
    timm, model = _library(), name.removeprefix(PREFIX)
    options: dict[str, Any] = {"num_classes": 0, "in_chans": channels, "pretrained": pretrained}
    try:
        try:
            return timm.create_model(model, img_size=size, **options)
        except TypeError:  # most convnets take any size and know no such option
            return timm.create_model(model, **options)
    except (OSError, RuntimeError, ValueError) as error:
        said = " ".join(str(error).split())
        raise BadInput(f"{name}: timm could not make it for {channels} channels and {size} pixels ({said}).") from error


@torch.no_grad()
def _width(model: Any, channels: int, size: int, fallback: int) -> int:
    """Of what its head hands on, which for some models is wider than their features."""
    if next(model.parameters()).is_meta:
        return getattr(model, "head_hidden_size", None) or fallback
    training = model.training
    example = torch.zeros(1, channels, size, size)
    model.eval()
    width = model(example).flatten(1).shape[1]
    model.train(training)
    return width


def _library() -> Any:
    try:
        import timm
    except (ImportError, RuntimeError, OSError) as error:  # torchvision, which it imports, may not fit to torch
        raise BadInput(f"timm cannot be imported here ({error}); install it beside a torchvision that does.") from error
    return timm
