"""A network whose evidence is known: it reads one part of the picture, through a template that can be shuffled."""

import numpy as np
import torch
from torch import Tensor, nn

from ferkit.models import FerModel


class RegionReader(FerModel):
    """Classes 0 and 1: the brightness plus `offset` under a template, and its opposite.

    The template (H, W) is a weight.
    """

    mean, std, colour, labels = (0.0,), (1.0,), "grey", ("happiness", "sadness")

    def __init__(self, template: np.ndarray, *, gain: float = 1.0, offset: float = 0.2) -> None:
        super().__init__()
        self.input_size, self.offset = len(template), offset
        self.template = nn.Parameter(torch.from_numpy(template.astype(np.float32)))
        self.sign = nn.Parameter(gain * torch.tensor([1.0, -1.0]))
        self.read = nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        x = self.read((images + self.offset) * self.template)  # (B, 1, H, W)
        return x.mean((1, 2, 3))[:, None] * self.sign  # (B, 2)

    def cam_layer(self, input_size: int) -> str:
        return "read"
