"""The content of a run folder for the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from sanslabel.report.colors import HUES
from sanslabel.run_config import Plan
from sanslabel.run_folder import RunFolder
from sanslabel.scores import Score, ScoreFile
from sanslabel.usefulness import usefulness
from sanslabel.verdict import Verdict, verdict


class Measurement(NamedTuple):
    """A score, and the data that it was measured on."""

    score: Score
    data: str
    """name of the data without folders"""
    fingerprint: str
    """SHA-256 of the test images"""
    signal: str = ""
    """the signal that the encoder reads, if the run has an encoder for each of several"""


@dataclass(frozen=True)
class Snapshot:
    """The content of a run folder at one moment, since a run may go on while its page is made."""

    name: str
    """name of the run on the page"""
    folder: RunFolder
    lines: Sequence[Mapping[str, Any]]
    """lines of metrics.jsonl"""
    measurements: Sequence[Measurement]
    """scores of the present encoder"""
    earlier: int
    """scores of encoders that the run had before it was trained on"""
    exported: bool
    """True if the run has exported an encoder; a run does so at its end"""
    color: str = HUES[0]
    """color of the run in all charts, legends and tables"""

    @property
    def plan(self) -> Plan:
        """Returns the plan of the run: its settings, with every default resolved."""
        return self.folder.known_plan

    @property
    def done(self) -> int:
        """Returns the last step that is known, or 0 before the first."""
        return self.folder.done_by(self.lines)

    @property
    def unfinished(self) -> bool:
        """Returns True if steps or the exported encoder are missing."""
        return not self.exported or self.done < self.folder.steps

    @property
    def verdict(self) -> Verdict:
        """Returns the verdict on the run so far."""
        return verdict(self.lines, not self.unfinished, self.plan.noun)

    @property
    def useful(self) -> list[str]:
        """Returns a sentence on what each encoder gains, for each data set that it was measured on."""
        groups = dict.fromkeys((m.data, m.fingerprint, m.signal) for m in self.measurements)
        sentences = {group: usefulness([m.score for m in self.measurements if m[1:] == group]) for group in groups}
        named = len([sentence for sentence in sentences.values() if sentence]) > 1
        return [f"{_about(group)}: {text}" if named else text for group, text in sentences.items() if text]


def snapshot(path: str | Path, name: str, color: str = HUES[0]) -> Snapshot:
    """Returns the content of a run folder, under a name and a color for the page. Raises BadInput if there is no
    run."""
    folder = RunFolder.open(path)
    folder.known_plan  # noqa: B018  # raises BadInput for a folder with nothing but an encoder
    several = bool(folder.known_plan.encoders)
    measurements = [_measurement(score, file, several) for file in folder.scores for score in file.scores]
    earlier = sum(len(file.scores) for file in folder.earlier_scores)
    return Snapshot(name, folder, folder.lines(), measurements, earlier, bool(folder.exported()), color)


def _about(group: tuple[str, str, str]) -> str:
    """Returns the words for a data set and, if the run has several encoders, for the encoder that was measured."""
    data, _, signal = group
    return f"On {data}, encoder of the {signal}" if signal else f"On {data}"


def _measurement(score: Score, file: ScoreFile, several: bool) -> Measurement:
    """Returns a score with its data: those of its file, or the score's own if it is one of a second set.

    several: whether the run has an encoder for each of several signals, by which its networks are named.
    """
    fingerprints = score.settings.get("fingerprints", file.fingerprints)
    name = Path(score.settings.get("data", file.data)).name
    return Measurement(score, name, fingerprints.get("test", ""), file.network if several else "")
