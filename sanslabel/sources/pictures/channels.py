"""Pictures with another number of channels: gray as color, and color as gray."""

from __future__ import annotations

import numpy as np

LUMA = (19595, 38470, 7471)
"""weights of red, green and blue in 65,536ths (Rec. 601), those with which Pillow converts files to gray"""


def with_channels(pixels: np.ndarray, channels: int) -> np.ndarray | None:
    """Returns pictures (..., C, H, W) with this number of channels, in their own dtype; None if there is no conversion.

    Gray becomes color by repeating the channel. Color becomes gray by the weights of luma.
    """
    present = pixels.shape[-3]
    if present == channels:
        return pixels
    if (present, channels) == (1, 3):
        return np.repeat(pixels, 3, axis=-3)
    if (present, channels) == (3, 1):
        return _gray(pixels)
    return None


def _gray(pixels: np.ndarray) -> np.ndarray:
    """Returns the luma of pictures (..., 3, H, W), one after the other, since the sum takes more memory than they."""
    flat = pixels.reshape(-1, *pixels.shape[-3:])
    luma = np.empty((len(flat), 1, *flat.shape[2:]), pixels.dtype)
    integers = pixels.dtype.kind in "iu"
    for picture, gray in zip(flat, luma, strict=True):
        wide = picture.astype(np.int64 if integers else np.float64)
        total = sum(weight * channel for weight, channel in zip(LUMA, wide, strict=True))
        gray[0] = (total + 0x8000) >> 16 if integers else total / 65536
    return luma.reshape(*pixels.shape[:-3], 1, *pixels.shape[-2:])


def conversion_advice(name: str, wanted: int, present: int) -> str:
    """Returns the sentence for pictures that cannot be converted."""
    return (
        f"{name}: the run needs {wanted} channels, and these images have {present}; choose data with {wanted} channels,"
        f" such as {'TIFF files or ' if wanted > 1 else ''}an .npy file of shape (N, {wanted}, H, W)."
    )


def converted_remark(present: int) -> str:
    """Returns the sentence for pictures of 1 or 3 channels that are read with 3 or 1."""
    if present == 1:
        return "The pictures are gray; their channel is repeated, since the encoder reads color."
    return "The pictures have color; they are read as gray, since the encoder reads one channel."
