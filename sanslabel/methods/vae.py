"""VAE: a code that noise has blurred must be enough to paint the image again, and not cost much."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from sanslabel import views
from sanslabel.batch import Batch, Clock, Facts
from sanslabel.distributed import gather
from sanslabel.encoders import Encoder, LinearCode
from sanslabel.heads.decoders import decoder
from sanslabel.losses import bernoulli_nll, gaussian_kl, gaussian_nll, kl_by_dimension, sampled_kl
from sanslabel.methods.method import Method, Networks, Objective
from sanslabel.optimizers import AdamW
from sanslabel.randomness import normal
from sanslabel.recipe import Recipe

NOISE, PRIOR = 1, 2
"""streams that posterior and prior are drawn from"""
ACTIVE = 0.01
"""nats of a dimension that is in use"""

TOY = dict(code=2, likelihood="gaussian", variance=1e-3)


@dataclass(frozen=True, kw_only=True)
class VAE(Method):
    """A variational autoencoder (Kingma and Welling 2014). Free energy of an image: the nats that tell it given a code,
    and β times the nats of the code, KL(N(μ, σ²) ‖ N(0, I)); with β = 1 the mean over noisy codes, which training
    descends, bounds -ln p. The energy of single images takes the mean code and has no noise. Both are sums, over pixels
    and over the code's numbers; noise is a function of the key. Defaults are a course's and PyTorch's example's."""

    family = "generative"
    energy = "the nats that tell an image given its code, and those of the code"
    prevents_collapse = "noise on the code and its cost bound what the code can say"
    paper = "Auto-Encoding Variational Bayes"
    year = 2014
    unit = "nats"
    positive, weights = ("code", "variance", "filters"), ("beta",)

    code: int = 20
    """numbers in the code"""
    beta: float = 1.0
    """β (Higgins et al. 2017): above 1, codes say less"""
    likelihood: Literal["bernoulli", "gaussian"] = "bernoulli"
    """of a pixel: on or off, gray being a probability, or a normal density"""
    variance: float = 1.0
    """of that density, for pixels in [0, 1]"""
    closed: bool = True
    """whether the code's nats are those of its distribution, or those of the drawn code"""
    filters: int = 64
    """channels of the decoder's last maps, where the encoder is convolutional"""
    view: views.View = views.WHOLE

    recipe = Recipe(encoder="mlp", optimizer=AdamW(lr=1e-3), batch=128, epochs=20, final_lr_factor=1.0)
    small = Recipe(encoder="mlp", optimizer=AdamW(lr=1e-3), epochs=40)
    toy = Recipe(
        encoder={"name": "mlp", "hidden": [128, 128]}, optimizer=AdamW(lr=2e-3), epochs=400, hyperparameters=TOY
    )

    def networks(self, encoder: Encoder, facts: Facts) -> Networks:
        coded = LinearCode.on(encoder, self.code)
        log_var = nn.Linear(encoder.width, self.code)
        return Networks(encoder=coded, log_var=log_var, decoder=decoder(coded, self.filters))

    def step(self, net: Networks, batch: Batch, clock: Clock) -> Iterator[Objective]:
        x = self.view(batch, 0)
        mean, log_var = self._posterior(net, x)  # (N, D) each
        z = mean + (log_var / 2).exp() * normal(batch.key, self.code, NOISE)
        told = net.decoder(z)
        nll = gather(self._nll(told, x)).mean()
        kl = gather(gaussian_kl(mean, log_var) if self.closed else sampled_kl(mean, log_var, z)).mean()
        each = gather(kl_by_dimension(mean, log_var)).mean(dim=0)  # (D,)
        yield Objective(
            nll + self.beta * kl,
            terms={"nll": nll, "kl": kl, "kl_by_dimension": each, "active_units": (each > ACTIVE).sum().float()},
            embedding=gather(mean),
            images={"input": x[:8], "reconstruction": self._seen(told[:8])},
        )

    def encoders(self, net: Networks) -> Mapping[str, nn.Module]:
        return {"mean": net.encoder, "student": net.encoder.trunk}

    def latents(self, net: Networks, key: Tensor) -> Tensor:
        return normal(key, self.code, PRIOR)

    def coded(self, net: Networks, images: Tensor) -> Tensor:
        return net.encoder(images)

    def decoded(self, net: Networks, codes: Tensor) -> Tensor:
        return self._seen(net.decoder(codes))

    def energies(self, net: Networks, images: Tensor) -> Tensor:
        mean, log_var = self._posterior(net, images)
        return self._nll(net.decoder(mean), images) + self.beta * gaussian_kl(mean, log_var)

    def nats(self, net: Networks, images: Tensor, key: Tensor) -> Tensor:
        mean, log_var = self._posterior(net, images)
        z = mean + (log_var / 2).exp() * normal(key, self.code, NOISE)
        return self._nll(net.decoder(z), images) + sampled_kl(mean, log_var, z)

    def reconstructed(self, net: Networks, images: Tensor, key: Tensor) -> Mapping[str, Tensor]:
        return {"reconstruction": self.decoded(net, net.encoder(images))}

    def _posterior(self, net: Networks, images: Tensor) -> tuple[Tensor, Tensor]:
        """μ and ln σ², (N, D) each, in float32 at least; a variance of e^±10 is enough."""
        h = net.encoder.trunk(images)
        exact = torch.promote_types(h.dtype, torch.float32)
        return net.encoder.code(h).to(exact), net.log_var(h).to(exact).clamp(-10, 10)

    def _nll(self, told: Tensor, images: Tensor) -> Tensor:
        return (
            bernoulli_nll(told, images) if self.likelihood == "bernoulli" else gaussian_nll(told, images, self.variance)
        )

    def _seen(self, told: Tensor) -> Tensor:
        return told.sigmoid() if self.likelihood == "bernoulli" else told.clamp(0, 1)
