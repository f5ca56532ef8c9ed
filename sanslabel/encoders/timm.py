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
    """A model of timm without its classifier, with fresh or `pretrained` weights. Pretrained weights are downloaded by
    timm unless it has them. The encoder has one stage, the vector that timm pools. Images must have a size that the
    model accepts.
    """

    names = (f"{PREFIX}*",)

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
        model = _timm_model(name, channels, image_size, pretrained)
        width = int(getattr(model, "num_features", 0))
        config: dict[str, Any] = {"name": name, "channels": channels, "image_size": image_size}
        super().__init__(config, _output_width(model, channels, image_size, width), scaling, patches)
        self.model: Any = model

    def stages(self, images: Tensor) -> list[Tensor]:
        """Returns one vector (N, width)."""
        return [self.model(self.scaled(images)).flatten(1)]

    def pooled(self, stage: Tensor) -> Tensor:
        return stage


def pretrained_settings(name: str) -> tuple[int, Scaling]:
    """Returns the side in pixels and the (mean, std) of three channels that the model was pretrained with.

    Two of timm's test settings are not used: it reads the middle of a square, `crop_pct` of its side, and resizes with
    `interpolation`, mostly bicubic. Here every encoder reads the full square, resized bilinearly. Raises BadInput if
    timm does not know the name, or cannot be imported.
    """
    _check_name(name)
    config = _library().get_pretrained_cfg(name.removeprefix(PREFIX))
    return config.input_size[-1], (config.mean, config.std)


def _check_name(name: str) -> None:
    known, model = _library().list_models(), name.removeprefix(PREFIX)
    if model.partition(".")[0] not in known:
        raise BadInput(f"--encoder {name}: timm has no {model!r}; {suggestion(model, known)}")


def _timm_model(name: str, channels: int, size: int, pretrained: bool) -> Any:
    _check_name(name)
    timm, model = _library(), name.removeprefix(PREFIX)
    options: dict[str, Any] = {"num_classes": 0, "in_chans": channels, "pretrained": pretrained}
    try:
        try:
            return timm.create_model(model, img_size=size, **options)
        except TypeError:  # most convnets take any size and have no img_size
            return timm.create_model(model, **options)
    except (OSError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise BadInput(
            f"{name}: timm could not make it for {channels} channels and {size} pixels ({reason}); choose another "
            "model or --image-size."
        ) from error


@torch.no_grad()
def _output_width(model: Any, channels: int, size: int, fallback: int) -> int:
    """Returns the width of the model's output, which for some models exceeds their number of features."""
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
    except (ImportError, RuntimeError, OSError) as error:  # timm imports torchvision, which may not fit torch
        remedy = "install torch and torchvision together, from the same address (README, PyTorch without CUDA)"
        if isinstance(error, ModuleNotFoundError) and error.name == "timm":
            remedy = 'pip install "sanslabel[timm]"'
        raise BadInput(f"timm cannot be imported here ({error}); {remedy}.") from error
    return timm
