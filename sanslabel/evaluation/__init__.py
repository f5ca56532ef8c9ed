"""Evaluation: how much labels can be read off a frozen representation, or off an encoder that goes on learning.

Everything here but `evaluate` knows only `images -> representation`; `evaluate` ties it to a run folder.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from math import isfinite
from pathlib import Path
from typing import Any, get_args

from sanslabel import checkpoint, encoders
from sanslabel.device import chosen_device
from sanslabel.distributed import on_first_process
from sanslabel.encoders.timm import PREFIX
from sanslabel.errors import BadInput, suggestion
from sanslabel.evaluation.feature_cache import FeatureCache
from sanslabel.evaluation.finetuning import FineTuning, finetuned
from sanslabel.evaluation.invariance import IMAGES, invariance
from sanslabel.evaluation.labeled_split import LabeledSplit, Unlabeled, labeled_split
from sanslabel.evaluation.protocols import FROZEN, Features, Protocol, Score, accuracy, chosen_probe, measured, scores
from sanslabel.evaluation.representation import Encoder, pixels, represent, settle_
from sanslabel.evaluation.results import results
from sanslabel.evaluation.similarity import alignment_of_kernels, triplet_agreement
from sanslabel.evaluation.stages import Stages, Tokens
from sanslabel.evaluation.subjects import (
    Subject,
    computing_as,
    of_pixels,
    of_timm,
    open_subject,
    readings,
    untrained,
    whole,
)
from sanslabel.memory_limits import advise_when_out_of_memory
from sanslabel.randomness import Stream, fold, permutation
from sanslabel.serialization import to_plain

__all__ = ["FineTuning", "Score", "Unlabeled", "evaluate", "pixels", "represent", "scores", "settle_"]


LAYER_ROWS = 20_000
"""training rows that stages are probed on: 2,048 numbers a stage are 0.2 GB"""
FINE_TUNING = FineTuning()
K = 20
"""neighbors"""


def evaluate(
    run: str | Path,
    *,
    data: str | Path | None = None,
    protocols: Sequence[Protocol] = ("knn", "linear"),
    transfer: str | Path | None = None,
    reference: str | Path | None = None,
    network: str | None = None,
    stage: int | None = None,
    tokens: Tokens | None = None,
    baselines: bool = True,
    k: int | None = None,
    temperature: float = 0.07,
    labels_per_class: int = 10,
    draws: int = 5,
    finetuning: FineTuning = FINE_TUNING,
    cache: bool = True,
    seed: int = 0,
    device: str | None = None,
    report: Callable[[str], None] | None = None,
) -> list[Score]:
    """What a run's encoder is worth, beside raw pixels and the same encoder with random weights.

    run: a run folder, one with an exported encoder alone, or the name of a pretrained encoder of timm, "timm/…"; the
        last two need `data`.
    data: labeled data, by default those that the run was trained on. Probes are fitted on their training split and
        measured on their test split; without one, on a fifth of the labeled rows, fixed by the seed.
    transfer: a second labeled set, which the protocol of this name probes linearly.
    reference: the folder of another encoder, whose distances `relation` compares with, beside those that labels say.
    network: which of the exported encoders ("student", "teacher", "mean", "critic"), by default the first.
    stage, tokens: what is read off it, see `Reading`; by default its representation, and for `layers` all stages.
    baselines: whether to measure pixels and random weights too. Encoders trained on patches are read both ways.
    k, temperature: of the kNN vote; by default 20 neighbors, or all where there are fewer. labels_per_class, draws: of
        the second round, with few labels.
    finetuning: how `finetune` trains the encoder on.
    cache: whether features are kept in RUN/features, and taken from there.
    report: called with a sentence on what is done next.
    Also writes RUN/evaluation/DATA.json. Raises Unlabeled where there are no labels, BadInput for a folder without an
    encoder and for values that cannot be used, DiskError.
    """
    if "finetune" in protocols and (stage, tokens) != (None, None):
        raise BadInput("--protocols finetune trains the whole encoder; leave out --stage and --tokens.")
    _check(protocols, transfer, reference, k, temperature, labels_per_class, draws)
    candidate = of_timm(str(run), data) if str(run).startswith(PREFIX) else open_subject(run, network)
    said, config = candidate.said, candidate.encoder.config
    chosen = data or said.get("data")
    if chosen is None:
        raise BadInput(f"{run}: does not say what it was trained on (no run.json); name labeled data with --data.")
    size, channels = said.get("image_size", config["image_size"]), config["channels"]
    options = computing_as(said, chosen_device(device))
    memo = FeatureCache(candidate.folder / "features" if cache else None)
    rows = labeled_split(chosen, size, channels, seed, options, memo)
    if k is not None and k > len(rows.train):
        raise BadInput(f"--k {k}: {chosen} has {len(rows.train):,} images to fit on; give at most as many.")
    compared = {f"trained encoder ({candidate.network})": candidate.encoder.to(options["device"])}
    if baselines:
        compared = {"random encoder": untrained(config, rows.train, seed, rows.options)} | compared
    tell = report or (lambda sentence: None)
    settings = {"k": min(K, len(rows.train)) if k is None else k, "temperature": temperature}
    settings |= {"labels_per_class": labels_per_class, "draws": draws, "seed": seed}
    read = readings(compared, rows.train, rows.options, stage, tokens)
    if baselines and stage is None and tokens is None:
        read = of_pixels(channels, size) | read
    # Whatever else is asked for is opened first, so that what cannot be used is told before the work.
    second = None if transfer is None else labeled_split(transfer, size, channels, seed, options, memo)
    other = None if reference is None else _fitting(open_subject(reference, None), rows)
    parts: list[Callable[[], list[Score]]] = []
    frozen: list[Protocol] = [protocol for protocol in protocols if protocol in FROZEN]
    if frozen:
        parts.append(lambda: _frozen(read, rows, frozen, settings, tell))
    if other is not None:
        parts.append(lambda: _related(read, rows, other, seed, tell))
    if "invariance" in protocols:
        parts.append(lambda: _invariance(read, rows, seed, tell))
    if "layers" in protocols:
        parts.append(lambda: _layers(compared, rows, seed, tell))
    if second is not None:
        again = readings(compared, second.train, second.options, stage, tokens)
        parts.append(lambda: _transferred(again, second, seed, tell))
    if "finetune" in protocols:
        parts.append(lambda: _finetuned(compared, rows, finetuning, seed, tell))
    found: list[Score] = []
    for part in parts:
        with advise_when_out_of_memory(options["device"], "evaluate with --device cpu"):
            found += (scored := part())
        on_first_process(_write, candidate, rows, scored, network)  # at once: what comes later may fail
    return found


def _frozen(
    read: Mapping[str, Encoder],
    rows: LabeledSplit,
    protocols: Sequence[Protocol],
    settings: Mapping[str, Any],
    tell: Callable[[str], None],
) -> list[Score]:
    """The protocols of one representation."""
    tell(f"Representing {len(rows.train):,} + {len(rows.test):,} images of {rows.train.name}")
    return scores(*rows.represented(read), protocols=protocols, report=tell, **settings)


def _layers(
    compared: Mapping[str, encoders.Encoder], rows: LabeledSplit, seed: int, tell: Callable[[str], None]
) -> list[Score]:
    """A linear probe on each stage, fitted on up to `LAYER_ROWS` training rows: all stages of them are held at once."""
    tell(f"Representing the stages of {' and '.join(compared)}")
    drawn = permutation(fold(seed, Stream.STAGE_SAMPLES), len(rows.train))[:LAYER_ROWS].sort().values
    read = {name: Stages(whole(encoder, rows.train, rows.options)) for name, encoder in compared.items()}
    features, division = replace(rows.fewer(drawn), memo=FeatureCache(None)).represented(read)  # these are large
    found = []
    for name, stages in read.items():
        for stage, pair in enumerate(zip(*(x.split(stages.widths, dim=1) for x in features[name]), strict=True), 1):
            probed = scores({name: Features(*pair)}, division, protocols=("layers",), seed=seed, report=tell)
            found += [replace(score, stage=stage) for score in probed]
    return found


def _finetuned(
    compared: Mapping[str, encoders.Encoder],
    rows: LabeledSplit,
    how: FineTuning,
    seed: int,
    tell: Callable[[str], None],
) -> list[Score]:
    """Each encoder after it has gone on learning with the training rows' labels, its head starting as the probe."""
    read = {name: whole(encoder, rows.train, rows.options) for name, encoder in compared.items()}
    features, division = rows.represented(read)
    found = []
    for name, encoder in read.items():
        tell(f"Fine-tuning {name}")
        probe, choice = chosen_probe(features[name].train, division.train, classes=division.classes, seed=seed)
        net = finetuned(encoder, probe, rows.train, how, seed=seed, **rows.options)
        logits, readable = represent({name: net}, rows.test, **rows.options)
        labels = rows.test.labels[readable].to(logits[name].device)
        right = accuracy(logits[name].argmax(dim=1), labels)
        found.append(measured("finetune", "accuracy", name, right, division, to_plain(how) | choice, seed, len(labels)))
    return found


