"""From a run folder to scores and a JSON file."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from sanslabel import checkpoint, encoders, run_config
from sanslabel.errors import BadInput
from sanslabel.evaluation import Unlabeled, evaluate, represent, settle_, subjects
from sanslabel.evaluation.feature_cache import FeatureCache
from sanslabel.evaluation.labeled_split import EvaluationSplit
from sanslabel.evaluation.protocols import invariance
from sanslabel.evaluation.protocols.finetune import Finetune
from sanslabel.evaluation.protocols.knn import KNN
from sanslabel.evaluation.protocols.linear import Linear
from sanslabel.evaluation.protocols.transfer import Transfer
from sanslabel.randomness import fold
from sanslabel.scores import LARGEST_CLASS, read_scores
from sanslabel.sources import open_source
from sanslabel.usefulness import usefulness

ONE_DRAW, TWO_DRAWS = (KNN(draws=1),), (KNN(draws=2),)


@pytest.fixture
def arrays(tmp_path):
    """Writes 60 rows of digits, with labels as asked, and says where."""

    def write(labels, name="few"):
        images = open_source("digits").images[:60, 0].numpy()
        path = tmp_path / f"{name}.npz"
        np.savez(path, images=images, labels=np.asarray(labels))
        return path

    return write


def test_scores_of_pixels_random_and_trained(run):
    sentences = []
    measured = evaluate(run, protocols=(KNN(draws=2), Linear(draws=2)), report=sentences.append)
    assert list(dict.fromkeys(s.representation for s in measured)) == [
        "pixels",
        "random encoder",
        "trained encoder (student)",
        LARGEST_CLASS,
    ]
    values = {(s.representation, s.protocol, s.labels_per_class): s.value for s in measured}
    assert values["pixels", "knn", None] > 95
    assert values["random encoder", "linear", None] > 85
    assert sentences[0] == "Representing 1,438 + 359 images of digits"


def test_the_file_says_what_was_done(run):
    (run / "evaluation" / "digits.json").unlink(missing_ok=True)
    measured = evaluate(run, protocols=(KNN(draws=2),), seed=5)
    content = json.loads((run / "evaluation" / "digits.json").read_text())
    assert content["format"] == 1
    assert content["data"] == "digits"
    assert content["split"] == "test split"
    assert {s["seed"] for s in content["scores"]} == {5}
    assert content["precision"] == "float32"
    assert content["encoder"] == {
        "network": "student",
        "sha256": checkpoint.sha256(run / "encoder.safetensors"),
    }
    assert content["fingerprints"] == {split: open_source("digits", split).fingerprint for split in ("train", "test")}
    assert [s["value"] for s in content["scores"]] == [s.value for s in measured]

    assert content["scores"][0]["settings"] == {"k": 20, "temperature": 0.07}
    assert [p.name for p in (run / "evaluation").iterdir()] == ["digits.json"]


def test_gains_are_written_and_read_and_earlier_files_have_none(quick_run):
    measured = evaluate(quick_run, protocols=ONE_DRAW)
    trained = measured[4]
    assert [gain.over for gain in trained.gains] == ["random encoder", "pixels"]
    file = quick_run / "evaluation" / "digits.json"
    assert list(read_scores(file).scores) == measured
    content = json.loads(file.read_text())
    assert content.pop("usefulness") == usefulness(measured) != ""
    for score in content["scores"]:
        score.pop("gains", None)
    file.write_text(json.dumps(content))
    assert list(read_scores(file).scores) == [replace(score, gains=()) for score in measured]
    content["scores"][0]["gains"] = [{"over": "pixels", "value": "many", "low": 0, "high": 1}]
    file.write_text(json.dumps(content))
    with pytest.raises(BadInput, match="value of Gain"):
        read_scores(file)


def test_the_start_is_the_weights_that_the_run_was_given(quick_run, tmp_path, write_run):
    torch.manual_seed(1)
    given = encoders.build("mlp", channels=1, image_size=8, hidden=[64, 48, 32])
    source = write_run(tmp_path / "given", {"student": given}) / "encoder.safetensors"
    plan = checkpoint.read_json(quick_run / "run.json", run_config.FORMAT)
    weights = {"kind": "GivenNetwork", "path": str(source), "sha256": checkpoint.sha256(source), "license": None}
    checkpoint.write_json(quick_run / "run.json", {**plan, "weights": weights}, run_config.FORMAT)
    measured = evaluate(quick_run, protocols=ONE_DRAW)
    values = {s.representation: s.value for s in measured if s.labels_per_class is None}
    assert list(values) == ["pixels", "given weights", "trained encoder (student)", LARGEST_CLASS]
    assert [gain.over for gain in measured[4].gains] == ["given weights", "pixels"]
    alone = evaluate(tmp_path / "given", protocols=ONE_DRAW, baselines=False)
    assert values["given weights"] == alone[0].value
    source.unlink()
    with pytest.warns(UserWarning, match="The encoder's start is not measured: .*encoder.safetensors"):
        without = evaluate(quick_run, protocols=ONE_DRAW)
    assert [gain.over for gain in without[2].gains] == ["pixels"]


def test_other_settings_stand_beside_and_the_same_ones_in_place(run):
    file = run / "evaluation" / "digits.json"
    file.unlink(missing_ok=True)
    for k in (5, 7, 5):
        evaluate(run, protocols=(KNN(k=k, draws=1),), baselines=False)
    scores = json.loads(file.read_text())["scores"]
    assert sorted(score["settings"]["k"] for score in scores) == [5, 5, 7, 7]
    assert [f.name for f in file.parent.iterdir()] == ["digits.json"]


def test_other_data_of_the_same_name_get_a_file_of_their_own(run, tmp_path):
    images = open_source("digits", "all")
    for name, index in {"one": slice(0, 400), "two": slice(400, 800)}.items():
        (tmp_path / name).mkdir()
        np.savez(
            tmp_path / name / "same.npz", images=images.images[index, 0].numpy(), labels=images.labels[index].numpy()
        )
        evaluate(run, data=tmp_path / name / "same.npz", protocols=ONE_DRAW, baselines=False)
    assert len(list((run / "evaluation").glob("same*.json"))) == 2
    for file in (run / "evaluation").glob("same*.json"):
        file.unlink()


def test_the_encoder_computes_in_the_precision_that_it_was_trained_in(quick_run):
    plan = checkpoint.read_json(quick_run / "run.json", run_config.FORMAT)
    exact = evaluate(quick_run, protocols=(Linear(draws=1),))
    checkpoint.write_json(quick_run / "run.json", plan | {"precision": "bfloat16"}, run_config.FORMAT)
    short = evaluate(quick_run, protocols=(Linear(draws=1),))
    assert json.loads((quick_run / "evaluation" / "digits.json").read_text())["precision"] == "bfloat16"
    trained = [next(s for s in measured if "trained" in s.representation) for measured in (exact, short)]
    assert trained[0].settings != trained[1].settings  # cross-entropies differ in their last digits
    assert trained[0].value == pytest.approx(trained[1].value, abs=1)


def test_evaluation_repeats_and_leaves_the_global_generator_alone(run):
    state = torch.get_rng_state()
    first = evaluate(run, protocols=TWO_DRAWS)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(99)
    assert evaluate(run, protocols=TWO_DRAWS, cache=False) == first


def test_another_network_and_no_baselines(run):
    student = evaluate(run, protocols=("knn",), baselines=False)
    teacher = evaluate(run, protocols=("knn",), baselines=False, network="teacher")
    assert {s.representation for s in teacher} == {"trained encoder (teacher)"}
    assert [s.value for s in teacher] != [s.value for s in student]
    assert sorted(p.name for p in (run / "evaluation").iterdir()) == ["digits-teacher.json", "digits.json"]


def test_the_random_encoder_has_settled_statistics_and_weights_of_the_seed(run, monkeypatch):
    """Its features are those of the same steps by hand, on the training split."""
    features = {}
    measure = KNN.measure
    monkeypatch.setattr(KNN, "measure", lambda self, c: features.update(c.features) or measure(self, c))
    evaluate(run, protocols=ONE_DRAW, seed=2)
    source = open_source("digits")
    options = {"reads": source.image, "device": torch.device("cpu")}
    torch.manual_seed(fold(2, 4))
    encoder = encoders.build(**checkpoint.read_json(run / "config.json")["networks"]["student"])
    raw, _ = represent({"random": encoder}, source, **options)
    settle_(encoder, source, **options)
    settled, _ = represent({"random": encoder}, source, **options)
    assert torch.allclose(features["random encoder"].train, settled["random"], atol=1e-4)
    assert not torch.allclose(features["random encoder"].train, raw["random"], atol=0.1)


def test_pixels_and_random_weights_come_from_the_same_configuration(run, monkeypatch):
    """A random encoder is built with the trained one's configuration and a seed of its own."""
    built = []
    build = encoders.build
    monkeypatch.setattr(encoders, "build", lambda **config: built.append(config) or build(**config))
    evaluate(run, protocols=("knn",))
    assert built[0] == built[1]


