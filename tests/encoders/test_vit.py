"""Vision transformers against timm's, and attention against its loops."""

import math

import pytest
import timm
import torch
import torch.nn.functional as F
from timm.layers import resample_abs_pos_embed
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from sanslabel import encoders
from sanslabel.encoders.attention import attention
from sanslabel.errors import BadInput
from sanslabel.heads.token_predictor import TokenPredictor

MICRO = {"embed_dim": 128, "depth": 6, "num_heads": 4, "num_classes": 0}


def images(count: int, channels: int, height: int, width: int) -> torch.Tensor:
    return torch.rand(count, channels, height, width, generator=torch.Generator().manual_seed(1))


def twins(perturbed, pool: str = "class", **options) -> tuple[nn.Module, nn.Module]:
    """Our vit_micro for grey images of 28 pixels and timm's network of the same shape with its weights."""
    ours = perturbed(encoders.build("vit_micro", channels=1, image_size=28, pool=pool))
    theirs = VisionTransformer(img_size=28, patch_size=4, in_chans=1, **MICRO, **options)
    theirs.load_state_dict(ours.state_dict(), strict=True)
    return ours, theirs.eval()


@pytest.mark.parametrize("size", ["tiny", "small", "base"])
def test_names_and_shapes_are_timms(size):
    with torch.device("meta"):
        ours = encoders.build(f"vit_{size}").state_dict()
        theirs = timm.create_model(f"vit_{size}_patch16_224", num_classes=0).state_dict()
    assert {key: value.shape for key, value in ours.items()} == {key: value.shape for key, value in theirs.items()}


def test_same_output_and_gradient_as_timms_vit_tiny(perturbed):
    ours = perturbed(encoders.build("vit_tiny", image_size=224))
    theirs = timm.create_model("vit_tiny_patch16_224", num_classes=0).eval()
    theirs.load_state_dict(ours.state_dict(), strict=True)
    weights = torch.randn(2, 192, generator=torch.Generator().manual_seed(2))
    inputs, outputs = [], []
    for network in (ours, theirs):
        inputs.append(images(2, 3, 224, 224).requires_grad_())
        outputs.append(network(inputs[-1]))
        (outputs[-1] * weights).mean().backward()
    assert outputs[0].std() > 0.1
    assert (outputs[0][0] - outputs[0][1]).abs().max() > 1e-3
    torch.testing.assert_close(outputs[0], outputs[1], atol=1e-4, rtol=0)
    torch.testing.assert_close(inputs[0].grad, inputs[1].grad, atol=1e-6, rtol=1e-3)
    gradients = {key: p.grad for key, p in theirs.named_parameters()}
    for key, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[key], atol=1e-5, rtol=1e-3, msg=key)


@pytest.mark.parametrize(("pool", "options"), [("class", {}), ("mean", {"global_pool": "avg", "fc_norm": False})])
def test_both_pools_are_timms(perturbed, pool, options):
    ours, theirs = twins(perturbed, pool, **options)
    batch = images(3, 1, 28, 28)
    torch.testing.assert_close(ours(batch), theirs(batch), atol=1e-4, rtol=0)


def test_another_number_of_heads_is_timms(perturbed):
    ours = perturbed(encoders.build("vit_micro", channels=1, image_size=28, heads=8))
    theirs = VisionTransformer(img_size=28, patch_size=4, in_chans=1, **{**MICRO, "num_heads": 8}).eval()
    theirs.load_state_dict(ours.state_dict(), strict=True)
    batch = images(3, 1, 28, 28)
    torch.testing.assert_close(ours(batch), theirs(batch), atol=1e-4, rtol=0)


@pytest.mark.parametrize("options", [{"heads": 8}, {"start": "moco_v3"}, {"positions": "sincos"}])
def test_a_configuration_gives_the_same_start_under_the_same_seed(options):
    torch.manual_seed(0)
    encoder = encoders.build("vit_micro", channels=1, image_size=8, **options)
    torch.manual_seed(0)
    again = encoders.build(**encoder.config)
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in encoder.state_dict().items())
    assert again.blocks[0].attn.heads == encoder.blocks[0].attn.heads


def test_tokens_of_little_variance_are_normalized_as_in_timm(perturbed):
    ours, theirs = twins(perturbed)
    for network in (ours, theirs):  # variance of the tokens near the 1e-6 that LayerNorm adds to it
        network.load_state_dict(
            {
                key: value * 1e-3
                if key.startswith(("cls", "pos", "patch")) or ".proj." in key or ".fc2." in key
                else value
                for key, value in network.state_dict().items()
            }
        )
    batch = images(3, 1, 28, 28)
    torch.testing.assert_close(ours(batch), theirs(batch), atol=1e-4, rtol=0)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (20, 36), (56, 28), (4, 8)])
