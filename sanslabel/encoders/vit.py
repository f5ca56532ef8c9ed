"""Vision transformers (Dosovitskiy et al. 2021, "An image is worth 16x16 words").

Architecture and names are timm's, so that weights travel both ways.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sanslabel.encoders.attention import Block, Start, initialize_
from sanslabel.encoders.encoder import Encoder, Scaling
from sanslabel.encoders.tokens import at, sincos_positions
from sanslabel.errors import BadInput, suggestion
from sanslabel.inputs import height_and_width


class PatchEmbed(nn.Module):
    """One linear map of every patch: (N, C, H, W) -> (N, H W / patch², D), row by row."""

    def __init__(self, channels: int, width: int, patch: int):
        super().__init__()
        self.proj = nn.Conv2d(channels, width, patch, stride=patch)

    def forward(self, images: Tensor) -> Tensor:
        return self.proj(images).flatten(2).mT


class Shape(NamedTuple):
    """Number of blocks, width of tokens and number of heads."""

    depth: int
    width: int
    heads: int


SHAPES = {
    "vit_micro": Shape(6, 128, 4),
    "vit_tiny": Shape(12, 192, 3),
    "vit_small": Shape(12, 384, 6),
    "vit_base": Shape(12, 768, 12),
}


class VisionTransformer(Encoder):
    """ViT-Tiny, -Small and -Base, and for CPUs micro: 6 blocks of width 128, 1.2 M parameters.

    Micro spends its time on moving tokens rather than on matrix products. Forward + backward of 28x28 gray images in
    bf16 is 2.3 times as fast as with width 192. Four heads of 32 cost a tenth more than two of 64.

    patch: pixels a side. None is 16 for images from 112 pixels on, 8 from 56, 4 from 24, else 2. That makes 4 to 14
        patches a side at the usual sizes (8, 28, 32, 64, 96, 224).
    pool: "class", the class token, as in ViT, DINO and timm: with timm's weights, `forward` returns timm's output. Or
        "mean", the mean of the patch tokens, for methods that do not train the class token (MAE, I-JEPA, data2vec).
    positions: "learned", or "sincos", sines and cosines that are not trained, for methods that predict tokens at
        places (MAE, I-JEPA, data2vec). Both draw the same random numbers, so that all other weights start alike.
    heads: heads of attention, which divide the width. None is 4 for micro, 3 for Tiny, 6 for Small and 12 for Base.
    start: the code that its random weights are from, "timm", "mae", "data2vec" or "moco_v3", see
        `attention.initialize_`.
    scaling: (mean, std) of the channels, None to take images as they are.
    patches: (size, stride) of the patches whose mean is the representation, None to read images as a whole.
    """

    names = tuple(SHAPES)
    rectangles = True
    entry_points = ("embed",)

    def __init__(
        self,
        name: str,
        channels: int,
        image_size: int | tuple[int, int],
        *,
        patch: int | None = None,
        pool: str = "class",
        positions: str = "learned",
        heads: int | None = None,
        start: Start = "timm",
        scaling: Scaling | None = None,
        patches: Sequence[int] | None = None,
    ):
        height, length = height_and_width(image_size)
        if patch is None:
            side = min(height, length)
            patch = 16 if side >= 112 else 8 if side >= 56 else 4 if side >= 24 else 2
        _check_choice(name, "is no pool", pool, ["class", "mean"])
        _check_choice(name, "are no positions", positions, ["learned", "sincos"])
        _check_choice(name, "is no start", start, list(get_args(Start)))
        grid = _grid(height, length, patch)
        depth, width, usual = SHAPES[name]
        if heads is not None and (heads < 1 or width % heads):
            raise BadInput(f"--encoder {name}: heads is {heads}: give a divisor of the width, {width}.")
        config = {"name": name, "channels": channels, "image_size": image_size, "patch": patch, "pool": pool}
        config |= {"positions": positions, "start": start} | ({"heads": heads} if heads else {})
        super().__init__(config, width, scaling, patches)
        self.patch, self.pool, self.grid = patch, pool, grid
        self.patch_embed = PatchEmbed(channels, width, patch)
        self.cls_token = nn.Parameter(torch.empty(1, 1, width))
        self.pos_embed = nn.Parameter(torch.empty(1, 1 + math.prod(self.grid), width))
        self.blocks = nn.Sequential(*[Block(width, heads or usual) for _ in range(depth)])
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self._initialize_(start)
        if positions == "sincos":
            self.fix_positions_()

    @classmethod
    def completed(cls, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Mapping[str, Any]:
        """Returns the configuration with the kind of positions. Fixed ones have exactly 0 for the class token, and
        learned ones never do."""
        if "positions" in config:
            return config
        positions = tensors.get("pos_embed")
        fixed = positions is not None and positions.ndim == 3 and not positions[:, 0].any()
        return {**config, "positions": "sincos" if fixed else "learned"}

    def _initialize_(self, start: Start) -> None:
        """Initializes all weights."""
        nn.init.normal_(self.cls_token, std=1e-6 if start in ("timm", "moco_v3") else 0.02)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        initialize_(self, start)

    def forward(self, images: Tensor, keep: Tensor | None = None, patch: int | None = None) -> Tensor:
        """Returns the representation, (N, D), of the images, or of the patches to `keep`, (N, K) int64, whose side is
        `patch` pixels. Raises BadInput if the encoder's patches have another side."""
        if patch not in (None, self.patch):
            raise BadInput(
                f"The view masks patches of {patch} pixels and the encoder's have {self.patch}: give both the same "
                f"(Masked(patch={self.patch}, …), or the encoder option patch={patch})."
            )
        if keep is None:
            return super().forward(images)
        return self.pooled(self.tokens(images, keep))

    def tokens(
        self, images: Tensor, keep: Tensor | None = None, masked: Tensor | None = None, fill: Tensor | None = None
    ) -> Tensor:
        """Returns the normalized tokens of the last block, (N, 1 + T, D). The arguments are those of `embed`."""
        return self.norm(self.blocks(self.embed(images, keep, masked, fill)))

    def pool_(self, pool: str) -> None:
        """Makes `forward` take the representation from `pool` from now on, for methods that do not train the class
        token. This is configuration, not state."""
        self.pool = self.config["pool"] = pool

    @torch.no_grad()
    def fix_positions_(self) -> None:
        """Replaces the learned positions by sines and cosines that are not trained, with 0 for the class token."""
        self.pos_embed[:, 1:].copy_(sincos_positions(self.grid, self.width))
        self.pos_embed[:, :1].zero_()
        self.pos_embed.requires_grad_(False)
        self.config["positions"] = "sincos"

    def grid_of(self, images: Tensor) -> tuple[int, int]:
        """Returns the grid of these images: the patches down and along. Raises BadInput if patches do not fit."""
        height, width = images.shape[-2:]
        return _grid(height, width, self.patch)

    def embed(
        self, images: Tensor, keep: Tensor | None = None, masked: Tensor | None = None, fill: Tensor | None = None
    ) -> Tensor:
        """Returns tokens with their positions, (N, 1 + T, D), the class token first.

        keep: (N, K) int64, the patches to keep, counted row by row, in the order of the result, (N, 1 + K, D). A patch
            keeps the position that it has in the full image.
        masked, fill: (N, M) int64 and (D,): patches whose content is replaced by `fill`, in their places.
        """
        positions = self.positions(self.grid_of(images))
        patches = self.patch_embed(self.scaled(images))  # (N, T, D)
        if masked is not None:
            assert fill is not None
            index = masked[:, :, None].expand(-1, -1, self.width)
            patches = patches.scatter(1, index, fill.to(patches.dtype).expand(index.shape))
        patches = patches + positions[:, 1:]
        if keep is not None:
            patches = at(patches, keep)
        first = (self.cls_token + positions[:, :1]).expand(len(patches), -1, -1)
        return torch.cat([first, patches], dim=1)

    def positions(self, grid: tuple[int, int]) -> Tensor:
        """Returns the positions that are added to the tokens of a grid of h x w patches, (1, 1 + h · w, D). For another
        grid than the encoder's they are interpolated."""
        return self.pos_embed if grid == self.grid else interpolated(self.pos_embed, self.grid, grid)

    def units(self) -> list[nn.Module]:
        """Returns the blocks."""
        return list(self.blocks)

    def maps(self, images: Tensor) -> list[Tensor]:
        """Returns the patch tokens after each block as maps (N, D, h, w), those of the last block normalized."""
        grid = self.grid_of(images)
        return [tokens[:, 1:].mT.unflatten(2, grid) for tokens in self.stages(images)]

    def fitted(self, name: str, tensor: Tensor) -> tuple[Tensor, str] | None:
        """Returns a given tensor in the shape of the encoder's, see `Encoder.fitted`. Positions of another square grid
        are interpolated, and fixed positions stay as they are."""
        if name != "pos_embed":
            return super().fitted(name, tensor)
        if self.config["positions"] == "sincos":
            return self.pos_embed, "fixed sines and cosines, left as they are"
        if tensor.shape == self.pos_embed.shape:
            return tensor, ""
        side = math.isqrt(max(0, tensor.shape[1] - 1)) if tensor.ndim == 3 else 0
        if not side or tensor.shape != (1, 1 + side**2, self.width):
            return None
        new = interpolated(tensor, (side, side), self.grid)
        return new, f"interpolated from {side}x{side} to {self.grid[0]}x{self.grid[1]} patches"

    def tokens_after_each_block(self, tokens: Tensor) -> list[Tensor]:
        """Returns the tokens (N, T, D) after each block and before the last norm. `tokens` are those of `embed`.

        The module `blocks`, which has timm's name, returns only the last of these.
        """
        after = []
        for block in self.blocks:
            tokens = block(tokens)
            after.append(tokens)
        return after

    def stages(self, images: Tensor) -> list[Tensor]:
        """Returns the tokens after each block, (N, 1 + T, D), the class token first, those of the last block
        normalized."""
        *before, last = self.tokens_after_each_block(self.embed(images))
        return [*before, self.norm(last)]

    def pooled(self, stage: Tensor) -> Tensor:
        return stage[:, 0] if self.pool == "class" else stage[:, 1:].mean(dim=1)


