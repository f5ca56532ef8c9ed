"""A comparison: the encoders, images and features that protocols measure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from sanslabel import encoders
from sanslabel.errors import BadInput
from sanslabel.evaluation.features import Division, Features
from sanslabel.evaluation.labeled_split import EvaluationSplit, labeled_split
from sanslabel.evaluation.protocol import Protocol
from sanslabel.evaluation.representation import Representation
from sanslabel.evaluation.stages import Tokens
from sanslabel.evaluation.subjects import Subject, open_subject, readouts
from sanslabel.scores import Score
from sanslabel.sources import AnyData
from sanslabel.wording import counted


def silent(sentence: str) -> None:
    """Ignores the sentence."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Representations that are measured side by side, with the same samples and the same draws."""

    representations: Mapping[str, Representation] = field(default_factory=dict)
    """the representations that are measured, by name: pixels, a random encoder, the trained encoder"""
    encoders: Mapping[str, encoders.Encoder] = field(default_factory=dict)
    """the encoders among the representations, on the device; some protocols read their stages or train them further"""
    baselines: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """for each representation of the trained encoder, those that it is compared with: its own start, and pixels"""
    split: EvaluationSplit | None = None
    """the labeled images; None if only features are given"""
    folder: Path | None = None
    """the run folder that the trained encoder comes from; None for an encoder without a run"""
    stage: int | None = None
    """the stage that the representations are read from, 1 for the first; None for the last"""
    tokens: Tokens | None = None
    """the tokens that the representations are made of; None for the pooling of the encoder"""
    seed: int = 0
    report: Callable[[str], None] = silent
    """a function that is called with a sentence on the next step of the work"""
    given: tuple[Mapping[str, Features], Division] | None = None
    """features that were computed before, with their labels; None if they are computed from the images"""
    _others: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def images(self) -> EvaluationSplit:
        """Returns the labeled images. Raises BadInput if the comparison has only features."""
        if self.split is None:
            raise BadInput("This protocol reads images, and only features were given; call evaluate with a run.")
        return self.split

    @cached_property
    def _represented(self) -> tuple[Mapping[str, Features], Division]:
        """Returns features and labels, which are computed at the first call."""
        if self.given is not None:
            return self.given
        self.announce(self.images)
        return self.images.represented(self.representations)

    @property
    def features(self) -> Mapping[str, Features]:
        """Returns the features of each representation, (N, D) and (M, D). They are computed once."""
        return self._represented[0]

    @property
    def division(self) -> Division:
        """Returns the labels of the samples that `features` holds: those whose files can be read."""
        return self._represented[1]

    def class_name(self, label: int) -> str:
        """Returns the name of a class, or its number if only features are given."""
        return f"class {label}" if self.split is None else repr(self.split.train.classes[label])

    def announce(self, split: EvaluationSplit) -> None:
        """Reports that the images of a split are about to be represented."""
        count = f"{len(split.train):,} + {counted(len(split.test), split.train.noun)}"
        self.report(f"Representing {count} of {split.train.name}")

    def labeled(self, data: AnyData) -> EvaluationSplit:
        """Returns another set of labeled images, for the same encoders. Raises BadInput as `labeled_split` does."""
        images = self.images
        return self._open(
            f"data {data}", lambda: labeled_split(data, self.seed, images.options, images.cache, images.plan)
        )

    def subject(self, run: str | Path) -> Subject:
        """Returns the encoder of another folder. Raises BadInput if it reads images of another size or number of
        channels."""
        return self._open(
            f"run {run}", lambda: _with_equal_input(open_subject(run, None, self.images.data), self.images)
        )

    def readouts(self, split: EvaluationSplit) -> dict[str, Representation]:
        """Returns the representations of the encoders for other images, without the pixels."""
        return readouts(self.encoders, split.train, split.options, self.stage, self.tokens)

    def score(
        self,
        protocol: Protocol,
        metric: str,
        representation: str,
        value: float,
        division: Division,
        settings: Mapping[str, Any],
        *,
        n_test: int | None = None,
        stage: int | None = None,
    ) -> Score:
        """Returns the score of a figure that was measured with all training samples.

        n_test: the number of test samples that were measured, by default all.
        """
        return Score(
            protocol=protocol.name,
            metric=metric,
            representation=representation,
            split=division.split,
            stage=stage,
            labels_per_class=None,
            value=value,
            spread=None,
            n_train=len(division.train),
            n_test=len(division.test) if n_test is None else n_test,
            seed=self.seed,
            settings=settings,
            trained_on=division.trained_on,
            noun=division.noun,
        )

    def _open(self, key: str, open_other: Callable[[], Any]) -> Any:
        if key not in self._others:
            self._others[key] = open_other()
        return self._others[key]


def _with_equal_input(subject: Subject, split: EvaluationSplit) -> Subject:
    """Returns the subject. Raises BadInput if its encoder reads other inputs than the split has."""
    if subject.encoder.reads != split.options["reads"]:
        raise BadInput(
            f"{subject.folder}: its encoder reads other images; name one of the same image size, channels and levels."
        )
    return subject
