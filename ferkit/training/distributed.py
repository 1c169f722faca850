"""Batch normalisation over the global batch, so that several processes compute what one would."""

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


class _Sum(torch.autograd.Function):
    """The sum of a tensor over all processes; what depends on it in any process gives gradient to every term."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return total


class GlobalBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm2d whose training statistics are those of all processes' images together.

    `torch.nn.SyncBatchNorm` does this on GPUs only; this one uses a differentiable sum and runs anywhere.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        if not self.training:
            return super().forward(x)
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        sums = _Sum.apply(torch.cat([wide.sum((0, 2, 3)), wide.new_tensor([x.numel() / x.shape[1]])]))  # (C + 1,)
        n = sums[-1].detach()
        mean = sums[:-1] / n
        # Squares of differences, not a difference of squares, which can be negative for channels that hardly vary.
        centred = wide - mean[:, None, None]
        var = _Sum.apply(centred.square().sum((0, 2, 3))) / n
        with torch.no_grad():
            assert self.num_batches_tracked is not None and self.running_mean is not None and self.running_var is not None
            self.num_batches_tracked.add_(1)
            factor = self.momentum if self.momentum is not None else 1.0 / float(self.num_batches_tracked)
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), factor)
            self.running_var.lerp_((var * n / (n - 1)).to(self.running_var.dtype), factor)
        y = centred * (self.weight * torch.rsqrt(var + self.eps))[:, None, None] + self.bias[:, None, None]
        return y.to(x.dtype)


def synchronised_batch_norm(module: nn.Module) -> Callable[[], None]:
    """Let every BatchNorm2d in `module` see the global batch; returns a function that undoes it.

    The layers stay the objects they are, with the same parameters and names: only their class changes for a while.
    """
    changed = [m for m in module.modules() if type(m) is nn.BatchNorm2d]
    if not dist.is_initialized():
        return lambda: None
    for m in changed:
        m.__class__ = GlobalBatchNorm2d

    def restore() -> None:
        for m in changed:
            m.__class__ = nn.BatchNorm2d

    return restore
