"""The complexity of single images: the size of their lossless compression."""

from __future__ import annotations

from io import BytesIO
from math import log
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from PIL.Image import Image

CODERS = ({"format": "PNG", "optimize": True}, {"format": "WEBP", "lossless": True})
"""the lossless coders; the smaller of their results counts"""


def compressed_nats(images: Tensor) -> Tensor:
    """Returns the compressed size of each image in nats: (N, C, H, W) in [0, 1], taken as eight bits a value -> (N,).

    The smaller of PNG and lossless WebP counts. One coder can be poor at a simple image, so more coders give a better
    bound on its complexity.
    """
    from PIL import Image

    pixels = (images.float() * 255).round().to("cpu", torch.uint8)
    if pixels.shape[1] == 3:
        pictures = [Image.fromarray(image.numpy()) for image in pixels.permute(0, 2, 3, 1).contiguous()]
    else:  # the channels one below the other
        pictures = [Image.fromarray(image.numpy()) for image in pixels.flatten(1, 2)]
    smallest = [min(_bytes(picture, **coder) for coder in CODERS) for picture in pictures]
    return torch.tensor(smallest, device=images.device) * (8 * log(2))


def _bytes(picture: Image, **coder: Any) -> int:
    file = BytesIO()
    picture.save(file, **coder)
    return file.tell()
