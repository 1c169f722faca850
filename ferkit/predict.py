"""Batched inference on raw pictures, with test-time augmentation."""

import re
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ferkit.data.transforms import as_pictures, prepare
from ferkit.models import FerModel
from ferkit.models.guard import device_of, evaluating, precision_of, refuse_unprepared, unwrapped


class View(NamedTuple):
    """One more view of every picture; all entries are (N,), one value per picture.

    Attributes:
        flip: bool, mirrored or not; mirrored before it is turned.
        angle: degrees, counter-clockwise, about the middle.
        right, down: how far the picture is moved, as parts of its side.

    """

    flip: Tensor
    angle: Tensor
    right: Tensor
    down: Tensor


# (flip, angle, right, down) of each copy; the first is the picture itself.
SHIFT, ANGLE = 1 / 24, 10.0  # two pixels of 48
FIXED = {
    "none": [(False, 0.0, 0.0, 0.0)],
    "flip": [(flip, 0.0, 0.0, 0.0) for flip in (False, True)],
    "flip_shift": [
        (flip, 0.0, *move)
        for flip, move in product((False, True), ((0, 0), (-SHIFT, 0), (SHIFT, 0), (0, -SHIFT), (0, SHIFT)))
    ],
    "flip_rotate": [(flip, angle, 0.0, 0.0) for flip, angle in product((False, True), (0.0, -ANGLE, ANGLE))],
}
RANDOM = "resmasking_random_"


def tta_views(tta: str | None, n: int, *, seed: int = 0) -> list[View]:
    """Return the views of n pictures that a test-time augmentation takes; see `predict_probabilities` for the names.

    Raises:
        ValueError: an unknown name, listing the known ones.

    """
    name = tta or "none"
    if name in FIXED:
        return [
            View(
                *(
                    torch.full((n,), value, dtype=torch.bool if i == 0 else torch.float32)
                    for i, value in enumerate(copy)
                )
            )
            for copy in FIXED[name]
        ]
    copies = re.fullmatch(RANDOM + r"([1-9]\d?)", name)
    if copies is None:
        raise ValueError(
            f"no test-time augmentation {tta!r}; known: {', '.join(FIXED)}, {RANDOM}K with K copies from 1 to "
            f"99, such as {RANDOM}8"
        )
    # One row of draws per picture, so that a picture's copies do not depend on how many pictures come after it.
    draws = torch.from_numpy(np.random.default_rng(seed).random((n, int(copies[1]), 2), dtype=np.float32))  # (N, K, 2)
    still = torch.zeros(n)
    return [View(coin < 0.5, 60 * turn - 30, still, still) for coin, turn in draws.permute(1, 2, 0)]


def prepare_for(model: nn.Module, images: np.ndarray | Tensor) -> Tensor:
    """Return raw uint8 pictures as the network wants them: (N, C, S, S) float32 on the CPU."""
    say: Any = model
    return prepare(images, size=say.input_size, mean=say.mean, std=say.std, colour=say.colour)


def seen_through(x: Tensor, view: View, *, black: Tensor | None = None) -> Tensor:
    """Return prepared square pictures (B, C, S, S) through a view of B pictures: mirrored, turned, moved, bilinear.

    What comes in from outside is `black` (C,), the value of a black pixel in each channel, or, without it, the nearest
    edge of the picture. A view that neither turns nor moves gives the pixels as they are.
    """
    flip, angle, right, down = (entry.to(x.device) for entry in view)
    x = torch.where(flip[:, None, None, None], x.flip(-1), x)
    if not (angle.any() or right.any() or down.any()):
        return x
    radians = torch.deg2rad(angle)
    cos, sin = radians.cos(), radians.sin()
    # The grid says where each place of the result comes from: the inverse of the motion. The picture reaches from -1 to
    # 1.
    dx, dy = 2 * right, 2 * down
    rows = [torch.stack([cos, -sin, sin * dy - cos * dx], 1), torch.stack([sin, cos, -sin * dx - cos * dy], 1)]
    grid = F.affine_grid(torch.stack(rows, 1), list(x.shape), align_corners=False)  # (B, S, S, 2)
    if black is None:
        return F.grid_sample(x, grid, padding_mode="border", align_corners=False)
    level = black.to(x)[:, None, None]
    return F.grid_sample(x - level, grid, padding_mode="zeros", align_corners=False) + level


