r"""Does the network's answer depend on the places that a map points at? Hide them and see.

All functions change raw uint8 pictures and read the probability of the explained class. What they hide is replaced by
the picture's own mean grey or by a blurred copy, neither of which the network was trained on: a drop may also mean that
the picture has become strange. Compare methods on the same pictures, and with a map drawn at random.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as F

from ferkit.explain.forward import Target, chosen_classes, predicted_probabilities, refuse_unknown_class, some_pictures


def occlusion_map(
    model: nn.Module, images: Any, *, target: Target = None, patch: int | None = None, stride: int | None = None
) -> np.ndarray:
    """Return how much the class's probability falls when a grey square hides a place.

    Zeiler & Fergus, ECCV 2014 (arXiv 1311.2901), section 4.2, with the fall in place of the probability.

    Args:
        model: any network of `create_model`; left as it was.
        images: uint8 pictures (N, H, W), (N, 1, H, W) or (N, 3, H, W), of any size, or whatever else `cam` takes.
        target: the class, as in `cam`.
        patch: side of the square in pixels; default an eighth of the shorter side. It is filled with the picture's
            mean.
        stride: pixels between squares; default half of `patch`. The last square of a row ends at the border.

    Returns:
        (N, H, W) float32 in [-1, 1]: for each pixel, the mean fall over the squares that hid it; negative where hiding
        helps.

    Raises:
        ValueError: what `cam` refuses, a patch that does not fit, or a stride that leaves gaps.

    """
    batch = some_pictures(images)
    classes = chosen_classes(model, batch, target)
    height, width = batch.shape[-2:]
    patch = max(1, min(height, width) // 8) if patch is None else patch
    stride = max(1, patch // 2) if stride is None else stride
    if not 1 <= patch <= min(height, width) or not 1 <= stride <= patch:
        raise ValueError(
            f"expected a patch of 1 to {min(height, width)} pixels and a stride of 1 to the patch, found "
            f"patch={patch}, stride={stride}"
        )
    corners = [(y, x) for y in _starts(height, patch, stride) for x in _starts(width, patch, stride)]
    cover = np.zeros((height, width))
    for y, x in corners:
        cover[y : y + patch, x : x + patch] += 1
    maps = np.zeros((len(batch), height, width))
    for picture, k, heat in zip(batch, classes, maps, strict=True):
        hidden = picture.repeat(len(corners) + 1, 1, 1, 1)  # (P + 1, C, H, W), the last one as it is
        grey = _mean_grey(picture)  # (C, 1, 1)
        for copy, (y, x) in zip(hidden, corners, strict=False):
            copy[:, y : y + patch, x : x + patch] = grey
        p = _probability(model, hidden, k)
        for (y, x), fall in zip(corners, p[-1] - p[:-1], strict=True):
            heat[y : y + patch, x : x + patch] += fall
    return (maps / cover).astype(np.float32)


class Curves(NamedTuple):
    """Probability of the class while pixels go or come, most important first."""

    fractions: np.ndarray  # (S + 1,), share of the pixels changed, 0 to 1
    deletion: np.ndarray  # (N, S + 1); falls fast where the map is faithful
    insertion: np.ndarray  # (N, S + 1); rises fast where the map is faithful

    @property
    def deletion_auc(self) -> np.ndarray:
        """(N,) in [0, 1], area under the deletion curve by trapezoids; less is better."""
        return np.trapezoid(self.deletion, self.fractions, axis=1)

    @property
    def insertion_auc(self) -> np.ndarray:
        """(N,) in [0, 1], area under the insertion curve; more is better."""
        return np.trapezoid(self.insertion, self.fractions, axis=1)


def insertion_deletion(
    model: nn.Module, images: Any, heats: np.ndarray, *, target: Target = None, steps: int = 16, seed: int = 0
) -> Curves:
    """Return the curves of deletion and insertion (Petsiuk et al., BMVC 2018, arXiv 1806.07421).

    Deletion replaces pixels by the picture's mean grey, the hottest first; insertion puts pixels back into a blurred
    copy (Gaussian, sigma a tenth of the shorter side). Places of equal heat come in random order.

    Args:
        model, images, target: as in `cam`.
        heats: (N, H, W), any scale; `np.random.default_rng(0).random(shape)` gives the curves of a random order.
        steps: S, how many times a share 1 / S of the pixels is changed.
        seed: of the random order among equals.

    Raises:
        ValueError: what `cam` refuses, heats of another shape, or no steps.

    """
    batch = some_pictures(images)
    classes = chosen_classes(model, batch, target)
    heats = _fitting(heats, batch)
    if steps < 1:
        raise ValueError(f"expected at least one step, found {steps}")
    n, _, height, width = batch.shape
    sigma = min(height, width) / 10
    reach = min(2 * int(2 * sigma) + 1, 2 * min(height, width) - 1)  # torchvision's padding cannot reach further
    blurred = F.gaussian_blur(batch, [reach, reach], [sigma, sigma])
    rng = np.random.default_rng(seed)
    deletion, insertion = np.zeros((n, steps + 1)), np.zeros((n, steps + 1))
    counts = np.round(np.linspace(0, height * width, steps + 1))
    for i, (picture, soft, k) in enumerate(zip(batch, blurred, classes, strict=True)):
        flat = heats[i].ravel()
        rank = np.empty(len(flat))
        rank[np.lexsort((rng.random(len(flat)), -flat))] = np.arange(len(flat))
        changed = torch.from_numpy(rank.reshape(1, 1, height, width) < counts[:, None, None, None])  # (S + 1, 1, H, W)
        deletion[i] = _probability(model, torch.where(changed, _mean_grey(picture), picture), k)
        insertion[i] = _probability(model, torch.where(changed, picture, soft), k)
    return Curves(counts / (height * width), deletion, insertion)


class Drop(NamedTuple):
    """What happens to the class's probability when only the hot places stay visible."""

    drop: np.ndarray  # (N,) in [0, 1], share of the probability that is lost, 0 where it rises
    increase: np.ndarray  # (N,) bool, whether the probability rises


