import pytest
import torch

from sanslabel import encoders
from sanslabel.encoders import LinearCode
from sanslabel.encoders.dcgan import kernel_size, map_sizes
from sanslabel.heads.decoders import Generator, decoder, generator, reconstruction


def parameters(module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_the_published_numbers_of_parameters_at_64_pixels():
    assert parameters(Generator(100, 3, 64)) == 3_576_704
    encoder = encoders.build("dcgan", channels=3, image_size=64)
    head = torch.nn.Linear(encoder.width, 1, bias=False)
    assert parameters(encoder) + parameters(head) == 2_765_568


@pytest.mark.parametrize(
    ("size", "maps"),
    [
        (64, [64, 32, 16, 8, 4]),
        (32, [32, 16, 8, 4]),
        (28, [28, 14, 7, 4]),
        (8, [8, 4]),
        (30, [30, 15, 8, 4]),
        (48, [48, 24, 12, 6, 3]),
    ],
)
def test_maps_halve_on_the_way_in_and_double_on_the_way_out(size, maps):
    assert map_sizes(size) == maps
    encoder = encoders.build("dcgan", channels=2, image_size=size, filters=4)
    assert [stage.shape[-1] for stage in encoder.stages(torch.rand(2, 2, size, size))] == maps[1:]
    made, grown = Generator(5, 2, size, filters=4), [1]
    for layer in made.layers:
        if isinstance(layer, torch.nn.ConvTranspose2d):  # (n - 1) s - 2p + k
            grown.append((grown[-1] - 1) * layer.stride[0] - 2 * layer.padding[0] + layer.kernel_size[0])
    assert grown == [1, *maps[::-1]]
    assert made(torch.randn(3, 5)).shape == (3, 2, size, size)


def test_kernels():
    assert [kernel_size(28, 14), kernel_size(7, 4)] == [4, 3]


def test_the_published_start():
    torch.manual_seed(0)
    for layer in [*Generator(100, 3, 64).modules(), *encoders.build("dcgan", image_size=64).modules()]:
        if isinstance(layer, torch.nn.Conv2d | torch.nn.ConvTranspose2d):
            assert layer.bias is None
            assert layer.weight.mean().abs() < 2e-3
            assert layer.weight.std().item() == pytest.approx(0.02, rel=0.05)
        if isinstance(layer, torch.nn.BatchNorm2d):
            assert layer.weight.mean().item() == pytest.approx(1, abs=0.01)
            assert layer.weight.std().item() == pytest.approx(0.02, rel=0.4)
            assert not layer.bias.any()


def test_the_first_stage_has_no_batch_norm():
    encoder = encoders.build("dcgan", image_size=32)
    assert [isinstance(layer[1], torch.nn.BatchNorm2d) for layer in encoder.layers] == [False, True, True]


def test_the_representation_is_the_last_maps_number_by_number():
    encoder = encoders.build("dcgan", channels=1, image_size=28, filters=8).eval()
    images = torch.rand(3, 1, 28, 28)
    maps = encoder.stages(images)
    assert torch.equal(encoder(images), maps[-1].flatten(1))
    assert torch.equal(encoder.pooled(maps[0]).view(3, 8, 4, 4)[0, 0, 0, 0], maps[0][0, 0, :4, :4].max())


@pytest.mark.parametrize("name", ["mlp", "dcgan", "conv", "vit_micro"])
@pytest.mark.parametrize("code", [None, 6])
def test_a_decoder_for_every_encoder(name, code):
    encoder = encoders.build(name, channels=2, image_size=16)
    encoder = encoder if code is None else LinearCode.on(encoder, code)
    back = decoder(encoder, filters=8)
    assert back(torch.randn(3, encoder.width)).shape == (3, 2, 16, 16)
    images = 2 * torch.rand(3, 2, 16, 16) - 1
    codes, again = reconstruction(encoder, back, images)
    assert codes.shape == (3, encoder.width)
    assert again.shape == images.shape
    assert again.abs().max() <= 1


def test_the_decoder_of_an_mlp_is_its_layers_the_other_way_round():
    def widths(module):
        return [(m.in_features, m.out_features) for m in module.modules() if isinstance(m, torch.nn.Linear)]

    encoder = encoders.build("mlp", channels=1, image_size=28, hidden=(400, 100))
    assert widths(decoder(encoder)) == [(100, 400), (400, 784)]
    assert widths(decoder(LinearCode.on(encoder, 20))) == [(20, 100), (100, 400), (400, 784)]
    assert widths(generator(encoder, 3)) == [(3, 100), (100, 400), (400, 784)]
