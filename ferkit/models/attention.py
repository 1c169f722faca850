"""Blocks that re-weight a map: gates over channels, places, or both. Each says which paper it comes from."""

from typing import NamedTuple

import torch
from torch import Tensor, nn


class SqueezeExcite(nn.Module):
    r"""Squeeze-and-Excitation: one gate in (0, 1) per channel, computed from the channel means.

    Equations 2-6 of the ResEmoteNet paper (arXiv 2409.10545), after Hu et al., CVPR 2018 (arXiv 1709.01507):

    $$z_c = \tfrac{1}{HW}\sum_{i,j} x_c(i, j), \qquad s = \sigma(W_2\,\mathrm{ReLU}(W_1 z)), \qquad y_c = s_c\,x_c$$

    Args:
        channels: C, channels in and out.
        reduction: r, hidden size is C / r (16 in the released code; the paper does not say).

    The gate (B, C, 1, 1) is the output of the submodule `gate`. Neither linear layer has a bias.

    """

    def __init__(self, channels: int, *, reduction: int = 16, hidden: int | None = None) -> None:
        super().__init__()
        hidden = max(1, channels // reduction) if hidden is None else hidden
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Sequential(
            nn.Linear(channels, hidden, bias=False),
            nn.ReLU(),
            nn.Linear(hidden, channels, bias=False),
            nn.Sigmoid(),
        )
        self.gate = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        z = self.pool(x).flatten(1)  # (B, C)
        gate = self.gate(self.fc(z)[:, :, None, None])  # (B, C, 1, 1)
        return x * gate


class ChannelGate(nn.Module):
    r"""CBAM's gate over channels: $\sigma(\mathrm{MLP}(\mathrm{mean}_{ij} x) + \mathrm{MLP}(\max_{ij} x))$,
    one MLP for both.

    (B, C, H, W) to the gate (B, C, 1, 1), values in (0, 1). Both linear layers have biases. The hidden layer has C /
    reduction units, at least 4 (what the narrowest released one has): in a narrow network a single ReLU would often be
    dead.
    """

    def __init__(self, channels: int, *, reduction: int = 16) -> None:
        super().__init__()
        hidden = max(4, channels // reduction)
        self.mlp = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, 1, 1)."""
        # Both maxima keep one place each: the backward pass of amax, which shares among equals, is several times
        # slower.
        mean, largest = x.mean((2, 3)), nn.functional.adaptive_max_pool2d(x, 1).flatten(1)  # (B, C) each
        return torch.sigmoid(self.mlp(mean) + self.mlp(largest))[:, :, None, None]  # (B, C, 1, 1)


class SpatialGate(nn.Module):
    r"""CBAM's gate over places: a 7x7 convolution of the channels' maximum and mean (in this order), BatchNorm,
    sigmoid.

    (B, C, H, W) to the gate (B, 1, H, W), values in (0, 1). The convolution has no bias; BatchNorm's momentum is 0.01.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, 7, padding=3, bias=False)
        self.bn = nn.BatchNorm2d(1, momentum=0.01)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, 1, H, W)."""
        pair = torch.cat([x.max(1, keepdim=True).values, x.mean(1, keepdim=True)], 1)  # (B, 2, H, W)
        return torch.sigmoid(self.bn(self.conv(pair)))  # (B, 1, H, W)


class Gated(NamedTuple):
    """A map (B, C, H, W) after CBAM, and the gates it was multiplied with: (B, C, 1, 1) and (B, 1, H, W)."""

    map: Tensor
    channel_gate: Tensor
    spatial_gate: Tensor


class CBAM(nn.Module):
    """Convolutional block attention (Woo et al., ECCV 2018, arXiv 1807.06521): channels first, then places.

    With the details of the released MA-Net (zengqunzhao/MA-Net@923fa6c) and diversified ESR
    (negarhdr/Diversified-Facial-Expression-Recognition@808a02a), which are the same: reduction 16, biases in the MLP.
    The submodules `channel_gate` and `spatial_gate` return the gates, so that `ferkit.explain.capture` reads them.
    """

    def __init__(self, channels: int, *, reduction: int = 16) -> None:
        super().__init__()
        self.channel_gate = ChannelGate(channels, reduction=reduction)
        self.spatial_gate = SpatialGate()

    def forward(self, x: Tensor, *, with_gates: bool = False) -> Tensor | Gated:
        """(B, C, H, W) to the same shape, or with `with_gates` to that map and both gates."""
        channel = self.channel_gate(x)  # (B, C, 1, 1)
        x = x * channel
        spatial = self.spatial_gate(x)  # (B, 1, H, W)
        x = x * spatial
        return Gated(x, channel, spatial) if with_gates else x


class CoordinateAttention(nn.Module):
    r"""Coordinate attention: one gate per channel and row, one per channel and column.

    Hou et al., CVPR 2021 (arXiv 2103.02907). Means along the width and along the height are joined into one strip of
    H + W places and share a 1x1 convolution to m channels, BatchNorm and h-swish $x\,\mathrm{ReLU6}(x+3)/6$; each part
    then has a 1x1 convolution and a sigmoid of its own: $y = x\,a_h\,a_w$. All three convolutions have biases.

    Args:
        channels: C, channels in and out.
        hidden: m; default max(8, C / 32) as in DDAMFN and LFNSB.

    The gates (B, C, H, 1) and (B, C, 1, W) are the outputs of the submodules `height_gate` and `width_gate`.

    """

    def __init__(self, channels: int, *, hidden: int | None = None) -> None:
        super().__init__()
        hidden = max(8, channels // 32) if hidden is None else hidden
        self.conv1 = nn.Conv2d(channels, hidden, 1)
        self.bn1 = nn.BatchNorm2d(hidden)
        self.act = nn.Hardswish()
        self.conv_height = nn.Conv2d(hidden, channels, 1)
        self.conv_width = nn.Conv2d(hidden, channels, 1)
        self.height_gate = nn.Identity()
        self.width_gate = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        height, width = self.gates(x.mean(3, keepdim=True), x.mean(2, keepdim=True))
        return x * height * width

    def gates(self, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
        """Means over the width (B, C, H, 1) and over the height (B, C, 1, W) to the gates of the same shapes."""
        strip = torch.cat([rows, columns.transpose(2, 3)], dim=2)  # (B, C, H + W, 1)
        strip = self.act(self.bn1(self.conv1(strip)))  # (B, m, H + W, 1)
        rows, columns = strip.split([rows.shape[2], columns.shape[3]], dim=2)
        height = self.height_gate(self.conv_height(rows).sigmoid())  # (B, C, H, 1)
        return height, self.width_gate(self.conv_width(columns.transpose(2, 3)).sigmoid())  # (B, C, 1, W)


class SpatialBias(nn.Module):
    r"""Spatial bias: a coarse, global summary of a map, mixed along its channels.

    Go and Ryu, Expert Systems with Applications (arXiv 2302.12505; github.com/GoJunHyeong/SpatialBias), as in LFNSB2.py
    (github.com/1chenchen22/LFNSB@caf8fad).
    A 1x1 convolution to n + 2 channels, BatchNorm, ReLU and adaptive average pooling to r x r give $P$ (n + 2 channels,
    r² places). A 1-D convolution of three taps then takes the *places as its channels* and runs *along the channels*:
    $Z_{c,q} = \beta_q + \sum_{p}\sum_{t=0}^{2} W_{q,p,t}\,P_{c+t,p}$, c = 0..n-1.

    Args:
        channels: C of the map.
        biases: n, number of maps that come out.
        grid: r, side of the pooled grid.

    Submodules in order: `reduce`, `bn`, `act`, `pool`, `mix`. Unlike the released code it accepts a batch of one.

    """

    def __init__(self, channels: int, *, biases: int = 64, grid: int = 2) -> None:
        super().__init__()
        self.grid = grid
        self.reduce = nn.Conv2d(channels, biases + 2, 1, bias=False)
        self.bn = nn.BatchNorm2d(biases + 2)
        self.act = nn.ReLU()
        self.pool = nn.AdaptiveAvgPool2d(grid)
        self.mix = nn.Conv1d(grid * grid, grid * grid, 3)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, n, r, r)."""
        pooled = self.pool(self.act(self.bn(self.reduce(x))))  # (B, n + 2, r, r)
        mixed = self.mix(pooled.flatten(2).transpose(1, 2))  # (B, r * r, n)
        return mixed.transpose(1, 2).unflatten(2, (self.grid, self.grid))  # (B, n, r, r)


