"""Running a network for the sake of looking at it, and saying which class is explained."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
from torch import Tensor, nn

from ferkit.data.transforms import as_batch
from ferkit.labels import class_name
from ferkit.models import FerModel
from ferkit.models.guard import evaluating, refuse_unprepared, unwrapped
from ferkit.predict import predict_probabilities

Target = int | str | Sequence[int | str] | np.ndarray | None


@contextmanager
def in_single_precision(model: nn.Module) -> Iterator[FerModel]:
    """Give the network itself, out of any wrapper, in evaluation mode and float32;
    afterwards every submodule is as it was.

    Raises ValueError for a module that does not say how pictures are prepared for it.
    """
    net = unwrapped(model)
    refuse_unprepared(net)
    with evaluating(net, float32=True) as ready:
        yield cast(FerModel, ready)


def some_pictures(images: Any) -> Tensor:
    """Return pictures, however they come, as one uint8 batch (N, C, H, W); see `ferkit.data.transforms.as_batch`.

    Raises ValueError for what is no picture, and for an empty array.
    """
    batch = as_batch(images)
    if len(batch) == 0:
        raise ValueError("no pictures to explain: the array is empty")
    return batch


def labels_of(model: nn.Module) -> tuple[str, ...]:
    """Return the names of the network's classes; empty for a module that does not say."""
    return tuple(getattr(unwrapped(model), "labels", ()))


def target_indices(model: nn.Module, target: Target, count: int) -> list[int | None]:
    """Return one index, or None for "the predicted class", per picture.

    Raises:
        ValueError: an unknown class, or neither one target nor one per picture.

    """
    several = target is not None and not isinstance(target, str) and np.ndim(target) == 1
    each: list = list(target) if several else [target] * count  # type: ignore[arg-type]
    if len(each) != count:
        raise ValueError(f"expected one class for all or one per picture ({count}), found {len(each)}")
    return [_index(labels_of(model), t) for t in each]


def chosen_classes(model: nn.Module, images: Any, target: Target) -> np.ndarray:
    """Return the class explained in each picture (N,), with the predicted class for None; see `target_indices`."""
    batch = some_pictures(images)
    indices = target_indices(model, target, len(batch))
    if None in indices:
        predicted = predicted_probabilities(model, batch).argmax(1)
        indices = [int(p) if t is None else t for t, p in zip(indices, predicted, strict=True)]
    return np.array(indices)


def predicted_probabilities(model: nn.Module, images: Any) -> np.ndarray:
    """Return `predict_probabilities` in float32, (N, K)."""
    with in_single_precision(model) as net:
        return predict_probabilities(net, images)


def refuse_unknown_class(index: int, classes: int) -> None:
    """Raise ValueError for an index that the network has no logit for."""
    if not 0 <= index < classes:
        raise ValueError(f"no class {index}; the network has {classes}, counted from 0")


def _index(labels: Sequence[str], target: int | str | None) -> int | None:
    if target is None:
        return None
    if isinstance(target, str):
        name = target if target in labels else class_name(target)
        if name not in labels:
            raise ValueError(f"no class {target!r}; known: {', '.join(labels) or 'none, give an index'}")
        return labels.index(name)
    if isinstance(target, bool) or int(target) != target or target < 0 or (labels and target >= len(labels)):
        raise ValueError(f"no class {target!r}; the network has {len(labels) or 'no names'}, counted from 0")
    return int(target)
