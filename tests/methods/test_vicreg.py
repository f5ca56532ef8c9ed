from dataclasses import replace

import pytest
import torch
from torch import nn

from sanslabel import encoders
from sanslabel.batch import Facts
from sanslabel.losses import vicreg
from sanslabel.methods.vicreg import VICReg

FACTS = Facts.of_images(samples=64, channels=1, height=8, width=8, classes=0)
METHOD = VICReg(**{**VICReg.small.hyperparameters, "width": 32}).sized(8)


def networks(method: VICReg):
    torch.manual_seed(0)
    return method.networks(encoders.build("conv", channels=1, image_size=8), FACTS).train()


def test_collapse_costs_what_its_method_states(first_batches):
    (clock, batch), *_ = first_batches()
    net = networks(METHOD)
    nn.init.zeros_(net.projector[-1].weight)
    (objective,) = METHOD.step(net, batch, clock)
    assert objective.loss.item() == pytest.approx(24.75, rel=1e-6)
    assert objective.trivial == pytest.approx(24.75)


def test_each_view_goes_through_the_network_in_a_pass_of_its_own(first_batches):
    (clock, batch), *_ = first_batches()
    net, twin = networks(METHOD), networks(METHOD)
    (objective,) = METHOD.step(net, batch, clock)
    a, b = (twin.projector(twin.encoder(METHOD.view(batch, stream))) for stream in (0, 1))
    torch.testing.assert_close(objective.loss, vicreg(a, b))
    for ours, theirs in zip(net.buffers(), twin.buffers(), strict=True):
        assert torch.equal(ours, theirs)


def test_the_expander_is_the_authors():
    """Three layers of one width, with biases under BatchNorm and none at the end."""
    net = replace(VICReg(), width=32).networks(encoders.build("conv", channels=1, image_size=8), FACTS)
    assert [type(layer) for layer in net.projector] == [nn.Linear, nn.BatchNorm1d, nn.ReLU] * 2 + [nn.Linear]
    assert [layer.bias is not None for layer in net.projector if isinstance(layer, nn.Linear)] == [True, True, False]
    assert (VICReg().width, VICReg().layers) == (8192, 3)


def test_embeddings_may_move_by_any_vector():
    """Centering them is redundant: variances and covariances have the mean taken out."""
    a, b, shift = (torch.randn(9, 5, dtype=torch.float64) for _ in "abs")
    expected = vicreg(a, b)
    torch.testing.assert_close(vicreg(a + shift[0], b + shift[0]), expected)
    mean = torch.cat([a, b]).mean(dim=0)
    torch.testing.assert_close(vicreg(a - mean, b - mean), expected)
