"""What a run's method makes of a batch: the views that training drew, reconstructions, samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from sanslabel import methods
from sanslabel.errors import BadInput
from sanslabel.methods.method import Objective
from sanslabel.recipe import Recipe
from sanslabel.report.contents import Contents
from sanslabel.run_folder import RunFolder
from sanslabel.serialization import from_plain
from sanslabel.sources import batches, open_source
from sanslabel.training.session import open_session
from sanslabel.views import resize_images

SHOWN, REPLAYED = 8, 64
"""images that are shown, and that the method gets: their draws are theirs in any batch"""


def replayed(run: Contents) -> Mapping[str, Tensor]:
    """The first images of the run's last batch and what its method showed of them, by name, (n, C, H, W) each: draws
    are functions of the seed and the step, so that they are those of the training. The networks are those of the
    newest checkpoint, or fresh ones. BadInput where data or method are not to be had."""
    plan = RunFolder.open(run.path).known_plan
    if plan.method not in methods.names():
        raise BadInput(f"{plan.method} is a method of one's own, whose views are not known here.")
    method, recipe = (
        from_plain(methods.method_class(plan.method), plan.hyperparameters),
        from_plain(Recipe, plan.recipe),
    )
    source = open_source(plan.data, "train", image_size=plan.image_size)
    if source.fingerprint != plan.fingerprint:
        raise BadInput(f"{plan.data} has changed since, so that the views of then cannot be drawn again.")
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        plainly = replace(plan, device="cpu", chunk=None, sharding="replicate", compile=False, recompute=False)
        session = open_session(run.path, plainly, method, recipe, source)
        start = max(0, min(session.restore_(), run.steps - 1))
        stream = batches(
            source, plan.batch, seed=plan.seed, epochs=plan.epochs, start=start, device=torch.device("cpu")
        )
        for clock, whole in stream:
            batch = whole.map(lambda tensor: tensor[:REPLAYED])._replace(dtype=getattr(torch, plan.precision))
            objective: Objective | None = next(method.step(session.net, batch, clock), None)
            if objective is not None:  # an epoch may only fill a memory
                images = resize_images(batch.map(lambda tensor: tensor[:SHOWN]).images(), plan.image_size)
                return {"image": images} | {name: part[:SHOWN] for name, part in objective.images.items()}
    return {}
