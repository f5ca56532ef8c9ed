from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from math import log

import pytest
import torch
from torch import nn

from sanslabel import encoders
from sanslabel.batch import Batch, Clock, Facts
from sanslabel.losses import info_nce
from sanslabel.methods.moco_v3 import MoCoV3
from sanslabel.randomness import fold

SMALL = replace(MoCoV3.under(MoCoV3.small), width=16, hidden=32)
CLOCK = Clock(0, 0, 0, 10, 5)


def batch_of(*rows: int) -> Batch:
    index = torch.tensor(rows)
    images = torch.rand(100, 1, 8, 8, generator=torch.Generator().manual_seed(1))[index]
    return Batch.of_images(images, index, fold(torch.full_like(index, 7), index), torch.full_like(index, -1))


BATCH = batch_of(*range(6))


def networks(method: MoCoV3, name: str = "conv"):
    torch.manual_seed(0)
    encoder = encoders.build(name, channels=1, image_size=8)
    return method.networks(encoder, Facts.of_images(100, 1, 8, 8, 0)).train()


def linear_heads_(net) -> None:
    """Heads without BatchNorm, and no predictor."""
    net.predictor = nn.Identity()
    net.projector = nn.Linear(net.encoder.width, 16)
    net.teacher.projector = nn.Linear(net.encoder.width, 16)


@pytest.mark.parametrize("temperature", [0.2, 1.0])
def test_collapse_gives_the_log_of_the_batch_in_both_directions(temperature):
    method = replace(SMALL, temperature=temperature)
    net = networks(method)
    linear_heads_(net)
    with torch.no_grad():
        for head in (net.projector, net.teacher.projector):
            head.weight.zero_()
            head.bias.fill_(1.0)
    (objective,) = method.step(net, BATCH, CLOCK)
    assert objective.loss.item() == pytest.approx(2 * 2 * temperature * log(6), rel=1e-5)
    assert objective.trivial == pytest.approx(2 * 2 * temperature * log(6))


def test_a_single_image_costs_nothing():
    method = replace(SMALL, temperature=1.0)
    assert next(method.step(networks(method).eval(), batch_of(3), CLOCK)).loss.item() == 0


def test_without_predictor_and_lag_it_is_symmetric_info_nce_times_two_tau():
    """Loop over images: the negatives are the other images' keys alone."""
    net = networks(SMALL).eval()
    linear_heads_(net)
    net.teacher.projector.load_state_dict(net.projector.state_dict())
    a, b = (net.projector(net.encoder(SMALL.view(BATCH, stream))).detach() for stream in (0, 1))
    total = 0.0
    for q, k in ((a, b), (b, a)):
        for i in range(6):
            others = [j for j in range(6) if j != i]
            total += 2 * 0.2 * info_nce(q[i, None], k[i, None], k[others], 0.2).item() / 6
    assert next(SMALL.step(net, BATCH, CLOCK)).loss.item() == pytest.approx(total, rel=1e-5)


def test_the_order_of_the_batch_does_not_matter():
    net = networks(SMALL)
    losses = [next(SMALL.step(net, batch_of(*rows), CLOCK)).loss.item() for rows in ((0, 1, 2, 3), (2, 0, 3, 1))]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_the_predictor_is_on_the_students_side_and_keys_carry_no_gradient():
    net = networks(SMALL)
    assert not any("predictor" in name for name, _ in net.teacher.named_parameters())
    (objective,) = SMALL.step(net, BATCH, CLOCK)
    objective.loss.backward()
    assert all(p.grad is None for p in net.teacher.parameters())
    assert all(p.grad is not None for part in (net.encoder, net.predictor) for p in part.parameters())


