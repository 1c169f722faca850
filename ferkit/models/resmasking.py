r"""The Residual Masking Network (Pham, Vu, Tran; ICPR 2020, arXiv 2603.05937).

Released code: github.com/phamquiluan/ResidualMaskingNetwork@9141618, models/{resnet,masking,resmasking}.py (MIT),
network `resmasking_dropout1`. Written here from the facts of those files; `width=1` computes the same numbers
(tests/parity).

A ResNet-34 with a small U-Net, the masking block, after each of its four residual stages. The block reads the output
$F_R$ of the stage and gives a tensor $F_M$ of the same shape; what goes on is $F_N = F_R + F_R \odot F_M$ (equation 1).
137,796,423 parameters, 84.6 % of them in the masking blocks. Table II prints 142.9 million, which is what one gets by
counting the shortcuts of the masking blocks twice (the released code registers each under two names).

Figure 2b draws a 1x1 convolution and a sigmoid at the end of a masking block; the released code has a softmax over the
channels there and no 1x1 convolution. Such a mask sums to 1 over the channels of every place, so its channel mean is
the constant 1/C: it tells channels apart, not places.
"""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ferkit import labels as vocabulary
from ferkit.models.base import FerModel, count_parameters, scaled
from ferkit.models.layers import BasicBlock
from ferkit.models.registry import register
from ferkit.models.resmasking_sizes import DEPTHS, block_sides, grid, legal_size, nearest_legal_sizes, period
from ferkit.models.resmasking_weights import load_imagenet_backbone

__all__ = [
    "DEPTHS", "MASKS", "MaskingBlock", "ResMasking", "block_sides", "count_as_printed", "legal_size",
    "nearest_legal_sizes",
]

MASKS = ("channel_softmax", "sigmoid", "spatial_softmax", "none")
COMBINES = ("residual", "multiply")
SIZE_POLICIES = ("strict", "pad", "resize")

CHANNELS = (64, 128, 256, 512)  # of ResNet-34's layer1..4
HEADS: dict[str, tuple[tuple[int, ...], float]] = {  # hidden layers and dropout
    "dropout1": ((), 0.4),
    "linear": ((), 0.0),
    "dropout2": ((128,), 0.5),
    "dropout3": ((512, 128), 0.5),
    "dropout4": ((128, 128), 0.5),
}


class MaskingBlock(nn.Module):
    r"""A U-Net from a map to weights of the same shape (Fig. 2b draws the one of depth 2).

    With widths $w_i = C\,2^i$: `encode` has $d$ units $w_{i-1} \to w_i$ with 2x2 max pooling between them; for each
    pooling there is an `up` step (transposed convolution 2x2 with bias, BN, ReLU) whose output is joined with the map
    of its size (up first, skip second) and a unit of `decode` that halves the channels; the last unit of `decode` comes
    back to $C$. All units are `BasicBlock`s. The last one ends in a ReLU, so the mask is computed from values $z \ge
    0$.

    Args:
        channels: C, in and out.
        depth: d, 1 to 4. Depth 1 has neither pooling nor skip.
        mask: "channel_softmax" (released: sums to 1 over the channels of each place), "sigmoid" (in [0.5, 1) since z >=
            0; commented out in the released code) or "spatial_softmax" (sums to 1 over the places of each channel).
        resize: bring what comes up to the size of its skip (bilinear), so that odd grids work; at even ones nothing
            changes.

    The weight of `bn2` starts at 0 in all units, as released. The output of the module is F_M; z is the output of its
    last unit, `decode.{d-1}`.

    """

    def __init__(self, channels: int, depth: int, *, mask: str = "channel_softmax", resize: bool = False) -> None:
        super().__init__()
        if mask not in MASKS[:3]:
            raise ValueError(f"a masking block has no mask={mask!r}; known: {', '.join(MASKS[:3])}")
        if depth not in (1, 2, 3, 4):
            raise ValueError(f"a masking block has a depth of 1 to 4, found {depth!r}")
        w = [channels * 2**i for i in range(depth + 1)]
        self.mask, self.resize = mask, resize
        self.pool = nn.MaxPool2d(2)
        self.encode = nn.ModuleList(BasicBlock(w[i], w[i + 1]) for i in range(depth))
        self.up = nn.ModuleList(
            nn.Sequential(nn.ConvTranspose2d(w[i + 1], w[i], 2, stride=2), nn.BatchNorm2d(w[i]), nn.ReLU())
            for i in range(depth - 1, 0, -1)
        )
        self.decode = nn.ModuleList(BasicBlock(w[i + 1], w[i]) for i in range(depth - 1, -1, -1))
        for unit in (*self.encode, *self.decode):
            nn.init.zeros_(unit.bn2.weight)

    def forward(self, x: Tensor) -> Tensor:
        """F_R (B, C, H, W) to F_M of the same shape, values in [0, 1]."""
        maps = [self.encode[0](x)]  # (B, 2C, H, W)
        for unit in self.encode[1:]:
            maps.append(unit(self.pool(maps[-1])))  # (B, 4C, H/2, W/2), (B, 8C, H/4, W/4), ...
        y = maps.pop()
        for up, unit in zip(self.up, self.decode, strict=False):
            skip = maps.pop()
            y = up(y)  # half the channels, twice the side
            if self.resize and y.shape[2:] != skip.shape[2:]:
                y = F.interpolate(y, size=skip.shape[2:], mode="bilinear", align_corners=False)
            y = unit(torch.cat((y, skip), dim=1))
        z = self.decode[-1](y)  # (B, C, H, W)
        if self.mask == "channel_softmax":
            return z.softmax(dim=1)
        return z.sigmoid() if self.mask == "sigmoid" else z.flatten(2).softmax(dim=2).view_as(z)


