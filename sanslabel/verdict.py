"""Judges a run by its figures, in one sentence: the run is healthy, or it has a problem, a cause and a remedy.

The verdict is a pure function of the lines of metrics.jsonl. Each sign below looks at the last lines, since a single
batch may be unusual. Causes are checked before their effects, and the first sign that holds is the verdict. The limits
of SIGNS separate planted failures from healthy runs of every method, within two hundred steps on digits and on
Fashion-MNIST. Those of DOUBTS come from runs on folders of pictures, which lie in tests/verdicts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

from sanslabel.figures import keys_of
from sanslabel.wording import plural

WINDOW = 5
"""lines, ten steps apart, in which a sign must hold"""
GRAY_LEVEL = 1 / 256
"""smallest difference of pixels that counts: one level of gray"""
STILL = 2 / 255
"""difference of near frames below which nothing moves but the noise of compression"""
SILENT = -60.0
"""level of sounds in dBFS below which nothing is heard"""
UNRELATED = 0.55
"""share of recognized pairs that chance explains: in 256 pairs, it is 0.5 ± 0.02"""
FEW_STEPS = 100
"""steps below which a method that compares views has not learned much"""
FEW_NEGATIVES = 20
"""negatives below which the hardest tenth is only one or two of them"""
Level = Literal["healthy", "doubtful", "failed"]


@dataclass(frozen=True)
class Verdict:
    """Judgment of a run."""

    name: str
    """name of the sign that holds, else "healthy" or "too early" """
    sentence: str
    """the judgment with cause and remedy"""
    level: Level
    """failed: nothing can be learned; doubtful: something may be wrong, or it is too early to say"""

    @property
    def failed(self) -> bool:
        """Returns True if nothing can be learned, so that a run may stop."""
        return self.level == "failed"


def verdict(lines: Sequence[Mapping[str, Any]], ended: bool = False, noun: str = "image") -> Verdict:
    """Returns the verdict on a run from its lines of metrics.jsonl so far.

    ended: whether the run has made its last step; only then are too few steps or a high loss a reason for doubt.
    noun: the word for a sample, see `Plan.noun`.
    """
    history = History([line for line in lines if any(key.endswith("loss") for key in line)], ended, noun)
    levels: tuple[tuple[Level, Signs], ...] = (("failed", SIGNS), ("doubtful", DOUBTS))
    for level, signs in levels:
        for name, sign in signs.items():
            if (sentence := sign(history)) is not None:
                return Verdict(name, f"{name[0].upper()}{name[1:]}: {sentence}.", level)
    if len(history.lines) < WINDOW:
        return Verdict("too early", "Too early to say: a verdict takes fifty steps.", "doubtful")
    return Verdict("healthy", f"Healthy: {_healthy(history)}.", "healthy")


@dataclass(frozen=True)
class History:
    """The lines of a run that have a loss, and the values of figures in the last few lines."""

    lines: Sequence[Mapping[str, Any]]
    ended: bool = False
    """True if the run has made its last step"""
    noun: str = "image"
    """the word for a sample"""

    @property
    def samples(self) -> str:
        """Returns the word for several samples."""
        return plural(self.noun)

    def recent(self, name: str) -> list[float]:
        """Returns the values of a figure in the last lines, for the first player that logs it.

        The list is empty if any of these lines lacks the figure.
        """
        values = [[line[key] for key in keys_of(line, name)] for line in self.lines[-WINDOW:]]
        return [first for first, *_ in values] if len(values) == WINDOW and all(values) else []

    def throughout(self, name: str, holds: Callable[[float], bool]) -> bool:
        """Returns True if all of the last lines have the figure and its value meets the condition in each."""
        values = self.recent(name)
        return bool(values) and all(map(holds, values))

    def typical(self, name: str) -> float | None:
        """Returns the median of a figure in the last lines, or None if any of these lines lacks it."""
        values = self.recent(name)
        return median(values) if values else None

    def newest(self, name: str) -> float | None:
        """Returns the value of a figure in the last line, or None if this line lacks it."""
        return next((self.lines[-1][key] for key in keys_of(self.lines[-1], name)), None) if self.lines else None

    def last(self, name: str) -> float:
        """Returns the newest value of a figure. All of the last lines must have it."""
        return self.recent(name)[-1]


def _not_finite(h: History) -> str | None:
    refused = sum(bool(line.get("refused")) for line in h.lines[-WINDOW:])
    if refused < 3:  # one or two bad steps are skipped and leave no trace
        return None
    return f"the loss or its gradient was not finite in {refused} of the last {WINDOW} logged steps; lower --lr"


def _shared_teacher(h: History) -> str | None:
    if not h.throughout("shared_teacher", bool):
        return None
    return "teacher and student share the same weights, so they always agree; make the teacher a copy (`teacher_of`)"


def _constant_images(h: History) -> str | None:
    if h.throughout("image_variation", lambda x: x < GRAY_LEVEL):
        return f"all {h.samples} of a batch are the same, so there is nothing to tell apart; check --data"
    if h.throughout("image_contrast", lambda x: x < GRAY_LEVEL):
        return f"each {h.noun} has a single color, so there is nothing to see in it; check --data"
    return None


def _silence(h: History) -> str | None:
    if not h.throughout("loudness", lambda x: x < SILENT):
        return None
    return (
        f"the sounds are silent ({h.last('loudness'):.0f} dBFS), so there is nothing to hear in them; check the sound "
        "of --data"
    )


def _identical_views(h: History) -> str | None:
    if not h.throughout("view_difference", lambda x: x < 1e-6):
        return None
    return "the two views of an image are the same, so there is no task to learn; use a view that crops"


def _zero_lr(h: History) -> str | None:
    if not h.throughout("learning_rate", lambda x: x == 0):
        return None
    return "no weight changes; raise --lr"


def _high_lr(h: History) -> str | None:
    # Normalized weights also grow slowly in long, healthy runs: with LARS by a factor of tens in 20,000 steps.
    if not h.throughout("weight_growth", lambda x: x > 10) or h.last("weight_growth") < 0.02 * h.lines[-1]["step"]:
        return None
    return f"the weights have grown to {h.last('weight_growth'):.0f} times their first size; lower --lr"


def _high_temperature(h: History) -> str | None:
    if not h.throughout("hardest_tenth", lambda x: x < 0.125):
        return None
    share = 100 * h.last("hardest_tenth")
    return f"the hardest tenth of the negatives repels no more than others ({share:.0f} %); lower --method.temperature"


def _low_temperature(h: History) -> str | None:
    # A tenth of the negatives may be of the image's class. Even in healthy runs, that tenth takes more than half.
    if (typical := h.typical("hardest_tenth")) is None or typical < 0.97 or _tiny_batch(h) is not None:
        return None
    share = 100 * typical
    return f"the hardest tenth of the negatives does {share:.0f} % of the repelling; raise --method.temperature"


def _one_prototype(h: History) -> str | None:
    if (typical := h.typical("usage")) is None or typical >= 3:
        return None
    return (
        f"nearly all {h.samples} are assigned to {max(1, round(h.last('usage')))} of the prototypes; "
        "use Sinkhorn or centering to spread them, or lower --lr"
    )


def _uniform_teacher(h: History) -> str | None:
    entropy, highest = h.recent("teacher_entropy"), h.recent("trivial")
    if not entropy or not highest or any(e < 0.999 * m for e, m in zip(entropy, highest, strict=True)):
        return None
    return "the teacher gives all outputs the same probability, so it teaches nothing; lower its temperature"


def _posterior_collapse(h: History) -> str | None:
    if not h.throughout("active_units", lambda x: x == 0):
        return None
    return "codes carry no information, so the decoder draws the same image for all; lower --method.beta"


def _mode_collapse(h: History) -> str | None:
    if not h.throughout("sample_variation", lambda x: x < 0.1):
        return None
    return (
        "the generator makes the same image from any noise; lower --lr, or raise the weight of the term that keeps "
        "samples apart"
    )


def _dead_dimensions(h: History) -> str | None:
    # Only embeddings that are compared have to use all dimensions. Codes and features of classifiers need not.
    if not h.recent("alignment") or not h.throughout("dead_dimensions", lambda x: 0.25 <= x < 1):
        return None
    share = 100 * h.last("dead_dimensions")
    same = f"{share:.0f} % of the embedding's dimensions are the same for all {h.samples}"
    return f"{same}; check the projector's last layer"


def _complete_collapse(h: History) -> str | None:
    flat = h.throughout("embedding_std", lambda x: x < 0.1)
    alike = h.throughout("participation_ratio", lambda x: x < 1.05) and h.throughout("mean_cosine", lambda x: x > 0.6)
    if not flat and not alike:
        return None
    cosine = f" (mean cosine {h.last('mean_cosine'):.2f})" if h.recent("mean_cosine") else ""
    return (
        f"embeddings of different {h.samples} are the same{cosine}; restore the term or part that "
        "prevents collapse (`sanslabel methods` names it), or lower --lr"
    )


def _dimensional_collapse(h: History) -> str | None:
    rank, full = h.recent("effective_rank"), h.recent("full_rank")
    compared = rank and full and h.recent("alignment")  # features of a few classes need only a few directions
    if not compared or any(r > 0.02 * f or f < 64 for r, f in zip(rank, full, strict=True)):
        return None
    return (
        f"embeddings use {rank[-1]:.0f} of {full[-1]:.0f} directions; widen the projector, or use a method that "
        "decorrelates them (VICReg, Barlow Twins)"
    )


def _trivial_loss(h: History) -> str | None:
    loss, trivial = h.recent("loss"), h.recent("trivial")
    if not loss or not trivial or any(abs(x - t) > 0.002 * max(abs(t), 1) for x, t in zip(loss, trivial, strict=True)):
        return None
    return (
        f"the loss stays at {trivial[-1]:.4g}, its value for a model that distinguishes nothing; raise --lr or --batch"
    )


def _not_learning(h: History) -> str | None:
    # Without a gradient, a hinge is satisfied if its loss is 0.
    if h.throughout("gradient_norm", lambda x: x == 0) and not h.throughout("loss", lambda x: x == 0):
        return "no gradient reaches the weights; look for a detached tensor or a saturated activation"
    if h.throughout("weight_growth", lambda x: abs(x - 1) < 1e-6):
        return "the weights hardly change; raise --lr"
    return None


def _own_partner(h: History) -> str | None:
    if not h.throughout("partner_itself", lambda x: x > 0.9):
        return None
    return (
        f"the partner of {100 * h.last('partner_itself'):.0f} % of the samples is the sample itself, so time teaches "
        "nothing; raise --near, or leave it out"
    )


def _still_frames(h: History) -> str | None:
    if not h.throughout("frame_difference", lambda x: x < STILL):
        return None
    return "near frames are the same, so time teaches nothing; choose clips in which something moves, or raise --near"


def _nothing_moves(h: History) -> str | None:
    """Returns the sentence on still frames if they are all that the loss has to learn from."""
    return _still_frames(h) if _trivial_loss(h) is not None else None


def _unrelated_pairs(h: History) -> str | None:
    # Two views of one image belong together, even if a short run does not recognize them yet.
    two_signals = h.recent("loudness") and h.recent("image_variation")
    if not h.recent("partner_itself") and not two_signals:
        return None
    share = h.typical("pair_auroc")  # of a batch of 64 pairs, single values reach 0.57 by chance
    if not h.ended or share is None or share >= UNRELATED:
        return None
    share *= 100
    return (
        f"the two members of a pair ignore each other: a true pair is closer than a false one in {share:.0f} % of "
        "cases, and chance is 50 %; check that --data pairs what belongs together, or raise --epochs"
    )


def _tiny_batch(h: History) -> str | None:
    negatives = h.newest("negatives")
    if negatives is None or negatives >= FEW_NEGATIVES:
        return None
    return (
        f"each view is compared with only {negatives:.0f} others, which teaches little; train on more {h.samples}, or "
        "raise --batch if there are enough"
    )


def _few_steps(h: History) -> str | None:
    steps = h.lines[-1]["step"] if h.lines else 0
    # On 796 pictures, a VAE gains ten points in kNN in 90 steps; SimCLR gains two in 60, which may be chance.
    if not h.ended or steps >= (FEW_STEPS if h.newest("alignment") is not None else 10 * WINDOW):
        return None
    count = steps or "fewer than 10"
    return f"the run ended after {count} steps, too few to learn much; raise --minutes or --epochs, or lower --batch"


def _high_loss(h: History) -> str | None:
    # Without views that are compared, or with a value of 0 or less, a loss at collapse is not the worst.
    loss, trivial = h.typical("loss"), h.typical("trivial")
    if not h.ended or not h.recent("alignment") or loss is None or trivial is None or not 0 < 1.02 * trivial < loss:
        return None  # PIRL is 0.4 % above it after its first hundred steps on digits
    return (
        f"the loss is {loss:.4g}, above {trivial:.4g}, its value for a model that distinguishes nothing; raise "
        "--epochs, or lower --lr"
    )


def _few_directions(h: History) -> str | None:
    rank, full, ratio = map(h.typical, ("effective_rank", "full_rank", "participation_ratio"))
    if not h.recent("alignment") or rank is None or full is None or ratio is None or full < 64:
        return None
    # After a hundred steps on digits, BYOL has a rank of 0.108 and a ratio of 1.1, and MoCo 0.088 and 2.2.
    if rank > 0.06 * full and (rank > 0.1 * full or ratio > 1.5):
        return None
    return (
        f"embeddings use {rank:.0f} of {full:.0f} directions, so unlike {h.samples} may lie close together; raise "
        "--epochs, or use a method that decorrelates them (VICReg, Barlow Twins)"
    )


Signs = Mapping[str, Callable[[History], str | None]]
SIGNS: Signs = {
    "not finite": _not_finite,
    "constant images": _constant_images,
    "silence": _silence,
    "identical views": _identical_views,
    "learning rate 0": _zero_lr,
    "learning rate too high": _high_lr,
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
    "constant frames": _nothing_moves,
    "loss at its trivial value": _trivial_loss,
    "not learning": _not_learning,
}
"""signs of failure by name, in the order in which they are checked"""
DOUBTS: Signs = {
    "tiny batch": _tiny_batch,
    "partner is the sample": _own_partner,
    "constant frames": _still_frames,
    "unrelated pairs": _unrelated_pairs,
    "too few steps": _few_steps,
    "high loss": _high_loss,
    "few directions": _few_directions,
}
"""signs of a poor run by name, which are checked after those of failure"""


def _healthy(h: History) -> str:
    rank, full = h.recent("effective_rank"), h.recent("full_rank")
    if rank and full:
        return f"embeddings differ, and use {rank[-1]:.0f} of {full[-1]:.0f} directions"
    return "no sign of collapse"
