"""What all losses on features share: checks of their input, the precision they compute in, and cosine distances."""

import torch
from torch import Tensor, nn

TINY = 1e-12  # a vector no longer than this has no direction


def unit_rows(x: Tensor) -> Tensor:
    """Return rows (N, D) at length 1.

    A row without direction becomes zeros and gets no gradient (dividing by 1e-12 would give it 1e12).
    """
    length = x.norm(dim=1, keepdim=True)  # (N, 1)
    return torch.where(length > TINY, x / length.clamp(min=TINY), torch.zeros_like(x))


def cosine_distance(x: Tensor, c: Tensor) -> Tensor:
    r"""Return $1 - \cos(x_i, c_k)$ for all pairs, in [0, 2]; a zero vector is at distance 1 from everything.

    Args:
        x: (N, D).
        c: (C, D).

    Returns:
        (N, C).

    """
    return 1 - unit_rows(x) @ unit_rows(c).T  # (N, C)


class FeatureLoss(nn.Module):
    """Base of the losses that look at features (B, D) and labels (B,) and return one number.

    It checks the input, and computes in float32 even if features arrive in half precision or under autocast (float64
    stays float64); subclasses write `compute`.

    Args:
        num_classes: C, at least 2.
        num_features: D.

    """

    centres: Tensor

    def __init__(self, *, num_classes: int, num_features: int) -> None:
        super().__init__()
        if num_classes < 2 or num_features < 1:
            raise ValueError(
                f"a loss on features needs at least 2 classes and 1 feature; found {num_classes} and {num_features}"
            )
        self.num_classes, self.num_features = num_classes, num_features

    def make_centres(self, *, trained: bool) -> None:
        """Make one vector per class, drawn from N(0, 1): `centres` (C, D), a parameter, or a buffer if they stay fixed.
        """
        centres = torch.randn(self.num_classes, self.num_features)
        if trained:
            self.centres = nn.Parameter(centres)
        else:
            self.register_buffer("centres", centres)

    def forward(self, features: Tensor, targets: Tensor) -> Tensor:
        """Features (B, D) and labels (B,) to a scalar.

        Raises:
            ValueError: features of another shape, no samples, soft targets, or labels that are no class.

        """
        features, targets = self.checked(features, targets)
        with torch.autocast(features.device.type, enabled=False):
            return self.compute(features, targets)

    def compute(self, features: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of checked input, outside autocast;
        centres may still have to be taken to the dtype of the features.
        """
        raise NotImplementedError

    def checked(self, features: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return features in at least float32 and the precision of the centres, and int64 labels."""
        if features.ndim != 2 or features.shape[1] != self.num_features or len(features) == 0:
            raise ValueError(
                f"expected features (B, {self.num_features}) of at least one sample, found {tuple(features.shape)}: "
                "pool a map over its places first"
            )
        if targets.is_floating_point() or targets.dtype == torch.bool or targets.shape != features.shape[:1]:
            raise ValueError(
                f"expected one integer label per sample, shape ({len(features)},), found {targets.dtype} "
                f"{tuple(targets.shape)}: a loss on features has no soft targets; take targets.argmax(1)"
            )
        low, high = targets.aminmax()
        if low < 0 or high >= self.num_classes:
            wrong = low if low < 0 else high
            raise ValueError(
                f"found the label {int(wrong)}, expected 0 to {self.num_classes - 1}: build the loss with the data's "
                "num_classes, or shift labels that begin at 1"
            )
        dtype = torch.promote_types(torch.promote_types(features.dtype, self.centres.dtype), torch.float32)
        return features.to(dtype), targets.long()

    def extra_repr(self) -> str:
        """Sizes, for print(loss)."""
        return f"num_classes={self.num_classes}, num_features={self.num_features}"
