import numpy as np
import pytest
import torch
from PIL import Image

from sanslabel.errors import BadInput
from sanslabel.generation import interpolation, reconstructions, samples
from sanslabel.generation.model import open_model
from sanslabel.generation.picture import GAP, displayable, grid, write_png
from sanslabel.generation.samples import arc, sampled_images


def seen(path) -> Image.Image:
    with Image.open(path) as picture:
        return picture.copy()


@pytest.mark.parametrize("method", ["vae", "dae", "ebgan", "dcgan"])
def test_a_seed_is_a_picture_byte_by_byte(runs, tmp_path, method):
    files = [samples(runs(method), count=9, out=tmp_path / f"{i}.png", seed=s).path for i, s in enumerate((0, 0, 1))]
    content = [file.read_bytes() for file in files]
    assert content[0] == content[1] != content[2]
    picture = seen(files[0])
    assert picture.mode == "L"
    assert picture.width == picture.height
    assert picture.width % (3 * (8 + GAP) + GAP) == 0


def test_more_samples_begin_with_the_same_ones(runs):
    model = open_model(runs("vae"))
    torch.testing.assert_close(sampled_images(model, 20, 0)[:5], sampled_images(model, 5, 0))
    with pytest.raises(BadInput, match="at least 1"):
        sampled_images(model, 0, 0)


def test_reconstructions_stand_under_their_images(runs, tmp_path):
    path = reconstructions(runs("dae"), count=5, out=tmp_path / "made.png").path
    again = reconstructions(runs("dae"), count=5, out=tmp_path / "again.png").path
    assert path.read_bytes() == again.read_bytes()
    wide, tall = 5 * (8 + GAP) + GAP, 3 * (8 + GAP) + GAP  # input, corrupted, reconstruction
    picture = seen(path)
    assert picture.width * tall == picture.height * wide
    assert reconstructions(runs("vae"), count=5).path == runs("vae") / "reconstructions.png"
    with pytest.raises(BadInput, match="at least 1"):
        reconstructions(runs("dae"), count=0)
    with pytest.raises(BadInput, match="ask for fewer"):
        reconstructions(runs("dae"), count=100_000)


def test_ways_between_latents_and_between_images(runs, tmp_path):
    for method, data in (("vae", None), ("dcgan", None), ("vae", "digits"), ("autoencoder", "digits")):
        path = interpolation(runs(method), count=2, data=data, out=tmp_path / "way.png").path
        assert seen(path).width > seen(path).height
    with pytest.raises(BadInput, match="Autoencoder cannot make images of random codes; train one of dcgan"):
        interpolation(runs("autoencoder"))
    with pytest.raises(BadInput, match="DCGAN cannot turn images into codes and back; train one of autoencoder"):
        interpolation(runs("dcgan"), data="digits")


def test_an_arc_has_its_ends_and_an_even_pace():
    first, last = torch.randn(2, 3, 8, dtype=torch.float64)
    way = arc(first, last, 5)
    torch.testing.assert_close(way[:, 0], first)
    torch.testing.assert_close(way[:, -1], last)
    unit = torch.nn.functional.normalize(
        arc(*torch.nn.functional.normalize(torch.stack([first, last]), dim=2), 5), dim=2
    )
    turns = (unit[:, 1:] * unit[:, :-1]).sum(dim=2).acos()
    torch.testing.assert_close(turns, turns[:, :1].expand_as(turns), rtol=1e-3, atol=1e-4)
    assert arc(first, first, 3).isfinite().all()


def test_an_arc_is_never_longer_than_its_longer_end():
    """Also between codes of one number, and of two that point almost apart."""
    for dimensions in (1, 2, 20):
        first, last = torch.randn(2, 200, dimensions, generator=torch.Generator().manual_seed(0))
        longest = torch.maximum(first.norm(dim=1), last.norm(dim=1))
        assert (arc(first, last, 9).norm(dim=2) <= longest[:, None] * 1.01).all()
    one = arc(torch.tensor([[1.0]]), torch.tensor([[-0.5]]), 5)
    assert one.abs().max() <= 1.01


def test_a_grid_is_row_by_row_on_white():
    images = torch.arange(5.0)[:, None, None, None].expand(5, 1, 2, 3) / 10
    paper = grid(images, 3)
    assert paper.shape == (1, 2 * (2 + GAP) + GAP, 3 * (3 + GAP) + GAP)
    assert paper[0, 0, 0] == 1
    assert paper[0, GAP, GAP + 3 + GAP] == pytest.approx(0.1)
    assert paper[0, GAP + 2 + GAP, GAP] == pytest.approx(0.3)
    assert paper[0, -GAP - 1, -GAP - 1] == 1, "the last place is empty"


def test_pictures_have_one_channel_or_three(tmp_path):
    with pytest.raises(BadInput, match="written as PNG"):
        write_png(tmp_path / "color.jpg", torch.rand(3, 8, 8))
    write_png(tmp_path / "color.png", torch.rand(3, 8, 8))
    assert seen(tmp_path / "color.png").mode == "RGB"
    with pytest.raises(BadInput, match="2 channels"):
        write_png(tmp_path / "points.png", torch.rand(2, 8, 8))


def test_of_many_channels_the_first_three_are_shown(tmp_path):
    pixels = torch.rand(5, 480, 480)
    write_png(tmp_path / "cells.png", pixels)
    np.testing.assert_array_equal(
        np.asarray(seen(tmp_path / "cells.png")), (pixels[:3] * 255).round().byte().permute(1, 2, 0).numpy()
    )
    four, two, one = torch.rand(2, 4, 3, 3), torch.rand(2, 2, 3, 3), torch.rand(2, 1, 3, 3)
    assert torch.equal(displayable(four), four[:, :3])
    assert torch.equal(displayable(two)[:, :2], two)
    assert (displayable(two)[:, 2] == 0).all()
    assert torch.equal(displayable(one), one)


def test_what_is_no_generative_run(runs, tmp_path):
    with pytest.raises(BadInput, match=r"no run\.json"):
        samples(tmp_path)
    with pytest.raises(BadInput, match="SimCLR cannot make new images; train one of dae, dcgan, ebgan, vae"):
        samples(runs("simclr"))
