from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from torch import nn

import sanslabel
from sanslabel import encoders
from sanslabel.engine import optimize, players_of
from sanslabel.errors import BadInput
from sanslabel.evaluation.features import Frames
from sanslabel.evaluation.protocols.near_far import near_far_aurocs
from sanslabel.losses import time_triplet
from sanslabel.methods.time_contrastive import TimeContrastive
from sanslabel.recipe import Recipe
from sanslabel.sources import batches, open_source
from sanslabel.training.journal import figures_of_data
from sanslabel.views import WHOLE

CPU = torch.device("cpu")
METHOD = TimeContrastive(hidden=32, width=8, frames=16, view=WHOLE)


def clips_of_digits(count=12, length=32, still=False):
    """Clips of 30 frames a second, in each of which a digit is dimmed from left to right."""
    digits, row = open_source("digits").subset(torch.arange(count)), torch.arange(count * length)
    clip, frame = row // length, row % length
    ramp = torch.sigmoid((torch.arange(8)[None] - (0 * frame if still else frame)[:, None] * 8 / length) * 2)
    pixels = (digits.images[clip].float() * ramp[:, None, None, :]).byte()
    many = open_source("digits").subset(row)
    signals = {"image": many.signals["image"]._replace(pixels=pixels)}
    return replace(many, signals=signals, group=clip, time=frame.double() / 30)


def networks(method=METHOD, seed=0):
    torch.manual_seed(seed)
    encoder = encoders.build("mlp", channels=1, image_size=8, hidden=(64, 32))
    return method.sized(8).networks(encoder, clips_of_digits().facts(8)).train()


def stream(source, method=METHOD, batch=64, epochs=1):
    return batches(source, batch, seed=0, epochs=epochs, device=CPU, order=source.order_of(method.stretch))


def test_a_step_is_the_loss_of_a_batch_of_stretches():
    source, net = clips_of_digits(), networks()
    clock, batch = next(stream(source))
    assert len(batch.group.unique()) <= 5, "64 frames are four full stretches, of four clips at most"
    (objective,) = METHOD.sized(8).step(net, batch, clock)
    twin = networks()
    z = twin.projector(twin.encoder(METHOD.sized(8).view(batch, 0)))
    torch.testing.assert_close(objective.loss, time_triplet(z, batch.time, 0.21, 0.42, 0.2, batch.group))
    gap = (batch.time - batch.time[(objective.positive[:, None] == z).all(dim=2).float().argmax(dim=1)]).abs()
    assert gap.max() < 1 / 30 + 1e-6, "the next frame is the positive that is measured"


def test_equal_embeddings_cost_the_margin():
    net = SimpleNamespace(encoder=lambda images, *_: images.flatten(1), projector=lambda h: 0 * h + 1)
    clock, batch = next(stream(clips_of_digits()))
    (objective,) = METHOD.sized(8).step(net, batch, clock)
    assert objective.loss.item() == pytest.approx(0.2, abs=1e-6)
    assert objective.trivial == 0.2


def test_data_without_time_and_radii_in_the_wrong_order_are_refused():
    digits = open_source("digits").subset(torch.arange(64))
    clock, batch = next(batches(digits, 32, seed=0, epochs=1, device=CPU))
    with pytest.raises(BadInput, match="These data have no time"):
        next(METHOD.sized(8).step(networks(), batch, clock))
    with pytest.raises(BadInput, match=r"far=0\.1: must be at least `near`, 0\.21"):
        networks(replace(METHOD, far=0.1))


def test_the_projector_is_the_authors():
    net = TimeContrastive(hidden=16, width=8).networks(
        encoders.build("conv", channels=1, image_size=8), clips_of_digits().facts(8)
    )
    assert [type(layer) for layer in net.projector] == [nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Linear, nn.BatchNorm1d]
    authors = TimeContrastive()
    assert (authors.hidden, authors.width, authors.margin, authors.frames) == (2048, 32, 0.2, 36)
    assert (int(29 * authors.near), int(29 * authors.far)) == (6, 12)


def trained(source, epochs):
    net, recipe = networks(), Recipe(optimizer=TimeContrastive.small.optimizer, epochs=epochs)
    method = METHOD.sized(8)
    losses = [
        r.objectives[0].loss.item()
        for r in optimize(method, net, players_of(net, recipe, 64), stream(source, epochs=epochs))
    ]
    return net.eval(), losses


def test_it_learns_what_changes_in_a_clip():
    source = clips_of_digits()
    net, losses = trained(source, epochs=40)
    assert sum(losses[-5:]) < 0.25 * sum(losses[:5])
    frames, images = Frames(source.group, source.time), source.images.float() / 255
    with torch.no_grad():
        after = near_far_aurocs(net.projector(net.encoder(images)), frames, 0.1, 0.4, 0)[0].mean()
        start = networks().eval()
        before = near_far_aurocs(start.projector(start.encoder(images)), frames, 0.1, 0.4, 0)[0].mean()
    assert after > max(0.97, before)


def test_nothing_is_learned_where_nothing_moves():
    source = clips_of_digits(still=True)
    _, losses = trained(source, epochs=10)
    assert min(losses[-5:]) > 0.1, "near and far frames of a clip are the same"
    _, batch = next(stream(source))
    assert figures_of_data(batch)["frame_difference"] == 0
    assert figures_of_data(next(stream(clips_of_digits()))[1])["frame_difference"] > 0.005


def test_a_run_on_clips_gives_the_same_bits_again_and_refuses_partners(tmp_path):
    source = clips_of_digits(count=4, length=12)
    for row in range(len(source)):
        path = tmp_path / "clips" / f"{row // 12}" / f"{row % 12}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(source.images[row, 0].numpy()).save(path)
    options = {"encoder": {"name": "mlp", "hidden": [16]}, "image_size": 8, "workers": 0, "precision": "float32"}
    options |= {"batch": 24, "epochs": 2, "fps": 30.0}
    run = sanslabel.train(tmp_path / "clips", METHOD, out=tmp_path / "run", **options)
    weights = [sanslabel.load_encoder(run.path).state_dict()]
    again = sanslabel.train(tmp_path / "clips", METHOD, out=tmp_path / "again", **options)
    weights.append(sanslabel.load_encoder(again.path).state_dict())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    with pytest.raises(BadInput, match="time_contrastive compares frames within a batch and reads no partners; leave"):
        sanslabel.train(tmp_path / "clips", METHOD, out=tmp_path / "paired", near=0.1, **options)
    with pytest.raises(BadInput, match="digits: has no time, and the method learns from frames of clips"):
        sanslabel.train("digits", METHOD, out=tmp_path / "digits", epochs=1, batch=32)
