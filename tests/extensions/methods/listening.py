"""Listening: a picture and its own sound must find each other in the batch."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import log

from torch import nn

from sanslabel import views
from sanslabel.batch import Batch, Clock, Facts
from sanslabel.distributed import gather
from sanslabel.heads import mlp
from sanslabel.losses import nt_xent
from sanslabel.methods.method import Family, Method, Networks, Objective
from sanslabel.optimizers import AdamW
from sanslabel.recipe import Recipe
from sanslabel.views.plain_view import plain_view


@dataclass(frozen=True, kw_only=True)
class Listening(Method):
    """Energy of a picture and a sound: minus the cosine of their embeddings."""

    family = Family.CONTRASTIVE
    energy = "minus the cosine of a picture and its sound"
    prevents_collapse = "every other sound of the batch is a negative"
    paper = "a test"
    year = 2026
    signals = ("image", "audio")
    recipe = small = Recipe(optimizer=AdamW(lr=3e-3), epochs=2)

    view: views.View = views.RECONSTRUCTION

    def networks(self, encoder, facts: Facts) -> Networks:
        """Returns an encoder and a projector for each signal."""
        heads = {name: mlp(own.width, 16) for name, own in encoder.items()}
        return Networks(encoders=nn.ModuleDict(encoder), projectors=nn.ModuleDict(heads))

    def step(self, net: Networks, batch: Batch, clock: Clock) -> Iterator[Objective]:
        """Yields the symmetric cross-entropy of pictures and sounds."""
        inputs = {
            "image": self.view.input(batch, 0),
            "audio": plain_view(net.encoders["audio"].reads).input(batch, 1),
        }
        a, b = (gather(net.projectors[name](net.encoders[name](*inputs[name]))) for name in self.signals)
        yield Objective(nt_xent(a, b, 0.2), embedding=a, positive=b, trivial=log(2 * len(a) - 1))

    def encoders(self, net: Networks):
        """Returns both encoders."""
        return dict(net.encoders.items())
