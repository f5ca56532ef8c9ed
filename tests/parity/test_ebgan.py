"""The paper's step: a margin for each generated image, squared cosines of codes, two players with an Adam each."""

import torch
from torch.nn.functional import normalize

from sanslabel.methods.ebgan import EBGAN
from sanslabel.randomness import normal

MARGIN = 0.015


def test_ebgan_trains_by_the_losses_of_its_authors(side_by_side):
    method = EBGAN(code=6, noise=10, filters=8, margin=MARGIN)
    beyond = []

    def authors(net, method):
        adam = {"lr": 2e-4, "betas": (0.5, 0.999)}
        of_c = torch.optim.Adam(net.critic.parameters(), **adam)
        of_g = torch.optim.Adam(net.generator.parameters(), **adam)

        def cost(images):
            codes = net.critic.encoder(images)
            error = torch.tanh(net.critic.decoder(codes)) - (2 * images - 1)
            return codes, error.square().mean(dim=(1, 2, 3))

        def step(batch, clock):
            n = len(batch.index)
            _, real = cost(method.view(batch, 0))
            running = {name: b.clone() for name, b in net.critic.named_buffers()}
            fake = (torch.tanh(net.generator(normal(batch.key, 10, 1))) + 1) / 2
            _, pushed = cost(fake.detach())
            beyond.append((pushed > MARGIN).sum().item() / n)
            of_c.zero_grad()
            (real.mean() + torch.clamp(MARGIN - pushed, min=0).mean()).backward()
            of_c.step()
            codes, pulled = cost(fake)
            unit = normalize(codes, dim=1)
            cosines = (unit @ unit.T)[~torch.eye(n, dtype=torch.bool)]
            of_g.zero_grad()
            (pulled.mean() + 0.1 * cosines.square().mean()).backward()
            of_g.step()
            for name, b in net.critic.named_buffers():
                b.copy_(running[name])

        return step

    encoder = {"name": "dcgan", "filters": 8, "scaling": [[0.5], [0.5]]}
    deviation = "critic first, running statistics of data alone"
    side_by_side(method, EBGAN.recipe, authors, encoder, 16, deviation=deviation, warmup=0)
    assert any(0 < share < 1 for share in beyond), "some images beyond the margin and some below"
