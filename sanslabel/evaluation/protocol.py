"""The base class of protocols: a frozen dataclass that turns a comparison into scores."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from sanslabel.constraints import check_constraints
from sanslabel.errors import BadInput
from sanslabel.scores import Score

if TYPE_CHECKING:
    from sanslabel.evaluation.comparison import Comparison


class NotMeasurable(BadInput):
    """Data, an encoder or an installation that a protocol cannot measure. Other protocols are measured nevertheless."""


@dataclass(frozen=True, kw_only=True)
class Protocol(ABC):
    """A way to measure representations. Its fields are its settings, and the name of its file is its name.

    A protocol inherits from this class alone. The fields are flags of the command line: the field `k` of the file
    knn.py is `--knn.k`.
    """

    title: ClassVar[str] = ""
    """the title of the protocol's own table; if empty, its scores are columns of the table that protocols share"""
    heading: ClassVar[str] = ""
    """the name of its columns in tables; if empty, the name of the protocol"""
    needs: ClassVar[str] = ""
    """the requirements besides labeled images"""
    reads_labels: ClassVar[bool] = True
    """False if the protocol also measures data without labels"""
    identified_by: ClassVar[tuple[str, ...]] = ()
    """keys of a score's settings; in a file, a new score replaces an earlier one if their values for these keys are
    equal"""

    def __post_init__(self) -> None:
        check_constraints(self, f"--{self.name.replace('_', '-')}.")

    @property
    def name(self) -> str:
        """Returns the name of the file that defines the protocol."""
        return type(self).__module__.rpartition(".")[2]

    def check_comparison(self, comparison: Comparison) -> None:  # noqa: B027, most protocols measure everything
        """Raises NotMeasurable if the protocol cannot measure this comparison, and BadInput for settings that do not
        fit. All protocols are checked before the first of them measures."""

    @abstractmethod
    def measure(self, comparison: Comparison) -> list[Score]:
        """Returns the scores of all representations. All choices are made on training samples. Raises NotMeasurable if
        the comparison cannot be measured."""
