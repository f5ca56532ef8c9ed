"""The protocol: a method is frozen numbers and a generator, and `yield` is the optimizer step.

`step` reads like the algorithm in the paper. Where the paper writes "backward; update", the method yields an
`Objective`; what stands after the `yield` runs after that update. Two players are two yields. All that is trained or
remembered lives in `Networks`, so that its `state_dict` is the whole state of the method.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from math import isfinite
from typing import Any, ClassVar, Literal, NamedTuple, Self, get_args, get_origin, get_type_hints

from torch import Tensor, nn

from sanslabel import views
from sanslabel.batch import Batch, Clock, Facts
from sanslabel.encoders import Encoder
from sanslabel.errors import BadInput
from sanslabel.recipe import Recipe

JOINT_EMBEDDING = {"contrastive", "clustering", "redundancy reduction", "distillation"}
"""families whose methods embed views of an image"""


class Objective(NamedTuple):
    """What one optimizer step descends, and what may be watched meanwhile."""

    loss: Tensor
    """(), to descend"""
    player: str = ""
    """the submodule of the networks that descends it; "" is all of them"""
    terms: Mapping[str, Tensor] = {}
    """(), to log; or (D,), a number for each dimension"""
    embedding: Tensor | None = None
    """(N, D), watched by the diagnostics"""
    positive: Tensor | None = None
    """(N, D), of what belongs together with each, where it is embedded alike"""
    images: Mapping[str, Tensor] = {}
    """(n, C, H, W) in [0, 1]: views, samples, reconstructions for the report"""
    trivial: float | None = None
    """the loss at collapse: ln(2N - 1), ln K, -1, D, …"""
    negatives: int | None = None
    """among which each positive is told, where there are such"""


class Networks(nn.Module):
    """Everything that is trained or remembered, as children and buffers. It has no forward and is never wrapped."""

    def __init__(self, **children: nn.Module) -> None:
        super().__init__()
        for name, child in children.items():
            self.add_module(name, child)

    def __getattr__(self, name: str) -> Any:
        return super().__getattr__(name)


@dataclass(frozen=True, kw_only=True)
class Method(ABC):
    """A way to learn an encoder. Fields are the numbers of the paper's table, defaults are the paper's values; none is
    ever assigned. A method inherits from this class alone."""

    family: ClassVar[str]
    """contrastive, clustering, redundancy reduction, distillation, prediction, pretext, generative or supervised"""
    energy: ClassVar[str]
    """what is low for what belongs together"""
    prevents_collapse: ClassVar[str]
    """what keeps the energy from being low everywhere"""
    paper: ClassVar[str]
    year: ClassVar[int]
    needs: ClassVar[str] = ""
    """what it asks of data or encoder beyond images"""
    signals: ClassVar[tuple[str, ...]] = ("image",)
    """the signals that it reads; there is one encoder for each"""
    unit: ClassVar[str] = ""
    """of the energies of single images, where they have one"""
    positive: ClassVar[tuple[str, ...]] = ()
    """fields that must be above 0"""
    weights: ClassVar[tuple[str, ...]] = ()
    """fields that must be 0 or more"""
    fractions: ClassVar[tuple[str, ...]] = ("teacher", "momentum")
    """fields that must be from 0 to 1"""
    modules: ClassVar[tuple[str, ...]] = ("layers", "blocks", "heads", "decoder_depth", "predictor_depth")
    """fields that count modules, and must be at most 1,000"""
    recipe: ClassVar[Recipe]
    """the paper's"""
    small: ClassVar[Recipe]
    """for small images and a processor without accelerator"""
    toy: ClassVar[Recipe | None] = None
    """for points in a plane, where the method can be shown on them"""

    def __post_init__(self) -> None:
        try:
            hints = get_type_hints(type(self))
        except NameError:  # of a class whose annotations name what its function alone knows
            hints = {}
        for name, value in vars(self).items():
            admitted = get_args(hint) if get_origin(hint := hints.get(name)) is Literal else (value,)
            if value not in admitted:
                raise BadInput(f"--method.{name} {value}: there are {', '.join(map(str, admitted))}.")
            if isinstance(value, float) and not isfinite(value):
                raise BadInput(f"--method.{name} {value}: must be a finite number.")
            if name in self.positive and value is not None and value <= 0:
                raise BadInput(f"--method.{name} {value}: must be above 0.")
            if name in self.weights and value is not None and value < 0:
                raise BadInput(f"--method.{name} {value}: must be 0 or more.")
            if name in self.modules and value is not None and value > 1000:
                raise BadInput(f"--method.{name} {value}: must be at most 1,000.")
            if name in self.fractions and value is not None and not 0 <= value <= 1:
                raise BadInput(f"--method.{name} {value}: must be from 0 to 1.")

    @classmethod
    def recipe_named(cls, name: str) -> Recipe:
        """The recipe paper, small or toy; BadInput where the method has none of this name."""
        recipe = {"paper": cls.recipe, "small": cls.small, "toy": cls.toy}.get(name)
        if recipe is None:
            known = "small and paper" + (" and toy" if cls.toy else "")
            raise BadInput(f"--recipe {name}: {cls.__name__} has {known}.")
        return recipe

    @classmethod
    def under(cls, recipe: Recipe) -> Self:
        """The method with the numbers that go with the recipe."""
        return cls(**recipe.hyperparameters)

    def sized(self, size: int) -> Self:
        """The method with `size` as the side, in pixels, of every view whose size is open."""
        open_views = {f.name: v for f in fields(self) if getattr(v := getattr(self, f.name), "size", 0) is None}
        return replace(self, **{name: replace(view, size=size) for name, view in open_views.items()})

    @classmethod
    def embeds_views(cls) -> bool:
        """Whether what belongs together are views of an image, which may then be masked, too."""
        admitted = get_type_hints(cls).get("view")
        any_view = admitted is views.MultiCrop or views.Masked in get_args(admitted)
        return any_view and cls.family in JOINT_EMBEDDING

    def masked(self, patch: int) -> Self:
        """The method with 75 % of the patches gone, of `patch` pixels a side, in place of the crops of its view, and
        without small crops. BadInput for a method that does not embed views."""
        if not self.embeds_views():
            raise BadInput(f"{type(self).__name__} embeds no views whose patches could be masked; leave --masked out.")
        return replace(self, view=vars(self)["view"].masked(patch))

    @abstractmethod
    def networks(self, encoder: Encoder, facts: Facts) -> Networks:
        """Returns all that this method trains or remembers, around the given encoder. A method that reads several
        signals is given a mapping, signal -> encoder.

        A method that learns from a given network has one more argument, `teacher`: a trained encoder in evaluation
        mode, which no gradient reaches. It is held outside of the state, since it is in no checkpoint."""

    @abstractmethod
    def step(self, net: Networks, batch: Batch, clock: Clock) -> Iterator[Objective]:
        """One pass over the batch: a yield is an optimizer step, and every write to a memory stands after it."""

    def encoders(self, net: Networks) -> Mapping[str, nn.Module]:
        """What is exported, by name; the first is the default."""
        students = {"student": net.encoder}
        return students | {"teacher": net.teacher.encoder} if hasattr(net, "teacher") else students

    # What a trained model can do besides, as far as the method gives it a meaning. Networks in evaluation mode.

    def latents(self, net: Networks, key: Tensor) -> Tensor:
        """Codes from the distribution that the model samples from, one for each key: (n,) -> (n, D)."""
        raise self._lacks("distribution over codes to draw from")

    def coded(self, net: Networks, images: Tensor) -> Tensor:
        """The code of each image: (n, C, H, W) in [0, 1] -> (n, D)."""
        raise self._lacks("codes that images could be made of")

    def decoded(self, net: Networks, codes: Tensor) -> Tensor:
        """The image of each code: (n, D) -> (n, C, H, W) in [0, 1]."""
        raise self._lacks("decoder")

    def sampled(self, net: Networks, key: Tensor) -> Tensor:
        """A new image for each key: (n,) -> (n, C, H, W) in [0, 1]."""
        return self.decoded(net, self.latents(net, key))

    def energies(self, net: Networks, images: Tensor) -> Tensor:
        """The energy of each image, low for what is like the data: (n, C, H, W) in [0, 1] -> (n,) float32."""
        raise self._lacks("energy of single images")

    def reconstructed(self, net: Networks, images: Tensor, key: Tensor) -> Mapping[str, Tensor]:
        """What the model is given of each image, where that is less than all of it, and what it makes of that, in this
        order and by name; each is (n, C, H, W) in [0, 1]. The keys (n,) are of random corruptions."""
        raise self._lacks("reconstructions")

    def nats(self, net: Networks, images: Tensor, key: Tensor) -> Tensor:
        """-ln p(image, z)/q(z) of a code z that is drawn by the key: (n, C, H, W) and (n,) -> (n,). Its mean over keys
        is an upper bound of -ln p, the closer the more of p/q are averaged before the logarithm."""
        raise self._lacks("density")

    def _lacks(self, what: str) -> BadInput:
        return BadInput(f"{type(self).__name__} has no {what}; another generative method may (`sanslabel methods`).")
