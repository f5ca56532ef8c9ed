"""Scores of an encoder, and the file of a run folder that holds the scores on one set of data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from math import isfinite, nan
from pathlib import Path
from typing import Any

from sanslabel import checkpoint
from sanslabel.errors import BadInput, bad_input_as
from sanslabel.serialization import from_plain
from sanslabel.wording import plural

LARGEST_CLASS = "largest class"
"""the name, in place of a representation, of always answering the most common class of the training samples"""
BALANCED = "balanced accuracy"
"""the metric that gives every class the same weight: the mean of the classes' shares of right answers"""


@dataclass(frozen=True, kw_only=True)
class Gain:
    """The difference of a score to that of another representation on the same test images."""

    over: str
    """the other representation, such as pixels or a random encoder"""
    value: float
    """points in %, negative for a loss"""
    low: float
    """lower end of the 95 % interval, in points"""
    high: float
    """upper end of the 95 % interval, in points"""

    @property
    def sign(self) -> int:
        """Returns 1 if the whole interval is above 0, -1 if it is below 0, and 0 if the difference may be chance."""
        return (self.low > 0) - (self.high < 0)


@dataclass(frozen=True, kw_only=True)
class Score:
    """One figure of a representation, and all that it depends on."""

    protocol: str
    """the name of the protocol's file"""
    metric: str
    """accuracy, balanced accuracy, NMI, ARI, mAP, triplets, CKA, or a kind of change"""
    representation: str
    """the representation: pixels, a random encoder, the trained encoder; or the answer "largest class" for all"""
    split: str
    """the name of the test samples"""
    stage: int | None = None
    """the encoder's stage, 1 for the first; None for its representation"""
    labels_per_class: int | None
    """labels of each class that were drawn from the training split; None for all"""
    value: float
    """the mean over the draws, in %; nan where the file has null"""
    spread: float | None
    """the standard deviation over the draws, in %; None for a single draw"""
    n_train: int
    n_test: int
    seed: int
    settings: Mapping[str, Any] = field(default_factory=dict)
    """the protocol's settings, and its choices on training samples"""
    gains: tuple[Gain, ...] = ()
    """gains of a trained encoder over its own start and over pixels; empty for others, and in files of earlier
    versions"""
    trained_on: str = ""
    """how the run was trained on the measured samples: "with labels", "without labels", or "" if it was not"""
    noun: str = "image"
    """the word for a sample, such as "frame"; "image" in files of earlier versions"""

    @property
    def content(self) -> dict[str, Any]:
        """Returns the score as its file has it. A value that is not finite becomes null. Gains and `trained_on` are
        left out if they are empty, and the noun if it is "image"."""
        content = {**asdict(self), "value": self.value if isfinite(self.value) else None}
        without = {"gains": (), "trained_on": "", "noun": "image"}
        return {key: value for key, value in content.items() if key not in without or value != without[key]}


@dataclass(frozen=True, kw_only=True)
class ScoreFile:
    """The scores of one encoder on one set of data: RUN/evaluation/DATA.json.

    For readers of the file, it also has the sentence of `usefulness` on its scores.
    """

    data: str
    """a path as it was last given, or the name of an embedded set"""
    fingerprints: Mapping[str, str]
    """the SHA-256 of the data, by split: train, test"""
    split: str
    """the name of the test samples"""
    network: str
    """the exported encoder: student, teacher, …"""
    sha256: str
    """the SHA-256 of the encoder's weights"""
    image_size: int
    """side in pixels of the images that the encoder read"""
    precision: str
    """the type that features were computed in: float32 or bfloat16"""
    scores: tuple[Score, ...] = ()

    @property
    def key(self) -> tuple[str, ...]:
        """Returns all that identifies the file: data, test samples, encoder and precision. Data are known by their
        fingerprints, so that the spelling of their path plays no part."""
        of_data = [f"{split} {digest}" for split, digest in sorted(self.fingerprints.items())]
        return (*of_data, self.split, self.network, self.sha256, str(self.image_size), self.precision)


def score_files(folder: Path) -> dict[Path, ScoreFile]:
    """Returns the content of each file of scores in RUN/evaluation, the file that was written last at the end. Raises
    BadInput if one is damaged."""
    return {path: read_scores(path) for path in sorted(folder.glob("*.json"), key=_time_and_name)}


def merged_by_key(files: Iterable[ScoreFile]) -> list[ScoreFile]:
    """Returns the files with those of equal keys joined into one, which has all their scores in order."""
    joined: dict[tuple[str, ...], ScoreFile] = {}
    for file in files:
        earlier = joined[file.key].scores if file.key in joined else ()
        joined[file.key] = replace(file, scores=(*earlier, *file.scores))
    return list(joined.values())


def read_scores(path: Path) -> ScoreFile:
    """Returns the content of RUN/evaluation/DATA.json. Raises BadInput for any other file."""
    content = checkpoint.read_json(path)
    with bad_input_as(path, "remove it, and measure again"):
        try:
            return _score_file(content)
        except BadInput as error:
            raise BadInput(f"{path}: not a file of scores ({error}) Remove it, and measure again.") from error


def write_scores(path: Path, file: ScoreFile) -> None:
    """Writes RUN/evaluation/DATA.json in one step. Raises DiskError."""
    content = asdict(file)
    encoder = {name: content.pop(name) for name in ("network", "sha256")}
    checkpoint.write_json(path, {**content, "encoder": encoder, "scores": [score.content for score in file.scores]})


def measured_samples(scores: Sequence[Score], data: str = "") -> str:
    """Returns the number of samples that scores were measured on, and how they were chosen, for the title of a table.

    data: the name of the data, if the table does not have it.
    """
    counts = sorted({score.n_test for score in scores})
    number = f"{counts[0]:,}" if len(counts) == 1 else f"{counts[0]:,} to {counts[-1]:,}"
    trained_on = "".join(f", which the run was trained on {how}" for how in {s.trained_on: 0 for s in scores} if how)
    of_data = f" of {data}" if data else ""
    return f"{number} {plural(scores[0].noun)}{of_data} ({scores[0].split}{trained_on})"


def _time_and_name(path: Path) -> tuple[int, str]:
    return path.stat().st_mtime_ns, path.name


def _score_file(content: Mapping[str, Any]) -> ScoreFile:
    encoder = from_plain(dict[str, str], content["encoder"])
    fingerprints = from_plain(dict[str, str], content["fingerprints"])
    scores = tuple(map(read_score, content["scores"]))
    from_plain(list[str], [fingerprints["test"], *(score.settings.get("data", "") for score in scores)])
    from_plain(list[dict[str, str]], [score.settings.get("fingerprints", {}) for score in scores])
    return ScoreFile(
        data=from_plain(str, content["data"]),
        fingerprints=fingerprints,
        split=from_plain(str, content["split"]),
        network=encoder["network"],
        sha256=encoder["sha256"],
        image_size=from_plain(int, content["image_size"]),
        precision=from_plain(str, content["precision"]),
        scores=scores,
    )


def read_score(content: Mapping[str, Any]) -> Score:
    """Returns a score of a file's content, with the fields that files of earlier versions lack."""
    finite = content["value"] is not None
    filled = {"metric": "accuracy", "stage": None, **content, "kind": "Score"}
    filled["value"] = content["value"] if finite else 0.0
    filled["gains"] = [{**gain, "kind": "Gain"} for gain in content.get("gains", ())]
    score = from_plain(Score, filled)
    return score if finite else replace(score, value=nan)
