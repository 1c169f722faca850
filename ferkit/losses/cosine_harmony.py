r"""Cosine-Harmony loss of Chen and Huang (Computation 2024, 12(10), 201), as released, with a term of its words,
and as the words ask.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from ferkit.losses.feature import FeatureLoss, cosine_distance

VARIANTS = ("released", "code_sign", "ours")
VARIANCES = ("batch_total", "within_class")


class HarmonyTerms(NamedTuple):
    """All pieces of the loss on one batch of N samples and C classes; the loss is their last line in every variant.

    `loss = intra_weight * d_intra + inter_weight * d_inter`
    """

    distances: Tensor
    """(N, C) adjusted cosine distances to all centres, in [0, 2]."""
    own: Tensor
    """(N, C) bool, true at each sample's own class."""
    d_intra: Tensor
    """Mean distance to the own centre."""
    d_inter: Tensor
    """Mean distance to the other centres, over N(C - 1) pairs: what the text describes."""
    d_inter_released: Tensor
    """What the released code computes under that name, $d_{intra}/(C - 1)$: it sums over the own class again."""
    variance: Tensor
    """V, the variance the intra term is divided by, without `eps`; `ours` does not use it."""
    intra_weight: Tensor
    r"""Released: $\alpha/V + (1 - \alpha)/(C - 1)$; code_sign: $\alpha/V$; ours: 1."""
    inter_weight: Tensor
    r"""Released: 0, no other class enters; code_sign: $+(1 - \alpha)$, which pulls towards them; ours: $-\lambda$."""
    loss: Tensor
    """The number that is minimised."""


def adjusted_cosine_distance(x: Tensor, c: Tensor) -> Tensor:
    r"""Return one minus Pearson's correlation, for all pairs:
    the cosine distance after each vector lost its own mean over features.

    $$d(x, c) = 1 - \frac{(x - \bar x)\cdot(c - \bar c)}{\lVert x - \bar x\rVert\,\lVert c - \bar c\rVert}, \qquad
      \bar x = \tfrac1D\sum_j x_j$$

    So $d(ax + b, c) = d(x, c)$ for $a > 0$: neither length nor offset counts, which is less than the cosine sees, not
    more.

    Args:
        x: (N, D).
        c: (C, D).

    Returns:
        (N, C) in [0, 2]. A vector whose entries are all equal has no correlation: distance 1 from everything, no
        gradient.

    """
    return cosine_distance(_centred(x), _centred(c))  # (N, C)


def _centred(x: Tensor) -> Tensor:
    rest = x - x.mean(1, keepdim=True)
    # What remains of equal entries is rounding, and rounding has no direction.
    rounding = 4 * torch.finfo(x.dtype).eps * x.norm(dim=1, keepdim=True)
    return torch.where(rest.norm(dim=1, keepdim=True) > rounding, rest, torch.zeros_like(rest))


