"""Where a network's parameters and multiply-adds are."""

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ferkit.models.base import FerModel, count_parameters
from ferkit.models.guard import evaluating, precision_of, refuse_unprepared


class StageRow(NamedTuple):
    """One direct submodule of a network in one forward pass; `shape` is its output without the batch axis.

    Members of a ModuleList count as direct submodules. Where a submodule has several outputs the shape is the first
    one's.
    """

    name: str
    shape: tuple[int, ...]
    params: int
    macs: int


@torch.no_grad()
def summarise(model: FerModel, size: int | None = None) -> list[StageRow]:
    """Return rows of the direct submodules in the order they run, for one picture of `size` pixels (default:
    the model's own).

    Multiply-adds are those of convolutions and linear layers (torch's FlopCounterMode, two operations each); sums over
    rows are those of the network. Submodules without parameters that
    run several times (one ReLU for all stages, say) are left out. Build the
    network under `torch.device("meta")` to count without computing or holding any weights.
    """
    refuse_unprepared(model)
    shapes: dict[str, tuple[int, ...]] = {}
    runs: Counter[str] = Counter()

    def seen(name: str, out: Tensor | tuple[Tensor, ...]) -> None:
        shapes[name] = tuple((out[0] if isinstance(out, tuple) else out).shape[1:])
        runs[name] += 1

    children = dict(_direct_submodules(model))
    hooks = [
        child.register_forward_hook(lambda _m, _i, out, name=name: seen(name, out)) for name, child in children.items()
    ]
    device = next(model.parameters()).device
    size = model.input_size if size is None else size
    channels = 1 if model.colour == "grey" else 3
    try:
        with evaluating(model), FlopCounterMode(display=False) as counter:
            model(torch.zeros(1, channels, size, size, device=device, dtype=precision_of(model)))
    finally:
        for hook in hooks:
            hook.remove()
    flops = counter.get_flop_counts()
    root = type(model).__name__
    return [
        StageRow(name, shape, count_parameters(children[name]), sum(flops.get(f"{root}.{name}", {}).values()) // 2)
        for name, shape in shapes.items()
        if runs[name] == 1 or count_parameters(children[name])
    ]


def _direct_submodules(module: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Children by name; a ModuleList never runs itself, so its members stand for it."""
    for name, child in module.named_children():
        if isinstance(child, nn.ModuleList):
            yield from _direct_submodules(child, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", child
