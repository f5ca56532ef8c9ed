"""Changes of tones: fewer levels, another sharpness, inverted highlights and the widest contrast.

PIRL's authors draw whether an image gets all four, in this order (the code of Misra and van der Maaten 2020). Each is
Pillow's operation, without its rounding to whole levels.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from sanslabel.randomness import fold, uniform

BRANCH = 7
"""branch of a stream that tones are drawn from"""


class Tones(NamedTuple):
    """Changes of the tones of every sample."""

    changed: Tensor
    """(N,) bool, False for samples that stay as they are"""
    bits: Tensor
    """(N,) int64, bits that are left of each 8-bit level, 4 to 8"""
    sharpness: Tensor
    """(N,) factor of the distance from a smoothed image, 0.1 to 1.9"""
    threshold: Tensor
    """(N,) values from here up are inverted, 0 to 256/255"""


def draw_tones(key: Tensor, probability: float, stream: int) -> Tones:
    """Returns the draws for every sample: (N,) keys -> (N,) each."""
    on, bits, sharpness, threshold = uniform(key, 4, fold(stream, BRANCH)).unbind(1)
    return Tones(on < probability, 4 + (5 * bits).long(), 0.1 + 1.8 * sharpness, (257 * threshold).floor() / 255)


def toned(images: Tensor, tones: Tones) -> Tensor:
    """Returns the images with their tones changed.

    images: (N, C, H, W), floating in [0, 1] -> the same shape and dtype, in [0, 1].
    """
    changed = posterized(images, tones.bits)
    changed = sharpened(changed, tones.sharpness)
    changed = stretched(solarized(changed, tones.threshold))
    return torch.where(tones.changed[:, None, None, None], changed, images)


def posterized(images: Tensor, bits: Tensor) -> Tensor:
    """Returns the images with only the highest bits of each level, of 256. bits: (N,) int64, 1 to 8."""
    step = _per_image(2.0 ** (8 - bits), images)
    return (images * 255).round().div(step).floor() * step / 255


def sharpened(images: Tensor, factor: Tensor) -> Tensor:
    """Returns the images moved away from smoothed ones, clamped to [0, 1]: 0 smooths, 1 changes nothing. The border
    stays. A smoothed pixel is the mean of its 3 x 3 pixels, in which it counts five times. factor: (N,)."""
    if min(images.shape[2:]) < 3:
        return images
    inner = images[..., 1:-1, 1:-1]
    smooth = (9 * avg_pool2d(images, 3, stride=1) + 4 * inner) / 13
    result = images.clone()
    result[..., 1:-1, 1:-1] = torch.lerp(smooth, inner, _per_image(factor, images).expand_as(inner))
    return result.clamp_(0, 1)


def solarized(images: Tensor, threshold: Tensor) -> Tensor:
    """Returns the images with values from the threshold up inverted. threshold: (N,)."""
    return torch.where(images < _per_image(threshold, images), images, 1 - images)


def stretched(images: Tensor) -> Tensor:
    """Returns the images with the lowest and highest value of each channel brought to 0 and 1. A flat channel stays."""
    low, high = images.amin(dim=(2, 3), keepdim=True), images.amax(dim=(2, 3), keepdim=True)
    return torch.where(high > low, (images - low) / (high - low), images)


def _per_image(values: Tensor, images: Tensor) -> Tensor:
    return values.to(images.dtype)[:, None, None, None]
