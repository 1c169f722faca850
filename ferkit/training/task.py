"""A network and what it is trained to minimise, as one module."""

from typing import cast

import numpy as np
from torch import Tensor, nn

from ferkit.losses import Criterion, Flooding, make_criterion
from ferkit.models import FerModel
from ferkit.training.optim import class_weights
from ferkit.training.recipe import Recipe


class Task(nn.Module):
    """A network and what it is trained to minimise, as one module, so that a loss with parameters is trained along.

    Args:
        model: the network.
        criterion: a `ferkit.losses.Criterion`, which sees all parts of the network's output; or any module that maps
            logits (B, K) and targets (B,) or (B, K) to a mean loss, or to a dict of mean losses by name.

    """

    def __init__(self, model: FerModel, criterion: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.criterion = criterion

    def forward(self, images: Tensor, targets: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Prepared images (B, C, S, S) and targets to losses by name, whose sum is minimised, and logits (B, K)."""
        if isinstance(self.criterion, Criterion):
            parts = self.model.forward_parts(images)
            return self.criterion(parts, targets), cast(Tensor, parts.logits)  # type: ignore[attr-defined]
        logits = self.model(images)  # (B, K)
        losses = self.criterion(logits, targets)
        return (losses if isinstance(losses, dict) else {"loss": losses}), logits


def make_task(model: FerModel, recipe: Recipe, counts: dict[str, int]) -> Task:
    """The recipe's loss on a network; `counts` are the training images per class.

    Raises:
        ValueError: an unknown loss, or options it does not have.

    """
    criterion = make_criterion(
        recipe.loss or model.default_loss,
        model,
        num_classes=len(counts),
        class_weight=class_weights(np.array(list(counts.values())), recipe.class_weight),
        label_smoothing=recipe.label_smoothing,
        **recipe.loss_options,
    )
    return Task(model, Flooding(criterion, level=recipe.flood) if recipe.flood else criterion)
