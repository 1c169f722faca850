"""Starting a network from weights that were trained on something else, and keeping parts of it as they are."""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ferkit.models.base import FerModel
from ferkit.models.capture import module_by_name
from ferkit.models.registry import class_axes, create_model, read_weights_header, weights_file, width_of
from ferkit.models.released import misfit, read_released


class Initialised(NamedTuple):
    """What `initialise` copied and what it left, by name; `str()` says it in a sentence.

    Attributes:
        stayed: tensors of which nothing was copied.
        kept: classes whose rows of the head were copied.
        new: classes of the network that the weights do not know; their rows stayed random.
        dropped: classes of the weights that the network does not have.

    """

    stayed: list[str]
    kept: tuple[str, ...] = ()
    new: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()

    def __str__(self) -> str:
        parts = []
        if self.kept:
            parts.append(f"rows of the head kept for {', '.join(self.kept)}")
        if self.new:
            parts.append(f"new and random: {', '.join(self.new)}")
        if self.dropped:
            parts.append(f"dropped: {', '.join(self.dropped)}")
        if self.stayed:
            shown = ", ".join(self.stayed[:4]) + (f" and {len(self.stayed) - 4} more" if len(self.stayed) > 4 else "")
            parts.append(f"left as they were: {shown}")
        return "; ".join(parts) or "everything was copied"


def initialise(model: FerModel, source: str | Path) -> Initialised:
    """Copy into a network what fits of other weights; what does not fit stays random.

    Rows of the head are copied class by class, by name, wherever both know the names: "happiness" goes on as
    "happiness", in whatever order and with whatever other classes beside it. Where the names of the weights are not
    known, a head with as many classes is copied as it is, and any other stays random.

    Args:
        model: the network.
        source: "imagenet" (the network's method `load_imagenet()` decides what that means for it); a published name
            such as "fer2013-teach"; a .safetensors file of a run; or a file of the authors' code
            (`ferkit.models.read_released`).

    Raises:
        ValueError: the network has no ImageNet weights, or the weights are of another network, or of another width.
        FileNotFoundError: no such file.

    """
    if source == "imagenet":
        load = getattr(model, "load_imagenet", None)
        if load is None:
            raise ValueError(f"{type(model).__name__} has no ImageNet weights to start from")
        return Initialised(load())
    spec = _spec(model)
    try:
        file = weights_file(spec["model"], source)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"no weights to start from: {error}; expected a published name, a file, or imagenet"
        ) from None
    own, found = model.state_dict(), read_released(spec["model"], file).tensors
    axes = class_axes(spec["model"], _arguments(spec))
    fitting = {k: v for k, v in found.items() if k in own and own[k].shape == v.shape and k not in axes}
    if len(fitting) < len(own.keys() - axes.keys()) / 2:  # chance matches, such as counters of batches
        width = width_of(spec["model"], found, _arguments(spec))
        other = (
            f"of width {width:g}: build the network with width={width:g}"
            if width and width != spec["width"]
            else "of another network"
        )
        raise ValueError(
            f"{file.name} fits {type(model).__name__} of width {spec['width']:g} in {len(fitting)} of {len(own)} "
            f"tensors only; it is {other}"
        )
    theirs, ours = _labels_of(file, spec, found, axes), tuple(model.labels)
    rows = {k: _rows(own[k], found[k], axis, theirs, ours) for k, axis in axes.items() if k in found}
    heads = {k: v for k, v in rows.items() if v is not None}
    copied = fitting | heads
    model.load_state_dict({k: v.to(own[k].dtype) for k, v in copied.items()}, strict=False)
    stayed = sorted(k for k in own if k not in copied)
    if not heads or not theirs or not ours:
        return Initialised(stayed)
    return Initialised(
        stayed,
        kept=tuple(name for name in ours if name in theirs),
        new=tuple(name for name in ours if name not in theirs),
        dropped=tuple(name for name in theirs if name not in ours),
    )


def load_released(model: FerModel, path: str | Path, *, bgr: bool = False) -> list[str]:
    """Copy a checkpoint of the authors into a network; all of it must fit but for the head.

    `create_model(name, weights=path)` is shorter where the head fits as well. Of an ESR's folder a network with fewer
    branches gets the first ones, and one without a valence-arousal layer leaves theirs out.

    Args:
        model: the network, in the width and with the options of the file. The files of both directions of MA-Net's
            global blocks have the same names: `multi_scale` has to be known from elsewhere.
        path: as `ferkit.models.read_released` takes it.
        bgr: the weights were trained on blue-green-red pictures, as OpenCV reads them and as the AffectNet scripts of
            ESR do. The first convolution's input channels are turned round, so that the network takes RGB.

    Returns:
        Names of the tensors that stayed as they were: those of a head that lacks or is for another number of classes.

    Raises:
        FileNotFoundError: no such file, or a folder with fewer branches than the network has.
        ValueError: a file without tensors, or tensors of another network. The network is then unchanged.

    """
    spec, path = _spec(model), Path(path)
    own, state = model.state_dict(), read_released(spec["model"], path).tensors
    if spec["model"] == "esr":
        state = _for_its_branches(model, path, state)
    if bgr:
        first = next(k for k, v in own.items() if v.ndim == 4)
        state = state | {first: state[first].flip(1)} if first in state else state
    heads = list(class_axes(spec["model"], _arguments(spec)))
    if problem := misfit(state, own, may_differ=heads):
        raise ValueError(f"{path.name} is not of this network: {problem}. Released files are of width 1")
    fitting = {k: v for k, v in state.items() if own[k].shape == v.shape}
    model.load_state_dict({k: v.to(own[k].dtype) for k, v in fitting.items()}, strict=False)
    return [k for k in own if k not in fitting and not k.endswith("num_batches_tracked")]


