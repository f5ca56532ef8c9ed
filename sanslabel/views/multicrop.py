"""Multi-crop: two large crops of an image and several small ones (Caron et al. 2020, section 3.3)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from sanslabel.batch import Batch
from sanslabel.errors import BadInput
from sanslabel.inputs import SpectrogramSpec
from sanslabel.views.encoder_input import EncoderInput
from sanslabel.views.masks import Masked
from sanslabel.views.presets import BYOL, SIMCLR
from sanslabel.views.spectrogram import LogMel, sound_view
from sanslabel.views.view import Pair, View, masked_view

FIRST_LOCAL = 2
"""the stream of the first local crop, after those of the two global ones"""


@dataclass(frozen=True, kw_only=True)
class MultiCrop:
    """Two global crops of an image and several local ones, which cost little since they have few pixels.

    Methods predict the representations of the global crops from the local ones.
    """

    signal: ClassVar[str] = "image"
    """the signal of a batch that the view reads"""

    global_crop: View | Pair | Masked
    """view of streams 0 and 1"""
    local_crop: View = SIMCLR
    """view of the streams from 2 on"""
    local_crops: int = 6
    """number of local crops; 0 leaves the two global ones"""
    local_size: int | None = None
    """side in pixels of a local crop. None takes the size of `local_crop`. If that is None too, it is 3/7 of the global
    side (96 of 224), rounded to whole patches."""
    size: int | None = None
    """side in pixels of a global crop; None is the shorter side of the batch's canvas"""

    def __post_init__(self) -> None:
        if self.local_crops < 0:
            raise BadInput(f"A multi-crop view's local_crops is {self.local_crops}; give a number from 0 up.")

    def inputs(self, batch: Batch) -> list[EncoderInput]:
        """Returns two global crops (N, C, S, S), then the local ones (N, C, s, s), as inputs of an encoder."""
        size = self.size or min(batch.images().pixels.shape[2:])
        global_crop = self.global_crop if self.global_crop.size else replace(self.global_crop, size=size)
        local_crop = replace(self.local_crop, size=self.local_size or self.local_crop.size or _local_size(size))
        streams = range(FIRST_LOCAL, FIRST_LOCAL + self.local_crops)
        return [global_crop.input(batch, s) for s in (0, 1)] + [local_crop.input(batch, s) for s in streams]

    def plain(self, batch: Batch) -> EncoderInput:
        """Returns the largest central square of every image at the size of a global crop, without a draw."""
        return self.global_crop.plain(batch)

    def masked(self, patch: int) -> MultiCrop:
        """Returns two global crops that are `MASKED` with square patches of `patch` pixels a side, and no local
        ones."""
        return MultiCrop(global_crop=masked_view(patch), local_crops=0)

    def of_sound(self, spec: SpectrogramSpec) -> SoundCrops:
        """Returns the crops of sound that take the place of these. Local ones are as much shorter in time as local
        crops of images are smaller."""
        crop = sound_view(spec)
        local_crop = replace(crop, frames=_local_size(crop.frames))
        return SoundCrops(global_crop=crop, local_crop=local_crop, local_crops=self.local_crops)


@dataclass(frozen=True, kw_only=True)
class SoundCrops:
    """Two spectrograms of a sound and several shorter ones, for methods that draw `MultiCrop` of images."""

    signal: ClassVar[str] = "audio"
    """the signal of a batch that the view reads"""

    global_crop: LogMel
    """view of streams 0 and 1"""
    local_crop: LogMel
    """view of the streams from 2 on"""
    local_crops: int = 2
    """number of local crops; 0 leaves the two global ones"""

    def inputs(self, batch: Batch) -> list[EncoderInput]:
        """Returns two global crops (N, 1, mels, frames), then the local ones, which have fewer frames."""
        streams = range(FIRST_LOCAL, FIRST_LOCAL + self.local_crops)
        return [self.global_crop.input(batch, s) for s in (0, 1)] + [self.local_crop.input(batch, s) for s in streams]

    def plain(self, batch: Batch) -> EncoderInput:
        """Returns the spectrogram of the central window of every sound, without a draw."""
        return self.global_crop.plain(batch)

    def masked(self, patch: int) -> LogMel:
        """Raises BadInput, since square patches are masked in images alone."""
        return self.global_crop.masked(patch)

    def of_sound(self, spec: SpectrogramSpec) -> SoundCrops:
        """Returns the crops themselves."""
        return self


SWAV = MultiCrop(global_crop=replace(SIMCLR, crop=(0.14, 1.0)), local_crop=replace(SIMCLR, crop=(0.05, 0.14)))
"""two crops and six small ones in strong colors: SwAV and DeepCluster-v2 (Caron et al. 2020, appendix A)"""

EASY = MultiCrop(
    global_crop=replace(SIMCLR, crop=(0.2, 1.0)), local_crop=replace(SIMCLR, crop=(0.1, 0.3)), local_crops=2
)
"""larger and fewer crops, for images of so few pixels that smaller crops show nothing"""

DINO = MultiCrop(
    global_crop=Pair(first=replace(BYOL.first, crop=(0.4, 1.0)), second=replace(BYOL.second, crop=(0.4, 1.0))),
    local_crop=replace(BYOL.first, crop=(0.05, 0.4), blur=0.5),
    local_crops=8,
)
"""two crops and eight small ones in the colors of BYOL: DINO (Caron et al. 2021, section 3.1 and appendix A)"""


def _local_size(size: int) -> int:
    """Returns the side of local crops: a multiple of transformers' default patch at the global size, and at least 8.

    Encoders need 8 pixels. With 4, the last stride of 2 would be applied to maps of a single pixel. Their gradients in
    bfloat16 are noise on CPUs (torch 2.13).
    """
    patch = 16 if size >= 112 else 8 if size >= 56 else 4
    return max(8, round(size * 3 / 7 / patch) * patch)
