r"""Softmax losses with a margin on the angle to one learned direction per class, from pytorch-metric-learning.

Each is a cross entropy of its own, on logits that it makes from features, so it can stand beside the classifier or
replace it: `logits(features)` are those of evaluation, without margin.
"""

import inspect
import math
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ferkit.losses.feature import FeatureLoss, unit_rows

try:
    from pytorch_metric_learning import losses as pml
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "the margin losses need pytorch-metric-learning: pip install pytorch-metric-learning"
    ) from error


class MarginLoss(FeatureLoss):
    """Base: `loss` is the library's module, whose weights `W` (D, C) are trained with the network."""

    unit_features = True

    def __init__(self, loss: nn.Module, *, num_classes: int, num_features: int) -> None:
        super().__init__(num_classes=num_classes, num_features=num_features)
        self.loss: Any = loss

    @property
    def centres(self) -> Tensor:  # type: ignore[override]
        """Directions of the classes (C, D), any length."""
        return cast(Tensor, self.loss.W).T

    def compute(self, features: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of checked input."""
        # The library turns its weights into the dtype of the features, for good; in a call of its own they come back.
        return functional_call(self.loss, {"W": self.loss.W.to(features.dtype)}, (self._rows(features), targets))

    def logits(self, features: Tensor) -> Tensor:
        """Features (B, D) to logits (B, C) without margin, as used for deciding."""
        features, _ = self.checked(features, torch.zeros(len(features), dtype=torch.int64, device=features.device))
        with torch.autocast(features.device.type, enabled=False):
            return self.loss.get_logits(self._rows(features).to(self.loss.W.dtype))

    def _rows(self, features: Tensor) -> Tensor:
        # The library divides by the length, down to 1e-12; a zero row must not get a gradient of 1e12.
        return unit_rows(features) if self.unit_features else features


class _ArcFace(pml.ArcFaceLoss):
    """Keeps cosines off 1, where the arc cosine's slope is infinite and features of few dimensions really arrive.

    The library clamps to 1 itself, and torch before 2.14 lets gradients through at the bound of a clamp: NaN.
    """

    def get_angles(self, cosine: Tensor) -> Tensor:
        edge = 1 - 4 * torch.finfo(cosine.dtype).eps
        return super().get_angles(cosine.clamp(-edge, edge))


class ArcFaceLoss(MarginLoss):
    r"""ArcFace (Deng et al., CVPR 2019, arXiv 1801.07698, equation 3).

    Cross entropy of $s\cos\theta_k$, with $s\cos(\theta + m)$ for the own class; where $\theta > \pi - m$ the own logit
    goes on as $s(\cos\theta - m\sin m)$, so that it keeps falling.

    Args:
        num_classes, num_features: C and D.
        margin: m in radians, in [0, pi]; 0.5 in the paper. (The library's own margin is in degrees.)
        scale: s.

    """

    def __init__(self, *, num_classes: int, num_features: int, margin: float = 0.5, scale: float = 64.0) -> None:
        if not 0 <= margin <= math.pi:
            raise ValueError(f"expected margin in radians, from 0 to pi; found {margin}")
        # Degrees in version 2.9 (default 28.6); a default below pi would mean radians.
        degrees = inspect.signature(pml.ArcFaceLoss).parameters["margin"].default > math.pi
        angle = math.degrees(margin) if degrees else margin
        super().__init__(
            _ArcFace(num_classes, num_features, margin=angle, scale=scale),
            num_classes=num_classes,
            num_features=num_features,
        )


class CosFaceLoss(MarginLoss):
    r"""CosFace (Wang et al., CVPR 2018, arXiv 1801.09414).

    Cross entropy of $s\cos\theta_k$, with $s(\cos\theta - m)$ for the own class.

    Args:
        num_classes, num_features: C and D.
        margin: m, at least 0; subtracted from a cosine, so it has no unit.
        scale: s.

    """

    def __init__(self, *, num_classes: int, num_features: int, margin: float = 0.35, scale: float = 64.0) -> None:
        if margin < 0:
            raise ValueError(f"expected margin at least 0, found {margin}")
        super().__init__(
            pml.CosFaceLoss(num_classes, num_features, margin=margin, scale=scale),
            num_classes=num_classes,
            num_features=num_features,
        )


class SphereFaceLoss(MarginLoss):
    r"""SphereFace or A-Softmax (Liu et al., CVPR 2017, arXiv 1704.08063).

    Cross entropy of $\lVert x\rVert\cos\theta_k$, with $\lVert x\rVert\psi(\theta)$ for the own class, where
    $\psi(\theta) = (-1)^q\cos(m\theta) - 2q$ for $\theta$ in $[q\pi/m, (q+1)\pi/m]$. Without the annealing that mixes
    in the plain softmax and lets it fade, so large margins may not learn from the start.

    Args:
        num_classes, num_features: C and D.
        margin: m, a whole number that multiplies the angle; 1 is the softmax without margin.

    """

    unit_features = False

    def __init__(self, *, num_classes: int, num_features: int, margin: int = 4) -> None:
        if margin < 1 or margin != int(margin):
            raise ValueError(f"expected margin a whole number of at least 1, found {margin}")
        super().__init__(
            pml.SphereFaceLoss(num_classes, num_features, margin=margin, scale=1),
            num_classes=num_classes,
            num_features=num_features,
        )


class NormalisedSoftmaxLoss(MarginLoss):
    r"""Cross entropy of $s\cos\theta$: what ArcFace and CosFace are with margin 0.

    Args:
        num_classes, num_features: C and D.
        scale: s, above 0.

    """

    def __init__(self, *, num_classes: int, num_features: int, scale: float = 64.0) -> None:
        if scale <= 0:
            raise ValueError(f"expected scale above 0, found {scale}")
        loss = pml.NormalizedSoftmaxLoss(num_classes, num_features, temperature=1 / scale)
        super().__init__(loss, num_classes=num_classes, num_features=num_features)
