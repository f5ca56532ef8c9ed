"""The authors' step: each network embeds one view at a time, LARS by hand, then the teacher's average."""

from math import cos, pi

import torch
from torch.nn.functional import normalize

from sanslabel.methods.byol import BYOL


def test_byol_trains_as_its_authors_train(side_by_side):
    method = BYOL(hidden=32, width=16)

    def authors(net, method):
        student = {name: w for name, w in net.named_parameters() if not name.startswith("teacher.")}
        averages = dict(net.teacher.named_parameters())
        momenta = {name: torch.zeros_like(w) for name, w in student.items()}

        def step(batch, clock):
            views = [method.view(batch, stream) for stream in (0, 1)]
            p, q = (normalize(net.predictor(net.projector(net.encoder(v))), dim=1) for v in views)
            with torch.no_grad():
                t, u = (normalize(net.teacher.projector(net.teacher.encoder(v)), dim=1) for v in views)
            loss = ((p - u).square().sum(dim=1) + (q - t).square().sum(dim=1)).mean()
            gradients = torch.autograd.grad(loss, list(student.values()))
            decay = 0.5 * (1 + cos(pi * (clock.step - 4) / (20 - 4)))
            rate = 0.2 * 16 / 256 * ((clock.step + 1) / 4 if clock.step < 4 else decay)
            momentum = 1 - (1 - 0.996) * 0.5 * (1 + cos(pi * clock.step / 20))
            with torch.no_grad():
                for (name, w), g in zip(student.items(), gradients, strict=True):
                    if w.ndim > 1:  # all but biases and norms
                        g = g + 1.5e-6 * w
                        g = g * (1e-3 * w.norm() / g.norm())
                    momenta[name] = 0.9 * momenta[name] + g
                    w.sub_(rate * momenta[name])
                for name, average in averages.items():
                    average.add_((1 - momentum) * (student[name] - average))

        return step

    side_by_side(method, BYOL.recipe, authors, deviation="warm-up a step ahead")
