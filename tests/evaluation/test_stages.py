"""What is read off an encoder: stages, tokens, all stages side by side."""

from io import StringIO

import pytest
import torch
from rich.console import Console

from sanslabel import encoders
from sanslabel.errors import BadInput
from sanslabel.evaluation import evaluate
from sanslabel.evaluation.protocols.knn import KNN
from sanslabel.evaluation.stages import Readout, Stages, shapes
from sanslabel.evaluation.table import tables


def built(name: str, size: int = 32, **options) -> encoders.Encoder:
    torch.manual_seed(0)
    return encoders.build(name, channels=3, image_size=size, **options).eval()


@pytest.fixture
def images(generator):
    return torch.rand(3, 3, 32, 32, generator=generator)


@pytest.mark.parametrize("name", ["conv", "resnet18", "vit_micro", "mlp", "dcgan"])
def test_the_last_stage_is_the_representation(name, images):
    encoder = built(name)
    last = len(shapes(encoder))
    for stage in (None, last):
        assert torch.equal(Readout(encoder, stage, None)(images), encoder(images))
    first = Readout(encoder, 1, None)(images)
    assert torch.equal(first, encoder.pooled(encoder.stages(images)[0]))
    with pytest.raises(BadInput, match=f"the stages 1 to {last}"):
        Readout(encoder, last + 1, None)


def test_tokens_are_the_class_token_their_mean_or_all(images):
    encoder = built("vit_micro", pool="class")
    tokens = encoder.stages(images)[-1]
    assert torch.equal(Readout(encoder, None, "class")(images), tokens[:, 0])
    assert torch.equal(Readout(encoder, None, "mean")(images), tokens[:, 1:].mean(dim=1))
    assert torch.equal(Readout(encoder, 1, "patches")(images), encoder.stages(images)[0][:, 1:].flatten(1))
    with pytest.raises(BadInput, match="has no tokens"):
        Readout(built("conv"), None, "mean")


@pytest.mark.parametrize("name", ["conv", "resnet18", "vit_micro", "mlp", "dcgan"])
def test_stages_stand_side_by_side_and_are_alike_in_size(name, images):
    encoder = built(name)
    stages = Stages(encoder)
    blocks = stages(images).split(stages.widths, dim=1)
    assert len(blocks) == len(encoder.stages(images))
    assert max(stages.widths) <= 2048 or name == "dcgan"
    for block, stage in zip(blocks, encoder.stages(images), strict=True):
        assert block.shape[0] == 3
        if stage.ndim == 4:  # averages over fields keep the mean where fields are alike
            side = int((block.shape[1] / stage.shape[1]) ** 0.5)
            assert block.shape[1] == stage.shape[1] * side**2
            if stage.shape[-1] % side == 0:
                torch.testing.assert_close(block.unflatten(1, (-1, side**2)).mean(2), stage.mean(dim=(2, 3)))


def test_shapes_leave_the_mode_and_the_statistics_alone():
    encoder = built("conv").train()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    shapes(encoder)
    assert encoder.training
    assert all(torch.equal(before[name], value) for name, value in encoder.state_dict().items())


def test_layers_probe_each_stage_and_say_which_is_best(quick_run):
    run = quick_run
    measured = evaluate(run, protocols=("layers", KNN(draws=1)))
    layers = [s for s in measured if s.protocol == "layers"]
    assert [(s.representation, s.stage) for s in layers] == [
        (name, stage) for name in ("random encoder", "trained encoder (student)") for stage in (1, 2, 3)
    ]
    assert all(s.value > 60 and s.n_train == 1438 and s.settings["held_out_accuracy"] > 60 for s in layers)
    shared, _gains, stages = tables(measured)
    written = StringIO()
    Console(file=written, width=120).print(stages)
    best = max(layers[3:], key=lambda s: s.settings["held_out_accuracy"]).stage
    assert written.getvalue().splitlines()[-1].split()[-2:] == ["stage", str(best)]
    assert len(shared.columns) == 3

    (only,) = {s.representation for s in evaluate(run, protocols=(KNN(draws=1),), stage=2, baselines=False)}
    assert only == "trained encoder (student), stage 2"
    with pytest.raises(BadInput, match="tokens='mean'"):
        evaluate(run, tokens="mean")
