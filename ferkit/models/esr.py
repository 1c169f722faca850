r"""ESR: an ensemble with shared representations (Siqueira, Magg, Wermter; AAAI 2020, arXiv 2001.06338),
and its diversified form.

Released code:
siqueira-hc/Efficient-Facial-Feature-Learning-with-Wide-Ensemble-based-Convolutional-Neural-Networks@5980cbf and, with
CBAM (Heidari, Iosifidis 2022), negarhdr/Diversified-Facial-Expression-Recognition@808a02a. Written here from the facts
of those files; `width=1` computes the same numbers (tests/parity). A base of four convolutions runs once; each branch
of four more sees its map and decides alone; the branches vote.

What we changed: the branches are registered (an `nn.ModuleList`). In the released code they lie in a Python list, so
`eval()`, `parameters()` and `state_dict()` reach the base alone and the branches' BatchNorm never leaves training mode.
"""

import math
from functools import partial
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from ferkit import labels as vocabulary
from ferkit.models.attention import CBAM, Gated
from ferkit.models.base import FerModel, scaled
from ferkit.models.registry import register

DECISIONS = ("plurality", "mean")
ATTENTIONS = (None, "cbam")
FLOOR = 1e-7  # probability of a class without a vote, so that its logit is a number


class EsrParts(NamedTuple):
    """What an ESR computes for B pictures with L branches; (h, w) is the grid of the branches' last map."""

    logits: Tensor  # (B, K), the decision
    features: Tensor  # (B, L * C), the branches' vectors one after the other
    branch_logits: Tensor  # (L, B, K)
    spatial_gates: Tensor | None  # (L, B, h, w) of each branch's last CBAM, in (0, 1)
    channel_gates: Tensor | None  # (L, B, C) of each branch's last CBAM, in (0, 1)
    valence_arousal: Tensor | None  # (L, B, 2)


class BranchParts(NamedTuple):
    """What one branch computes."""

    logits: Tensor  # (B, K)
    vector: Tensor  # (B, C)
    spatial_gate: Tensor | None  # (B, h, w)
    channel_gate: Tensor | None  # (B, C)
    valence_arousal: Tensor | None  # (B, 2)


def _attention(channels: int, attention: str | None) -> nn.Module:
    return CBAM(channels) if attention == "cbam" else nn.Identity()


class SharedBase(nn.Module):
    """Four convolutions without padding, all with BatchNorm and ReLU, pooled after the second and the fourth.

    (B, 3, H, W) to (B, 128 * width, h, w): 20 x 20 places at 96 px. With CBAM the gates are `attention1` to
    `attention4`; the second and the fourth come after the pooling.
    """

    def __init__(self, *, width: float, attention: str | None) -> None:
        super().__init__()
        a, b = scaled(64, width), scaled(128, width)
        self.conv1, self.bn1, self.attention1 = nn.Conv2d(3, a, 5), nn.BatchNorm2d(a), _attention(a, attention)
        self.conv2, self.bn2, self.attention2 = nn.Conv2d(a, b, 3), nn.BatchNorm2d(b), _attention(b, attention)
        self.conv3, self.bn3, self.attention3 = nn.Conv2d(b, b, 3), nn.BatchNorm2d(b), _attention(b, attention)
        self.conv4, self.bn4, self.attention4 = nn.Conv2d(b, b, 3), nn.BatchNorm2d(b), _attention(b, attention)
        self.relu = nn.ReLU()
        self.pool = nn.MaxPool2d(2)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) to (B, 128 * width, h, w). The shapes in the comments are for 96 px and width 1."""
        x = self.attention1(self.relu(self.bn1(self.conv1(images))))  # (B, 64, 92, 92)
        x = self.attention2(self.pool(self.relu(self.bn2(self.conv2(x)))))  # (B, 128, 45, 45)
        x = self.attention3(self.relu(self.bn3(self.conv3(x))))  # (B, 128, 43, 43)
        return self.attention4(self.pool(self.relu(self.bn4(self.conv4(x)))))  # (B, 128, 20, 20)


class Branch(nn.Module):
    """One member of the ensemble: four convolutions, global average pooling, one linear layer.

    `map` is the last map (B, 512 * width, h, w), 6 x 6 places at 96 px. With `valence_arousal` a second linear layer
    maps ReLU(logits) to (valence, arousal).
    """

    def __init__(self, *, num_classes: int, width: float, attention: str | None, valence_arousal: bool) -> None:
        super().__init__()
        a, b, c = scaled(128, width), scaled(256, width), scaled(512, width)
        self.conv1, self.bn1, self.attention1 = nn.Conv2d(a, a, 3), nn.BatchNorm2d(a), _attention(a, attention)
        self.conv2, self.bn2, self.attention2 = nn.Conv2d(a, b, 3), nn.BatchNorm2d(b), _attention(b, attention)
        self.conv3, self.bn3, self.attention3 = nn.Conv2d(b, b, 3), nn.BatchNorm2d(b), _attention(b, attention)
        self.conv4, self.bn4 = nn.Conv2d(b, c, 3, padding=1), nn.BatchNorm2d(c)
        self.attention4: CBAM | None = CBAM(c) if attention == "cbam" else None
        self.map = nn.Identity()
        self.relu = nn.ReLU()
        self.pool = nn.MaxPool2d(2)
        self.fc = nn.Linear(c, num_classes)
        self.fc_dimensional = nn.Linear(num_classes, 2) if valence_arousal else None

    def forward(self, shared: Tensor) -> BranchParts:
        """The base's map (B, 128 * width, h, w) to what the branch says. Shapes in the comments as in the base."""
        x = self.attention1(self.relu(self.bn1(self.conv1(shared))))  # (B, 128, 18, 18)
        x = self.attention2(self.pool(self.relu(self.bn2(self.conv2(x)))))  # (B, 256, 8, 8)
        x = self.attention3(self.relu(self.bn3(self.conv3(x))))  # (B, 256, 6, 6)
        x = self.relu(self.bn4(self.conv4(x)))  # (B, 512, 6, 6)
        spatial = channel = None
        if self.attention4 is not None:
            gated: Gated = self.attention4(x, with_gates=True)
            x, channel, spatial = gated.map, gated.channel_gate.flatten(1), gated.spatial_gate.squeeze(1)
        vector = self.map(x).mean((2, 3))  # (B, 512)
        logits = self.fc(vector)  # (B, K)
        dimensional = None if self.fc_dimensional is None else self.fc_dimensional(self.relu(logits))  # (B, 2)
        return BranchParts(logits, vector, spatial, channel, dimensional)


