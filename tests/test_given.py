"""Weights of other networks: which tensors are found, how they are brought to an encoder, and what is refused."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from timm.layers import resample_abs_pos_embed

from sanslabel import checkpoint, encoders
from sanslabel.encoders import LinearCode
from sanslabel.encoders.given_weights import with_channels
from sanslabel.errors import BadInput
from sanslabel.given import given_encoder, open_weights, start_from_

KEPT = Path(__file__).parent / "training" / "kept" / "89c30e0"


@pytest.fixture(scope="module")
def resnet(tmp_path_factory):
    """torchvision's ResNet-18 for 1,000 classes, as a file."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("given") / "resnet18.safetensors"
    save_file(torchvision.models.resnet18().state_dict(), path, metadata={"license": "bsd-3-clause"})
    return path


@pytest.fixture(scope="module")
def vit(tmp_path_factory):
    """timm's ViT-Tiny for 1,000 classes, as a folder with a model card."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("given") / "vit_tiny_patch16_224"
    folder.mkdir()
    model = timm.create_model("vit_tiny_patch16_224")
    torch.nn.init.normal_(model.pos_embed)
    save_file(model.state_dict(), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"architecture": "vit_tiny_patch16_224"}))
    (folder / "README.md").write_text("---\ntags:\n- timm\nlicense: apache-2.0\n---\n# A model\nlicense: none\n")
    return folder


def test_a_resnet_of_torchvision(resnet):
    encoder = encoders.build("resnet18", image_size=64, stem="imagenet")
    given = open_weights(str(resnet))
    report = start_from_(encoder, given)
    theirs = torchvision.models.resnet18()
    theirs.load_state_dict(dict(given.tensors))
    theirs.fc = torch.nn.Identity()
    images = torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(encoder.eval()(images), theirs.eval()(images), atol=1e-4, rtol=1e-4)
    assert (given.sha256, given.license) == (checkpoint.sha256(resnet), "bsd-3-clause")
    assert str(report).splitlines() == [
        f"weights from {resnet} (sha256 {given.sha256[:12]}…, license bsd-3-clause)",
        "  matched   120 of 120 tensors, 100.0 % of all numbers",
        "  missing   none",
        "  ignored   fc.bias, fc.weight (a head)",
    ]


@pytest.mark.parametrize("channels", [1, 6])
def test_the_first_convolution_is_brought_to_the_number_of_channels(resnet, channels):
    """On images whose channels are alike, the outputs stay as they were."""
    gray = torch.rand(2, 1, 64, 64)
    outputs = []
    for count in (3, channels):
        encoder = encoders.build("resnet18", channels=count, image_size=64, stem="imagenet").eval()
        report = start_from_(encoder, open_weights(str(resnet)))
        outputs.append(encoder(gray.expand(-1, count, -1, -1)))
    torch.testing.assert_close(*outputs, atol=1e-4, rtol=1e-4)
    how = {1: "by the mean times 3", 6: "repeated and times 0.5"}[channels]
    assert report.reshaped == (f"conv1.weight: from 3 to {channels} channels, {how}",)
    assert f"  reshaped  conv1.weight: from 3 to {channels} channels, {how}\n" in str(report)


@pytest.mark.parametrize("channels", range(1, 8))
def test_kernels_for_other_channels_by_loops(channels):
    kernel = torch.randn(4, 3, 2, 2)
    ours, _ = with_channels(kernel, channels)
    assert ours.shape == (4, channels, 2, 2)
    for i in range(channels):
        expected = kernel.sum(1) if channels == 1 else kernel[:, i % 3] * 3 / channels
        torch.testing.assert_close(ours[:, i], expected)


def test_a_transformer_of_timm_on_another_grid(vit):
    encoder = encoders.build("vit_tiny", channels=1, image_size=96, patch=16)
    given = open_weights(str(vit))
    report = start_from_(encoder, given)
    expected = resample_abs_pos_embed(given.tensors["pos_embed"], [6, 6], old_size=[14, 14])
    torch.testing.assert_close(encoder.pos_embed, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(encoder.patch_embed.proj.weight, given.tensors["patch_embed.proj.weight"].sum(1, True))
    assert given.license == "apache-2.0"
    assert str(report).splitlines() == [
        f"weights from {vit / 'model.safetensors'} (sha256 {given.sha256[:12]}…, license apache-2.0)",
        "  matched   150 of 150 tensors, 100.0 % of all numbers",
        "  reshaped  pos_embed: interpolated from 14x14 to 6x6 patches",
        "  reshaped  patch_embed.proj.weight: from 3 to 1 channels, by the mean times 3",
        "  missing   none",
        "  ignored   head.bias, head.weight (a head)",
    ]


def test_fixed_positions_stay_as_they_are(vit):
    encoder = encoders.build("vit_tiny", image_size=224, positions="sincos")
    before = encoder.pos_embed.clone()
    report = start_from_(encoder, open_weights(str(vit)))
    assert torch.equal(encoder.pos_embed, before)
    assert report.reshaped == ("pos_embed: fixed sines and cosines, left as they are",)


@pytest.mark.parametrize("name", ["simclr", "vae"])
def test_a_run_folder(name):
    """The encoder under an autoencoder's code is found, too, and the code is ignored."""
    trained, given = checkpoint.load_encoder(KEPT / name), open_weights(str(KEPT / name))
    trunk = trained.trunk if isinstance(trained, LinearCode) else trained
    encoder = encoders.build(**trunk.config).eval()
    report = start_from_(encoder, given)
    images = torch.rand(2, *encoder.reads.shape)
    assert torch.equal(encoder(images), trunk(images))
    assert given.path == KEPT / name / "encoder.safetensors"
    assert (report.share, report.missing, report.unused) == (1.0, (), ())
    assert (report.prefix, report.heads) == (("trunk.", ("code.bias", "code.weight")) if name == "vae" else ("", ()))
    assert torch.equal(given_encoder(given)(images), trained(images))
    assert str(report).startswith(f"weights from {given.path} (sha256 {given.sha256[:12]}…, license not stated)\n")


