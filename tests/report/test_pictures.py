"""The map of the pictures: which pictures it shows, how, under which names, and what is alike or unusual."""

import json
from base64 import b64decode
from io import BytesIO
from urllib.parse import unquote

import numpy as np
import pytest
import torch
from PIL import Image

from sanslabel.report.charts import confusion
from sanslabel.report.colors import GRAY, HUES, hues_of
from sanslabel.report.curves import curves
from sanslabel.report.neighborhoods import Nearest, clustered, most_alike, most_unusual, nearest
from sanslabel.report.snapshot import snapshot
from sanslabel.report.thumbnails import STEPS, common_folder, links, thumbnails
from sanslabel.sources import open_source
from tests.report.conftest import MARKUP
from tests.report.test_report import contents


def test_a_labeled_folder_is_shown_as_a_whole(labeled, folder):
    text, specs, maps = contents(labeled)
    (map_,) = maps.values()
    assert len(map_["names"]) == 20
    assert "All 20 images of stamps. Neighbors come from the same ones." in text
    assert [[g["name"], g["count"], g["color"]] for g in map_["groups"]["class"]] == [
        [MARKUP, 10, HUES[0]],
        ["birds", 10, HUES[1]],
    ]
    assert {row["class"] for row in next(iter(specs.values()))["data"]["values"]} == {MARKUP, "birds"}
    assert sum(cluster["size"] for cluster in map_["clusters"]) == 20
    assert all(len(line) == 8 and sorted(line) == line for line in map_["distances"])


def test_links_lead_to_the_files(labeled, folder):
    _, _, maps = contents(labeled)
    (map_,) = maps.values()
    for name, link in zip(map_["names"], map_["links"], strict=True):
        assert not set(link) & set('<#&"')
        assert (labeled.parent / unquote(link)).resolve() == (folder / "stamps" / name).resolve()


def test_no_name_becomes_markup(labeled):
    text = labeled.read_text()
    assert "<script>alert" not in text


def test_thumbnails_are_whole_and_bounded(folder):
    source = open_source(folder, image_size=16)
    index = torch.arange(len(source))
    (first, *_) = made = thumbnails(source, index, source.image, 1 << 20)
    picture = Image.open(BytesIO(b64decode(first)))
    assert picture.size == (96, 19)
    red, green, _ = np.asarray(picture)[:, :3].mean(axis=(0, 1))
    assert red > 200 > 80 > green, "the end of the picture is there"
    assert len(made) == len(source)
    some = sum(map(len, made)) // 3
    assert sum(map(len, thumbnails(source, index, source.image, some))) <= some
    least = [Image.open(BytesIO(b64decode(x))).width for x in thumbnails(source, index, source.image, 1)]
    assert set(least) == {STEPS[-1][0]}


def test_a_page_of_five_thousand_pictures_stays_below_25_megabytes():
    from sanslabel.report.document import THUMBNAIL_BYTES

    library, points = 2_000_000, 5000 * 600  # a point with its neighbors, names and links
    assert THUMBNAIL_BYTES + library + points < 25_000_000


def test_pictures_in_archives_and_arrays_have_no_links(tmp_path):
    digits = open_source("digits", "test")
    assert links(digits, torch.tensor([0, 1]), tmp_path) == ["", ""]


def test_the_folder_that_names_share():
    assert common_folder(["usr/share/a/x.png", "usr/share/b/y.png", "usr/share/b/z.png"]) == "usr/share/"
    assert common_folder(["a/x.png", "ab/x.png"]) == ""
    assert common_folder(["x.png", "y.png"]) == ""
    assert common_folder(["a/b/x.png"]) == "a/b/"


