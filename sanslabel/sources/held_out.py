"""The labeled samples that evaluation measures: those of the test split, or a fifth of all if there is none."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from sanslabel.fifths import FOLDS, fifths
from sanslabel.sources.data import AnyData
from sanslabel.sources.opening import open_source, splits
from sanslabel.sources.source import Source

SEED = 0
"""the seed of the fifth that training with labels leaves out; evaluation has the same seed by default"""


def labeled(source: Source) -> Source:
    """Returns the samples of a source that have a label."""
    return source if bool((source.labels >= 0).all()) else source.subset((source.labels >= 0).nonzero()[:, 0])


def measured_fifth(source: Source, seed: int) -> Tensor:
    """Returns True for each sample in the fifth of the labeled samples that evaluation with this seed measures, (N,).
    Frames of clips are measured by clip."""
    if source.group is not None:
        return fifth_of_clips(source, seed) & (source.labels >= 0).cpu()
    index = (source.labels >= 0).nonzero()[:, 0]
    measured = torch.zeros(len(source), dtype=torch.bool)
    measured[index[fifths(source.labels[index], seed) == 0].cpu()] = True
    return measured


def fifth_of_clips(source: Source, seed: int) -> Tensor:
    """Returns True for each sample in a fifth of the clips, fixed by the seed, (N,).

    The fifth has the shares of classes that the first samples of all clips have. Samples without a clip are clips of
    their own. Shots of one video are alike, so videos are divided if there are at least five.
    """
    group = torch.arange(len(source)) if source.group is None else source.group.cpu()
    if source.recording is not None and len(source.recording.unique()) >= FOLDS:
        group = source.recording.cpu()
    _, clip = group.unique(return_inverse=True)
    first = torch.full((int(clip.max()) + 1,), len(clip)).scatter_reduce(0, clip, torch.arange(len(clip)), "amin")
    return (fifths(source.labels.cpu()[first], seed) == 0)[clip]


def without_measured(source: Source, data: AnyData) -> Source:
    """Returns the training split of the data without the samples that evaluation measures, for methods that learn from
    labels. Nothing is left out if a test split has labels, since evaluation then measures that split."""
    if "test" in splits(data) and bool((open_source(data, "test").labels >= 0).any()):
        return source
    measured = measured_fifth(source, SEED)
    if not measured.any():
        return source
    remark = f"{int(measured.sum()):,} labeled samples, a fifth, are not trained on, since evaluation measures them."
    return replace(source.subset((~measured).nonzero()[:, 0]), remarks=(*source.remarks, remark))
