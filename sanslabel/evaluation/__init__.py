"""Evaluation: how much labels can be read off a frozen representation.

Everything here but `evaluate` knows only `images -> representation`; `evaluate` ties it to a run folder.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, get_args

import torch

from sanslabel import checkpoint, encoders
from sanslabel.errors import BadInput, nearest
from sanslabel.evaluation.linear import parts
from sanslabel.evaluation.protocols import Division, Features, Protocol, Score, scores
from sanslabel.evaluation.readings import Reading, Stages, Tokens
from sanslabel.evaluation.representation import PIXELS, Encoder, pixels, represent, settle_
from sanslabel.hardware import chosen_device
from sanslabel.randomness import fold, permutation
from sanslabel.sources import Source, open_source, splits

__all__ = ["Score", "Unlabeled", "evaluate", "pixels", "represent", "scores", "settle_"]


LAYER_ROWS = 20_000
"""training rows that stages are probed on: 2,048 numbers a stage are 0.2 GB"""


class Unlabeled(BadInput):
    """There are no labels to evaluate with."""


def evaluate(
    run: str | Path,
    *,
    data: str | Path | None = None,
    protocols: Sequence[Protocol] = ("knn", "linear"),
    network: str | None = None,
    stage: int | None = None,
    tokens: Tokens | None = None,
    baselines: bool = True,
    k: int = 20,
    temperature: float = 0.07,
    labels_per_class: int = 10,
    draws: int = 5,
    seed: int = 0,
    device: str | None = None,
    report: Callable[[str], None] | None = None,
) -> list[Score]:
    """What a run's encoder is worth, beside raw pixels and the same encoder with random weights.

    data: labeled data, by default those that the run was trained on. Probes are fitted on their training split and
        measured on their test split; without one, on a fifth of the labeled rows, fixed by the seed.
    network: which of the exported encoders ("student", "teacher", "mean", "critic"), by default the first.
    stage, tokens: what is read off it, see `Reading`; by default its representation, and for `layers` all stages.
    baselines: whether to measure pixels and random weights too. Encoders trained on patches are read both ways.
    k, temperature: of the kNN vote. labels_per_class, draws: of the second round, with few labels.
    report: called with a sentence on what is done next.
    Also writes RUN/evaluation/DATA.json. Raises Unlabeled where there are no labels, BadInput for a folder without an
    encoder and for values that cannot be used, DiskError.
    """
    _check(protocols, k, temperature, labels_per_class, draws)
    where = chosen_device(device)
    run = Path(run)
    encoder = checkpoint.load_encoder(run, network).to(where)
    said = checkpoint.read_json(run / "run.json")
    chosen, size, channels = data or said["data"], said["image_size"], said["encoder"]["channels"]
    train, test, split = _divided(chosen, size, channels, seed)
    if report:
        report(f"Representing {len(train):,} + {len(test):,} images of {train.name}")

    # What the encoder was trained in. On `fashion` bfloat16 moves accuracies by 0.05 points and takes 0.4 of the time.
    dtype = torch.bfloat16 if said.get("precision") == "bfloat16" else torch.float32
    options = {"image_size": size, "device": where, "dtype": dtype, "workers": said.get("workers", 0)}
    exported = network or checkpoint.exported(run)[0]
    measured = {f"trained encoder ({exported})": encoder}
    if baselines:
        measured = {"random encoder": _random(encoder.config, train, seed, options)} | measured
    rows = _Rows(train, test, split, options)
    found: list[Score] = []
    whole: list[Protocol] = [protocol for protocol in protocols if protocol != "layers"]
    if whole:
        compared: dict[str, Encoder] = {}
        if baselines and stage is None and tokens is None:
            reduced = channels * size**2 > PIXELS
            compared["pixels, reduced to 32x32" if reduced else "pixels"] = pixels
        for name, each in measured.items():
            compared |= _readings(name, each, train, options, stage, tokens)
        found += scores(
            *rows.represented(compared),
            protocols=whole,
            k=k,
            temperature=temperature,
            labels_per_class=labels_per_class,
            draws=draws,
            seed=seed,
            report=report,
        )
    if "layers" in protocols:
        found += _layers({name: _whole(each, train, options) for name, each in measured.items()}, rows, seed, report)
    about = {
        "data": str(chosen),
        "fingerprints": {"train": train.fingerprint, "test": test.fingerprint},
        "split": split,
        "encoder": {"network": exported, "sha256": checkpoint.sha256(checkpoint.encoder_file(run, network))},
        "image_size": size,
        "precision": str(dtype).removeprefix("torch."),
    }
    name = train.name if network is None else f"{train.name}-{network}"
    _write(run / "evaluation" / f"{name}.json", about, found)
    return found


@dataclass(frozen=True)
class _Rows:
    """Labeled images to fit on and to measure on, and how they are represented."""

    train: Source
    test: Source
    split: str
    options: Mapping[str, Any]

    def represented(self, compared: Mapping[str, Encoder]) -> tuple[dict[str, Features], Division]:
        """The features of readable rows by name, (N, D) and (M, D), and the labels of these."""
        on_train, train_rows = represent(compared, self.train, **self.options)
        on_test, test_rows = represent(compared, self.test, **self.options)
        home = next(iter(on_train.values())).device
        labels = self.train.labels[train_rows].to(home), self.test.labels[test_rows].to(home)
        features = {name: Features(on_train[name], on_test[name]) for name in compared}
        return features, Division(*labels, len(self.train.classes), self.split)


def _layers(
    measured: Mapping[str, encoders.Encoder], rows: _Rows, seed: int, report: Callable[[str], None] | None
) -> list[Score]:
    """A linear probe on each stage, fitted on up to `LAYER_ROWS` training rows: all stages of them are held at once."""
    if report:
        report(f"Representing the stages of {' and '.join(measured)}")
    drawn = permutation(fold(seed, 10), len(rows.train))[:LAYER_ROWS].sort().values
    read = {name: Stages(encoder) for name, encoder in measured.items()}
    features, division = replace(rows, train=rows.train.subset(drawn)).represented(read)
    found = []
    for name, stages in read.items():
        for stage, pair in enumerate(zip(*(x.split(stages.widths, dim=1) for x in features[name]), strict=True), 1):
            probed = scores({name: Features(*pair)}, division, protocols=("layers",), seed=seed, report=report)
            found += [replace(score, stage=stage) for score in probed]
    return found


def _write(path: Path, about: dict[str, Any], found: Sequence[Score]) -> None:
    """Writes the scores, beside those of other protocols and settings that the file has of the same encoder. Other data
    of the same name get a file of their own."""
    fresh = [asdict(score) for score in found]
    if path.is_file() and checkpoint.read_json(path).get("fingerprints") != about["fingerprints"]:
        path = path.with_name(f"{path.stem}-{about['fingerprints']['test'][:8]}.json")
    before = checkpoint.read_json(path) if path.is_file() else {}
    if all(before.get(key) == value for key, value in about.items()):
        asked = [_asked(score) for score in fresh]
        fresh = [score for score in before["scores"] if _asked(score) not in asked] + fresh
    checkpoint.write_json(path, {**about, "scores": fresh})


def _asked(score: Mapping[str, Any]) -> tuple[Any, ...]:
    """What was measured, whatever came out."""
    settings = score["settings"]
    names = ("protocol", "metric", "representation", "stage", "labels_per_class", "seed", "n_train", "n_test")
    score = {"metric": "accuracy", "stage": None, **score}  # files of earlier versions have neither
    return (*(score[name] for name in names), settings.get("k"), settings.get("temperature"))


def _divided(data: str | Path, size: int, channels: int, seed: int) -> tuple[Source, Source, str]:
    """Labeled rows to fit on, labeled rows to measure on, and what the latter are called."""
    train = _labeled(open_source(data, "train", image_size=size, channels=channels))
    test = None
    if "test" in splits(data):
        test = _labeled(open_source(data, "test", image_size=size, channels=channels))
    if len(train) == 0:
        raise Unlabeled(f"{data} has no labels: kNN and linear accuracy need some; name labeled data with --data.")
    if test is not None and len(test):
        if test.classes != train.classes:
            raise BadInput(f"{data}: training and test split have other classes; give both the same class folders.")
        split = "test split"
    else:
        part = parts(train.labels, seed)
        train, test = train.subset((part != 0).nonzero()[:, 0]), train.subset((part == 0).nonzero()[:, 0])
        split = "a fifth of the labeled images"
    if len(train.labels.unique()) < 2 or len(test) == 0:
        raise Unlabeled(f"{data} has labels of one class alone: give labels of two classes or more with --data.")
    return train, test, split


def _labeled(source: Source) -> Source:
    return source if bool((source.labels >= 0).all()) else source.subset((source.labels >= 0).nonzero()[:, 0])


def _random(config: Mapping[str, Any], source: Source, seed: int, options: Mapping[str, Any]) -> encoders.Encoder:
    """The encoder as it was before training but for its seed, its BatchNorm statistics settled."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(fold(seed, 4))
        encoder = encoders.build(**config).to(options["device"])
    settle_(encoder, source, **options)
    return encoder


