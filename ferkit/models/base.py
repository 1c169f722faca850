"""What every network of the workbook promises: the contract the notebooks, tests and widgets are written against."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Parts(NamedTuple):
    """What a loss may look at: logits (B, K) of the decision, and vectors (B, num_loss_features),
    most often those that enter the head.
    """

    logits: Tensor
    features: Tensor


class FerModel(nn.Module):
    """A classifier of faces that carries its own preprocessing and vocabulary.

    Subclasses set the attributes below and implement `forward_features` and `forward_head`. They never store tensors
    on `self`: whatever a reader wants to see is the output of a named submodule, read with `ferkit.explain.capture`.

    Attributes:
        input_size: side in pixels of the square picture the network was made for.
        mean, std: per-channel normalisation, for values in [0, 1].
        colour: "rgb", "grey3" (luma copied to three channels) or "grey" (one channel).
        labels: emotion names in logit order.
        num_features: length of the vector that enters the head: what `forward_features` gives and `forward_head` takes.
        default_loss: the loss of `ferkit.losses` it is trained with unless a recipe names another.
        official_cam_layer: dotted name of the module whose output the authors' code explains, if it does.

    """

    input_size: int = 64
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    colour: str = "rgb"
    labels: tuple[str, ...] = ()
    num_features: int
    default_loss: str = "cross_entropy"
    official_cam_layer: str | None = None
    spec: dict  # name, width and options it was built with; set by create_model

    @property
    def num_loss_features(self) -> int:
        """Length of `forward_parts(...).features`, which losses on features look at;
        most networks decide with the same vectors.
        """
        return self.num_features

    def forward_features(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W), normalised, to features (B, num_features)."""
        raise NotImplementedError

    def forward_head(self, features: Tensor) -> Tensor:
        """Features (B, num_features) to logits (B, K)."""
        raise NotImplementedError

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W), normalised, to logits (B, K)."""
        return self.forward_head(self.forward_features(images))

    def forward_parts(self, images: Tensor) -> NamedTuple:
        """Images (B, C, H, W), normalised, to a named tuple with at least `logits` (B, K) and `features` (B,
        num_loss_features).

        A network with several outputs returns more than `Parts`: logits of its branches, gates, local and global maps.
        """
        features = self.forward_features(images)
        return Parts(self.forward_head(features), features)

    def margins(self, side: int) -> tuple[int, int]:
        """Return the pixels that the network itself adds before and after a side of this length;
        maps inside have them too.
        """
        return 0, 0

    def cam_layer(self, input_size: int) -> str:
        """Return the dotted name of the deepest module whose map still has places to tell apart at this input size."""
        raise NotImplementedError


def scaled(channels: int, width: float) -> int:
    """Return a channel count at another width: rounded, never below 1."""
    return max(1, round(channels * width))


@torch.no_grad()
def count_parameters(module: nn.Module) -> int:
    """Return the number of trainable values in a module."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)
