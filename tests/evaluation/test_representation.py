"""From a source to features: no trace on the encoder, each sample once, BatchNorm settled on whole images."""

import copy
from dataclasses import replace

import pytest
import torch
from PIL import Image
from torch import nn

from sanslabel import encoders
from sanslabel.batch import Images
from sanslabel.errors import BadInput
from sanslabel.evaluation import representation
from sanslabel.evaluation.representation import images_at_once, pixels, represent, settle_
from sanslabel.inputs import ImageSpec, TextSpec
from sanslabel.sources import open_source
from sanslabel.views import resized

CPU = torch.device("cpu")
IMAGES = ImageSpec(channels=1, height=8, width=8)


@pytest.fixture
def source():
    return open_source("digits", "test")


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return encoders.build("conv", channels=1, image_size=8)


def test_each_row_is_the_encoders_output(source, encoder):
    features, index = represent({"conv": encoder, "pixels": pixels}, source, reads=IMAGES, device=CPU, batch=100)
    images = source.images.float() / 255
    with torch.no_grad():
        expected = encoder.eval()(images)
    assert torch.allclose(features["conv"], expected, atol=1e-5)
    assert torch.equal(features["pixels"], images.flatten(1))
    assert torch.equal(index, torch.arange(len(source)))
    assert not features["conv"].requires_grad


def test_parameters_buffers_and_modes_stay(source, encoder):
    encoder.train()
    encoder.stem[1].eval()  # one part was frozen
    modes = [m.training for m in encoder.modules()]
    before = copy.deepcopy(encoder.state_dict())
    represent({"conv": encoder}, source, reads=IMAGES, device=CPU)
    assert [m.training for m in encoder.modules()] == modes
    assert all(torch.equal(before[name], tensor) for name, tensor in encoder.state_dict().items())


def test_modes_are_restored_after_an_error(source):
    class Broken(nn.Module):
        def forward(self, images):
            raise ValueError

    encoder = Broken()
    with pytest.raises(ValueError):  # noqa: PT011
        represent({"broken": encoder}, source, reads=IMAGES, device=CPU)
    assert encoder.training


def test_bfloat16_is_close_and_comes_as_float32(source, encoder):
    settle_(encoder, source, reads=IMAGES, device=CPU)
    options = {"reads": IMAGES, "device": CPU}
    exact, _ = represent({"conv": encoder, "pixels": pixels}, source, **options)
    short, _ = represent({"conv": encoder, "pixels": pixels}, source, dtype=torch.bfloat16, **options)
    assert short["conv"].dtype == torch.float32
    error = (short["conv"] - exact["conv"]).norm() / exact["conv"].norm()
    assert 1e-6 < error < 3e-2
    assert torch.equal(short["pixels"], exact["pixels"])


def test_large_images_are_represented_in_smaller_batches():
    sides = [8, 64, 65, 96, 224, 5000]
    at_once = [images_at_once(ImageSpec(channels=3, height=side, width=side)) for side in sides]
    assert at_once == [512, 512, 256, 128, 32, 16]
    assert images_at_once(TextSpec(vocabulary=10, length=1000)) == 512


def test_images_are_resized_whole(source):
    features, _ = represent({"pixels": pixels}, source, reads=ImageSpec(channels=1, height=5, width=5), device=CPU)
    assert torch.allclose(features["pixels"], resized(source.images, 5).flatten(1))


def test_pixels_of_large_images_are_reduced(generator):
    images = torch.rand(2, 3, 40, 40, generator=generator)
    assert torch.equal(pixels(images), resized(images, 32).flatten(1))
    assert torch.equal(pixels(images[:, :1]), images[:, :1].flatten(1))


def test_a_sample_that_cannot_be_read_is_left_out(tmp_path):
    for row in range(6):
        Image.new("L", (8, 8), 40 * row).save(tmp_path / f"{row}.png")
    (tmp_path / "2.png").write_bytes(b"not an image")
    source = open_source(tmp_path)
    features, index = represent({"pixels": pixels}, source, reads=IMAGES, device=CPU, batch=4)
    assert index.tolist() == [0, 1, 3, 4, 5]
    assert torch.allclose(features["pixels"][:, 0], torch.tensor([0.0, 40, 120, 160, 200]) / 255)


def test_infinite_representations_are_refused(source):
    with pytest.raises(BadInput, match="trained encoder gives features that are not finite"):
        represent({"trained encoder": lambda images: images.flatten(1) / 0}, source, reads=IMAGES, device=CPU)


def test_settled_statistics_are_the_mean_over_batches(source):
    net = nn.Sequential(nn.BatchNorm2d(1), nn.Dropout(0.5), nn.Flatten()).train()
    net[0].running_mean.fill_(99)
    settle_(net, source.subset(torch.arange(300)), reads=IMAGES, device=CPU, batch=300)
    images = source.images[:300].float() / 255
    assert float(net[0].running_mean) == pytest.approx(float(images.mean()), rel=1e-4)
    assert float(net[0].running_var) == pytest.approx(float(images.var()), rel=1e-4)
    assert net[0].momentum == 0.1
    assert all(m.training for m in net.modules())

    settle_(net, source.subset(torch.arange(300)), reads=IMAGES, device=CPU, batch=100)
    assert int(net[0].num_batches_tracked) == 3
    assert float(net[0].running_mean) == pytest.approx(float(images.mean()), rel=1e-4)


def test_settling_sees_mixed_batches_and_no_more_than_it_needs(source, monkeypatch):
    """A folder lists one class after the other: black images first, white ones last."""
    monkeypatch.setattr(representation, "SETTLED_ON", 200)
    images = torch.arange(2, dtype=torch.uint8).repeat_interleave(1000).mul(255).view(-1, 1, 1, 1).expand(-1, 1, 8, 8)
    striped = replace(
        source,
        signals={"image": Images(images)},
        labels=torch.zeros(2000).long(),
        file_row=torch.arange(2000),
    )
    norm = nn.BatchNorm2d(1)
    settle_(norm, striped, reads=IMAGES, device=CPU, batch=100)
    assert int(norm.num_batches_tracked) == 2
    assert float(norm.running_mean) == pytest.approx(0.5, abs=0.1)
    assert float(norm.running_var) == pytest.approx(0.25, abs=0.02)


def test_a_last_small_batch_does_not_count(source):
    norm = nn.BatchNorm2d(1)
    settle_(norm, source, reads=IMAGES, device=CPU, batch=100)
    assert int(norm.num_batches_tracked) == len(source) // 100


def test_an_encoder_without_running_statistics_is_left_alone(source):
    net = nn.Sequential(nn.BatchNorm2d(1, track_running_stats=False), nn.Flatten())
    settle_(net, source, reads=IMAGES, device=CPU)
    assert net[0].momentum == 0.1


def test_settling_makes_a_random_encoder_usable(source, encoder):
    """Without it, evaluation normalizes by the mean 0 and variance 1 that BatchNorm begins with."""
    settle_(encoder, source, reads=IMAGES, device=CPU)
    features, _ = represent({"conv": encoder}, source, reads=IMAGES, device=CPU)
    encoder.train()
    with torch.no_grad():
        batch = encoder(source.images.float() / 255)
    assert torch.allclose(features["conv"], batch, rtol=0.2, atol=0.1)
