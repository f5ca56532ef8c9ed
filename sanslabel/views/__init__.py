"""Views: related inputs drawn from one sample, batched, on the device of the batch.

a, b = views.SIMCLR(batch, 0), views.SIMCLR(batch, 1)  # (N, C, S, S) each
"""

from sanslabel.views.blocks import Blocks, blockwise, multiblock
from sanslabel.views.corruption import Corruption, corrupted
from sanslabel.views.encoder_input import EncoderInput, concatenate, forward_by_size, ghost_batches
from sanslabel.views.masks import Masked, kept_patches, other_patches, visible
from sanslabel.views.multicrop import DINO, EASY, SWAV, MultiCrop, SoundCrops
from sanslabel.views.permutations import permutations, shuffled
from sanslabel.views.plain_view import PlainView, plain_view
from sanslabel.views.presets import BYOL, MASKED, RECONSTRUCTION, SIMCLR, WEAK, WHOLE
from sanslabel.views.resize import resize_images, resized
from sanslabel.views.rotations import rotated, rotations
from sanslabel.views.spectrogram import LogMel, sound_view
from sanslabel.views.stretched import stretched
from sanslabel.views.text import Gaps, Text, gaps
from sanslabel.views.tiles import subcropped, tile_side, tiles, view_of_each
from sanslabel.views.view import Draw, Pair, View

AnyView = View | Pair | Masked | LogMel
"""kinds of view that methods with two views of a sample accept"""
AnyCrops = MultiCrop | SoundCrops
"""kinds of view that methods with several crops of a sample accept"""

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
    "AnyCrops",
    "AnyView",
    "Blocks",
    "Corruption",
    "Draw",
    "EncoderInput",
    "Gaps",
    "LogMel",
    "Masked",
    "MultiCrop",
    "Pair",
    "PlainView",
    "SoundCrops",
    "Text",
    "View",
    "blockwise",
    "concatenate",
    "corrupted",
    "forward_by_size",
    "gaps",
    "ghost_batches",
    "kept_patches",
    "multiblock",
    "other_patches",
    "permutations",
    "plain_view",
    "resize_images",
    "resized",
    "rotated",
    "rotations",
    "shuffled",
    "sound_view",
    "stretched",
    "subcropped",
    "tile_side",
    "tiles",
    "view_of_each",
    "visible",
]
