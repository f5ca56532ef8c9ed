"""A map of the pictures as an encoder arranges them: positions, neighbors and galleries."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, NamedTuple

import altair as alt
import torch
from torch import Tensor
from torch.nn.functional import normalize

from sanslabel.diagnostics import spectrum
from sanslabel.errors import BadInput
from sanslabel.evaluation import represent
from sanslabel.evaluation.labeled_split import open_for
from sanslabel.inputs import ImageSpec, InputSpec, TextSpec
from sanslabel.randomness import Stream, fold, permutation
from sanslabel.report.charts import Chart, chart, color_scale
from sanslabel.report.colors import GRAY, hues_of
from sanslabel.report.neighborhoods import (
    Cluster,
    Nearest,
    Pair,
    Strip,
    clustered,
    filmstrips,
    most_alike,
    most_unusual,
    nearest,
)
from sanslabel.report.options import Options
from sanslabel.report.thumbnails import common_folder, links, thumbnails
from sanslabel.run_folder import RunFolder, data_of_run, with_vocabulary
from sanslabel.sources import Source, splits
from sanslabel.wording import counted, plural

CLUSTERS = 10
"""clusters, at most, so that each has a color"""
EXAMPLES = 8
"""pictures of each cluster"""
UNUSUAL, PAIRS = 16, 12
"""unusual pictures, and pairs of alike ones"""
STRIPS, STRIP, AWAY = 8, 7, 1.0
"""frames that the filmstrip shows, the nearest frames of each, and the seconds that these are away in one clip"""
WIDE, TALL = 14, 9
"""pictures that fit side by side and one below the other on the map"""
ALGORITHMS = {
    "t-SNE": "t-SNE draws the map: it keeps neighbors together, and the distances between far groups mean little.",
    "principal components": "The two directions of the map are the principal components.",
}
"""sentences on the algorithms that draw the map"""
HEIGHT = 520
"""height of the map in pixels"""


class Points(NamedTuple):
    """The pictures of a map and their features."""

    source: Source
    features: Tensor
    """(n, D)"""
    samples: Tensor
    """(n,) positions of these pictures in the source"""
    reads: InputSpec
    """the input of the encoder"""
    sentence: str
    """sentence that says which pictures they are"""


@dataclass(frozen=True, kw_only=True)
class PictureMap:
    """Everything that the page needs to show a map."""

    map: Chart
    noun: str
    """the word for a sample"""
    thumbnails: Sequence[str]
    """pictures as WebP in base64"""
    names: Sequence[str]
    """names of the pictures, without the folders that all of them share"""
    folder: str
    """the folders that all names share, with a slash; "" if there are none"""
    links: Sequence[str]
    """addresses of the pictures' files from the page, or "" for pictures that are no files"""
    labels: Sequence[str]
    """classes of the pictures; empty if there are none"""
    groups: Mapping[str, Sequence[str]]
    """groupings that color the points, and the group of each picture"""
    near: Nearest
    unusual: Sequence[int]
    pairs: Sequence[Pair]
    clusters: Sequence[Cluster]
    times: Sequence[float]
    """seconds of each frame since the start of its clip; empty for pictures without time"""
    strips: Sequence[Strip]
    """frames with the nearest frames of other moments; empty for pictures without time"""
    spread: Sequence[int]
    """pictures that the map shows as pictures, since they do not overlap"""
    spectrum: Sequence[float]
    """singular values of the representation; empty if it is zero"""

    def for_page(self) -> dict[str, Any]:
        """Returns the content for the page's script, which JSON can hold."""
        return {
            "samples": plural(self.noun),
            "thumbnails": self.thumbnails,
            "names": self.names,
            "folder": self.folder,
            "links": self.links,
            "labels": self.labels,
            "groups": {grouping: _legend(members) for grouping, members in self.groups.items()},
            "neighbors": self.near.index.tolist(),
            "distances": [[round(x, 4) for x in line] for line in self.near.distances.tolist()],
            "unusual": self.unusual,
            "pairs": [[pair.first, pair.second, round(pair.distance, 4)] for pair in self.pairs],
            "clusters": [cluster._asdict() for cluster in self.clusters],
            "spread": self.spread,
        }


def picture_map(folder: RunFolder, options: Options, log: Callable[[str], None]) -> PictureMap:
    """Returns the map of a run's default encoder. Raises BadInput if the data are missing or do not fit, and for
    texts."""
    points = _points(folder, options, log)
    unit = normalize(points.features.float(), dim=1)
    log(f"Drawing a map of {counted(len(unit), points.source.noun)}")
    positions, algorithm = _positions(unit, options.seed)
    labels = [_class(points.source, int(sample)) for sample in points.samples]
    groups: dict[str, list[str]] = {"class": labels} if any(labels) else {}
    clusters: list[Cluster] = []
    if find_spec("sklearn") is not None:
        groups["cluster"], clusters = clustered(unit, labels, CLUSTERS, EXAMPLES, options.seed)
    near, noun = nearest(unit), points.source.noun
    times = None if points.source.time is None else points.source.time.cpu()[points.samples]
    names = [points.source.id(int(sample)) for sample in points.samples]
    shared = common_folder(names)
    return PictureMap(
        map=_scatter(positions, groups or {noun: [""] * len(unit)}, [points.sentence, ALGORITHMS[algorithm]], noun),
        noun=noun,
        thumbnails=thumbnails(points.source, points.samples, points.reads, options.thumbnail_bytes),
        names=[name[len(shared) :] for name in names],
        folder=shared,
        links=links(points.source, points.samples, options.folder),
        labels=labels if any(labels) else [],
        groups=groups,
        near=near,
        unusual=most_unusual(near, UNUSUAL),
        pairs=most_alike(near, PAIRS),
        clusters=clusters,
        times=[] if times is None else times.tolist(),
        strips=[] if times is None else filmstrips(unit, _clips(points), times, STRIPS, STRIP, AWAY),
        spread=_spread(positions),
        spectrum=values.tolist() if (values := spectrum(points.features))[0] > 0 else [],
    )


