"""Batch normalisation over the global batch, so that several processes compute what one would."""

from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce


class GlobalBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm2d whose training statistics are those of all processes' images together.

    `torch.nn.SyncBatchNorm` does this on GPUs only; this one uses a differentiable all-reduce and runs anywhere.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        if not self.training:
            return super().forward(x)
        wide = x.float()
        sums = all_reduce(torch.cat([wide.sum((0, 2, 3)), wide.new_tensor([x.numel() / x.shape[1]])]))  # (C + 1,)
        n = sums[-1].detach()
        mean = sums[:-1] / n
        # Squares of differences, not a difference of squares, which can be negative for channels that hardly vary.
        var = all_reduce((wide - mean[:, None, None]).square().sum((0, 2, 3))) / n
        with torch.no_grad():
            assert self.num_batches_tracked is not None and self.running_mean is not None and self.running_var is not None
            self.num_batches_tracked.add_(1)
            factor = self.momentum if self.momentum is not None else 1.0 / float(self.num_batches_tracked)
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), factor)
            self.running_var.lerp_((var * n / (n - 1)).to(self.running_var.dtype), factor)
        scale = self.weight * torch.rsqrt(var + self.eps)
        y = wide * scale[:, None, None] + (self.bias - mean * scale)[:, None, None]
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
