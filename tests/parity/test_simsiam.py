"""The authors' step: SGD that decays all weights, at a constant rate in the predictor."""

from math import cos, pi

import torch
from torch.nn.functional import cosine_similarity

from sanslabel.methods.simsiam import SimSiam


def test_simsiam_trains_as_its_authors_train(side_by_side):
    method = SimSiam(width=32, hidden=8)

    def authors(net, method):
        peak = 0.05 * 16 / 256
        others = [w for name, w in net.named_parameters() if not name.startswith("predictor.")]
        groups = [{"params": others}, {"params": list(net.predictor.parameters())}]
        optimizer = torch.optim.SGD(groups, peak, momentum=0.9, weight_decay=1e-4)

        def step(batch, clock):
            first, second = (net.projector(net.encoder(method.view(batch, stream))) for stream in (0, 1))
            p, q = net.predictor(first), net.predictor(second)
            first, second = first.detach(), second.detach()
            loss = -(cosine_similarity(p, second).mean() + cosine_similarity(q, first).mean()) / 2
            optimizer.zero_grad()
            loss.backward()
            optimizer.param_groups[0]["lr"] = peak * 0.5 * (1 + cos(pi * clock.step / 20))
            optimizer.step()

        return step

    side_by_side(method, SimSiam.recipe, authors, warmup=0, deviation="cosine by step, not by epoch")
