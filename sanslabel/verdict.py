"""What a run's figures say of it, in one sentence: healthy, or what is wrong, why, and what to do.

A pure function of the lines of metrics.jsonl. Each sign below looks at the last lines, for a batch may be odd once; the
first that holds is the verdict, and causes come before what they bring about. Limits lie between what planted failures
and what healthy runs of every method show within two hundred steps on digits and on Fashion-MNIST.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

WINDOW = 5
"""lines, of ten steps each, throughout which a sign must hold"""
GRAY = 1 / 256
"""a level of gray: what is less is not there"""


@dataclass(frozen=True)
class Verdict:
    """What a run is like."""

    name: str
    sentence: str
    """with cause and remedy"""
    failed: bool
    """whether something is wrong"""


def verdict(lines: Sequence[Mapping[str, Any]]) -> Verdict:
    """Of the lines of metrics.jsonl up to now."""
    history = _History([line for line in lines if any(name.endswith("loss") for name in line)])
    for name, sign in SIGNS.items():
        if (said := sign(history)) is not None:
            return Verdict(name, f"{name[0].upper()}{name[1:]}: {said}.", failed=True)
    if len(history.lines) < WINDOW:
        return Verdict("too early", "Too early to say: a verdict takes fifty steps.", failed=False)
    return Verdict("healthy", f"Healthy: {_healthy(history)}.", failed=False)


@dataclass(frozen=True)
class _History:
    lines: Sequence[Mapping[str, Any]]

    def recent(self, name: str) -> list[float]:
        """The last values of a figure, of whichever player has it; none where it is not in all of the last lines."""
        found = [list(self._values(line, name)) for line in self.lines[-WINDOW:]]
        return [values[0] for values in found] if len(found) == WINDOW and all(found) else []

    def throughout(self, name: str, holds: Callable[[float], bool]) -> bool:
        """Whether all of the last values are so."""
        values = self.recent(name)
        return bool(values) and all(map(holds, values))

    def typical(self, name: str) -> float | None:
        """The median of the last values."""
        values = self.recent(name)
        return median(values) if values else None

    def last(self, name: str) -> float:
        """The newest value; of a figure that is there."""
        return self.recent(name)[-1]

    @staticmethod
    def _values(line: Mapping[str, Any], name: str) -> Iterator[float]:
        for key, value in line.items():
            if key.rpartition("/")[2] == name and isinstance(value, int | float):
                yield value


def _not_finite(h: _History) -> str | None:
    refused = sum(bool(line.get("refused")) for line in h.lines[-WINDOW:])
    if refused < 3:  # one or two bad steps are skipped and leave no trace
        return None
    return f"{refused} of the last {WINDOW} steps looked at had a loss or gradient that is no number; lower --lr"


def _shared_teacher(h: _History) -> str | None:
    if not h.throughout("shared_teacher", bool):
        return None
    return "the teacher's weights are the student's own memory, so that it agrees by itself; copy them (`teacher_of`)"


def _constant_images(h: _History) -> str | None:
    if h.throughout("image_variation", lambda x: x < GRAY):
        return "all images of a batch are the same, so that there is nothing to tell apart; look at --data"
    if h.throughout("image_contrast", lambda x: x < GRAY):
        return "each image is of one color, so that there is nothing to see in it; look at --data"
    return None


def _identical_views(h: _History) -> str | None:
    if not h.throughout("view_difference", lambda x: x < 1e-6):
        return None
    return "the two views of an image are the same, so that agreeing is no task; give the method a view with a crop"


def _no_rate(h: _History) -> str | None:
    if not h.throughout("learning_rate", lambda x: x == 0):
        return None
    return "no weight moves; raise --lr"


def _high_rate(h: _History) -> str | None:
    # Weights that are normalized grow by and by in long trainings, too: LARS takes them to tens in 20,000 steps.
    if not h.throughout("weight_growth", lambda x: x > 10) or h.last("weight_growth") < 0.02 * h.lines[-1]["step"]:
        return None
    return f"the weights are {h.last('weight_growth'):.0f} times as large as at the start; lower --lr"


def _high_temperature(h: _History) -> str | None:
    if not h.throughout("hardest_tenth", lambda x: x < 0.125):
        return None
    share = 100 * h.last("hardest_tenth")
    return f"the hardest tenth of the negatives pushes as hard as any ({share:.0f} %); lower --method.temperature"


def _low_temperature(h: _History) -> str | None:
    # A tenth of the negatives may be of an image's own class, and then takes more than half in healthy runs.
    if (typical := h.typical("hardest_tenth")) is None or typical < 0.97:
        return None
    return f"a tenth of the negatives does {100 * typical:.0f} % of the pushing; raise --method.temperature"


def _one_prototype(h: _History) -> str | None:
    if (typical := h.typical("usage")) is None or typical >= 3:
        return None
    return (
        f"nearly all images are assigned to {max(1, round(h.last('usage')))} of the prototypes; "
        "spread the assignments (Sinkhorn, centering), or lower --lr"
    )


def _uniform_teacher(h: _History) -> str | None:
    entropy, most = h.recent("teacher_entropy"), h.recent("trivial")
    if not entropy or not most or any(e < 0.999 * m for e, m in zip(entropy, most, strict=True)):
        return None
    return "the teacher finds all outputs alike likely, so that it teaches nothing; lower its temperature"


def _posterior_collapse(h: _History) -> str | None:
    if not h.throughout("active_units", lambda x: x == 0):
        return None
    return "codes say nothing, and the decoder paints one image for all; lower --method.beta"


def _mode_collapse(h: _History) -> str | None:
    if not h.throughout("sample_variation", lambda x: x < 0.1):
        return None
    return "the generator makes one image, whatever the noise; lower --lr, or raise the weight that keeps samples apart"


def _dead_dimensions(h: _History) -> str | None:
    # Of embeddings that are compared alone: classifiers' features and codes may well leave dimensions out.
    if not h.recent("alignment") or not h.throughout("dead_dimensions", lambda x: 0.25 <= x < 1):
        return None
    share = 100 * h.last("dead_dimensions")
    return (
        f"{share:.0f} % of the embedding's dimensions are the same for all images; look at the projector's last layer"
    )


def _complete_collapse(h: _History) -> str | None:
    flat = h.throughout("embedding_std", lambda x: x < 0.1)
    alike = h.throughout("participation_ratio", lambda x: x < 1.05) and h.throughout("mean_cosine", lambda x: x > 0.6)
    if not flat and not alike:
        return None
    cosine = f" (mean cosine {h.last('mean_cosine'):.2f})" if h.recent("mean_cosine") else ""
    return (
        f"embeddings of different images are the same{cosine}; bring back what prevents it (`sanslabel methods`), "
        "or lower --lr"
    )


def _dimensional_collapse(h: _History) -> str | None:
    rank, full = h.recent("effective_rank"), h.recent("full_rank")
    compared = rank and full and h.recent("alignment")  # features of a few classes need few directions
    if not compared or any(r > 0.02 * f or f < 64 for r, f in zip(rank, full, strict=True)):
        return None
    return (
        f"embeddings fill {rank[-1]:.0f} of {full[-1]:.0f} directions; widen the projector, or take a method that "
        "decorrelates (VICReg, Barlow Twins)"
    )


def _trivial_loss(h: _History) -> str | None:
    loss, trivial = h.recent("loss"), h.recent("trivial")
    if not loss or not trivial or any(abs(x - t) > 0.002 * max(abs(t), 1) for x, t in zip(loss, trivial, strict=True)):
        return None
    return f"the loss stays at {trivial[-1]:.4g}, what it is when nothing is told apart; raise --lr or --batch"


def _not_learning(h: _History) -> str | None:
    if h.throughout("gradient_norm", lambda x: x == 0):
        return "no gradient reaches the weights; look for a detached tensor, or an activation that is flat"
    if h.throughout("weight_growth", lambda x: abs(x - 1) < 1e-6):
        return "the weights hardly move; raise --lr"
    return None


SIGNS: Mapping[str, Callable[[_History], str | None]] = {
    "not finite": _not_finite,
    "constant images": _constant_images,
    "identical views": _identical_views,
    "learning rate 0": _no_rate,
    "learning rate too high": _high_rate,
    "shared teacher": _shared_teacher,
    "temperature too high": _high_temperature,
    "temperature too low": _low_temperature,
    "one prototype": _one_prototype,
    "uniform teacher": _uniform_teacher,
    "posterior collapse": _posterior_collapse,
    "mode collapse": _mode_collapse,
    "dead dimensions": _dead_dimensions,
    "complete collapse": _complete_collapse,
    "dimensional collapse": _dimensional_collapse,
    "loss at its trivial value": _trivial_loss,
    "not learning": _not_learning,
}
"""in the order in which they are looked for"""


def _healthy(h: _History) -> str:
    rank, full = h.recent("effective_rank"), h.recent("full_rank")
    if rank and full:
        return f"embeddings differ, and fill {rank[-1]:.0f} of {full[-1]:.0f} directions"
    return "no sign of collapse"