def freeze(model: nn.Module, names: str | Iterable[str]) -> None:
    """Keep parts of a network as they are while the rest is trained: parameters, BatchNorm statistics, and no dropout.

    The parts get no gradient, and they stay in evaluation mode also after `model.train()`.

    Args:
        model: any module.
        names: dotted names of submodules ("conv1", "layer4.1", "branches.0") or of single parameters, or how the names
            of several submodules begin ("layer" for layer1, layer2 ...).

    Raises:
        ValueError: an unknown name, listing close ones.

    """
    parameters = dict(model.named_parameters())
    for name in [names] if isinstance(names, str) else list(names):
        if name in parameters:
            parameters[name].requires_grad_(False)
            continue
        modules = dict(model.named_modules())
        alike = [] if name in modules or not name else [k for k in modules if k.startswith(name)]
        for part in [modules[k] for k in alike] or [module_by_name(model, name)]:
            part.requires_grad_(False)
            part.train = partial(_stay_in_evaluation_mode, part)  # type: ignore[method-assign]
            part.train()


def thaw(model: nn.Module, names: str | Iterable[str]) -> None:
    """Let parts of a network be trained again that `freeze` kept as they are; names as there.

    Raises:
        ValueError: an unknown name, listing close ones.

    """
    parameters, modules = dict(model.named_parameters()), dict(model.named_modules())
    for name in [names] if isinstance(names, str) else list(names):
        if name in parameters:
            parameters[name].requires_grad_(True)
            continue
        alike = [] if name in modules or not name else [k for k in modules if k.startswith(name)]
        for part in [modules[k] for k in alike] or [module_by_name(model, name)]:
            part.requires_grad_(True)
            vars(part).pop("train", None)
            part.train(model.training)


def _stay_in_evaluation_mode(module: nn.Module, mode: bool = True) -> nn.Module:
    return type(module).train(module, False)


def _spec(model: FerModel) -> dict:
    if not hasattr(model, "spec"):
        raise ValueError(
            f"{type(model).__name__} does not know how it was built, so weights cannot be fitted to "
            "it; use create_model"
        )
    return model.spec


def _arguments(spec: Mapping) -> dict:
    return {"num_classes": spec["num_classes"], "width": spec["width"], **spec["options"]}


def _labels_of(file: Path, spec: Mapping, found: Mapping[str, Tensor], axes: Mapping[str, int]) -> tuple[str, ...]:
    """Classes of a file: from its header, or those that the authors' network has with so many; empty if nobody knows.
    """
    try:
        return tuple(read_weights_header(file)["labels"])
    except (ValueError, OSError):  # a file of weights alone
        classes = next((found[k].shape[axis] for k, axis in axes.items() if k in found and found[k].ndim > axis), 0)
        if not classes:
            return ()
        with torch.device("meta"):
            return tuple(
                create_model(spec["model"], num_classes=classes, width=spec["width"], **spec["options"]).labels
            )


def _rows(own: Tensor, other: Tensor, axis: int, theirs: Sequence[str], ours: Sequence[str]) -> Tensor | None:
    """The network's own tensor with the rows of classes that both know; None if there is nothing to copy."""
    if other.ndim != own.ndim or any(
        a != b for i, (a, b) in enumerate(zip(own.shape, other.shape, strict=True)) if i != axis
    ):
        return None
    if len(theirs) != other.shape[axis] or len(ours) != own.shape[axis]:
        return other if other.shape == own.shape else None
    shared = [name for name in ours if name in theirs]
    if not shared:
        return None
    rows = own.clone()
    for name in shared:
        rows.select(axis, ours.index(name)).copy_(other.select(axis, theirs.index(name)))
    return rows


def _for_its_branches(model: FerModel, path: Path, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    there, wanted = (
        {k.split(".")[1] for k in names if k.startswith("branches.")} for names in (state, model.state_dict())
    )
    if len(there) < len(wanted):
        raise FileNotFoundError(
            f"{path} lacks branches: found {len(there)}, the network has {len(wanted)} "
            "(create_model('esr', branches=...))"
        )
    own = model.state_dict()
    extra = {k for k in state if k.startswith("branches.") and k.split(".")[1] not in wanted}
    extra |= {k for k in state if ".fc_dimensional." in k and k not in own}
    return {k: v for k, v in state.items() if k not in extra}
