"""Views: how related inputs are drawn from one sample, batched, on the device of the batch.

a, b = views.SIMCLR(batch, 0), views.SIMCLR(batch, 1)  # (N, C, S, S) each
"""

from sanslabel.views.blocks import Blocks, blockwise, multiblock
from sanslabel.views.corruption import Corruption, corrupted
from sanslabel.views.masks import Masked, kept, others, visible
from sanslabel.views.multicrop import DINO, EASY, SWAV, MultiCrop
from sanslabel.views.permutations import permutations, shuffled
from sanslabel.views.presets import BYOL, MASKED, RECONSTRUCTION, SIMCLR, WEAK, WHOLE
from sanslabel.views.resize import resized
from sanslabel.views.seen import AnyView, Seen, encoded, grouped, seen, together
from sanslabel.views.tiles import tile_side, tiles
from sanslabel.views.turns import turned, turns
from sanslabel.views.view import Draw, Pair, View

__all__ = [
    "BYOL",
    "DINO",
    "EASY",
    "MASKED",
    "RECONSTRUCTION",
    "SIMCLR",
    "SWAV",
    "WEAK",
    "WHOLE",
    "AnyView",
    "Blocks",
    "Corruption",
    "Draw",
    "Masked",
    "MultiCrop",
    "Pair",
    "Seen",
    "View",
    "blockwise",
    "corrupted",
    "encoded",
    "grouped",
    "kept",
    "multiblock",
    "others",
    "permutations",
    "resized",
    "seen",
    "shuffled",
    "tile_side",
    "tiles",
    "together",
    "turned",
    "turns",
    "visible",
]
