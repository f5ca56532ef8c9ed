"""The choice of image size, batch and epochs for data of one's own, from what a step costs here and the time that there
is. This file computes with numbers alone: what a step costs is measured elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import ceil

from sanslabel.wording import counted, plural

SIZES = (32, 48, 64, 96, 128, 160, 224)
"""sides in pixels among which one is chosen; the side of smaller pictures is kept"""
STEPS = 4000
"""steps that pictures of 32 pixels need, see docs/defaults.md"""
FEW_STEPS = 1000
"""steps below which the header advises more time"""
FEW, LARGEST_OF_FEW = 100, 64
"""number of pictures below which no side above 64 pixels is chosen: they would take time, and teach nothing more"""
PASSES = 100
"""epochs that are made of many pictures if there is time"""
MOST_PASSES = 400
"""epochs that are made of few pictures"""
PER_EPOCH = 12
"""steps in an epoch that a batch leaves room for"""
SMALL_BATCH = 32
"""the smallest batch that is chosen for many pictures"""
MARGIN = 0.9
"""the share of the time that is planned, since other programs take some"""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """The time and memory that training takes at one image size."""

    step: float
    """seconds of a step, besides those of its samples"""
    sample: float
    """seconds for each sample of a step"""
    fixed: int
    """bytes of memory besides those of a step"""
    step_bytes: int
    """bytes of a step, besides those of its samples"""
    sample_bytes: int
    """bytes for each sample that is in the networks at a time"""
    loaded_bytes: int = 0
    """bytes for each sample of a step outside of the networks"""
    chunk: int | None = None
    """the most samples that are in the networks at a time; None for a whole batch"""
    decoding: int = 0
    """bytes that decoding the largest picture takes, before the first step"""
    disk: int
    """bytes that the run folder takes at most"""
    once: float = 0.0
    """seconds besides those of steps: reading the data, starting, and evaluating at the end"""

    def seconds(self, batch: int, steps: int) -> float:
        """Returns the seconds of a run."""
        return self.once + steps * (self.step + self.sample * batch)

    def memory(self, batch: int) -> int:
        """Returns the most bytes that a run takes."""
        inside = batch if self.chunk is None else min(batch, self.chunk)
        steps = self.step_bytes + self.sample_bytes * inside + self.loaded_bytes * batch
        return self.fixed + max(steps, self.decoding)


@dataclass(frozen=True, kw_only=True)
class Question:
    """All that a choice depends on, besides the costs."""

    samples: int
    side: int
    """the side of the pictures in pixels, which is never exceeded; 0 if there are no pictures"""
    minutes: float
    memory: int
    """bytes that the run may take"""
    batch: int
    """the recipe's batch, which is never exceeded"""
    processes: int = 1
    size_given: int | None = None
    batch_given: int | None = None
    epochs_given: int | None = None
    noun: str = "image"
    """the word for a sample"""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The image size, batch and epochs of a run, with the reason for each that was chosen."""

    size: int
    batch: int
    epochs: int
    enough: bool
    """True if the run makes enough steps in the time"""
    reasons: dict[str, str] = field(default_factory=dict)
    """the reason by the name of the setting"""


def steps_needed(size: int) -> int:
    """Returns the steps that an encoder needs at an image size, in proportion to the side; docs/defaults.md has the
    measurements."""
    return STEPS * max(size, SIZES[0]) // SIZES[0]


def sizes(question: Question) -> list[int]:
    """Returns the sides among which one is chosen, in pixels, smallest first."""
    if question.size_given is not None:
        return [question.size_given]
    most = min(question.side, LARGEST_OF_FEW if question.samples < FEW else SIZES[-1])
    return [size for size in SIZES if size <= most] or [most]


def chosen(question: Question, cost: Callable[[int], Cost | None]) -> Choice | None:
    """Returns the choice with the largest pictures that leave enough steps in the time and fit into memory. If no size
    leaves enough, the smallest one makes as many as it can. Returns None if no size is possible.

    cost: a function from an image size to its cost, or to None if the method cannot train at this size.
    """
    best, stopped = None, "own"
    for size in sizes(question):
        known = cost(size)
        if known is None:
            continue
        choice = _at(question, size, known)
        fits = known.memory(choice.batch) <= question.memory
        if best is not None and not (fits and choice.enough):
            stopped = "time" if fits else "memory"
            break
        best = choice
        if not choice.enough:
            stopped = "own" if size == sizes(question)[-1] else "time"
            break
    if best is None:
        return None
    return Choice(**{**vars(best), "reasons": _reasons(question, best, stopped)})


def _at(question: Question, size: int, cost: Cost) -> Choice:
    """Returns the choice at one image size."""
    budget = max(0.0, MARGIN * (60 * question.minutes - cost.once))
    batch = question.batch_given or _batch(question, size, cost, budget)
    batch = max(1, min(batch, question.samples) // question.processes) * question.processes
    per_epoch = max(1, question.samples // batch)
    affordable = budget / (per_epoch * (cost.step + cost.sample * batch))
    enough = min(ceil(steps_needed(size) / per_epoch), MOST_PASSES)
    if question.epochs_given is not None:
        return Choice(size=size, batch=batch, epochs=question.epochs_given, enough=affordable >= question.epochs_given)
    wanted = max(enough, min(PASSES, MOST_PASSES))
    epochs = calm(max(1, int(min(wanted, affordable))))
    return Choice(size=size, batch=batch, epochs=epochs, enough=affordable >= enough)


def largest_batch(question: Question) -> int:
    """Returns the largest batch that is considered: it leaves PER_EPOCH steps in an epoch if that is possible with
    SMALL_BATCH, and the recipe does not exceed it."""
    batch = min(question.batch, question.samples)
    while question.samples < PER_EPOCH * batch and batch > SMALL_BATCH:
        batch = max(SMALL_BATCH, _halved(batch))
    return batch


def _batch(question: Question, size: int, cost: Cost, budget: float) -> int:
    """Returns the largest batch that leaves STEPS in the time, if twice SMALL_BATCH does, and fits into
    memory. It is smaller than SMALL_BATCH only for the smallest pictures."""
    batch = largest_batch(question)

    def too_few_steps() -> bool:
        affordable = budget / (cost.step + cost.sample * batch)
        return max(affordable, question.samples // batch) < STEPS  # one epoch is made in any case

    while question.epochs_given is None and batch > 2 * SMALL_BATCH and too_few_steps():
        batch = _halved(batch)
    least = 2 * question.processes if size == sizes(question)[0] else SMALL_BATCH
    while cost.memory(batch) > question.memory and batch > least:
        batch = max(least, _halved(batch))
    return batch


def _halved(batch: int) -> int:
    """Returns the largest power of two below a batch."""
    return 1 << (batch - 1).bit_length() - 1


def calm(count: int) -> int:
    """Returns the number rounded down to one that is easy to read: 7, 25, 170."""
    for least, multiple in ((100, 10), (20, 5), (10, 2)):
        if count >= least:
            return count // multiple * multiple
    return count


def _reasons(question: Question, choice: Choice, stopped: str) -> dict[str, str]:
    """Returns the reason for each value that was chosen, as the end of a sentence that begins with the value."""
    minutes = f"{question.minutes:g} {'minute' if question.minutes == 1 else 'minutes'}"
    per_epoch = max(1, question.samples // choice.batch)
    steps, reasons = choice.epochs * per_epoch, {}
    if question.size_given is None:
        reasons["image_size"] = {
            "own": _own_size(question, choice.size),
            "time": f"since larger pictures would leave too few steps in {minutes}",
            "memory": "since larger pictures would not fit into memory",
        }[stopped]
    if question.batch_given is None:
        smaller = choice.batch < min(question.batch, question.samples)
        every = f"all {plural(question.noun)} at once"
        reasons["batch"] = "as the recipe has it" if choice.batch == question.batch else every
        if smaller:
            reasons["batch"] = f"for {counted(per_epoch, 'step')} an epoch"
    if question.epochs_given is None:
        if choice.enough:
            reasons["epochs"] = f"for {counted(steps, 'step')} in all"
        elif choice.epochs > 1:
            reasons["epochs"] = f"as many as end in {minutes}"
        else:
            reasons["epochs"] = f"the least, though it takes more than {minutes}"
        if not choice.enough and steps < FEW_STEPS:
            reasons["epochs"] += (
                f"; {counted(steps, 'step')} {'is' if steps == 1 else 'are'} few, so give more --minutes"
            )
    return reasons


def _own_size(question: Question, size: int) -> str:
    """Returns the reason for the largest size that pictures of this number and size can have."""
    if size == question.side < SIZES[-1]:
        return "the pictures' own size"
    if size == SIZES[-1]:
        return "the largest size that is chosen"
    return "enough for so few pictures" if question.samples < FEW else "close to the pictures' own size"
