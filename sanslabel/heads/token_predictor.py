"""The narrow transformer that predicts masked places: MAE's decoder and I-JEPA's predictor."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sanslabel.encoders.attention import Block, Start, initialize_
from sanslabel.encoders.tokens import sincos_positions
from sanslabel.errors import BadInput

HEAD = 32
"""width of an attention head, as in MAE's decoder of width 512 and I-JEPA's predictor of width 384"""


class TokenPredictor(nn.Module):
    """A transformer from the tokens at some places to predictions at others.

    Every place enters with its position. A place to predict enters as the mask token, which is the same for all such
    places. Blocks of attention then make the predictions. The class token is not used, so that all information is in
    the patches' tokens, whose mean is the representation.

    inputs: width of the tokens that come in. width: width of the blocks, a multiple of 32. outputs: width of a
    prediction. start: the code that its random weights are from, see `attention.initialize_`. Raises BadInput if the
    width is not such a multiple.
    """

    def __init__(self, inputs: int, width: int, depth: int, outputs: int, start: Start = "timm") -> None:
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
        initialize_(self, start)

    def forward(self, tokens: Tensor, places: Tensor, masked: Tensor, grid: tuple[int, int]) -> Tensor:
        """Returns predictions at the masked places, (N, M, outputs), in their order.

        tokens: (N, K, inputs), at `places` (N, K) int64 of a grid of (rows, columns); masked: (N, M) int64.
        """
        positions = sincos_positions(grid, self.width, tokens.device)
        given = self.embed(tokens) + positions[places]
        queries = self.mask_token + positions[masked]
        sequence = torch.cat([given, queries], dim=1)  # (N, K + M, width)
        return self.head(self.norm(self.blocks(sequence)[:, places.shape[1] :]))
