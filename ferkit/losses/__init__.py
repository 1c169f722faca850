"""Losses: cross entropy, terms that shape features, sums over branches, and diversity between them."""

import inspect
from importlib import import_module
from typing import Any

from torch import Tensor

from ferkit.losses.criterion import BranchCrossEntropy, Criterion, CrossEntropy, FeatureTerm, Flooding, LocalGlobal
from ferkit.losses.diversity import DiversityTerm
from ferkit.models import FerModel

__all__ = ["Criterion", "CrossEntropy", "DiversityTerm", "FeatureTerm", "Flooding", "list_losses", "make_criterion"]

_CRITERIA: dict[str, type[Criterion]] = {
    "cross_entropy": CrossEntropy,
    "branch_cross_entropy": BranchCrossEntropy,
    "local_global": LocalGlobal,
}
# Losses on features, added to the cross entropy. Imported when asked for: the margins bring a library along.
_FEATURE_TERMS = {
    "cosine_harmony": ("cosine_harmony", "CosineHarmonyLoss"),
    "center": ("centres", "CenterLoss"),
    "affinity": ("centres", "AffinityLoss"),
    "separate": ("centres", "SeparateLoss"),
    "island": ("centres", "IslandLoss"),
    "arcface": ("margins", "ArcFaceLoss"),
    "cosface": ("margins", "CosFaceLoss"),
    "sphereface": ("margins", "SphereFaceLoss"),
    "normalised_softmax": ("margins", "NormalisedSoftmaxLoss"),
}


def list_losses() -> list[str]:
    """Return the names that a recipe's `loss` can have."""
    return [*_CRITERIA, *_FEATURE_TERMS]


def make_criterion(
    name: str,
    model: FerModel,
    *,
    num_classes: int,
    class_weight: Tensor | None = None,
    label_smoothing: float = 0.0,
    **options: Any,
) -> Criterion:
    """Return a loss by name, fitted to a network.

    Args:
        name: one of `list_losses()`.
        model: tells how long its features are.
        num_classes: K.
        class_weight, label_smoothing: of the cross entropies.
        options: the loss's own; a loss on features also takes `weight`, its factor beside the cross entropy (default
            1).

    Raises:
        ValueError: unknown name or option, listing the known ones.

    """
    cross_entropy = {"class_weight": class_weight, "label_smoothing": label_smoothing}
    if name in _CRITERIA:
        _refuse_unknown(name, options, _CRITERIA[name], ("class_weight", "label_smoothing", "cross_entropy"))
        return _CRITERIA[name](**cross_entropy, **options)
    if name not in _FEATURE_TERMS:
        raise ValueError(f"no loss named {name!r}; known: {', '.join(list_losses())}")
    module, kind = _FEATURE_TERMS[name]
    term = getattr(import_module(f"ferkit.losses.{module}"), kind)
    weight = options.pop("weight", 1.0)
    _refuse_unknown(name, options, term, ("num_classes", "num_features"), ("weight",))
    built = term(num_classes=num_classes, num_features=model.num_loss_features, **options)
    return FeatureTerm(built, name=name, weight=weight, **cross_entropy)


def _refuse_unknown(
    name: str, options: dict[str, Any], kind: Any, own: tuple[str, ...], more: tuple[str, ...] = ()
) -> None:
    known = [k for k in inspect.signature(kind).parameters if k not in own] + list(more)
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise ValueError(
            f"the loss {name} has no option {', '.join(map(repr, unknown))}; known: {', '.join(known) or 'none'}"
        )
