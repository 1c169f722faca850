"""Starting a network from weights that were trained on something else."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from ferkit.models.base import FerModel
from ferkit.models.registry import create_model, read_weights_header


def initialise(model: FerModel, source: str) -> list[str]:
    """Copy into a network what fits of other weights; what does not fit, such as a head with other classes, stays random.

    Where both know the same emotions in another order, as AffectNet and FER+ do, the classes of the head are put in the
    network's own order.

    Args:
        model: the network; its method `load_imagenet()` decides what "imagenet" means for it.
        source: "imagenet", or a .safetensors file written by a run.

    Returns:
        Names of the tensors that stayed as they were.

    Raises:
        ValueError: the network has no ImageNet weights, or most of it does not fit.
        FileNotFoundError: no such file.

    """
    if source == "imagenet":
        load = getattr(model, "load_imagenet", None)
        if load is None:
            raise ValueError(f"{type(model).__name__} has no ImageNet weights to start from")
        return load()
    file = Path(source)
    if not file.is_file():
        raise FileNotFoundError(f"no weights to start from at {file}; expected a .safetensors file of a run, or imagenet")
    own = model.state_dict()
    other = {k: v for k, v in load_file(file).items() if k in own and own[k].shape == v.shape}
    if len(other) < len(own) / 2:  # chance matches, such as counters of batches
        raise ValueError(
            f"{file.name} fits {type(model).__name__} in {len(other)} of {len(own)} tensors only; it is of another network, or of another width"
        )
    other = _in_own_order(model, other, _labels_of(file))
    model.load_state_dict({k: v.to(own[k].dtype) for k, v in other.items()}, strict=False)
    return sorted(set(own) - set(other))


def _labels_of(file: Path) -> tuple[str, ...]:
    try:
        return tuple(read_weights_header(file).get("labels", ()))
    except ValueError:  # a file of weights alone
        return ()


def _in_own_order(model: FerModel, other: dict[str, Tensor], labels: tuple[str, ...]) -> dict[str, Tensor]:
    """Tensors with their classes in the order of the network's labels; without the head where the emotions are others."""
    if not labels or not model.labels or labels == tuple(model.labels) or len(labels) != len(model.labels) or not hasattr(model, "spec"):
        return other
    axes = _class_axes(model)
    if set(labels) != set(model.labels):
        return {name: tensor for name, tensor in other.items() if name not in axes}
    order = torch.tensor([labels.index(name) for name in model.labels])
    return {name: tensor.index_select(axes[name], order) if name in axes else tensor for name, tensor in other.items()}


def _class_axes(model: FerModel) -> dict[str, int]:
    """The axis that counts classes, of each tensor that has one: what changes if the network is built with one class more."""
    spec: dict[str, Any] = model.spec  # type: ignore[assignment]
    with torch.device("meta"):
        larger = create_model(spec["model"], num_classes=spec["num_classes"] + 1, width=spec["width"], **spec["options"]).state_dict()
    axes = {}
    for name, tensor in model.state_dict().items():
        if different := [axis for axis, (a, b) in enumerate(zip(tensor.shape, larger[name].shape, strict=True)) if a != b]:
            axes[name] = different[0]
    return axes
