r"""ResEmoteNet (Roy, Kathania, Sharma, Dey, Ansari; IEEE Signal Processing Letters 2024, arXiv 2409.10545).

Released code: github.com/ArnabKumarRoy02/ResEmoteNet@fabbe680, approach/ResEmoteNet.py (MIT). Written here from the
facts of that file; `width=1` computes the same numbers (tests/parity). What we changed: every width can be scaled, and
the outputs of the stages and the gates have names. Table IV's ablations lie in `ferkit.models.resemotenet_ablations`.

Three convolution stages (64, 128, 256 channels), one squeeze-and-excitation gate, three residual blocks that halve the
map and double the channels (512, 1024, 2048), global average pooling and a four-layer head: 80,238,599 parameters,
96 % of them in the residual blocks. The paper names the residual blocks 256, 512, 1024: in the code these are the
widths that *enter* the blocks.
"""

from torch import Tensor, nn

from ferkit import labels as vocabulary
from ferkit.models.attention import SqueezeExcite
from ferkit.models.base import FerModel, scaled
from ferkit.models.layers import ProjectedResidual

HEADS = ("mlp", "linear")

STEM = (64, 128, 256)  # conv1..conv3, Table IV column CNN
RESIDUAL = (512, 1024, 2048)  # outputs of res_block1..3; Table IV names the blocks by their inputs 256, 512, 1024
HIDDEN = (1024, 512, 256)  # released head; the paper says "the Linear layer"


class ResEmoteNet(FerModel):
    r"""The network of Fig. 1b.

    Args:
        num_classes: K.
        width: factor on every channel count; 1 is the released network.
        head: "mlp" (released: three hidden layers with dropout) or "linear" (what the paper's text says).
        reduction: r of the gate, at least 1. In a narrow network r = 16 leaves a hidden unit or two, which die in
            training: width 1/8 with reduction 2 keeps the released 16.
        stem_dropout, head_dropout: probabilities of the element-wise dropouts (0.2 and 0.5 in the code, absent in the
            paper).

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
        reduction: int = 16,
        stem_dropout: float = 0.2,
        head_dropout: float = 0.5,
    ) -> None:
        super().__init__()
        if head not in HEADS:
            raise ValueError(f"resemotenet has no head={head!r}; known: {', '.join(HEADS)}")
        if reduction < 1:
            raise ValueError(f"resemotenet expects reduction >= 1, found {reduction}; channels / reduction is hidden")
        self.labels = vocabulary.order("resemotenet") if num_classes == 7 else ()
        a, b, c = (scaled(n, width) for n in STEM)
        d, e, f = (scaled(n, width) for n in RESIDUAL)

        self.conv1, self.bn1 = nn.Conv2d(3, a, 3, padding=1), nn.BatchNorm2d(a)
        self.stage1 = nn.Identity()  # what leaves the stage, after pooling
        self.conv2, self.bn2 = nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b)
        self.stage2 = nn.Identity()
        self.conv3, self.bn3 = nn.Conv2d(b, c, 3, padding=1), nn.BatchNorm2d(c)
        self.stage3 = nn.Identity()
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(2)
        self.stem_dropout = nn.Dropout(stem_dropout)
        self.se = SqueezeExcite(c, hidden=max(1, c // reduction))

        self.res_block1 = ProjectedResidual(c, d)
        self.res_block2 = ProjectedResidual(d, e)
        self.res_block3 = ProjectedResidual(e, f)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.build_head(f, num_classes, width, head=head, dropout=head_dropout)

    def build_head(self, features: int, num_classes: int, width: float, *, head: str, dropout: float) -> None:
        """Add the classifier: `fc1` to `fc4`, or `fc` alone."""
        self.num_features, self.head = features, head
        self.head_dropout = nn.Dropout(dropout)
        if head == "linear":
            self.fc = nn.Linear(features, num_classes)
            return
        a, b, c = (scaled(n, width) for n in HIDDEN)
        self.fc1 = nn.Linear(features, a)
        self.fc2 = nn.Linear(a, b)
        self.fc3 = nn.Linear(b, c)
        self.fc4 = nn.Linear(c, num_classes)

    def forward_features(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) to features (B, 2048 * width). The shapes in the comments are for 64 px and width 1."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))  # (B, 64, 32, 32)
        x = self.stage1(self.stem_dropout(x))
        x = self.maxpool(self.relu(self.bn2(self.conv2(x))))  # (B, 128, 16, 16)
        x = self.stage2(self.stem_dropout(x))
        x = self.stage3(self.maxpool(self.relu(self.bn3(self.conv3(x)))))  # (B, 256, 8, 8)
        x = self.se(x)
        x = self.res_block1(x)  # (B, 512, 4, 4)
        x = self.res_block2(x)  # (B, 1024, 2, 2)
        x = self.res_block3(x)  # (B, 2048, 1, 1)
        return self.pool(x).flatten(1)  # (B, 2048)

    def forward_head(self, features: Tensor) -> Tensor:
        """Features (B, 2048 * width) to logits (B, K)."""
        if self.head == "linear":
            return self.fc(features)
        x = self.head_dropout(self.relu(self.fc1(features)))  # (B, 1024)
        x = self.head_dropout(self.relu(self.fc2(x)))  # (B, 512)
        x = self.head_dropout(self.relu(self.fc3(x)))  # (B, 256)
        return self.fc4(x)  # (B, K)

    def cam_layer(self, input_size: int) -> str:
        """Return the deepest stage with a grid of at least 6 x 6: the gated map at 48 and 64 px,
        later blocks in larger pictures.

        In pictures too small for that, the first stage.
        """
        side, best = input_size, "stage1"
        for name in ("stage1", "stage2", "se"):
            side //= 2  # pooling rounds down
            best = name if side >= 6 else best
        for name in ("res_block1", "res_block2", "res_block3"):
            side = -(-side // 2)  # strides round up
            best = name if side >= 6 else best
        return best
