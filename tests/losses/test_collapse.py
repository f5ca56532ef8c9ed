"""Where all embeddings are one vector, no loss has a gradient that would spread them: what differs is what a small
difference grows to."""

import pytest
import torch
from torch.nn.functional import normalize

from sanslabel import losses

N, D = 12, 6
DIRECTIONS = normalize(torch.randn(16, D, generator=torch.Generator().manual_seed(0), dtype=torch.float64), dim=1)
OWN = torch.arange(N)

JOINT = {
    "nt_xent": lambda a, b: losses.nt_xent(a, b, 0.2),
    "info_nce": lambda a, b: losses.info_nce(a, b.detach(), b.detach(), 0.2),
    "instance_discrimination": lambda a, b: losses.instance_discrimination(a, b.detach(), OWN, 0.2),
    "cross_modal": lambda a, b: losses.cross_modal(a, b, 0.2),
    "nce": lambda a, b: losses.nce(a, b.detach(), b.detach(), 0.2, N, 20.0),
    "barlow_twins": lambda a, b: losses.barlow_twins(a, b),
    "vicreg": lambda a, b: losses.vicreg(a, b),
    "negative_cosine": lambda a, b: losses.negative_cosine(a, b.detach()),
    "track_hinge": lambda a, b: losses.track_hinge(a, b, 0.5),
}


@pytest.mark.parametrize("name", JOINT)
def test_exact_collapse_has_no_gradient(name):
    z = torch.randn(D, dtype=torch.float64).repeat(N, 1)
    a, b = z.clone().requires_grad_(), z.clone().requires_grad_()
    gradients = torch.autograd.grad(JOINT[name](a, b), (a, b), allow_unused=True)
    assert all(g is None or g.abs().max() < 1e-9 for g in gradients)


def spread_after(loss, steps: int = 40, rate: float = 0.05) -> tuple[float, float]:
    """The mean deviation before and after descending from a slightly perturbed collapse of images whose two views agree
    to a tenth of what tells the images apart."""
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(3, N, D, generator=generator, dtype=torch.float64)
    images = torch.ones(D, dtype=torch.float64) + 1e-2 * noise[0]
    a, b = ((images + 1e-3 * view).requires_grad_() for view in noise[1:])
    before = a.std(dim=0).mean().item()
    for _ in range(steps):
        gradients = torch.autograd.grad(loss(a, b), (a, b))
        with torch.no_grad():
            for z, gradient in zip((a, b), gradients, strict=True):
                z -= rate * gradient
    return before, a.std(dim=0).mean().item()


@pytest.mark.parametrize(
    ("loss", "grows"),
    [
        (losses.vicreg, True),
        (lambda a, b: sum(losses.sigreg(z - z.mean(dim=0), DIRECTIONS) for z in (a, b)), True),
        (lambda a, b: losses.vicreg(a, b, invariance=25, variance=0, covariance=0), False),
        (lambda a, b: losses.negative_cosine(a, b), False),
    ],
    ids=["vicreg", "sigreg", "invariance alone", "cosine alone"],
)
def test_a_term_against_collapse_spreads_a_perturbed_one_and_invariance_does_not(loss, grows):
    before, after = spread_after(loss)
    assert after > 1.5 * before if grows else after < 1.05 * before


@pytest.mark.parametrize("name", JOINT)
def test_float16_is_computed_in_float32(name):
    """exp(1/τ) is infinite in float16 from τ = 0.09 down."""
    a, b = torch.randn(2, N, D, generator=torch.Generator().manual_seed(4)).half()
    found = JOINT[name](a, b)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, JOINT[name](a.float(), b.float()))
    assert losses.nt_xent(a, b, 0.05).isfinite()
