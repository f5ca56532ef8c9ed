"""Labels from a CSV or Parquet file."""

import json
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sanslabel
from sanslabel.errors import BadInput
from sanslabel.sources import Data, open_source

LABELS = {"a/1.png": "cat", "a/2.png": "dog", "3.png": "cat"}


@pytest.fixture
def photos(tmp_path) -> Path:
    draw = np.random.default_rng(0)
    for name in ("a/1.png", "a/2.png", "3.png", "é.png"):
        file = tmp_path / "photos" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.integers(0, 256, (8, 8, 3), np.uint8)).save(file)
    return tmp_path / "photos"


def labels_of(data: Path, file: Path) -> dict[str, str]:
    source = open_source(Data((data,), labels=str(file)))
    return {source.id(row): source.classes[label] for row, label in enumerate(source.labels.tolist()) if label >= 0}


def written(folder: Path, content: str | bytes, name: str = "labels.csv") -> Path:
    file = folder / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


@pytest.mark.parametrize(
    "content",
    [
        "path,label\na/1.png,cat\na/2.png,dog\n3.png,cat\n",
        "a/1.png,cat\na/2.png,dog\n3.png,cat",
        "\ufeffnote,Label,Path\r\nx,cat,a/1.png\r\n,dog,a/2.png\r\n,cat,3.png\r\n\r\n",
        'path;label\n"a/1.png";"cat"\na\\2.png;dog\n./3.png; cat \n',
        "path\tlabel\na/1.png\tcat\na/2.png\tdog\n3.png\tcat\né.png\t\n",
        "file,class\na/1.png,cat\na/2.png,dog\n3.png,cat\n",
        "path,label\na/1.png,cat\na/1.png,cat\na/2.png,dog\n3.png,cat\nmissing.png,dog\n",
        "path,label\nphotos/a/1.png,cat\nphotos/a/2.png,dog\nphotos/3.png,cat\n",
    ],
)
def test_spellings_of_a_csv_file(photos, tmp_path, content):
    assert labels_of(photos, written(tmp_path, content)) == LABELS


def test_absolute_paths_and_accents(photos, tmp_path):
    (tmp_path / "link").symlink_to(photos)
    content = f'path,label\n{photos}/a/1.png,"a, ""b"""\n{tmp_path}/link/3.png,2\ne\u0301.png,10\n'
    found = labels_of(photos, written(tmp_path, content))
    assert found == {"a/1.png": 'a, "b"', "3.png": "2", "é.png": "10"}


def test_whole_numbers_are_classes_in_order(photos, tmp_path):
    file = written(tmp_path, "path,label\na/1.png,10\na/2.png,9\n")
    source = open_source(Data((photos,), labels=str(file)))
    assert source.classes == ("9", "10")
    assert source.labels.tolist() == [-1, 1, 0, -1]
    assert source.remarks == ("Labels from labels.csv: 2 of 4 pictures.",)


def test_a_label_file_beside_the_pictures_is_read(photos):
    file = photos / "labels.csv"
    file.write_text("path,label\na/1.png,10\na/2.png,9\n")
    assert open_source(Data((photos,), labels=str(file))).remarks == ("Labels from labels.csv: 2 of 4 pictures.",)
    assert open_source(photos).remarks[0] == "Files that are not read: 1 CSV."


def test_a_column_of_another_name_has_the_paths(photos, tmp_path):
    file = written(tmp_path, "label,id,note\ncat,3.png,x\ndog,a/1.png,y\n")
    assert labels_of(photos, file) == {"3.png": "cat", "a/1.png": "dog"}


def test_a_header_of_other_names_is_told_as_one(photos, tmp_path):
    file = written(tmp_path, "file,class\na/1.png,cat\na/2.png,dog\nx.png,dog\n")
    source = open_source(Data((photos,), labels=str(file)))
    assert source.remarks == (
        "Labels from labels.csv: 2 of 4 pictures.",
        "Its first line, file,class, is taken as a header.",
        "Paths of no picture in labels.csv: x.png.",
    )


