"""An optional fast path: layers that compute the same numbers in fewer and faster passes over memory on a CPU.

`use_fast_path` changes the class of the layers it knows for a while; parameters, names and results stay. A training
does so by itself, and `ferkit.models.fuse` for inference. benchmarks/lfnsb_speed.py measures what it is worth, and
tests/unit/test_fast.py that the gradients are those of the plain layers.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ferkit.models.attention import CoordinateAttention
from ferkit.models.layers import MixedDepthwise


class FastPReLU(nn.PReLU):
    """PReLU with one slope per channel of a map (B, C, H, W); the gradient is four times as fast on CPUs as torch's."""

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        if self.training and torch.is_grad_enabled() and input.ndim == 4 and self.num_parameters == input.shape[1]:
            return _PReLU.apply(input, self.weight.to(input.dtype))
        return super().forward(input)


class _PReLU(torch.autograd.Function):
    """The gradient as a few vectorised passes, which torch's own is not on CPUs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return nn.functional.prelu(x, weight)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        (grad,) = grads
        x, weight = ctx.saved_tensors
        above = torch.ops.aten.threshold_backward(grad, x, 0)  # where x > 0, else 0
        below = grad - above
        slopes = (below * x).sum((0, 2, 3), dtype=torch.promote_types(x.dtype, torch.float32)).to(weight.dtype)
        return torch.addcmul(above, below, weight.view(1, -1, 1, 1)), slopes


class FastCoordinateAttention(CoordinateAttention):
    """Coordinate attention with hand-written gradients of its means and products, and faster means in channels_last."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        train = self.training and torch.is_grad_enabled()
        height, width = self.gates(*(_Means.apply(x) if train else _means(x)))
        return _Gated.apply(x, height, width) if train else x * height * width


class _Means(torch.autograd.Function):
    """Means over the width (B, C, H, 1) and over the height (B, C, 1, W)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        ctx.sides = x.shape[2:]
        return _means(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        rows, columns = grads
        return rows / ctx.sides[1] + columns / ctx.sides[0]


class _Gated(torch.autograd.Function):
    """A map times a gate per row (B, C, H, 1) and a gate per column (B, C, 1, W)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        ctx.save_for_backward(x, rows, columns)
        return x * rows * columns

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        (grad,) = grads
        x, rows, columns = ctx.saved_tensors
        product = grad * x
        return grad * rows * columns, _sum(product * columns, 3), _sum(product * rows, 2)


def _means(x: Tensor) -> tuple[Tensor, Tensor]:
    if _contiguous(x):
        return x.mean(3, keepdim=True), x.mean(2, keepdim=True)
    pool = nn.functional.adaptive_avg_pool2d  # several times faster than mean in channels_last, slower otherwise
    return pool(x, (x.shape[2], 1)), pool(x, (1, x.shape[3]))


def _sum(x: Tensor, axis: int) -> Tensor:
    """Sum over an axis of places, which stays with length 1: in channels_last as a product with ones, ten times faster.
    """
    if _contiguous(x):
        return x.sum(axis, keepdim=True)
    batch, channels, height, width = x.shape
    ones = torch.ones(1, x.shape[axis], device=x.device, dtype=x.dtype)
    places = x.permute(0, 2, 3, 1)  # (B, H, W, C)
    if axis == 3:
        return (ones @ places).permute(0, 3, 1, 2)  # (B, C, H, 1)
    # (B, C, 1, W)
    return (ones @ places.reshape(batch, height, -1)).view(batch, 1, width, channels).permute(0, 3, 1, 2)


def _contiguous(x: Tensor) -> bool:
    return x.is_contiguous() or not x.is_contiguous(memory_format=torch.channels_last)


class FastMixedDepthwise(MixedDepthwise):
    """Mixed depthwise convolutions in float32 where oneDNN's bfloat16 gradients take up to forty times as long."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, ceil(H / stride), ceil(W / stride))."""
        if len(self.convs) == 1 and not self._slow(x):
            return self.convs[0](x)
        if not self._slow(x):
            return super().forward(x)
        with torch.autocast("cpu", enabled=False):
            return super().forward(x.to(next(self.convs.parameters()).dtype)).to(x.dtype)

    def _slow(self, x: Tensor) -> bool:
        strided_or_large = any(max(*conv.stride, conv.kernel_size[0] - 2) > 1 for conv in self.convs)  # type: ignore[misc, operator, index]
        return strided_or_large and torch.is_grad_enabled() and x.dtype == torch.bfloat16 and x.device.type == "cpu"


FAST: dict[type[nn.Module], type[nn.Module]] = {
    nn.PReLU: FastPReLU,
    CoordinateAttention: FastCoordinateAttention,
    MixedDepthwise: FastMixedDepthwise,
}


def use_fast_path(module: nn.Module) -> Callable[[], None]:
    """Let the layers of a module that have a faster twin compute as it does; return a function that undoes it.

    The layers stay the objects they are, with the same parameters and names: only their class changes.
    """
    changed = [(m, type(m)) for m in module.modules() if type(m) in FAST]
    for layer, kind in changed:
        layer.__class__ = FAST[kind]

    def restore() -> None:
        for layer, kind in changed:
            layer.__class__ = kind

    return restore
