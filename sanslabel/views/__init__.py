"""Views: how related inputs are drawn from one sample, batched, on the device of the batch.

a, b = views.SIMCLR(batch, 0), views.SIMCLR(batch, 1)  # (N, C, S, S) each
"""

from sanslabel.views.masks import Masked, kept
from sanslabel.views.presets import BYOL, MASKED, RECONSTRUCTION, SIMCLR, WEAK
from sanslabel.views.resize import resized
from sanslabel.views.view import Draw, Pair, View

AnyView = View | Pair | Masked
"""what a method's `view` may be"""

__all__ = [
    "BYOL",
    "MASKED",
    "RECONSTRUCTION",
    "SIMCLR",
    "WEAK",
    "AnyView",
    "Draw",
    "Masked",
    "Pair",
    "View",
    "kept",
    "resized",
]
