r"""Re-parameterisation: batch normalisations folded into the convolutions before them, for inference.

With $s = \gamma / \sqrt{\sigma^2 + \epsilon}$ per output channel, $\mathrm{BN}(Wx + b) = (sW)x + \beta + (b - \mu)s$.
This holds in evaluation mode only: in training the statistics are those of the batch. The two formulas of the LFNSB
paper are the case b = 0 and RepVGGDW; its released code (LFN.py@caf8fad) computes them and throws the results away, so
nothing is fused there.
"""

import copy
from collections import Counter
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from ferkit.models.base import FerModel
from ferkit.models.fast import use_fast_path
from ferkit.models.layers import ConvBN, RepVGGDW

M = TypeVar("M", bound=FerModel)
LEVELS = (1, 2)


def fold(conv: nn.Conv2d, bn: nn.BatchNorm2d) -> nn.Conv2d:
    """Return one convolution, with a bias, that computes `bn(conv(x))` in evaluation mode;
    dtype and device are those of `conv`.
    """
    fused = fuse_conv_bn_eval(conv, bn)
    assert fused.bias is not None
    fused.bias.requires_grad_(conv.weight.requires_grad)  # torch freezes the bias it adds, so it would not be counted
    return fused


@torch.no_grad()
def fold_repvgg(block: RepVGGDW) -> nn.Conv2d:
    r"""Return the depthwise 3x3 convolution that a RepVGGDW is in evaluation mode.

    Convolutions of the same input add up: the folded 3x3, and in its middle the 1x1 and 1 for the input itself. The
    outer normalisation is folded into the sum.
    """
    total = fold(block.conv3, block.bn3)
    assert total.bias is not None and block.conv1.bias is not None
    total.weight[:, :, 1, 1] += block.conv1.weight[:, :, 0, 0] + 1
    total.bias += block.conv1.bias
    return fold(total, block.bn)


def fuse(model: M, *, level: int = 2) -> M:
    """Return a copy of a network with normalisations folded away, for inference; the model given stays as it is.

    Args:
        model: any network of ferkit, in evaluation mode.
        level: 1 is what the LFNSB paper fuses: ConvBN without an activation and RepVGGDW where they are direct
            submodules of the network (in LFNSB the two of the stem and the one before the head). 2 folds every
            BatchNorm2d whose input is the output of one convolution and of nothing else, also inside attention blocks
            and spatial bias.

    A folded BatchNorm becomes an Identity under the same name, so names of stages stay readable with `explain.capture`;
    a RepVGGDW becomes one Conv2d. Outputs agree to rounding: 1e-12 in float64, about 1e-6 in float32.

    Raises:
        ValueError: unknown level, a network in training mode, or nothing to fold.

    """
    if level not in LEVELS:
        raise ValueError(
            f"fuse has no level {level!r}; known: 1 (stem and RepVGGDW), 2 (every convolution with BatchNorm)"
        )
    training = [name or "the network" for name, module in model.named_modules() if module.training]
    if training:
        raise ValueError(
            f"fusing needs evaluation mode, where BatchNorm has fixed statistics, but {training[0]} is in training "
            "mode: call model.eval() first"
        )
    fused = copy.deepcopy(model)
    use_fast_path(fused)
    count = 0
    owners = dict(fused.named_modules()) if level == 2 else {"": fused}
    for owner in owners.values():
        for name, child in list(owner.named_children()):
            if isinstance(child, RepVGGDW):
                setattr(owner, name, fold_repvgg(child))
                count += 1
    if level == 1:
        stem = [block for block in fused.children() if isinstance(block, ConvBN) and isinstance(block.act, nn.Identity)]
        for block in stem:
            block.conv = fold(block.conv, block.bn)
            block.set_submodule("bn", nn.Identity())
        count += len(stem)
    else:
        pairs = _pairs(fused)
        modules = dict(fused.named_modules())
        for conv_name, bn_name in pairs:
            fused.set_submodule(conv_name, fold(modules[conv_name], modules[bn_name]))
            fused.set_submodule(bn_name, nn.Identity())
        count += len(pairs)
    if not count:
        raise ValueError(f"{type(model).__name__} has nothing to fuse at level {level}")
    return fused.eval()


class _Uses(TorchFunctionMode):
    """Counts the operations that read a tensor and make one."""

    def __init__(self) -> None:
        super().__init__()
        self.uses: Counter[int] = Counter()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if any(isinstance(r, Tensor) for r in tree_leaves(result)):
            self.uses.update({id(value) for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor)})
        return result


@torch.no_grad()
def _pairs(model: FerModel) -> list[tuple[str, str]]:
    """Names of (convolution, BatchNorm) where the one feeds the other and nothing else, seen in one forward pass."""
    made: dict[int, tuple[str, Tensor]] = {}  # keeps the tensors alive, so that no other gets the same id
    read: dict[str, int] = {}
    runs: Counter[str] = Counter()
    counter = _Uses()
    handles = []
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):

            def after(_m: nn.Module, _i: Any, out: Tensor, name: str = name) -> None:
                made[id(out)] = (name, out)
                counter.uses[id(out)] = 0  # an earlier tensor, gone by now, may have had this id
                runs[name] += 1

            handles.append(module.register_forward_hook(after))
        elif isinstance(module, nn.BatchNorm2d) and module.track_running_stats:

            def before(_m: nn.Module, inputs: tuple[Tensor, ...], name: str = name) -> None:
                runs[name] += 1
                if id(inputs[0]) in made:
                    read[name] = id(inputs[0])

            handles.append(module.register_forward_pre_hook(before))
    channels = 1 if model.colour == "grey" else 3
    like = next(model.parameters())
    try:
        with counter:
            model.forward_parts(
                torch.zeros(1, channels, model.input_size, model.input_size, device=like.device, dtype=like.dtype)
            )
    finally:
        for handle in handles:
            handle.remove()
    return [
        (made[key][0], name)
        for name, key in read.items()
        if counter.uses[key] == 1 and runs[name] == 1 and runs[made[key][0]] == 1
    ]
