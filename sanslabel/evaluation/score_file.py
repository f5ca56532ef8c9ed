"""The file of an evaluation: scores of several calls, merged."""

from __future__ import annotations

import json
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import count
from pathlib import Path
from typing import Any

from sanslabel import checkpoint
from sanslabel.evaluation.labeled_split import EvaluationSplit
from sanslabel.evaluation.protocols import names, protocol_class
from sanslabel.evaluation.subjects import Subject
from sanslabel.inputs import ImageSpec
from sanslabel.scores import Score, ScoreFile, read_score, score_files
from sanslabel.sources import location
from sanslabel.usefulness import usefulness

COLUMNS = ("protocol", "metric", "representation", "stage", "labels_per_class", "seed", "n_train")


def write_merged(subject: Subject, split: EvaluationSplit, scores: Sequence[Score], network: str | None) -> None:
    """Writes scores to RUN/evaluation/DATA.json, or DATA-NETWORK.json if a network was named.

    The file keeps the scores of the same encoder on the same data, however the path of the data is spelled. Other data
    of the same name get a file of their own. Scores of an earlier encoder move to another file. A warning states which
    scores moved or changed. Raises BadInput if a file cannot be read, DiskError if it cannot be written.
    """
    about = _about(subject, split)
    folder = subject.folder / "evaluation"
    files = score_files(folder)
    same = [path for path, file in files.items() if file.key == about.key]
    path = _path(folder, split.train.name if network is None else f"{split.train.name}-{network}", about, files)
    if same and path not in same:
        path = same[-1]
    if not same and path in files:
        _move(path, files[path], about)
    kept = [checkpoint.read_json(file)["scores"] for file in same]
    merged, changed = _merged([*kept, [score.content for score in scores]])
    if changed:
        protocols = " and ".join(changed)
        sentence = (
            f"scores of {protocols} had other values before ({sum(changed.values())} in all), which are replaced."
        )
        warnings.warn(f"{path}: {sentence}", stacklevel=2)
    head = asdict(about)
    encoder = {name: head.pop(name) for name in ("network", "sha256")}
    sentence = usefulness([read_score(score) for score in merged])
    checkpoint.write_json(path, {**head, "encoder": encoder, "usefulness": sentence, "scores": merged})
    others = [file for file in same if file != path]
    for file in others:
        file.unlink()
    if others:
        words = ", ".join(file.name for file in others)
        warnings.warn(f"{path}: now has the scores of {words}, too, which were of the same data.", stacklevel=2)


def identity(score: Mapping[str, Any]) -> tuple[Any, ...]:
    """Returns all that identifies a score, without its value. A new score replaces an old one with the same
    identity."""
    score = {"metric": "accuracy", "stage": None, **score}  # files of earlier versions have neither
    protocol = score["protocol"]
    keys = protocol_class(protocol).identified_by if protocol in names() else ()
    return (*(score[column] for column in COLUMNS), *(score["settings"].get(key) for key in keys))


def _about(subject: Subject, split: EvaluationSplit) -> ScoreFile:
    """Returns the head of the file, without scores."""
    reads = split.options["reads"]
    return ScoreFile(
        data=location(split.data),
        fingerprints=split.fingerprints,
        split=split.split,
        network=subject.network,
        sha256=subject.sha256,
        image_size=reads.side if isinstance(reads, ImageSpec) else 0,
        precision=str(split.options["dtype"]).removeprefix("torch."),
    )


def _path(folder: Path, name: str, about: ScoreFile, files: Mapping[Path, ScoreFile]) -> Path:
    """Returns the path for scores: by the name if no other data or network have it, else with digits of the data's
    fingerprint."""
    path = folder / f"{name}.json"
    if path in files and not _of_same_data(files[path], about):
        path = path.with_name(f"{name}-{about.fingerprints['test'][:8]}.json")
    return path if path not in files or _of_same_data(files[path], about) else _free(path)


def _of_same_data(file: ScoreFile, about: ScoreFile) -> bool:
    return (file.fingerprints, file.split, file.network) == (about.fingerprints, about.split, about.network)


def _move(path: Path, file: ScoreFile, about: ScoreFile) -> None:
    """Gives the file of an earlier encoder, or of another precision, a name of its own."""
    if file.sha256 == about.sha256:
        path.rename(_free(path.with_name(f"{path.stem}-{file.precision}.json")))
        return
    moved = path.rename(_free(path.with_name(f"{path.stem}-{file.sha256[:8]}.json")))
    warnings.warn(
        f"{path}: had {len(file.scores)} scores of an earlier encoder, before the run was trained on; they are now in "
        f"{moved.name}.",
        stacklevel=3,
    )


def _free(path: Path) -> Path:
    """Returns the path, or one with a number if there is such a file."""
    numbered = (path.with_name(f"{path.stem}-{number}.json") for number in count(2))
    return path if not path.exists() else next(other for other in numbered if not other.exists())


def _merged(groups: Sequence[Sequence[dict[str, Any]]]) -> tuple[list[dict[str, Any]], Counter[str]]:
    """Returns the scores of all groups, of which a later one replaces one with the same identity. The second result
    counts replaced scores whose value changed, by protocol."""
    merged: dict[str, dict[str, Any]] = {}
    changed: Counter[str] = Counter()
    for score in (score for group in groups for score in group):
        key = json.dumps(identity(score), sort_keys=True)
        earlier = merged.pop(key, score)  # a new score goes to the end
        if (earlier["value"], earlier["spread"]) != (score["value"], score["spread"]):
            changed[score["protocol"]] += 1
        merged[key] = score
    return list(merged.values()), changed