@register("esr")
class ESR(FerModel):
    r"""Shared base and any number of branches; the released networks are 9 (ESR-9) and 15 (ESR-15).

    Args:
        num_classes: K; 8 in the released AffectNet and FER+ networks, 7 for RAF-DB.
        width: factor on every channel count; 1 is the released network.
        branches: L, 1 or more.
        attention: None (the AAAI 2020 network) or "cbam" (the diversified one: a CBAM after every ReLU or pooling).
        valence_arousal: a linear layer per branch from ReLU(logits) to (valence, arousal), as in the AAAI 2020 network.
        decision: "plurality" (released: one vote per branch, ties to the lowest class index) or "mean" (mean of the
            branches' probabilities).

    Input (B, 3, H, W) in [0, 1], RGB, 96 px; any H, W >= 54 works. Smaller pictures raise ValueError. For grey data
    sets such as FER+ set `model.colour = "grey3"`.

    `forward` gives logits whose softmax is the decision: the shares of the votes, or the mean probability. Votes have
    no gradient; under "plurality" the gradient of a logit is that of the class's mean log-probability over the branches
    (straight-through), so that class activation maps show what makes the branches vote.

    Gates by name: `base.attention1.channel_gate`, `branches.3.attention4.spatial_gate`, and so on.
    """

    input_size = 96
    smallest_size = 54  # pixels: the last but one convolution of a branch then has a single place to write to
    mean = (0.0, 0.0, 0.0)
    std = (1.0, 1.0, 1.0)
    colour = "rgb"
    default_loss = "branch_cross_entropy"

    def __init__(
        self,
        *,
        num_classes: int = 8,
        width: float = 1.0,
        branches: int = 9,
        attention: str | None = None,
        valence_arousal: bool = False,
        decision: str = "plurality",
    ) -> None:
        super().__init__()
        if decision not in DECISIONS:
            raise ValueError(f"esr has no decision={decision!r}; known: {', '.join(DECISIONS)}")
        if attention not in ATTENTIONS:
            raise ValueError(f"esr has no attention={attention!r}; known: None, cbam")
        if isinstance(branches, bool) or not isinstance(branches, int) or branches < 1:
            raise ValueError(f"esr needs a whole number of branches, 1 or more; found branches={branches!r}")
        self.labels = {7: vocabulary.order("rafdb"), 8: vocabulary.order("esr")}.get(num_classes, ())
        self.decision = decision
        self._new_branch = partial(
            Branch, num_classes=num_classes, width=width, attention=attention, valence_arousal=valence_arousal
        )
        self.base = SharedBase(width=width, attention=attention)
        self.branches = nn.ModuleList(self._new_branch() for _ in range(branches))
        self.num_features = branches * scaled(512, width)

    def add_branch(self) -> Branch:
        """Append a branch with fresh weights and return it; an optimiser made before does not know its parameters.

        It lands on the device, in the precision and in the mode of the base. Weights saved afterwards load as a network
        with that many branches.
        """
        like = self.base.conv1.weight
        branch = self._new_branch().to(device=like.device, dtype=like.dtype)
        branch.train(self.training)
        self.branches.append(branch)
        self.num_features = len(self.branches) * branch.fc.in_features
        if hasattr(self, "spec"):
            self.spec["options"] = {**self.spec["options"], "branches": len(self.branches)}
        return branch

    def decide(self, branch_logits: Tensor, n: int | None = None) -> Tensor:
        """Return the ensemble's logits (B, K) from those of its branches (L, B, K); with `n` an early exit:
        the first n decide.

        softmax gives the vote shares ("plurality"; a class without votes gets 1e-7) or the mean of the branches'
        probabilities ("mean"). Equal shares give equal logits, and argmax takes the first: ties go to the lowest index.
        """
        n = len(branch_logits) if n is None else n
        if not 1 <= n <= len(branch_logits):
            raise ValueError(f"an early exit is after 1 to {len(branch_logits)} branches; found n={n}")
        logs = branch_logits[:n].float() if branch_logits.dtype.itemsize < 4 else branch_logits[:n]
        logs = logs.log_softmax(-1)  # (n, B, K)
        if self.decision == "mean":
            return logs.logsumexp(0) - math.log(n)  # (B, K)
        votes = nn.functional.one_hot(logs.argmax(-1), logs.shape[-1]).sum(0)  # (B, K)
        shares = (votes.to(logs.dtype) / n).clamp_min(FLOOR).log()
        soft = logs.mean(0)
        return shares + (soft - soft.detach())  # the value of the shares (x - x is 0 exactly), the gradient of soft

    def forward_parts(self, images: Tensor, *, n: int | None = None) -> EsrParts:
        """Images (B, 3, H, W) in [0, 1] to `EsrParts`. With `n`, an early exit, only the first n branches run.

        Raises ValueError for pictures below 54 px a side, or n outside 1..L.
        """
        if min(images.shape[-2:]) < self.smallest_size:
            height, width = images.shape[-2:]
            raise ValueError(
                f"esr needs pictures of at least {self.smallest_size} x {self.smallest_size} pixels (no convolution "
                f"but the last is padded); found {height} x {width}: resize them, 96 is the network's own size"
            )
        n = len(self.branches) if n is None else n
        if not 1 <= n <= len(self.branches):
            raise ValueError(f"an early exit is after 1 to {len(self.branches)} branches; found n={n}")
        shared = self.base(images)  # (B, 128, 20, 20)
        parts: list[BranchParts] = [branch(shared) for branch in list(self.branches)[:n]]
        branch_logits = torch.stack([p.logits for p in parts])  # (L, B, K)
        return EsrParts(
            self.decide(branch_logits),
            torch.cat([p.vector for p in parts], 1),  # (B, L * 512)
            branch_logits,
            _stack([p.spatial_gate for p in parts]),
            _stack([p.channel_gate for p in parts]),
            _stack([p.valence_arousal for p in parts]),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [0, 1] to the decision's logits (B, K), see `decide`."""
        return self.forward_parts(images).logits

    def forward_features(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) to the branches' vectors one after the other, (B, L * 512 * width)."""
        return self.forward_parts(images).features

    def forward_head(self, features: Tensor) -> Tensor:
        """Features (B, L * 512 * width) to the decision's logits (B, K)."""
        vectors = features.chunk(len(self.branches), 1)  # L times (B, 512)
        branches = cast("list[Branch]", list(self.branches))
        return self.decide(torch.stack([b.fc(v) for b, v in zip(branches, vectors, strict=True)]))

    def cam_layer(self, input_size: int) -> str:
        """Return the shared base: the deepest map that every branch's vote depends on,
        10 x 10 places or more at any size.

        What a single branch sees: "branches.0.map" and so on.
        """
        return "base"


def _stack(tensors: list[Tensor | None]) -> Tensor | None:
    present = [t for t in tensors if t is not None]
    return torch.stack(present) if present else None
