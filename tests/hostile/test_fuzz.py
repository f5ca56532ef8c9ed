"""Valid files with something changed: each reader either takes them or says in the project's own error why not."""

import gzip
import io
import json
import struct
import sys
import tarfile
import warnings
import zipfile
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import asdict

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save

import sanslabel
import sanslabel.sources.pictures.images
import sanslabel.sources.sounds.sounds
import sanslabel.sources.stores.files
import sanslabel.sources.stores.tar
from sanslabel import checkpoint, encoders
from sanslabel.errors import SanslabelError
from sanslabel.evaluation import protocols
from sanslabel.evaluation.feature_cache import FeatureCache
from sanslabel.memory_limits import free_memory
from sanslabel.report import charts
from sanslabel.report.curves import curves
from sanslabel.report.sections.scores import scores
from sanslabel.report.snapshot import snapshot
from sanslabel.run_config import Plan
from sanslabel.scores import read_scores
from sanslabel.serialization import to_plain
from sanslabel.sources import Request, open_source, splits
from sanslabel.training import run as training
from sanslabel.training.journal import BadSamples, Metrics
from sanslabel.training.session import Session

soundfile = pytest.importorskip("soundfile")
pytest.importorskip("timm")  # here, since a name in a file may bring it in, as one of the encoders that there are
pytest.importorskip("tifffile")  # here, since a damaged TIFF may be one that Pillow cannot read

RANDOM = np.random.default_rng(0)
EXTREME = [0, 1, -1, 2**15, 2**16 - 1, 2**31 - 1, -(2**31), 2**32 - 1, 2**63 - 1, -(2**63)]


@contextmanager
def harmless(folder):
    """What is done within raises nothing but the project's own errors, imports nothing that a file names, and writes
    nothing beside the folder."""
    modules, files = set(sys.modules), _beside(folder)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of checkpoints that are passed over
            yield
    except SanslabelError as error:
        said = str(error)
        assert 0 < len(said) < 2000, said
    libraries = {name.partition(".")[0] for name in modules} - {
        "sanslabel"
    }  # of which parts may come in when first used
    gained = [name for name in set(sys.modules) - modules if name.partition(".")[0] not in libraries]
    assert [name for name in gained if not name.startswith("sanslabel.methods.")] == []
    assert _beside(folder) == files


def _beside(folder):
    return {path for path in folder.parent.rglob("*") if folder not in path.parents}


