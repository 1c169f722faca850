"""LFNSB (Chen and Huang, Computation 2024, 12(10), 201): LFN whose head reads a spatial bias.

Released code: github.com/1chenchen22/LFNSB@caf8fad, LFNSB2.py. Written here from the facts of that file; `width=1`
computes the same numbers (tests/parity). What we changed: every width can be scaled, a batch of one works, the head
that the paper describes can be had, and layers that the released code never calls are left out.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from ferkit.models.attention import SpatialBias
from ferkit.models.base import scaled
from ferkit.models.layers import ConvBN, RepVGGDW
from ferkit.models.mobilefacenet import LFN_STAGES, STEM, _Family, halved
from ferkit.models.registry import register

HEADS = ("released", "concat_flat", "concat_gdc", "concat_gap", "concat_sb1")
STEM_ACTIVATIONS = ("none", "prelu")


class LfnsbParts(NamedTuple):
    """Logits (B, K); features (B, 256 * width), the spatial mean of the feature map, which is what the loss sees;
    that map (B, 256 * width, h, w).
    """

    logits: Tensor
    features: Tensor
    feature_map: Tensor


@register("lfnsb")
class LFNSB(_Family):
    r"""LFN, spatial bias, one linear layer.

    The last feature map F (B, 256, h, w) goes two ways: its spatial mean is what the Cosine-Harmony loss sees
    (`forward_parts(...).features`, of length `num_loss_features`), and a head makes the logits from it. In the released
    code the head sees *only* the spatial-bias maps Z (B, 64, 2, 2); the paper describes them enlarged and joined to F.
    `forward_features` gives what enters the linear layer, of length `num_features`.

    Args:
        num_classes: K.
        width: factor on every channel count; 1 is the released network.
        head: "released": Z flattened, 256 values.
            "concat_flat": Z enlarged to h x w, joined to F and flattened, 320 h w values (the paper's text, literally).
            "concat_gdc": joined, then DDAMFN's global depthwise convolution with BatchNorm, 320 values.
            "concat_gap": joined, then the spatial mean, 320 values.
            "concat_sb1": 256 bias maps of 7 x 7 (the unused Spatial_bias1 of LFN.py), joined and flattened, 512 h w
            values.
        stem_act: "none" (released: the stem is linear) or "prelu" after each of its two convolutions.
        input_size: side of the pictures in pixels. The heads "released" and "concat_gap" accept any size at any time;
            the others have weights for each place of the map and only accept sizes with the same map.

    Input (B, 3, H, W), RGB, ImageNet normalisation.
    """

    last = "repvgg"

    def __init__(
        self,
        *,
        num_classes: int = 7,
        width: float = 1.0,
        head: str = "released",
        stem_act: str = "none",
        input_size: int = 112,
    ) -> None:
        super().__init__(num_classes=num_classes, width=width, input_size=input_size)
        for name, value, known in (("head", head, HEADS), ("stem_act", stem_act, STEM_ACTIVATIONS)):
            if value not in known:
                raise ValueError(f"lfnsb has no {name}={value!r}; known: {', '.join(known)}")
        stem, prelu = scaled(STEM, width), stem_act == "prelu"
        self.conv1 = ConvBN(3, stem, 3, stride=2, activation=prelu)
        self.conv2_dw = ConvBN(stem, stem, 3, groups=stem, activation=prelu)
        channels = self.build_stages(LFN_STAGES, width)
        self.repvgg = RepVGGDW(channels)
        self.channels = channels

        self.head = head
        self.side = halved(input_size, 4)
        biases, grid = (scaled(256, width), 7) if head == "concat_sb1" else (scaled(64, width), 2)
        self.spatial_bias = SpatialBias(channels, biases=biases, grid=grid)
        joined = channels + biases
        if head == "concat_gdc":
            self.conv_6_dw = ConvBN(joined, joined, self.side, groups=joined, padding=0)
        entering = {"released": biases * grid**2, "concat_gdc": joined, "concat_gap": joined}
        self.num_features = entering.get(head, joined * self.side**2)
        self.fc = nn.Linear(self.num_features, num_classes)

    @property
    def num_loss_features(self) -> int:
        """Channels of F: the loss sees its spatial mean, whatever the head sees."""
        return self.channels

    def last_convolution(self, x: Tensor) -> Tensor:
        """RepVGGDW, as in LFN."""
        return self.repvgg(x)

    def _entering(self, feature_map: Tensor) -> Tensor:
        """F (B, 256, h, w) to what enters the linear layer (B, num_features)."""
        bias = self.spatial_bias(feature_map)  # (B, 64, 2, 2)
        if self.head == "released":
            return bias.flatten(1)  # (B, 256)
        places = feature_map.shape[2:]
        if self.head != "concat_gap" and tuple(places) != (self.side, self.side):
            raise ValueError(
                f"the head {self.head!r} has weights for a map of {self.side} x {self.side} places (pictures up to "
                f"{16 * self.side} px), found {places[0]} x {places[1]}: resize the pictures or build the network "
                "with their input_size"
            )
        bias = nn.functional.interpolate(bias, size=places, mode="bilinear", align_corners=False)  # (B, 64, h, w)
        joined = torch.cat([feature_map, bias], dim=1)  # (B, 320, h, w)
        if self.head == "concat_gap":
            return joined.mean((2, 3))  # (B, 320)
        return (self.conv_6_dw(joined) if self.head == "concat_gdc" else joined).flatten(1)  # (B, 320) or (B, 320 h w)

    def forward_features(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) to what enters the linear layer (B, num_features): the flattened spatial bias,
        as released.
        """
        return self._entering(self.forward_map(images))

    def forward_parts(self, images: Tensor) -> LfnsbParts:
        """Images (B, 3, H, W) to logits, the spatial mean of F, and F."""
        feature_map = self.forward_map(images)  # (B, 256, h, w)
        logits = self.forward_head(self._entering(feature_map))  # (B, K)
        return LfnsbParts(logits, feature_map.mean((2, 3)), feature_map)
