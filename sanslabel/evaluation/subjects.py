"""Subjects: the encoder that is measured, and the encoders and pixels that it is compared with."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from sanslabel import encoders
from sanslabel.encoders.timm import PREFIX, pretrained_settings
from sanslabel.errors import BadInput
from sanslabel.evaluation.feature_cache import digest
from sanslabel.evaluation.representation import (
    PIXELS,
    Representation,
    RepresentOptions,
    mel_statistics,
    pixels,
    settle_,
)
from sanslabel.evaluation.stages import Readout, Tokens
from sanslabel.given import start_from_
from sanslabel.inputs import ImageSpec, InputSpec, SpectrogramSpec
from sanslabel.randomness import Stream, fold
from sanslabel.run_config import Plan
from sanslabel.run_folder import RunFolder, open_given
from sanslabel.sources import AnyData, Source, open_source

RANDOM, GIVEN = "random encoder", "given weights"
"""names of the starts of a training in tables"""


class Subject(NamedTuple):
    """An encoder and the run that it comes from."""

    encoder: encoders.Encoder
    network: str
    """student, teacher, mean, critic, or pretrained"""
    sha256: str
    """the SHA-256 of the weights' file, see `TrainedEncoder`; for an encoder of timm, a digest of the weights"""
    folder: Path
    """the folder that scores and features are written to"""
    plan: Plan | None = None
    """the plan of the run; None for an encoder without one"""

    def options(self, device: torch.device) -> RepresentOptions:
        """Returns the options of `represent` for this encoder on a device.

        It computes in the precision that it was trained in. On `fashion`, bfloat16 moves accuracies by 0.05 points and
        takes 0.4 of the time.
        """
        dtype, workers = torch.float32, 0
        if self.plan is not None:
            dtype, workers = getattr(torch, self.plan.precision), self.plan.workers
        return {"reads": self.encoder.reads, "device": device, "dtype": dtype, "workers": workers}


def open_subject(run: str | Path, network: str | None = None, data: AnyData | None = None) -> Subject:
    """Returns the encoder of a run folder, of a folder with nothing but an exported encoder, or of timm ("timm/NAME").

    network: the exported encoder, by default the first; data: labeled data, whose channels an encoder of timm is built
    for. Raises BadInput if there is no such encoder.
    """
    if str(run).startswith(PREFIX):
        return _timm_subject(str(run), data)
    folder = RunFolder.open(run)
    encoder, network, sha256 = folder.trained_encoder(network)
    return Subject(encoder, network, sha256, folder.path, folder.plan)


def _timm_subject(name: str, data: AnyData | None) -> Subject:
    """Returns a pretrained encoder of timm, scaled as it was pretrained, for images with the channels of the data. It
    reads the same squares as every other encoder, see `pretrained_settings`."""
    if data is None:
        raise BadInput(f"{name}: is measured on data that you choose; name labeled data with --data.")
    channels = open_source(data).channels
    size, (mean, std) = pretrained_settings(name)
    scaling = (mean, std)
    if channels != len(mean):
        scaling = tuple((sum(values) / len(values),) * channels for values in scaling)
    encoder = encoders.build(name, channels=channels, image_size=size, scaling=scaling, pretrained=True).eval()
    return Subject(encoder, "pretrained", digest(encoder, []), Path("runs") / name.replace("/", "-"))


def start_of(subject: Subject, source: Source, seed: int, options: RepresentOptions) -> dict[str, encoders.Encoder]:
    """Returns the encoder that the subject's training began with, by its name in tables.

    That is the encoder with the given weights if the run was given weights, and else one with random weights, drawn by
    the seed of the evaluation. Returns nothing if the given weights are missing or have changed, and warns of it.
    """
    if subject.plan is None or subject.plan.weights is None:
        return {RANDOM: random_encoder(subject.encoder.config, source, seed, options)}
    try:
        return {GIVEN: _given_start(subject.encoder.config, subject.plan).to(options["device"])}
    except BadInput as reason:
        warnings.warn(f"The encoder's start is not measured: {reason}", stacklevel=3)
        return {}


def _given_start(config: Mapping[str, Any], plan: Plan) -> encoders.Encoder:
    """Returns an encoder of this configuration with the weights that the run was given. Tensors that these lack are
    drawn by the seed of the run."""
    assert plan.weights is not None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(fold(plan.seed, Stream.WEIGHTS))
        encoder = encoders.build(**config)
    start_from_(encoder, open_given(plan.weights), plan.allow_missing)
    return encoder.eval()


def random_encoder(config: Mapping[str, Any], source: Source, seed: int, options: RepresentOptions) -> encoders.Encoder:
    """Returns an encoder of this configuration with weights drawn by the seed, and BatchNorm statistics settled on the
    source."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(fold(seed, Stream.BASELINE))
        encoder = encoders.build(**config).to(options["device"])
    settle_(encoder, source, **options)
    return encoder


def baselines_of(
    representations: Iterable[str], trained: str, start: Iterable[str], pixels: Iterable[str]
) -> dict[str, tuple[str, ...]]:
    """Returns the names of what each representation of the trained encoder is compared with: its start, read from the
    same place, and pixels.

    trained, start: the names of the encoders, with which the names of their representations begin.
    """
    return {
        name: (*(name.replace(trained, other, 1) for other in start), *pixels)
        for name in representations
        if name.startswith(trained)
    }


def readouts(
    compared: Mapping[str, encoders.Encoder],
    source: Source,
    options: RepresentOptions,
    stage: int | None,
    tokens: Tokens | None,
) -> dict[str, Representation]:
    """Returns the representation of each encoder, by name.

    An encoder that reads patches has two representations: the mean over patches, and the representation of full images.
    With a stage or tokens, each encoder has only the one that is read from there.
    """
    representations: dict[str, Representation] = {}
    for name, encoder in compared.items():
        if stage is not None or tokens is not None:
            places = [f"stage {stage}"] * (stage is not None) + [f"{tokens} tokens"] * (tokens is not None)
            full = encoder_of_full_images(encoder, source, options)
            representations[", ".join([name, *places])] = Readout(full, stage, tokens)
        elif encoder.patches is None:
            representations[name] = encoder
        else:
            representations[f"{name}, mean over patches"] = encoder
            representations[f"{name}, whole images"] = encoder_of_full_images(encoder, source, options)
    return representations


def pixel_baseline(reads: InputSpec) -> dict[str, Representation]:
    """Returns raw pixels as a representation, or nothing for inputs that are not images. The name states whether images
    of this size are reduced."""
    if not isinstance(reads, ImageSpec):
        return {}
    return {"pixels, reduced to 32x32" if reads.channels * reads.side**2 > PIXELS else "pixels": pixels}


def input_baseline(reads: InputSpec) -> dict[str, Representation]:
    """Returns a representation that needs no encoder: pixels, or the statistics of mel bands for sound."""
    return {"mel statistics": mel_statistics} if isinstance(reads, SpectrogramSpec) else pixel_baseline(reads)


def encoder_of_full_images(encoder: encoders.Encoder, source: Source, options: RepresentOptions) -> encoders.Encoder:
    """Returns the encoder itself if it reads full images, or a copy that reads full images if it reads patches.

    The BatchNorm statistics of the copy are settled on the source, since patches have other statistics.
    """
    if encoder.patches is None:
        return encoder
    copy = encoders.build(**{**encoder.config, "patches": None}).to(options["device"])
    copy.load_state_dict(encoder.state_dict())
    settle_(copy, source, **options)
    return copy