def transformer(encoder: Encoder, method: str) -> VisionTransformer:
    """Returns the encoder as the transformer that this method needs. Raises BadInput for any other encoder."""
    if not isinstance(encoder, VisionTransformer):
        raise BadInput(
            f"--encoder {encoder.config['name']}: {method} hides patches, and a convnet has no tokens to drop: it "
            f"would read the edges of the gaps; choose one of {', '.join(SHAPES)}."
        )
    return encoder


def interpolated(positions: Tensor, old: tuple[int, int], new: tuple[int, int]) -> Tensor:
    """Returns positions for another grid of patches, by antialiased bicubic interpolation, as in timm. The position of
    the class token stays as it is.

    positions: (1, 1 + h · w, D); old: (h, w), the patches down and along; new: (h', w') -> (1, 1 + h' · w', D).
    """
    first, places = positions[:, :1], positions[:, 1:]
    wide = torch.promote_types(places.dtype, torch.float32)
    with torch.autocast(places.device.type, enabled=False):
        moved = _bicubic(old, new, wide, places.device) @ places.to(wide)
    return torch.cat([first, moved.to(places.dtype)], dim=1)


@lru_cache(maxsize=16)
def _bicubic(old: tuple[int, int], new: tuple[int, int], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Returns the weight of every place of the old grid in every place of the new one, (T', T). As a matrix product,
    interpolation has the same gradient each time on every device. On CUDA, the gradient of torch's own interpolation
    sums in random order."""
    basis = torch.eye(math.prod(old), dtype=torch.float64).view(-1, 1, *old)
    weights = F.interpolate(basis, size=new, mode="bicubic", antialias=True)
    return weights.flatten(1).T.contiguous().to(device, dtype)


def _check_choice(encoder: str, fault: str, value: object, known: list[str]) -> None:
    """Raises BadInput, with the fault in its sentence, if an option of the encoder has an unknown value."""
    if value not in known:
        raise BadInput(f"--encoder {encoder}: there {fault} {value!r}: {suggestion(str(value), known)}")


def _grid(height: int, width: int, patch: int) -> tuple[int, int]:
    """Returns the patches of an image down and along. Raises BadInput if patches do not fit."""
    if patch < 1:
        raise BadInput(f"patch is {patch}: give the pixels along one side of a patch, 1 or more.")
    if height % patch or width % patch:
        low = max(min(height, width) // patch, 1) * patch
        raise BadInput(
            f"Images of {height}x{width} pixels cannot be cut into patches of {patch}x{patch}: make both sides a "
            f"multiple of {patch}, such as {low} or {low + patch} (--image-size), or the patch a divisor of both."
        )
    return height // patch, width // patch
