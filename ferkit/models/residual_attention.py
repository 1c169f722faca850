r"""Residual Attention Network of 56 layers (Wang et al., CVPR 2017, arXiv 1704.06904),
as the Residual Masking paper used it.

Its released code takes `resattnet56` of pytorchcv with random weights (ResidualMaskingNetwork@9141618, models/);
neither torchvision nor timm has the network. Written here from the facts of that structure: 31,810,728 parameters with
a 1000-way head, 29,776,071 with a 7-way one. Table II of the Residual Masking paper prints 29.0 million. The adaptive
pooling and the upsampling to the size of the partner free it from 224 px; there both compute what fixed 7x7 pooling and
doubling do.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from ferkit.models.base import scaled
from ferkit.models.chain import Chain
from ferkit.models.registry import register


class PreActivationBottleneck(nn.Module):
    """BN - ReLU - 1x1 to a quarter, BN - ReLU - 3x3 (stride), BN - ReLU - 1x1, added to the shortcut; no biases.

    The shortcut is the input, or a 1x1 convolution of the first activation where the stride is not 1 or the channels
    change.
    """

    def __init__(self, in_channels: int, out_channels: int, *, stride: int = 1) -> None:
        super().__init__()
        hidden = max(1, out_channels // 4)
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, hidden, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(hidden)
        self.conv2 = nn.Conv2d(hidden, hidden, 3, stride=stride, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(hidden)
        self.conv3 = nn.Conv2d(hidden, out_channels, 1, bias=False)
        self.shortcut: nn.Module | None = None
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) to (B, C_out, ceil(H / stride), ceil(W / stride))."""
        first = self.bn1(x).relu()
        shortcut = x if self.shortcut is None else self.shortcut(first)  # (B, C_out, H/s, W/s)
        y = self.conv1(first)  # (B, C_out / 4, H, W)
        y = self.conv2(self.bn2(y).relu())  # (B, C_out / 4, H/s, W/s)
        return self.conv3(self.bn3(y).relu()) + shortcut  # (B, C_out, H/s, W/s)


class AttentionModule(nn.Module):
    r"""Trunk and mask of the Residual Attention Network: $R((1 + M(x)) \odot T(x))$, with p = 1, t = 2, r = 1.

    The trunk T is two residual units. The mask goes down `depth` times (3x3 max pooling of stride 2, unit) and up again
    (unit, bilinear upsampling), with a unit on each skip; what comes up is added to the trunk, and two 1x1 convolutions
    and a sigmoid make $M \in (0, 1)$ of it, one value per channel and place. R is a residual unit. The output of `gate`
    is M.

    Args:
        channels: C, in and out.
        depth: 1 to 3, how often the mask goes down.

    """

    def __init__(self, channels: int, depth: int) -> None:
        super().__init__()

        def unit() -> PreActivationBottleneck:
            return PreActivationBottleneck(channels, channels)

        self.enter = unit()
        self.trunk = nn.Sequential(unit(), unit())
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        self.down = nn.ModuleList(unit() for _ in range(depth))
        self.skip = nn.ModuleList(unit() for _ in range(depth - 1))
        self.up = nn.ModuleList(unit() for _ in range(depth))
        self.mask = nn.Sequential(
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 1, bias=False),
            nn.Sigmoid(),
        )
        self.gate = nn.Identity()
        self.leave = unit()

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        x = self.enter(x)
        trunk = self.trunk(x)
        maps = [x]
        for unit in self.down:
            maps.append(unit(self.pool(maps[-1])))  # (B, C, H/2, W/2), (B, C, H/4, W/4), ...
        y = maps.pop()
        for i, unit in reversed(list(enumerate(self.up))):
            partner = maps.pop()
            y = F.interpolate(unit(y), size=partner.shape[2:], mode="bilinear", align_corners=True)  # twice the side
            if i > 0:
                # the unit has its own shortcut: twice the partner plus its body
                y = y + partner + self.skip[i - 1](partner)
        gate = self.gate(self.mask(y + trunk))  # (B, C, H, W)
        return self.leave((1 + gate) * trunk)


@register("resattnet56")
class ResAttNet56(Chain):
    """Four residual stages, attention modules of depth 3, 2 and 1 after the first three:
    29,776,071 parameters at width 1.

    There are no ImageNet weights: the paper's run, too, started at random.
    """

    cam_stages = (("attention1", 4), ("attention2", 8), ("attention3", 16), ("relu2", 32))

    def __init__(self, *, num_classes: int = 7, width: float = 1.0) -> None:
        c0, c1, c2, c3, c4 = (scaled(c, width) for c in (64, 256, 512, 1024, 2048))
        unit = PreActivationBottleneck
        stages: dict[str, nn.Module] = {
            "conv1": nn.Conv2d(3, c0, 7, stride=2, padding=3, bias=False),
            "bn1": nn.BatchNorm2d(c0),
            "relu1": nn.ReLU(),
            "maxpool": nn.MaxPool2d(3, stride=2, padding=1),
            "unit1": unit(c0, c1),
            "attention1": AttentionModule(c1, 3),
            "unit2": unit(c1, c2, stride=2),
            "attention2": AttentionModule(c2, 2),
            "unit3": unit(c2, c3, stride=2),
            "attention3": AttentionModule(c3, 1),
            "units4": nn.Sequential(unit(c3, c4, stride=2), unit(c4, c4), unit(c4, c4)),
            "bn2": nn.BatchNorm2d(c4),
            "relu2": nn.ReLU(),
            "avgpool": nn.AdaptiveAvgPool2d(1),
        }
        super().__init__(stages, num_features=c4, num_classes=num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight)  # pytorchcv's
