"""Pictures that stand in the page itself."""

from __future__ import annotations

from base64 import b64encode
from io import BytesIO

import torch
from PIL import Image
from torch import Tensor

from sanslabel.generation.grid import grid
from sanslabel.views import resized

THUMBNAIL = 32
"""side in pixels, at most"""


def uri(picture: Tensor, kind: str = "PNG") -> str:
    """(C, H, W) in [0, 1] -> data:image/…; of other than one or three channels the first is shown."""
    picture = picture if picture.shape[0] in (1, 3) else picture[:1]
    pixels = (picture.float().clamp(0, 1) * 255).round().byte().permute(1, 2, 0).squeeze(2).cpu()
    stream = BytesIO()
    Image.fromarray(pixels.contiguous().numpy()).save(stream, format=kind, quality=72)
    return f"data:image/{kind.lower()};base64,{b64encode(stream.getvalue()).decode()}"


def row(images: Tensor) -> str:
    """(n, C, H, W) -> one picture, side by side."""
    images = images if images.shape[1] in (1, 3) else images[:, :1]
    return uri(grid(images.float().clamp(0, 1).cpu(), len(images)))


def sprite(images: Tensor, columns: int) -> str:
    """(n, C, S, S) -> one JPEG with all of them, row by row, without gaps."""
    n, channels, side, _ = images.shape
    rows = -(-n // columns)
    sheet = torch.zeros(rows * columns, channels, side, side)
    sheet[:n] = images
    paper = sheet.view(rows, columns, channels, side, side).permute(2, 0, 3, 1, 4).reshape(channels, rows * side, -1)
    return uri(paper, "JPEG")


def thumbnails(images: Tensor) -> Tensor:
    """(n, C, S, S) -> (n, C, s, s), s at most 32."""
    return resized(images, THUMBNAIL).float() if images.shape[-1] > THUMBNAIL else images.float()
