"""The verdict on usefulness: what a trained encoder gains over its own start and over pixels, in words."""

from __future__ import annotations

from collections.abc import Sequence

from sanslabel.scores import Gain, Score
from sanslabel.wording import counted

NAMES = {"knn": "kNN", "linear": "linear accuracy"}
"""protocols that the sentence may be about, and their names in a sentence"""
INPUTS = ("pixels", "mel statistics")
"""names of the baselines without an encoder, by their beginning in tables"""
STARTS = {"random encoder": "an untrained encoder", "given weights": "the given weights"}
"""starts of a training by the beginning of their names in tables, and their names in a sentence"""


def usefulness(scores: Sequence[Score]) -> str:
    """Returns a sentence on what the trained encoder gains, or that it is no better than before its training.

    It claims no more than the 95 % intervals do. It is about kNN, or about the linear probe if only there the
    difference is beyond chance. A second sentence follows if the two do not agree. The result is empty if no score with
    all labels has a gain.
    """
    measured = [score for score in scores if score.gains and score.labels_per_class is None and score.protocol in NAMES]
    last = {score.protocol: score for score in measured if score.representation == measured[0].representation}
    if not last:
        return ""
    main, *others = sorted((last[protocol] for protocol in NAMES if protocol in last), key=_may_be_chance)
    start, pixels = _over(main, *STARTS), _over(main, *INPUTS)
    if start is None:
        return _over_pixels_alone(main, pixels) if pixels is not None else ""
    return " ".join([_over_start(main, start, pixels), *(_differing(other, start) for other in others)]).strip()


def _may_be_chance(score: Score) -> bool:
    """Returns whether the gain over the start may be chance, or was not measured."""
    start = _over(score, *STARTS)
    return start is None or start.sign == 0


def _over_start(score: Score, start: Gain, pixels: Gain | None) -> str:
    """Returns the sentence on the main protocol."""
    before = next(words for name, words in STARTS.items() if start.over.startswith(name))
    name, samples = NAMES[score.protocol], counted(score.n_test, score.noun)
    if start.sign > 0:
        sentence = f"The trained encoder gains {start.value:.1f} points in {name} over {before}"
        sentence += f" ({_interval(start)}, {samples})"
        return f"{sentence}{'' if pixels is None else _and_pixels(pixels)}."
    if start.sign < 0:
        sentence = f"Worse than {before}: {start.value:+.1f} points in {name} ({_interval(start)}, {samples})"
    else:
        sentence = f"No better than {before}, as far as {samples} show: {start.value:+.1f} points in {name}"
        sentence += f" may be chance ({_interval(start)})"
    if pixels is not None and pixels.sign < 0:
        sentence += f", and {-pixels.value:.1f} points behind {_input(pixels)} ({_interval(pixels)})"
    return f"{sentence}."


def _and_pixels(pixels: Gain) -> str:
    if pixels.sign > 0:
        return f", and {pixels.value:.1f} over {_input(pixels)} ({_interval(pixels)})"
    if pixels.sign < 0:
        return f", but is {-pixels.value:.1f} points behind {_input(pixels)} ({_interval(pixels)})"
    return f", but is no better than {_input(pixels)} ({pixels.value:+.1f}, {_interval(pixels)})"


def _over_pixels_alone(score: Score, pixels: Gain) -> str:
    """Returns the sentence for an encoder whose start could not be measured."""
    verb = {1: "gains", 0: "may gain or lose", -1: "loses"}[pixels.sign]
    difference = f"{pixels.value:+.1f}" if pixels.sign == 0 else f"{abs(pixels.value):.1f}"
    return (
        f"The trained encoder {verb} {difference} points in {NAMES[score.protocol]} against {_input(pixels)} "
        f"({_interval(pixels)}, {counted(score.n_test, score.noun)}); its start was not measured."
    )


def _differing(score: Score, main: Gain) -> str:
    """Returns a sentence on another protocol if its gain over the start has another sign than the main one."""
    start = _over(score, *STARTS)
    if start is None or start.sign == main.sign:
        return ""
    name = NAMES[score.protocol]
    if start.sign == 0:
        return f"In {name}, the difference may be chance ({start.value:+.1f}, {_interval(start)})."
    return f"In {name}, it {'gains' if start.sign > 0 else 'loses'} {abs(start.value):.1f} points ({_interval(start)})."


def _over(score: Score, *names: str) -> Gain | None:
    """Returns the gain over the first baseline whose name begins with one of the names."""
    return next((gain for gain in score.gains if gain.over.startswith(names)), None)


def _input(gain: Gain) -> str:
    """Returns the name of the baseline without an encoder."""
    return next(name for name in INPUTS if gain.over.startswith(name))


def _interval(gain: Gain) -> str:
    return f"95 % interval {gain.low:.1f} to {gain.high:.1f}"