@st.composite
def damaged(draw, good: bytes) -> bytes:
    """With bytes flipped, cut, put in, repeated or made extreme numbers, the first ones most of all."""
    content = bytearray(good)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, min(len(content), 80)) | st.integers(0, len(content)))
        match draw(st.sampled_from(["flip", "cut", "insert", "number", "repeat"])):
            case "flip":
                content[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
            case "cut":
                del content[at:]
            case "insert":
                content[at:at] = draw(st.binary(max_size=9))
            case "repeat":
                content[at:at] = content[at : at + 500] * draw(st.integers(1, 9))
            case "number":
                size = draw(st.sampled_from([1, 2, 4, 8]))
                order = draw(st.sampled_from(["big", "little"]))
                number = draw(st.sampled_from(EXTREME)) % 256**size
                content[at : at + size] = number.to_bytes(size, order)
    return bytes(content)


VALUES = st.sampled_from(
    [
        *(None, True, False, -1, 0, 1, 3, 10**9, 2**63, 10**400, -0.5, 1.5, 1e308, float("nan"), float("inf")),
        *("", "x", "digits", "os.system", "antigravity", "this:main", "../../../etc/passwd", "sanslabel.cli", "\0"),
        *("a" * 5000, "\ud800", "timm/antigravity", "timm/hf-hub:someone/model", "timm/local-dir:/tmp", "hpu", "meta"),
        *([], {}, [[]], ["x"], [0.5], [1e308, -1], [10**9] * 3, {"kind": "os.system"}, {"kind": []}, {"kind": "SGD"}),
        *({"name": "timm/resnet18", "pretrained": True}, {"name": "mlp", "hidden": [10**9, 10**9]}),
        *({"a": {"b": {"c": {"d": {}}}}}, json.loads("[" * 40 + "]" * 40), json.loads("[" * 600 + "]" * 600)),
    ]
).map(deepcopy)


@st.composite
def altered(draw, good):
    """JSON with values replaced anywhere, and keys dropped, added and made dotted."""
    content = {"": deepcopy(good)}
    for _ in range(draw(st.integers(1, 3))):
        holder, key = draw(st.sampled_from(list(_places(content))))
        match draw(st.sampled_from(["replace", "replace", "drop", "add", "nest"])):
            case "replace":
                holder[key] = draw(VALUES)
            case "drop" if key != "":
                del holder[key]
            case "add" if isinstance(holder, dict) and key != "":
                holder[draw(st.sampled_from(["kind", "extra", "os.system", "pretrained", "of", "format"]))] = draw(
                    VALUES
                )
            case "nest":
                holder[key] = {"kind": "Recipe", "name": "antigravity", "of": holder[key]}
    return content[""]


def _places(content):
    for key, value in content.items() if isinstance(content, dict) else enumerate(content):
        yield content, key
        if isinstance(value, dict | list):
            yield from _places(value)


def texts(good):
    """Files of JSON: other values, or other bytes."""
    return altered(good).map(lambda content: json.dumps(content).encode()) | damaged(json.dumps(good).encode())


def whole(folder, split="all"):
    """All that opening a source reads."""
    splits(folder)
    source = open_source(folder, split)
    source.load(Request(torch.arange(min(3, len(source)))))
    return source


def packed_alike(content: bytes) -> bytes:
    return gzip.compress(content, mtime=0)


IMAGES, LABELS = RANDOM.integers(0, 256, (4, 3, 3), np.uint8), np.uint8([0, 1, 2, 1])
RECORDS = RANDOM.integers(0, 3, (3, 3073), np.uint8).tobytes()


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()


def sound(kind: str) -> bytes:
    stream, wave = io.BytesIO(), 0.5 * np.sin(np.arange(1500) / 9)
    soundfile.write(stream, np.stack([wave, wave[::-1]], axis=1), 8_000, format=kind)
    return stream.getvalue()


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG", "MP3"])
@settings(max_examples=15)
@given(data=st.data())
def test_sounds(tmp_path, kind, data):
    free_memory()  # imports what the system needs for it
    folder, good = tmp_path / "set", sound(kind)
    folder.mkdir(exist_ok=True)
    (folder / "a.wav").write_bytes(sound("WAV"))
    (folder / f"b.{kind.lower()}").write_bytes(data.draw(damaged(good)))
    with harmless(folder):
        source = whole(folder)
        assert source.load(Request(torch.arange(len(source)))).signals["audio"].waves.dtype == torch.int16


@pytest.mark.parametrize("packed", [bytes, packed_alike], ids=["plain", "gzip"])
@given(data=st.data())
def test_idx(tmp_path, packed, data):
    images, labels = idx(IMAGES), idx(LABELS)
    folder = tmp_path / "set"
    folder.mkdir(exist_ok=True)
    wrong = data.draw(st.sampled_from(["images", "labels"]))
    inside = data.draw(st.booleans())  # what is packed, or the package
    for name, good in {"images": images, "labels": labels}.items():
        change = (lambda content: data.draw(damaged(content))) if name == wrong else bytes
        content = packed(change(good)) if inside else change(packed(good))
        (folder / f"train-{name}-idx{3 if name == 'images' else 1}-ubyte").write_bytes(content)
    with harmless(folder):
        assert whole(folder).images.dtype == torch.uint8


@given(data=st.data())
def test_cifar(tmp_path, data):
    folder = tmp_path / "set"
    folder.mkdir(exist_ok=True)
    (folder / "data_batch_1.bin").write_bytes(data.draw(st.just(RECORDS) | damaged(RECORDS)))
    names = b"airplane\nautomobile\nbird\n"
    (folder / "batches.meta.txt").write_bytes(data.draw(st.just(names) | damaged(names) | st.binary(max_size=9)))
    with harmless(folder):
        assert whole(folder).images.shape[1:] == (3, 32, 32)


def saved(array, **kwargs) -> bytes:
    file = io.BytesIO()
    np.save(file, array, **kwargs)
    return file.getvalue()


def archive(members: dict[str, bytes], how=zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", how) as packed:
        for name, content in members.items():
            packed.writestr(zipfile.ZipInfo(name), content, how)
    return file.getvalue()


@st.composite
def arrays(draw) -> bytes:
    """An .npy whose header says anything."""
    dtypes = ["|u1", "<f4", ">f8", "<f2", "<i8", "<u8", "|b1", "<c16", "<f16", "<M8[D]", "|O", "<U3", "|S0", "|V8", "x"]
    described = st.sampled_from([repr(name) for name in dtypes] + ["[('a', '<i4')]", "('<f4', (1000000,))", "7", "[]"])
    lengths = st.sampled_from([0, 1, 2, 3, 8, -1, 2**31, 2**40, 2**63, 10**30, True, 2.5, "x", None])
    shape = draw(st.lists(lengths, max_size=5) | st.just([2, 8, 8]) | st.just([2, 8, 8, 3]) | st.just([3] * 70))
    transposed = draw(st.sampled_from(["False", "True", "0", "'x'"]))
    said = f"{{'descr': {draw(described)}, 'fortran_order': {transposed}, 'shape': {tuple(shape)!r}, }}"
    said = draw(st.just(said) | st.sampled_from(["(" * 5000, "-" * 9000 + "1", "{}", "9**9**9", "[" * 90 + "]" * 90]))
    major = draw(st.sampled_from([1, 1, 1, 2, 3, 9]))
    length = struct.pack("<H" if major == 1 else "<I", draw(st.just(len(said)) | st.sampled_from([0, 2**16 - 1])))
    return b"\x93NUMPY" + bytes([major, 0]) + length + said.encode() + bytes(draw(st.sampled_from([0, 128, 5000])))


GOOD = saved(RANDOM.integers(0, 256, (4, 8, 8), np.uint8))


@settings(max_examples=200)
@given(content=damaged(GOOD) | arrays() | st.just(saved(np.array([print]), allow_pickle=True)))
def test_npy(tmp_path, content):
    path = tmp_path / "set.npy"
    path.write_bytes(content)
    with harmless(path):
        assert whole(path).images.ndim == 4


@settings(max_examples=200)
@given(data=st.data())
def test_npz(tmp_path, data):
    path = tmp_path / "set.npz"
    members = {"images.npy": GOOD, "labels.npy": saved(np.arange(4)), "classes.npy": saved(np.array(list("abcd")))}
    members |= {"waves.npy": saved(np.zeros((4, 50), np.int16)), "rate.npy": saved(np.array(8000))}
    changed = data.draw(
        st.sampled_from([*members, "../../images.npy", "/etc/passwd", "images", "a" * 300, "os.system"])
    )
    members[changed] = data.draw(arrays() | damaged(GOOD) | st.just(saved(np.array([print]), allow_pickle=True)))
    how = [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
    content = archive(members, data.draw(st.sampled_from(how)))
    path.write_bytes(data.draw(st.just(content) | damaged(content)))
    with harmless(path):
        assert whole(path).images.ndim == 4


def drawn(kind: str) -> bytes:
    file = io.BytesIO()
    about = Image.Exif()
    about[0x0112] = 6
    pixels = Image.fromarray(RANDOM.integers(0, 256, (9, 12, 3), np.uint8))
    more = {"save_all": True, "append_images": [pixels.rotate(90)]} if kind in ("GIF", "WEBP") else {}
    pixels.save(file, kind, **({"exif": about} if kind not in ("BMP", "GIF") else {}), **more)
    return file.getvalue()


PICTURES = {kind: drawn(kind) for kind in ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")}


@pytest.mark.parametrize("kind", PICTURES)
@given(data=st.data())
def test_image_folder(tmp_path, kind, data):
    folder = tmp_path / "set"
    folder.mkdir(exist_ok=True)
    for i in range(2):
        (folder / f"{i}.png").write_bytes(PICTURES["PNG"])
    (folder / "2.png").write_bytes(data.draw(damaged(PICTURES[kind])))
    with harmless(folder):
        found = whole(folder)
        assert found.load(Request(torch.tensor([0, 1, 2]))).images.pixels.dtype == torch.uint8
        assert found.fingerprint


def archived(contents: dict[str, bytes], how: int) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=how) as tar:
        for name, content in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return file.getvalue()


HOW = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}
SAMPLES = {"a/0.png": PICTURES["PNG"], "a/0.cls": b"3", "b/1.jpg": PICTURES["JPEG"], "b/1.json": b'{"label": 4}'}
SAMPLES |= {"é" * 70 + "/" + "long" * 20 + ".png": PICTURES["PNG"]}


@st.composite
def resummed(draw, content: bytes) -> bytes:
    """With a field of one header changed, and the header's sum made right again."""
    damaged_content = bytearray(content)
    block = 512 * draw(st.integers(0, len(content) // 512 - 3))
    begin, end = draw(
        st.sampled_from([(0, 100), (124, 136), (156, 157), (157, 257), (257, 265), (345, 500), (482, 483)])
    )
    value = draw(
        st.binary(max_size=end - begin) | st.sampled_from([b"../x.png", b"/x.png", b"77777777777", b"-1", b"\x80"])
    )
    damaged_content[block + begin : block + end] = value[: end - begin].ljust(end - begin, b"\0")
    header = damaged_content[block : block + 512]
    damaged_content[block + 148 : block + 156] = b"%06o\0 " % (sum(header) - sum(header[148:156]) + 256)
    return bytes(damaged_content)


@pytest.mark.parametrize("how", HOW)
@settings(max_examples=100)
@given(data=st.data())
def test_tar(tmp_path, how, data):
    """It may be one of several in a folder, and what was decoded of it may be kept."""
    folder = tmp_path / "set"
    folder.mkdir(exist_ok=True)
    good = archived(SAMPLES, HOW[how])
    (folder / "0.tar").write_bytes(data.draw(damaged(good) | resummed(good)))
    (folder / "1.tar").write_bytes(archived({"c/2.png": PICTURES["PNG"]}, HOW[how]))
    with harmless(folder):
        found = whole(folder)
        assert found.load(Request(torch.arange(len(found)))).images.pixels.dtype == torch.uint8
        assert found.fingerprint


@given(content=st.binary(max_size=3000) | st.binary(min_size=512, max_size=512).map(lambda header: header * 3))
def test_tar_of_anything(tmp_path, content):
    path = tmp_path / "set.tar"
    path.write_bytes(content)
    with harmless(path):
        assert whole(path).load(Request(torch.arange(1)))


def planned(method="simclr", **changed):
    """A run.json."""
    source = open_source("digits", "train")
    chosen = sanslabel.methods.method_class(method)
    made = chosen.under(chosen.small).sized(8)
    config = encoders.build("mlp", channels=1, image_size=8, hidden=[4]).config
    about = {"data": "digits", "fingerprint": source.fingerprint, "samples": len(source), "method": method}
    numbers = {"image_size": 8, "epochs": 1, "batch": 64, "chunk": None, "workers": 0, "seed": 0, "world_size": 1}
    how = {"device": "cpu", "precision": "float32", "threads": 1, "encoder": config}
    said = {"hyperparameters": to_plain(made), "recipe": to_plain(chosen.small)}
    plan = Plan(**{**about, **numbers, **how, **said, **changed})
    return {"format": 1, **asdict(plan), "versions": training._versions()}


@settings(max_examples=150)
@given(content=texts(planned()) | texts(planned("vae")))
def test_run_json(tmp_path, monkeypatch, content):
    """Up to where training would begin, with networks and optimizers made."""
    run = tmp_path / "run"
    run.mkdir(exist_ok=True)
    (run / "run.json").write_bytes(content)
    monkeypatch.setattr(Session, "follow", lambda *_: (0, None))
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
    with harmless(run):
        sanslabel.resume(run)
    with harmless(run):
        snapshot(run, "run")


@settings(max_examples=150)
@given(data=st.data())
def test_config_json(tmp_path, data):
    run = tmp_path / "run"
    plain = encoders.build("mlp", channels=1, image_size=8, hidden=[4])
    coded = encoders.build("coded", channels=1, image_size=8, of=plain, width=3)
    exported = data.draw(st.sampled_from([plain, coded, encoders.build("conv", channels=1, image_size=8)]))
    checkpoint.save_encoders(run, {"student": exported, "teacher": plain})
    content = checkpoint.read_json(run / "config.json")
    (run / "config.json").write_bytes(data.draw(texts(content)))
    with harmless(run):
        checkpoint.exported(run)
        checkpoint.load_encoder(run)


@pytest.mark.parametrize("file", ["manifest.json", "state.json"])
@settings(max_examples=100)
@given(data=st.data())
def test_checkpoints(tmp_path, file, data):
    folder = tmp_path / "checkpoints"
    saved = checkpoint.save(folder, 3, {"networks": {"weight": torch.ones(2)}, "optimizers": {}}, {"epoch": 1})
    content = json.loads((saved / file).read_text())
    (saved / file).write_bytes(data.draw(texts(content)))
    with harmless(folder):
        found = checkpoint.newest(folder)
        assert found is None or checkpoint.read_tensors(found / "networks.safetensors").keys() == {"weight"}
    with harmless(folder):
        assert checkpoint.read_state(saved)["step"] >= 0


TENSORS = {"a": torch.arange(6.0).view(2, 3), "b": torch.tensor(7)}


@settings(max_examples=200)
@given(data=st.data())
def test_safetensors(tmp_path, data):
    about = json.dumps({"format": 1, "shared": {"c": "a"}})
    about = data.draw(st.just(about) | texts(json.loads(about)).map(lambda text: text.decode(errors="replace")))
    content = save(TENSORS, {"sanslabel": about})
    length = int.from_bytes(content[:8], "little")
    said, rest = json.loads(content[8 : 8 + length]), content[8 + length :]
    dtypes = st.sampled_from(["F4", "F8_E8M0", "C64", "BOOL", "U64", "os.system", "F64"])
    if data.draw(st.booleans()):
        said["a"]["dtype"] = data.draw(dtypes)
    header = data.draw(texts(said) | st.just(json.dumps(said).encode()))
    content = data.draw(st.just(len(header).to_bytes(8, "little") + header + rest) | damaged(content))
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with harmless(path):
        assert all(isinstance(tensor, torch.Tensor) for tensor in checkpoint.read_tensors(path).values())
    with harmless(path):
        checkpoint.load_strictly_(torch.nn.ParameterDict({"a": torch.zeros(2, 3)}), checkpoint.read_tensors(path), path)


@given(data=st.data())
def test_lines(tmp_path, data):
    """metrics.jsonl and bad_samples.jsonl: what is whole is used, for all that is made of it."""
    run = tmp_path / "run"
    run.mkdir(exist_ok=True)
    (run / "run.json").write_text(json.dumps(RUN))
    line = {"step": 10, "loss": 2.0, "critic/loss": 1.0, "kl_by_dimension": [0.5, None], "usage": 3.0, "refused": False}
    line |= {"embedding_std": 0.5, "effective_rank": 3.0, "full_rank": 64.0, "teacher_entropy": 1.0, "trivial": 2.0}
    lines = [json.dumps(line | {"step": 10 * i}).encode() for i in range(1, 7)]
    lines[data.draw(st.integers(0, 5))] = data.draw(texts(line))
    (run / "metrics.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    bad = {"sample": "a/b.png", "reason": "no JPEG"}
    (run / "bad_samples.jsonl").write_bytes(data.draw(texts(bad)) + b"\n")
    with harmless(run):
        found = snapshot(run, "run")
        assert found.verdict.sentence
        assert found.done >= 0
        assert bool(list(curves([found]))) == bool(found.lines)
    with harmless(run):
        assert Metrics.resumed(run / "metrics.jsonl", 30).verdict().sentence
    with harmless(run):
        BadSamples.resumed(run / "bad_samples.jsonl").add("c.png", "cut off")


RUN = planned()
SCORE = {"protocol": "knn", "metric": "accuracy", "representation": "pixels", "split": "test split", "stage": None}
SCORE |= {"labels_per_class": None, "value": 90.0, "spread": None, "n_train": 3, "n_test": 2, "seed": 0}
SCORES = {"format": 1, "data": "digits", "fingerprints": {"train": "0", "test": "1"}, "split": "test split"}
SCORES |= {"encoder": {"network": "student", "sha256": "2"}, "image_size": 8, "precision": "float32"}
SCORES |= {"scores": [{**SCORE, "settings": {"k": 20}}, {**SCORE, "protocol": "layers", "stage": 1, "settings": {}}]}


@given(content=texts(SCORES))
def test_scores(tmp_path, content):
    from sanslabel.evaluation.score_file import identity

    for name in protocols.names():  # whose modules a name in a file may bring in
        protocols.protocol_class(name)
    run = tmp_path / "run"
    (run / "evaluation").mkdir(parents=True, exist_ok=True)
    (run / "run.json").write_text(json.dumps(RUN))
    file = run / "evaluation" / "digits.json"
    file.write_bytes(content)
    with harmless(run):
        found = snapshot(run, "run")
        list(scores([found]))
        list(charts.stages([found]))
        read_scores(file)
        assert [identity(score) for score in checkpoint.read_json(file)["scores"]]


@given(data=st.data())
def test_remembered_features(tmp_path, data):
    shape = data.draw(st.sampled_from([(3, 2), (3,), (2, 2), (0, 2), (3, 2, 1)]))
    dtype = data.draw(st.sampled_from([torch.float32, torch.bfloat16, torch.int64, torch.complex64]))
    rows = data.draw(st.lists(st.sampled_from([0, 1, 2, 3, -1, 2**62]), max_size=4))
    kind = data.draw(st.sampled_from([torch.int64, torch.float32]))
    content = save({"features": torch.ones(shape, dtype=dtype), "rows": torch.tensor(rows, dtype=torch.int64).to(kind)})
    path = tmp_path / "x.safetensors"
    path.write_bytes(data.draw(st.just(content) | damaged(content)))
    with harmless(path):
        known = FeatureCache(tmp_path).load(path, torch.device("cpu"), 3)
        if known is not None:
            assert known[0].shape[0] == len(known[1])
            assert torch.ones(3)[known[1]].sum() == len(known[0])
