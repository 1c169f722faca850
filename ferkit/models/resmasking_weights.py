"""Weights of others for the Residual Masking Network: the authors' checkpoints, and ImageNet for its ResNet-34."""

from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch
from torch import Tensor

from ferkit.models.base import FerModel


def load_imagenet_backbone(model: FerModel, state_dict: dict[str, Tensor] | None = None) -> list[str]:
    """Put torchvision's ResNet-34 into conv1, bn1 and layer1..4; masking blocks and head stay as they are.

    This is what the first release did; it was switched off at commit 0e8e9ec (10 January 2020) and stays off in 9141618.

    Args:
        model: a `ResMasking` of width 1.
        state_dict: of a torchvision ResNet-34; None fetches `ResNet34_Weights.IMAGENET1K_V1` through torchvision.

    Returns:
        Names of the tensors that stayed as they were.

    Raises:
        ValueError: the model is scaled, or the weights are not those of a ResNet-34.
        FileNotFoundError: the weights are neither cached nor to be had over the network.

    """
    channels = len(model.get_parameter("conv1.weight"))
    if channels != 64 or model.num_features != 512:
        raise ValueError(f"ImageNet weights fit a network of width 1, found one with {channels} channels after conv1 instead of 64")
    if state_dict is None:
        from torchvision.models import ResNet34_Weights

        try:
            state_dict = dict(ResNet34_Weights.IMAGENET1K_V1.get_state_dict(progress=False, check_hash=True))
        except (URLError, OSError) as error:
            raise FileNotFoundError(f"torchvision could not fetch its ImageNet weights of ResNet-34 ({error}); pass state_dict") from None
    backbone = {k: v for k, v in state_dict.items() if not k.startswith("fc.")}
    own = {k: v for k, v in model.state_dict().items() if not k.startswith(("mask", "fc."))}
    _compare(backbone, own, "these are not the weights of a ResNet-34")
    model.load_state_dict(backbone, strict=False)
    return sorted(k for k in model.state_dict() if k not in own)


def load_released(model: FerModel, file: str | Path) -> dict[str, Any]:
    """Load a checkpoint of the authors (`resmasking_dropout1` and its relatives), read without running any code in it.

    Args:
        model: a `ResMasking` of width 1, seven classes and the head of the file (`resmasking` has "linear").
        file: torch file holding a dict with the state dict under "net".

    Returns:
        What the file says beside the weights: settings and accuracies of the training, such as `test_acc`.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not such a checkpoint, or one of another network.

    """
    file = Path(file)
    if not file.is_file():
        raise FileNotFoundError(f"no checkpoint at {file}")
    try:
        checkpoint = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # zip, pickle and torch each raise their own kinds
        reason = str(error).strip().split("\n")[0]
        raise ValueError(f"{file.name} is not a checkpoint that can be read as weights only ({reason})") from None
    net = checkpoint.get("net") if isinstance(checkpoint, dict) else None
    if not isinstance(net, dict) or not all(isinstance(v, Tensor) for v in net.values()):
        raise ValueError(f"{file.name} is not a checkpoint of the authors: expected a dict with the state dict under 'net'")
    state = convert_released(net)
    _compare(state, model.state_dict(), f"{file.name} holds another network than this one")
    model.load_state_dict(state, strict=False)
    return {k: v for k, v in checkpoint.items() if k != "net"}


def convert_released(net: dict[str, Tensor]) -> dict[str, Tensor]:
    """The authors' state dict under our names.

    `mask{s}.conv{k}` is `mask{s}.encode.{k-1}` for the first half of the k of that block and `decode` for the second;
    `up_pool{k}` goes with decoder `conv{k}`. `mask{s}.downsample{k}.*` repeats `mask{s}.conv{k}.downsample.*` and is dropped.
    """
    units: dict[str, int] = {}  # per block: the highest k, twice its depth
    for key in net:
        block, part, *_ = *key.split("."), ""
        if block.startswith("mask") and part.startswith("conv") and part[4:].isdigit():
            units[block] = max(units.get(block, 0), int(part[4:]))
    state = {}
    for key, value in net.items():
        block, part, rest = (*key.split(".", 2), "", "")[:3]
        if block in units and part.startswith("downsample"):
            continue
        number = part.lstrip("abcdefghijklmnopqrstuvwxyz_")
        if block in units and part in (f"conv{number}", f"up_pool{number}") and number.isdigit():
            depth, k = units[block] // 2, int(number)
            name = "up" if part.startswith("up") else "encode" if k <= depth else "decode"
            key = f"{block}.{name}.{k - 1 if name == 'encode' else k - 1 - depth}.{rest}"
        state[key] = value
    return state


def _compare(found: dict[str, Tensor], expected: dict[str, Tensor], what: str) -> None:
    """Raise ValueError unless both have the same names and shapes; files older than PyTorch 0.4.1 do not count batches."""
    problems = []
    missing = {k for k in expected if k not in found and not k.endswith("num_batches_tracked")}
    for title, names in (("missing", missing), ("unexpected", found.keys() - expected.keys())):
        if names:
            problems.append(f"{len(names)} {title}, such as {', '.join(sorted(names)[:3])}")
    shapes = [k for k in expected if k in found and found[k].shape != expected[k].shape]
    if shapes:
        k = shapes[0]
        problems.append(f"{len(shapes)} of another shape, such as {k} {tuple(found[k].shape)} instead of {tuple(expected[k].shape)}")
    if problems:
        raise ValueError(f"{what}: {'; '.join(problems)}")
