"""Which precision a training computes in, and a known fault of bfloat16 on CPUs, found before it spoils one."""

import torch
from torch import Tensor, nn

from ferkit.models import FerModel
from ferkit.models.guard import evaluating


def choose_precision(asked: str, model: FerModel, device: torch.device) -> str:
    """Return the precision that is used: the one asked for, or, for "auto", bf16 where the machine has units for it,
    else "no".

    A CPU without such units computes bfloat16 with those of float32, which takes longer than float32 itself. The choice
    depends on machine and network alone, so that an interrupted training goes on in the same precision.

    Raises:
        ValueError: bf16 is asked for where it is known to give wrong gradients (`refuse_broken_bf16`).

    """
    if asked == "bf16":
        refuse_broken_bf16(model, device)
    if asked != "auto":
        return asked
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "no"
    if device.type != "cpu" or not _cpu_has_bf16_units():
        return "no"
    try:
        refuse_broken_bf16(model, device)
    except ValueError:
        return "no"
    return "bf16"


def _cpu_has_bf16_units() -> bool:
    """Whether the processor multiplies bfloat16 in hardware (AMX, AVX512-BF16);
    torch has no public name for the question.
    """
    return any(getattr(torch.cpu, name, bool)() for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"))


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

    strided = [
        (n, m)
        for n, m in model.named_modules()
        if isinstance(m, nn.Conv2d) and max(m.stride) > 1 and max(m.kernel_size) > 1
    ]
    hooks = [m.register_forward_pre_hook(lambda _m, args, name=n: look(name, args[0])) for n, m in strided]
    try:
        parameter = next(model.parameters())
        shape = (1, 1 if model.colour == "grey" else 3, model.input_size, model.input_size)
        with evaluating(model):
            model(torch.zeros(shape, dtype=parameter.dtype, device=parameter.device))
    finally:
        for hook in hooks:
            hook.remove()
    if found:
        raise ValueError(
            f"at {model.input_size} px the strided convolution {found[0]} sees a single place, where bfloat16 on "
            "CPUs gives wrong gradients; use a larger image_size, or precision: auto"
        )
