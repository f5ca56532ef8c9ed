"""What a step costs, measured before a run."""

import numpy as np
import pytest
import torch

from bench.small_data import small_data
from sanslabel import methods
from sanslabel.device import chosen_device
from sanslabel.settings import Settings
from sanslabel.sources import open_source
from sanslabel.sources.source import Request
from sanslabel.training.peak import PeakMemory
from sanslabel.training.planning import resolve_method, resolve_plan
from sanslabel.training.rehearsal import Excerpt, fitted, measured

CPU = chosen_device("cpu")


def plan_of(name, source, **settings):
    name, method, recipe = resolve_method(name, "small", None)
    chosen = Settings(device="cpu", precision="float32", workers=0, cache="none", **settings)
    plan, method = resolve_plan("digits", source, CPU, name, method, recipe, None, chosen)
    return plan, method, recipe


def test_peak_memory_counts_what_lives_at_a_time():
    with PeakMemory() as memory:
        first = torch.zeros(1000)
        second = first + 1
        del first
        third = second.view(-1).clone()
        second.mul_(third)
        del second
    assert (memory.peak, memory.now) == (8000, 4000)
    del third
    assert memory.now == 0


def test_peak_memory_counts_the_backward_pass():
    weight = torch.ones(1000, requires_grad=True)
    with PeakMemory() as memory:
        weight.exp().exp().sum().backward()
    assert weight.grad is not None
    assert memory.peak >= 3 * 4000


@pytest.mark.parametrize("name", sorted(methods.names()))
def test_steps_of_every_method_are_measured_without_a_trace(name, tiny_vit):
    if name == "distill":
        pytest.skip("needs a teacher")
    excerpt = Excerpt.of(small_data(name, 100))
    state = torch.random.get_rng_state()
    found = measured(*plan_of(name, excerpt, batch=9), excerpt)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert found.step + 9 * found.sample > 0
    assert found.step_bytes >= 0
    assert found.sample_bytes > 64
    assert found.weights > 1000


def test_larger_pictures_take_more_memory_and_larger_batches_in_proportion():
    excerpt = Excerpt.of(open_source("digits"))
    small, large = (measured(*plan_of("simclr", excerpt, batch=32, image_size=s), excerpt) for s in (16, 32))
    assert 3 < large.sample_bytes / small.sample_bytes < 5
    assert large.weights == small.weights


def test_an_excerpt_stands_for_all_samples():
    source = open_source("digits")
    excerpt = Excerpt.of(source)
    assert len(excerpt) == len(source)
    assert excerpt.facts() == source.facts()
    loaded = excerpt.load(Request(torch.tensor([0, 12, 1])))
    assert torch.equal(loaded.images.pixels[0], loaded.images.pixels[1])
    assert excerpt.read_in == 0


def test_pictures_of_an_excerpt_are_reduced_to_a_smaller_size(tmp_path):
    from PIL import Image

    for row, (width, height) in enumerate([(90, 60), (60, 60), (120, 60), (60, 60)]):
        Image.fromarray(np.full((height, width, 3), 10 * row, np.uint8)).save(tmp_path / f"{row}.png")
    excerpt = Excerpt.of(open_source(tmp_path))
    assert excerpt.read_in > 0
    images = excerpt.at_size(16).load(Request(torch.arange(4))).images
    assert images.pixels.shape[2] == 18
    assert sorted(images.sizes[:, 1].tolist()) == [18, 18, 27, 36]
    assert excerpt.at_size(100) is excerpt


def test_a_line_goes_through_the_last_two_points():
    assert fitted([8], [4.0]) == (0.0, 0.5)
    assert fitted([8], [40.0], 24.0) == (24.0, 2.0)
    assert fitted([8], [16.0], 24.0) == (16.0, 0.0)
    assert fitted([8, 32], [10.0, 34.0]) == (2.0, 1.0)
    assert fitted([8, 32, 128], [9.0, 34.0, 130.0]) == (2.0, 1.0)
    assert fitted([8, 32], [10.0, 9.0]) == (9.0, 0.0)
    assert fitted([8, 32], [1.0, 32.0]) == (0.0, 1.0)


def test_a_run_has_the_same_bits_after_a_rehearsal(tmp_path):
    import sanslabel

    options = dict(encoder={"name": "dcgan", "filters": 8}, batch=64, epochs=1, precision="float32", device="cpu")
    first = sanslabel.train("digits", out=tmp_path / "one", **options).encoder().state_dict()
    source = Excerpt.of(open_source("digits"))
    measured(*plan_of("simclr", source, batch=16), source)
    second = sanslabel.train("digits", out=tmp_path / "two", **options).encoder().state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)
