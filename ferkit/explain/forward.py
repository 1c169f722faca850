"""Running a network for the sake of looking at it, and saying which class is explained."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from ferkit.models import FerModel
from ferkit.predict import predict_probabilities

Target = int | str | Sequence[int | str] | np.ndarray | None


@contextmanager
def evaluating(model: FerModel) -> Iterator[FerModel]:
    """The model in evaluation mode and float32, without autocast and outside of inference mode.

    A model in another precision is copied. Afterwards every submodule is in the mode it was in, also after an exception.
    """
    if any(p.is_floating_point() and p.dtype != torch.float32 for p in model.parameters()):
        model = copy.deepcopy(model).float()
    modes = {module: module.training for module in model.modules()}
    try:
        model.eval()
        with torch.inference_mode(False), torch.autocast(device_of(model).type, enabled=False):
            yield model
    finally:
        for module, mode in modes.items():
            module.training = mode


def device_of(model: FerModel) -> torch.device:
    """Where the model's parameters are."""
    return next(model.parameters()).device


def target_indices(model: FerModel, target: Target, count: int) -> list[int | None]:
    """One index, or None for "the predicted class", per picture.

    Raises:
        ValueError: an unknown class, or neither one target nor one per picture.

    """
    several = target is not None and not isinstance(target, str) and np.ndim(target) == 1
    each: list = list(target) if several else [target] * count  # type: ignore[arg-type]
    if len(each) != count:
        raise ValueError(f"expected one class for all or one per picture ({count}), found {len(each)}")
    return [_index(model, t) for t in each]


def chosen_classes(model: FerModel, images: np.ndarray | Tensor, target: Target) -> np.ndarray:
    """The class explained in each picture (N,), with the predicted class for None; see `target_indices`."""
    if len(images) == 0:
        raise ValueError("no pictures to explain: the array is empty")
    indices = target_indices(model, target, len(images))
    if None in indices:
        predicted = predicted_probabilities(model, images).argmax(1)
        indices = [int(p) if t is None else t for t, p in zip(indices, predicted, strict=True)]
    return np.array(indices)


def predicted_probabilities(model: FerModel, images: np.ndarray | Tensor) -> np.ndarray:
    """`predict_probabilities` in float32, (N, K)."""
    with evaluating(model) as net:
        return predict_probabilities(net, images)


def _index(model: FerModel, target: int | str | None) -> int | None:
    if target is None:
        return None
    if isinstance(target, str):
        if target not in model.labels:
            raise ValueError(f"no class {target!r}; known: {', '.join(model.labels) or 'none, give an index'}")
        return model.labels.index(target)
    classes = len(model.labels)
    if isinstance(target, bool) or int(target) != target or target < 0 or (classes and target >= classes):
        raise ValueError(f"no class {target!r}; the network has {classes}, counted from 0")
    return int(target)