def test_embeddings_are_whitened_by_column_and_predictions_of_resnets_are_not():
    net = networks(SMALL)
    z = net.projector(net.encoder(BATCH.images().pixels))
    torch.testing.assert_close(z.mean(dim=0), torch.zeros(16), atol=1e-5, rtol=0)
    torch.testing.assert_close(z.std(dim=0, correction=0), torch.ones(16), atol=1e-2, rtol=0)
    kinds = [type(m).__name__ for m in net.predictor]
    assert kinds == ["Linear", "BatchNorm1d", "ReLU", "Linear"]
    for_transformers = networks(replace(SMALL, predictor_norm=True)).predictor
    assert not for_transformers[-1].affine
    assert not any(m.bias is not None for m in [*net.projector, *net.predictor] if isinstance(m, nn.Linear))


@pytest.mark.parametrize(("step", "momentum"), [(0, 0.99), (5, 0.995), (10, 1.0)])
def test_the_momentum_rises_to_one_step_by_step(step, momentum):
    net = networks(SMALL)
    weight = net.teacher.encoder.stem[0].weight
    start = weight.clone()
    objectives = SMALL.step(net, BATCH, CLOCK._replace(step=step))
    next(objectives)
    with torch.no_grad():
        net.encoder.stem[0].weight.add_(1.0)  # the update
    assert torch.equal(weight, start)
    assert list(objectives) == []
    torch.testing.assert_close(weight - start, torch.full_like(start, 1 - momentum), atol=1e-6, rtol=0)


@pytest.mark.parametrize("frozen", [True, False])
def test_a_transformers_patches_stay_as_they_start(frozen):
    net = networks(replace(SMALL, frozen_patches=frozen), "vit_micro")
    assert [p.requires_grad for p in net.encoder.patch_embed.parameters()] == [not frozen] * 2
    (objective,) = SMALL.step(net, BATCH, CLOCK)
    objective.loss.backward()
    assert (net.encoder.patch_embed.proj.weight.grad is None) == frozen
    assert net.encoder.pos_embed.grad is not None
    assert all(p.requires_grad for p in networks(SMALL, "conv").encoder.parameters())


def test_scores_are_cosines():
    net = networks(SMALL).eval()
    linear_heads_(net)
    before = next(SMALL.step(net, BATCH, CLOCK)).loss.item()
    with torch.no_grad():
        for p in net.projector.parameters():
            p.mul_(7)
    objective = next(SMALL.step(net, BATCH, CLOCK))
    assert objective.loss.item() == pytest.approx(before, rel=1e-4)


def test_the_transformer_of_the_paper_is_the_authors():
    """Fixed sines, 12 heads, and Xavier's uniform start of every linear layer, with queries, keys and values apart."""
    options = MoCoV3.recipe.encoder
    assert isinstance(options, Mapping)
    torch.manual_seed(0)
    encoder = encoders.build(**{**options, "name": "vit_tiny"}, image_size=32, patch=16)
    net = MoCoV3(hidden=8, width=4).networks(encoder, Facts.of_images(100, 3, 32, 32, 0))
    block = net.encoder.blocks[0]
    assert (options["name"], block.attn.heads) == ("vit_small", 12)
    bounds = {"patch_embed.proj": (768 + 192), "blocks.0.attn.qkv": 2 * 192, "blocks.0.attn.proj": 2 * 192}
    for name, sides in {**bounds, "blocks.0.mlp.fc1": 5 * 192, "blocks.0.mlp.fc2": 5 * 192}.items():
        layer, bound = net.encoder.get_submodule(name), (6 / sides) ** 0.5
        assert 0.99 * bound < layer.weight.abs().max() <= bound, name
        assert not layer.bias.any()
    assert not net.encoder.pos_embed.requires_grad
    assert not net.encoder.patch_embed.proj.weight.requires_grad
    assert MoCoV3.recipe.decay_all


def test_networks_leave_the_weights_of_the_encoder_as_they_are():
    """They may be given ones."""
    encoder = encoders.build("vit_micro", channels=1, image_size=8)
    before = deepcopy(encoder.state_dict())
    net = SMALL.networks(encoder, Facts.of_images(100, 1, 8, 8, 0))
    assert all(torch.equal(before[name], value) for name, value in net.encoder.state_dict().items())
