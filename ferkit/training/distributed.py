"""Batch normalisation over the global batch, so that several processes compute what one would."""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules._functions import SyncBatchNorm as OnGpus
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode


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


def global_batch_norm(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """What `torch.nn.functional.batch_norm` computes in training, with the mean and variance of all processes' images.

    Args:
        x: (B, C, ...) of this process; B may differ between processes.
        running_mean, running_var, weight, bias: (C,) or None; the running ones are moved in place.
        training: must be True; the argument is torch's.
        momentum, eps: as torch's.

    """
    assert training
    if x.is_cuda:
        world = dist.group.WORLD, dist.get_world_size()
        return OnGpus.apply(x.contiguous(), weight, bias, running_mean, running_var, eps, momentum, *world)
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    rest = [axis for axis in range(x.ndim) if axis != 1]
    along = [-1, *[1] * (x.ndim - 2)]  # (C, 1, ...): how a value per channel is laid over x
    sums = _Sum.apply(torch.cat([wide.sum(rest), wide.new_tensor([x.numel() / x.shape[1]])]))  # (C + 1,)
    n = sums[-1].detach()
    mean = sums[:-1] / n
    # Squares of differences, not a difference of squares, which can be negative for channels that hardly vary.
    centred = wide - mean.view(along)
    var = _Sum.apply(centred.square().sum(rest)) / n
    with torch.no_grad():
        if running_mean is not None and running_var is not None:
            running_mean.lerp_(mean.to(running_mean.dtype), momentum)
            running_var.lerp_((var * n / (n - 1)).to(running_var.dtype), momentum)
    scale = torch.rsqrt(var + eps)
    y = centred * (scale if weight is None else weight * scale).view(along)
    return (y if bias is None else y + bias.view(along)).to(x.dtype)


class _OverAll(TorchFunctionMode):
    """Inside, `batch_norm` is `global_batch_norm`; everything else is what it was."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return (global_batch_norm if func is F.batch_norm else func)(*args, **(kwargs or {}))


class GlobalBatchNorm(_BatchNorm):
    """Mixed into the class of a batch normalisation: what it normalises with in training comes from all processes.

    The layer runs its own `forward`, so whatever a subclass does before and after normalising (timm's applies an
    activation) stays. `torch.nn.SyncBatchNorm` knows no such layers, and works on GPUs only; there its kernels are
    used.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, ...) to the same shape."""
        if not self.training:
            return super().forward(x)
        with _OverAll():
            return super().forward(x)


@cache
def _over_all(kind: type[_BatchNorm]) -> type[_BatchNorm]:
    return type(f"Global{kind.__name__}", (GlobalBatchNorm, kind), {})


def synchronised_batch_norm(module: nn.Module) -> Callable[[], None]:
    """Let every batch normalisation in `module` see the global batch; returns a function that undoes it.

    The layers stay the objects they are, with the same parameters and names: only their class changes for a while.
    """
    if not dist.is_initialized():
        return lambda: None
    alone = (
        m
        for m in module.modules()
        if isinstance(m, _BatchNorm) and not isinstance(m, nn.SyncBatchNorm | GlobalBatchNorm)
    )
    changed = [(m, type(m)) for m in alone]
    for layer, kind in changed:
        layer.__class__ = _over_all(kind)  # type: ignore[arg-type]

    def restore() -> None:
        for layer, kind in changed:
            layer.__class__ = kind

    return restore
