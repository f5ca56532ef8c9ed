"""Run folders that someone else has made, to be resumed, measured, loaded and shown."""

import hashlib
import json
import os
import pickle
import shutil
import warnings

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import sanslabel
from sanslabel import checkpoint, encoders
from sanslabel.errors import BadInput, DiskError, SanslabelError
from sanslabel.evaluation import evaluate
from sanslabel.evaluation.protocols.knn import KNN
from sanslabel.generation.model import open_model
from sanslabel.run_folder import RunFolder
from sanslabel.sources import open_source

SMALL = {"encoder": {"name": "mlp", "hidden": [16, 8]}, "epochs": 1, "batch": 512}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return sanslabel.train("digits", method="vae", out=tmp_path_factory.mktemp("runs") / "run", **SMALL).path


@pytest.fixture
def run(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "run")


def seal(folder):
    """A manifest that says of the checkpoint's files what they are now: whoever changes them can do that, too."""
    listed(folder, {file.name: told(file) for file in sorted(folder.iterdir()) if file.name != "manifest.json"})


def listed(folder, files):
    (folder / "manifest.json").write_text(checkpoint._text({"format": 1, "files": files}))


def told(file):
    return {"bytes": file.stat().st_size, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}


def last(run):
    return checkpoint.newest(run / "checkpoints")


