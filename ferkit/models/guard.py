"""Using a network without changing it: evaluation mode for a while, out of whatever torch wrapped around it."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

#: What a network must say of itself so that pictures can be prepared for it; see `ferkit.models.FerModel`.
PREPARATION = ("input_size", "mean", "std", "colour")


@contextmanager
def evaluating(model: nn.Module, *, float32: bool = False) -> Iterator[nn.Module]:
    """Give the network in evaluation mode; afterwards every submodule is in the mode it was in,
    also after an exception.

    A network that is trained with some of its layers kept in evaluation mode (frozen batch statistics, say) goes on so.

    Args:
        model: any module.
        float32: also leave autocast and inference mode, and compute in single precision, on a copy if the network is in
            another one: what gradients and comparisons of maps need.

    """
    if float32 and any(p.is_floating_point() and p.dtype != torch.float32 for p in model.parameters()):
        model = copy.deepcopy(model).float()
    modes = {module: module.training for module in model.modules()}
    for module in modes:
        module.training = False
    try:
        if float32:
            with torch.inference_mode(False), torch.autocast(device_of(model).type, enabled=False):
                yield model
        else:
            yield model
    finally:
        for module, mode in modes.items():
            module.training = mode


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the network inside what torch puts around one: DataParallel, DistributedDataParallel, torch.compile."""
    if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
        return unwrapped(model.module)
    inside = getattr(model, "_orig_mod", None)  # torch.compile
    return unwrapped(inside) if isinstance(inside, nn.Module) else model


def device_of(model: nn.Module) -> torch.device:
    """Return where the model's parameters are; the CPU if it has none."""
    return next((p.device for p in model.parameters()), torch.device("cpu"))


def precision_of(model: nn.Module) -> torch.dtype:
    """Return the type of the model's parameters, float32 if it has none of real numbers: what its input must be."""
    return next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)


def refuse_unprepared(model: nn.Module) -> None:
    """Raise ValueError for a module that does not say how pictures are prepared for it, with what it lacks;
    and for what is no module.
    """
    if not isinstance(model, nn.Module):
        raise ValueError(
            f"expected a network (ferkit.models.create_model, or another torch module), found {model!r:.60}"
        )
    if lacking := [name for name in PREPARATION if not hasattr(model, name)]:
        raise ValueError(
            f"{type(model).__name__} does not say how pictures are prepared for it: it lacks {', '.join(lacking)}. "
            "Set them on it (model.input_size = 224; model.mean, model.std = (0.485, 0.456, 0.406), (0.229, 0.224, "
            "0.225); model.colour = 'rgb', 'grey3' or 'grey'), and model.labels = (...) to name its classes"
        )
