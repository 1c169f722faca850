"""MobileFaceNet, MixedFeatureNet and LFN: the backbones that LFNSB comes from, as classifiers and as face embeddings.

MobileFaceNet (Chen et al., CCBR 2018, arXiv 1804.07573); MFN, the deeper one with mixed kernels and coordinate
attention (Zhang et al., DDAMFN, Electronics 2023); LFN, the lighter one (Chen and Huang, Computation 2024, 12(10),
201). Written here from the facts of github.com/1chenchen22/LFNSB@caf8fad, LFN.py, and its predecessors. `width=1`
computes the same numbers (tests/parity). What we changed: every width can be scaled, the picture may have another size
than 112 px, and layers that the released code constructs and never calls are left out.

The released backbones end in an embedding of unit length, made for recognising faces: `FaceEmbedding`. The papers print
accuracies of classifiers and do not say what their heads were. Here they follow DDAMFN: the embedding layer goes, the
global depthwise convolution stays, and one linear layer follows.
"""

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor, nn

from ferkit import labels as vocabulary
from ferkit.models.attention import CoordinateAttention
from ferkit.models.base import FerModel, scaled
from ferkit.models.layers import ConvBN, MixedDepthwise, RepVGGDW
from ferkit.models.registry import create_model, register


class Stage(NamedTuple):
    """Bottlenecks in a row: name, channels out, (kernel, channels) splits of the expanded map, stride, how many."""

    name: str
    channels: int
    splits: Sequence[tuple[int, int]]
    stride: int = 1
    repeats: int = 1


STEM = 64
MOBILEFACENET = (
    Stage("conv_23", 64, [(3, 128)], stride=2),
    Stage("conv_3", 64, [(3, 128)], repeats=4),
    Stage("conv_34", 128, [(3, 256)], stride=2),
    Stage("conv_4", 128, [(3, 256)], repeats=6),
    Stage("conv_45", 128, [(3, 512)], stride=2),
    Stage("conv_5", 128, [(3, 256)], repeats=2),
)
MFN = (
    Stage("conv_23", 64, [(3, 64), (5, 32), (7, 32)], stride=2),
    Stage("conv_3", 64, [(3, 96), (5, 32)], repeats=9),
    Stage("conv_34", 128, [(3, 128), (5, 64), (7, 64)], stride=2),
    Stage("conv_4", 128, [(3, 192), (5, 64)], repeats=16),
    Stage("conv_45", 256, [(3, 256), (5, 256), (7, 256), (9, 256)], stride=2),
    Stage("conv_5", 256, [(3, 172), (5, 170), (7, 170)], repeats=6),
)
LFN_STAGES = (
    Stage("conv_23", 64, [(3, 64), (5, 32)], stride=2),
    Stage("conv_3", 64, [(3, 96)], repeats=9),
    Stage("conv_34", 128, [(3, 128), (5, 64)], stride=2),
    Stage("conv_4", 128, [(3, 192)], repeats=16),
    Stage("conv_45", 256, [(3, 256), (5, 256), (7, 256)], stride=2),
    Stage("conv_5", 256, [(3, 172), (5, 170)], repeats=6),
)


class Bottleneck(nn.Module):
    """An inverted residual: 1x1 to the expanded width, depthwise, coordinate attention, 1x1 back; plus its input.

    The input is added, without an activation after it, where shapes agree: stride 1 and as many channels out as in.

    Args:
        in_channels, out_channels: C_in, C_out.
        splits: (kernel, channels) of the depthwise convolution; their sum is the expanded width.
        stride: of the depthwise convolution.
        hidden: of the attention. None: MobileFaceNet's bottleneck, without attention and with BN and PReLU after the
            depthwise convolution, which must then have one kernel.

    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        splits: Sequence[tuple[int, int]],
        *,
        stride: int = 1,
        hidden: int | None,
    ) -> None:
        super().__init__()
        expanded = sum(channels for _, channels in splits)
        self.residual = stride == 1 and in_channels == out_channels
        self.expand = ConvBN(in_channels, expanded, activation=True)
        self.depthwise: nn.Module
        self.attention: nn.Module
        if hidden is None:
            ((kernel, _),) = splits
            self.depthwise = ConvBN(expanded, expanded, kernel, stride=stride, groups=expanded, activation=True)
            self.attention = nn.Identity()
        else:
            self.depthwise = MixedDepthwise(splits, stride=stride)
            self.attention = CoordinateAttention(expanded, hidden=hidden)
        self.project = ConvBN(expanded, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) to (B, C_out, ceil(H / stride), ceil(W / stride))."""
        y = self.expand(x)  # (B, E, H, W)
        y = self.attention(self.depthwise(y))  # (B, E, H/s, W/s)
        y = self.project(y)  # (B, C_out, H/s, W/s)
        return x + y if self.residual else y


