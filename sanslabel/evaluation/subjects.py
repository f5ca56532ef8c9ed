"""What is measured: a trained encoder, and what it is compared with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from sanslabel import checkpoint, encoders
from sanslabel.encoders.timm import pretrained_settings
from sanslabel.errors import BadInput
from sanslabel.evaluation.feature_cache import digest
from sanslabel.evaluation.representation import PIXELS, Encoder, pixels, settle_
from sanslabel.evaluation.stages import Reading, Tokens
from sanslabel.randomness import Stream, fold
from sanslabel.sources import Source, open_source


class Subject(NamedTuple):
    """An encoder and what is known of it."""

    encoder: encoders.Encoder
    network: str
    """student, teacher, mean, critic, or pretrained"""
    sha256: str
    """of the file of its weights, or for one of timm's of its weights' bytes"""
    said: Mapping[str, Any]
    """what run.json says; nothing where there is none"""
    folder: Path
    """the run folder, where scores and features are written"""


def open_subject(run: str | Path, network: str | None) -> Subject:
    """The encoder of a run folder, or of a folder with nothing but an exported one. BadInput where there is none."""
    run = Path(run)
    encoder = checkpoint.load_encoder(run, network)
    said = checkpoint.read_run(run) if (run / "run.json").is_file() else {}
    weights = checkpoint.sha256(checkpoint.encoder_file(run, network))
    return Subject(encoder, network or checkpoint.exported(run)[0], weights, said, run)


def computing_as(said: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    """Options of `represent`: what the encoder was trained in. On `fashion` bfloat16 moves accuracies by 0.05 points
    and takes 0.4 of the time."""
    dtype = torch.bfloat16 if said.get("precision") == "bfloat16" else torch.float32
    return {"device": device, "dtype": dtype, "workers": said.get("workers", 0)}


def of_timm(name: str, data: str | Path | None) -> Subject:
    """A pretrained encoder of timm, as it was pretrained, for images of the channels that the data have."""
    if data is None:
        raise BadInput(f"{name}: name labeled data with --data.")
    channels = open_source(data).channels
    size, (mean, std) = pretrained_settings(name)
    fits = channels == len(mean)
    scaling = (mean, std) if fits else tuple((sum(part) / len(part),) * channels for part in (mean, std))
    encoder = encoders.build(name, channels=channels, image_size=size, scaling=scaling, pretrained=True).eval()
    folder = Path("runs") / name.replace("/", "-")
    return Subject(encoder, "pretrained", digest(encoder, []), {}, folder)


def untrained(config: Mapping[str, Any], source: Source, seed: int, options: Mapping[str, Any]) -> encoders.Encoder:
    """The encoder as it was before training but for its seed, its BatchNorm statistics settled."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(fold(seed, Stream.BASELINE))
        encoder = encoders.build(**config).to(options["device"])
    settle_(encoder, source, **options)
    return encoder


def readings(
    compared: Mapping[str, encoders.Encoder],
    source: Source,
    options: Mapping[str, Any],
    stage: int | None,
    tokens: Tokens | None,
) -> dict[str, Encoder]:
    """Each encoder, and where it reads patches, also as it reads whole images; or what is read off a stage of each."""
    found: dict[str, Encoder] = {}
    for name, encoder in compared.items():
        if stage is not None or tokens is not None:
            said = [f"stage {stage}"] * (stage is not None) + [f"{tokens} tokens"] * (tokens is not None)
            found[", ".join([name, *said])] = Reading(whole(encoder, source, options), stage, tokens)
        elif encoder.patches is None:
            found[name] = encoder
        else:
            found[f"{name}, mean over patches"] = encoder
            found[f"{name}, whole images"] = whole(encoder, source, options)
    return found


def of_pixels(channels: int, size: int) -> dict[str, Encoder]:
    """Raw pixels by what they are called: large images are reduced."""
    return {"pixels, reduced to 32x32" if channels * size**2 > PIXELS else "pixels": pixels}


def whole(encoder: encoders.Encoder, source: Source, options: Mapping[str, Any]) -> encoders.Encoder:
    """The encoder as it reads whole images. One that was trained on patches has its BatchNorm statistics settled on
    those: what it has are of something else."""
    if encoder.patches is None:
        return encoder
    other = encoders.build(**{**encoder.config, "patches": None}).to(options["device"])
    other.load_state_dict(encoder.state_dict())
    settle_(other, source, **options)
    return other
