"""ResEmoteNet with parts left out, as in Table IV of the paper, and what "left out" can mean:
neither paper nor code says.
"""

from torch import Tensor, nn

from ferkit.models.attention import SqueezeExcite
from ferkit.models.base import scaled
from ferkit.models.layers import ProjectedResidual
from ferkit.models.registry import register
from ferkit.models.resemotenet import RESIDUAL, STEM, ResEmoteNet

ABLATIONS = ("C1", "C2", "C3", "C4", "C5", "C6")
WIRINGS = ("drop_and_rewire", "keep_pool", "adapter", "out_names")

# Table IV: which stages a configuration leaves out. Numbers are those in the module names.
REMOVED_CONVS = {"C3": (1,), "C4": (1, 2)}
REMOVED_BLOCKS = {"C5": (1,), "C6": (1, 2)}


@register("resemotenet")
def build_resemotenet(
    *,
    num_classes: int = 7,
    width: float = 1.0,
    head: str = "mlp",
    ablation: str = "C1",
    wiring: str = "drop_and_rewire",
    reduction: int = 16,
    stem_dropout: float = 0.2,
    head_dropout: float = 0.5,
) -> ResEmoteNet:
    """Return the network of the paper, or one of its ablations.

    Args:
        num_classes, width, head, reduction, stem_dropout, head_dropout: as of `ResEmoteNet`.
        ablation: "C1" (full) to "C6", Table IV.
        wiring: how a network with missing stages is joined.
            "drop_and_rewire" (default, the least invention): a stage goes with its pooling, the next one accepts what
            arrives. "keep_pool": the pooling of a missing convolution stage stays, so maps keep their size. "adapter":
            a 1x1 convolution brings the channels to what the next residual block expected. "out_names": blocks named by
            their *outputs* (256, 512, 1024), the literal reading of the paper.

    """
    for name, value, known in (("ablation", ablation, ABLATIONS), ("wiring", wiring, WIRINGS)):
        if value not in known:
            raise ValueError(f"resemotenet has no {name}={value!r}; known: {', '.join(known)}")
    model = ResEmoteNet if ablation == "C1" and wiring != "out_names" else AblatedResEmoteNet
    left_out = {} if model is ResEmoteNet else {"ablation": ablation, "wiring": wiring}
    return model(
        num_classes=num_classes,
        width=width,
        head=head,
        reduction=reduction,
        stem_dropout=stem_dropout,
        head_dropout=head_dropout,
        **left_out,  # type: ignore[arg-type]
    )


class AblatedResEmoteNet(ResEmoteNet):
    """The network without some of its stages; arguments as of `build_resemotenet`. What is left keeps its names."""

    def __init__(
        self,
        *,
        num_classes: int,
        width: float,
        head: str,
        ablation: str,
        wiring: str,
        reduction: int,
        stem_dropout: float,
        head_dropout: float,
    ) -> None:
        super().__init__(
            num_classes=num_classes,
            width=width,
            head=head,
            reduction=reduction,
            stem_dropout=stem_dropout,
            head_dropout=head_dropout,
        )
        self.convs = [i for i in (1, 2, 3) if i not in REMOVED_CONVS.get(ablation, ())]
        self.blocks = [i for i in (1, 2, 3) if i not in REMOVED_BLOCKS.get(ablation, ())]
        self.extra_pools = 3 - len(self.convs) if wiring == "keep_pool" else 0
        for i in {1, 2, 3} - set(self.convs):
            for part in (f"conv{i}", f"bn{i}", f"stage{i}"):
                delattr(self, part)
        for i in {1, 2, 3} - set(self.blocks):
            delattr(self, f"res_block{i}")

        first, channels = self.convs[0], scaled(STEM[-1], width)
        self.set_submodule(f"conv{first}", nn.Conv2d(3, scaled(STEM[first - 1], width), 3, padding=1))
        hidden = max(1, channels // reduction)
        self.se = nn.Identity() if ablation == "C2" else SqueezeExcite(channels, hidden=hidden)  # type: ignore[assignment]
        self.adapter: nn.Module | None = None
        if wiring == "adapter" and self.blocks[0] > 1:
            expected = scaled(RESIDUAL[self.blocks[0] - 2], width)
            self.adapter = nn.Sequential(nn.Conv2d(channels, expected, 1), nn.BatchNorm2d(expected), nn.ReLU())
            channels = expected
        widths = STEM[-1:] + RESIDUAL[:-1] if wiring == "out_names" else RESIDUAL
        for i in self.blocks:
            out = scaled(widths[i - 1], width)
            self.set_submodule(f"res_block{i}", ProjectedResidual(channels, out))
            channels = out
        self.build_head(channels, num_classes, width, head=head, dropout=head_dropout)

    def forward_features(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) to features (B, num_features)."""
        x = images
        for _ in range(self.extra_pools):
            x = self.maxpool(x)
        for i in self.convs:
            conv, bn, stage = (self.get_submodule(f"{part}{i}") for part in ("conv", "bn", "stage"))
            x = self.maxpool(self.relu(bn(conv(x))))
            x = stage(self.stem_dropout(x) if i < 3 else x)
        x = self.se(x)
        if self.adapter is not None:
            x = self.adapter(x)
        for i in self.blocks:
            x = self.get_submodule(f"res_block{i}")(x)
        return self.pool(x).flatten(1)

    def cam_layer(self, input_size: int) -> str:
        """Return the deepest stage with a grid of at least 6 x 6; in pictures too small for that, the first stage."""
        side = input_size // 2**self.extra_pools
        best = f"stage{self.convs[0]}"
        for i in self.convs:
            side //= 2
            if side >= 6:
                best = "se" if i == self.convs[-1] else f"stage{i}"
        for i in self.blocks:
            side = -(-side // 2)
            if side >= 6:
                best = f"res_block{i}"
        return best