def _stage(in_channels: int, out_channels: int, blocks: int, *, stride: int) -> nn.Sequential:
    first = BasicBlock(in_channels, out_channels, stride=stride)
    return nn.Sequential(first, *(BasicBlock(out_channels, out_channels) for _ in range(blocks - 1)))


def _masking_block(channels: int, depth: int, *, mask: str, resize: bool) -> MaskingBlock | None:
    return MaskingBlock(channels, depth, mask=mask, resize=resize) if depth else None


@register("resmasking")
class ResMasking(FerModel):
    r"""ResNet-34 with masking blocks after its four stages; the defaults are the released `resmasking_dropout1`.

    Args:
        num_classes: K.
        width: factor on every channel count; 1 is the released network.
        mask: see `MaskingBlock`; "none" builds no masking blocks, which leaves a ResNet-34.
        combine: "residual" for F_R (1 + F_M), equation 1, or "multiply" for F_R F_M (commented out in the released
            code).
        head: "dropout1" (dropout 0.4, one layer), "linear" (one layer: the released `resmasking`), or "dropout2",
            "dropout3", "dropout4" (hidden layers 128; 512 and 128; 128 and 128, each with ReLU and dropout 0.5).
        depths: of the four masking blocks; 0 leaves one out.
        size_policy: what happens to pictures of a side that the U-Nets cannot halve and double (see `legal_size`; 48
            and 112 are such). "strict" refuses them. "pad" puts black margins around the picture, as equal as possible
            on opposite sides, up to the next multiple of 32 (`margins`); masks and maps read inside then have them too.
            "resize" interpolates inside the U-Nets and needs 29 px. On legal sides all three are the released network.

    Input (B, 3, H, W), by default grey copied to three channels, 224 px, values in [0, 1]: the released code does not
    normalise, although it was meant to start from ImageNet weights. Outputs of stage k of 1..4: `layer{k}` is F_R,
    `mask{k}` F_M, `masked{k}` F_N. Initial weights as released before any ImageNet weights are loaded.

    Raises ValueError for unknown options, and in `forward` for a size that the policy does not take.
    """

    input_size = 224
    mean = (0.0, 0.0, 0.0)
    std = (1.0, 1.0, 1.0)
    colour = "grey3"
    # official_cam_layer stays None: the released Grad-CAM script takes gradients at layer2 and activations after mask4.

    def __init__(
        self,
        *,
        num_classes: int = 7,
        width: float = 1.0,
        mask: str = "channel_softmax",
        combine: str = "residual",
        head: str = "dropout1",
        depths: Sequence[int] = DEPTHS,
        size_policy: str = "strict",
    ) -> None:
        super().__init__()
        checks = (
            ("mask", mask, MASKS),
            ("combine", combine, COMBINES),
            ("head", head, tuple(HEADS)),
            ("size_policy", size_policy, SIZE_POLICIES),
        )
        for name, value, known in checks:
            if value not in known:
                raise ValueError(f"resmasking has no {name}={value!r}; known: {', '.join(known)}")
        if len(depths) != 4 or any(d not in range(5) for d in depths):
            raise ValueError(f"resmasking takes four depths of 0 to 4, found {depths!r}")
        self.labels = vocabulary.order("fer2013") if num_classes == 7 else ()
        self.depths = (0, 0, 0, 0) if mask == "none" else tuple(depths)
        self.combine, self.size_policy = combine, size_policy

        a, b, c, d = (scaled(channels, width) for channels in CHANNELS)
        blocks = partial(_masking_block, mask=mask, resize=size_policy == "resize")
        self.conv1 = nn.Conv2d(3, a, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(a)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = _stage(a, a, 3, stride=1)
        self.mask1 = blocks(a, self.depths[0])
        self.masked1 = nn.Identity()
        self.layer2 = _stage(a, b, 4, stride=2)
        self.mask2 = blocks(b, self.depths[1])
        self.masked2 = nn.Identity()
        self.layer3 = _stage(b, c, 6, stride=2)
        self.mask3 = blocks(c, self.depths[2])
        self.masked3 = nn.Identity()
        self.layer4 = _stage(c, d, 3, stride=2)
        self.mask4 = blocks(d, self.depths[3])
        self.masked4 = nn.Identity()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.num_features = d
        self.fc = _head(d, num_classes, width, *HEADS[head])
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward_features(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) to features (B, 512 * width). The shapes in the comments are for 224 px and width 1."""
        x = self._fit_size(images)  # (B, 3, 224, 224)
        x = self.relu(self.bn1(self.conv1(x)))  # (B, 64, 112, 112)
        x = self.maxpool(x)  # (B, 64, 56, 56)
        x = self.masked1(self._weighted(self.layer1(x), self.mask1))  # (B, 64, 56, 56)
        x = self.masked2(self._weighted(self.layer2(x), self.mask2))  # (B, 128, 28, 28)
        x = self.masked3(self._weighted(self.layer3(x), self.mask3))  # (B, 256, 14, 14)
        x = self.masked4(self._weighted(self.layer4(x), self.mask4))  # (B, 512, 7, 7)
        return self.avgpool(x).flatten(1)  # (B, 512)

    def _weighted(self, x: Tensor, mask: nn.Module | None) -> Tensor:
        """F_R (B, C, H, W) to F_N of the same shape: equation 1, or what `combine` says."""
        if mask is None:
            return x
        m = mask(x)  # F_M
        return torch.addcmul(x, x, m) if self.combine == "residual" else x * m

    def forward_head(self, features: Tensor) -> Tensor:
        """Features (B, 512 * width) to logits (B, K)."""
        return self.fc(features)

    def load_imagenet(self) -> list[str]:
        """Start the ResNet-34 from torchvision's ImageNet weights; see `load_imagenet_backbone`."""
        return load_imagenet_backbone(self)

    def _fit_size(self, images: Tensor) -> Tensor:
        sides = images.shape[2:]
        if all(legal_size(n, self.depths) for n in sides):
            return images
        if self.size_policy == "pad":
            return F.pad(images, (*self.margins(sides[1]), *self.margins(sides[0])))
        smallest = min(n for n in range(1, period(self.depths) + 1) if self._poolable(n))
        if self.size_policy == "resize":
            if min(sides) < smallest:
                raise ValueError(
                    f"resmasking pools away pictures below {smallest} px, found {_by(sides)}; enlarge them or "
                    "use size_policy='pad'"
                )
            return images
        wanted = " and ".join(
            dict.fromkeys(
                " or ".join(map(str, nearest_legal_sizes(n, self.depths)))
                for n in sides
                if not legal_size(n, self.depths)
            )
        )
        raise ValueError(
            f"resmasking cannot take pictures of {_by(sides)} px: its masking blocks halve and double again, which must"
            f" come out even; nearest legal sides: {wanted}. Resize the pictures, or use size_policy='pad' or 'resize'"
        )

    def _poolable(self, side: int) -> bool:
        return all(grid(side, k) >= 2 ** (d - 1) for k, d in enumerate(self.depths, 1) if d)

    def margins(self, side: int) -> tuple[int, int]:
        """Return the pixels that size_policy="pad" adds before and after a side of this length: 8 and 8 at 48."""
        if self.size_policy != "pad" or legal_size(side, self.depths):
            return 0, 0
        missing = -side % period(self.depths)
        return missing // 2, missing - missing // 2

    def cam_layer(self, input_size: int) -> str:
        """Return the deepest masked stage with a grid of at least 6 x 6 (`masked4` at 224 px, `masked2` at 64),
        else `masked1`.
        """
        input_size += sum(self.margins(input_size))
        return f"masked{max((k for k in (1, 2, 3, 4) if grid(input_size, k) >= 6), default=1)}"


def _by(sides: Sequence[int]) -> str:
    return " x ".join(map(str, sides))


def _head(features: int, num_classes: int, width: float, hidden: Sequence[int], dropout: float) -> nn.Module:
    """Layers in the order, and hence under the numbers, of the released state dicts."""
    if not hidden:
        last = nn.Linear(features, num_classes)
        return nn.Sequential(nn.Dropout(dropout), last) if dropout else last
    sizes = [features, *(scaled(h, width) for h in hidden)]
    layers: list[nn.Module] = []
    for a, b in zip(sizes[:-1], sizes[1:], strict=True):
        layers += [nn.Linear(a, b), nn.ReLU(), nn.Dropout(dropout)]
    return nn.Sequential(*layers, nn.Linear(sizes[-1], num_classes))


def count_as_printed(model: ResMasking) -> int:
    """Return the parameters with the shortcuts of the masking blocks counted twice: 142,943,431 at width 1,
    the 142.9 M of Table II.
    """
    masks = [m for m in model.modules() if isinstance(m, MaskingBlock)]
    shortcuts = [unit.downsample for mask in masks for unit in (*mask.encode, *mask.decode)]
    return count_parameters(model) + sum(count_parameters(s) for s in shortcuts if isinstance(s, nn.Module))
