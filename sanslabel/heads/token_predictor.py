"""The narrow transformer that tells what is at masked places: MAE's decoder and I-JEPA's predictor."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sanslabel.encoders.attention import Block, initialize_
from sanslabel.encoders.tokens import sincos_positions
from sanslabel.errors import BadInput

HEAD = 32
"""width of an attention head, as MAE's decoder of 512 and I-JEPA's predictor of 384 have it"""


class TokenPredictor(nn.Module):
    """From the tokens at some places to predictions at others: all get their positions, those asked for stand in the
    row as one and the same mask token, and blocks of attention do the rest. The class token is not among them, so that
    the patches' tokens, whose mean is the representation, carry all that is told.

    inputs: width of the tokens that come in; width: of the blocks, a multiple of 32; outputs: of a prediction.
    """

    def __init__(self, inputs: int, width: int, depth: int, outputs: int) -> None:
        super().__init__()
        if width < HEAD or width % HEAD:
            raise BadInput(f"A predictor's width is {width}; give a multiple of {HEAD}, the width of its heads.")
        self.width = width
        self.embed = nn.Linear(inputs, width)
        self.mask_token = nn.Parameter(torch.empty(1, 1, width))
        self.blocks = nn.Sequential(*[Block(width, width // HEAD) for _ in range(depth)])
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.head = nn.Linear(width, outputs)
        nn.init.trunc_normal_(self.mask_token, std=0.02)
        initialize_(self)

    def forward(self, tokens: Tensor, places: Tensor, wanted: Tensor, grid: tuple[int, int]) -> Tensor:
        """tokens: (N, K, inputs), at `places` (N, K) of the grid of (rows, columns); wanted: (N, M), the places asked
        for -> (N, M, outputs), in the order asked."""
        positions = sincos_positions(grid, self.width, tokens.device)
        known = self.embed(tokens) + positions[places]
        asked = self.mask_token + positions[wanted]
        row = torch.cat([known, asked], dim=1)  # (N, K + M, width)
        return self.head(self.norm(self.blocks(row)[:, places.shape[1] :]))
