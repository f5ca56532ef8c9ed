"""The paper's step: a sub-crop of each patch, the rows above predict each row below, all patches of the batch are
candidates, Adam with a constant learning rate."""

from itertools import product

import torch
from torch.nn.functional import cross_entropy, layer_norm, pad

from sanslabel.methods.cpc import CPC
from sanslabel.randomness import fold, integers


def test_cpc_trains_as_its_paper_trains(side_by_side):
    method = CPC(farthest=3, hidden=8, blocks=2, subcrop=3 / 4)

    def authors(net, method):
        adam = torch.optim.Adam(net.parameters(), lr=2e-4)

        def context(grid):
            for block in net.context.blocks:
                narrow, causal, wide = [layer for layer in block if isinstance(layer, torch.nn.Conv2d)]
                inner = narrow(grid.relu()).relu()
                grid = grid + wide(causal(pad(inner, (1, 1, 1, 0))).relu())
            return grid

        def step(batch, clock):
            view = method.view(batch, 0)  # 4x4 patches of 4 pixels, 3 of which are shown
            cut = view.unfold(2, 4, 2).unfold(3, 4, 2).permute(0, 2, 3, 1, 4, 5).flatten(0, 2)
            mean, deviation = cut.mean((1, 2, 3), keepdim=True), cut.std((1, 2, 3), correction=0, keepdim=True)
            cut = ((cut - mean) / (4 * (deviation + 0.01)) + 0.5).clamp(0, 1)
            tops, lefts = integers(batch.key, 2 * 16, 2, fold(0, 2)).view(-1, 2, 16, 1, 1, 1).unbind(1)
            shown = torch.zeros_like(cut)
            for top, left in product((0, 1), (0, 1)):
                here = (tops.flatten(0, 1) == top) & (lefts.flatten(0, 1) == left)
                shown += here * pad(cut[:, :, top : top + 3, left : left + 3], (0, 1, 0, 1), value=0.5)
            z = layer_norm(net.encoder(shown), net.norm.normalized_shape, net.norm.weight, net.norm.bias)
            grid = z.view(len(view), 4, 4, -1)
            c = context(grid.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
            place = torch.arange(len(z)).view(len(view), 4, 4)
            losses = [
                cross_entropy(predictor(c[:, :-k]).flatten(0, 2) @ z.T, place[:, k:].flatten(), reduction="sum")
                for k, predictor in zip((2, 3), net.predictors, strict=True)
            ]
            adam.zero_grad()
            (sum(losses) / (len(view) * 4 * (2 + 1))).backward()
            adam.step()

        return step

    side_by_side(
        method,
        CPC.recipe,
        authors,
        encoder={"name": "dcgan", "filters": 4},
        image_size=10,
        warmup=0,
        deviation="no code of the authors: context network, LayerNorm, standardized patches, mean over predictions",
    )
