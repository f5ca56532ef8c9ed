"""A map of what an encoder finds alike: points for images, their neighbors, and what a probe takes for what."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import normalize

from sanslabel.diagnostics import spectrum
from sanslabel.evaluation import Unlabeled, represent
from sanslabel.evaluation.feature_cache import FeatureCache
from sanslabel.evaluation.labeled_split import labeled_split
from sanslabel.evaluation.probe import chosen_probe
from sanslabel.evaluation.subjects import open_subject
from sanslabel.randomness import Stream, fold, permutation
from sanslabel.report import charts, pictures
from sanslabel.report.charts import Chart
from sanslabel.report.contents import Contents
from sanslabel.sources import Request, Source, open_source, splits
from sanslabel.views import resized

NEIGHBORS = 8
COLUMNS = 64
"""thumbnails in a row of the sprite"""
FITTED = 20_000
"""training rows for the probe"""
CLUSTERS = 10
"""where there are no classes"""


class EmbeddingMap(NamedTuple):
    """All that the page needs to show a map."""

    map: Chart
    sprite: str
    """data:image/…, all thumbnails, `COLUMNS` in a row"""
    side: int
    """of a thumbnail in pixels"""
    neighbors: Sequence[Sequence[int]]
    """of each point, the nearest first"""
    names: Sequence[str]
    """of the images"""
    labels: Sequence[str]
    """their classes, empty where there are none"""
    confusion: Chart | None
    spectrum: Chart | None
    """None of a representation that is zero"""


class _Points(NamedTuple):
    source: Source
    features: Tensor
    """(n, D) of rows of the source"""
    rows: Tensor
    """(n,)"""
    confusion: Chart | None


def embedding_map(
    run: Contents, data: str | None, count: int, seed: int, device: torch.device, tell: Callable[[str], None]
) -> EmbeddingMap:
    """Of up to `count` images: of the test split where there is one."""
    points = _points(run, data if data is not None else run.said["data"], count, seed, device, tell)
    unit = normalize(points.features.float(), dim=1)
    tell(f"Drawing a map of {len(unit):,} images")
    place, how = _placed(unit, seed)
    labels = [_class(points.source, int(row)) for row in points.rows]
    classes = len(set(labels))
    groups: dict[str, list[str]] = {"label": labels} if any(labels) else {}
    if find_spec("sklearn") is not None:
        groups["cluster"] = _clusters(unit, classes if any(labels) else CLUSTERS, seed)
    groups = groups or {"image": [""] * len(unit)}
    thumbnails = _thumbnails(points.source, points.rows)
    return EmbeddingMap(
        map=charts.scatter(place[:, 0].tolist(), place[:, 1].tolist(), groups, f"Map of the embedding ({how})"),
        sprite=pictures.sprite(thumbnails, COLUMNS),
        side=thumbnails.shape[-1],
        neighbors=_neighbors(unit),
        names=[points.source.id(int(row)) for row in points.rows],
        labels=labels if any(labels) else [],
        confusion=points.confusion,
        spectrum=charts.spectrum(values.tolist()) if (values := spectrum(points.features))[0] > 0 else None,
    )


def _points(
    run: Contents, data: str, count: int, seed: int, device: torch.device, tell: Callable[[str], None]
) -> _Points:
    subject = open_subject(run.path, None)
    encoder = subject.encoder.to(device)
    options, channels = subject.options(device), encoder.config["channels"]
    try:
        rows = labeled_split(data, channels, seed, options, FeatureCache(run.path / "features"))
    except Unlabeled:
        split = "test" if "test" in splits(data) else "train"
        source = open_source(data, split, image_size=options["image_size"], channels=channels)
        source = source.subset(permutation(fold(seed, Stream.MAP), len(source))[:count].sort().values)
        tell(f"Representing {len(source):,} images of {source.name}")
        features, found = represent({"": encoder}, source, **options)
        return _Points(source, features[""].cpu(), found, None)
    if len(rows.train) > FITTED:
        rows = rows.fewer(permutation(fold(seed, Stream.MAP_PROBE), len(rows.train))[:FITTED].sort().values)
    tell(f"Representing {len(rows.train):,} + {len(rows.test):,} images of {rows.train.name}")
    on_train, fitted = rows.features({"": encoder}, rows.train)
    on_test, measured = rows.features({"": encoder}, rows.test)
    on_train, on_test = ({"": found[""].cpu()} for found in (on_train, on_test))
    tell("Fitting a linear probe")
    classes = rows.train.classes
    probe, _ = chosen_probe(on_train[""], rows.train.labels[fitted], classes=len(classes), seed=seed)
    taken = probe.predictions(on_test[""])
    counts = torch.zeros(len(classes), len(classes), dtype=torch.int64)
    counts.index_put_((rows.test.labels[measured], taken), torch.ones_like(taken), accumulate=True)
    drawn = permutation(fold(seed, Stream.MAP), len(measured))[:count].sort().values
    return _Points(rows.test, on_test[""][drawn], measured[drawn], charts.confusion(classes, counts.tolist()))


def _placed(unit: Tensor, seed: int) -> tuple[Tensor, str]:
    """(n, 2), and by what: t-SNE, or principal components without scikit-learn."""
    centered = unit - unit.mean(dim=0)
    _, spread, axes = torch.linalg.svd(centered, full_matrices=False)
    # t-SNE needs two directions that vary; a collapsed encoder has none.
    if find_spec("sklearn") is None or len(unit) < 10 or len(spread) < 2 or spread[1] < 1e-4:
        place = centered @ axes[:2].T
        return torch.cat([place, place.new_zeros(len(place), 2 - place.shape[1])], dim=1), "principal components"
    from sklearn.manifold import TSNE

    reduced = (centered @ axes[:50].T).numpy()
    perplexity = min(30.0, (len(unit) - 1) / 3)
    return torch.from_numpy(TSNE(init="pca", perplexity=perplexity, random_state=seed).fit_transform(reduced)), "t-SNE"


def _clusters(unit: Tensor, count: int, seed: int) -> list[str]:
    from sklearn.cluster import KMeans

    count = min(count, len(unit))
    return [f"cluster {i + 1}" for i in KMeans(count, random_state=seed).fit_predict(unit.numpy())]


def _neighbors(unit: Tensor) -> list[list[int]]:
    """The nearest rows by cosine, each without itself."""
    found = []
    for begin in range(0, len(unit), 1024):
        cosine = unit[begin : begin + 1024] @ unit.T
        cosine[torch.arange(len(cosine)), begin + torch.arange(len(cosine))] = -2
        found += cosine.topk(min(NEIGHBORS, len(unit) - 1)).indices.tolist()
    return found


def _class(source: Source, row: int) -> str:
    label = int(source.labels[row])
    return source.classes[label] if label >= 0 else ""


def _thumbnails(source: Source, rows: Tensor) -> Tensor:
    parts, side = [], min(pictures.THUMBNAIL, max(source.height, source.width))
    for part in rows.split(256):
        images = source.load(Request(part)).images
        parts.append(resized(images.pixels, side, images.sizes).float())
    return torch.cat(parts)
