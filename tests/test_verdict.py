"""Planted failures are named, and healthy runs are left alone."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import sanslabel
from sanslabel import methods, views
from sanslabel.cli import main
from sanslabel.errors import Collapsed, CollapseWarning
from sanslabel.methods.byol import BYOL
from sanslabel.methods.dcgan import DCGAN
from sanslabel.methods.ebgan import EBGAN
from sanslabel.methods.method import Networks
from sanslabel.methods.simclr import SimCLR
from sanslabel.verdict import DOUBTS, SIGNS, WINDOW, verdict

STEPS = 100
RUNS = json.loads((Path(__file__).parent / "verdict_runs.json").read_text())
"""run -> its verdict, and the lines of metrics.jsonl that the verdict reads"""


class SharedTeacher(BYOL):
    """Its teacher is made of the student's own modules."""

    def networks(self, encoder, facts):
        net = super().networks(encoder, facts)
        net.teacher = Networks(encoder=net.encoder, projector=net.projector)
        return net


class Halved(nn.Module):
    """Half of the columns of what another module gives, and zeros."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, h):
        z = self.inner(h)
        return z * (torch.arange(z.shape[1]) % 2)


class HalfDead(SimCLR):
    def networks(self, encoder, facts):
        net = super().networks(encoder, facts)
        net.projector = Halved(net.projector)
        return net


class OneImage(DCGAN):
    def decode(self, net, codes):
        return super().decode(net, codes[:1].expand_as(codes))


class OneImageByEnergy(EBGAN):
    def decode(self, net, codes):
        return super().decode(net, codes[:1].expand_as(codes))


def small(method: str, **hyperparameters):
    chosen = methods.method_class(method)
    return replace(chosen.under(chosen.small), **hyperparameters)


def narrow(method: str, **hyperparameters):
    """As `small`, with heads and crops that take a fraction of the time."""
    return small(method, **NARROW[method], **hyperparameters)


def two_crops(method: str):
    """The views of a method with global crops alone."""
    return replace(small(method).view, local_crops=0)


NARROW = {
    "byol": {"hidden": 256, "width": 64},
    "swav": {"hidden": 128, "view": two_crops("swav")},
    "dino": {"hidden": 128, "view": two_crops("dino")},
    "moco": {"hidden": 128, "width": 64, "queue": 1024},
    "vicreg": {"width": 256},
}
PERCEPTRON = {"encoder": {"name": "mlp", "hidden": [128, 64]}}
"""an encoder that takes a fraction of the time, for failures that have nothing to do with it"""


def at_rate(method: str, factor: float) -> dict:
    """The small recipe with its rates times a factor."""
    recipe = methods.method_class(method).small
    optimizers = {player: replace(o, lr=factor * o.lr) for player, o in recipe.optimizers.items()}
    return {"method": small(method, **NARROW.get(method, {})), "recipe": replace(recipe, optimizer=optimizers)}


def blank(each: bool) -> np.ndarray:
    """Images of one gray, the same for all or one for each."""
    grays = np.arange(600, dtype=np.uint8) if each else np.full(600, 128, np.uint8)
    return np.broadcast_to(grays[:, None, None], (600, 8, 8))


PLANTED = {
    "no stop-gradient": ("complete collapse", {"method": small("simsiam", stop_gradient=False), **PERCEPTRON}),
    "shared teacher": ("shared teacher", {"method": SharedTeacher(**NARROW["byol"]), **PERCEPTRON}),
    "SwAV without Sinkhorn": ("one prototype", {"method": narrow("swav", codes="softmax")}),
    "DINO without centering": ("one prototype", {"method": narrow("dino", centering=False)}),
    "DINO without sharpening": (
        "uniform teacher",
        {"method": narrow("dino", first_teacher_temperature=1.0, teacher_temperature=1.0)},
    ),
    "temperature too low": ("temperature too low", {"method": small("simclr", temperature=1e-3), **PERCEPTRON}),
    "temperature too low for a queue": (
        "temperature too low",
        {"method": narrow("moco", temperature=1e-3), **PERCEPTRON},
    ),
    "temperature too high": ("temperature too high", {"method": small("simclr", temperature=100.0), **PERCEPTRON}),
    "temperature too high for a queue": (
        "temperature too high",
        {"method": narrow("moco", temperature=100.0), **PERCEPTRON},
    ),
    "both views identical": ("identical views", {"method": small("simclr", view=views.WHOLE), **PERCEPTRON}),
    "both views identical, no negatives": (
        "identical views",
        {"method": narrow("byol", view=views.WHOLE), **PERCEPTRON},
    ),
    "one image": ("constant images", {"method": small("simclr"), "data": blank(False), **PERCEPTRON}),
    "images of one color": ("constant images", {"method": small("vae"), "data": blank(True)}),
    "rate 0": ("learning rate 0", at_rate("simclr", 0.0) | PERCEPTRON),
    "rate 0 of two players": ("learning rate 0", at_rate("dcgan", 0.0)),
    "rate far too high": ("learning rate too high", at_rate("simclr", 1000.0) | PERCEPTRON),
    "rate far too high without negatives": ("learning rate too high", at_rate("byol", 1000.0) | PERCEPTRON),
    "rate of almost nothing": ("not learning", at_rate("vicreg", 1e-9) | PERCEPTRON),
    "VAE with β = 100": ("posterior collapse", {"method": small("vae", beta=100.0)}),
    "a generator of one image": ("mode collapse", {"method": OneImage(**DCGAN.small.hyperparameters)}),
    "a generator of one image, by energy": (
        "mode collapse",
        {"method": OneImageByEnergy(**EBGAN.small.hyperparameters)},
    ),
    "half of the embedding": ("dead dimensions", {"method": HalfDead(**SimCLR.small.hyperparameters), **PERCEPTRON}),
}


def trained(tmp_path, **options):
    """A run of a hundred steps or some more."""
    data = options.pop("data", "digits")
    if not isinstance(data, str):
        np.save(tmp_path / "images.npy", data)
        data = tmp_path / "images.npy"
    per_epoch = (600 if data != "digits" else 1438) // 64
    epochs = -(-STEPS // per_epoch) + (options["method"].__class__.__name__ in {"NPID", "PIRL", "DeepCluster"})
    return sanslabel.train(data, batch=64, epochs=epochs, precision="float32", out=tmp_path / "run", **options)


@pytest.mark.parametrize("failure", PLANTED)
def test_a_planted_failure_is_named_within_a_hundred_steps(failure, tmp_path):
    name, options = PLANTED[failure]
    with pytest.warns(CollapseWarning):
        run = trained(tmp_path, **options)
    lines = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    verdicts = [verdict(lines[: i + 1]) for i, line in enumerate(lines) if line["step"] <= STEPS]
    assert next(v.name for v in verdicts if v.failed) == name
    assert verdicts[-1].failed
    assert run.verdict().failed


HEALTHY = ("autoencoder", "byol", "dcgan", "deepcluster", "ebgan", "moco", "npid", "relative_position", "rotation")
HEALTHY += ("simclr", "simsiam", "vae")


@pytest.mark.parametrize("method", HEALTHY)
def test_a_healthy_run_raises_no_alarm(method, tmp_path):
    assert trained(tmp_path, method=small(method)).verdict().name == "healthy"  # and a warning would be an error


def test_prototypes_that_a_batch_cannot_fill_are_found(tmp_path):
    """SwAV has 200 of them, and stays at ln 200."""
    with pytest.warns(CollapseWarning, match="raise `lr` or `batch`"):
        assert trained(tmp_path, method=small("swav")).verdict().name == "loss at its trivial value"


SHORT = ["train", "simclr", "--data", "images.npy", "--batch", "64", "--out", "run", "--no-evaluate"]


def test_a_run_can_be_stopped_by_its_verdict(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("images.npy", blank(False))
    with pytest.raises(SystemExit) as stop:
        main([*SHORT, "--epochs", "20", "--on-collapse", "stop"])
    assert stop.value.code == 5
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("sanslabel: error: run: stopped after step 50. Constant images: all images of a batch")
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-00000050"]
    with pytest.raises(Collapsed):
        sanslabel.resume("run", on_collapse="stop")


@pytest.mark.filterwarnings("always::sanslabel.errors.CollapseWarning")
def test_a_run_that_goes_on_warns_once_and_shows_its_verdict_at_the_end(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("images.npy", blank(False))
    with pytest.raises(SystemExit) as stop:
        main([*SHORT, "--epochs", "12"])
    assert stop.value.code == 0
    output = capsys.readouterr()
    assert output.err.count("Constant images") == 1
    assert "\nConstant images: all images of a batch are the same" in output.out


def lines(count=WINDOW, **figures):
    return [{"step": 10 * (i + 1), "loss": 1.0, **figures} for i in range(count)]


def test_a_verdict_needs_five_lines_with_the_same_sign():
    assert verdict([]).name == "too early"
    assert verdict(lines(WINDOW - 1, learning_rate=0.0)).name == "too early"
    assert verdict(lines(learning_rate=0.0)).name == "learning rate 0"
    assert verdict([*lines(learning_rate=0.0), *lines(1, learning_rate=0.1)]).name == "healthy"


def test_epochs_that_only_fill_a_memory_do_not_count():
    filling = [{"step": 10 * i, "learning_rate": 0.0} for i in range(20)]
    assert verdict(filling).name == "too early"
    assert verdict([*filling, *lines(embedding_std=0.01, mean_cosine=1.0)]).name == "complete collapse"


def test_long_healthy_trainings_may_go_where_short_ones_do_not():
    grown = [{"step": 20_000 + 10 * i, "loss": 1.0, "weight_growth": 21.0} for i in range(WINDOW)]
    assert verdict(grown).name == "healthy", "LARS makes normalized weights grow"
    assert verdict(lines(hardest_tenth=0.93)).name == "healthy", "the hardest tenth is of the own class"
    assert verdict(lines(dead_dimensions=0.4)).name == "healthy", "a code leaves dimensions out"
    assert verdict(lines(effective_rank=3.0, full_rank=256)).name == "healthy", "a classifier of four classes"


def test_a_hinge_that_is_satisfied_is_no_lack_of_a_gradient():
    assert verdict(lines(loss=0.0, gradient_norm=0.0)).name == "healthy"
    assert verdict(lines(loss=0.1, gradient_norm=0.0)).name == "not learning"


def test_a_trivial_loss_of_0_is_found():
    assert verdict(lines(loss=1e-4, trivial=0.0)).name == "loss at its trivial value"
    assert verdict(lines(loss=0.1, trivial=0.0)).name == "healthy"


def test_a_cause_comes_before_what_it_brings_about():
    figures = {"embedding_std": 0.0, "mean_cosine": 1.0, "learning_rate": 0.1, "image_variation": 0.0}
    assert verdict(lines(**figures)).name == "constant images"


def test_figures_of_a_player_are_found():
    history = [{"step": 10 * i, "critic/loss": 1.0, "critic/sample_variation": 0.01} for i in range(WINDOW)]
    assert verdict(history).name == "mode collapse"


def test_a_value_that_is_not_a_number_does_not_count():
    assert verdict(lines(embedding_std=None)).name == "healthy"
    assert verdict(lines(embedding_std=0.0, mean_cosine=None)).name == "complete collapse"
    assert verdict(lines(effective_rank=2.0, alignment=1.0)).name == "healthy", "an earlier version had no full_rank"
    assert verdict(lines(refused=True)).name == "not finite"


ALONE = {
    "not finite": {"refused": True},
    "constant images": {"image_contrast": 0.0},
    "silence": {"loudness": -75.0},
    "identical views": {"view_difference": 0.0},
    "learning rate 0": {"learning_rate": 0.0},
    "learning rate too high": {"weight_growth": 30.0},
    "shared teacher": {"shared_teacher": True},
    "temperature too high": {"hardest_tenth": 0.101},
    "temperature too low": {"hardest_tenth": 0.99},
    "one prototype": {"usage": 1.2},
    "uniform teacher": {"teacher_entropy": 6.93, "trivial": 6.9315},
    "posterior collapse": {"active_units": 0.0},
    "mode collapse": {"critic/sample_variation": 0.01},
    "dead dimensions": {"dead_dimensions": 0.5, "alignment": 1.0},
    "complete collapse": {"embedding_std": 0.02, "mean_cosine": 0.999},
    "dimensional collapse": {"effective_rank": 2.0, "full_rank": 256, "alignment": 1.0},
    "constant frames": {"frame_difference": 0.001, "trivial": 1.0},
    "loss at its trivial value": {"trivial": 1.0},
    "not learning": {"gradient_norm": 0.0},
}


@pytest.mark.parametrize("name", SIGNS)
def test_a_sign_alone_has_its_name_a_cause_and_a_remedy(name):
    found = verdict(lines(**ALONE[name]))
    assert found.name == name
    assert found.failed
    assert found.sentence.startswith(f"{name.capitalize()}: ")
    assert found.sentence.count(";") == 1, "the remedy comes after a semicolon"
    assert found.sentence.endswith(".")


DOUBTFUL = {
    "tiny batch": {"negatives": 2, "hardest_tenth": 1.0, "trivial": 1.1},
    "partner is the sample": {"partner_itself": 1.0, "alignment": 1.0},
    "constant frames": {"frame_difference": 0.001, "alignment": 1.0},
    "unrelated pairs": {"pair_auroc": 0.51, "alignment": 1.0, "partner_itself": 0.0},
    "too few steps": {"alignment": 1.0},
    "high loss": {"trivial": 0.9, "alignment": 1.0},
    "few directions": {"effective_rank": 5.2, "full_rank": 128, "participation_ratio": 1.04, "alignment": 1.0},
}


def late(**figures):
    """Lines of a run that has made 600 steps."""
    return [line | {"step": line["step"] + 550} for line in lines(**figures)]


@pytest.mark.parametrize("name", DOUBTS)
def test_a_doubt_has_its_name_a_cause_and_a_remedy_and_stops_nothing(name):
    some = lines if name == "too few steps" else late
    found = verdict(some(**DOUBTFUL[name]), ended=True)
    assert (found.name, found.level, found.failed) == (name, "doubtful", False)
    assert found.sentence.startswith(f"{name.capitalize()}: ")
    assert found.sentence.count(";") == 1, "the remedy comes after a semicolon"
    assert found.sentence.endswith(".")


def test_each_level_has_its_verdicts():
    assert verdict(late()).level == "healthy"
    assert verdict(lines(2)).level == "doubtful", "too early to say"
    assert verdict(lines(learning_rate=0.0)).level == "failed"


def test_a_problem_comes_before_a_doubt():
    assert verdict(lines(learning_rate=0.0), ended=True).name == "learning rate 0"


def test_steps_and_loss_are_judged_at_the_end():
    assert verdict(lines(trivial=0.9, alignment=1.0)).name == "healthy"
    assert verdict(lines(alignment=1.0), ended=True).sentence == (
        "Too few steps: the run ended after 50 steps, too few to learn much; raise --minutes or --epochs, "
        "or lower --batch."
    )
    assert verdict(lines(), ended=True).name == "healthy", "autoencoders learn faster"
    assert verdict(lines(4), ended=True).name == "too few steps"
    assert verdict([], ended=True).name == "too few steps"
    assert verdict(late(), ended=True).name == "healthy"


def test_a_loss_above_zero_is_not_high_where_the_lowest_is_zero():
    assert verdict(late(trivial=0.0, alignment=1.0), ended=True).name == "healthy", "BYOL"
    assert verdict(late(trivial=-1.0, alignment=1.0), ended=True).name == "healthy", "SimSiam"
    assert verdict(late(trivial=0.9), ended=True).name == "healthy", "the critic of a GAN"


def test_two_images_are_too_few_and_the_temperature_is_not_to_blame():
    two = verdict(late(hardest_tenth=1.0, negatives=2, trivial=1.0986), ended=True)
    assert two.name == "tiny batch"
    assert "only 2 others" in two.sentence
    assert "temperature" not in two.sentence
    assert verdict(late(hardest_tenth=1.0, negatives=126)).name == "temperature too low"
    assert verdict(late(hardest_tenth=1.0)).name == "temperature too low", "an earlier version logged no negatives"


@pytest.mark.parametrize("run", RUNS)
def test_runs_on_folders_of_pictures_have_the_verdict_that_they_deserve(run):
    """verdict_runs.json has the last five lines of each run, with the figures that the verdict reads."""
    kept = RUNS[run]
    found = verdict(kept["lines"], kept["ended"])
    assert (found.level, found.name) == (kept["level"], kept["name"])


def test_runs_of_every_method_are_among_them():
    """SwAV has more prototypes than a batch can fill; no doubt is cast on any other."""
    sets = ("digits: ", "bouncing: ", "numbers: ")  # the last two for methods of pictures with sound, and of texts
    kept = {run.split(": ")[1].split(",")[0]: RUNS[run]["level"] for run in RUNS if run.startswith(sets)}
    assert kept.keys() >= set(methods.names())
    assert {name for name, level in kept.items() if level != "healthy"} == {"swav"}


def test_two_pictures_are_a_tiny_batch(tmp_path):
    two = np.stack([np.eye(8, dtype=np.uint8) * 255, np.tril(np.ones((8, 8), np.uint8)) * 255])
    np.save(tmp_path / "two.npy", two)
    run = sanslabel.train(tmp_path / "two.npy", epochs=60, out=tmp_path / "run", precision="float32", **PERCEPTRON)
    assert run.verdict().name == "tiny batch"


def test_a_figure_that_is_no_number_is_no_figure():
    lines = [{"step": 10 * i, "loss": [1.0], "usage": "many", "gradient_norm": None} for i in range(1, 7)]
    assert verdict(lines).name == "healthy"
