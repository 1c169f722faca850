"""Reading what a network computes inside: outputs of named submodules, caught by hooks that never outlive their block.
"""

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn


def module_by_name(model: nn.Module, name: str) -> nn.Module:
    """Return the submodule with a dotted name such as "res_block1.conv2".

    Raises:
        ValueError: no such submodule; the message lists names that look alike.

    """
    known = {known_name: module for known_name, module in model.named_modules() if known_name}
    if name not in known:
        # `model.layer4` in newer code is often `model.backbone.layer4` in older: the last part is compared as well.
        text = str(name)
        last = text.split(".")[-1]
        alike = difflib.get_close_matches(text, known, n=5, cutoff=0.5)
        alike += [n for n in known if n.split(".")[-1] == last and n not in alike][:5]
        listed = alike or [n for n, _ in model.named_children()]
        raise ValueError(
            f"{type(model).__name__} has no submodule {text!r}; "
            f"{'close' if alike else 'at the top level'}: {', '.join(listed) or 'none'}"
        )
    return known[name]


@contextmanager
def capture(
    model: nn.Module, names: str | Iterable[str], *, grad: bool = False, every_run: bool = False
) -> Iterator[dict[str, Any]]:
    """Catch the outputs of submodules during forward passes.

    ``with capture(model, ["conv1", "se.gate"]) as seen: model(x)`` then ``seen["se.gate"]``. The dictionary is empty
    until a forward has run and stays readable after the block; a second forward replaces its values. A submodule that
    runs several times in one forward leaves its last output. The hooks are gone when the block is left, also by an
    exception, which passes through.

    Args:
        model: any module; its submodules are found by their dotted names (`model.named_modules()`).
        names: one name or several.
        grad: False (default) gives detached copies. True gives tensors that are still part of the graph, so that
            `torch.autograd.grad(score, seen[name])` is the gradient at that place, and a loss on them trains the
            network.
        every_run: leave a list of the outputs of all runs, in their order: a submodule that runs once per patch leaves
            one map per patch. One that did not run leaves an empty list.

    Values are tensors as the module returns them, shape (B, ...); a module that returns a tuple leaves a tuple.

    Raises:
        ValueError: unknown name, listing close ones.

    """
    names = [names] if isinstance(names, str) else list(names)
    modules = {name: module_by_name(model, name) for name in names}
    seen: dict[str, Any] = {name: [] for name in modules} if every_run else {}

    def keep(name: str, out: Any) -> Any:
        # The next layer may write into its input (ReLU(inplace=True)), so one of the two must be a copy. With grad the
        # kept tensor has to stay the one in the graph; the network goes on with the copy, which changes no value.
        kept = out if grad else _each(out, lambda t: t.detach().clone())
        if every_run:
            seen[name].append(kept)
        else:
            seen[name] = kept
        return _each(out, Tensor.clone) if grad else None

    handles = []
    try:
        for name, module in modules.items():
            handles.append(module.register_forward_hook(lambda _m, _i, out, name=name: keep(name, out)))
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _each(value: Any, change: Any) -> Any:
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, tuple) and hasattr(value, "_fields"):  # NamedTuple
        return type(value)(*(_each(v, change) for v in value))
    if isinstance(value, tuple | list):
        return type(value)(_each(v, change) for v in value)
    if isinstance(value, dict):
        return {k: _each(v, change) for k, v in value.items()}
    return value
