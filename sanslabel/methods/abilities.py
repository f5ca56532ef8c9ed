"""Abilities: what a trained method can do with single images or pairs of texts, beyond the representation that every
method learns.

An ability is a protocol. A method has an ability if it defines the ability's functions; it does not inherit from the
protocol. All of these functions take the method's networks in evaluation mode. Images are (n, C, H, W) in [0, 1], and
texts are `Tokens` of n rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, TypeVar, runtime_checkable

from torch import Tensor, nn

from sanslabel import methods
from sanslabel.batch import Tokens
from sanslabel.beam_search import Hypotheses
from sanslabel.errors import BadInput


@runtime_checkable
class Samples(Protocol):
    """The ability to make new images."""

    def sample(self, net: nn.Module, key: Tensor) -> Tensor:
        """Returns a new image for each key: (n,) -> (n, C, H, W)."""
        ...


@runtime_checkable
class HasPrior(Protocol):
    """The ability to make images from codes that are drawn from a known distribution."""

    def prior(self, net: nn.Module, key: Tensor) -> Tensor:
        """Returns a code from the distribution for each key: (n,) -> (n, D)."""
        ...

    def decode(self, net: nn.Module, codes: Tensor) -> Tensor:
        """Returns the image of each code: (n, D) -> (n, C, H, W)."""
        ...


@runtime_checkable
class Encodes(Protocol):
    """The ability to turn images into codes, and codes into images."""

    def encode(self, net: nn.Module, images: Tensor) -> Tensor:
        """Returns the code of each image: (n, C, H, W) -> (n, D)."""
        ...

    def decode(self, net: nn.Module, codes: Tensor) -> Tensor:
        """Returns the image of each code: (n, D) -> (n, C, H, W)."""
        ...


@runtime_checkable
class HasEnergy(Protocol):
    """An energy of single images, which is low for images like the training data."""

    unit: str
    """the unit of the energy; empty if it has none"""

    def energy_of(self, net: nn.Module, images: Tensor) -> Tensor:
        """Returns the energy of each image: (n, C, H, W) -> (n,) float32."""
        ...


@runtime_checkable
class Reconstructs(Protocol):
    """The ability to reconstruct an image from a part of it, or from its code."""

    def reconstruct(self, net: nn.Module, images: Tensor, key: Tensor) -> Mapping[str, Tensor]:
        """Returns pictures by name, (n, C, H, W) each: first the input of the networks, if it is not the whole image,
        then "reconstruction". Random corruptions are drawn from the keys (n,)."""
        ...


@runtime_checkable
class HasDensity(Protocol):
    """Bounds on the log density of single images."""

    def elbo(self, net: nn.Module, images: Tensor, key: Tensor) -> Tensor:
        """Returns ln p(x, z) - ln q(z | x) in nats for a code z that is drawn from the key: (n,).

        Its mean over keys is the evidence lower bound of ln p(x). The logarithm of the mean of exp(elbo) over more keys
        is a tighter bound (Burda et al. 2016).
        """
        ...


@runtime_checkable
class EmbedsSignals(Protocol):
    """Embeddings of two signals of a sample, such as a picture and its sound, that can be compared."""

    def embedders(self, net: nn.Module) -> Mapping[str, nn.Sequential]:
        """Returns for each signal the network from its input to its embedding, (n, …) -> (n, D), which begins with an
        encoder."""
        ...


@runtime_checkable
class HasPairEnergy(Protocol):
    """An energy of pairs of texts, which is low for a text and its translation."""

    unit: str
    """the unit of the energy"""

    def energy_of_pairs(self, net: nn.Module, source: Tokens, target: Tokens) -> Tensor:
        """Returns the energy of each pair: (n,) float32."""
        ...


@runtime_checkable
class Translates(Protocol):
    """The ability to translate texts."""

    def translate(
        self, net: nn.Module, source: Tokens, beam: int = 4, alpha: float = 1.0, longest: int | None = None
    ) -> Hypotheses:
        """Returns the translation of each source, see `beam_search`; a beam of 1 is greedy search."""
        ...

    def attention_of_pairs(self, net: nn.Module, source: Tokens, target: Tokens) -> Tensor:
        """Returns how much each place of a target reads each token of its source, (n, depth, heads, T, S)."""
        ...


VERBS = {
    Samples: "make new images",
    HasPrior: "make images of random codes",
    Encodes: "turn images into codes and back",
    HasEnergy: "give single images an energy",
    Reconstructs: "reconstruct images",
    HasDensity: "bound the density of images",
    EmbedsSignals: "compare two signals",
    HasPairEnergy: "give pairs of texts an energy",
    Translates: "translate texts",
}
"""each ability as a verb, for error messages"""
A = TypeVar("A")


def require(method: Any, ability: type[A]) -> A:
    """Returns the method if it has the ability. Raises BadInput with the names of the methods that have it."""
    if isinstance(method, ability):
        return method
    capable = ", ".join(name for name in methods.names() if isinstance(methods.method_class(name)(), ability))
    raise BadInput(f"{type(method).__name__} cannot {VERBS[ability]}; train one of {capable}.")
