r"""Losses with one learned centre per class: center loss and its relatives,
which the Cosine-Harmony loss set out to improve.

Their centres are parameters and learn by the gradient, with the network's optimiser. Wen et al. instead move $c_k$ by
$-\eta\sum_{i: y_i = k}(c_k - x_i)/(1 + n_k)$, outside the optimiser.
"""

import torch
from torch import Tensor

from ferkit.losses.feature import FeatureLoss, cosine_distance

REDUCTIONS = ("mean", "sum")


def _similarities(centres: Tensor) -> Tensor:
    """1 + cosine, in [0, 2], of all ordered pairs of different centres."""
    others = ~torch.eye(len(centres), dtype=torch.bool, device=centres.device)  # (C, C)
    return 2 - cosine_distance(centres, centres)[others]  # (C(C - 1),)


class CenterLoss(FeatureLoss):
    r"""Center loss (Wen et al., ECCV 2016, equation 2): half the squared distance of each sample to its class's centre.

    $$L = \tfrac12\sum_i\lVert x_i - c_{y_i}\rVert^2$$

    Nothing keeps centres apart: with the cross entropy away, everything in one point is the minimum.

    Args:
        num_classes, num_features: C and D.
        reduction: "mean" over the batch (default; does not depend on its size), or "sum" as printed.

    """

    def __init__(self, *, num_classes: int, num_features: int, reduction: str = "mean") -> None:
        super().__init__(num_classes=num_classes, num_features=num_features)
        if reduction not in REDUCTIONS:
            raise ValueError(f"no reduction {reduction!r}; known: {', '.join(REDUCTIONS)}")
        self.reduction = reduction
        self.make_centres(trained=True)

    def compute(self, features: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of checked input."""
        loss = ((features - self.centres.to(features.dtype)[targets]) ** 2).sum() / 2
        return loss / len(features) if self.reduction == "mean" else loss


class AffinityLoss(FeatureLoss):
    r"""Affinity loss of DAN (Wen et al. 2023, arXiv 2109.07270):
    squared distance to the centre over the spread of centres.

    $$L = \frac{\tfrac1N\sum_i\lVert x_i - c_{y_i}\rVert^2}{\sum_j \mathrm{Var}_k(c_{kj})}$$

    with the unbiased variance over the C classes.

    Args:
        num_classes, num_features: C and D.

    Raises:
        ValueError: all centres are the same, so that there is no spread to divide by.

    """

    def __init__(self, *, num_classes: int, num_features: int) -> None:
        super().__init__(num_classes=num_classes, num_features=num_features)
        self.make_centres(trained=True)

    def compute(self, features: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of checked input."""
        centres = self.centres.to(features.dtype)
        spread = centres.var(0).sum()
        if spread <= 0:
            raise ValueError(
                "all centres of the affinity loss are the same, and it divides by their variance: start "
                "from different ones"
            )
        return ((features - centres[targets]) ** 2).sum(1).mean() / spread


class SeparateLoss(FeatureLoss):
    r"""A stand-in for Separate loss (Li et al., ACML 2019, PMLR 101:897-911), not its printed equations,
    which we could not read.

    What its abstract says, in cosines: raise the similarity of samples to their class and lower that between classes,

    $$L = \tfrac1N\sum_i(1 - \cos(x_i, c_{y_i})) + \tfrac1{C(C-1)}\sum_{k \ne l}(1 + \cos(c_k, c_l))$$

    Args:
        num_classes, num_features: C and D.

    """

    def __init__(self, *, num_classes: int, num_features: int) -> None:
        super().__init__(num_classes=num_classes, num_features=num_features)
        self.make_centres(trained=True)

    def compute(self, features: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of checked input."""
        centres = self.centres.to(features.dtype)
        intra = cosine_distance(features, centres).gather(1, targets[:, None]).mean()
        return intra + _similarities(centres).mean()


class IslandLoss(CenterLoss):
    r"""Island loss (Cai et al., FG 2018, arXiv 1710.03144): center loss plus the cosines between all pairs of centres.

    $$L = \tfrac12\sum_i\lVert x_i - c_{y_i}\rVert^2 + \lambda_1\sum_k\sum_{l \ne k}(\cos(c_k, c_l) + 1)$$

    Args:
        num_classes, num_features: C and D.
        separation: $\lambda_1$, at least 0. It counts every pair twice, and balances against the reduction.
        reduction: of the center loss: "mean" over the batch (default), or "sum".

    """

    def __init__(
        self, *, num_classes: int, num_features: int, separation: float = 1.0, reduction: str = "mean"
    ) -> None:
        super().__init__(num_classes=num_classes, num_features=num_features, reduction=reduction)
        if separation < 0:
            raise ValueError(f"expected separation at least 0, found {separation}")
        self.separation = separation

    def compute(self, features: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of checked input."""
        return (
            super().compute(features, targets) + self.separation * _similarities(self.centres.to(features.dtype)).sum()
        )
