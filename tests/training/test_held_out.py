"""Methods that learn from labels leave out the samples that evaluation measures."""

import json

import numpy as np
import pytest
import torch

import sanslabel
from sanslabel import checkpoint
from sanslabel.evaluation import evaluate
from sanslabel.evaluation.feature_cache import FeatureCache
from sanslabel.evaluation.labeled_split import labeled_split
from sanslabel.evaluation.protocols.knn import KNN
from sanslabel.fifths import fifths
from sanslabel.report.last_batch import images_of_last_batch
from sanslabel.run_config import FORMAT
from sanslabel.run_folder import RunFolder
from sanslabel.sources import open_source
from sanslabel.sources.held_out import measured_fifth, without_measured
from sanslabel.training.signals import Stopped

OPTIONS = {"method": "supervised", "encoder": {"name": "mlp", "hidden": [256]}, "batch": 40, "epochs": 60, "lr": 1e-2}
ONE_DRAW = {"protocols": (KNN(draws=1),), "baselines": False}


@pytest.fixture(scope="module")
def noise(tmp_path_factory):
    """120 pictures of noise, the last 20 without a label, the others with labels that nothing in the pictures tells."""
    generator = np.random.default_rng(0)
    labels = np.concatenate([np.arange(100) % 2, np.full(20, -1)])
    path = tmp_path_factory.mktemp("data") / "noise.npz"
    np.savez(path, images=generator.integers(0, 256, (120, 8, 8), dtype=np.uint8), labels=labels)
    return path


@pytest.fixture(scope="module")
def trained(noise, tmp_path_factory):
    return sanslabel.train(noise, out=tmp_path_factory.mktemp("held-out") / "run", **OPTIONS)


def names(source) -> set[str]:
    return {source.id(row) for row in range(len(source))}


def measured(run, data, seed=0):
    """Returns the split that evaluation measures."""
    options = {"reads": run.encoder().reads, "device": torch.device("cpu"), "dtype": torch.float32, "workers": 0}
    return labeled_split(data, seed, options, FeatureCache(None), run.plan)


def test_what_is_measured_was_not_trained_on(trained, noise):
    plan = trained.plan
    assert (plan.samples, plan.held_out) == (100, 20)
    assert plan.remarks == ("20 labeled samples, a fifth, are not trained on, since evaluation measures them.",)
    source = trained.source("train")
    assert source.fingerprint == plan.fingerprint
    for seed in (0, 7):
        split = measured(trained, noise, seed)
        assert names(source).isdisjoint(names(split.test))
        assert len(split.test) == 20
        assert names(source) | names(split.test) == names(open_source(noise))
    assert (source.labels < 0).sum() == 20, "samples without a label stay"


def test_labels_that_nothing_tells_are_predicted_by_chance(trained):
    """The network learns many of the 80 by heart, and so it did with all 100 when none were left out."""
    assert trained.lines()[-1]["accuracy"] > 0.75
    for seed in (0, 3):
        score = evaluate(trained.path, seed=seed, **ONE_DRAW)[0]
        assert score.value < 70
        assert (score.n_train, score.n_test, score.trained_on) == (80, 20, "")


def test_resumed_it_leaves_out_the_same(noise, trained, tmp_path, interrupted):
    with interrupted(5), pytest.raises((KeyboardInterrupt, Stopped)):
        sanslabel.train(noise, out=tmp_path / "run", **OPTIONS)
    resumed = sanslabel.resume(tmp_path / "run")
    states = [checkpoint.read_tensors(run.encoder_file()) for run in (trained, resumed)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert images_of_last_batch(resumed), "the report draws its views again"


def test_a_labeled_test_split_is_what_is_measured(tmp_path):
    source = open_source("digits")
    assert without_measured(source, "digits") is source
    unlabeled = np.zeros((4, 8, 8), np.uint8)
    np.save(tmp_path / "unlabeled.npy", unlabeled)
    source = open_source(tmp_path / "unlabeled.npy")
    assert without_measured(source, tmp_path / "unlabeled.npy") is source


def test_the_fifth_is_that_of_the_labeled_samples(noise):
    source = open_source(noise)
    fifth = measured_fifth(source, 4)
    assert torch.equal(fifth[:100], fifths(source.labels[:100], 4) == 0)
    assert not fifth[100:].any()


def test_runs_that_were_trained_on_all_say_so(trained, noise, tmp_path):
    """Runs of earlier versions with labels, and runs without labels, which leave nothing out."""
    whole = open_source(noise).fingerprint
    plan = checkpoint.read_json(trained.path / "run.json", FORMAT)
    for method, how in (("supervised", "with labels"), ("simclr", "without labels"), ("mine", "without labels")):
        run = tmp_path / method
        checkpoint.save_encoders(run, {"student": trained.encoder()})
        old = {**plan, "method": method, "fingerprint": whole, "samples": 120}
        del old["held_out"]
        checkpoint.write_json(run / "run.json", old, FORMAT)
        scores = evaluate(run, **ONE_DRAW)
        assert {score.trained_on for score in scores} == {how}
        content = json.loads((run / "evaluation" / "noise.json").read_text())
        assert content["scores"][0]["trained_on"] == how
        (file,) = RunFolder.open(run).scores
        assert file.scores == tuple(scores)
        assert evaluate(run, data="digits", **ONE_DRAW)[0].trained_on == ""
