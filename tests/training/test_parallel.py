import pytest
import torch
from torch import nn

from sanslabel import encoders
from sanslabel.losses import nt_xent
from sanslabel.memory import teacher_of
from sanslabel.methods.method import Networks
from sanslabel.training.parallel import chunk_


def gradients(net: Networks, views: torch.Tensor) -> dict[str, torch.Tensor]:
    net.zero_grad()
    a, b = net.projector(net.encoder(views)).chunk(2)
    nt_xent(a, b, 0.2).backward()
    return {name: p.grad.clone() for name, p in net.named_parameters()}


def networks(name: str, **options) -> Networks:
    torch.manual_seed(0)
    encoder = encoders.build(name, channels=1, image_size=16, **options)
    return Networks(encoder=encoder, projector=nn.Sequential(nn.Linear(encoder.width, 32), nn.BatchNorm1d(32)))


@pytest.mark.parametrize("size", [7, 8, 32, 64])
def test_chunks_give_the_gradient_of_the_whole_batch(size):
    views = torch.rand(48, 1, 16, 16, dtype=torch.float64)  # where rounding does not hide what is exact
    net = networks("vit_micro").double()
    whole = gradients(net, views)
    assert not chunk_(net, size)
    chunked = gradients(net, views)
    for name, gradient in whole.items():
        assert (gradient - chunked[name]).norm() <= 1e-10 * gradient.norm().clamp(min=1e-3), name


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
    """What autograd keeps between forward and backward, counted tensor by tensor."""

    def kept(net: Networks) -> int:
        storages = {}

        def keep(tensor):
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            z = net.projector(net.encoder(torch.rand(64, 1, 16, 16)))
        z.sum().backward()
        return sum(storages.values())

    net = networks("vit_micro")
    whole = kept(net)
    chunk_(net, 8)
    assert kept(net) < whole / 4


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
