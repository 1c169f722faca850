r"""MA-Net: local patches with attention beside a global multi-scale path (Zhao, Liu, Wang; IEEE TIP 2021,
10.1109/TIP.2021.3093397).

Released code: zengqunzhao/MA-Net@923fa6c (MIT); the diversified form (Heidari, Iosifidis 2022,
negarhdr/Diversified-Facial-Expression-Recognition@808a02a) adds losses and no parameters. Written here from the facts
of those files; `width=1` computes the same numbers (tests/parity).

Two stages of ResNet-18 make a shared map. The local path cuts it in four patches, each with its own residual blocks
with CBAM; the global path sees the whole map through blocks that pass groups of channels along in a chain. Each path
has its own classifier; the decision is 0.6 of the local and 0.4 of the global logits. What we changed: the patches are
the quadrants of the actual map. The released code cuts at places 14 and 28, which fits 224 px alone (it fails at 96,
112 and 192 px and ignores the border at 256 px).
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from ferkit import labels as vocabulary
from ferkit.models.attention import CBAM
from ferkit.models.base import FerModel, scaled
from ferkit.models.layers import BasicBlock
from ferkit.models.registry import register

MULTI_SCALES = ("backward", "forward")


class ManetParts(NamedTuple):
    """What an MA-Net computes for B pictures; C = 512 * width, (h, w) is the grid of one patch."""

    logits: Tensor  # (B, K), fusion * local + (1 - fusion) * global
    features: Tensor  # (B, 2 * C), local then global vector
    local_logits: Tensor  # (B, K)
    global_logits: Tensor  # (B, K)
    patch_maps: Tensor  # (4, B, C, h, w): top left, top right, bottom left, bottom right
    branch_vectors: Tensor  # (2, B, C), local and global


class AttentionBlock(BasicBlock):
    """ResNet-18's block with a CBAM before the shortcut is added."""

    def __init__(self, in_channels: int, out_channels: int, *, stride: int = 1) -> None:
        super().__init__(in_channels, out_channels, stride=stride)
        self.cbam = CBAM(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) to (B, C_out, ceil(H / stride), ceil(W / stride)), values >= 0."""
        y = self.bn1(self.conv1(x)).relu()  # (B, C_out, H/s, W/s)
        y = self.cbam(self.bn2(self.conv2(y)))
        shortcut = x if self.downsample is None else self.downsample(x)
        return (y + shortcut).relu()


class _Chain(nn.Module):
    """One path of a multi-scale block: each group of channels is convolved together with what the group before it gave.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1, bias=False) for _ in range(4))
        self.bns = nn.ModuleList(nn.BatchNorm2d(channels) for _ in range(4))

    def forward(self, groups: tuple[Tensor, ...], *, backward: bool) -> Tensor:
        """Four groups (B, C, H, W) to (B, 4 * C, H, W), the groups in their own order whichever way the chain runs."""
        outputs: dict[int, Tensor] = {}
        previous: Tensor | None = None
        for i in (3, 2, 1, 0) if backward else (0, 1, 2, 3):
            x = groups[i] if previous is None else previous.relu() + groups[i]
            previous = outputs[i] = self.bns[i](self.convs[i](x))
        return torch.cat([outputs[i] for i in range(4)], 1)


