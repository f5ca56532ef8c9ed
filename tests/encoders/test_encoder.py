"""What every encoder promises."""

import copy
import json

import pytest
import torch

from sanslabel import encoders
from sanslabel.errors import BadInput

SMALL = ["conv", "resnet18", "resnet50", "vit_micro", "mlp", "dcgan"]
"""One of each kind: what a kind promises holds at all its depths."""


def every_kind(test):
    """Runs a test with an encoder of each kind, of few blocks."""
    return pytest.mark.usefixtures("shallow")(pytest.mark.parametrize("name", SMALL)(test))


def images(channels: int = 3, size: int = 32, count: int = 3) -> torch.Tensor:
    return torch.rand(count, channels, size, size, generator=torch.Generator().manual_seed(1))


def test_names():
    resnets = ["resnet18", "resnet34", "resnet50"]
    texts = ["text_micro", "text_small", "text_medium", "text_base"]
    transformers = ["vit_micro", "vit_tiny", "vit_small", "vit_base"]
    assert encoders.names() == ["conv", "dcgan", "mlp", *resnets, *texts, *transformers]


@pytest.mark.parametrize(
    ("name", "width"),
    [
        ("conv", 256),
        ("resnet18", 512),
        ("resnet34", 512),
        ("resnet50", 2048),
        ("vit_micro", 128),
        ("vit_tiny", 192),
        ("vit_small", 384),
        ("vit_base", 768),
        ("mlp", 500),
        ("dcgan", 256 * 16),
    ],
)
def test_shape_and_config_of_every_encoder(name, width):
    with torch.device("meta"):
        encoder = encoders.build(name, channels=2, image_size=32)
        again = encoders.build(**json.loads(json.dumps(encoder.config)))
        output = encoder(torch.rand(5, 2, 32, 32))
    assert encoder.width == width
    assert output.shape == (5, width)
    assert again.config == encoder.config
    shapes = [{key: value.shape for key, value in one.state_dict().items()} for one in (encoder, again)]
    assert shapes[0] == shapes[1]


def test_config_is_what_was_decided():
    assert encoders.build("conv", channels=1, image_size=28).config == {
        "name": "conv",
        "channels": 1,
        "image_size": 28,
        "scaling": None,
    }
    config = encoders.build("resnet18", image_size=64, scaling=((0.5, 0.4, 0.3), (1, 2, 3))).config
    assert config["stem"] == "small"
    assert config["scaling"] == [[0.5, 0.4, 0.3], [1, 2, 3]]
    assert encoders.build("resnet18", image_size=64, stem="imagenet").config["stem"] == "imagenet"
    config = encoders.build("vit_micro", image_size=28, pool="mean").config
    assert (config["patch"], config["pool"], config["positions"]) == (4, "mean", "learned")


@every_kind
@pytest.mark.parametrize(("channels", "size"), [(1, 8), (5, 28)])
def test_any_channels_and_small_images(name, channels, size):
    encoder = encoders.build(name, channels=channels, image_size=size)
    output = encoder(images(channels, size))
    assert output.shape == (3, encoder.width)
    output.square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for key, p in encoder.named_parameters())


@every_kind
def test_forward_pools_the_last_stage(name, perturbed):
    encoder = perturbed(encoders.build(name, image_size=32))
    stages = encoder.stages(images())
    assert torch.equal(encoder.pooled(stages[-1]), encoder(images()))
    fields = 16 if name == "dcgan" else 1  # of which it keeps a maximum each
    for stage in stages:
        assert encoder.pooled(stage).shape == (3, fields * stage.shape[{2: 1, 3: 2, 4: 1}[stage.ndim]])


@every_kind
def test_maps_are_the_stages_that_have_places(name, perturbed):
    encoder = perturbed(encoders.build(name, image_size=32))
    if name == "mlp":
        with pytest.raises(BadInput, match=r"mlp.: has no maps"):
            encoder.maps(images())
        return
    stages, maps = encoder.stages(images()), encoder.maps(images())
    assert len(maps) == len(stages)
    for stage, places in zip(stages, maps, strict=True):
        if name == "vit_micro":  # 8x8 patches, row by row, without the class token
            assert places.shape == (3, 128, 8, 8)
            assert torch.equal(places[:, :, 2, 5], stage[:, 1 + 2 * 8 + 5])
        else:
            assert torch.equal(places, stage)
    code = encoders.LinearCode.on(encoder, 4)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(code.maps(images()), maps, strict=True))


@every_kind
def test_units_are_blocks_of_transformers_and_else_the_encoder(name):
    with torch.device("meta"):
        encoder = encoders.build(name, image_size=32)
        code = encoders.LinearCode.on(encoder, 4)
    assert encoder.units() == (list(encoder.blocks) if name == "vit_micro" else [encoder])
    assert code.units() == [code]


@every_kind
def test_a_teacher_is_a_deep_copy(name, perturbed):
    encoder = perturbed(encoders.build(name, image_size=32, scaling=([0.5] * 3, [0.2] * 3)))
    twin = copy.deepcopy(encoder)
    assert torch.equal(twin(images()), encoder(images()))
    assert not {p.data_ptr() for p in twin.parameters()} & {p.data_ptr() for p in encoder.parameters()}


def error(output: torch.Tensor, reference: torch.Tensor) -> float:
    """The root of the mean squared difference, in units of the reference's spread."""
    output, reference = output.detach().double(), reference.detach().double()
    return float((output - reference).square().mean().sqrt() / reference.std())


