r"""What a network is trained to minimise, by name: cross entropy, alone or with a term on features, branches or maps.

A criterion sees everything that `FerModel.forward_parts` gives, and returns mean losses by name; their sum is
minimised.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ferkit.losses.diversity import DiversityTerm


class Criterion(nn.Module):
    """Base of the losses a `Task` can hand a network's parts to: `forward(parts, targets) -> dict of scalar losses`."""

    def forward(self, parts: Any, targets: Tensor) -> dict[str, Tensor]:
        """Parts of the network's output and targets (B,) or, for soft targets, (B, K), to mean losses by name."""
        raise NotImplementedError


class CrossEntropy(Criterion):
    """Cross entropy of the decision's logits."""

    def __init__(self, *, class_weight: Tensor | None = None, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.ce = nn.CrossEntropyLoss(weight=class_weight, label_smoothing=label_smoothing)

    def forward(self, parts: Any, targets: Tensor) -> dict[str, Tensor]:
        """Uses `parts.logits` (B, K)."""
        return {"cross_entropy": self.ce(parts.logits, targets)}


class FeatureTerm(CrossEntropy):
    """Cross entropy plus `weight` times a loss on the features, such as a center loss, whose centres are trained along.
    """

    def __init__(self, term: nn.Module, *, name: str, weight: float = 1.0, **cross_entropy: Any) -> None:
        super().__init__(**cross_entropy)
        self.term, self.name, self.weight = term, name, weight

    def forward(self, parts: Any, targets: Tensor) -> dict[str, Tensor]:
        """Uses `parts.logits` (B, K) and `parts.features` (B, D); soft targets count as their largest class there."""
        labels = targets.argmax(1) if targets.ndim > 1 else targets
        return {**super().forward(parts, targets), self.name: self.weight * self.term(parts.features, labels)}


class BranchCrossEntropy(Criterion):
    r"""$\sum_b L_{ce}(f_b(X)) - (D_{ch} + D_{sp})$ over an ensemble's branches:
    equation 4 of the diversity paper (arXiv 2210.09381).

    Args:
        reduction: of the cross entropies, "sum" over branches (paper and released code) or "mean".
        diversity: options of `DiversityTerm`, such as `{"spatial": 1.0, "channel": 1.0}`, for the branches' last
            attention gates; None for no diversity term.
        first: cross entropy of the first so many branches only, while diversity compares all: how the released
            fine-tuning goes on, stage by stage (esr_ferplus.py@808a02a); None for all.
        cross_entropy: `class_weight` and `label_smoothing`.

    """

    def __init__(
        self,
        *,
        reduction: str = "sum",
        diversity: dict[str, Any] | None = None,
        first: int | None = None,
        **cross_entropy: Any,
    ) -> None:
        super().__init__()
        if reduction not in ("sum", "mean"):
            raise ValueError(f"no reduction {reduction!r}; known: sum, mean")
        if first is not None and first < 1:
            raise ValueError(f"expected cross entropy of the first branch at least, found first={first}")
        self.first = first
        self.ce = CrossEntropy(**cross_entropy).ce
        self.reduction = reduction
        self.diversity = None if diversity is None else DiversityTerm(**diversity)

    def forward(self, parts: Any, targets: Tensor) -> dict[str, Tensor]:
        """Uses `parts.branch_logits` (L, B, K), and with diversity `parts.spatial_gates` and `parts.channel_gates`."""
        each = torch.stack([self.ce(logits, targets) for logits in parts.branch_logits[: self.first]])  # (L,)
        losses = {"cross_entropy": each.sum() if self.reduction == "sum" else each.mean()}
        if self.diversity is None:
            return losses
        if parts.spatial_gates is None:
            raise ValueError(
                "diversity compares the branches' attention gates, and this network has none; build it "
                'with attention="cbam"'
            )
        return losses | self.diversity(spatial=parts.spatial_gates, channel=parts.channel_gates)


class LocalGlobal(Criterion):
    r"""$\lambda L_{local} + (1 - \lambda) L_{global} - (D_b + D_{sp} + D_{ch})$ of MA-Net:
    equation 5 of the diversity paper.

    Args:
        local: $\lambda$, 0.6 in paper and code.
        diversity: options of `DiversityTerm` for the four patches' maps, and `branches`, the weight of the term between
            the local and the global vector (default 1); None for no diversity term.
        cross_entropy: `class_weight` and `label_smoothing`.

    """

    def __init__(self, *, local: float = 0.6, diversity: dict[str, Any] | None = None, **cross_entropy: Any) -> None:
        super().__init__()
        self.ce, self.local = CrossEntropy(**cross_entropy).ce, local
        options = dict(diversity or {})
        branches = options.pop("branches", 1.0)
        self.patches = None if diversity is None else DiversityTerm(**options)
        self.branches = None if diversity is None else DiversityTerm(**{**options, "spatial": 0.0, "channel": branches})

    def forward(self, parts: Any, targets: Tensor) -> dict[str, Tensor]:
        """Uses `local_logits`, `global_logits` (B, K), `patch_maps` (4, B, C, h, w) and `branch_vectors` (2, B, C)."""
        near, whole = self.ce(parts.local_logits, targets), self.ce(parts.global_logits, targets)
        losses = {"local": self.local * near, "global": (1 - self.local) * whole}
        if self.patches is None or self.branches is None:
            return losses
        losses |= self.patches(spatial=parts.patch_maps, channel=parts.patch_maps)
        between = self.branches(channel=parts.branch_vectors)
        return losses | {name.replace("channel", "branches"): value for name, value in between.items()}


class Flooding(Criterion):
    r"""$|J - b| + b$: below the flood level $b$ the gradient turns round (Ishida et al., ICML 2020, arXiv 2002.08709).
    """

    def __init__(self, criterion: Criterion, *, level: float) -> None:
        super().__init__()
        self.criterion, self.level = criterion, level

    def forward(self, parts: NamedTuple, targets: Tensor) -> dict[str, Tensor]:
        """The inner criterion's sum, flooded."""
        total = torch.stack(list(self.criterion(parts, targets).values())).sum()
        return {"flooded": (total - self.level).abs() + self.level}