def average_drop(model: nn.Module, images: Any, heats: np.ndarray, *, target: Target = None) -> Drop:
    """Return drop and increase per picture (Chattopadhyay et al., WACV 2018, arXiv 1710.11063, section 4.1);
    average them.

    The picture is multiplied with its heat, (N, H, W) in [0, 1], so cold places become black. A map that is 1
    everywhere drops nothing: read the figures beside the share of the picture that the map covers.

    Raises:
        ValueError: what `cam` refuses, or heats of another shape or outside of [0, 1].

    """
    batch = some_pictures(images)
    classes = chosen_classes(model, batch, target)
    heats = _fitting(heats, batch)
    if heats.min() < 0 or heats.max() > 1:
        raise ValueError(f"expected heats in [0, 1] as `cam` gives them, found {heats.min():.3g} to {heats.max():.3g}")
    seen = (batch * torch.from_numpy(heats)[:, None]).round().to(torch.uint8)
    rows = np.arange(len(batch))
    known = predicted_probabilities(model, batch)  # (N, K)
    refuse_unknown_class(int(classes.max()), known.shape[1])
    before, after = known[rows, classes], predicted_probabilities(model, seen)[rows, classes]
    return Drop(np.maximum(0, before - after) / before, after > before)


def _starts(length: int, patch: int, stride: int) -> list[int]:
    return sorted({*range(0, length - patch + 1, stride), length - patch})


def _mean_grey(picture: Tensor) -> Tensor:
    """Mean of each channel (C, 1, 1), uint8."""
    return picture.float().mean((1, 2), keepdim=True).round().to(torch.uint8)


def _probability(model: nn.Module, pictures: Tensor, k: int) -> np.ndarray:
    p = predicted_probabilities(model, pictures)  # (N, K)
    refuse_unknown_class(k, p.shape[1])
    return p[:, k].astype(np.float64)  # (N,)


def _fitting(heats: np.ndarray, batch: Tensor) -> np.ndarray:
    expected = (len(batch), *batch.shape[-2:])
    if np.shape(heats) != expected:
        raise ValueError(f"expected one heat map per picture {expected}, found {np.shape(heats)}")
    if not np.isfinite(heats).all():
        raise ValueError("the heat must be finite, found NaN or infinity")
    return np.asarray(heats, dtype=np.float32)