def test_only_a_run_states_how_its_encoder_is_built(resnet):
    with pytest.raises(BadInput, match="does not state how its encoder is built; name the folder of a run"):
        given_encoder(open_weights(str(resnet)))


def same(ours, theirs) -> bool:
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], tensor) for name, tensor in theirs.items())


def small() -> encoders.Encoder:
    torch.manual_seed(1)
    return encoders.build("conv", channels=1, image_size=8)


def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(2)
    return encoders.build("conv", channels=1, image_size=8).state_dict()


@pytest.mark.parametrize("prefix", ["module.", "backbone.", "encoder.", "module.encoder.", "_orig_mod.model."])
def test_prefixes_are_found(prefix):
    encoder = small()
    tensors = {prefix + name: tensor for name, tensor in state().items()} | {"projector.0.weight": torch.ones(3)}
    report = encoder.load_given_(tensors, "given.safetensors")
    assert report.prefix == prefix
    assert report.unused == ("projector.0.weight",)
    assert f", without the prefix {prefix!r}\n" in str(report)
    assert "  unused    projector.0.weight" in str(report)
    assert same(encoder.state_dict(), state())


def test_names_of_a_library_are_found_in_its_adapter():
    encoder = encoders.build("timm/resnet18", channels=1, image_size=32)
    given = timm.create_model("resnet18", in_chans=1).state_dict()
    report = encoder.load_given_(given, "given")
    assert report.share == 1
    assert torch.equal(encoder.model.conv1.weight, given["conv1.weight"])


def test_the_prefix_that_matches_most_is_taken_and_ends():
    tensors = {
        "encoder.layer1.conv1.weight": state()["layer1.conv1.weight"],
        **state(),
        "module." * 10_000: torch.ones(1),
    }
    assert small().load_given_(tensors, "given").prefix == ""


def test_half_precision_is_read():
    encoder = small()
    half = {name: t.bfloat16() if t.is_floating_point() else t for name, t in state().items()}
    encoder.load_given_(half, "given")
    assert encoder.get_parameter("stem.0.weight").dtype == torch.float32
    assert torch.equal(encoder.get_parameter("stem.0.weight"), half["stem.0.weight"].float())


def refused(tensors, match, encoder=None, **options):
    """The sentence of the refusal; the encoder is then as it was."""
    encoder = encoder or small()
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    with pytest.raises(BadInput, match=match) as error:
        encoder.load_given_(tensors, "given.safetensors", **options)
    assert "\n" not in str(error.value)
    assert same(encoder.state_dict(), before)


def test_less_than_nine_tenths_are_refused_unless_allowed():
    tensors = {name: tensor for name, tensor in state().items() if name != "layer2.conv2.weight"}
    match = r"only 49 % of the numbers of conv are there \(missing are layer2.conv2.weight\); name weights of this"
    refused(tensors, f"given.safetensors: {match} encoder, or add `allow_missing`.")
    report = small().load_given_(tensors, "given.safetensors", allow_missing=True)
    assert report.missing == ("layer2.conv2.weight",)
    assert report.share == pytest.approx(1 - 9 * 256 * 256 / sum(t.numel() for t in state().values()))
    assert "  missing   layer2.conv2.weight" in str(report)
    few = {name: tensor for name, tensor in state().items() if name != "stem.0.weight"}
    assert small().load_given_(few, "given.safetensors").missing == ("stem.0.weight",)


@pytest.mark.parametrize("allowed", [False, True])
def test_renamed_keys_are_refused(allowed):
    renamed = {f"blocks.{i}": tensor for i, tensor in enumerate(state().values())}
    match = "only 0 % of the numbers of conv are there .*stem.0.weight, .* more"
    refused(renamed, match + r"\); name weights of this encoder\.", allow_missing=allowed)