class MultiScaleBlock(nn.Module):
    """A residual block whose second half is two chains over four groups of channels, added up.

    The first chain runs from group 1 to 4. The second runs from 4 to 1 with `backward` (the paper, and the released
    code since 15 April 2023), else from 1 to 4 as well (the older code, which the author calls the wrong version in
    issue #11, and the diversified release). The names of the weights are the same: files of one load into the other
    without an error.
    """

    def __init__(self, in_channels: int, out_channels: int, *, stride: int, backward: bool) -> None:
        super().__init__()
        self.backward = backward
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.chain_a = _Chain(out_channels // 4)
        self.chain_b = _Chain(out_channels // 4)
        self.downsample: nn.Module | None = None
        if stride != 1 or in_channels != out_channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False), nn.BatchNorm2d(out_channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) to (B, C_out, ceil(H / stride), ceil(W / stride)), values >= 0."""
        groups = self.bn1(self.conv1(x)).relu().chunk(4, 1)  # four times (B, C_out / 4, H/s, W/s)
        y = self.chain_a(groups, backward=False) + self.chain_b(groups, backward=self.backward)
        shortcut = x if self.downsample is None else self.downsample(x)
        return (y + shortcut).relu()


class PatchPath(nn.Sequential):
    """The residual blocks with attention of one patch: `layer3` halves the map, `layer4` keeps it."""

    def __init__(self, channels: tuple[int, int, int]) -> None:
        super().__init__()
        a, b, c = channels
        self.layer3 = nn.Sequential(AttentionBlock(a, b, stride=2), AttentionBlock(b, b))
        self.layer4 = nn.Sequential(AttentionBlock(b, c), AttentionBlock(c, c))


class LocalPath(nn.Module):
    """Four patches, each through its own blocks `patches.0` to `patches.3`."""

    def __init__(self, channels: tuple[int, int, int]) -> None:
        super().__init__()
        self.patches = nn.ModuleList(PatchPath(channels) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        """(B, 128, H, W) to the patches' maps (4, B, 512, h, w), with h = ceil(ceil(H / 2) / 2)."""
        return torch.stack([path(patch) for path, patch in zip(self.patches, quadrants(x), strict=True)])


def quadrants(x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A map (B, C, H, W) cut in four of equal size: top left, top right, bottom left, bottom right.

    Each is ceil(H / 2) x ceil(W / 2). At an even side these are the quadrants; at an odd side the middle row or column
    belongs to both halves.
    """
    h, w = -(-x.shape[-2] // 2), -(-x.shape[-1] // 2)
    top, bottom = x[..., :h, :], x[..., -h:, :]
    return top[..., :w], top[..., -w:], bottom[..., :w], bottom[..., -w:]


def mosaic(patch_maps: Tensor) -> Tensor:
    """Return patch maps (4, B, C, h, w) put back as one map (B, C, 2h, 2w)."""
    top_left, top_right, bottom_left, bottom_right = patch_maps
    return torch.cat([torch.cat([top_left, top_right], 3), torch.cat([bottom_left, bottom_right], 3)], 2)


@register("manet")
class MANet(FerModel):
    r"""The network of the TIP paper; the diversified one of Heidari and Iosifidis is `multi_scale="forward"`.

    Args:
        num_classes: K; 7 for RAF-DB, 7 or 8 for AffectNet, 8 for FER+.
        width: factor on every channel count; 1 is the released network. The channels of the two paths are rounded to
            multiples of four, because the global blocks split them in four groups.
        multi_scale: which way the second chain of the global blocks runs, see `MultiScaleBlock`: "backward" (the paper,
            released code of today) or "forward" (older code, diversified release).
        fusion: $\lambda$, weight of the local logits in the decision (0.6 in paper and code), the global ones get the
            rest.

    Input (B, 3, H, W) in [0, 1], RGB, 224 px; any size works.

    Modules worth reading: `layer1`, `layer2` (the shared map, a grid of 28 at 224 px), `local.patches.0` to `.3`,
    `local_map` (the patches put back together, 14), `global_layer3`, `global_map` (7); gates such as
    `local.patches.2.layer4.1.cbam.spatial_gate`.
    """

    input_size = 224
    mean = (0.0, 0.0, 0.0)
    std = (1.0, 1.0, 1.0)
    colour = "rgb"
    default_loss = "local_global"

    def __init__(
        self, *, num_classes: int = 7, width: float = 1.0, multi_scale: str = "backward", fusion: float = 0.6
    ) -> None:
        super().__init__()
        if multi_scale not in MULTI_SCALES:
            raise ValueError(f"manet has no multi_scale={multi_scale!r}; known: {', '.join(MULTI_SCALES)}")
        if not 0 <= fusion <= 1:
            raise ValueError(f"fusion is the weight of the local logits, 0 to 1; found {fusion}")
        self.labels = {7: vocabulary.order("rafdb"), 8: vocabulary.order("affectnet8")}.get(num_classes, ())
        self.fusion = fusion
        a, b = scaled(64, width), scaled(128, width)
        c, d = 4 * scaled(64, width), 4 * scaled(128, width)
        backward = multi_scale == "backward"
        self.conv1 = nn.Conv2d(3, a, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(a)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = nn.Sequential(BasicBlock(a, a), BasicBlock(a, a))
        self.layer2 = nn.Sequential(BasicBlock(a, b, stride=2), BasicBlock(b, b))
        self.local = LocalPath((b, c, d))
        self.local_map = nn.Identity()
        self.fc_local = nn.Linear(d, num_classes)
        self.global_layer3 = nn.Sequential(
            MultiScaleBlock(b, c, stride=2, backward=backward), MultiScaleBlock(c, c, stride=1, backward=backward)
        )
        self.global_layer4 = nn.Sequential(
            MultiScaleBlock(c, d, stride=2, backward=backward), MultiScaleBlock(d, d, stride=1, backward=backward)
        )
        self.global_map = nn.Identity()
        self.fc_global = nn.Linear(d, num_classes)
        self.num_features = 2 * d
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward_parts(self, images: Tensor) -> ManetParts:
        """Images (B, 3, H, W) in [0, 1] to `ManetParts`. The shapes in the comments are for 224 px and width 1."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))  # (B, 64, 56, 56)
        x = self.layer2(self.layer1(x))  # (B, 128, 28, 28)
        patch_maps = self.local(x)  # (4, B, 512, 7, 7)
        local_vector = self.local_map(mosaic(patch_maps)).mean((2, 3))  # (B, 512), from (B, 512, 14, 14)
        local_logits = self.fc_local(local_vector)  # (B, K)
        global_vector = self.global_map(self.global_layer4(self.global_layer3(x))).mean((2, 3))  # (B, 512), from 7 x 7
        global_logits = self.fc_global(global_vector)  # (B, K)
        return ManetParts(
            self._fuse(local_logits, global_logits),
            torch.cat([local_vector, global_vector], 1),
            local_logits,
            global_logits,
            patch_maps,
            torch.stack([local_vector, global_vector]),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [0, 1] to the fused logits (B, K)."""
        return self.forward_parts(images).logits

    def forward_features(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) to the local and the global vector side by side, (B, 1024 * width)."""
        return self.forward_parts(images).features

    def forward_head(self, features: Tensor) -> Tensor:
        """Features (B, 1024 * width) to the fused logits (B, K)."""
        local_vector, global_vector = features.chunk(2, 1)  # (B, 512) each
        return self._fuse(self.fc_local(local_vector), self.fc_global(global_vector))

    def _fuse(self, local_logits: Tensor, global_logits: Tensor) -> Tensor:
        return self.fusion * local_logits + (1 - self.fusion) * global_logits

    def cam_layer(self, input_size: int) -> str:
        """Return `local_map`, what the larger share of the decision looks at, where it has 6 x 6 places (from 81 px);
        else `layer2`.

        The global path's own map is `global_map`.
        """
        side = input_size
        for _ in range(5):  # stem, pooling, layer2, the cut, layer3 of a patch; each rounds up
            side = -(-side // 2)
        return "local_map" if 2 * side >= 6 else "layer2"