def make_stage(in_channels: int, stage: Stage, width: float, *, attention: bool = True) -> nn.Sequential:
    """Return the bottlenecks of a stage; its channels, splits and the attention's hidden size are scaled,
    `in_channels` is not.
    """
    splits = [(kernel, scaled(channels, width)) for kernel, channels in stage.splits]
    full = sum(channels for _, channels in stage.splits)
    hidden = scaled(max(8, full // 32), width) if attention else None
    out = scaled(stage.channels, width)
    blocks = []
    for i in range(stage.repeats):
        blocks.append(Bottleneck(out if i else in_channels, out, splits, stride=stage.stride, hidden=hidden))
    return nn.Sequential(*blocks)


def halved(side: int, times: int) -> int:
    """Return the side of a map after so many convolutions of stride 2 with padding: half, rounded up, each time."""
    return -(-side // 2**times)


class _Family(FerModel):
    """What the networks share: stem, six stages, the last convolution, global depthwise convolution, one linear layer.
    """

    input_size = 112
    colour = "rgb"
    last = "conv_6_sep"  # name of the last convolution before the head
    conv1: nn.Module
    conv2_dw: nn.Module
    conv_6_sep: nn.Module
    conv_6_dw: nn.Module
    fc: nn.Module

    def __init__(self, *, num_classes: int, width: float, input_size: int) -> None:
        super().__init__()
        self.labels = {7: vocabulary.order("rafdb"), 8: vocabulary.order("affectnet8")}.get(num_classes, ())
        self.input_size = input_size

    def build_stages(self, stages: Sequence[Stage], width: float, *, attention: bool = True) -> int:
        """Add the six stages; return the channels that come out."""
        entering = [scaled(STEM, width), *(scaled(stage.channels, width) for stage in stages)]
        built = [
            make_stage(channels, stage, width, attention=attention)
            for channels, stage in zip(entering, stages, strict=False)
        ]
        self.conv_23, self.conv_3, self.conv_34, self.conv_4, self.conv_45, self.conv_5 = built
        return entering[-1]

    def build_head(self, channels: int, num_classes: int) -> None:
        """Add the global depthwise convolution, whose kernel is as large as the map, and the classifier."""
        self.side = halved(self.input_size, 4)
        self.conv_6_dw = ConvBN(channels, channels, self.side, groups=channels, padding=0)
        self.num_features = channels
        self.fc = nn.Linear(channels, num_classes)

    def forward_map(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) to the last map (B, C, ceil(H / 16), ceil(W / 16)). Shapes below are LFN's at 112 px."""
        x = self.conv2_dw(self.conv1(images))  # (B, 64, 56, 56)
        x = self.conv_3(self.conv_23(x))  # (B, 64, 28, 28)
        x = self.conv_4(self.conv_34(x))  # (B, 128, 14, 14)
        x = self.conv_5(self.conv_45(x))  # (B, 256, 7, 7)
        return self.last_convolution(x)  # (B, 256, 7, 7)

    def last_convolution(self, x: Tensor) -> Tensor:
        """What follows the stages and keeps the map's size."""
        return self.conv_6_sep(x)

    def forward_features(self, images: Tensor) -> Tensor:
        """Images (B, 3, S, S) of the size the network was built for, to features (B, num_features)."""
        x = self.forward_map(images)
        if (x.shape[2], x.shape[3]) != (self.side, self.side):
            raise ValueError(
                f"the head has weights for a map of {self.side} x {self.side} places (pictures up to "
                f"{16 * self.side} px), found {x.shape[2]} x {x.shape[3]} from {images.shape[2]} x {images.shape[3]} "
                f"px: resize the pictures or build the network with input_size={images.shape[3]}"
            )
        return self.conv_6_dw(x).flatten(1)  # (B, C)

    def forward_head(self, features: Tensor) -> Tensor:
        """Features (B, num_features) to logits (B, K)."""
        return self.fc(features)

    def cam_layer(self, input_size: int) -> str:
        """Return the deepest stage with a grid of at least 6 x 6: the last map at 112 px, conv_4 (8 x 8) at 64 px."""
        for times, name in ((4, self.last), (3, "conv_4"), (2, "conv_3")):
            if halved(input_size, times) >= 6:
                return name
        return "conv2_dw"


@register("mobilefacenet")
class MobileFaceNet(_Family):
    """MobileFaceNet with a classifier.

    Args:
        num_classes: K.
        width: factor on every channel count; 1 is the released network.
        input_size: side of the pictures in pixels; the global depthwise kernel is as large as the last map (7 at 112).

    """

    def __init__(self, *, num_classes: int = 7, width: float = 1.0, input_size: int = 112) -> None:
        super().__init__(num_classes=num_classes, width=width, input_size=input_size)
        stem = scaled(STEM, width)
        self.conv1 = ConvBN(3, stem, 3, stride=2, activation=True)
        self.conv2_dw = ConvBN(stem, stem, 3, groups=stem, activation=True)
        channels = self.build_stages(MOBILEFACENET, width, attention=False)
        self.conv_6_sep = ConvBN(channels, scaled(512, width), activation=True)
        self.build_head(scaled(512, width), num_classes)


@register("mfn")
class MixedFeatureNet(_Family):
    """MFN, the backbone of DDAMFN, with a classifier. Arguments as of `MobileFaceNet`."""

    def __init__(self, *, num_classes: int = 7, width: float = 1.0, input_size: int = 112) -> None:
        super().__init__(num_classes=num_classes, width=width, input_size=input_size)
        stem = scaled(STEM, width)
        self.conv1 = ConvBN(3, stem, 3, stride=2, activation=True)
        self.conv2_dw = ConvBN(stem, stem, 3, groups=stem, activation=True)
        channels = self.build_stages(MFN, width)
        self.conv_6_sep = ConvBN(channels, scaled(512, width), activation=True)
        self.build_head(scaled(512, width), num_classes)


@register("lfn")
class LFN(_Family):
    """LFN: MFN with narrower bottlenecks, a stem without activations and RepVGGDW in place of the last 1x1 convolution.

    Arguments as of `MobileFaceNet`.
    """

    last = "repvgg"

    def __init__(self, *, num_classes: int = 7, width: float = 1.0, input_size: int = 112) -> None:
        super().__init__(num_classes=num_classes, width=width, input_size=input_size)
        stem = scaled(STEM, width)
        self.conv1 = ConvBN(3, stem, 3, stride=2)
        self.conv2_dw = ConvBN(stem, stem, 3, groups=stem)
        channels = self.build_stages(LFN_STAGES, width)
        self.repvgg = RepVGGDW(channels)
        self.build_head(channels, num_classes)

    def last_convolution(self, x: Tensor) -> Tensor:
        """RepVGGDW in place of the 1x1 convolution."""
        return self.repvgg(x)


class FaceEmbedding(nn.Module):
    """The released form of the three backbones: pictures to vectors of unit length, as face recognition trains them.

    Args:
        name: "mobilefacenet", "mfn" or "lfn".
        size: length of the vector; 512 in the released MobileFaceNet, 256 in MFN and LFN.
        width, input_size: as of the network.

    `network` is the classifier without its linear layer; its other weights can be loaded into `create_model(name)`.

    """

    def __init__(self, name: str, size: int = 256, *, width: float = 1.0, input_size: int = 112) -> None:
        super().__init__()
        self.network = create_model(name, width=width, input_size=input_size)
        self.network.fc = nn.Identity()
        self.linear = nn.Linear(self.network.num_features, size, bias=False)
        self.bn = nn.BatchNorm1d(size)

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 3, S, S), normalised, to vectors (B, size) of length 1."""
        return nn.functional.normalize(self.bn(self.linear(self.network(images))))  # (B, size)
