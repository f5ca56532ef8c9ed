"""The linear probe: multinomial logistic regression on frozen features, its penalty chosen on held-out training rows.

Without a penalty, the raw pixels of 8,000 images lose three points of accuracy, which flatters all that is compared
with them; and the best penalty differs from one representation to another. So it is always chosen, from training rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from sanslabel.randomness import Stream, fold, permutation

PARTS = 5
STRONGEST, WEAKEST, STEP = 10.0, 1e-7, 10**-0.5
"""of the penalties, each a half decade below the last"""
BLOCK = 1 << 24
"""numbers of a temporary held at once, 64 MiB"""
SMALL = 1 << 23
"""numbers in the features, below which one thread does the work: for 8,000 images' pixels two are 1.6 times faster on
idle cores, and on busy ones, where they wait for each other at every step, ten times slower"""


@dataclass(frozen=True)
class Probe:
    """A fitted linear classifier."""

    mean: Tensor
    """(D,), of the training rows"""
    scale: Tensor
    """(D,), 1 / standard deviation; 0 for a feature that is constant in training"""
    weight: Tensor
    """(D, classes), on standardized features"""
    bias: Tensor
    """(classes,)"""

    def predictions(self, features: Tensor) -> Tensor:
        """(M, D) -> (M,) int64."""
        standardized = (features.to(self.weight) - self.mean) * self.scale
        return torch.addmm(self.bias, standardized, self.weight).argmax(dim=1)


class HeldOut(NamedTuple):
    """What a penalty gave on rows that were not fitted."""

    penalty: float
    cross_entropy: float
    accuracy: float
    """in %"""


@dataclass(frozen=True)
class Choice:
    """A penalty, and all that were tried for it, from the strongest."""

    path: tuple[HeldOut, ...]

    @property
    def best(self) -> HeldOut:
        return min(self.path, key=lambda held_out: held_out.cross_entropy)

    @property
    def at_edge(self) -> bool:
        """Whether a penalty outside the range might have been better."""
        return self.best in (self.path[0], self.path[-1])


def fitted(features: Tensor, labels: Tensor, *, classes: int, penalty: float, tolerance: float = 1e-6) -> Probe:
    """The minimizer of the mean cross-entropy + penalty / 2 · ‖weight‖², the bias free, on standardized features.

    features: (N, D), labels: (N,) in [0, classes). Scikit-learn's C is 1 / (N · penalty). Float64 features are fitted
    in float64, all others in float32. L-BFGS stops when a step lowers the loss by less than the tolerance: at 1e-6
    accuracies are within 0.05 points of those at 1e-9, in 40 % of the steps. Holds one copy of the features.
    """
    with _threads_for(features):
        frame = _frame(features)
        share = frame.mean.new_full((len(labels), 1), 1 / len(labels))
        problem = _Problem(frame.coordinates(features), labels, share, frame.variance, classes)
        weights = problem.minimum(penalty, problem.zeros(), tolerance)
    return Probe(frame.mean, frame.scale, frame.axes @ weights.rotated, weights.bias)


def chosen_penalty(
    features: Tensor, labels: Tensor, *, classes: int, turns: int, seed: int, tolerance: float = 1e-6
) -> Choice:
    """The penalty with the lowest cross-entropy on held-out fifths of the rows, which have the same classes each.

    turns: how many of the five fifths are held out in turn, 1 where rows are many, 5 where they are few. Penalties run
    from the strongest down, each fit starting from the last, until one is worse than the one before. Cross-entropy is
    convex enough along the way for that, and has no ties; held-out accuracies ripple by half a point.
    """
    part = parts(labels, seed)
    with _threads_for(features):
        frame = _frame(features)
        kept = (part[:, None] != torch.arange(turns, device=part.device)).to(frame.mean)  # (N, turns)
        share = kept / kept.sum(dim=0).clamp(min=1)
        problem = _Problem(frame.coordinates(features), labels, share, frame.variance, classes)
        weights, path, penalty = problem.zeros(), [], STRONGEST
        while penalty > WEAKEST and (len(path) < 2 or path[-1].cross_entropy < path[-2].cross_entropy):
            weights = problem.minimum(penalty, weights, tolerance)
            path.append(HeldOut(penalty, *_held_out(problem, weights, part)))
            penalty *= STEP
    return Choice(tuple(path))


def parts(labels: Tensor, seed: int) -> Tensor:
    """(N,) int64 in [0, 5): a division of the rows in fifths of the same classes, fixed by the seed."""
    order = permutation(fold(seed, Stream.FOLDS), len(labels)).to(labels.device)
    order = order[labels[order].argsort(stable=True)]
    part = torch.empty_like(labels)
    part[order] = torch.arange(len(labels), device=labels.device) % PARTS
    return part


class _Frame(NamedTuple):
    """The principal axes of standardized features: there the Hessian is almost diagonal, and rows that are fewer than
    features have only as many coordinates as there are rows."""

    mean: Tensor
    """(D,)"""
    scale: Tensor
    """(D,), 0 for a constant feature"""
    axes: Tensor
    """(D, R), orthonormal, R = min(N, D)"""
    variance: Tensor
    """(R,), along them"""

    def coordinates(self, features: Tensor) -> Tensor:
        """(N, D) -> (N, R)."""
        out = self.mean.new_empty(len(features), self.axes.shape[1])
        for rows in _blocks(*features.shape):
            torch.matmul((features[rows] - self.mean) * self.scale, self.axes, out=out[rows])
        return out


def _frame(features: Tensor) -> _Frame:
    features = features if features.dtype == torch.float64 else features.float()
    deviation, mean = torch.std_mean(features, dim=0, correction=0)
    # What varies by no more than rounding is constant; test rows that differ there have nothing to say.
    scale = torch.where(deviation > 1e-6 * mean.abs(), 1 / deviation, 0)
    rows, dimensions = features.shape
    if rows < dimensions:
        _, singular, axes = torch.linalg.svd((features - mean) * scale, full_matrices=False)
        return _Frame(mean, scale, axes.T, singular.square() / rows)
    covariance = mean.new_zeros(dimensions, dimensions)
    for block in _blocks(rows, dimensions):
        standardized = (features[block] - mean) * scale
        covariance.addmm_(standardized.T, standardized, alpha=1 / rows)
    variance, axes = torch.linalg.eigh(covariance)
    return _Frame(mean, scale, axes, variance.clamp(min=0))


def _blocks(rows: int, columns: int) -> list[slice]:
    """Slices of so many rows that they hold about BLOCK numbers."""
    length = max(1, BLOCK // columns)
    return [slice(first, first + length) for first in range(0, rows, length)]


class _Weights(NamedTuple):
    rotated: Tensor
    """(R, F · classes)"""
    bias: Tensor
    """(F · classes,)"""


class _Problem(NamedTuple):
    """F logistic regressions on the same rows, which differ in how much each row counts; solved as one."""

    coordinates: Tensor
    """(N, R), of the features in their frame"""
    labels: Tensor
    """(N,)"""
    share: Tensor
    """(N, F), the weight of each row; columns sum to 1"""
    variance: Tensor
    """(R,), of the coordinates"""
    classes: int

    def zeros(self) -> _Weights:
        columns = self.share.shape[1] * self.classes
        return _Weights(self.coordinates.new_zeros(len(self.variance), columns), self.coordinates.new_zeros(columns))

    def logits(self, weights: _Weights, rows: slice) -> Tensor:
        """(n, F, classes)."""
        return torch.addmm(weights.bias, self.coordinates[rows], weights.rotated).unflatten(1, (-1, self.classes))

    def minimum(self, penalty: float, start: _Weights, tolerance: float) -> _Weights:
        """The minimizer of the sum over the F regressions, by L-BFGS."""
        # Böhning's bound of the Hessian, covariance / 2 + penalty, is diagonal here: dividing by its root halves the
        # passes over the data (8,000 images' pixels, penalties from 10 to 1e-4: 1,550 instead of 2,500).
        root = (self.variance / 2 + penalty).rsqrt()[:, None]
        scaled, bias = (start.rotated / root).requires_grad_(), start.bias.clone().requires_grad_()
        solver = torch.optim.LBFGS(
            [scaled, bias],
            max_iter=1000,
            tolerance_grad=tolerance / 10,
            tolerance_change=tolerance,
            history_size=10,
            line_search_fn="strong_wolfe",
        )

        @torch.no_grad()
        def objective() -> Tensor:
            weights = _Weights(scaled * root, bias)
            total = penalty / 2 * weights.rotated.double().square().sum()
            scaled.grad, bias.grad = penalty * weights.rotated * root, torch.zeros_like(bias)
            for rows in _blocks(len(self.labels), len(bias)):
                share = self.share[rows, :, None]
                target = self.labels[rows, None, None].expand_as(share)  # (n, F, 1)
                logarithms = self.logits(weights, rows).log_softmax(dim=2)
                total = total - (share * logarithms.gather(2, target)).double().sum()
                residual = logarithms.exp_().mul_(share).scatter_add_(2, target, -share).flatten(1)
                bias.grad += residual.sum(dim=0)
                scaled.grad += root * (residual.T @ self.coordinates[rows]).T
            return total

        solver.step(objective)  # pyright: ignore[reportArgumentType]
        return _Weights((scaled * root).detach(), bias.detach())


@contextmanager
def _threads_for(features: Tensor) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1 if features.numel() < SMALL else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _held_out(problem: _Problem, weights: _Weights, part: Tensor) -> tuple[float, float]:
    """Cross-entropy and accuracy in % over the rows that one of the regressions held out, by that one."""
    entropy, right, count = 0.0, 0, 0
    for rows in _blocks(len(part), len(weights.bias)):
        mine = (part[rows] < problem.share.shape[1]).nonzero()[:, 0]
        labels = problem.labels[rows][mine]
        logits = problem.logits(weights, rows)[mine, part[rows][mine]]  # (n, classes)
        entropy += float(F.cross_entropy(logits, labels, reduction="sum"))
        right += int((logits.argmax(dim=1) == labels).sum())
        count += len(labels)
    return entropy / max(count, 1), 100 * right / max(count, 1)
