"""VAE: a noisy code, whose information has a cost, must be enough to reconstruct the image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor, nn

from sanslabel import views
from sanslabel.batch import Batch, Clock, Facts
from sanslabel.constraints import NonNegative, Positive
from sanslabel.distributed import gather
from sanslabel.encoders import Encoder, LinearCode
from sanslabel.heads.decoders import decoder
from sanslabel.losses import bernoulli_nll, gaussian_kl, gaussian_nll, kl_by_dimension, sampled_kl
from sanslabel.methods.method import Family, Method, Networks, Objective
from sanslabel.optimizers import AdamW
from sanslabel.randomness import normal
from sanslabel.recipe import Recipe

NOISE, PRIOR = 1, 2
"""the streams that posterior and prior are drawn from"""
ACTIVE = 0.01
"""nats above which a dimension of the code is in use"""


@dataclass(frozen=True, kw_only=True)
class VAE(Method):
    """A variational autoencoder (Kingma and Welling 2014). The free energy of an image has two terms: its negative log
    likelihood given a code, and β times the cost of the code, KL(N(μ, σ²) ‖ N(0, I)). Training descends its mean over
    noisy codes; with β = 1 this mean bounds -ln p(x). The energy of a single image takes the mean code, without noise.

    The first term is a sum over pixels, the second over the dimensions of the code. Noise is a function of the key.
    Defaults are those of PyTorch's example, and the 20 epochs those of a course. Both sources also sum over the batch,
    where this loss is the mean. Adam makes the same steps on a sum and on a mean, but for its ε. The variance of a code
    is kept between e^-10 and e^10, so that it stays finite. The recipe `small` standardizes the encoder's input."""

    family = Family.GENERATIVE
    energy = "the negative log likelihood of an image given its code, plus the cost of the code"
    prevents_collapse = "noise on the code, and its cost, limit the information in the code"
    paper = "Auto-Encoding Variational Bayes"
    year = 2014
    unit: ClassVar[str] = "nats"

    code: Annotated[int, Positive] = 20
    """width of the code"""
    beta: Annotated[float, NonNegative] = 1.0
    """β (Higgins et al. 2017): above 1, codes carry less information"""
    likelihood: Literal["bernoulli", "gaussian"] = "bernoulli"
    """distribution of a pixel: on or off, with gray as a probability, or a normal density"""
    variance: Annotated[float, Positive] = 1.0
    """variance of the normal density, for pixels in [0, 1]"""
    closed: bool = True
    """the cost is the KL divergence in closed form; if False, its estimate at the drawn code"""
    filters: Annotated[int, Positive] = 64
    """channels of the decoder's last maps, if the encoder is convolutional"""
    view: views.View = views.WHOLE

    recipe = Recipe(
        encoder={"name": "mlp", "hidden": 400, "scaling": "raw"},
        optimizer=AdamW(lr=1e-3),
        batch=128,
        epochs=20,
        final_lr_factor=1.0,
    )
    small = Recipe(encoder="mlp", optimizer=AdamW(lr=1e-3), epochs=40)
    toy = Recipe(
        encoder={"name": "mlp", "hidden": [128, 128]},
        optimizer=AdamW(lr=2e-3),
        epochs=400,
        hyperparameters=dict(code=2, likelihood="gaussian", variance=1e-3),
    )

    def networks(self, encoder: Encoder, facts: Facts) -> Networks:
        mean = LinearCode.on(encoder, self.code)
        log_var = nn.Linear(encoder.width, self.code)
        return Networks(encoder=mean, log_var=log_var, decoder=decoder(mean, self.filters))

    def step(self, net: Networks, batch: Batch, clock: Clock) -> Iterator[Objective]:
        x = self.view(batch, 0)
        mean, log_var = self.posterior(net, x)  # (N, D) each
        z = mean + (log_var / 2).exp() * normal(batch.key, self.code, NOISE)
        logits = net.decoder(z)
        nll = gather(self.nll(logits, x)).mean()
        kl = gather(gaussian_kl(mean, log_var) if self.closed else sampled_kl(mean, log_var, z)).mean()
        by_dimension = gather(kl_by_dimension(mean, log_var)).mean(dim=0)  # (D,)
        active = (by_dimension > ACTIVE).sum().float()
        yield Objective(
            nll + self.beta * kl,
            terms={"nll": nll, "kl": kl, "kl_by_dimension": by_dimension, "active_units": active},
            embedding=gather(mean),
            images={"input": x[:8], "reconstruction": self.pixels(logits[:8])},
        )

    def encoders(self, net: Networks) -> Mapping[str, nn.Module]:
        return {"mean": net.encoder, "student": net.encoder.trunk}

    def prior(self, net: Networks, key: Tensor) -> Tensor:
        return normal(key, self.code, PRIOR)

    def encode(self, net: Networks, images: Tensor) -> Tensor:
        return net.encoder(images)

    def decode(self, net: Networks, codes: Tensor) -> Tensor:
        return self.pixels(net.decoder(codes))

    def sample(self, net: Networks, key: Tensor) -> Tensor:
        return self.decode(net, self.prior(net, key))

    def energy_of(self, net: Networks, images: Tensor) -> Tensor:
        mean, log_var = self.posterior(net, images)
        return self.nll(net.decoder(mean), images) + self.beta * gaussian_kl(mean, log_var)

    def elbo(self, net: Networks, images: Tensor, key: Tensor) -> Tensor:
        mean, log_var = self.posterior(net, images)
        z = mean + (log_var / 2).exp() * normal(key, self.code, NOISE)
        return -(self.nll(net.decoder(z), images) + sampled_kl(mean, log_var, z))

    def reconstruct(self, net: Networks, images: Tensor, key: Tensor) -> Mapping[str, Tensor]:
        return {"reconstruction": self.decode(net, net.encoder(images))}

    def posterior(self, net: Networks, images: Tensor) -> tuple[Tensor, Tensor]:
        """Returns μ and ln σ², (N, D) each, in at least float32. The variance is kept between e^-10 and e^10."""
        h = net.encoder.trunk(images)
        exact = torch.promote_types(h.dtype, torch.float32)
        return net.encoder.code(h).to(exact), net.log_var(h).to(exact).clamp(-10, 10)

    def nll(self, logits: Tensor, images: Tensor) -> Tensor:
        """Returns -ln p(image | code), (N,), for the decoder's output."""
        if self.likelihood == "bernoulli":
            return bernoulli_nll(logits, images)
        return gaussian_nll(logits, images, self.variance)

    def pixels(self, logits: Tensor) -> Tensor:
        """Returns the decoder's output as images in [0, 1]."""
        return logits.sigmoid() if self.likelihood == "bernoulli" else logits.clamp(0, 1)
