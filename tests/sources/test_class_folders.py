"""Labels from sub-folders: pictures without a class, and what is said of them."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sanslabel.evaluation import Unlabeled
from sanslabel.evaluation.labeled_split import labeled_split
from sanslabel.sources import open_source
from sanslabel.sources.folders.class_folders import class_folders


def split_into(*paths: str, prefixes: dict[str, str] | None = None):
    prefixes = prefixes or {"train": ""}
    members = {
        prefix: [row for row, path in enumerate(paths) if path.startswith(prefix)] for prefix in prefixes.values()
    }
    return class_folders(paths, members)


def numbered(folder: str, count: int) -> list[str]:
    return [f"{folder}/{row}.png" for row in range(count)]


@pytest.mark.parametrize("folder", ["unlabelled", "unlabeled", "Unlabelled", "UNLABELED"])
def test_a_folder_of_unlabeled_pictures_is_no_class(folder):
    paths = [*numbered("cat", 2), *numbered("dog", 2), *numbered(f"{folder}/2024", 30)]
    classes = split_into(*paths)
    assert set(classes.class_of.values()) == {"cat", "dog"}
    assert sorted(classes.class_of) == [0, 1, 2, 3]
    assert classes.remarks == ("In a folder of unlabeled pictures: 30 pictures.",)


def test_a_class_may_have_a_similar_name():
    assert set(split_into("not labeled/1.png", "unlabeled things/2.png").class_of.values()) == {
        "not labeled",
        "unlabeled things",
    }


def test_a_stray_picture_is_named_and_has_no_label():
    paths = [*numbered("cat", 10), *numbered("dog", 10), "scan.png", "a\x1b[31m.png"]
    classes = split_into(*paths)
    assert sorted(classes.class_of) == list(range(20))
    assert classes.remarks == ("Beside the class folders, without a label: 2 pictures (scan.png, a\\x1b[31m.png).",)


def test_with_many_pictures_beside_them_folders_are_no_classes():
    paths = [*numbered("cat", 8), *numbered("dog", 9), *(f"{row}.png" for row in range(2))]
    classes = split_into(*paths)
    assert classes.class_of == {}
    assert classes.reason == "2 of 19 pictures lie in no sub-folder (0.png, 1.png), and at most one in ten may"
    assert classes.remarks == (f"There are no labels: {classes.reason}.",)


def test_a_single_class_is_none():
    classes = split_into(*numbered("cat", 3), *numbered("unlabelled", 3))
    assert classes.class_of == {}
    assert classes.reason == "all pictures with a class lie in one folder, cat, and two classes are needed"


def test_flat_folders_need_no_words():
    assert split_into("1.png", "2.png") == ({}, (), "")
    paths = ["train/a/1.png", "train/b/2.png", "test/3.png", "test/4.png"]
    assert split_into(*paths, prefixes={"train": "train/", "test": "test/"}) == ({0: "a", 1: "b"}, (), "")


def test_evaluation_says_why_there_are_no_labels(tmp_path: Path):
    for row in range(4):
        (tmp_path / "photos/cat").mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8, 3), row, np.uint8)).save(tmp_path / f"photos/cat/{row}.png")
    source = open_source(tmp_path / "photos")
    assert source.classes == ()
    with pytest.raises(Unlabeled, match=r"photos has no labels .all pictures with a class lie in one folder"):
        labeled_split(tmp_path / "photos", 0, {"reads": source.image}, None)  # pyright: ignore
