"""BatchNorm over the global batch: of k processes it makes what one would, in values, gradients and statistics."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from sanslabel.distributed import gather, world_size


class SynchronizedBatchNorm(nn.SyncBatchNorm):
    """torch's on accelerators, and on the CPU, for which torch has none, the same in plain operations. (N, C) or
    (N, C, …), as `nn.BatchNorm1d` and `2d` take it, with their parameters and buffers."""

    def forward(self, input: Tensor) -> Tensor:
        over_batch = self.training or self.running_mean is None
        if input.device.type != "cpu" or world_size() == 1 or not over_batch:
            return super().forward(input)
        x = input.to(torch.promote_types(input.dtype, torch.float32)).transpose(0, 1)  # (C, N, …)
        numbers, shape = x[0].numel() * world_size(), (-1, *[1] * (x.ndim - 1))
        variances, means = torch.var_mean(x.flatten(1), dim=1, correction=0)  # (C,) each
        variances, means = gather(torch.stack([variances, means])[None]).unbind(1)  # (processes, C) each
        mean, variance = means.mean(dim=0), variances.mean(dim=0) + means.var(dim=0, correction=0)
        if self.training and self.running_mean is not None:
            self._follow(mean.detach(), variance.detach() * (numbers / max(1, numbers - 1)))
        scale = (variance + self.eps).rsqrt()
        if self.weight is not None:
            scale = scale * self.weight
        y = (x - mean.view(shape)) * scale.view(shape)
        if self.bias is not None:
            y = y + self.bias.view(shape)
        return y.transpose(0, 1).to(input.dtype)

    @torch.no_grad()
    def _follow(self, mean: Tensor, variance: Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        pace = 1 / self.num_batches_tracked.item() if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), pace)
        self.running_var.lerp_(variance.to(self.running_var.dtype), pace)


def synchronize_(net: nn.Module) -> None:
    """Lets every BatchNorm in `net` take its statistics over all processes; parameters, buffers and their names stay.
    With one process nothing is changed."""
    if world_size() == 1:
        return
    for m in net.modules():
        if isinstance(m, _BatchNorm):
            m.__class__ = SynchronizedBatchNorm  # in place: whoever holds the module goes on holding it
            vars(m)["process_group"] = None
