"""A known fault of bfloat16 on CPUs, found before it spoils a training."""

import torch
from torch import Tensor, nn

from ferkit.models import FerModel


@torch.no_grad()
def refuse_broken_bf16(model: FerModel, device: torch.device) -> None:
    """Refuse bfloat16 on a CPU where a strided convolution meets a map of one place.

    There oneDNN returns weight gradients of a 3x3 convolution with stride 2 that are infinite, nan or wrong by far
    (torch 2.14.1; maps of 2x2 and larger are right; tests/unit/test_precision.py).

    Raises:
        ValueError: naming the layer.

    """
    if device.type != "cpu":
        return
    found: list[str] = []

    def look(name: str, x: Tensor) -> None:
        if x.shape[-2:] == (1, 1):
            found.append(name)

    strided = [(n, m) for n, m in model.named_modules() if isinstance(m, nn.Conv2d) and max(m.stride) > 1 and max(m.kernel_size) > 1]
    hooks = [m.register_forward_pre_hook(lambda _m, args, name=n: look(name, args[0])) for n, m in strided]
    was_training = model.training
    model.eval()
    try:
        parameter = next(model.parameters())
        shape = (1, 1 if model.colour == "grey" else 3, model.input_size, model.input_size)
        model(torch.zeros(shape, dtype=parameter.dtype, device=parameter.device))
    finally:
        model.train(was_training)
        for hook in hooks:
            hook.remove()
    if found:
        raise ValueError(
            f"at {model.input_size} px the strided convolution {found[0]} sees a single place, where bfloat16 on CPUs gives wrong gradients; "
            "use a larger image_size, or precision: 'no'"
        )
