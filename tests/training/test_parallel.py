import pytest
import torch
from torch import nn

from sanslabel import encoders, methods
from sanslabel.engine import optimize, players_of
from sanslabel.errors import BadInput
from sanslabel.heads import Dropout
from sanslabel.losses import nt_xent
from sanslabel.memory import teacher_of
from sanslabel.methods.method import Networks
from sanslabel.sources import open_source
from sanslabel.sources.loader import batches
from sanslabel.training.parallel import chunk_, recompute_


def gradients(net: Networks, views: torch.Tensor) -> dict[str, torch.Tensor]:
    net.zero_grad()
    a, b = net.projector(net.encoder(views)).chunk(2)
    nt_xent(a, b, 0.2).backward()
    return {name: p.grad.clone() for name, p in net.named_parameters()}


def networks(name: str, **options) -> Networks:
    torch.manual_seed(0)
    encoder = encoders.build(name, channels=1, image_size=16, **options)
    return Networks(encoder=encoder, projector=nn.Sequential(nn.Linear(encoder.width, 32), nn.BatchNorm1d(32)))


def kept(net: Networks) -> int:
    """Bytes that autograd keeps between forward and backward, counted tensor by tensor."""
    storages = {}

    def keep(tensor):
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        z = net.projector(net.encoder(torch.rand(64, 1, 16, 16)))
    z.sum().backward()
    return sum(storages.values())


@pytest.mark.usefixtures("tiny_vit")
@pytest.mark.parametrize("size", [7, 8, 32, 64])
def test_chunks_give_the_gradient_of_the_whole_batch(size):
    views = torch.rand(48, 1, 16, 16, dtype=torch.float64)  # where rounding does not hide what is exact
    net = networks("vit_micro").double()
    whole = gradients(net, views)
    assert not chunk_(net, size)
    chunked = gradients(net, views)
    for name, gradient in whole.items():  # a bias under BatchNorm has none but rounding, up to 2e-13
        assert (gradient - chunked[name]).norm() <= 1e-10 * gradient.norm().clamp(min=1e-2), name


def test_with_batch_norm_each_chunk_is_a_ghost_batch_and_counted_once():
    views = torch.rand(48, 1, 16, 16)
    net, ghost = networks("conv"), networks("conv")
    assert chunk_(net, 16)
    chunked = gradients(net, views)
    parts = torch.cat([ghost.encoder(part) for part in views.split(16)])
    a, b = ghost.projector(parts).chunk(2)
    nt_xent(a, b, 0.2).backward()
    for (name, gradient), p in zip(chunked.items(), ghost.parameters(), strict=True):
        torch.testing.assert_close(gradient, p.grad, rtol=1e-4, atol=1e-6, msg=name)
    for (name, ours), theirs in zip(net.named_buffers(), ghost.buffers(), strict=True):
        torch.testing.assert_close(ours, theirs, msg=name)
    assert net.encoder.get_buffer("stem.1.num_batches_tracked") == 3


@pytest.mark.usefixtures("tiny_vit")
def test_a_teacher_is_chunked_too_and_state_keeps_its_names():
    net = networks("vit_micro")
    net.teacher = teacher_of(net)
    names = list(net.state_dict())
    views = torch.rand(20, 1, 16, 16)
    with torch.no_grad():
        whole = net.teacher.encoder(views)
        chunk_(net, 8)
        torch.testing.assert_close(net.teacher.encoder(views), whole)
    assert list(net.state_dict()) == names
    assert net.teacher.encoder.forward.encoder is net.teacher.encoder


def test_chunks_hold_a_fraction_of_what_the_whole_batch_holds():
    net = networks("vit_micro")
    whole = kept(net)
    chunk_(net, 8)
    assert kept(net) < whole / 4


@pytest.mark.usefixtures("tiny_vit")
def test_chunks_of_a_view_with_dropped_tokens():
    torch.manual_seed(0)
    encoder = encoders.build("vit_micro", channels=1, image_size=8, patch=2)
    images, keep = torch.rand(10, 1, 8, 8), torch.rand(10, 16).argsort(dim=1)[:, :4]
    whole = encoder(images, keep, 2)
    (whole.square().sum()).backward()
    gradients = [p.grad.clone() for p in encoder.parameters() if p.grad is not None]
    encoder.zero_grad()
    chunk_(torch.nn.ModuleList([encoder]), 4)
    parts = encoder(images, keep, 2)
    torch.testing.assert_close(parts, whole)
    parts.square().sum().backward()
    for p, gradient in zip((p for p in encoder.parameters() if p.grad is not None), gradients, strict=True):
        torch.testing.assert_close(p.grad, gradient)


@pytest.mark.usefixtures("tiny_vit")
@pytest.mark.parametrize("chunk", [None, 16])
def test_recomputed_blocks_give_the_same_gradient(chunk):
    views = torch.rand(48, 1, 16, 16, dtype=torch.float64)
    net = networks("vit_micro").double()
    whole = gradients(net, views)
    recompute_(net)
    if chunk is not None:
        chunk_(net, chunk)
    for name, gradient in gradients(net, views).items():
        torch.testing.assert_close(gradient, whole[name], rtol=1e-10, atol=1e-12, msg=name)


@pytest.mark.usefixtures("tiny_vit")
@pytest.mark.parametrize("name", ["mae", "ijepa", "dino", "data2vec", "moco_v3"])
def test_methods_of_transformers_train_the_same_recomputed(name):
    """Also with predictors and decoders of blocks, teachers, autocast, and a head whose dropout draws in between."""
    source = open_source("digits", "train").subset(torch.arange(64))
    chosen = methods.method_class(name)
    found = []

    def drawing(*_) -> None:
        Dropout(0.5)(torch.ones(2, 2))

    for recomputed in (False, True):
        torch.manual_seed(0)
        encoder = encoders.build("vit_micro", channels=1, image_size=8)
        method = chosen.under(chosen.small).sized(8)
        net = method.networks(encoder, source.facts(8)).train()
        net.encoder.register_forward_hook(drawing)
        if recomputed:
            recompute_(net)
        stream = batches(source, 32, seed=1, epochs=2, device=torch.device("cpu"))
        records = optimize(method, net, players_of(net, chosen.small, 32), stream, torch.bfloat16)
        losses = [o.loss.item() for record in records for o in record.objectives]
        found.append((losses, torch.rand(1)))
    assert found[0] == found[1], "bit for bit, and no random number more or less is drawn"


def test_recomputed_blocks_hold_a_fraction_and_a_teacher_is_left_alone():
    net = networks("vit_micro")
    net.teacher = teacher_of(net)
    names = list(net.state_dict())
    whole = kept(net)
    recompute_(net)
    assert kept(net) < whole / 4
    assert list(net.state_dict()) == names
    views = torch.rand(4, 1, 16, 16)
    with torch.no_grad():
        assert torch.equal(net.teacher.encoder(views), net.encoder(views))


def test_an_encoder_without_blocks_cannot_be_recomputed():
    with pytest.raises(BadInput, match="`recompute`: conv has no blocks of attention"):
        recompute_(networks("conv"))