def edited(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


ENTRIES = {
    "resume": sanslabel.resume,
    "generate": open_model,
    "load": sanslabel.load_encoder,
    "evaluate": lambda run: evaluate(run, protocols=(KNN(draws=1),), baselines=False),
}


class Command:
    """What a pickle of it does when it is loaded."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch '{self.marker}'",)


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize("form", ["pickle", "torch"])
def test_pickles_in_the_place_of_weights_are_not_loaded(run, tmp_path, entry, form):
    marker = tmp_path / "marker"
    for file in (run / "encoder.safetensors", *(last(run).glob("*.safetensors"))):
        if form == "pickle":
            file.write_bytes(pickle.dumps(Command(marker)))
        else:
            torch.save({"weight": Command(marker)}, file)
    seal(next((run / "checkpoints").iterdir()))
    with pytest.raises(BadInput, match=r"\.safetensors"):
        ENTRIES[entry](run)
    assert not marker.exists()
    if form == "pickle":
        pickle.loads(file.read_bytes())
    else:
        torch.load(file.rename(tmp_path / "x.pt"), weights_only=False)
    assert marker.exists()  # so it was a pickle that does something


def test_pickles_among_data_and_features_are_not_loaded(run, tmp_path):
    marker = tmp_path / "marker"
    np.save(tmp_path / "set.npy", np.array([Command(marker)], object), allow_pickle=True)
    np.savez(tmp_path / "set.npz", images=np.zeros((2, 8, 8), np.uint8), labels=np.array([Command(marker)] * 2, object))
    for name in ("set.npy", "set.npz"):
        with pytest.raises(BadInput, match="holds object"):
            open_source(tmp_path / name)
    scores = ENTRIES["evaluate"](run)
    features = list((run / "features").glob("*.safetensors"))
    assert features
    for file in features:
        file.write_bytes(pickle.dumps(Command(marker)))
    assert ENTRIES["evaluate"](run) == scores
    assert not marker.exists()


@pytest.mark.parametrize("name", ["../../outside", "/outside", "link", "."])
def test_a_manifest_leads_nowhere_else(run, tmp_path, monkeypatch, name):
    outside, folder = tmp_path / "outside", last(run)
    outside.write_text("secret")
    shutil.copy(outside, run / "outside")  # where ../../ leads
    if name == "link":
        (folder / "link").symlink_to(outside)
    said = json.loads((folder / "manifest.json").read_text())["files"]
    listed(folder, {**said, str(outside) if name.startswith("/") else name: told(outside)})
    read, digest = [], checkpoint.sha256
    monkeypatch.setattr(checkpoint, "sha256", lambda path: read.append(path) or digest(path))
    with (
        pytest.warns(UserWarning, match="not what was written"),
        pytest.raises(BadInput, match="checkpoints are damaged"),
    ):
        checkpoint.newest(run / "checkpoints")
    assert {path.resolve().parent for path in read} <= {folder}


def test_what_no_manifest_lists_is_not_read(run):
    listed(last(run), {})
    with (
        pytest.warns(UserWarning, match="not what was written"),
        pytest.raises(BadInput, match="checkpoints are damaged"),
    ):
        sanslabel.resume(run)


@pytest.mark.parametrize(
    "said",
    [
        {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}, "b": {"dtype": "F32", "shape": [2]}},
        {name: {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} for name in "ab"},
        {"a": {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 8]}},
        {"a": {"dtype": "F32", "shape": [2], "data_offsets": [8, 0]}},
        {"a": {"dtype": "F32", "shape": [2], "data_offsets": [2**60, 2**60 + 8]}},
        {"__metadata__": {"sanslabel": "[" * 2000 + "]" * 2000}},
        {"__metadata__": {"sanslabel": '{"shared": {"a": "b"}}'}},
        {"__metadata__": {"sanslabel": '{"shared": [1]}'}},
        {"__metadata__": {"sanslabel": "3"}},
    ],
)
def test_heads_of_weights_that_contradict_themselves(tmp_path, said):
    header = json.dumps(said).encode()
    path = tmp_path / "x.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    with pytest.raises(BadInput, match=r"x\.safetensors"):
        checkpoint.read_tensors(path)


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"name": "os.system"}, "no encoder 'os.system'"),
        ({"name": "sanslabel.cli"}, "no encoder"),
        ({"name": "timm/resnet18", "pretrained": True}, "would be fetched"),
        ({"name": "coded", "width": 3, "of": {"name": "timm/resnet18", "pretrained": True}}, "would be fetched"),
        ({"name": "timm/hf-hub:someone/model"}, "timm has no"),
        ({"name": ["mlp"]}, "cannot be read"),
        ({"name": "mlp", "hidden": [-1]}, "cannot be read|hidden"),
        ({"name": "mlp", "channels": None}, "cannot be read"),
        ({"name": "mlp", "_target_": "os.system"}, "no option '_target_'"),
        ("mlp", "cannot be read"),
    ],
)
def test_a_configuration_names_encoders_alone_and_fetches_nothing(run, config, sentence):
    edited(run / "config.json", networks={"student": config})
    with pytest.raises(BadInput, match=sentence):
        sanslabel.load_encoder(run)


@pytest.mark.parametrize(
    "changes",
    [
        {"method": "os.system"},
        {"method": "../../evil"},
        {"workers": 10**6},
        {"threads": 10**9},
        {"image_size": 10**9},
        {"batch": -1},
        {"epochs": "1"},
        {"device": "meta"},
        {"device": "privateuseone"},
        {"precision": "load"},
        {"encoder": {"name": "timm/resnet18", "pretrained": True}},
        {"encoder": {"name": "mlp", "hidden": [10**7, 10**7], "channels": 1, "image_size": 8}},
        {"hyperparameters": {"kind": "os.system"}},
        {"hyperparameters": {"kind": "VAE", "code": 10**9, "filters": 10**9}},
        {"hyperparameters": {"kind": "VAE", "view": {"kind": "View", "size": "x"}}},
        {"recipe": {"kind": "Recipe", "optimizer": {"kind": "SGD", "lr": -1.0}, "epochs": 1}},
        {"classes": -1},
        {"encoders": {"image": {"name": "mlp", "hidden": [10**7, 10**7], "channels": 1, "image_size": 8}}},
        {"encoders": {"image": {"name": "timm/resnet18", "pretrained": True}}},
        {"inputs": {"image": {"kind": "os.system"}}},
        {"weights": {"kind": "GivenNetwork", "path": "/etc/passwd", "sha256": "0", "license": None}},
        {"weights": {"kind": "GivenNetwork", "path": "nowhere", "sha256": 3, "license": None}},
        {"teacher": {"kind": "GivenNetwork", "path": "nowhere", "sha256": "0", "license": None}},
        {"recipe": {"kind": "Recipe", "optimizer": {"nobody": {"kind": "SGD", "lr": 1.0}}, "epochs": 1}},
    ],
    ids=lambda changes: json.dumps(changes)[:60],
)
def test_a_run_file_that_asks_for_what_is_not_or_too_much(run, changes):
    edited(run / "run.json", **changes)
    with pytest.raises(BadInput):
        sanslabel.resume(run)


def test_several_encoders_for_a_method_that_has_one(run):
    edited(run / "run.json", encoders={"image": {"name": "mlp", "hidden": [4], "channels": 1, "image_size": 8}})
    with pytest.raises(BadInput):
        RunFolder.open(run).networks(torch.device("cpu"))


def test_networks_that_the_machine_has_no_memory_for(run, monkeypatch):
    monkeypatch.setattr("sanslabel.run_folder.main_memory", lambda: 1000)
    for entry in (sanslabel.resume, open_model):
        with pytest.raises(BadInput, match=r"run\.json.*more than this machine's memory"):
            entry(run)


@pytest.mark.parametrize("harm", ["names", "shapes", "slots", "path", "step"])
def test_a_checkpoint_whose_parts_do_not_fit(run, harm):
    folder = last(run)
    path = folder / "optimizers.safetensors"
    state = load_file(path)
    first = next(name for name in state if state[name].ndim == 2)
    if harm == "shapes":
        state[first] = torch.zeros(1, 1)
    elif harm == "slots":
        del state[first]
    elif harm == "names":
        state["no slashes"] = torch.zeros(1)
    save_file(state, path)
    if harm == "step":
        edited(folder / "state.json", step="1")
    if harm == "path":
        (folder / "networks.safetensors").unlink()
    seal(folder)
    with pytest.raises(BadInput):
        sanslabel.resume(run)


@pytest.mark.parametrize(
    "name",
    [
        *(".lock", "metrics.jsonl", "bad_samples.jsonl", ".metrics.jsonl.part", ".config.json.part"),
        *(".encoder.safetensors.part", "evaluation/.digits.json.part", "checkpoints/.step-00000009.part"),
    ],
)
def test_links_in_a_folder_lead_no_writing_elsewhere(run, tmp_path, name):
    outside = tmp_path / "outside"
    outside.mkdir()
    for target in (outside / "file", outside / "new"):  # what is there, and what is not
        (outside / "file").write_text("mine")
        (run / name).parent.mkdir(exist_ok=True)
        (run / name).unlink(missing_ok=True)
        (run / name).symlink_to(target)
        edited(run / "run.json", epochs=2 if target.name == "file" else 3)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for entry in ("resume", "evaluate"):
                try:
                    ENTRIES[entry](run)
                except (BadInput, DiskError):
                    continue
        assert [(file.name, file.read_text()) for file in outside.iterdir()] == [("file", "mine")]


@pytest.mark.parametrize(
    "name", ["metrics.jsonl", "bad_samples.jsonl", "config.json", "run.json", "encoder.safetensors", ".lock"]
)
def test_pipes_in_a_folder_are_not_waited_for(run, name):
    (run / name).unlink(missing_ok=True)
    os.mkfifo(run / name)
    for entry in ("load", "evaluate", "resume"):
        try:
            ENTRIES[entry](run)
        except SanslabelError as error:
            assert str(run) in str(error)  # noqa: PT017


def test_an_encoder_says_nothing_of_where_it_lies(tmp_path):
    """A network of a configuration has no path for its name."""
    checkpoint.save_encoders(tmp_path / "run", {"student": encoders.build("mlp", channels=1, image_size=8, hidden=[4])})
    said = json.loads((tmp_path / "run" / "config.json").read_text())
    shutil.copy(tmp_path / "run" / "encoder.safetensors", tmp_path / "run" / "encoder-x.safetensors")
    networks = {"student": said["networks"]["student"], "/../../outside": said["networks"]["student"]}
    edited(tmp_path / "run" / "config.json", networks=networks)
    with pytest.raises(BadInput, match="is no name of a network"):
        sanslabel.load_encoder(tmp_path / "run", "/../../outside")