def graded(model: FerModel) -> FerModel:
    """Return the network; one that decides by votes (ESR) is switched to the mean of its branches' probabilities,
    which have degrees.
    """
    if getattr(model, "decision", None) == "plurality":
        model.decision = "mean"  # type: ignore[assignment]
    return model


def predict_logits(model: nn.Module, images: Any, *, batch_size: int = 64) -> Tensor:
    """Return logits (N, K), float32 on the CPU. Arguments and errors are those of `predict_probabilities`."""
    pictures = _some(images)
    return torch.cat(_logits(model, pictures, tta_views(None, len(pictures)), batch_size), 1)[0].float()


def _some(images: Any) -> np.ndarray | Tensor:
    pictures = as_pictures(images)
    if len(pictures) == 0:
        raise ValueError("no pictures to predict: the array is empty")
    return pictures


def _logits(
    model: nn.Module, pictures: np.ndarray | Tensor, views: list[View], batch_size: int, black: Tensor | None = None
) -> list[Tensor]:
    """Logits of all pictures, batch by batch, under each of V views: (V, B, K) on the CPU."""
    net = unwrapped(model)  # a wrapper does not pass on what the network says of itself
    refuse_unprepared(net)
    batches = []
    with evaluating(model), torch.no_grad():
        for i in range(0, len(pictures), batch_size):
            part = slice(i, i + batch_size)
            x = prepare_for(net, pictures[part]).to(device_of(net))  # (B, C, S, S)
            copies = (seen_through(x, View(*(entry[part] for entry in view)), black=black) for view in views)
            batches.append(
                torch.stack([_checked(model(copy.to(precision_of(net))), len(x), net) for copy in copies]).cpu()
            )
    return batches


def _checked(logits: Any, n: int, model: nn.Module) -> Tensor:
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != n:
        found = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ValueError(f"expected {type(model).__name__} to give logits (B, K) for {n} pictures, found {found}")
    return logits


def predict_probabilities(
    model: nn.Module, images: Any, *, batch_size: int = 64, tta: str | None = None, seed: int = 0
) -> np.ndarray:
    """Return probabilities of the emotions, in the order of `model.labels`.

    With test-time augmentation they are the mean over several copies of each picture, at the network's own size:

    - "flip": the picture and its mirror image.
    - "flip_shift": these two, and each moved by 1/24 of its side (two pixels of 48) to the left, right, top and bottom:
      10 copies.
    - "flip_rotate": these two, and each turned by 10 degrees to either side: 6 copies. What such a motion lets in from
      outside is the edge of the picture, carried on.
    - "resmasking_random_K": K random copies, and not the picture itself: mirrored with a chance of one half, turned by
      -30 to 30 degrees, black outside. What the Residual Masking Network's released code does in its tests, K being 10
      at the end of a training (main_fer2013.py) and 8 in the files the ensemble is made of (script/gen_results.py, both
      @9141618); the paper does not mention it. The result depends on `seed`, which belongs to the result as the name
      does.

    Args:
        model: any network of `create_model`; it brings its own preprocessing. Any other module that gives logits (B, K)
            will do once it has the attributes input_size, mean, std and colour (see `FerModel`). It may be wrapped by
            DataParallel or torch.compile, and computes in its own precision. Every submodule is left in the mode it was
            in.
        images: uint8 pictures (N, H, W), (N, 1, H, W) or (N, 3, H, W), of any size, not normalised, or whatever else
            `ferkit.data.transforms.as_batch` takes: one picture, a PIL image, a path, a list.
        batch_size: pictures at a time.
        tta: None for the picture alone, or one of the names above.
        seed: of the random copies; those of the i-th picture depend on (seed, i) alone.

    Returns:
        (N, K) float32, rows sum to 1.

    Raises:
        ValueError: what is no picture, an empty array, an unknown `tta`, or a module that lacks something.

    """
    pictures = _some(images)
    views = tta_views(tta, len(pictures), seed=seed)
    black = None
    if tta is not None and tta.startswith(RANDOM):
        refuse_unprepared(net := unwrapped(model))
        black = torch.tensor([-m / s for m, s in zip(net.mean, net.std, strict=True)])  # type: ignore[arg-type]
    batches = _logits(model, pictures, views, batch_size, black)
    return torch.cat([logits.double().softmax(2).mean(0) for logits in batches]).float().numpy()  # (N, K)
