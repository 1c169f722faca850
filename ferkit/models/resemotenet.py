r"""ResEmoteNet (Roy, Kathania, Sharma, Dey, Ansari; IEEE Signal Processing Letters 2024, arXiv 2409.10545).

Released code: github.com/ArnabKumarRoy02/ResEmoteNet@fabbe680, approach/ResEmoteNet.py (MIT). Written here from the
facts of that file; `width=1` computes the same numbers (tests/parity). What we changed: every width can be scaled,
stages can be left out as in Table IV, and the outputs of the stages and the gates have names.

Three convolution stages (64, 128, 256 channels), one squeeze-and-excitation gate, three residual blocks that halve the
map and double the channels (512, 1024, 2048), global average pooling and a four-layer head: 80,238,599 parameters,
96 % of them in the residual blocks. The paper names the residual blocks 256, 512, 1024: in the code these are the
widths that *enter* the blocks.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from ferkit import labels as vocabulary
from ferkit.models.attention import SqueezeExcite
from ferkit.models.base import FerModel, scaled
from ferkit.models.layers import ProjectedResidual
from ferkit.models.registry import register

ABLATIONS = ("C1", "C2", "C3", "C4", "C5", "C6")
WIRINGS = ("drop_and_rewire", "keep_pool", "adapter", "out_names")
HEADS = ("mlp", "linear")

STEM = (64, 128, 256)  # conv1..conv3, Table IV column CNN
RESIDUAL = (512, 1024, 2048)  # outputs of res_block1..3; Table IV names the blocks by their inputs 256, 512, 1024
HIDDEN = (1024, 512, 256)  # released head; the paper says "the Linear layer"

# Table IV: which stages a configuration leaves out. Numbers are those in the module names.
REMOVED_CONVS = {"C3": (1,), "C4": (1, 2)}
REMOVED_BLOCKS = {"C5": (1,), "C6": (1, 2)}


@register("resemotenet")
class ResEmoteNet(FerModel):
    r"""The network of Fig. 1b, with Table IV's ablations as an option.

    Args:
        num_classes: K.
        width: factor on every channel count; 1 is the released network.
        head: "mlp" (released: three hidden layers with dropout) or "linear" (what the paper's text says).
        ablation: "C1" (full) to "C6", Table IV.
        wiring: how a network with missing stages is joined; neither paper nor code says.
            "drop_and_rewire" (default, the least invention): a stage goes with its pooling, the next one accepts what arrives.
            "keep_pool": the pooling of a missing convolution stage stays, so maps keep their size.
            "adapter": a 1x1 convolution brings the channels to what the next residual block expected.
            "out_names": blocks named by their *outputs* (256, 512, 1024), the literal reading of the paper.
        reduction: r of the gate.
        stem_dropout, head_dropout: probabilities of the element-wise dropouts (0.2 and 0.5 in the code, absent in the paper).

    Input (B, 3, H, W) with H, W >= 8, by default grey copied to three channels, 64 px, ImageNet normalisation.
    """

    input_size = 64
    colour = "grey3"
    official_cam_layer = "conv3"  # eval_gcam.py hooks conv3 before its BatchNorm

    def __init__(
        self,
        *,
        num_classes: int = 7,
        width: float = 1.0,
        head: str = "mlp",
        ablation: str = "C1",
        wiring: str = "drop_and_rewire",
        reduction: int = 16,
        stem_dropout: float = 0.2,
        head_dropout: float = 0.5,
    ) -> None:
        super().__init__()
        for name, value, known in (("head", head, HEADS), ("ablation", ablation, ABLATIONS), ("wiring", wiring, WIRINGS)):
            if value not in known:
                raise ValueError(f"resemotenet has no {name}={value!r}; known: {', '.join(known)}")
        self.labels = vocabulary.order("resemotenet") if num_classes == 7 else ()

        convs = [i for i in (1, 2, 3) if i not in REMOVED_CONVS.get(ablation, ())]
        self._convs = convs
        self._keep_pool = 3 - len(convs) if wiring == "keep_pool" else 0
        channels = 3
        for i in convs:
            out = scaled(STEM[i - 1], width)
            setattr(self, f"conv{i}", nn.Conv2d(channels, out, 3, padding=1))
            setattr(self, f"bn{i}", nn.BatchNorm2d(out))
            setattr(self, f"stage{i}", nn.Identity())  # what leaves the stage, after pooling
            channels = out
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(2)
        self.stem_dropout = nn.Dropout(stem_dropout)
        hidden = max(1, scaled(STEM[-1], width) // reduction)
        self.se = nn.Identity() if ablation == "C2" else SqueezeExcite(channels, hidden=hidden)

        blocks = [i for i in (1, 2, 3) if i not in REMOVED_BLOCKS.get(ablation, ())]
        self._blocks = blocks
        widths = STEM[-1:] + RESIDUAL[:-1] if wiring == "out_names" else RESIDUAL
        self.adapter: nn.Module | None = None
        if wiring == "adapter" and blocks[0] > 1:
            expected = scaled(RESIDUAL[blocks[0] - 2], width)
            self.adapter = nn.Sequential(nn.Conv2d(channels, expected, 1), nn.BatchNorm2d(expected), nn.ReLU())
            channels = expected
        for i in blocks:
            out = scaled(widths[i - 1], width)
            setattr(self, f"res_block{i}", ProjectedResidual(channels, out))
            channels = out
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.num_features = channels

        self.head_dropout = nn.Dropout(head_dropout)
        sizes: Sequence[int] = (channels, *(scaled(h, width) for h in HIDDEN)) if head == "mlp" else (channels,)
        self._hidden = [f"fc{i}" for i in range(1, len(sizes))]
        for name, a, b in zip(self._hidden, sizes[:-1], sizes[1:], strict=True):
            setattr(self, name, nn.Linear(a, b))
        self._last = f"fc{len(sizes)}" if head == "mlp" else "fc"
        setattr(self, self._last, nn.Linear(sizes[-1], num_classes))

    def forward_features(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) to features (B, 2048 * width). The shapes in the comments are for 64 px and width 1."""
        x = images  # (B, 3, 64, 64)
        for _ in range(self._keep_pool):
            x = self.maxpool(x)
        for i in self._convs:
            x = self.relu(getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(x)))
            x = self.maxpool(x)  # (B, 64, 32, 32), (B, 128, 16, 16), (B, 256, 8, 8)
            if i < 3:
                x = self.stem_dropout(x)
            x = getattr(self, f"stage{i}")(x)
        x = self.se(x)  # (B, 256, 8, 8)
        if self.adapter is not None:
            x = self.adapter(x)
        for i in self._blocks:
            x = getattr(self, f"res_block{i}")(x)  # (B, 512, 4, 4), (B, 1024, 2, 2), (B, 2048, 1, 1)
        return self.pool(x).flatten(1)  # (B, 2048)

    def forward_head(self, features: Tensor) -> Tensor:
        """Features (B, 2048 * width) to logits (B, K)."""
        x = features
        for name in self._hidden:
            x = self.head_dropout(self.relu(getattr(self, name)(x)))  # (B, 1024), (B, 512), (B, 256)
        return getattr(self, self._last)(x)  # (B, K)

    def cam_layer(self, input_size: int) -> str:
        """The deepest stage with a grid of at least 6 x 6: the gated map at 48 and 64 px, later blocks in larger pictures.

        In pictures too small for that, the first stage.
        """
        side = input_size // 2**self._keep_pool
        best = f"stage{self._convs[0]}"
        for i in self._convs:
            side //= 2
            if side >= 6:
                best = "se" if i == self._convs[-1] else f"stage{i}"
        for i in self._blocks:
            side = -(-side // 2)
            if side >= 6:
                best = f"res_block{i}"
        return best