class CosineHarmonyLoss(FeatureLoss):
    r"""Pulls features to the centre of their class and (only in `ours`) away from the others,
    in adjusted cosine distance.

    With $d$ of `adjusted_cosine_distance`, N samples $x_i$ of classes $y_i$, and centres $c_k$,

    $$d_{intra} = \tfrac1N\sum_i d(x_i, c_{y_i}), \qquad d_{inter} = \tfrac1{N(C-1)}\sum_i\sum_{k \ne y_i} d(x_i, c_k)$$

    - `released`: $\alpha\,d_{intra}/V + (1-\alpha)\,d_{intra}/(C-1)$, what losses.py of
      github.com/1chenchen22/LFNSB@caf8fad computes: its inter-class term sums over the mask of the own class again, so
      it is $d_{intra}$ with a weight. V is the unbiased variance over the batch, all classes mixed. Its centres are
      random and never reach an optimiser.
    - `code_sign`: $\alpha\,d_{intra}/V + (1-\alpha)\,d_{inter}$, a hybrid made here: the inter-class term that the text
      describes in words, with the plus sign of the released code, and V as released, so that the two differ in
      $d_{inter}$ alone. It is not the paper's formula: that is missing from every copy we could read, and the words
      around it ask to *maximise* the distance between classes. The plus sign makes training *reduce* it: with trained
      centres all classes collapse into one direction. A counter-example, not for use.
    - `ours` (default): $d_{intra} - \lambda\,d_{inter}$ with trained centres, what the text says the loss is for.
      Flipping the sign in `code_sign` would not do: $\alpha/V$ starves the attraction, and features leave their own
      centre too. Without the division it is bounded, in $[-2\lambda, 2]$, and at best the centres form a simplex. The
      default because it is the only one of the three under which classes move apart.

    Args:
        num_classes: C, at least 2.
        num_features: D, at least 2.
        variant: "released", "code_sign" or "ours".
        alpha: $\alpha$ of `released` and `code_sign`, in [0, 1] (0.1 in the released code, and best by section 3.3.2).
        separation: $\lambda$ of `ours`, at least 0.
        train_centres: None: only `ours` trains them, as the released code does not and the text does not say. Fixed
            ones are a buffer; both are saved with the weights.
        eps: added to V in `released` and `code_sign` (0 in the released code).
        variance: V of `released` and `code_sign`: "batch_total" around the mean of the batch, as in both; or
            "within_class" around the mean of each class, which is what the text calls it. Both unbiased.

    Raises:
        ValueError: options out of range; on a batch without variance, where `released` and `code_sign` divide by zero.

    """

    def __init__(
        self,
        *,
        num_classes: int,
        num_features: int,
        variant: str = "ours",
        alpha: float = 0.1,
        separation: float = 1.0,
        train_centres: bool | None = None,
        eps: float = 0.0,
        variance: str = "batch_total",
    ) -> None:
        super().__init__(num_classes=num_classes, num_features=num_features)
        for option, value, known in (("variant", variant, VARIANTS), ("variance", variance, VARIANCES)):
            if value not in known:
                raise ValueError(f"no {option} {value!r} of the Cosine-Harmony loss; known: {', '.join(known)}")
        if num_features < 2:
            raise ValueError(f"a correlation needs at least 2 features, found {num_features}")
        if not (0 <= alpha <= 1 and separation >= 0 and eps >= 0):
            raise ValueError(
                f"expected alpha in [0, 1], separation and eps at least 0; found {alpha}, {separation} and {eps}"
            )
        self.variant, self.alpha, self.separation, self.eps, self.variance = variant, alpha, separation, eps, variance
        self.make_centres(trained=variant == "ours" if train_centres is None else train_centres)

    def compute(self, features: Tensor, targets: Tensor) -> Tensor:
        """Return the loss alone; `terms` has all pieces."""
        return self._terms(features, targets).loss

    def terms(self, features: Tensor, targets: Tensor) -> HarmonyTerms:
        """Features (N, D) and labels (N,) to all pieces of the loss, for looking at; errors as in `forward`."""
        features, targets = self.checked(features, targets)
        with torch.autocast(features.device.type, enabled=False):
            return self._terms(features, targets)

    def _terms(self, features: Tensor, targets: Tensor) -> HarmonyTerms:
        x = features
        distances = adjusted_cosine_distance(x, self.centres.to(x.dtype))  # (N, C)
        own = torch.arange(self.num_classes, device=x.device) == targets[:, None]  # (N, C)
        n, others = len(x), self.num_classes - 1
        d_intra = (distances * own).sum() / n
        d_inter = (distances * ~own).sum() / (n * others)
        variance = self._variance(x, targets)
        one = torch.ones((), dtype=x.dtype, device=x.device)
        if self.variant == "ours":
            intra_weight, inter_weight = one, -self.separation * one
        else:
            divisor = variance + self.eps
            if divisor <= 0:
                raise ValueError(
                    f"the {self.variance} variance of this batch of {n} is 0, and the {self.variant} loss divides by "
                    "it: use batches of different samples, eps > 0, or variant='ours'"
                )
            released = self.variant == "released"
            intra_weight = self.alpha / divisor + ((1 - self.alpha) / others if released else 0)
            inter_weight = 0 * one if released else (1 - self.alpha) * one
        loss = intra_weight * d_intra + inter_weight * d_inter
        return HarmonyTerms(
            distances, own, d_intra, d_inter, d_intra / others, variance, intra_weight, inter_weight, loss
        )

    def _variance(self, x: Tensor, targets: Tensor) -> Tensor:
        """Sum over features of the unbiased variance over samples; 0 where there are too few samples for one."""
        if self.variance == "batch_total":
            groups, means = 1, x.mean(0)  # (D,)
        else:
            present, group = targets.unique(return_inverse=True)
            groups = len(present)
            member = torch.nn.functional.one_hot(group, groups).to(x.dtype)  # (N, G)
            means = ((member.T @ x) / member.sum(0)[:, None])[group]  # (N, D)
        squares = ((x - means) ** 2).sum()
        # Of identical samples only rounding remains, and dividing by that would be worse than dividing by zero.
        rounding = (4 * torch.finfo(x.dtype).eps) ** 2 * (x**2).sum()
        squares = torch.where(squares > rounding, squares, torch.zeros_like(squares))
        return squares / max(len(x) - groups, 1)

    def extra_repr(self) -> str:
        """Sizes and options, for print(loss)."""
        own = (
            f"separation={self.separation}"
            if self.variant == "ours"
            else f"alpha={self.alpha}, variance={self.variance!r}, eps={self.eps}"
        )
        return f"{super().extra_repr()}, variant={self.variant!r}, {own}, train_centres={self.centres.requires_grad}"
