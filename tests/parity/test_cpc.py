"""The paper's step: a sub-crop of each patch, the rows above predict each row below, all patches of the batch are
candidates, Adam with a constant learning rate."""

import torch
from torch.nn.functional import cross_entropy, layer_norm, pad

from sanslabel.methods.cpc import CPC
from sanslabel.randomness import fold, integers


def test_cpc_trains_as_its_paper_trains(side_by_side):
    method = CPC(farthest=3, hidden=8, blocks=2, subcrop=7 / 8)

    def authors(net, method):
        adam = torch.optim.Adam(net.parameters(), lr=2e-4)

        def context(grid):
            for block in net.context.blocks:
                narrow, causal, wide = [layer for layer in block if isinstance(layer, torch.nn.Conv2d)]
                inner = narrow(grid.relu()).relu()
                grid = grid + wide(causal(pad(inner, (1, 1, 1, 0))).relu())
            return grid

        def step(batch, clock):
            view = method.view(batch, 0)
            corner = integers(batch.key, 2 * 49, 2, fold(0, 2)).view(-1, 2, 7, 7)
            shown = []
            for image, (tops, lefts) in zip(view, corner, strict=True):
                for row in range(7):
                    for column in range(7):
                        cut = image[:, 4 * row : 4 * row + 8, 4 * column : 4 * column + 8]
                        cut = ((cut - cut.mean()) / (4 * (cut.std(correction=0) + 0.01)) + 0.5).clamp(0, 1)
                        top, left = tops[row, column], lefts[row, column]
                        shown.append(pad(cut[:, top : top + 7, left : left + 7], (0, 1, 0, 1), value=0.5))
            z = layer_norm(net.encoder(torch.stack(shown)), net.norm.normalized_shape, net.norm.weight, net.norm.bias)
            grid = z.view(len(view), 7, 7, -1)
            c = context(grid.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
            place = torch.arange(len(z)).view(len(view), 7, 7)
            losses = [
                cross_entropy(predictor(c[:, :-k]).flatten(0, 2) @ z.T, place[:, k:].flatten(), reduction="sum")
                for k, predictor in zip((2, 3), net.predictors, strict=True)
            ]
            adam.zero_grad()
            (sum(losses) / (len(view) * 7 * (5 + 4))).backward()
            adam.step()

        return step

    side_by_side(
        method,
        CPC.recipe,
        authors,
        encoder={"name": "dcgan", "filters": 1},
        image_size=32,
        warmup=0,
        deviation="no code of the authors: context network, LayerNorm, standardized patches, mean over predictions",
    )
