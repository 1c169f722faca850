"""Batched inference on raw pictures, with deterministic test-time augmentation."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ferkit.data.transforms import as_batch, prepare
from ferkit.models import FerModel

# Each view maps prepared input (B, C, S, S) to the same shape; probabilities are averaged over the views.
VIEWS: dict[str, tuple[Callable[[Tensor], Tensor], ...]] = {
    "none": (lambda x: x,),
    "flip": (lambda x: x, lambda x: x.flip(-1)),
}


def prepare_for(model: FerModel, images: np.ndarray | Tensor) -> Tensor:
    """Raw uint8 pictures as the network wants them: (N, C, S, S) float32 on the CPU."""
    return prepare(images, size=model.input_size, mean=model.mean, std=model.std, colour=model.colour)


@torch.no_grad()
def predict_logits(
    model: FerModel, images: np.ndarray | Tensor, *, batch_size: int = 64, view: Callable[[Tensor], Tensor] = lambda x: x
) -> Tensor:
    """Logits (N, K), float32 on the CPU; the network is used in evaluation mode and left in the mode it was in."""
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    try:
        return torch.cat(
            [
                model(view(prepare_for(model, images[i : i + batch_size])).to(device)).float().cpu()
                for i in range(0, len(images), batch_size)
            ]
        )  # (N, K)
    finally:
        model.train(was_training)


def predict_probabilities(
    model: FerModel, images: np.ndarray | Tensor, *, batch_size: int = 64, tta: str | None = None
) -> np.ndarray:
    """Probabilities of the emotions, in the order of `model.labels`.

    Args:
        model: any network of `create_model`; it brings its own preprocessing.
        images: uint8 pictures (N, H, W), (N, 1, H, W) or (N, 3, H, W), of any size, not normalised.
        batch_size: pictures at a time.
        tta: None, or "flip": the mean of the probabilities of the picture and of its mirror image.

    Returns:
        (N, K) float32, rows sum to 1.

    Raises:
        ValueError: pictures of another shape or type, an empty array, or an unknown `tta`.

    """
    views = VIEWS.get(tta or "none")
    if views is None:
        raise ValueError(f"no test-time augmentation {tta!r}; known: {', '.join(VIEWS)}")
    as_batch(images[:1])  # refuses what is not a picture; the rest is read batch by batch
    if len(images) == 0:
        raise ValueError("no pictures to predict: the array is empty")
    per_view = [predict_logits(model, images, batch_size=batch_size, view=v).double().softmax(1) for v in views]
    return torch.stack(per_view).mean(0).float().numpy()  # (N, K)
