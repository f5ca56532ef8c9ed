"""The images of a run's last batch, drawn again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from sanslabel.device import autocast
from sanslabel.errors import BadInput
from sanslabel.run_folder import RunFolder, data_of_run
from sanslabel.sources import batches
from sanslabel.training.session import open_session
from sanslabel.views import resize_images

CPU = torch.device("cpu")
SHOWN = 8
"""images that are shown"""
REPLAYED = 64
"""images that the method gets; the draws for an image do not depend on the batch"""


def images_of_last_batch(folder: RunFolder) -> Mapping[str, Tensor]:
    """Returns the first images of the last batch, and the method's pictures of them, by name, (n, C, H, W) each.

    On the same kind of device, the views have the same bits as in training: draws are functions of the seed and the
    step, and views compute in the dtype of the batch. The networks are those of the newest checkpoint, or untrained
    ones before the first. Raises BadInput if the data changed or the method is not installed.
    """
    plan, method, recipe = folder.known_plan, folder.method(), folder.recipe()
    source = folder.training_source(data_of_run(plan))
    if source.fingerprint != plan.fingerprint:
        raise BadInput(f"{plan.data_name} has changed since the run, so its views cannot be drawn again.")
    precision = getattr(torch, plan.precision)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        plain = replace(plan, device="cpu", chunk=None, sharding="replicate", compile=False, recompute=False)
        session = open_session(folder.path, plain, method, recipe, source)
        start = max(0, min(session.restore_(), folder.steps - 1))
        stream = batches(source, plan.batch, seed=plan.seed, epochs=plan.epochs, start=start, device=CPU)
        for clock, full in stream:
            batch = full.map(lambda tensor: tensor[:REPLAYED])._replace(dtype=precision)
            with autocast(CPU, precision):
                objective = next(method.step(session.net, batch, clock), None)
            if objective is not None:  # it is None if the step only fills a memory
                strips = {name: strip[:SHOWN] for name, strip in objective.pictures.items()}
                if "image" not in batch.signals:
                    return strips
                few = batch.map(lambda tensor: tensor[:SHOWN])
                return {"image": resize_images(few.images(), plan.image_size), **strips}
    return {}