def _fitting(other: Subject, rows: LabeledSplit) -> Subject:
    """BadInput for an encoder of other images."""
    asked = rows.options["image_size"], rows.test.channels
    if (other.encoder.config["image_size"], other.encoder.config["channels"]) != asked:
        raise BadInput(
            f"{other.folder}: reads other images; give --reference an encoder of the same size and channels."
        )
    return other


def _related(
    read: Mapping[str, Encoder], rows: LabeledSplit, other: Subject, seed: int, tell: Callable[[str], None]
) -> list[Score]:
    """Whether the distances of representations follow those of another encoder."""
    tell(f"Comparing with the distances of {other.folder}")
    encoder = other.encoder.to(rows.options["device"])
    features, division = rows.represented({**read, "": encoder})
    settings = {"reference": f"{other.folder} ({other.sha256[:12]})", "images": len(division.test)}
    found = []
    for name in read:
        own, known = features[name].test, features[""].test
        figures = {"triplets by reference": triplet_agreement(own, known, seed)}
        figures["CKA with reference"] = alignment_of_kernels(own, known)
        found += [measured("relation", metric, name, x, division, settings, seed) for metric, x in figures.items()]
    return found


def _invariance(read: Mapping[str, Encoder], rows: LabeledSplit, seed: int, tell: Callable[[str], None]) -> list[Score]:
    """The cosine of an image and its changed one, by kind of change, and of unrelated images."""
    tell("Changing images")
    found = []
    for name, figures in invariance(read, rows.test, seed=seed, **rows.options).items():
        settings = {"figure": "100 times the mean cosine", "images": min(IMAGES, len(rows.test))}
        for kind, x in figures.items():
            found.append(measured("invariance", kind, name, x, rows.all, settings, seed, settings["images"]))
    return found


