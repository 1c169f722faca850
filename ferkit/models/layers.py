"""Blocks that more than one paper uses. Each is readable alone and says where it comes from."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class ProjectedResidual(nn.Module):
    r"""A residual block whose shortcut is a strided 1x1 convolution with batch normalisation.

    $F(x) = \mathrm{ReLU}(H(x) + P(x))$ with $H$ = conv3x3(stride) - BN - ReLU - conv3x3 - BN and $P$ = conv1x1(stride)
    - BN. Equation 7 of the ResEmoteNet paper prints $F(x) = H(x) + x$; since the width changes in each block, the
    released code (approach/ResEmoteNet.py@fabbe680) projects. All convolutions have biases although a BatchNorm
    follows.
    """

    def __init__(self, in_channels: int, out_channels: int, *, stride: int = 2) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.shortcut = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 1, stride=stride), nn.BatchNorm2d(out_channels)
        )
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) to (B, C_out, ceil(H / stride), ceil(W / stride))."""
        y = self.relu(self.bn1(self.conv1(x)))  # (B, C_out, H/s, W/s)
        y = self.bn2(self.conv2(y))
        return self.relu(y + self.shortcut(x))


class BasicBlock(nn.Module):
    r"""The two-convolution block of ResNet-18 and -34, with the names of torchvision's weights.

    $F(x) = \mathrm{ReLU}(H(x) + S(x))$ with $H$ = conv3x3(stride) - BN - ReLU - conv3x3 - BN and no biases. $S$ is the
    identity, or `downsample` = conv1x1(stride) - BN where the stride is not 1 or the channels change. It computes what
    torchvision.models.resnet.BasicBlock computes, but no output of a named layer is overwritten in place, so that
    `capture` and gradient hooks see what the layer gave.
    """

    def __init__(self, in_channels: int, out_channels: int, *, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.downsample: nn.Module | None = None
        if stride != 1 or in_channels != out_channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False), nn.BatchNorm2d(out_channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) to (B, C_out, ceil(H / stride), ceil(W / stride)), values >= 0."""
        y = self.bn1(self.conv1(x)).relu()  # (B, C_out, H/s, W/s)
        y = self.bn2(self.conv2(y))
        shortcut = x if self.downsample is None else self.downsample(x)
        return (y + shortcut).relu_()


class ConvBN(nn.Module):
    """A convolution without bias, batch normalisation, and a PReLU with one slope per channel (`activation=True`)
    or nothing.

    The blocks Conv_block (with PReLU), Linear_block and Conv2d_BN (without) of the MobileFaceNet family. `padding` is
    half the kernel unless stated. `ferkit.models.fuse` folds the normalisation into the convolution.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int = 1,
        *,
        stride: int = 1,
        groups: int = 1,
        padding: int | None = None,
        activation: bool = False,
    ) -> None:
        super().__init__()
        padding = kernel // 2 if padding is None else padding
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride, padding, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(out_channels)
        self.act = nn.PReLU(out_channels) if activation else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) to (B, C_out, H', W')."""
        return self.act(self.bn(self.conv(x)))


class MixedDepthwise(nn.Module):
    """MixConv: channels are split into groups, and each group has a depthwise convolution with a kernel of its own.

    Tan and Le, BMVC 2019 (arXiv 1907.09595), as used in DDAMFN's MixedFeatureNet: no bias, and neither normalisation
    nor activation after it (the released code constructs both and never calls them).

    Args:
        splits: (kernel, channels) of each group in order; kernels are odd.
        stride: of every group; padding is half the kernel, so all maps agree in size.

    """

    def __init__(self, splits: Sequence[tuple[int, int]], *, stride: int = 1) -> None:
        super().__init__()
        even = [kernel for kernel, _ in splits if kernel % 2 == 0]
        if even:
            raise ValueError(f"kernels must be odd for the maps of all groups to agree, found {even[0]}")
        self.channels = [channels for _, channels in splits]
        self.convs = nn.ModuleList(
            nn.Conv2d(c, c, kernel, stride, kernel // 2, groups=c, bias=False) for kernel, c in splits
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, ceil(H / stride), ceil(W / stride)), C = sum of the splits."""
        parts = zip(self.convs, x.split(self.channels, dim=1), strict=True)
        return torch.cat([conv(part) for conv, part in parts], dim=1)  # (B, C, H/s, W/s)


class RepVGGDW(nn.Module):
    r"""RepViT's depthwise block: $y = \mathrm{BN}(\mathrm{BN}(\mathrm{DW}_{3\times3}(x)) + \mathrm{DW}_{1\times1}(x)
    + x)$.

    Wang et al., CVPR 2024 (arXiv 2307.09283). The 1x1 convolution has a bias, the 3x3 none; no activation. In
    evaluation all of it is one depthwise 3x3 convolution, which `fused` gives.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv3 = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.bn3 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, channels, 1, groups=channels)
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        return self.bn(self.bn3(self.conv3(x)) + self.conv1(x) + x)
