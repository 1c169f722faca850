"""Formula-made weights: every implementation of the same computation, filled this way, gives the same numbers."""

import math

import numpy as np
import torch
from torch import Tensor, nn


def uniform(n: int, k: int) -> np.ndarray:
    """n values in [-1, 1) of tensor number k: a multiplicative hash and the murmur3 finaliser, modulo 2**32."""
    h = np.arange(n, dtype=np.uint64) * 0x9E3779B1 + np.uint64(k * 0x85EBCA77 + 1)
    h &= 0xFFFFFFFF
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        h ^= h >> np.uint64(shift)
        h = (h * np.uint64(factor)) & np.uint64(0xFFFFFFFF)
    h ^= h >> np.uint64(16)
    return 2.0 * h.astype(np.float64) / 2.0**32 - 1.0


def execution_order(model: nn.Module, example: Tensor) -> list[nn.Module]:
    """Leaf modules that own parameters, in the order of their first run."""
    order: list[nn.Module] = []
    hooks = [
        m.register_forward_pre_hook(lambda m, _: None if any(m is o for o in order) else order.append(m))
        for m in model.modules()
        if not list(m.children()) and any(True for _ in m.parameters())
    ]
    with torch.no_grad():
        model(example)
    for hook in hooks:
        hook.remove()
    return order


def fill(leaves: list[nn.Module], offset: int = 0) -> int:
    """Fill the leaves; returns the number of tensors filled."""
    k = offset
    for leaf in leaves:
        batch_norm = isinstance(leaf, nn.modules.batchnorm._BatchNorm)
        for name in ("weight", "bias", "running_mean", "running_var"):
            tensor = getattr(leaf, name, None)
            if tensor is None:
                continue
            u = torch.from_numpy(uniform(tensor.numel(), k)).reshape(tensor.shape)
            k += 1
            if batch_norm:
                u = 1 + 0.1 * u if name in ("weight", "running_var") else 0.1 * u
            elif isinstance(leaf, nn.PReLU):
                u = 0.25 + 0.05 * u
            elif name == "weight":
                u = u * (6 / tensor[0].numel()) ** 0.5
            else:
                u = 0.1 * u
            with torch.no_grad():
                tensor.copy_(u)
    return k - offset


def picture(size: int, offset: int = 0) -> Tensor:
    """The input (2, 3, size, size), float64."""
    return torch.from_numpy(uniform(2 * 3 * size * size, 999983 + offset)).reshape(2, 3, size, size)


def sine_fill(leaves: list[nn.Module]) -> int:
    """Fill tensor number k with multiples of sin(0.37 i + 1.3 k), the older formula;
    returns the number of tensors filled.
    """
    k = 0
    for leaf in leaves:
        batch_norm = isinstance(leaf, nn.modules.batchnorm._BatchNorm)
        for name in ("weight", "bias", "running_mean", "running_var"):
            tensor = getattr(leaf, name, None)
            if tensor is None:
                continue
            wave = torch.from_numpy(np.sin(0.37 * np.arange(tensor.numel()) + 1.3 * k)).reshape(tensor.shape)
            k += 1
            if batch_norm and name in ("weight", "running_var"):
                wave = 1 + 0.1 * wave
            elif name == "weight":
                wave = wave / tensor[0].numel() ** 0.5
            else:
                wave = 0.1 * wave
            with torch.no_grad():
                tensor.copy_(wave)
    return k


def sine_input(*shape: int) -> Tensor:
    """The input sin(0.01 j) over its flat index j, float64."""
    return torch.sin(0.01 * torch.arange(math.prod(shape), dtype=torch.float64)).reshape(shape)
