"""Losses against an independent implementation, lightly's, on random inputs. CI installs it without what it asks for
(`pip install --no-deps lightly`); without it these tests are skipped."""

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import normalize

from sanslabel import encoders, losses, views
from sanslabel.encoders.patches import patches
from sanslabel.methods import method_class
from sanslabel.sources import batches, open_source

theirs = pytest.importorskip("lightly.loss", reason="pip install --no-deps lightly")

SHAPES = [(8, 4), (64, 16), (33, 40)]


def pair(n: int, d: int, scale: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(n)
    a = scale * torch.randn(n, d, generator=generator, dtype=torch.float64)
    return a, a + scale * torch.randn(n, d, generator=generator, dtype=torch.float64) + 0.3


def close(ours: torch.Tensor, other: torch.Tensor, relative: float = 1e-5) -> None:
    assert ours.item() == pytest.approx(other.item(), rel=relative)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("temperature", [0.07, 0.5])
def test_nt_xent(shape, temperature):
    a, b = pair(*shape)
    close(losses.nt_xent(a, b, temperature), theirs.NTXentLoss(temperature)(a, b))


@pytest.mark.parametrize("shape", SHAPES)
def test_info_nce_with_a_queue(shape):
    a, b = (x.float() for x in pair(*shape))
    loss = theirs.NTXentLoss(0.2, memory_bank_size=(128, shape[1]))
    loss(a, b)  # makes the bank
    bank = loss.memory_bank.bank.clone()  # (K, D)
    close(losses.info_nce(a, b, bank, 0.2), loss(a, b))


@pytest.mark.parametrize("shape", SHAPES)
def test_barlow_twins(shape):
    a, b = pair(*shape)
    close(losses.barlow_twins(a, b, 0.0051), theirs.BarlowTwinsLoss(lambda_param=0.0051)(a, b))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("scale", [0.1, 2.0])
def test_vicreg(shape, scale):
    a, b = pair(*shape, scale)
    close(losses.vicreg(a, b), theirs.VICRegLoss()(a, b))


@pytest.mark.parametrize("shape", SHAPES)
def test_negative_cosine(shape):
    p, z = pair(*shape)
    close(losses.negative_cosine(p, z), theirs.NegativeCosineSimilarity()(p, z))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("iterations", [1, 3, 10])
def test_sinkhorn(shape, iterations):
    from lightly.loss.swav_loss import sinkhorn

    n, d = shape
    z, prototypes = pair(n, d)[0], pair(24, d)[1]
    scores = normalize(z, dim=1) @ normalize(prototypes, dim=1).T
    other = sinkhorn(scores, iterations=iterations, epsilon=0.05, gather_distributed=False)
    torch.testing.assert_close(losses.sinkhorn(scores, 0.05, iterations), other, rtol=1e-5, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_sigreg(shape, monkeypatch):
    z = pair(*shape)[0].float()
    directions = normalize(torch.randn(64, shape[1], generator=torch.Generator().manual_seed(0)), dim=1)
    loss = theirs.lejepa_loss.SIGReg(num_vectors=64)
    monkeypatch.setattr(loss, "_generate_unit_vectors", lambda *args, **kwargs: directions.T)
    close(losses.sigreg(z, directions), loss(z))


@pytest.mark.parametrize("crops", [2, 5])
def test_dino(crops):
    generator = torch.Generator().manual_seed(crops)
    student, teacher = (torch.randn(v, 8, 32, generator=generator) for v in (crops, 2))
    loss = theirs.DINOLoss(output_dim=32, teacher_temp=0.04, warmup_teacher_temp_epochs=0, student_temp=0.1)
    loss.center.copy_(torch.randn(loss.center.shape, generator=generator))
    target = ((teacher - loss.center.flatten()) / 0.04).softmax(dim=-1)
    close(losses.dino(student, target, 0.1).mean(), loss(list(teacher), list(student), epoch=0))


@pytest.mark.parametrize("local_crops", [0, 3])
def test_swav(local_crops):
    """The whole step: crops, codes, and which crop predicts which."""
    source = open_source("digits", "train").subset(torch.arange(64))
    multicrop = views.MultiCrop(global_crop=views.SIMCLR, local_crops=local_crops)
    method = replace(method_class("swav")(hidden=32, prototypes=12), view=multicrop).sized(16)
    torch.manual_seed(0)
    encoder = encoders.build("conv", channels=1, image_size=16)
    net = method.networks(encoder, source.facts(16)).train()
    clock, batch = next(batches(source, 64, seed=0, epochs=1, device=torch.device("cpu")))
    objective = next(method.step(net, batch, clock))
    with torch.no_grad():
        z = net.projector(torch.cat(views.forward_by_size(net.encoder, method.view.inputs(batch))))
        scores = list(net.prototypes(z).chunk(2 + local_crops))
    loss = theirs.SwaVLoss(temperature=method.temperature, sinkhorn_epsilon=method.epsilon)
    close(objective.loss, loss(scores[:2], scores[2:]))


@pytest.mark.parametrize("size", [4, 8])
def test_mae_target(size):
    utils = pytest.importorskip("lightly.models.utils")
    images = torch.rand(5, 3, 16, 16, generator=torch.Generator().manual_seed(size), dtype=torch.float64)
    other = utils.normalize_mean_var(utils.patchify(images, size))
    ours = patches(images, size, size).flatten(2)
    for constant in (0.0, 0.3):  # the order of pixels within a patch is each one's own
        mine = losses.patch_reconstruction(torch.full_like(ours, constant), ours).mean()
        close(mine, (constant - other).square().mean())
