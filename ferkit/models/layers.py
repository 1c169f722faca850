"""Blocks that more than one paper uses. Each is readable alone and says where it comes from."""

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


class ProjectedResidual(nn.Module):
    r"""A residual block whose shortcut is a strided 1x1 convolution with batch normalisation.

    $F(x) = \mathrm{ReLU}(H(x) + P(x))$ with $H$ = conv3x3(stride) - BN - ReLU - conv3x3 - BN and $P$ = conv1x1(stride) - BN.
    Equation 7 of the ResEmoteNet paper prints $F(x) = H(x) + x$; since the width changes in each block, the released
    code (approach/ResEmoteNet.py@fabbe680) projects. All convolutions have biases although a BatchNorm follows.
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