def test_data_without_a_test_split_are_divided(run, arrays):
    labels = np.arange(60) % 3
    measured = evaluate(run, data=arrays(labels), protocols=TWO_DRAWS)
    assert {(s.n_train, s.n_test) for s in measured if s.labels_per_class is None} == {(48, 12)}
    assert measured[0].split == "a fifth of the labeled images"
    assert (run / "evaluation" / "few.json").is_file()


def test_rows_without_a_label_are_left_out(run, arrays):
    labels = np.where(np.arange(60) < 40, np.arange(60) % 2, -1)
    measured = evaluate(run, data=arrays(labels), protocols=TWO_DRAWS)
    assert (measured[0].n_train, measured[0].n_test) == (32, 8)


def test_scores_of_an_earlier_version_are_kept(run):
    evaluate(run, protocols=ONE_DRAW)
    path = run / "evaluation" / "digits.json"
    content = json.loads(path.read_text())
    for score in content["scores"]:
        del score["metric"], score["stage"]  # which came later
    path.write_text(json.dumps(content))
    count = len(content["scores"])
    evaluate(run, protocols=("cluster",), baselines=False)
    both = json.loads(path.read_text())["scores"]
    assert both[:count] == content["scores"]
    assert [score["protocol"] for score in both[count:]] == ["cluster"] * 3
    evaluate(run, protocols=ONE_DRAW)
    assert len(json.loads(path.read_text())["scores"]) == count + 3, "measured again, not twice"


