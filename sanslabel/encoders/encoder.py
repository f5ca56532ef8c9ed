"""The contract of all encoders, and how images are scaled on their way in."""

from __future__ import annotations

import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from sanslabel.encoders.given_weights import KeyReport, load_given_, with_channels
from sanslabel.encoders.patches import Patches, patches, standardized
from sanslabel.errors import BadInput
from sanslabel.inputs import ImageSpec, InputSpec, SpectrogramSpec

Scaling = Sequence[Sequence[float]]
"""(mean, std), each one number per channel, for images in [0, 1]"""


class Encoder(nn.Module, ABC):
    """A network from images (N, C, H, W), floating in [0, 1], to one vector each, (N, width).

    Spectrograms come as images of one channel, and texts as the ids of their tokens, (N, T) int64.

    The arguments of a subclass are its name, the shape of its input and, by keyword only, its options. An encoder of
    spectrograms or texts sets `input`; the fields of that specification are then the shape of its input. An encoder of
    images that takes a height and a width as its size can also be built for spectrograms, see `rectangles`.
    """

    names: ClassVar[tuple[str, ...]] = ()
    """names that `build` knows the class by; "*" in one stands for any text"""
    input: ClassVar[type[InputSpec]] = ImageSpec
    """kind of input"""
    smallest: ClassVar[int] = 8
    """smallest side of images that it can be built for, in pixels"""
    rectangles: ClassVar[bool] = False
    """True if `image_size` may be a height and a width, so that it also reads spectrograms, as images of one channel"""
    signed: ClassVar[bool] = False
    """True brings images to [-1, 1] by default, False to mean 0 and deviation 1"""
    entry_points: ClassVar[tuple[str, ...]] = ()
    """methods besides `forward` that read parameters which belong to the encoder itself, not to a module in it"""

    scaling: Tensor | None
    range_unknown: bool = False
    """True for a trained encoder whose first images have not come yet: their range is looked at once"""

    def __init__(
        self, config: dict[str, Any], width: int, scaling: Scaling | None = None, patches: Sequence[int] | None = None
    ):
        super().__init__()
        self.config: dict[str, Any] = config
        """numbers and words that JSON can store; `build(**config)` makes the same architecture"""
        self.width = width
        self.patches: Patches | None = None
        checked = None if scaling is None else _checked(scaling, self.reads.shape[0])
        if checked is not None or self.input is ImageSpec:
            self.config = config | {"scaling": checked}
        if patches is not None:
            if isinstance(patches, int | str) or len(patches) != 2:
                raise BadInput(
                    f"patches is {patches}: give (size, stride), the pixels of a patch and from one to the next."
                )
            self.read_patches_(*patches)
        # Scaling is configuration: it follows the module to a device and a dtype, and stays out of its state.
        values = None if checked is None else torch.tensor(checked).view(2, -1, 1, 1)
        self.register_buffer("scaling", values, persistent=False)

    @classmethod
    def completed(cls, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Mapping[str, Any]:
        """Returns the configuration of trained weights with all that earlier versions left out of it, and that only the
        weights tell."""
        return config

    @property
    def reads(self) -> InputSpec:
        """Returns the specification of the input that the encoder was built for."""
        return (SpectrogramSpec if "mels" in self.config else self.input).of_arguments(self.config)

    @abstractmethod
    def stages(self, images: Tensor, /) -> list[Tensor]:
        """Returns the representation after each stage: maps (N, C, h, w) of convnets, tokens (N, T, D) of transformers.
        `forward` returns the vectors that `pooled` makes from the last one."""

    @abstractmethod
    def pooled(self, stage: Tensor) -> Tensor:
        """Returns one vector per image, (N, D), from the representation after a stage."""

    def maps(self, images: Tensor) -> list[Tensor]:
        """Returns the stages that are maps, (N, C, h, w), in their order. Raises BadInput if the encoder has none."""
        maps = [stage for stage in self.stages(images) if stage.ndim == 4]
        if not maps:
            raise BadInput(f"--encoder {self.config['name']}: has no maps of places in an image; choose another.")
        return maps

    def units(self) -> list[nn.Module]:
        """Returns the modules that are always called as a whole, in the order of the forward pass. Each unit is
        compiled, recomputed and sharded by itself, and can have a learning rate of its own.

        A transformer returns its blocks. Any other encoder is one unit: itself.
        """
        return [self]

    def load_given_(self, tensors: Mapping[str, Tensor], source: str, allow_missing: bool = False) -> KeyReport:
        """Copies given weights into the encoder, see `given_weights.load_given_`, and returns a report."""
        return load_given_(self, tensors, source, allow_missing)

    def fitted(self, name: str, tensor: Tensor) -> tuple[Tensor, str] | None:
        """Returns a given tensor in the shape of the encoder's tensor of this name, and a description of the change.

        The description is "" if nothing changed. The first convolution is brought to the encoder's number of channels.
        Returns None for any other difference in shape.
        """
        wanted = self.state_dict()[name].shape
        if tensor.shape == wanted:
            return tensor, ""
        first = next((key for key, module in self.named_modules() if isinstance(module, nn.Conv2d)), None)
        if (
            name == f"{first}.weight"
            and tensor.ndim == 4
            and tensor[:, 0].shape == torch.Size((wanted[0], *wanted[2:]))
        ):
            return with_channels(tensor, wanted[1])
        return None

    def forward(self, images: Tensor, /, keep: Tensor | None = None, patch: int | None = None) -> Tensor:
        """Returns the representation, (N, width): of the images, or the mean over their patches if the encoder reads
        patches.

        keep, patch: the patches that a masked view keeps, see `views.EncoderInput`. Transformers drop the other
            patches. Here the view has already filled their pixels, and both arguments are ignored.
        """
        return self.image_representation(images) if self.patches is None else self.mean_over_patches(images)

    def image_representation(self, images: Tensor) -> Tensor:
        """Returns the representation of the images, (N, width), also if `forward` reads patches."""
        return self.pooled(self.stages(images)[-1])

    def mean_over_patches(self, images: Tensor) -> Tensor:
        """Returns the mean representation of an image's patches, (N, width), each patch standardized by itself. An
        image of the size of one patch is read as it is, so that training can pass patches as images."""
        assert self.patches is not None
        size, stride = self.patches
        if images.shape[-1] == images.shape[-2] == size:
            return self.image_representation(images)
        cut = standardized(patches(images, size, stride))  # (N, P, C, size, size)
        return self.image_representation(cut.flatten(0, 1)).unflatten(0, cut.shape[:2]).mean(dim=1)

    def read_patches_(self, size: int, stride: int) -> None:
        """Makes `forward` return the mean over patches from now on, for methods that train on patches. This is
        configuration, not state."""
        self.patches = Patches(size, stride)
        self.config["patches"] = [size, stride]

    def read_spectrograms_(self, spec: SpectrogramSpec) -> None:
        """Records that the encoder, which was built for images of one channel and of this shape, reads spectrograms.
        This is configuration, not state."""
        rest = {name: value for name, value in self.config.items() if name not in ImageSpec.argument_names}
        self.config = {"name": rest.pop("name"), **spec.arguments, **rest}

    def record_levels_(self, levels: Sequence[Sequence[float]]) -> None:
        """Records the levels to which pictures of more than 8 bits were scaled, one pair for each channel.

        This is configuration, not state: images (N, C, H, W) that the encoder gets are scaled already. Raises BadInput
        unless each channel has two finite numbers, the smaller one first.
        """
        try:
            pairs = [[float(low), float(high)] for low, high in levels]
        except (TypeError, ValueError):
            pairs = []
        if len(pairs) != self.reads.shape[0] or not all(-math.inf < low < high < math.inf for low, high in pairs):
            raise BadInput(f"levels is {levels}: give two numbers for each channel, the smaller one first.")
        self.config["levels"] = pairs

    def scaled(self, images: Tensor) -> Tensor:
        """Returns the images minus the configured mean, divided by the deviation, in the dtype in which the weights
        compute. Raises BadInput unless they are a tensor of floats (N, C, H, W) with the encoder's channels."""
        if not isinstance(images, Tensor):
            raise BadInput(
                f"The encoder was given images as {type(images).__name__}: give a tensor of floats in [0, 1]."
            )
        if images.ndim != 4 or (self.scaling is not None and images.shape[1] != self.scaling.shape[1]):
            channels = "C" if self.scaling is None else self.scaling.shape[1]
            raise BadInput(
                f"The encoder was given images of shape {tuple(images.shape)}: give (N, {channels}, H, W), with"
                " channels before height and width."
            )
        if not images.is_floating_point():
            raise BadInput(f"The encoder was given images of {images.dtype}: give floats in [0, 1], uint8 / 255.")
        if self.range_unknown and not (torch.compiler.is_compiling() or torch.jit.is_tracing()):
            self.range_unknown = False
            if isinstance(self.reads, ImageSpec):
                _warn_of_range(images, "levels" in self.config)
        dtype = next(self.parameters()).dtype
        if images.dtype != dtype and not torch.is_autocast_enabled(images.device.type):
            images = images.to(dtype)
        if self.scaling is None:
            return images
        mean, std = self.scaling  # (C, 1, 1) each
        return (images - mean) / std


def _warn_of_range(images: Tensor, has_levels: bool) -> None:
    """Warns of images with values far outside of [0, 1]. It waits for the device, and is called once.

    has_levels: whether the encoder was trained on pictures of more than 8 bits, whose levels are in its configuration.
    """
    if images.numel() == 0 or (images.is_cuda and torch.cuda.is_current_stream_capturing()):
        return
    low, high = (value.item() for value in images.detach().aminmax())
    if low < -0.5 or high > 1.5:
        remedy = (
            "scale each channel by its levels in config.json, (x - low) / (high - low)"
            if has_levels
            else "divide by 255"
        )
        warnings.warn(
            f"The encoder was given images with values from {low:.3g} to {high:.3g}, and expects [0, 1]: {remedy}, and "
            "leave out mean and deviation, which it applies itself.",
            stacklevel=2,
        )


def _checked(scaling: Scaling, channels: int) -> list[list[float]]:
    """Returns the scaling as lists of floats, which JSON can store. Raises BadInput if it does not fit the channels."""
    try:
        values = [list(map(float, statistic)) for statistic in scaling]
    except (TypeError, ValueError):
        values = []
    finite = all(math.isfinite(value) for statistic in values for value in statistic)
    if [len(statistic) for statistic in values] != [channels, channels] or not finite or min(values[1]) <= 0:
        raise BadInput(
            f"scaling is {scaling}: give (mean, std), each with a number for each of the {channels} channels, std > 0."
        )
    return values
