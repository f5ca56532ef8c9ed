"""BatchNorm over the global batch: k processes get the same values, gradients and statistics as one process."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from sanslabel.distributed import gather, world_size


class SynchronizedBatchNorm(nn.SyncBatchNorm):
    """BatchNorm with statistics over all processes, in place of `nn.BatchNorm1d` or `2d` and with their state.

    It takes (N, C) or (N, C, …). Accelerators use torch's implementation. torch has no implementation for the CPU, so
    there the class uses plain operations.
    """

    def forward(self, input: Tensor) -> Tensor:
        over_batch = self.training or self.running_mean is None
        if input.device.type != "cpu" or world_size() == 1 or not over_batch:
            return super().forward(input)
        x = input.to(torch.promote_types(input.dtype, torch.float32))
        count, shape = x.numel() // x.shape[1] * world_size(), (-1, *[1] * (x.ndim - 2))
        variances, means = torch.var_mean(x, dim=[0, *range(2, x.ndim)], correction=0)  # (C,) each
        variances, means = gather(torch.stack([variances, means])[None]).unbind(1)  # (processes, C) each
        mean, variance = means.mean(dim=0), variances.mean(dim=0) + means.var(dim=0, correction=0)
        if self.training and self.running_mean is not None:
            self._update_statistics_(mean.detach(), variance.detach() * (count / max(1, count - 1)))
        scale = (variance + self.eps).rsqrt()
        if self.weight is not None:
            scale = scale * self.weight
        y = (x - mean.view(shape)) * scale.view(shape)
        if self.bias is not None:
            y = y + self.bias.view(shape)
        return y.to(input.dtype)

    @torch.no_grad()
    def _update_statistics_(self, mean: Tensor, variance: Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        weight = 1 / self.num_batches_tracked.item() if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), weight)
        self.running_var.lerp_(variance.to(self.running_var.dtype), weight)


def synchronize_(net: nn.Module) -> None:
    """Makes every BatchNorm in `net` take its statistics over all processes. Parameters and buffers stay the same.

    On one process it changes nothing.
    """
    if world_size() == 1:
        return
    for m in net.modules():
        if isinstance(m, _BatchNorm):
            m.__class__ = SynchronizedBatchNorm  # in place, so that references to the module stay valid
            vars(m)["process_group"] = None