def _readings(
    name: str,
    encoder: encoders.Encoder,
    source: Source,
    options: Mapping[str, Any],
    stage: int | None,
    tokens: Tokens | None,
) -> dict[str, Encoder]:
    """The encoder, and where it reads patches, also as it reads whole images; or what is read off a stage of it."""
    if stage is not None or tokens is not None:
        said = [f"stage {stage}"] * (stage is not None) + [f"{tokens} tokens"] * (tokens is not None)
        return {", ".join([name, *said]): Reading(_whole(encoder, source, options), stage, tokens)}
    if encoder.patches is None:
        return {name: encoder}
    return {f"{name}, mean over patches": encoder, f"{name}, whole images": _whole(encoder, source, options)}


def _whole(encoder: encoders.Encoder, source: Source, options: Mapping[str, Any]) -> encoders.Encoder:
    """The encoder as it reads whole images. One that was trained on patches has its BatchNorm statistics settled on
    those: what it has are of something else."""
    if encoder.patches is None:
        return encoder
    whole = encoders.build(**{**encoder.config, "patches": None}).to(options["device"])
    whole.load_state_dict(encoder.state_dict())
    settle_(whole, source, **options)
    return whole


def _check(protocols: Sequence[str], k: int, temperature: float, labels_per_class: int, draws: int) -> None:
    for protocol in protocols:
        if protocol not in get_args(Protocol):
            known = list(get_args(Protocol))
            raise BadInput(f"--protocols: there is no protocol {protocol!r}; {nearest(protocol, known)}")
    if not protocols:
        raise BadInput(f"--protocols: name at least one of {', '.join(get_args(Protocol))}.")
    for flag, number in {"k": k, "labels-per-class": labels_per_class, "draws": draws}.items():
        if number < 1:
            raise BadInput(f"--{flag} {number}: must be at least 1.")
    if not temperature > 0:
        raise BadInput(f"--temperature {temperature}: must be above 0; inf is the plain vote.")