class BAM(nn.Module):
    r"""Bottleneck attention (Park et al., BMVC 2018, arXiv 1807.06514): channels and places side by side,
    then added to the map.

    $y = x \odot (1 + \sigma(M_c(x) \cdot M_s(x)))$: the factor lies in (1, 2), so nothing is erased. The 2018 paper
    adds the two branches, $\sigma(M_c + M_s)$; the network that the Residual Masking paper compares with
    (`bam_resnet50` of pytorchcv 0.0.74, osmr/imgclsmob@10e3ccac) multiplies them, and so do we.

    Args:
        channels: C, channels in and out.
        reduction: both branches work on C / reduction channels, at least 4: in a narrow network a single ReLU would
            often be dead.
        dilation: of the two 3x3 convolutions of the spatial branch.

    The submodules `channel_gate` (B, C, 1, 1) and `spatial_gate` (B, 1, H, W) return the branches before the sigmoid,
    `gate` (B, C, H, W) what the map is multiplied with, less 1. All convolutions and linear layers have biases.

    """

    def __init__(self, channels: int, *, reduction: int = 16, dilation: int = 4) -> None:
        super().__init__()
        hidden = max(4, channels // reduction)
        self.channel_gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(channels, hidden),
            nn.BatchNorm1d(hidden),
            nn.ReLU(),
            nn.Linear(hidden, channels),
            nn.Unflatten(1, (channels, 1, 1)),
        )
        layers: list[nn.Module] = [nn.Conv2d(channels, hidden, 1), nn.BatchNorm2d(hidden), nn.ReLU()]
        for _ in range(2):
            layers += [
                nn.Conv2d(hidden, hidden, 3, padding=dilation, dilation=dilation),
                nn.BatchNorm2d(hidden),
                nn.ReLU(),
            ]
        self.spatial_gate = nn.Sequential(*layers, nn.Conv2d(hidden, 1, 1))
        self.gate = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape. Raises ValueError for a single picture in training mode."""
        # Several processes normalise over all their pictures, so one of them may have a single one.
        alone = not (torch.distributed.is_available() and torch.distributed.is_initialized())
        if self.training and len(x) == 1 and alone:
            raise ValueError(
                "BAM normalises its channel vector over the batch: expected 2 or more pictures in training, found 1"
            )
        gate = self.gate(torch.sigmoid(self.channel_gate(x) * self.spatial_gate(x)))  # (B, C, H, W)
        return x * (1 + gate)
