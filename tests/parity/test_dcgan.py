"""The example's step: two passes of the discriminator, then the generator against the discriminator that has moved."""

import torch
from torch.nn.functional import binary_cross_entropy

from sanslabel.methods.dcgan import DCGAN
from sanslabel.randomness import normal


def test_dcgan_trains_as_in_the_example(side_by_side):
    method = DCGAN(noise=10, filters=8)

    def authors(net, method):
        adam = {"lr": 2e-4, "betas": (0.5, 0.999), "weight_decay": 0}
        of_d = torch.optim.Adam(net.critic.parameters(), **adam)
        of_g = torch.optim.Adam(net.generator.parameters(), **adam)
        d = lambda images: torch.sigmoid(net.critic.head(net.critic.encoder(images))).squeeze(1)  # noqa: E731

        def step(batch, clock):
            n = len(batch.index)
            of_d.zero_grad()
            binary_cross_entropy(d(method.view(batch, 0)), torch.ones(n).double()).backward()
            running = {name: b.clone() for name, b in net.critic.named_buffers()}
            fake = (torch.tanh(net.generator(normal(batch.key, 10, 1))) + 1) / 2
            binary_cross_entropy(d(fake.detach()), torch.zeros(n).double()).backward()
            of_d.step()
            of_g.zero_grad()
            binary_cross_entropy(d(fake), torch.ones(n).double()).backward()
            of_g.step()
            for name, b in net.critic.named_buffers():
                b.copy_(running[name])

        return step

    encoder = {"name": "dcgan", "filters": 8, "scaling": [[0.5], [0.5]]}
    deviation = "running statistics of data alone"
    ours, _ = side_by_side(method, DCGAN.recipe, authors, encoder, 16, deviation=deviation, warmup=0)
    assert any("running_mean" in name for name, _ in ours.critic.named_buffers())
