"""The authors' step: a scale that is learned as a logarithm, the mean of both cross-entropies over all pairs, Adam with
decoupled weight decay of matrices alone, and a scale of 100 at most."""

from math import cos, pi

import torch
from torch.nn.functional import cross_entropy, normalize

from sanslabel.methods.cross_modal import CrossModal
from sanslabel.views import LogMel


def test_cross_modal_trains_as_its_authors_train(side_by_side):
    method = CrossModal(width=16, temperature=0.0101)

    def authors(net, method):
        scale = net.temperature.log_scale
        matrices = [w for w in net.parameters() if w.ndim > 1]
        vectors = [w for w in net.parameters() if w.ndim == 1]
        groups = [{"params": matrices, "weight_decay": 0.2}, {"params": vectors, "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(groups, lr=5e-4)

        def step(batch, clock):
            sound = LogMel.of(net.encoders["audio"].reads).input(batch, 1).images
            image = normalize(net.projectors["image"](net.encoders["image"](method.view(batch, 0))), dim=1)
            audio = normalize(net.projectors["audio"](net.encoders["audio"](sound)), dim=1)
            logits = scale.exp() * image @ audio.T
            partner = torch.arange(len(image))
            loss = (cross_entropy(logits, partner) + cross_entropy(logits.T, partner)) / 2
            optimizer.zero_grad()
            loss.backward()
            progress = (clock.step - 4) / (20 - 4)
            for group in optimizer.param_groups:
                group["lr"] = 5e-4 * ((clock.step + 1) / 4 if clock.step < 4 else 0.5 * (1 + cos(pi * progress)))
            optimizer.step()
            with torch.no_grad():
                scale.clamp_(max=torch.tensor(100.0).double().log().item())

        return step

    ours, _ = side_by_side(method, CrossModal.recipe, authors, deviation="sounds for captions; warm-up begins above 0")
    assert 0.0099 < ours.temperature().item() < 0.0102
