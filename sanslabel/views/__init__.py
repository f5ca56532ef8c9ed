"""Views: how related inputs are drawn from one sample, batched, on the device of the batch.

a, b = views.SIMCLR(batch, 0), views.SIMCLR(batch, 1)  # (N, C, S, S) each
"""

from sanslabel.views.masks import Masked, kept
from sanslabel.views.multicrop import MultiCrop
from sanslabel.views.presets import BYOL, MASKED, RECONSTRUCTION, SIMCLR, WEAK
from sanslabel.views.resize import resized
from sanslabel.views.seen import AnyView, Seen, encoded, seen, together
from sanslabel.views.tiles import tiles
from sanslabel.views.turns import turned
from sanslabel.views.view import Draw, Pair, View

__all__ = [
    "BYOL",
    "MASKED",
    "RECONSTRUCTION",
    "SIMCLR",
    "WEAK",
    "AnyView",
    "Draw",
    "Masked",
    "MultiCrop",
    "Pair",
    "Seen",
    "View",
    "encoded",
    "kept",
    "resized",
    "seen",
    "tiles",
    "together",
    "turned",
]
