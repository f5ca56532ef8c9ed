"""The protocol of methods: a method is frozen hyperparameters and a generator, and `yield` is the optimizer step.

`step` reads like the algorithm in the paper. Where the paper writes "backward; update", the method yields an
`Objective`; what stands after the `yield` runs after that update. A method with two players yields twice. All that is
trained or remembered is in `Networks`, so that its `state_dict` is the whole state of the method.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from typing import Any, ClassVar, NamedTuple, Self

from torch import Tensor, nn

from sanslabel.batch import Batch, Clock, Facts
from sanslabel.constraints import check_constraints
from sanslabel.errors import BadInput
from sanslabel.inputs import SpectrogramSpec
from sanslabel.recipe import Recipe
from sanslabel.views import EncoderInput, stretched


class Family(StrEnum):
    """The families of methods, by what they learn from."""

    CONTRASTIVE = "contrastive"
    CLUSTERING = "clustering"
    REDUNDANCY_REDUCTION = "redundancy reduction"
    DISTILLATION = "distillation"
    PREDICTION = "prediction"
    PRETEXT = "pretext"
    GENERATIVE = "generative"
    SUPERVISED = "supervised"


class Objective(NamedTuple):
    """The loss that one optimizer step descends, with the figures and pictures that are logged beside it."""

    loss: Tensor
    """(), the loss to descend"""
    player: str = ""
    """the submodule of the networks that descends the loss; "" means all networks"""
    terms: Mapping[str, Tensor] = {}
    """terms of the loss and other figures, logged under the paper's names; () each, or (D,) with one value a
    dimension"""
    embedding: Tensor | None = None
    """(N, D), the embedding that the diagnostics examine"""
    positive: Tensor | None = None
    """(N, D), the embeddings of the positives, if they are embedded by a comparable network"""
    pair: tuple[EncoderInput | Tensor, EncoderInput | Tensor] | None = None
    """two views of the same samples, which should differ"""
    generated: tuple[Tensor, Tensor] | None = None
    """generated images and images of the data, (n, C, H, W) each; their variation is compared"""
    images: Mapping[str, Tensor] = {}
    """(n, C, H, W) each: pictures in [0, 1] by name, such as reconstructions, and spectrograms"""
    trivial: float | None = None
    """the loss at collapse: ln(2N - 1), ln K, -1, D, …"""
    negatives: int | None = None
    """number of negatives that each positive is compared with; None if the loss has no negatives"""

    @property
    def pictures(self) -> dict[str, Tensor]:
        """Returns all pictures by name, (n, C, H, W) in [0, 1] each: the two views, generated images beside data, and
        others. Spectrograms are brought to [0, 1], see `stretched`."""
        views = {} if self.pair is None else dict(zip(("first view", "second view"), self.pair, strict=True))
        tensors = {name: view if isinstance(view, Tensor) else view.images for name, view in views.items()}
        if self.generated is not None:
            tensors |= dict(zip(("samples", "data"), self.generated, strict=True))
        return {name: stretched(tensor) for name, tensor in {**tensors, **self.images}.items() if tensor.ndim == 4}


class Refused(Exception):
    """Exception at the yield of an objective whose loss or gradient is not finite, so that nothing was moved."""


class Networks(nn.Module):
    """Everything that a method trains or remembers, as children and buffers. It has no forward and is never wrapped."""

    def __init__(self, **children: nn.Module) -> None:
        super().__init__()
        for name, child in children.items():
            self.add_module(name, child)

    def __getattr__(self, name: str) -> Any:
        return super().__getattr__(name)

    @property
    def partner(self) -> Networks:
        """Returns the networks that embed the second view: the momentum teacher if there is one, else these
        networks."""
        return self.teacher if "teacher" in self._modules else self


@dataclass(frozen=True, kw_only=True)
class Method(ABC):
    """A way to learn an encoder. Its fields are the hyperparameters of the paper, and defaults are the paper's values.
    Constraints stand at the fields: `temperature: Annotated[float, Positive] = 0.1`. A method inherits from this class
    alone."""

    family: ClassVar[Family]
    energy: ClassVar[str]
    """the energy, in words: a quantity that is low for a pair or an image that fits"""
    prevents_collapse: ClassVar[str]
    """the part of the method that keeps the energy from being low everywhere"""
    paper: ClassVar[str]
    year: ClassVar[int]
    needs: ClassVar[str] = ""
    """requirements on the data or the encoder, besides images"""
    signals: ClassVar[tuple[str, ...]] = ("image",)
    """the signals of a batch that the method reads; each has an encoder of its own, unless one reads all"""
    one_encoder: ClassVar[bool] = False
    """True if one encoder reads all of the signals, such as texts in two languages"""
    learns_from_labels: ClassVar[bool] = False
    """True if the loss reads labels; training then leaves out the samples that evaluation measures"""
    embeds_views: ClassVar[bool] = False
    """True if the loss compares embeddings of the method's `view`, which may then be masked"""
    recipe: ClassVar[Recipe]
    """the paper's training"""
    small: ClassVar[Recipe]
    """training for small images and a processor without accelerator"""
    toy: ClassVar[Recipe | None] = None
    """training on points in a plane, for methods that can be shown on them"""

    def __post_init__(self) -> None:
        check_constraints(self, "--method.")

    @classmethod
    def recipe_named(cls, name: str) -> Recipe:
        """Returns the recipe "paper", "small" or "toy". Raises BadInput if the method has none of this name."""
        recipe = {"paper": cls.recipe, "small": cls.small, "toy": cls.toy}.get(name)
        if recipe is None:
            known = "small and paper" + (" and toy" if cls.toy else "")
            raise BadInput(f"--recipe {name}: {cls.__name__} has {known}.")
        return recipe

    @classmethod
    def under(cls, recipe: Recipe) -> Self:
        """Returns the method with the hyperparameters of a recipe."""
        return cls(**recipe.hyperparameters)

    def sized(self, size: int) -> Self:
        """Returns the method with `size` as the side, in pixels, of every view that has no size yet."""
        open_views = {f.name: v for f in fields(self) if getattr(v := getattr(self, f.name), "size", 0) is None}
        return replace(self, **{name: replace(view, size=size) for name, view in open_views.items()})

    def masked(self, patch: int) -> Self:
        """Returns the method with masked views in place of crops. 75 % of the patches, of `patch` pixels a side, are
        removed, and there are no small crops. Raises BadInput if the method does not embed views."""
        if not self.embeds_views:
            raise BadInput(f"{type(self).__name__} embeds no views, so none can be masked; leave --masked out.")
        return replace(self, view=vars(self)["view"].masked(patch))

    def of_sound(self, spec: SpectrogramSpec) -> Self:
        """Returns the method with views of sound in place of its views of images. Raises BadInput if the method reads
        images in another way than by embedding views."""
        if not (self.embeds_views or self.learns_from_labels):
            raise BadInput(
                f"{type(self).__name__} learns from pictures, and these data have sound only; choose a method that "
                "compares views, such as simclr."
            )
        views = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(self, **{name: v.of_sound(spec) for name, v in views.items() if hasattr(v, "of_sound")})

    @property
    def signals_read(self) -> tuple[str, ...]:
        """Returns the signals of a batch that the method reads: `signals`, or that of its view if the view is one of
        sound."""
        signal = getattr(vars(self).get("view"), "signal", "image")
        return self.signals if signal == "image" else (signal,)

    @property
    def encoded_signals(self) -> tuple[str, ...]:
        """Returns the signals that have an encoder of their own: all that the method reads, or the first of them if one
        encoder reads all."""
        return self.signals_read[:1] if self.one_encoder else self.signals_read

    @property
    def stretch(self) -> int:
        """Returns how many samples of a clip follow each other in time in a batch; 1 for samples in any order. Data
        without time are refused if it is above 1."""
        return 1

    @abstractmethod
    def networks(self, encoder: Any, facts: Facts) -> Networks:
        """Returns all that this method trains or remembers, around an encoder.

        encoder: for a method of several signals, a mapping from signal to encoder. facts: properties of the data. A
        method that learns from a given network has one more argument, `teacher`: a trained encoder in evaluation mode.
        The method keeps the teacher as `Frozen(teacher)`, which no gradient reaches and no checkpoint contains.
        Raises BadInput if the method cannot work with this encoder or these data.
        """

    @abstractmethod
    def step(self, net: Networks, batch: Batch, clock: Clock) -> Iterator[Objective]:
        """Yields an objective for each optimizer step of one pass over the batch. Every write to a memory stands after
        the yield. There the engine raises `Refused` if the loss is not finite, which ends the pass."""

    def encoders(self, net: Networks) -> Mapping[str, nn.Module]:
        """Returns the encoders to export, by name; the first is the default."""
        return {"student": net.encoder} | ({} if net.partner is net else {"teacher": net.partner.encoder})
