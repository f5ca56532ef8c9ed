"""The file of an evaluation: scores of several calls, merged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from math import isfinite
from typing import Any

from sanslabel import checkpoint
from sanslabel.evaluation.labeled_split import LabeledSplit
from sanslabel.evaluation.protocols import names, protocol_class
from sanslabel.evaluation.subjects import Subject
from sanslabel.inputs import ImageSpec
from sanslabel.scores import Score, read_scores

COLUMNS = ("protocol", "metric", "representation", "stage", "labels_per_class", "seed", "n_train", "n_test")


def write_merged(subject: Subject, split: LabeledSplit, scores: Sequence[Score], network: str | None) -> None:
    """Writes scores to RUN/evaluation/DATA.json, or DATA-NETWORK.json if a network was named.

    The file keeps its scores of the same encoder by other protocols and settings. Other data of the same name get a
    file of their own. Raises BadInput if the file cannot be read, DiskError if it cannot be written.
    """
    reads = split.options["reads"]
    about = {
        "data": split.data,
        "fingerprints": split.fingerprints,
        "split": split.split,
        "encoder": {"network": subject.network, "sha256": subject.sha256},
        "image_size": reads.side if isinstance(reads, ImageSpec) else 0,
        "precision": str(split.options["dtype"]).removeprefix("torch."),
    }
    name = split.train.name if network is None else f"{split.train.name}-{network}"
    path = subject.folder / "evaluation" / f"{name}.json"
    if path.is_file() and checkpoint.read_json(path).get("fingerprints") != about["fingerprints"]:
        path = path.with_name(f"{path.stem}-{about['fingerprints']['test'][:8]}.json")
    merged = [{**asdict(score), "value": score.value if isfinite(score.value) else None} for score in scores]
    if path.is_file():
        read_scores(path)
        content = checkpoint.read_json(path)
        if all(content.get(key) == value for key, value in about.items()):
            replaced = [identity(score) for score in merged]
            merged = [score for score in content["scores"] if identity(score) not in replaced] + merged
    checkpoint.write_json(path, {**about, "scores": merged})


def identity(score: Mapping[str, Any]) -> tuple[Any, ...]:
    """Returns all that identifies a score, without its value. A new score replaces an old one with the same
    identity."""
    score = {"metric": "accuracy", "stage": None, **score}  # files of earlier versions have neither
    protocol = score["protocol"]
    keys = protocol_class(protocol).identified_by if protocol in names() else ()
    return (*(score[column] for column in COLUMNS), *(score["settings"].get(key) for key in keys))