def test_unusual_pictures_and_alike_pairs():
    angles = torch.tensor([0.0, 0.01, 0.5, 0.52, 0.9, 3.0])
    near = nearest(torch.stack([angles.cos(), angles.sin()], dim=1), 2)
    assert most_unusual(near, 2) == [5, 4]
    pairs = most_alike(near, 10)
    assert [pair[:2] for pair in pairs] == [(0, 1), (2, 3), (4, 5)]
    assert len(most_alike(near, 1)) == 1
    assert pairs[0].distance == pytest.approx(1 - np.cos(0.01), abs=1e-6)
    alone = Nearest(torch.empty(1, 0, dtype=torch.int64), torch.empty(1, 0))
    assert most_unusual(alone, 3) == most_alike(alone, 3) == []


def test_clusters_are_the_groups_there_are_and_the_largest_is_the_first():
    centers = torch.eye(3).repeat_interleave(torch.tensor([2, 5, 3]), dim=0)
    unit = torch.nn.functional.normalize(centers + 0.01 * torch.randn(10, 3), dim=1)
    labels = ["a"] * 2 + ["b"] * 4 + ["c"] * 4
    names, clusters = clustered(unit, labels, 3, 2, 0)
    assert names == ["cluster 3"] * 2 + ["cluster 1"] * 5 + ["cluster 2"] * 3
    assert [(cluster.size, cluster.commonest) for cluster in clusters] == [(5, "80% b"), (3, "100% c"), (2, "100% a")]
    assert all(
        set(cluster.examples) <= {row for row in range(10) if names[row] == cluster.name} for cluster in clusters
    )


def test_ten_of_many_classes_have_a_hue_and_names_sort_as_people_do():
    members = [f"class {i}" for i in range(1, 26) for _ in range(i)] + [""]
    colors = hues_of(members)
    assert list(colors) == [*(f"class {i}" for i in range(1, 26)), ""]
    assert [name for name, color in colors.items() if color != GRAY] == [f"class {i}" for i in range(16, 26)]
    assert len(set(colors.values())) == 11
    assert list(hues_of(["cluster 10", "cluster 2", "cluster 1"])) == ["cluster 1", "cluster 2", "cluster 10"]


def test_hues_can_be_told_apart_and_seen_on_any_paper():
    def light(color):
        rgb = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in rgb]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for hue in HUES:
        white, dark = 1.05 / (light(hue) + 0.05), (light(hue) + 0.05) / (light("#14181c") + 0.05)
        assert min(white, dark) > 2.2, hue


@pytest.mark.parametrize("classes", [3, 25])
def test_zero_cells_of_a_confusion_have_neither_color_nor_text(classes):
    names = [f"class {i}" for i in range(classes)]
    counts = [[4 if i == j else 2 if (i, j) == (1, 0) else 0 for j in range(classes)] for i in range(classes)]
    made = confusion(names, counts, "#123456")
    places, *layers = made.spec["layer"]
    assert places["mark"]["opacity"] == 0
    assert len(layers) == (2 if classes == 3 else 1), "many classes have no room for text"
    assert all(layer["transform"] == [{"filter": "datum.count > 0"}] for layer in layers)
    assert layers[0]["encoding"]["color"]["scale"]["range"] == ["#c4ccd5", "#123456"], "one hue, from light to full"
    first = made.spec["data"] if "values" in made.spec["data"] else next(iter(made.spec["datasets"].values()))
    assert first["values"][0]["true"] == "class 0 (4)"
    assert f"{4 * classes} of {4 * classes + 2} are right" in made.words[0]
    assert "2 times: class 1 taken for class 0" in made.words[0]


def test_a_run_has_one_color_in_all_charts(runs):
    made = [snapshot(runs[name], name, color) for name, color in (("vae", HUES[0]), ("simclr", HUES[1]))]
    charts = list(curves(made))
    assert len(charts) > 5
    for chart in charts:
        scale = chart.spec["encoding"]["color"]["scale"]
        assert (scale["domain"], scale["range"]) == (["vae", "simclr"], [HUES[0], HUES[1]])
        for color, words in zip(chart.colors, chart.words[-len(chart.colors) :], strict=True):
            assert color == (HUES[0] if words.startswith("vae") else HUES[1])
    assert json.dumps([chart.spec for chart in charts])
