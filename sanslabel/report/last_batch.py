"""The images and sounds of a run's last batch, drawn again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from sanslabel.batch import Audio, Batch
from sanslabel.device import autocast
from sanslabel.errors import BadInput
from sanslabel.inputs import SpectrogramSpec
from sanslabel.run_config import Plan
from sanslabel.run_folder import RunFolder, data_of_run
from sanslabel.sources import batches
from sanslabel.training.session import open_session
from sanslabel.views import LogMel, resize_images, stretched

CPU = torch.device("cpu")
SHOWN = 8
"""images that are shown"""
REPLAYED = 64
"""images that the method gets; the draws for an image do not depend on the batch"""


class LastBatch(NamedTuple):
    """The first samples of a run's last batch."""

    pictures: Mapping[str, Tensor]
    """the samples, and the method's pictures of them, by name, (n, C, H, W) in [0, 1] each. Sounds are shown as
    spectrograms, low pitches at the bottom"""
    sounds: Audio | None = None
    """the sounds of the samples, if they have any"""


def images_of_last_batch(folder: RunFolder) -> Mapping[str, Tensor]:
    """Returns the pictures of `last_batch`."""
    return last_batch(folder).pictures


def last_batch(folder: RunFolder) -> LastBatch:
    """Returns the first samples of the last batch, and the method's pictures of them.

    Mixtures of sounds are drawn among fewer samples than in training. All else has the same bits on the same kind of
    device: draws are functions of the seed and the step, and views compute in the dtype of the batch. The networks are
    those of the newest checkpoint, or untrained ones before the first. Raises BadInput if the data changed or the
    method is not installed.
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
        order = source.order_of(method.stretch)
        stream = batches(source, plan.batch, seed=plan.seed, epochs=plan.epochs, start=start, device=CPU, order=order)
        for clock, full in stream:
            batch = full.map(lambda tensor: tensor[:REPLAYED])._replace(dtype=precision)
            with autocast(CPU, precision):
                objective = next(method.step(session.net, batch, clock), None)
            if objective is not None:  # it is None if the step only fills a memory
                few = batch.map(lambda tensor: tensor[:SHOWN])
                strips = {name: strip[:SHOWN] for name, strip in objective.pictures.items()}
                return _shown(few, strips, plan)
    return LastBatch({})


def _shown(few: Batch, strips: Mapping[str, Tensor], plan: Plan) -> LastBatch:
    """Returns the samples of a batch with the method's pictures of them."""
    images, sounds = dict[str, Tensor](), few.signals.get("audio")
    if "image" in few.signals:
        images["image"] = resize_images(few.images(), plan.image_size)
    if "partner" in few.signals:
        images["partner"] = resize_images(few.images(1), plan.image_size)
    spec = plan.inputs.get("audio")
    if isinstance(sounds, Audio) and isinstance(spec, SpectrogramSpec):
        images["sound"] = stretched(LogMel.of(spec).plain(few).images).flip(2)
        strips = {
            name: strip.flip(2) if strip.shape[1:3] == (1, spec.mels) else strip for name, strip in strips.items()
        }
        return LastBatch({**images, **strips}, sounds)
    return LastBatch({**images, **strips})