def test_a_folder_of_classes(run, tmp_path):
    images = open_source("digits")
    for row in range(40):
        place = tmp_path / "folder" / f"class{int(images.labels[row])}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(images.images[row, 0].numpy()).save(place / f"{row}.png")
    measured = evaluate(run, data=tmp_path / "folder", protocols=TWO_DRAWS)
    assert measured[0].n_train + measured[0].n_test == 40


def test_large_images_pixels_are_reduced(run, monkeypatch):
    monkeypatch.setattr(subjects, "PIXELS", 63)
    measured = evaluate(run, protocols=ONE_DRAW)
    assert measured[0].representation == "pixels, reduced to 32x32"


def test_a_plain_vote_can_be_written(run):
    evaluate(run, protocols=(KNN(temperature=math.inf, draws=1),), baselines=False)
    content = json.loads((run / "evaluation" / "digits.json").read_text())
    assert content["scores"][0]["settings"]["temperature"] is None


def test_features_are_computed_once(run, monkeypatch):
    first = evaluate(run, protocols=ONE_DRAW)
    assert len(list((run / "features").iterdir())) == 4, "of two encoders on two splits"
    with monkeypatch.context() as patch:
        forbid = pytest.fail
        patch.setattr(type(encoders.build("conv", channels=1, image_size=8)), "stages", lambda *_: forbid("computed"))
        patch.setattr(subjects, "settle_", lambda *_, **__: None)
        kept = evaluate(run, protocols=ONE_DRAW, baselines=False)
    assert kept == [replace(score, gains=()) for score in first if score.representation.startswith("trained")]


def test_features_of_other_weights_or_other_data_are_others(run, arrays):
    count = lambda: len(list((run / "features").iterdir()))  # noqa: E731
    alone = {"protocols": (KNN(draws=1, labels_per_class=1),), "baselines": False}
    evaluate(run, **alone)
    evaluate(run, network="teacher", **alone)
    assert count() == 4
    evaluate(run, data=arrays(np.arange(60) % 2), **alone)
    assert count() == 6
    broken = next(iter((run / "features").iterdir()))
    broken.write_bytes(b"?")
    assert evaluate(run, **alone) == evaluate(run, **alone, cache=False)
    assert count() == 6


def test_features_of_another_stage_are_others(run):
    alone = {"protocols": ONE_DRAW, "baselines": False}
    first, second = (evaluate(run, stage=stage, **alone) for stage in (1, 2))
    assert first == evaluate(run, stage=1, cache=False, **alone)
    assert second == evaluate(run, stage=2, cache=False, **alone)
    assert [s.value for s in first] != [s.value for s in second]


