import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

import sanslabel
from sanslabel.checkpoint import load_encoder
from sanslabel.errors import BadInput
from sanslabel.generation import quality
from sanslabel.generation.distances import frechet_distance, precision_recall
from sanslabel.generation.model import open_model
from sanslabel.sources import Request, open_source
from sanslabel.sources.held_out import measured_fifth


def features(n: int = 500, d: int = 6, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_distance_of_known_normals():
    x = features()
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(x, x + 2) == pytest.approx(6 * 4, rel=1e-9), "a shift"
    white = (x - x.mean(dim=0)) @ torch.linalg.inv(torch.linalg.cholesky(x.T.cov())).T
    assert frechet_distance(white, 3 * white) == pytest.approx(6 * (3 - 1) ** 2, rel=1e-6), "deviations of 1 and 3"


def test_the_distance_is_that_of_the_matrix_root():
    a, b = features(), features(400, seed=1) @ features(6, 6, seed=2) + 0.5
    first, second = (np.cov(x.numpy().T) for x in (a, b))
    root = np.real(sqrtm(first @ second))
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum().item() + np.trace(first + second - 2 * root)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-6)
    assert frechet_distance(b, a) == pytest.approx(expected, rel=1e-6)


def test_features_that_do_not_vary_have_a_distance():
    assert frechet_distance(torch.zeros(5, 3), torch.ones(5, 3)) == pytest.approx(3)


def test_precision_and_recall_of_known_sets():
    real = features(300)
    assert precision_recall(real, real) == (1.0, 1.0)
    assert precision_recall(real, real + 100) == (0.0, 0.0)
    precision, recall = precision_recall(real, real[:1].repeat(300, 1) + 1e-3 * features(300, seed=4))
    assert precision > 0.9, "one mode is within the data"
    assert recall < 0.05, "and leaves the rest out"


def test_precision_and_recall_are_the_loop():
    real, fake = features(40), features(30, seed=1) + 0.5

    def within(points, of):
        count = 0
        for p in points:
            for q in of:
                radius = sorted(float((q - other).norm()) for other in of)[3]
                if float((p - q).norm()) <= radius:
                    count += 1
                    break
        return count / len(points)

    assert precision_recall(real, fake) == pytest.approx((within(fake, real), within(real, fake)))


def test_a_run_by_the_eyes_of_another(runs):
    found = quality(runs("vae"), runs("simclr"), count=200)
    assert found.samples == 200
    assert found.distance > found.floor > 0
    assert str(runs("simclr")) in found.encoder
    one, many = found.bounds.values()
    assert many < one, "more draws are a tighter bound"
    model, test = open_model(runs("vae")), open_source("digits", "test")
    images = test.load(Request(torch.arange(len(test)))).images.pixels.float() / 255
    with torch.no_grad():
        energy = model.method.energy_of(model.net, images).mean().item()
    assert one == pytest.approx(energy, rel=0.2)
    assert "negative evidence lower bound" in found.bounds
    assert quality(runs("dcgan"), runs("simclr"), count=100).bounds == {}


def test_samples_and_data_are_seen_in_one_precision(runs, tmp_path):
    """Training images that come back as samples are the training images, also of a run in bfloat16."""
    run = runs("vae", precision="bfloat16")
    model, eye = open_model(run), load_encoder(runs("simclr"))
    source = open_source("digits", "train").subset(torch.arange(300))
    images = source.load(Request(torch.arange(300))).images.pixels.float() / 255
    features = model.measure({"": eye}, source)[0][""]
    torch.testing.assert_close(model.apply(eye, images), features, rtol=1e-5, atol=1e-5)


def test_few_images_and_an_encoder_of_other_images_are_refused(runs, tmp_path):
    with pytest.raises(BadInput, match="too few to compare"):
        quality(runs("vae"), runs("simclr"), count=3)
    colors = np.random.default_rng(0).integers(0, 256, (64, 3, 8, 8), dtype=np.uint8)
    np.save(tmp_path / "colors.npy", colors)
    run = sanslabel.train(tmp_path / "colors.npy", method="simclr", epochs=1, batch=32, out=tmp_path / "run")
    with pytest.raises(BadInput, match="3 channels"):
        quality(runs("vae"), run.path, count=100)


def test_it_needs_a_test_split(runs, tmp_path):
    np.save(tmp_path / "images.npy", np.zeros((9, 8, 8), dtype=np.uint8))
    with pytest.raises(BadInput, match="no test split"):
        quality(runs("vae"), runs("simclr"), data=tmp_path / "images.npy")


def test_without_a_test_split_it_is_the_fifth_that_evaluation_measures(runs, tmp_path):
    digits = open_source("digits", "test")
    np.savez(tmp_path / "some.npz", images=digits.images[:, 0].numpy(), labels=digits.labels.numpy())
    found = quality(runs("vae"), runs("simclr"), data=tmp_path / "some.npz")
    assert found.samples == int(measured_fifth(digits, 0).sum()) == 72
