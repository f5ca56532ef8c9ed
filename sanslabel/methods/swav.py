"""SwAV: from each crop, the network predicts the prototypes that another crop is assigned to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import log
from typing import Annotated, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from sanslabel import diagnostics, losses, views
from sanslabel.batch import Batch, Clock, Facts
from sanslabel.constraints import Fraction, Positive
from sanslabel.distributed import gather
from sanslabel.encoders import Encoder
from sanslabel.heads import Prototypes, mlp
from sanslabel.memory import Queue, add_teacher_, follow_
from sanslabel.methods.method import Family, Method, Networks, Objective
from sanslabel.optimizers import LARS, AdamW
from sanslabel.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class SwAV(Method):
    """Swapping assignments between views (Caron et al. 2020). A crop's code is its soft assignment to prototypes. The
    energy of a pair is the cross-entropy of one crop's code with the other's prediction.

    Defaults are the authors' for batches of 4096, with two differences. LARS divides by the norm of gradient plus
    decay, theirs by the sum of both norms. At their decay of 1e-6, weights differ by 5e-5 after 20 steps. The blur of a
    local crop has a kernel of 9 pixels, a tenth of the crop as in SimCLR's code; theirs has no end."""

    family = Family.CLUSTERING
    energy = "the cross-entropy of one crop's assignment with another's prediction"
    prevents_collapse = "Sinkhorn's scaling gives every prototype an equal share of the batch"
    paper = "Unsupervised Learning of Visual Features by Contrasting Cluster Assignments"
    year = 2020
    needs = "multi-crop"
    embeds_views = True

    prototypes: Annotated[int, Positive] = 3000
    """K, number of prototypes; at most half the samples"""
    epsilon: Annotated[float, Positive] = 0.05
    """ε of the codes: a small value makes them hard, a large one makes them uniform"""
    temperature: Annotated[float, Positive] = 0.1
    """τ of predictions"""
    codes: Literal["sinkhorn", "softmax"] = "sinkhorn"
    """how scores become codes; softmax(scores / ε) treats each sample by itself, and collapses"""
    iterations: Annotated[int, Positive] = 3
    """iterations of Sinkhorn's scaling"""
    queue: int = 0
    """number of earlier embeddings of each global crop that take part in the scaling; 3840 for batches of 256"""
    queue_epoch: int = 15
    """epoch in which the queue begins to fill; it is used as soon as it is full"""
    frozen_epochs: float = 1.0
    """first epochs, in which the prototypes are not trained; 313 steps in the authors' code"""
    hidden: Annotated[int, Positive] = 2048
    """width of the projector's hidden layer"""
    width: Annotated[int, Positive] = 128
    """width of the embedding"""
    teacher_momentum: Annotated[float | None, Fraction] = None
    """momentum of a teacher that makes the codes; the paper has none"""
    view: views.AnyCrops = views.SWAV

    recipe = Recipe(
        encoder="resnet50",
        decode_factor=3.1,
        optimizer=LARS(lr=0.3, weight_decay=1e-6),
        scaling="linear",
        batch=4096,
        epochs=800,
        warmup=10,
        warmup_start=1 / 16,
        final_lr_factor=0.001,
        decay_all=True,
    )
    small = Recipe(
        encoder="conv",
        optimizer=AdamW(lr=2e-3, weight_decay=1e-4),
        batch=256,
        epochs=20,
        warmup=2,
        hyperparameters=dict(prototypes=200, epsilon=0.03, hidden=512, view=views.EASY),
    )

    def networks(self, encoder: Encoder, facts: Facts) -> Networks:
        head = mlp(encoder.width, self.hidden, self.width, bias=True, final_bias=True)
        net = Networks(encoder=encoder, projector=head)
        add_teacher_(net, self.teacher_momentum)
        samples = facts.samples or max(self.queue, 2 * self.prototypes)
        net.prototypes = Prototypes(self.width, max(2, min(self.prototypes, samples // 2)))
        net.queues = nn.ModuleList([Queue(min(self.queue, samples), self.width) for _ in "ab" if self.queue])
        return net

    def step(self, net: Networks, batch: Batch, clock: Clock) -> Iterator[Objective]:
        crops = self.view.inputs(batch)  # V of (N, C, S, S)
        z = embeddings(net, crops)  # V of (N, D)
        with torch.no_grad():
            targets = z[:2] if self.teacher_momentum is None else embeddings(net.partner, crops[:2])
            codes = [self.code(net, target, crop, clock) for crop, target in enumerate(targets)]  # 2 of (N, K)
        frozen = clock.epochs < self.frozen_epochs
        scores = [net.prototypes(embedding, frozen) / self.temperature for embedding in z]
        cross_entropies = [cross_entropy(s, q) for i, q in enumerate(codes) for v, s in enumerate(scores) if v != i]
        yield Objective(
            torch.stack(cross_entropies).mean(),
            terms={"usage": diagnostics.usage(torch.cat(codes))},
            embedding=z[0],
            positive=z[1],
            pair=(crops[0], crops[1]),
            images={"last view": crops[-1].images},
            trivial=log(scores[0].shape[1]),
        )
        net.prototypes.normalize_()
        if clock.epoch >= self.queue_epoch:
            for queue, target in zip(net.queues, targets, strict=False):
                queue.push_(target)
        follow_(net, self.teacher_momentum)

    def code(self, net: Networks, z: Tensor, crop: int, clock: Clock) -> Tensor:
        """Returns the assignment to prototypes, (N, K), of the embeddings (N, D) of a global crop."""
        if self.codes == "softmax":
            return (net.prototypes(z) / self.epsilon).softmax(dim=1)
        n = len(z)
        pushed = (clock.step - self.queue_epoch * clock.steps_per_epoch) * n
        if self.queue and pushed >= len(earlier := net.queues[crop].embeddings):
            z = torch.cat([earlier, z])
        return losses.sinkhorn(net.prototypes(z), self.epsilon, self.iterations)[-n:]


def embeddings(net: Networks, crops: list[views.EncoderInput]) -> list[Tensor]:
    """Returns the embeddings of each crop, V of (N, D)."""
    z = net.projector(torch.cat(views.forward_by_size(net.encoder, crops)))
    return [gather(embedding) for embedding in z.chunk(len(crops))]