def test_other_image_sizes_are_timms(perturbed, height, width):
    ours, theirs = twins(perturbed, dynamic_img_size=True)
    batch = images(2, 1, height, width)
    torch.testing.assert_close(ours(batch), theirs(batch), atol=1e-4, rtol=0)


@pytest.mark.parametrize("grid", [(7, 7), (8, 8), (5, 9), (3, 2), (14, 14)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_positions_are_interpolated_as_timm_does(grid, dtype, perturbed):
    encoder = perturbed(encoders.build("vit_micro", channels=1, image_size=28)).to(dtype)
    expected = resample_abs_pos_embed(encoder.pos_embed, list(grid), old_size=[7, 7])
    positions = encoder.positions(grid)
    assert positions.dtype == dtype
    last_bit = 2.0**-7 if dtype == torch.bfloat16 else 1e-5  # sums in another order may be rounded otherwise
    torch.testing.assert_close(positions, expected, atol=1e-6, rtol=last_bit)


def test_stages_are_timms_blocks(perturbed):
    ours, theirs = twins(perturbed)
    seen = []
    for layer in (*theirs.blocks, theirs.norm):
        layer.register_forward_hook(lambda _, inputs, output: seen.append(output.clone()))
    batch = images(2, 1, 28, 28)
    theirs(batch)
    *blocks, last = seen
    for mine, other in zip(ours.tokens_after_each_block(ours.embed(batch)), blocks, strict=True):
        torch.testing.assert_close(mine, other, atol=1e-4, rtol=1e-4)
    stages = ours.stages(batch)
    assert [stage.shape for stage in stages] == [(2, 50, 128)] * 6
    for mine, other in zip(stages, [*blocks[:-1], last], strict=True):
        torch.testing.assert_close(mine, other, atol=1e-4, rtol=1e-4)


def test_embed_keeps_patches_with_their_positions(perturbed):
    encoder = perturbed(encoders.build("vit_micro", channels=2, image_size=28))
    batch = images(3, 2, 28, 28)
    order = torch.stack([torch.randperm(49, generator=torch.Generator().manual_seed(n)) for n in range(3)])
    keep = order[:, :12]
    tokens = encoder.embed(batch, keep)
    assert tokens.shape == (3, 13, 128)
    weight, bias = encoder.patch_embed.proj.weight.flatten(1), encoder.patch_embed.proj.bias
    for n in range(3):
        torch.testing.assert_close(tokens[n, 0], encoder.cls_token[0, 0] + encoder.pos_embed[0, 0])
        for k in range(12):
            row, column = divmod(int(keep[n, k]), 7)
            pixels = batch[n, :, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4].flatten()
            expected = weight @ pixels + bias + encoder.pos_embed[0, 1 + int(keep[n, k])]
            torch.testing.assert_close(tokens[n, 1 + k], expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("pool", ["class", "mean"])
def test_only_kept_patches_matter_and_their_order_does_not(perturbed, pool):
    encoder = perturbed(encoders.build("vit_micro", channels=1, image_size=28, pool=pool))
    keep = torch.tensor([[0, 8, 48, 13], [5, 40, 20, 1]])
    batch = images(2, 1, 28, 28)
    outputs = encoder(batch, keep)
    torch.testing.assert_close(encoder(batch, keep.flip(1)), outputs, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(encoder(batch, torch.arange(49).repeat(2, 1)), encoder(batch), atol=1e-5, rtol=1e-4)
    seen = torch.zeros(2, 49).scatter(1, keep, 1.0).view(2, 1, 7, 7)
    seen = seen.repeat_interleave(4, dim=2).repeat_interleave(4, dim=3)
    torch.testing.assert_close(encoder(batch * seen, keep), outputs, atol=1e-6, rtol=1e-5)
    assert (encoder(batch, keep[[1, 0]]) - outputs).abs().max() > 1e-2


def test_gradients_reach_kept_patches_alone():
    encoder = encoders.build("vit_micro", channels=1, image_size=28)
    batch = images(1, 1, 28, 28).requires_grad_()
    encoder(batch, torch.tensor([[0, 48]])).square().sum().backward()
    reached = batch.grad.abs().unfold(2, 4, 4).unfold(3, 4, 4).sum((0, 1, 4, 5)) > 0
    assert reached.nonzero().tolist() == [[0, 0], [6, 6]]


def look_ups(queries, keys, values):
    """A look-up at a time, in float64."""
    queries, keys, values = queries.double(), keys.double(), values.double()
    result = torch.zeros_like(values)
    samples, heads, count, depth = queries.shape
    for n in range(samples):
        for h in range(heads):
            for t in range(count):
                likeness = [math.exp(float(queries[n, h, t] @ keys[n, h, s]) / math.sqrt(depth)) for s in range(count)]
                for s in range(count):
                    result[n, h, t] += likeness[s] / sum(likeness) * values[n, h, s]
    return result


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 0.03)]
)
def test_attention_by_loops_and_fused(dtype, tolerance):
    store = torch.randn(3, 2, 3, 7, 8, generator=torch.Generator().manual_seed(0)).mul(2).to(dtype)
    read = attention(*store)
    assert read.dtype == dtype
    assert read.std() > 0.5
    torch.testing.assert_close(read.double(), look_ups(*store), atol=tolerance, rtol=tolerance)
    torch.testing.assert_close(read, F.scaled_dot_product_attention(*store), atol=tolerance, rtol=tolerance)


def test_a_sharp_query_reads_its_own_value():
    keys = 100 * torch.eye(5)[None, None]
    values = torch.randn(1, 1, 5, 5)
    for dtype in (torch.float32, torch.bfloat16):
        read = attention(keys.to(dtype), keys.to(dtype), values.to(dtype))
        torch.testing.assert_close(read, values.to(dtype))


@pytest.mark.parametrize(("size", "patch"), [(8, 2), (24, 4), (28, 4), (32, 4), (64, 8), (96, 8), (112, 16), (224, 16)])
def test_default_patch(size, patch):
    with torch.device("meta"):
        encoder = encoders.build("vit_tiny", image_size=size)
    assert encoder.config["patch"] == patch
    assert encoder.pos_embed.shape == (1, 1 + (size // patch) ** 2, 192)


def test_images_that_do_not_divide_are_refused():
    encoder = encoders.build("vit_micro", image_size=28)
    with pytest.raises(BadInput, match=r"30x28 pixels cannot be cut into patches of 4x4.*such as 28 or 32"):
        encoder(images(1, 3, 30, 28))


def test_weights_start_as_timms():
    torch.manual_seed(0)
    ours = encoders.build("vit_tiny").state_dict()
    for key, value in timm.create_model("vit_tiny_patch16_224", num_classes=0).state_dict().items():
        if value.std() == 0:
            assert torch.equal(ours[key], value), key
        else:
            assert ours[key].std() / value.std() == pytest.approx(1, abs=0.15), key


def test_starts_are_the_papers():
    """Bounds by the papers' code: MAE's attention has one matrix of queries, keys and values, MoCo v3's has three."""
    width, inputs = 192, 16 * 3
    layers = {"patch_embed.proj": (inputs, width), "blocks.11.attn.qkv": (width, 3 * width)}
    layers |= {"blocks.11.attn.proj": (width, width), "blocks.1.mlp.fc2": (4 * width, width)}
    largest: dict[str, list[float]] = {}
    for start in ("mae", "moco_v3", "data2vec"):
        torch.manual_seed(0)
        encoder = encoders.build("vit_tiny", image_size=32, start=start)
        assert encoder.cls_token.std().item() == pytest.approx(1e-6 if start == "moco_v3" else 0.02, rel=0.2)
        largest[start] = [encoder.get_submodule(name).weight.abs().max().item() for name in layers]
        biases = {name for name in layers if encoder.get_submodule(name).bias.any()}
        assert biases == ({"patch_embed.proj"} if start == "mae" else set())
    xavier = [math.sqrt(6 / sum(sides)) for sides in layers.values()]
    assert largest["mae"] == pytest.approx(xavier, rel=0.01)
    xavier[1] = math.sqrt(6 / (2 * width))
    assert largest["moco_v3"] == pytest.approx(xavier, rel=0.01)
    assert largest["data2vec"] == pytest.approx([0.02, 0.02, 0.02 / math.sqrt(24), 0.02 / math.sqrt(4)], rel=0.01)


def test_a_decoder_starts_as_it_is_told():
    torch.manual_seed(0)
    decoder = TokenPredictor(inputs=64, width=32, depth=1, outputs=16, start="mae")
    assert decoder.embed.weight.abs().max().item() == pytest.approx(math.sqrt(6 / (64 + 32)), rel=0.01)
    assert decoder.head.weight.abs().max().item() == pytest.approx(math.sqrt(6 / (32 + 16)), rel=0.02)
