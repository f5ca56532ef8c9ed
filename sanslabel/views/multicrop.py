"""Multi-crop: two large crops of an image and several small ones (Caron et al. 2020, section 3.3)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sanslabel.batch import Batch
from sanslabel.errors import BadInput
from sanslabel.views.presets import SIMCLR
from sanslabel.views.seen import AnyView, Seen, seen
from sanslabel.views.view import View

FIRST_LOCAL = 2
"""the stream of the first local crop, after those of the two global ones"""


@dataclass(frozen=True, kw_only=True)
class MultiCrop:
    """`view(batch)` -> two global crops (N, C, S, S), then `local_crops` small ones (N, C, s, s). The first two show
    the whole, which the small ones are to tell; they cost little, for they have few pixels."""

    global_crop: AnyView
    """of streams 0 and 1"""
    local_crop: View = SIMCLR
    """of the streams after those"""
    local_crops: int = 6
    """how many; 0 leaves the two global ones"""
    local_size: int | None = None
    """side in pixels of a local crop; None is 3/7 of the global crops', as 96 is of 224, in multiples of 4"""
    size: int | None = None
    """side in pixels of a global crop; None is the shorter side of the batch's canvas"""

    def __post_init__(self) -> None:
        if self.local_crops < 0:
            raise BadInput(f"A multi-crop view's local_crops is {self.local_crops}; give a number from 0 up.")

    def __call__(self, batch: Batch) -> list[Seen]:
        size = self.size or min(batch.images.shape[2:])
        global_crop = self.global_crop if self.global_crop.size else replace(self.global_crop, size=size)
        # Multiples of 4 are whole numbers of a transformer's patches at the usual sizes.
        local_crop = replace(self.local_crop, size=self.local_size or max(4, round(size * 3 / 7 / 4) * 4))
        streams = range(FIRST_LOCAL, FIRST_LOCAL + self.local_crops)
        return [seen(global_crop, batch, s) for s in (0, 1)] + [seen(local_crop, batch, s) for s in streams]
