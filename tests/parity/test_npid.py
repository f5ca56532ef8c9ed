"""The authors' step: softmax or noise-contrastive estimation over rows of their memory, SGD that decays all
parameters, a tenth of the rate at 60 % and at 80 %, and a memory that moves half the way."""

from copy import deepcopy

import pytest
import torch
from torch.nn.functional import cross_entropy, normalize

from sanslabel.methods.npid import NPID
from sanslabel.randomness import integers

SAMPLES, K, TAU = 64, 24, 0.07


def drawn_softmax(net, z, index, keys):
    rows = torch.cat([index[:, None], integers(keys, K, SAMPLES, 3)], dim=1)
    scores = torch.bmm(net.bank.embeddings[rows], z[:, :, None])[..., 0] / TAU
    return cross_entropy(scores, torch.zeros_like(index))


def exact_softmax(net, z, index, keys):
    return cross_entropy(z @ net.bank.embeddings.clone().T / TAU, index)


def noise_contrast(net, z, index, keys):
    rows = torch.cat([index[:, None], integers(keys, K, SAMPLES, 3)], dim=1)
    memory = normalize(net.bank.embeddings, dim=1)  # at first of unit length in float32 only
    scores = torch.bmm(memory[rows], z[:, :, None])[..., 0].div(TAU).exp()
    if net.partition == 0:
        net.partition.copy_(SAMPLES * scores.detach().mean())
    p = scores / net.partition
    noise = K / SAMPLES
    return -((p[:, 0] / (p[:, 0] + noise)).log().sum() + (noise / (p[:, 1:] + noise)).log().sum()) / len(z)


@pytest.mark.parametrize(
    ("loss", "hyperparameters", "deviation"),
    [
        (drawn_softmax, {"negatives": K}, "the first epoch only fills the bank"),
        (exact_softmax, {"negatives": None}, "the first epoch only fills the bank"),
        (noise_contrast, {"negatives": K, "nce": True}, "no 1e-7 beside K/n"),
    ],
)
def test_npid_trains_as_its_authors_train(side_by_side, loss, hyperparameters, deviation):
    method = NPID(width=16, **hyperparameters)

    def authors(net, method):
        optimizer = torch.optim.SGD(net.parameters(), lr=0.03 * 16 / 256, momentum=0.9, weight_decay=1e-4)

        def step(batch, clock):
            fills = clock.epoch == 0 and not method.nce
            before = deepcopy(net.state_dict())
            z = normalize(net.projector(net.encoder(method.view(batch, 0))), dim=1)
            if fills:  # as here: the memory alone changes
                net.load_state_dict(before)
            else:
                optimizer.param_groups[0]["lr"] = 0.03 * 16 / 256 * 0.1 ** ((clock.step >= 12) + (clock.step >= 16))
                optimizer.zero_grad()
                loss(net, z, batch.index, batch.key).backward()
                optimizer.step()
            memory, z = net.bank.embeddings, z.detach()
            memory[batch.index] = z if fills else normalize(0.5 * memory[batch.index] + 0.5 * z, dim=1)

        return step

    side_by_side(method, NPID.recipe, authors, image_size=16, deviation=deviation, warmup=0)
