"""The authors' step: nine tiles in shuffled order, then the image, both against the memory's row of the image; SGD
without decay of biases and norms, and a memory that moves half the way to the image's embedding."""

from copy import deepcopy
from dataclasses import replace
from math import cos, pi

import pytest
import torch
from torch.nn.functional import cross_entropy, normalize

from sanslabel import encoders
from sanslabel.engine import optimize, players_of
from sanslabel.methods.npid import NPID
from sanslabel.methods.pirl import PIRL
from sanslabel.randomness import integers
from sanslabel.sources import open_source
from sanslabel.sources.loader import batches

SAMPLES, K = 64, 24
ALWAYS = "tiles standardized; the batch shares its negatives; cosine by step"
FILLS = f"{ALWAYS}; the first epoch only fills the bank"
METHOD = PIRL(width=16, negatives=K, tile=None, pieces=replace(PIRL().pieces, size=None))


def softmax(net, z, rows, temperature):
    scores = torch.bmm(net.bank.embeddings[rows], z[:, :, None])[..., 0] / temperature
    return cross_entropy(scores, torch.zeros_like(rows[:, 0]))


def noise_contrast(net, z, rows, temperature):
    memory = normalize(net.bank.embeddings, dim=1)  # at first of unit length in float32 only
    scores = torch.bmm(memory[rows], z[:, :, None])[..., 0].div(temperature).exp()
    if net.partition == 0:
        net.partition.copy_(SAMPLES * scores.detach().mean())
    p = scores / net.partition
    noise = K / SAMPLES
    return -((p[:, 0] / (p[:, 0] + noise)).log().sum() + (noise / (p[:, 1:] + noise)).log().sum()) / len(z)


@pytest.mark.parametrize(
    ("loss", "hyperparameters", "deviation"),
    [
        (softmax, {}, FILLS),
        (softmax, {"hidden": 24, "temperature": 0.1}, f"with hidden layers; {FILLS}"),
        (noise_contrast, {"nce": True}, f"{ALWAYS}; no 1e-7 beside K/n"),
    ],
)
def test_pirl_trains_as_its_authors_train(side_by_side, loss, hyperparameters, deviation):
    method = replace(METHOD, **hyperparameters)

    def authors(net, method):
        decayed = [w for w in net.parameters() if w.ndim > 1]
        others = [w for w in net.parameters() if w.ndim == 1]
        groups = [{"params": decayed, "weight_decay": 1e-4}, {"params": others, "weight_decay": 0.0}]
        optimizer = torch.optim.SGD(groups, lr=0.03 * 16 / 256, momentum=0.9)

        def step(batch, clock):
            fills = clock.epoch == 0 and not method.nce
            memory, before = net.bank.embeddings, deepcopy(net.state_dict())
            if not fills:
                each = net.tile_projector(net.encoder(method.transformed(batch, 1).flatten(0, 1)))
                each = each if method.hidden is None else each.relu()
                g = normalize(net.joint_projector(each.view(len(batch.index), -1)), dim=1)
            f = normalize(net.projector(net.encoder(method.view(batch, 0))), dim=1)
            if fills:  # as here: the memory alone changes
                net.load_state_dict(before)
                memory[batch.index] = f.detach()
                return
            shared = integers(torch.tensor([clock.key]), K, SAMPLES, 3).expand(len(f), K)
            rows = torch.cat([batch.index[:, None], shared], dim=1)
            for group in optimizer.param_groups:
                group["lr"] = 0.03 * 16 / 256 * (0.001 + 0.999 * 0.5 * (1 + cos(pi * clock.step / 20)))
            optimizer.zero_grad()
            (sum(loss(net, z, rows, method.temperature) for z in (g, f)) / 2).backward()
            optimizer.step()
            memory[batch.index] = normalize(0.5 * memory[batch.index] + 0.5 * f.detach(), dim=1)

        return step

    side_by_side(method, PIRL.recipe, authors, image_size=16, deviation=deviation, warmup=0)


@pytest.mark.parametrize("negatives", [None, K])
def test_without_its_tiles_pirl_trains_as_npid_trains_to_the_bit(negatives):
    source, found = open_source("digits", "train").subset(torch.arange(SAMPLES)), []
    pirl = replace(METHOD, weight=0.0, negatives=negatives)
    npid = NPID(width=16, negatives=negatives, shared=True, view=pirl.view)
    for method in (pirl, npid):
        torch.manual_seed(0)
        encoder = encoders.build("dcgan", filters=8, channels=1, image_size=8)
        net = method.sized(8).networks(encoder, source.facts(8)).train()
        net.bank.embeddings.copy_(
            normalize(torch.randn(SAMPLES, 16, generator=torch.Generator().manual_seed(1)), dim=1)
        )
        players = players_of(net, replace(PIRL.recipe, batch=16, epochs=5), 16)
        stream = batches(source, 16, seed=0, epochs=5, device=torch.device("cpu"))
        assert not any(record.refused for record in optimize(method.sized(8), net, players, stream))
        found.append(net)
    for name, weight in found[1].named_parameters():
        assert torch.equal(weight, found[0].get_parameter(name)), name
    assert torch.equal(found[0].bank.embeddings, found[1].bank.embeddings)