def test_parquet(photos, tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    table = pyarrow.table({"label": ["cat", "dog", None, "cat"], "path": ["a/1.png", "a/2.png", "é.png", "3.png"]})
    parquet.write_table(table, tmp_path / "labels.parquet")
    assert labels_of(photos, tmp_path / "labels.parquet") == LABELS
    with pytest.raises(BadInput, match=r"labels\.parquet cannot be read .* give a CSV file"):
        labels_of(photos, written(tmp_path, "PAR1", "labels.parquet"))


def test_archives(photos, tmp_path):
    with tarfile.open(tmp_path / "photos.tar", "w") as archive:
        for file in sorted(photos.rglob("*.png")):
            archive.add(file, os.fspath(file.relative_to(photos)))
    file = written(tmp_path, "".join(f"{path},{label}\n" for path, label in LABELS.items()))
    assert labels_of(tmp_path / "photos.tar", file) == LABELS


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (
            "path,label\nx.png,cat\ny.png,dog\nz.png,a\nw.png,b\n",
            r"none of its 4 paths is a picture of .*photos\."
            r" It names x\.png, y\.png, z\.png and 1 more; the pictures are 3\.png, a/1\.png, a/2\.png and 1 more\.$",
        ),
        ("path,class\n3.png,cat\n", r"has no column label; its columns are path, class\.$"),
        ("3.png\na/1.png\n", r"row 1 has too few columns; give it a path and a label\.$"),
        ("path,label\n3.png,cat\na/1.png,cat\n", r"all pictures have the label cat; labels need two classes\.$"),
        ("3.png,cat\na/1.png,dog\n./3.png,dog\n", r"3\.png has two labels, cat and dog; leave one of them\.$"),
        ("path,label\n3.png,\n", r"holds no labels; give it the columns path and label\.$"),
        ("", r"holds no labels"),
        ("3.png,caf\u00e9\n".encode("latin-1"), r"is not in UTF-8; save it as a CSV file in UTF-8\.$"),
        ('"3.png,cat\n', r"cannot be read \(unexpected end of data\); give a CSV file"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_sentence(photos, tmp_path, content, sentence):
    with pytest.raises(BadInput, match=sentence) as refused:
        labels_of(photos, written(tmp_path, content))
    assert "\n" not in str(refused.value)


def test_a_file_that_is_missing_and_data_without_files(photos, tmp_path):
    with pytest.raises(BadInput, match=r"nowhere\.csv: no such file"):
        labels_of(photos, tmp_path / "nowhere.csv")
    with pytest.raises(BadInput, match="states labels of pictures in files, and digits has none; leave `labels` out"):
        labels_of("digits", written(tmp_path, "train/1,cat\n"))  # pyright: ignore


def test_train_and_test_folders(tmp_path):
    draw = np.random.default_rng(0)
    for name in ("train/1.png", "train/2.png", "test/3.png"):
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.integers(0, 256, (8, 8, 3), np.uint8)).save(tmp_path / "data" / name)
    data = Data(
        (tmp_path / "data",), labels=str(written(tmp_path, "train/1.png,cat\ntrain/2.png,dog\ntest/3.png,dog\n"))
    )
    assert open_source(data, "train").labels.tolist() == [0, 1]
    assert open_source(data, "test").labels.tolist() == [1]


def test_a_run_is_trained_evaluated_and_resumed_with_labels(tmp_path):
    draw = np.random.default_rng(0)
    (tmp_path / "data").mkdir()
    for row in range(20):
        Image.fromarray(draw.integers(0, 256, (8, 8, 3), np.uint8)).save(tmp_path / f"data/{row:02}.png")
    labels = written(tmp_path, "path,label\n" + "".join(f"{row:02}.png,../{'ab'[row % 2]}\n" for row in range(20)))
    options = dict(encoder="mlp", image_size=8, batch=8, epochs=1, device="cpu", workers=0, cache="none")
    run = sanslabel.train(tmp_path / "data", method="supervised", labels=labels, out=tmp_path / "run", **options)
    assert run.known_plan.classes == 2
    assert json.loads((run.path / "run.json").read_text())["labels"]["path"] == str(labels)
    for data in (None, tmp_path / "data"):
        scores = sanslabel.evaluate(run.path, data=data, protocols=["linear"], baselines=False, cache=False)
        assert scores[0].n_test == 4
    (file,) = (run.path / "evaluation").iterdir()
    assert set(json.loads(file.read_text())["fingerprints"]) == {"train", "test", "labels"}
    (tmp_path / "moved").symlink_to(tmp_path / "data")
    sanslabel.evaluate(run.path, data=tmp_path / "moved", protocols=["linear"], baselines=False)
    assert sanslabel.resume(run.path).known_plan.labels is not None
    labels.write_text(labels.read_text().replace("00.png,../a", "00.png,../b"))
    with pytest.raises(BadInput, match=r"has other labels than those that .*run was trained on; start a new run"):
        sanslabel.resume(run.path)