def _points(folder: RunFolder, options: Options, log: Callable[[str], None]) -> Points:
    """Returns the pictures of the map with their features: all pictures, or those of the test split if there is one.

    If there are more than the map may have, the seed draws some.
    """
    plan, encoder = folder.known_plan, folder.encoder().to(options.device)
    if isinstance(encoder.reads, TextSpec):
        raise BadInput("texts have no pictures to show; their features are those of `load_encoder`.")
    data = with_vocabulary(data_of_run(plan, options.data), folder.path, [encoder.reads])
    tested = "test" in splits(data)
    source = open_for(encoder.reads, data, "test" if tested else "train")
    total, drawn = len(source), drawn_positions(len(source), options.points, options.seed, Stream.MAP)
    source = source.subset(drawn)
    log(f"Computing the features of {counted(len(source), source.noun)} of {source.name}")
    features, index = represent(
        {"": encoder},
        source,
        reads=encoder.reads,
        device=options.device,
        dtype=getattr(torch, plan.precision),  # as in training; on `fashion`, bfloat16 takes 0.4 of float32's time
        workers=plan.workers,
    )
    where = f"the test split of {source.name}" if tested else source.name
    sentence = f"All {counted(len(index), source.noun)} of {where}"
    if len(drawn) < total:
        sentence = f"{len(index):,} of the {counted(total, source.noun)} of {where}, drawn at random"
        sentence += " (--points N shows more)"
    if tested and options.data is None:
        sentence += "; training did not use these"
    sentence += ". Neighbors come from the same ones."
    if isinstance(encoder.reads, ImageSpec):
        sentence += " The encoder reads the largest central square of each."
    return Points(source, features[""].cpu(), index, encoder.reads, sentence)


def _clips(points: Points) -> Tensor:
    """Returns the clip of each picture, (n,)."""
    assert points.source.group is not None
    return points.source.group.cpu()[points.samples]


def drawn_positions(length: int, count: int, seed: int, stream: Stream) -> Tensor:
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
    positions = TSNE(init="pca", perplexity=perplexity, random_state=seed).fit_transform(reduced)
    return torch.from_numpy(positions), "t-SNE"


def _spread(positions: Tensor) -> list[int]:
    """Returns pictures that do not overlap on the map if each takes its share of the width and height."""
    low, high = positions.min(dim=0).values, positions.max(dim=0).values
    places = ((positions - low) / (high - low).clamp(min=1e-12) * torch.tensor([WIDE, TALL])).tolist()
    chosen: list[int] = []
    for row in permutation(0, len(places)).tolist():
        x, y = places[row]
        if all(abs(x - places[other][0]) >= 1 or abs(y - places[other][1]) >= 1 for other in chosen):
            chosen.append(row)
    return sorted(chosen)


def _scatter(positions: Tensor, groups: Mapping[str, Sequence[str]], words: Sequence[str], noun: str) -> Chart:
    """Returns a map of points. The reader chooses the grouping that colors them, and a picture that is marked.

    The page's script sets the address of some pictures (`url`), the marked picture with its neighbors (`chosen`), and
    the group that stands out (`standout`).
    """
    points = [
        {"row": i, "x": round(x, 3), "y": round(y, 3), **{name: members[i] for name, members in groups.items()}}
        for i, (x, y) in enumerate(positions.tolist())
    ]
    colors = {name: color for members in groups.values() for name, color in hues_of(members).items()}
    first = next(iter(groups))
    choice = alt.binding_radio(options=list(groups), name="color by ")
    colored = alt.param(name="colored", value=first, bind=choice) if len(groups) > 1 else None
    base = alt.Chart().encode(
        x=alt.X("x:Q", axis=None, scale=alt.Scale(zero=False, nice=False, padding=24)),
        y=alt.Y("y:Q", axis=None, scale=alt.Scale(zero=False, nice=False, padding=24)),
    )
    shown = base.mark_image(width=alt.expr(f"width / {WIDE}"), height=alt.expr(f"height / {TALL + 2}"))
    marked = base.mark_circle(color=GRAY, opacity=0.6).encode(
        size=alt.condition("datum.row === chosen[0]", alt.value(700), alt.value(240))
    )
    dots = base.mark_circle(size=26).encode(
        color=alt.Color("group:N", scale=color_scale(colors), legend=None),
        opacity=alt.condition("standout === '' || datum.group === standout", alt.value(0.9), alt.value(0.06)),
    )
    drawing = alt.layer(
        shown.transform_filter("isValid(datum.url)").encode(url="url:N"),
        marked.transform_filter("indexof(chosen, datum.row) >= 0"),
        dots.transform_calculate(group="datum[colored]"),
        data=alt.Data(values=points),
    ).add_params(
        colored or alt.param(name="colored", value=first),
        alt.param(name="chosen", value=[0]),
        alt.param(name="standout", value=""),
    )
    samples = plural(noun)
    last = f"{samples.capitalize()} that the encoder finds alike lie close together."
    return chart(f"Map of the {samples}", [*words, last], drawing, HEIGHT)


def _legend(members: Sequence[str]) -> list[dict[str, Any]]:
    """Returns name, color and number of pictures of each group, in natural order."""
    counts = Counter(members)
    return [{"name": name, "color": color, "count": counts[name]} for name, color in hues_of(members).items()]


def _class(source: Source, sample: int) -> str:
    """Returns the class of a picture, or "" if it has none."""
    label = int(source.labels[sample])
    return source.classes[label] if label >= 0 else ""