def _transferred(
    read: Mapping[str, Encoder], rows: LabeledSplit, seed: int, tell: Callable[[str], None]
) -> list[Score]:
    """A linear probe of each representation on a second labeled set."""
    tell(f"Representing {len(rows.train):,} + {len(rows.test):,} images of {rows.train.name}")
    features, division = rows.represented(read)
    found = scores(features, division, protocols=("transfer",), seed=seed, report=tell)
    about = {"data": rows.data, "fingerprints": rows.fingerprints}
    return [replace(score, settings={**score.settings, **about}) for score in found]


def _write(candidate: Subject, rows: LabeledSplit, found: Sequence[Score], network: str | None) -> None:
    """Writes the scores, beside those of other protocols and settings that the file has of the same encoder. Other data
    of the same name get a file of their own."""
    about = {
        "data": rows.data,
        "fingerprints": rows.fingerprints,
        "split": rows.split,
        "encoder": {"network": candidate.network, "sha256": candidate.sha256},
        "image_size": rows.options["image_size"],
        "precision": str(rows.options["dtype"]).removeprefix("torch."),
    }
    name = rows.train.name if network is None else f"{rows.train.name}-{network}"
    path = candidate.folder / "evaluation" / f"{name}.json"
    fresh = [{**asdict(score), "value": score.value if isfinite(score.value) else None} for score in found]
    if path.is_file() and checkpoint.read_json(path).get("fingerprints") != about["fingerprints"]:
        path = path.with_name(f"{path.stem}-{about['fingerprints']['test'][:8]}.json")
    before = results(path) if path.is_file() else {}
    if all(before.get(key) == value for key, value in about.items()):
        asked = [_asked(score) for score in fresh]
        fresh = [score for score in before["scores"] if _asked(score) not in asked] + fresh
    checkpoint.write_json(path, {**about, "scores": fresh})


def _asked(score: Mapping[str, Any]) -> tuple[Any, ...]:
    """What was measured, whatever came out."""
    settings = score["settings"]
    names = ("protocol", "metric", "representation", "stage", "labels_per_class", "seed", "n_train", "n_test")
    score = {"metric": "accuracy", "stage": None, **score}  # files of earlier versions have neither
    asked = ("k", "temperature", "data", "reference", "steps", "rate")
    return (*(score[name] for name in names), *(settings.get(name) for name in asked))


def _check(
    protocols: Sequence[str],
    transfer: str | Path | None,
    reference: str | Path | None,
    k: int | None,
    temperature: float,
    labels_per_class: int,
    draws: int,
) -> None:
    for protocol in protocols:
        if protocol not in get_args(Protocol):
            known = list(get_args(Protocol))
            raise BadInput(f"--protocols: there is no protocol {protocol!r}; {suggestion(protocol, known)}")
    if not protocols:
        raise BadInput(f"--protocols: name at least one of {', '.join(get_args(Protocol))}.")
    if reference is not None and "relation" not in protocols:
        raise BadInput("--reference goes with --protocols relation.")
    if ("transfer" in protocols) != (transfer is not None):
        raise BadInput("--transfer names a second labeled set for --protocols transfer; give both or neither.")
    for flag, number in {"k": k, "labels-per-class": labels_per_class, "draws": draws}.items():
        if number is not None and number < 1:
            raise BadInput(f"--{flag} {number}: must be at least 1.")
    if not temperature > 0:
        raise BadInput(f"--temperature {temperature}: must be above 0; inf is the plain vote.")
