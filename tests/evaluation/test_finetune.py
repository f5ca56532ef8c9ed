"""Fine-tuning by hand: where it starts from, and which part moves how fast."""

from copy import deepcopy

import pytest
import torch
from torch.nn.functional import cross_entropy

from sanslabel import encoders
from sanslabel.batch import Clock
from sanslabel.errors import BadInput, NotFinite
from sanslabel.evaluation import linear
from sanslabel.evaluation.protocols.finetune import Finetune, Head, fine_tuned
from sanslabel.methods.method import Networks
from sanslabel.randomness import fold
from sanslabel.sources import batches, open_source
from sanslabel.views import View

CPU = torch.device("cpu")


def probe_of(width: int, seed: int = 0) -> linear.Probe:
    torch.manual_seed(seed)
    features, labels = 3 * torch.randn(200, width) + 1, torch.randint(0, 10, (200,))
    features[:, 0] = 7  # constant: its scale is 0
    return linear.fitted(features, labels, classes=10, penalty=1e-2)


def test_the_head_starts_as_the_probe():
    probe = probe_of(16)
    features = torch.randn(50, 16)
    standardized = (features - probe.mean) * probe.scale
    head = Head(probe).eval()
    torch.testing.assert_close(head(features), standardized @ probe.weight + probe.bias, rtol=1e-4, atol=1e-4)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(head(features), head(features.clone())), "in float32"
        assert head(features.bfloat16()).dtype == torch.float32


def test_the_head_follows_features_that_drift():
    """In training it is blind to a shift and a scale of all features, which would spoil a fixed standardization."""
    head, features = Head(probe_of(16)).train(), torch.randn(64, 16)
    torch.testing.assert_close(head(features), head(100 + 0.01 * features), rtol=1e-2, atol=1e-2)


def test_blocks_of_a_transformer_move_slower_the_deeper_they_lie():
    encoder = encoders.build("vit_micro", channels=1, image_size=8, patch=4)
    how = Finetune(layer_decay=0.5)
    net = Networks(encoder=encoder, classifier=torch.nn.Linear(encoder.width, 10))
    recipe = how.recipe(encoder, 1000)
    groups = recipe.parameter_groups(net, recipe.optimizers[""])
    factor = {id(p): group["base_lr"] / how.lr for group in groups for p in group["params"]}
    depth = len(encoder.blocks)
    for name, parameter in net.named_parameters():
        words = name.split(".")
        if words[0] == "classifier" or words[1] == "norm":
            expected = 1.0
        elif words[1] == "blocks":
            expected = 0.5 ** (depth - int(words[2]))
        else:
            expected = 0.5 ** (depth + 1)
        assert factor[id(parameter)] == pytest.approx(expected), name
    assert len(factor) == len(list(net.parameters()))


@pytest.mark.parametrize("name", ["vit_micro", "conv"])
def test_the_class_token_and_positions_have_no_weight_decay(name):
    """As in MAE's fine-tuning; before, only tensors of one dimension had none."""
    encoder = encoders.build(name, channels=1, image_size=8, **({"patch": 4} if name == "vit_micro" else {}))
    net = Networks(encoder=encoder, classifier=torch.nn.Linear(encoder.width, 10))
    recipe = Finetune(weight_decay=0.05).recipe(encoder, 1000)
    groups = recipe.parameter_groups(net, recipe.optimizers[""])
    decay = {id(p): group["base_decay"] for group in groups for p in group["params"]}
    for key, parameter in net.named_parameters():
        without = parameter.ndim == 1 or key.endswith(("cls_token", "pos_embed"))
        assert decay[id(parameter)] == (0 if without else 0.05), key


def test_a_rate_of_almost_nothing_is_the_probe():
    source = open_source("digits", "train")
    encoder = encoders.build("conv", channels=1, image_size=8).eval()
    probe = probe_of(encoder.width)
    net = fine_tuned(encoder, probe, source, Finetune(steps=1, lr=1e-12), reads=source.image, seed=0, device=CPU)
    for (name, before), tuned in zip(encoder.named_parameters(), net[0].parameters(), strict=True):
        torch.testing.assert_close(before, tuned, rtol=0, atol=1e-9, msg=name)


def test_it_is_a_loop_of_cross_entropy_on_crops(generator):
    """The same bits as the loop that the engine and `supervised` stand for."""
    source = open_source("digits", "train").subset(torch.arange(300))
    encoder = encoders.build("vit_micro", channels=1, image_size=8, patch=4).eval()
    how, probe = Finetune(steps=6, batch=100), probe_of(encoder.width)
    net = Networks(encoder=deepcopy(encoder), classifier=Head(probe)).train().to(memory_format=torch.channels_last)
    recipe, view = how.recipe(encoder, len(source)), View(crop=how.crop, flip=how.flip, size=8)
    optimizer = recipe.optimizers[""].build(recipe.parameter_groups(net, recipe.optimizers[""]))
    for clock, batch in batches(source, 100, seed=fold(4, 11), epochs=2, device=CPU):
        logits = net.classifier(net.encoder(view(batch, 0)))
        optimizer.zero_grad()
        cross_entropy(logits, batch.labels()).backward()
        recipe.adjust_(optimizer, clock)
        optimizer.step()
    tuned = fine_tuned(encoder, probe, source, how, reads=source.image, seed=4, device=CPU)
    expected = [*net.encoder.state_dict().values(), *net.classifier.state_dict().values()]
    assert all(torch.equal(a, b) for a, b in zip(tuned.state_dict().values(), expected, strict=True))


def test_a_loss_that_is_not_finite_ends_it_in_a_sentence():
    source = open_source("digits", "train").subset(torch.arange(100))
    encoder = encoders.build("mlp", channels=1, image_size=8, hidden=[8])
    with pytest.raises(NotFinite, match=r"not finite in step \d+; lower `finetune.lr`"):
        fine_tuned(encoder, probe_of(8), source, Finetune(lr=1e30), reads=source.image, seed=0, device=CPU)


def test_epochs_come_near_to_the_steps():
    how = Finetune(steps=800)
    assert [how.epochs(n) for n in (8000, 60_000, 1_000_000, 100)] == [13, 2, 1, 800]


def test_rates_follow_warm_up_and_cosine():
    how = Finetune(steps=100)
    recipe = how.recipe(encoders.build("conv", channels=1, image_size=8), 1280)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    optimizer.param_groups[0].update(base_lr=0.5, base_decay=0.1, constant=False)
    rates = []
    for step in range(100):
        recipe.adjust_(optimizer, Clock(0, step // 10, step, 100, 10))
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates[0] < rates[9] <= 0.5
    assert max(rates) == pytest.approx(0.5)
    assert rates[-1] < 0.001
    assert optimizer.param_groups[0]["weight_decay"] == 0.1


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"steps": 0}, "finetune.steps=0: must be 1 or more"),
        ({"lr": 0.0}, "finetune.lr=0.0: must be above 0"),
        ({"flip": 1.5}, "finetune.flip=1.5: must be from 0 to 1"),
    ],
)
def test_numbers_that_cannot_be(settings, sentence):
    with pytest.raises(BadInput, match=sentence):
        Finetune(**settings)
