"""A map of an embedding: images as points, their nearest neighbors, and the mistakes of a probe."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import normalize

from sanslabel.diagnostics import spectrum
from sanslabel.encoders import Encoder
from sanslabel.evaluation import Unlabeled, represent
from sanslabel.evaluation.feature_cache import FeatureCache
from sanslabel.evaluation.labeled_split import LabeledSplit, labeled_split, open_for
from sanslabel.evaluation.probe import chosen_probe
from sanslabel.evaluation.representation import RepresentOptions
from sanslabel.inputs import InputSpec
from sanslabel.randomness import Stream, fold, permutation
from sanslabel.report import charts, pictures
from sanslabel.report.charts import Chart
from sanslabel.report.options import Options
from sanslabel.run_folder import RunFolder
from sanslabel.sources import Request, Source, ordered, splits
from sanslabel.views import plain_view, resized

NEIGHBORS = 8
"""neighbors of each image on the page"""
COLUMNS = 64
"""thumbnails in a row of the sprite"""
PROBE_IMAGES = 20_000
"""training images that the probe is fitted on, at most"""
BATCH = 256
"""thumbnails that are made at a time"""
CLUSTERS = 10
"""clusters if there are no classes"""


class EmbeddingMap(NamedTuple):
    """Everything that the page needs to show a map."""

    map: Chart
    sprite: str
    """data:image/…, all thumbnails, `COLUMNS` in a row"""
    side: int
    """side of a thumbnail in pixels"""
    neighbors: Sequence[Sequence[int]]
    """the nearest points of each point, the nearest first"""
    names: Sequence[str]
    """names of the images"""
    labels: Sequence[str]
    """classes of the images; empty if there are none"""
    confusion: Chart | None
    """mistakes of a linear probe; None without labels"""
    spectrum: Chart | None
    """singular values of the representation; None if it is zero"""


class Points(NamedTuple):
    """The images of a map and their features."""

    source: Source
    features: Tensor
    """(n, D)"""
    samples: Tensor
    """(n,) positions of these samples in the source"""
    reads: InputSpec
    """the input of the encoder"""
    confusion: Chart | None
    """mistakes of a linear probe; None without labels"""


def embedding_map(folder: RunFolder, options: Options, log: Callable[[str], None]) -> EmbeddingMap:
    """Returns the map of a run's default encoder. It shows test images if there are any.

    Raises BadInput if the data are missing or do not fit.
    """
    points = _points(folder, options, log)
    unit = normalize(points.features.float(), dim=1)
    log(f"Drawing a map of {len(unit):,} images")
    positions, algorithm = _positions(unit, options.seed)
    labels = [_class(points.source, int(sample)) for sample in points.samples]
    groups: dict[str, list[str]] = {"label": labels} if any(labels) else {}
    if find_spec("sklearn") is not None:
        groups["cluster"] = _clusters(unit, len(set(labels)) if any(labels) else CLUSTERS, options.seed)
    groups = groups or {"image": [""] * len(unit)}
    thumbnails = _thumbnails(points.source, points.samples, points.reads)
    x, y = positions.T.tolist()
    return EmbeddingMap(
        map=charts.scatter(x, y, groups, f"Map of the embedding ({algorithm})"),
        sprite=pictures.sprite(thumbnails, COLUMNS),
        side=thumbnails.shape[-1],
        neighbors=_neighbors(unit),
        names=[points.source.id(int(sample)) for sample in points.samples],
        labels=labels if any(labels) else [],
        confusion=points.confusion,
        spectrum=charts.spectrum(values.tolist()) if (values := spectrum(points.features))[0] > 0 else None,
    )


def _points(folder: RunFolder, options: Options, log: Callable[[str], None]) -> Points:
    """Returns the points of the map, drawn by the seed. Without labels there is no probe."""
    plan, encoder = folder.known_plan, folder.encoder().to(options.device)
    data = plan.data if options.data is None else options.data
    dtype = getattr(torch, plan.precision)  # as in training; on `fashion`, bfloat16 takes 0.4 of float32's time
    computing: RepresentOptions = {
        "device": options.device,
        "dtype": dtype,
        "workers": plan.workers,
        "reads": encoder.reads,
    }
    cache = FeatureCache(folder.path / "features")
    try:
        split = labeled_split(data, options.seed, computing, cache)
    except Unlabeled:
        source = open_for(encoder.reads, data, "test" if "test" in splits(data) else "train")
        source = source.subset(_drawn(len(source), options.points, options.seed, Stream.MAP))
        log(f"Computing the features of {len(source):,} images of {source.name}")
        features, index = represent({"": encoder}, source, **computing)
        return Points(source, features[""].cpu(), index, encoder.reads, None)
    return _labeled_points(encoder, split, options, log)


def _labeled_points(encoder: Encoder, split: LabeledSplit, options: Options, log: Callable[[str], None]) -> Points:
    """Returns test images as points, and the mistakes of a probe that is fitted on training images."""
    if len(split.train) > PROBE_IMAGES:
        split = split.fewer(_drawn(len(split.train), PROBE_IMAGES, options.seed, Stream.MAP_PROBE))
    log(f"Computing the features of {len(split.train):,} + {len(split.test):,} images of {split.train.name}")
    train, train_index = split.features({"": encoder}, split.train)
    test, test_index = split.features({"": encoder}, split.test)
    log("Fitting a linear probe")
    classes, features = split.train.classes, test[""].cpu()
    labels = split.train.labels[train_index]
    probe, _ = chosen_probe(train[""].cpu(), labels, classes=len(classes), seed=options.seed)
    predicted = probe.predictions(features)
    counts = torch.zeros(len(classes), len(classes), dtype=torch.int64)
    counts.index_put_((split.test.labels[test_index], predicted), torch.ones_like(predicted), accumulate=True)
    drawn = _drawn(len(test_index), options.points, options.seed, Stream.MAP)
    confusion = charts.confusion(classes, counts.tolist())
    return Points(split.test, features[drawn], test_index[drawn], encoder.reads, confusion)


def _drawn(length: int, count: int, seed: int, stream: Stream) -> Tensor:
    """Returns up to `count` of `length` positions, drawn by the seed, in ascending order."""
    return permutation(fold(seed, stream), length)[:count].sort().values


def _positions(unit: Tensor, seed: int) -> tuple[Tensor, str]:
    """Returns positions (n, 2) and the name of the algorithm: t-SNE, or principal components without scikit-learn."""
    centered = unit - unit.mean(dim=0)
    _, spread, axes = torch.linalg.svd(centered, full_matrices=False)
    # t-SNE needs two directions that vary; a collapsed encoder has none.
    if find_spec("sklearn") is None or len(unit) < 10 or len(spread) < 2 or spread[1] < 1e-4:
        components = centered @ axes[:2].T
        padding = components.new_zeros(len(components), 2 - components.shape[1])
        return torch.cat([components, padding], dim=1), "principal components"
    from sklearn.manifold import TSNE

    reduced = (centered @ axes[:50].T).numpy()
    perplexity = min(30.0, (len(unit) - 1) / 3)
    return torch.from_numpy(TSNE(init="pca", perplexity=perplexity, random_state=seed).fit_transform(reduced)), "t-SNE"


def _clusters(unit: Tensor, count: int, seed: int) -> list[str]:
    """Returns the name of the cluster of each point."""
    from sklearn.cluster import KMeans

    count = min(count, len(unit))
    return [f"cluster {i + 1}" for i in KMeans(count, random_state=seed).fit_predict(unit.numpy())]


def _neighbors(unit: Tensor) -> list[list[int]]:
    """Returns the nearest other points of each point, by cosine."""
    neighbors = []
    for begin in range(0, len(unit), 1024):
        cosine = unit[begin : begin + 1024] @ unit.T
        cosine[torch.arange(len(cosine)), begin + torch.arange(len(cosine))] = -2
        neighbors += cosine.topk(min(NEIGHBORS, len(unit) - 1)).indices.tolist()
    return neighbors


def _class(source: Source, sample: int) -> str:
    """Returns the class of an image, or "" if it has none."""
    label = int(source.labels[sample])
    return source.classes[label] if label >= 0 else ""


def _thumbnails(source: Source, index: Tensor, reads: InputSpec) -> Tensor:
    """Returns the central squares of images, or of spectrograms if there are no images, (n, C, s, s) in [0, 1]."""
    if "image" in source.inputs:
        side = min(pictures.THUMBNAIL, max(source.height, source.width))
        loaded = [source.load(Request(few)).images for few in index.split(BATCH)]
        return torch.cat([resized(images.pixels, side, images.sizes).float() for images in loaded])
    view, cpu = plain_view(reads), torch.device("cpu")
    full = torch.cat([view.plain(batch).images for batch in ordered(source.subset(index), BATCH, device=cpu)]).float()
    low, high = full.aminmax()
    return resized((full - low) / (high - low).clamp(min=1e-12), min(pictures.THUMBNAIL, *full.shape[2:]))
