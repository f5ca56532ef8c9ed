"""Images as data URIs, which are part of the page itself."""

from __future__ import annotations

from base64 import b64encode
from io import BytesIO

from PIL import Image
from torch import Tensor

from sanslabel.generation.picture import displayable, grid


def uri(image: Tensor) -> str:
    """Returns an image (C, H, W) in [0, 1] as data:image/png;…. Other channels than one or three are shown as
    `displayable` has them."""
    image = displayable(image[None])[0]
    pixels = (image.float().clamp(0, 1) * 255).round().byte().permute(1, 2, 0).squeeze(2).cpu()
    stream = BytesIO()
    Image.fromarray(pixels.contiguous().numpy()).save(stream, format="PNG")
    return f"data:image/png;base64,{b64encode(stream.getvalue()).decode()}"


def row(images: Tensor) -> str:
    """Returns images (n, C, H, W) side by side as data:image/…."""
    return uri(grid(displayable(images).float().clamp(0, 1).cpu(), len(images)))