@every_kind
def test_all_dtypes(name, perturbed):
    encoder = perturbed(encoders.build(name, image_size=32, scaling=([0.5] * 3, [0.2] * 3)))
    reference = encoder(images())
    for dtype, tolerance in ((torch.float64, 1e-6), (torch.float16, 0.01), (torch.bfloat16, 0.05)):
        output = encoder(images().to(dtype))  # computed in float32, as the weights are
        assert output.dtype == torch.float32
        assert error(output, reference) < tolerance
    with torch.autocast("cpu", torch.bfloat16):
        for dtype in (torch.float32, torch.bfloat16):
            assert error(encoder(images().to(dtype)), reference) < 0.1
    half = copy.deepcopy(encoder).bfloat16()(images())
    assert half.dtype == torch.bfloat16
    assert error(half, reference) < 0.15
    double = encoder.double()(images().double())
    assert double.dtype == torch.float64
    assert error(double, reference) < 1e-4


@every_kind
def test_gradient_under_bf16_autocast(name):
    torch.manual_seed(0)
    # In training mode, statistics over the last maps' few values would amplify the rounding of a deep network.
    encoder = encoders.build(name, image_size=16).eval()
    target = torch.randn(16, encoder.width)
    gradients = []
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            output = encoder(images(size=16, count=16))
        (output.float() * target).mean().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in encoder.parameters()]))
        encoder.zero_grad()
    assert torch.cosine_similarity(*gradients, dim=0) > 0.95


@every_kind
def test_channels_last(name, perturbed):
    encoder = perturbed(encoders.build(name, image_size=32, scaling=([0.5] * 3, [0.2] * 3)))
    reference = encoder(images())
    encoder = encoder.to(memory_format=torch.channels_last)
    batch = images().to(memory_format=torch.channels_last)
    assert error(encoder(batch), reference) < 1e-4
    maps = [stage for stage in encoder.stages(batch) if stage.ndim == 4]
    assert all(stage.is_contiguous(memory_format=torch.channels_last) for stage in maps)


@every_kind
def test_scaling_is_configuration(name, perturbed):
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
    scaled = perturbed(encoders.build(name, image_size=32, scaling=(mean, std)))
    plain = encoders.build(name, image_size=32).eval()
    plain.load_state_dict(scaled.state_dict(), strict=True)
    by_hand = torch.stack([(images()[:, c] - mean[c]) / std[c] for c in range(3)], dim=1)
    assert error(scaled(images()), plain(by_hand)) < 1e-4
    assert error(scaled(images()), plain(images())) > 0.1
    assert scaled.double().scaling.dtype == torch.float64
    assert scaled.to("meta").scaling.device.type == "meta"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "resnet19"}, "no encoder 'resnet19': did you mean resnet18"),
        ({"name": "conv", "stem": "small"}, "encoder='conv': there is no option 'stem'.*There are: scaling"),
        ({"name": "vit_tiny", "pach": 4}, "no option 'pach': did you mean patch"),
        ({"name": "resnet18", "name_": "x"}, "no option 'name_'"),
        ({"name": "conv", "channels": 0}, "channels is 0"),
        ({"name": "resnet18", "image_size": 7}, "image_size=7"),
        ({"name": "resnet18", "stem": "smal"}, "no stem 'smal': did you mean small"),
        ({"name": "vit_tiny", "pool": "max"}, "no pool 'max'"),
        ({"name": "vit_tiny", "positions": "sin"}, "no positions 'sin': did you mean sincos"),
        ({"name": "vit_tiny", "start": "beit"}, "no start 'beit'"),
        ({"name": "vit_tiny", "heads": 5}, "heads is 5: give a divisor of the width, 192"),
        ({"name": "vit_tiny", "image_size": 30}, "30x30 pixels cannot be cut into patches of 4x4.* 28 or 32 "),
        ({"name": "vit_tiny", "image_size": 8, "patch": 16}, "8x8 pixels cannot be cut into patches of 16x16.* 16 or"),
        ({"name": "vit_tiny", "patch": 0}, "patch is 0"),
        ({"name": "conv", "scaling": (0.5, 0.2)}, "scaling is"),
        ({"name": "conv", "scaling": ((0.5,), (0.2,))}, "scaling is .*each of the 3 channels"),
        ({"name": "conv", "scaling": ((0.5, 0.5, 0.5), (0.2, 0.2, 0))}, "scaling is"),
        ({"name": "conv", "scaling": ((0.5, 0.5, float("nan")), (1, 1, 1))}, "scaling is"),
    ],
)
def test_bad_input(arguments, message):
    with pytest.raises(BadInput, match=message):
        encoders.build(**arguments)


@pytest.mark.parametrize("shape", [(2, 4, 32, 32), (3, 32, 32), (2, 32, 32, 3)])
def test_images_of_another_shape_are_refused(shape):
    encoder = encoders.build("conv", channels=3, image_size=32, scaling=((0.5,) * 3,) * 2)
    with pytest.raises(BadInput, match=r"images of shape \(.*\): give \(N, 3, H, W\)"):
        encoder(torch.zeros(shape))
    with pytest.raises(BadInput, match="as ndarray: give a tensor"):
        encoder(torch.zeros(1, 3, 32, 32).numpy())


@every_kind
def test_uint8_images_are_refused(name):
    with pytest.raises(BadInput, match=r"torch.uint8: give floats in \[0, 1\]"):
        encoders.build(name, image_size=32)((255 * images()).byte())