def test_features_of_other_readable_rows_are_read_again(run, monkeypatch):
    """One image could not be read when the first encoder was represented."""
    source = open_source("digits", "train")
    options = {"reads": source.image, "device": torch.device("cpu"), "dtype": torch.float32}
    cache = FeatureCache(run / "features")
    index = EvaluationSplit("digits", source, source, "all", options, cache)
    one, two = (checkpoint.load_encoder(run, name) for name in ("student", "teacher"))
    features, measured = represent({"": one}, source, **options)
    cache.save(cache.file(one, source, options), features[""][1:], measured[1:])
    both, read = index.features({"one": one, "two": two}, source)
    assert torch.equal(read, torch.arange(len(source)))
    assert torch.equal(both["one"], features[""])
    assert len(both["two"]) == len(source)


def test_a_disk_that_refuses_the_features_is_no_reason_to_stop(run):
    (run / "features").write_text("no folder")
    with pytest.warns(UserWarning, match="Features are not kept"):
        measured = evaluate(run, protocols=ONE_DRAW, baselines=False)
    assert measured


def test_what_was_measured_before_an_error_is_kept(run, monkeypatch):
    def fails(*_, **__):
        raise BadInput("it did not work")

    monkeypatch.setattr(invariance, "mean_cosines", fails)
    with pytest.raises(BadInput, match="it did not work"):
        evaluate(run, protocols=(*ONE_DRAW, "invariance"))
    content = json.loads((run / "evaluation" / "digits.json").read_text())
    assert {score["protocol"] for score in content["scores"]} == {"knn"}


def test_a_figure_that_is_no_number_is_null(run, monkeypatch):
    monkeypatch.setattr(invariance, "mean_cosines", lambda *_, **__: (9, {"pixels": {"unrelated": math.nan}}))
    evaluate(run, protocols=("invariance",))
    content = json.loads((run / "evaluation" / "digits.json").read_text())
    assert [score["value"] for score in content["scores"]] == [None]


def test_an_exported_encoder_needs_no_run(run):
    known = evaluate(run, protocols=ONE_DRAW)
    (run / "run.json").unlink()
    with pytest.raises(BadInput, match=r"no run.json\); name labeled data with `data`"):
        evaluate(run, protocols=ONE_DRAW)
    assert evaluate(run, data="digits", protocols=ONE_DRAW) == known


def test_the_same_encoder_is_probed_on_another_set(quick_run, arrays):
    other = arrays(np.arange(60) % 2)
    measured = evaluate(quick_run, protocols=(Linear(draws=1), Transfer(data=str(other))))
    second = [score for score in measured if score.protocol == "transfer"]
    assert [score.representation for score in second] == [
        "random encoder",
        "trained encoder (student)",
        LARGEST_CLASS,
    ]
    assert {score.settings["data"] for score in second} == {str(other)}
    assert {score.n_train + score.n_test for score in second} == {60}
    direct = evaluate(quick_run, data=other, protocols=(Linear(draws=1, labels_per_class=1),))
    assert second[1].value == next(s.value for s in direct if s.representation.startswith("trained"))
    content = json.loads((quick_run / "evaluation" / "digits.json").read_text())["scores"]
    assert [score["settings"].get("data") for score in content if score["protocol"] == "transfer"] == [str(other)] * 3


def test_fine_tuning_goes_beyond_the_probe_and_leaves_the_encoder(quick_run):
    run = quick_run
    before = checkpoint.load_encoder(run).state_dict()
    how = Finetune(steps=100, flip=0.0)  # digits have no mirror images
    measured = evaluate(run, protocols=(Linear(draws=1), how))
    probed = [s.value for s in measured if s.protocol == "linear" and "encoder" in s.representation]
    tuned = [s for s in measured if s.protocol == "finetune"]
    assert [s.representation for s in tuned] == ["random encoder", "trained encoder (student)"]
    assert all(after.value > with_all for after, with_all in zip(tuned, probed[::2], strict=True))
    assert tuned[0].settings["steps"] == 100
    after = checkpoint.load_encoder(run).state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    short = Finetune(steps=20)
    again = [s for s in evaluate(run, protocols=(Linear(draws=1), short)) if s.protocol == "finetune"]
    assert evaluate(run, protocols=(short,)) == again, "it repeats"


