"""What a run folder holds, as far as it has come."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import isnan
from pathlib import Path
from typing import Any

from sanslabel import checkpoint
from sanslabel.json_lines import read_figures
from sanslabel.scores import read_scores
from sanslabel.verdict import Verdict, verdict


@dataclass(frozen=True)
class Contents:
    """A run folder, read once."""

    path: Path
    name: str
    """what the page calls it"""
    said: Mapping[str, Any]
    """run.json"""
    lines: Sequence[Mapping[str, Any]]
    """metrics.jsonl"""
    scores: Sequence[Mapping[str, Any]]
    """of evaluation/*.json, each with the `data` and the `network` that it is of"""
    exported: bool
    """whether it has an encoder"""

    @property
    def steps(self) -> int:
        """Of the whole run."""
        return self.said["samples"] // self.said["batch"] * self.said["epochs"]

    @property
    def done(self) -> int:
        """The last step that is known."""
        return self.lines[-1]["step"] if self.lines else 0

    @property
    def unfinished(self) -> bool:
        return not self.exported or self.done < self.steps

    @property
    def verdict(self) -> Verdict:
        return verdict(self.lines)


def contents(path: str | Path, name: str) -> Contents:
    """BadInput for a folder without a run."""
    path = Path(path)
    needed = ("method", "data", "samples", "batch", "epochs", "encoder", "image_size", "seed")
    said = checkpoint.read_run(path, needed)
    lines, exported = read_figures(path / "metrics.jsonl"), (path / "config.json").is_file()
    return Contents(path, name, said, lines, _scores(path), exported)


def _scores(path: Path) -> list[dict[str, Any]]:
    found = []
    for file in sorted((path / "evaluation").glob("*.json")):
        content = read_scores(file)
        about = {"network": content.network, "fingerprint": content.fingerprints["test"]}
        for score in content.scores:
            data = Path(score.settings.get("data", content.data)).name  # a transfer is of other data
            value = None if isnan(score.value) else score.value
            found.append({**asdict(score), **about, "value": value, "data": data})
    return found
