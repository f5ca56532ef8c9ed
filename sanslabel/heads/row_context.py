"""CPC's context network."""

from __future__ import annotations

from torch import Tensor, nn


class RowContext(nn.Module):
    """CPC's context network: residual blocks of a 1x1, a causal 2x3 and a 1x1 convolution (Hénaff et al. 2020,
    appendix). The context of a place depends on its row and the rows above; each block reads one row further up.

    Theirs has a 1x3 and a 2x1 convolution in place of the 2x3. Its blocks have no ReLU at their start, and one follows
    the last block.

    grid: (N, D, R, C) -> (N, D, R, C). There is no normalization, since over a map it would depend on the rows below.
    """

    def __init__(self, width: int, hidden: int, blocks: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.ReLU(),
                nn.Conv2d(width, hidden, 1),
                nn.ReLU(),
                nn.ZeroPad2d((1, 1, 1, 0)),  # left, right, above, nothing below
                nn.Conv2d(hidden, hidden, (2, 3)),
                nn.ReLU(),
                nn.Conv2d(hidden, width, 1),
            )
            for _ in range(blocks)
        )

    def forward(self, grid: Tensor) -> Tensor:
        for block in self.blocks:
            grid = grid + block(grid)
        return grid
