"""The views of papers, for any number of channels. If images are not RGB, only brightness and contrast change.

Sizes are open. Crops and strengths are those of the papers' code, or of its settings for CIFAR. The rendering differs
from the authors' in three ways, besides colors (see `View`).

Resampling is bilinear, as for MoCo, SimSiam, SwAV and LeJEPA. SimCLR, BYOL, Barlow Twins, VICReg and DINO have bicubic
resampling, whose matrices would take 6 times as long to make.
The blur ends at a twentieth of the side in each direction, as for SimCLR and BYOL. The others use Pillow's, which has
no end. At 96 pixels the kernel here ends at 4 pixels, twice the largest σ.
Brightness is a factor, as in torchvision. BYOL's authors add to it.
"""

from __future__ import annotations

from dataclasses import replace

from sanslabel.views.masks import Masked
from sanslabel.views.view import Pair, View

SIMCLR = View(
    crop=(0.08, 1.0),
    flip=0.5,
    jitter=0.8,
    brightness=0.8,
    contrast=0.8,
    saturation=0.8,
    hue=0.2,
    grayscale=0.2,
    blur=0.5,
    without_rgb="omit",
)
"""strong colors, for contrastive methods: Chen et al. 2020, appendix A"""

WEAK = replace(SIMCLR, crop=(0.2, 1.0), brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1)
"""half the strength and larger crops: MoCo v2 (Chen et al. 2020b) and SimSiam (Chen and He 2021)"""

_MODERATE = replace(SIMCLR, brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1)

BYOL = Pair(first=replace(_MODERATE, blur=1.0), second=replace(_MODERATE, blur=0.1, solarize=0.2))
"""the first view always blurred, the second seldom, but sometimes solarized: Grill et al. 2020, appendix B; also for
Barlow Twins and VICReg"""

RECONSTRUCTION = View(crop=(0.08, 1.0), flip=0.5)
"""crops and flips without changes of color, for autoencoders and supervised references: MAE (He et al. 2022) has them
with crops from 0.2"""

WHOLE = View()
"""the image as it is, resized, for models of images themselves"""

MASKED = Masked(view=replace(SIMCLR, crop=None))
"""75 % of the patches masked instead of a crop, for joint embeddings"""
