"""Does a map depend on what the network learnt?

Destroy the weights from the top down and see whether the map changes.
"""

import copy
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import nn
from torchmetrics.functional.image import structural_similarity_index_measure

from ferkit.explain.forward import Target, chosen_classes, some_pictures
from ferkit.explain.scores import heat_maps
from ferkit.models.capture import module_by_name
from ferkit.models.guard import unwrapped


class Randomised(NamedTuple):
    """Maps of a network whose stages are shuffled from the last down to `stage`, beside those of the trained network.
    """

    stage: str  # "trained" for the first, where nothing is shuffled
    heats: np.ndarray  # (N, H, W)
    rank_correlation: np.ndarray  # (N,) Spearman over pixels, in [-1, 1]; 0 where one of the maps has no contrast
    ssim: np.ndarray  # (N,) structural similarity, at most 1


def shuffle_weights(module: nn.Module, *, seed: int = 0) -> None:
    """Shuffle the values of each parameter in place: their distribution stays, what was learnt goes.

    That keeps activations of the usual size, which fresh initial values need not: a BatchNorm that has forgotten its
    statistics, or one whose weight starts at 0 as in the masking blocks, would make maps flat instead of random. What
    holds one value, or equal ones, stays.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(p.flatten()[torch.randperm(p.numel(), generator=generator).to(p.device)].view_as(p))


def cascade_stages(model: nn.Module) -> tuple[str, ...]:
    """Return the network's direct submodules that have parameters, from the head down to the input."""
    return tuple(
        name for name, child in reversed(list(model.named_children())) if next(child.parameters(), None) is not None
    )


def randomisation_check(
    model: nn.Module,
    images: Any,
    *,
    method: str = "gradcam",
    target: Target = None,
    layer: str | None = None,
    stages: Sequence[str] | None = None,
    seed: int = 0,
) -> list[Randomised]:
    """Shuffle the last stage, then the one below as well, and so on down to the input, and compare the maps.

    Cascading randomisation (Adebayo et al., NeurIPS 2018, arXiv 1810.03292). A map that stays the same explains the
    picture, not the network. The class explained is fixed: that of the trained network.

    Args:
        model: any network of `create_model`; a copy is shuffled, the model is left as it was.
        images: uint8 pictures (N, H, W), (N, 1, H, W) or (N, 3, H, W), of any size.
        method: one of `HEAT_METHODS`.
        target, layer: as in `cam`.
        stages: dotted names in the order in which they are shuffled; default `cascade_stages(model)`.
        seed: of the shuffling.

    Returns:
        One `Randomised` for the trained network, then one per stage.

    Raises:
        ValueError: what `cam` refuses, or an unknown stage.

    """
    model, images = unwrapped(model), some_pictures(images)
    stages = cascade_stages(model) if stages is None else stages
    for stage in stages:
        module_by_name(model, stage)
    classes = chosen_classes(model, images, target)
    shuffled = copy.deepcopy(model)
    trained = heat_maps(model, images, method=method, target=classes, layer=layer)
    rows = [Randomised("trained", trained, *compare_maps(trained, trained))]
    for i, stage in enumerate(stages):
        shuffle_weights(shuffled.get_submodule(stage), seed=seed + i)
        heats = heat_maps(shuffled, images, method=method, target=classes, layer=layer)
        rows.append(Randomised(stage, heats, *compare_maps(trained, heats)))
    return rows


def compare_maps(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return Spearman's rank correlation and structural similarity of maps (N, H, W) in [0, 1], picture by picture:
    (N,) each.

    A rank correlation with a map without contrast is 0. SSIM uses the usual window (Gaussian of 1.5 pixels, 11 x 11).
    """
    if a.shape != b.shape or a.ndim != 3:
        raise ValueError(f"expected two stacks of maps (N, H, W) of one shape, found {a.shape} and {b.shape}")
    flat = [(x.std() == 0) | (y.std() == 0) for x, y in zip(a, b, strict=True)]
    rank = [0.0 if f else float(spearmanr(x.ravel(), y.ravel())[0]) for f, x, y in zip(flat, a, b, strict=True)]
    x, y = (torch.from_numpy(np.ascontiguousarray(m, dtype=np.float32))[:, None] for m in (a, b))
    ssim = structural_similarity_index_measure(x, y, data_range=1.0, reduction="none")
    return np.array(rank), ssim.numpy().reshape(-1)  # type: ignore[union-attr]