@pytest.mark.parametrize("allowed", [False, True])
def test_another_width_is_refused_by_the_first_tensor(allowed, resnet):
    wide = {name: torch.cat([t, t]) if t.ndim else t for name, t in state().items()}
    match = r"tensor 'stem.0.weight' is of shape \(128, 1, 4, 4\) where \(64, 1, 4, 4\) is needed; choose the encoder"
    refused(wide, match, allow_missing=allowed)
    other = encoders.build("resnet18", image_size=32)
    refused(
        open_weights(str(resnet)).tensors, r"'conv1.weight' is of shape \(64, 3, 7, 7\) where \(64, 3, 3, 3\)", other
    )


def test_positions_that_are_no_square_or_of_another_width_are_refused():
    encoder = encoders.build("vit_micro", channels=1, image_size=8)
    for shape in ((1, 1 + 15, 128), (1, 17, 64), (17, 128), (1, 1, 128), (2, 17, 128), (1, 0, 128)):
        refused(encoder.state_dict() | {"pos_embed": torch.ones(shape)}, "tensor 'pos_embed' is of shape", encoder)


def test_numbers_of_another_kind_or_not_finite_are_refused():
    weight = state()["layer1.bn1.weight"]
    for other, match in (
        (
            weight.to(torch.complex64),
            "'layer1.bn1.weight' is of torch.complex64; name weights that are stored as floats",
        ),
        (weight.to(torch.int8), "is of torch.int8"),
        (weight / 0 * 0, "has values that are not finite"),
        (weight / 0, "has values that are not finite"),
    ):
        refused(state() | {"layer1.bn1.weight": other}, match)


@pytest.mark.parametrize("name", ["model.pth", "model.PT", "pytorch_model.bin", "last.ckpt"])
def test_pickles_are_refused(tmp_path, name):
    torch.save({"weight": torch.ones(2)}, tmp_path / name)
    sentence = f"{name}: pickles are not read, since they can run code; store the tensors as .safetensors"
    for source in (tmp_path / name, tmp_path):
        with pytest.raises(BadInput, match=sentence):
            open_weights(str(source))
    (tmp_path / name).rename(tmp_path / "renamed.safetensors")
    with pytest.raises(BadInput, match=r"renamed.safetensors"):
        open_weights(str(tmp_path / "renamed.safetensors"))


def test_sources_that_have_no_weights_are_refused(tmp_path):
    for source in (tmp_path / "none", "timm/resnet18", "a" * 5000):
        with pytest.raises(
            BadInput, match=r"name a run folder, a .safetensors file or a folder with model.safetensors"
        ):
            open_weights(str(source))
    with pytest.raises(BadInput, match=r"no weights here \(no config.json, no model.safetensors\); name the folder"):
        open_weights(str(tmp_path))
    (tmp_path / "run.json").touch()
    with pytest.raises(BadInput, match=r"the run has not ended; finish it with: sanslabel.resume"):
        open_weights(str(tmp_path))
    (tmp_path / "model.safetensors").mkdir()
    with pytest.raises(BadInput, match=r"model.safetensors: not a file"):
        open_weights(str(tmp_path))


def test_a_license_is_a_few_words_or_nothing(tmp_path):
    save_file({"weight": torch.ones(2)}, tmp_path / "model.safetensors")
    assert open_weights(str(tmp_path)).license is None
    for content, expected in (
        ("mit", "mit"),
        ("\x1b[31mred", None),
        ("x" * 100, None),
        (["mit"], None),
        ("a\nb", None),
    ):
        (tmp_path / "config.json").write_text(json.dumps({"license": content}))
        assert open_weights(str(tmp_path)).license == expected
    (tmp_path / "config.json").write_text("{")
    assert open_weights(str(tmp_path)).license is None


def test_a_report_lists_a_few_names():
    report = small().load_given_(state(), "given")
    text = str(replace(report, missing=tuple("abcdefghij")))
    assert "  missing   a, b, c, d, e, f and 4 more" in text
    text = str(replace(report, unused=("x" * 10_000, "red\x1b[31m\nsecond line")))
    assert f"  unused    {'x' * 80}, red\\x1b[31m\\nsecond line" in text


def test_a_code_takes_the_weights_of_its_trunk():
    encoder = LinearCode.on(small(), 3)
    report = encoder.load_given_({f"backbone.{name}": tensor for name, tensor in state().items()}, "given")
    assert same(encoder.trunk.state_dict(), state())
    assert (report.prefix, report.missing) == ("backbone.", ("code.weight", "code.bias"))
    wide = LinearCode.on(encoders.build("vit_micro", channels=1, image_size=12), 3)
    given = encoders.build("vit_micro", channels=1, image_size=8).state_dict()
    assert wide.load_given_(given, "given").reshaped == ("trunk.pos_embed: interpolated from 4x4 to 6x6 patches",)


def test_a_file_that_was_cut_off_is_refused(tmp_path, resnet):
    content = resnet.read_bytes()
    for length in (0, 4, 100, len(content) - 1):
        (tmp_path / "short.safetensors").write_bytes(content[:length])
        with pytest.raises(
            BadInput, match=r"short.safetensors.* cannot be read|short.safetensors: not a readable"
        ) as error:
            open_weights(str(tmp_path / "short.safetensors"))
        assert "\n" not in str(error.value)
