"""Gains: the difference of two accuracies on the same test images, with a 95 % interval."""

from __future__ import annotations

from functools import cache
from itertools import accumulate
from math import cos, inf, pi, sqrt, tan

import torch
from torch import Tensor

from sanslabel.scores import Gain

CONFIDENCE = 0.95
NORMAL = 1.959964
"""quantile of the normal distribution: 95 % lie within so many standard deviations"""
GRID = 4000
"""points of the integral for a quantile"""


def gain(over: str, correct: Tensor, baseline: Tensor) -> Gain:
    """Returns how much more often one classifier is right than another, on the same test images.

    over: the name of the baseline. correct, baseline: (K, M) bool, whether each of M test images is classified
    correctly in each of K draws of training labels, which both share. The value is the difference of the two
    accuracies, in points. Its interval covers other test images. With several draws, it also covers other draws.

    With one draw, it is Wald's interval for the difference of paired proportions, with half an image added to each of
    the four cells of the table right or wrong x right or wrong: Agresti and Min 2005, "Simple improved confidence
    intervals for comparing matched proportions". With several draws, it is Student's interval. The variances over
    images and over draws are added, which is never too small by much, and their degrees of freedom are Satterthwaite's.
    """
    difference = correct.double() - baseline.double()  # (K, M), in {-1, 0, 1}
    draws, images = difference.shape
    by_image = difference.mean(dim=0)
    center = float(by_image.sum()) / (images + 2)
    variance = ((float(by_image.square().sum()) + 1) / (images + 2) - center**2) / (images + 2)
    freedom = inf
    if draws > 1:
        between = float(difference.mean(dim=1).var()) / draws
        freedom = (variance + between) ** 2 / (variance**2 / images + between**2 / (draws - 1))
        variance += between
    margin = student_quantile(freedom) * sqrt(variance)
    return Gain(
        over=over,
        value=100 * float(by_image.mean()),
        low=100 * max(-1.0, center - margin),
        high=100 * min(1.0, center + margin),
    )


def mean_gain(over: str, values: Tensor, baseline: Tensor) -> Gain:
    """Returns how much larger the mean of some values is than that of a baseline, with Student's interval.

    over: the name of the baseline. values, baseline: (C,) in [0, 1], for the same clips; at least two.
    """
    difference = values.double() - baseline.double()
    mean = float(difference.mean())
    margin = student_quantile(len(difference) - 1) * float(difference.std()) / sqrt(len(difference))
    return Gain(over=over, value=100 * mean, low=100 * max(-1.0, mean - margin), high=100 * min(1.0, mean + margin))


@cache
def student_quantile(freedom: float) -> float:
    """Returns the t that 95 % of Student's distribution lie within: |T| < t. `freedom` is 1 or more, or infinite."""
    if freedom > 1000:  # then within 0.2 % of the normal distribution
        return NORMAL
    # With t = √ν tan θ, the density becomes cos(θ)^(ν - 1), up to a factor, on [0, π / 2].
    step = pi / 2 / GRID
    mass = list(accumulate(cos((i + 0.5) * step) ** (freedom - 1) for i in range(GRID)))
    target = CONFIDENCE * mass[-1]
    count = next(i for i, sum_so_far in enumerate(mass) if sum_so_far >= target)
    before = mass[count - 1]
    angle = (count + (target - before) / (mass[count] - before)) * step
    return sqrt(freedom) * tan(angle)


def balanced_accuracy(predicted: Tensor, labels: Tensor) -> float:
    """Returns the mean over classes of the share of a class's samples that are predicted correctly, in %.

    predicted, labels: (M,) int64. Classes without a sample do not count.
    """
    correct = (predicted == labels).double()
    samples = torch.bincount(labels)
    right = torch.bincount(labels, weights=correct)
    return 100 * float((right[samples > 0] / samples[samples > 0]).mean())


def uneven(labels: Tensor) -> bool:
    """Returns True if the largest class has more than twice the mean number of labels, (N,) int64."""
    samples = torch.bincount(labels)
    return bool(samples.max() > 2 * samples[samples > 0].double().mean())