def test_a_second_set_must_be_named(run):
    with pytest.raises(BadInput, match=r"needs a second labeled set; name it with `transfer.data`"):
        evaluate(run, protocols=("transfer",))


def test_a_second_set_that_does_not_go_is_refused_before_the_work(run, tmp_path):
    np.savez(tmp_path / "two.npz", images=np.zeros((9, 2, 8, 8), np.uint8), labels=np.arange(9) % 2)
    sentences = []
    with pytest.raises(BadInput, match="the run needs 1 channels, and these images have 2"):
        evaluate(run, protocols=("knn", Transfer(data=str(tmp_path / "two.npz"))), report=sentences.append)
    assert not sentences


def test_more_neighbors_than_rows(run, arrays):
    data = arrays(np.arange(60) % 2)
    with pytest.raises(BadInput, match=r"knn.k=49: .* has 48 images to fit on; give at most as many"):
        evaluate(run, data=data, protocols=(KNN(k=49),))
    measured = evaluate(run, data=arrays(np.arange(60) % 2, "other"), protocols=ONE_DRAW, baselines=False)
    assert measured[0].settings["k"] == 20


def test_data_without_labels(run, arrays):
    with pytest.raises(Unlabeled, match=r"few.npz has no labels, .* `data`"):
        evaluate(run, data=arrays(np.full(60, -1)))
    with pytest.raises(Unlabeled, match="labels of a single class"):
        evaluate(run, data=arrays(np.zeros(60, dtype=int)))
    assert not (run / "evaluation").exists()


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"protocols": ("kn",)}, "`protocols`: there is no protocol 'kn'; did you mean knn?"),
        ({"protocols": ()}, "`protocols`: name at least one"),
        ({"device": "abacus"}, "device='abacus'"),
        ({"protocols": ("finetune",), "stage": 1}, "trains the full encoder; leave out `stage` and `tokens`"),
        ({"network": "critic"}, "has no network 'critic'"),
        ({"data": "nowhere"}, "nowhere"),
    ],
)
def test_bad_input_is_told_in_a_sentence(run, wrong, sentence):
    with pytest.raises(BadInput) as error:
        evaluate(run, **wrong)
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"k": 0}, "knn.k=0: must be 1 or more"),
        ({"labels_per_class": 0}, "knn.labels_per_class=0"),
        ({"draws": -1}, "knn.draws=-1"),
        ({"temperature": 0.0}, "knn.temperature=0.0: must be above 0."),
        ({"temperature": math.nan}, "knn.temperature=nan"),
        ({"temperature": -math.inf}, "knn.temperature=-inf"),
    ],
)
def test_settings_that_cannot_be_are_told_in_a_sentence(settings, sentence):
    with pytest.raises(BadInput) as error:
        KNN(**settings)
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


def test_a_folder_that_is_no_run(tmp_path):
    with pytest.raises(BadInput, match="no trained encoder here"):
        evaluate(tmp_path)


def test_an_encoder_trained_on_patches_is_read_both_ways(tmp_path, write_run):
    torch.manual_seed(0)
    encoder = encoders.build("conv", channels=1, image_size=8)
    encoder.read_patches_(4, 4)
    write_run(tmp_path, {"student": encoder})
    measured = evaluate(tmp_path, protocols=ONE_DRAW)
    values = {s.representation: s.value for s in measured if s.labels_per_class is None}
    readings = [f"{name}, {how}" for name in ("random encoder", "trained encoder (student)") for how in READINGS]
    assert list(values) == ["pixels", *readings, LARGEST_CLASS]
    assert len(set(values.values())) == 6
    gains = {s.representation: [gain.over for gain in s.gains] for s in measured if s.gains}
    assert gains == {trained: [random, "pixels"] for random, trained in zip(readings[:2], readings[2:], strict=True)}

    source = open_source("digits", "train")
    encoder.patches = None  # whole images, by hand
    settle_(encoder, source, reads=source.image, device=torch.device("cpu"))
    features, _ = represent({"whole": encoder}, source, reads=source.image, device=torch.device("cpu"))
    options = {"reads": source.image, "device": torch.device("cpu")}
    _, full = subjects.readouts({"x": checkpoint.load_encoder(tmp_path)}, source, options, None, None).values()
    again, _ = represent({"whole": full}, source, reads=source.image, device=torch.device("cpu"))
    assert torch.equal(features["whole"], again["whole"])


READINGS = ("mean over patches", "whole images")
