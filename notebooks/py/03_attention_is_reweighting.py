# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 03 · Attention is re-weighting
#
# *One feature map, five blocks that weight it and one that puts numbers beside it, and four puzzles: which block fails at which puzzle can be said before any training.*
#
# A small network looks at a face and has found two things: where the eyes are, and where the mouth is. {fig:hook} shows its two
# channels, for a smile and for a frown. The best-known attention block, squeeze and excitation [@senet], reads one number per
# channel, the mean. The means of the two faces agree. **So it must give the smile and the frown the same gates, with any weights and after
# any training.** (A later layer that looks at neighbouring places could still tell the two apart. The block can't help it.) Which of the blocks that came after it can do better, and what can those not do?

# %% tags=["parameters"]
PROFILE = "teach"  # smoke (seconds) or teach (minutes on a laptop)
SEED = 0

# %% tags=["hide-input"]
import numpy as np
import pandas as pd
import torch

from ferkit import models, plots
from ferkit.models import attention, layers, resmasking
from ferkit.notebook import check, figure, footer, ledger_table, profile, record, table
from ferkit.synthetic import make_faces
from ferkit.widgets import explore

smoke = dict(steps=4, test=200, seeds=2, faces=64, face_steps=4)
teach = dict(steps=150, test=2000, seeds=3, faces=192, face_steps=200)
S = profile(PROFILE, chapter=3, smoke=smoke, teach=teach)
nn, F = torch.nn, torch.nn.functional


# %% tags=["hide-input"]
def face(mouth, eyes=((2, 2), (2, 5))):
    """A map (1, 2, 8, 8), eyes and mouth: 32 at the places given, 0 elsewhere."""
    x = torch.zeros(1, 2, 8, 8)
    for channel, places in enumerate((eyes, mouth)):
        for row, column in places:
            x[0, channel, row, column] = 32
    return x


def mouth(left, middle, right):
    """Six places in three pairs of columns, each pair in a row of its own."""
    pairs = ((left, 1), (middle, 3), (right, 5))
    return [(row, column) for row, at in pairs for column in (at, at + 1)]


# %% tags=["hide-input"]
def show_maps(panels, *, width=1.33, cmap="Greys", high=32):
    """Maps (8, 8) under their titles, from 0 to `high`; None leaves a gap."""
    lines = max(panel[0].count("\n") for panel in panels if panel)
    shares = [1 if panel else 0.3 for panel in panels]
    with plots.style():
        size = (sum(shares) * width, width + 0.16 + 0.26 * lines)
        picture = plots.Figure(figsize=size, layout="constrained")
        axes = picture.subplots(1, len(panels), width_ratios=shares)
        for ax, panel in zip(axes, panels, strict=True):
            if panel is None:
                ax.axis("off")
                continue
            title, values = panel
            grid = dict(edgecolors="#D8D8D8", linewidth=0.4)
            ax.pcolormesh(values, cmap=cmap, vmin=0, vmax=high, **grid)
            ax.set(xticks=[], yticks=[], aspect="equal", ylim=(8, 0))
            ax.set_title(title, fontsize=9, loc="center")
    return picture


# %% tags=["hide-input"]
smile, frown = face(mouth(5, 6, 5)), face(mouth(6, 5, 6))
panels = []
for name, x in (("smile", smile), ("frown", frown)):
    eyes, lips = x[0]
    panels += [(name, eyes + lips)]
    panels += [(f"eyes, mean {eyes.mean():g}", eyes)]
    panels += [(f"mouth, mean {lips.mean():g}", lips)]
figure(
    show_maps(panels),
    "hook",
    "Two faces as a network sees them. The mouth turns over, and no mean changes.",
    "A smile and a frown of 8 by 8 places; eyes have the mean 1 and mouths the mean 3.",
)

# %% [markdown]
# Where a detector fires, it says 32, and elsewhere 0: with 64 places this makes the means easy numbers. Two places of the eyes give
# 2 · 32 / 64 = 1, six places of the mouth give 3. We stay with these faces for most of the chapter. You need convolutions, channels and a
# training loop ([notebook 02](02_training_loop_by_hand.ipynb)).
#
# ## 1 · One formula
#
# A map $x$ has $C$ channels of $H \times W$ places. An attention block computes a **factor** $g$ from $x$, and multiplies:
#
# $$y_{c,i,j} = g_{c,i,j}\;x_{c,i,j} \qquad g = g(x)$$
#
# Factors between 0 and 1 are called {term:gate|gates}. Most blocks compute few numbers and repeat them until they fill the map. *Places that
# share one number get the same weight.* So ask of any block first: in what shape does its factor come?

# %% tags=["hide-input"]
pick = torch.Generator().manual_seed(3)
row, column = torch.rand(3, 4, 1, generator=pick), torch.rand(3, 1, 4, generator=pick)
of_channel = torch.tensor([0.9, 0.2, 0.5])[:, None, None]
of_place = torch.rand(1, 4, 4, generator=pick)
examples = {
    "(C, 1, 1)\none per channel": of_channel,
    "(1, H, W)\none per place": of_place,
    "(C, 1, 1) · (1, H, W)\nchannel times place": of_channel * of_place,
    "(C, H, 1) · (C, 1, W)\nrow times column": row * column,
    "(C, H, W)\nall of them": torch.rand(3, 4, 4, generator=pick),
}
with plots.style():
    picture = plots.Figure(figsize=(7.8, 3.7), layout="constrained")
    axes = picture.subplots(3, 5)
    for ax, (title, g) in zip(axes.T, examples.items(), strict=True):
        for c in range(3):
            shown = ax[c].imshow(g.expand(3, 4, 4)[c], cmap="viridis", vmin=0, vmax=1)
            ax[c].set(xticks=[], yticks=[])
        ax[0].set_title(title, fontsize=9, loc="center")
    for c in range(3):
        axes[c, 0].set_ylabel(f"channel {c}")
    picture.colorbar(shown, ax=axes, shrink=0.5, ticks=[0, 0.5, 1], label="factor")
figure(
    picture,
    "shapes",
    "Five shapes of a factor, for three channels of 4 × 4 places. The first says"
    " which channel, the second where. The third is their product: one picture, darker"
    " or brighter. The fourth says which rows and columns, the last all.",
    "Five columns of three small maps each, with equal colours where numbers repeat.",
)

# %% [markdown]
# The multiplication is the same for all blocks, so we write it once. Each block below adds its own `factor`.

# %%
class Block(nn.Module):
    """y = g(x) x; what g is, a subclass says."""

    def forward(self, x):  # (B, C, H, W), and so is what comes out
        return x * self.factor(x)


# %% [markdown]
# ## 2 · Over channels: squeeze and excitation
#
# Squeeze and excitation, {term:squeeze and excitation|SE} for short, makes one number of each channel, its mean $z_c$ (*squeeze*). Two linear layers look at all means together and give one
# gate per channel (*excite*): $g = \sigma\big(W_2\,\mathrm{ReLU}(W_1 z)\big)$, where $\sigma(v) = 1/(1+e^{-v})$ is the {term:sigmoid}.

# %% tags=["hide-input"]
figure(
    plots.gallery.se_block(channels=64, reduction=16),
    "se",
    "Squeeze and excitation for 64 channels. Only 64 means go into the factor.",
    "Above: mean over places, two linear layers, sigmoid; below x; a product.",
)


# %%
class SE(Block):
    def __init__(self, channels, hidden):
        super().__init__()
        self.W1 = nn.Linear(channels, hidden, bias=False)
        self.W2 = nn.Linear(hidden, channels, bias=False)

    def factor(self, x):
        z = x.mean((2, 3))  # (B, C)
        g = torch.sigmoid(self.W2(torch.relu(self.W1(z))))
        return g[:, :, None, None]  # (B, C, 1, 1)


# %% [markdown]
# **By hand.** The smile's means are 1 and 3. With $W_1 = (-1, 1)$ the one hidden unit is $\mathrm{ReLU}(3 - 1) = 2$. With $W_2 = (-1, 1)^T$
# the gates are $\sigma(-2) = 0.12$ and $\sigma(2) = 0.88$: the mouth passes, and the eyes are nearly shut.
#
# > **Question.** What are the gates of the frown? And could other weights give it other gates than the smile?

# %%
se = SE(2, hidden=1)
with torch.no_grad():
    se.W1.weight.copy_(torch.tensor([[-1.0, 1.0]]))
    se.W2.weight.copy_(torch.tensor([[-1.0], [1.0]]))


def with_random_weights(net, seed):
    """The net with every parameter drawn anew, ready for inference."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.normal_(std=0.5)
    return net.eval()


def apart(kind, a, b):
    """Largest difference between the factors of two maps, over 20 random blocks."""
    with torch.no_grad():
        blocks = [with_random_weights(kind(2, 4), seed) for seed in range(20)]
        return max((k.factor(a) - k.factor(b)).abs().max().item() for k in blocks)


for name, x in (("smile", smile), ("frown", frown)):
    eyes_gate, mouth_gate = se.factor(x).flatten().tolist()
    print(f"{name}: gates {eyes_gate:.2f} (eyes) and {mouth_gate:.2f} (mouth)")
se_apart = apart(SE, smile, frown)
print(f"largest difference over 20 random SE blocks: {se_apart:g}")

# %% tags=["hide-input"]
record("se_eyes_frac", eyes_gate)
record("se_mouth_frac", mouth_gate)
record("se_apart_frac", se_apart)

# %% [markdown]
# **Answer.** The same, {{se_eyes_frac:.2f}} and {{se_mouth_frac:.2f}}, and no weights change that: the largest difference over 20 random blocks is
# {{se_apart_frac:.0f}}. The means are all that enters, and the means agree. *A block can't learn from what it does not read.*
#
# What SE can do is to weaken a kind of detector everywhere in the picture. It can't say where: every place of a channel gets the same factor.
#
# ## 3 · Channels, then places: CBAM
#
# The convolutional block attention module, {term:CBAM} [@cbam], has two gates, one after the other. The gate over channels is SE with a second look: the same two layers also read
# the *maximum* of each channel. The gate over places turns the idea around: at each place it takes mean and maximum *over the channels*.
# These are two pictures, and from them a 7 × 7 convolution with a sigmoid computes one gate for each place.

# %% tags=["hide-input"]
figure(
    plots.gallery.cbam(),
    "cbam",
    "CBAM. Upper row: one factor per channel. Lower row: one factor per place. The"
    " two boxes with linear layers are one module that is used twice.",
    "Two gates in series, each with a mean and a maximum as input.",
)


# %%
class CBAM(Block):
    def __init__(self, channels, hidden):
        super().__init__()
        first, second = nn.Linear(channels, hidden), nn.Linear(hidden, channels)
        self.mlp = nn.Sequential(first, nn.ReLU(), second)
        self.conv = nn.Conv2d(2, 1, 7, padding=3, bias=False)
        self.bn = nn.BatchNorm2d(1)

    def over_channels(self, x):  # (B, C, 1, 1)
        v = self.mlp(x.mean((2, 3))) + self.mlp(x.amax((2, 3)))
        return torch.sigmoid(v)[:, :, None, None]

    def over_places(self, x):  # (B, 1, H, W)
        pair = torch.cat([x.amax(1, keepdim=True), x.mean(1, keepdim=True)], 1)
        return torch.sigmoid(self.bn(self.conv(pair)))

    def factor(self, x):
        c = self.over_channels(x)
        return c * self.over_places(x * c)


# %% [markdown]
# **By hand**, the gate over places alone: we leave out the gate over channels and the batch normalization (BN) of {fig:cbam}. Let all weights of the convolution be 0 except the middle one that looks at the mean, and let that be
# 1/16. Where an eye or the mouth is lit, the mean of the two channels is 16, and the gate is $\sigma(1) = 0.73$. Elsewhere it is
# $\sigma(0) = 0.50$.
#
# > **Question.** Now exchange the two channels: the eye detector fires at the mouth, and the mouth detector at the eyes. Which of the two gates
# > notices?


# %%
class PlacesOnly(CBAM):
    def factor(self, x):
        return self.over_places(x)


exchanged = smile.flip(1)
changes = {
    "gate over places, channels exchanged": (PlacesOnly, exchanged),
    "whole CBAM, channels exchanged": (CBAM, exchanged),
    "whole CBAM, smile against frown": (CBAM, frown),
}
for what, (kind, other) in changes.items():
    changes[what] = apart(kind, smile, other)
    print(f"{what:37} factors differ by up to {changes[what]:.2f}")

# %% tags=["hide-input"]
record("places_apart_frac", changes["gate over places, channels exchanged"])
record("cbam_apart_frac", changes["whole CBAM, channels exchanged"])
record("cbam_smile_apart_frac", changes["whole CBAM, smile against frown"])

# %% [markdown]
# **Answer.** The gate over places does not: its factors differ by {{places_apart_frac:.0f}}. Mean and maximum of two numbers do not depend on their
# order. The whole block does notice, because its gate over channels sees other means ({{cbam_apart_frac:.2f}}). Its factors for the smile
# and the frown differ too ({{cbam_smile_apart_frac:.2f}}). That alone does not prove that a classifier behind it can tell the two: section 8 asks that.
#
# ## 4 · Both under one sigmoid: BAM
#
# The bottleneck attention module, BAM [@bam], has the same two views side by side. One branch gives a number $M_c$ per channel, the other a number $M_s$ per place, and both go
# into *one* sigmoid. Its paper adds the two branches:
#
# $$g = 1 + \sigma(M_c + M_s)$$
#
# A released version multiplies them, $g = 1 + \sigma(M_c \cdot M_s)$. This is pytorchcv's `bam_resnet50`, with which the Residual Masking paper compares. Our class and our
# library follow this released version, so what you see of BAM in this chapter is the product.
#
# Both have the 1. Because of the 1, the factor lies between 1 and 2. Nothing is erased; the map is still there, and some of it is strengthened. The price: the
# block can raise one place against another by a factor of 2 at most.

# %% tags=["hide-input"]
figure(
    plots.gallery.bam(),
    "bam",
    "BAM as released in pytorchcv: two branches are multiplied before the sigmoid (the"
    " paper adds them). Behind it, 1 is added.",
    "Upper branch over channels, lower branch over places; product, sigmoid, plus 1.",
)


# %%
class BAM(Block):
    def __init__(self, channels, hidden):
        super().__init__()
        first, second = nn.Linear(channels, hidden), nn.Linear(hidden, channels)
        self.mlp = nn.Sequential(first, nn.BatchNorm1d(hidden), nn.ReLU(), second)
        parts = [nn.Conv2d(channels, hidden, 1), nn.BatchNorm2d(hidden), nn.ReLU()]
        for _ in range(2):  # the nine points of each kernel lie 4 places apart
            far = nn.Conv2d(hidden, hidden, 3, padding=4, dilation=4)
            parts += [far, nn.BatchNorm2d(hidden), nn.ReLU()]
        self.places = nn.Sequential(*parts, nn.Conv2d(hidden, 1, 1))

    def factor(self, x):
        M_c = self.mlp(x.mean((2, 3)))[:, :, None, None]  # (B, C, 1, 1)
        return 1 + torch.sigmoid(M_c * self.places(x))  # (B, C, H, W)


# %% [markdown]
# > **Question.** The branch over channels is strongly against a channel, $M_c = -3$. The branch over places is strongly against a place,
# > $M_s = -3$. What does the sum do there, and what the product?

# %% tags=["nbval-check-output"]
M_c = M_s = torch.tensor(-3.0)
product = 1 + torch.sigmoid(M_c * M_s).item()
total = 1 + torch.sigmoid(M_c + M_s).item()
print(f"branches added (paper):         factor {total:.4f}")
print(f"branches multiplied (released): factor {product:.4f}")

# %% tags=["hide-input"]
record("bam_product_ratio", product)
record("bam_sum_ratio", total)

# %% [markdown]
# **Answer.** The sum leaves it nearly as it is: the factor is {{bam_sum_ratio:.4f}}. The product strengthens it as much as it can: {{bam_product_ratio:.4f}}, because
# minus times minus is plus. The two versions do opposite things where both branches are against.
#
# ## 5 · Rows and columns: coordinate attention
#
# {term:Coordinate attention} [@coordinate] takes the mean of every row and of every column, for each channel. Each mean goes through the same small convolution
# (with the activation $\text{h-swish}(v) = v \cdot \min(\max(v+3, 0), 6)/6$), and becomes a gate. The factor at a place is the gate of its row times the gate
# of its column.

# %% tags=["hide-input"]
figure(
    plots.gallery.coordinate_attention(),
    "coordinate",
    "Coordinate attention. Row means go above, column means below; the first"
    " convolution is the same for both. Three things are multiplied at the end.",
    "Two branches with means, convolutions and sigmoids around the map x.",
)


# %%
class Coordinate(Block):
    def __init__(self, channels, hidden):
        super().__init__()
        conv, bn = nn.Conv2d(channels, hidden, 1), nn.BatchNorm2d(hidden)
        self.shared = nn.Sequential(conv, bn, nn.Hardswish())
        self.for_rows = nn.Conv2d(hidden, channels, 1)
        self.for_columns = nn.Conv2d(hidden, channels, 1)

    def factor(self, x):
        rows = self.shared(x.mean(3, keepdim=True))  # (B, hidden, H, 1)
        columns = self.shared(x.mean(2, keepdim=True))  # (B, hidden, 1, W)
        g_rows = torch.sigmoid(self.for_rows(rows))  # (B, C, H, 1)
        g_columns = torch.sigmoid(self.for_columns(columns))  # (B, C, 1, W)
        return g_rows * g_columns


# %% [markdown]
# {fig:marginals} shows what it reads of a mouth. In the smile, two pairs of columns are lit in row 5 and one pair in row 6: the row means
# are 4 · 32 / 8 = 16 and 2 · 32 / 8 = 8.


# %% tags=["hide-input"]
MOUTHS = {(5, 6, 5): "smile", (6, 5, 6): "frown"}
MOUTHS |= {(4, 5, 6): "smirk to the left", (6, 5, 4): "smirk to the right"}


def mouth_means(left=5, middle=6, right=5):
    """A mouth, and the means of its rows (right) and columns (below)."""
    x = face(mouth(left, middle, right))[0, 1]
    with plots.style():
        picture = plots.Figure(figsize=(3.1, 2.3), layout="constrained")
        ratios = dict(width_ratios=(2, 1), height_ratios=(2, 1))
        ((ax, side), (below, corner)) = picture.subplots(2, 2, **ratios)
        ax.imshow(x, cmap="Greys", vmin=0, vmax=32)
        side.barh(range(8), x.mean(1), color=plots.COLOURS[0])
        below.bar(range(8), x.mean(0), color=plots.COLOURS[0])
        ax.set(xticks=[], yticks=[4, 5, 6], ylabel="row", aspect="auto")
        side.set(ylim=(7.5, -0.5), xlim=(0, 25), yticks=[], xticks=[0, 8, 16, 24])
        below.set(xlim=(-0.5, 7.5), ylim=(0, 9), xticks=[], yticks=[0, 4, 8])
        side.set_xlabel("row mean")
        below.set_ylabel("column\nmean")
        corner.axis("off")
        ax.set_title(MOUTHS.get((left, middle, right), "your mouth"), fontsize=9)
    return picture


# %% tags=["hide-input"]
rows = (4, 6, 1)
explore(
    mouth_means,
    **dict(left=rows, middle=rows, right=rows),
    strip=[dict(left=a, middle=b, right=c) for a, b, c in MOUTHS],
    name="marginals",
    caption="What coordinate attention reads: means of rows and of columns. The first"
    " two mouths exchange two row means. The last two agree in all means.",
    alt="Four mouths with bars: smile, frown and two slanted mouths.",
)

# %% [markdown]
# > **Question.** For which of these pairs can coordinate attention give different gates: smile and frown, or the smirk to the left and the smirk to the
# > right?

# %%
smirk, other_smirk = face(mouth(4, 5, 6)), face(mouth(6, 5, 4))
block = with_random_weights(Coordinate(2, 4), SEED)
with torch.no_grad():
    for name, x in (("smile", smile), ("frown", frown)):
        g = block.factor(x)[0, 1, :, 3]  # the mouth's channel, along column 3
        print(f"{name}: row 5 has the factor {g[5]:.3f}, row 6 has {g[6]:.3f}")
smirk_apart = apart(Coordinate, smirk, other_smirk)
print(f"largest difference between two smirks, 20 random blocks: {smirk_apart:g}")

# %% tags=["hide-input"]
record("smirk_apart_frac", smirk_apart)
record("frown_row5_frac", g[5])
record("frown_row6_frac", g[6])

# %% [markdown]
# **Answer.** For the smile and the frown only, and even there the two numbers just change places: {{frown_row5_frac:.3f}} and
# {{frown_row6_frac:.3f}}. A row's gate is computed from that row alone, by a convolution that looks at no neighbour and knows no row number. So the
# block sees *that* two rows differ, and not *which is the upper one*. The smirks get the same factor ({{smirk_apart_frac:.0f}} apart): all
# their means agree. Move the sliders: find a mouth that is no smile and has the smile's row and column means.
#
# <details><summary>One such mouth</summary>
#
# Left 5, middle 5, right 6. Four places are lit in row 5 and two in row 6, and one in each of the six columns, as in the smile.
#
# </details>
#
# ## 6 · Every channel and place: a mask
#
# The masking block of the Residual Masking Network [@resmasking] computes all $C \cdot H \cdot W$ numbers. It is a small U-Net: it shrinks the map to see far,
# enlarges it again, and joins it with the fine map. Its units are the {term:residual block|residual blocks} of ResNet-34. As in BAM, the factor is $1 + M$.

# %% tags=["hide-input"]
figure(
    plots.gallery.residual_masking_block(),
    "mask",
    "The released masking block at depth 2: it pools once, and the skip brings the fine"
    " places back. A unit is a residual block.",
    "A small U-Net in a frame, a softmax over channels, 1 plus M, and a product.",
)


# %%
class Mask(Block):
    def __init__(self, channels, drawn=False):
        super().__init__()
        C, unit = channels, layers.BasicBlock
        self.fine, self.coarse = unit(C, 2 * C), unit(2 * C, 4 * C)
        up = nn.ConvTranspose2d(4 * C, 2 * C, 2, stride=2)
        self.up = nn.Sequential(up, nn.BatchNorm2d(2 * C), nn.ReLU())
        self.join, self.last = unit(4 * C, 2 * C), unit(2 * C, C)
        self.drawn = nn.Conv2d(C, C, 1) if drawn else None

    def mask(self, x):
        fine = self.fine(x)  # (B, 2C, H, W)
        coarse = self.coarse(F.max_pool2d(fine, 2))  # (B, 4C, H/2, W/2)
        z = self.last(self.join(torch.cat([self.up(coarse), fine], 1)))
        return torch.sigmoid(self.drawn(z)) if self.drawn else z.softmax(1)

    def factor(self, x):
        return 1 + self.mask(x)  # (B, C, H, W)


# %% [markdown]
# The last line of `mask` holds a disagreement. The paper's drawing ends with a 1 × 1 convolution and a sigmoid. The released code ends with a {term:softmax} over
# the channels: at each place, the numbers of all channels sum to 1.
#
# > **Question.** Take the softmax, and average the mask over its channels, to get a picture of *where* it looks. What will the picture show?
#
# Two channels are enough to see it. Let $z$ be 1 where our smile is lit and 0 elsewhere. At the mouth, $z = (0, 1)$, and the softmax gives
# $e^0/(e^0+e^1) = 0.27$ to the eye channel and 0.73 to the mouth channel.

# %% tags=["hide-input"]
z, panels, spread = smile[0] / 32, [], {}
for name, m in (("softmax", z.softmax(0)), ("sigmoid", z.sigmoid())):
    for what, values in (("eyes", m[0]), ("mouth", m[1]), ("mean", m.mean(0))):
        span = sorted({round(v, 2) for v in values.flatten().tolist()})
        spread[name, what] = float(values.max() - values.min())
        title = f"{name}, {what}\n" + ", ".join(f"{v:.2f}" for v in span)
        panels.append((title, values))
figure(
    show_maps(panels, cmap="viridis", high=1),
    "softmax",
    "Masks of the smile, and under each name the values that occur (dark 0, bright 1)."
    " The softmax's mean over channels is 0.50 at every place; the sigmoid's is not.",
    "Six small maps: two channels and their mean, for softmax and sigmoid.",
)
record("softmax_mean_spread_frac", spread["softmax", "mean"])
record("softmax_mouth_spread_frac", spread["softmax", "mouth"])
record("sigmoid_mean_spread_frac", spread["sigmoid", "mean"])

# %% [markdown]
# **Answer.** Nothing: the mean is ½ everywhere (it varies by {{softmax_mean_spread_frac:.2f}}), since two numbers that sum to 1 have the mean ½, and $C$ of
# them the mean $1/C$. Only *the mean* is silent about places. *The mask itself* is not: in the mouth's channel it varies by
# {{softmax_mouth_spread_frac:.2f}} from place to place. So such a mask can shift weight from one channel to another, at each place as it likes. What comes
# out can therefore differ between places, but no place as a whole gets a larger share of the mask than another. A sigmoid can do that: its mean varies by {{sigmoid_mean_spread_frac:.2f}}.
#
# ## 7 · Beside the map: spatial bias
#
# The last of the six is no factor at all. {term:Spatial bias} [@spatialbias] averages the map over the four quarters of the picture and mixes these averages with
# a small convolution. What happens to the numbers that come out differs. As the LFNSB paper [@lfnsb] describes it, they are enlarged to the size of the map and joined to it as
# further channels. The code released with that paper does neither: it hands on the numbers themselves ({row:LF-spatial-bias}). We take the numbers as this code does, and
# in this chapter we put them *beside* the means of the map, so that the classifier reads both.

# %% tags=["hide-input"]
figure(
    plots.gallery.spatial_bias(),
    "bias",
    "Spatial bias as used in this chapter: n numbers for each quarter of the picture"
    " reach the classifier beside the map's means.",
    "x goes through a convolution, means over quarters and a convolution, beside x.",
)


# %%
class SpatialBias(nn.Module):
    def __init__(self, channels, n):
        super().__init__()
        self.reduce = nn.Conv2d(channels, n + 2, 1, bias=False)
        self.bn = nn.BatchNorm2d(n + 2)
        self.along = nn.Conv1d(4, 4, 3)  # its input channels are the four quarters

    def forward(self, x):
        p = torch.relu(self.bn(self.reduce(x)))  # (B, n + 2, H, W)
        p = F.adaptive_avg_pool2d(p, 2).flatten(2)  # (B, n + 2, 4): quarters
        return self.along(p.transpose(1, 2)).transpose(1, 2)  # (B, n, 4)


# %% [markdown]
# **By hand.** Each quarter has 16 places. Each eye lies in an upper quarter: 32 / 16 = 2. Half of the mouth lies in each lower quarter: 3 · 32 / 16 = 6. So the
# eyes' channel has the quarters (2, 2, 0, 0), and the mouth's channel has (0, 0, 6, 6). For the smile and the frown these are the same. But a face that stands
# higher in the picture has other quarters. So spatial bias says *where in the picture* something is. None of the formulas above is given a place's position.
#
# Are these six classes the same as the library's, with which the other chapters build their networks? We give each pair the same weights, set both to inference, and compare
# what comes out (for the mask: $M$ without the 1).

# %%
PAIRED = {
    "SE": (SE(64, 4), attention.SqueezeExcite(64)),
    "CBAM": (CBAM(64, 4), attention.CBAM(64)),
    "BAM": (BAM(64, 4), attention.BAM(64)),
    "coordinate": (Coordinate(64, 8), attention.CoordinateAttention(64)),
    "mask": (Mask(64), resmasking.MaskingBlock(64, 2)),
    "spatial bias": (SpatialBias(64, 64), attention.SpatialBias(64)),
}
x = torch.rand(2, 64, 16, 16)
for name, (mine, library) in PAIRED.items():
    mine = with_random_weights(mine, SEED)
    values = iter(mine.state_dict().values())
    library.eval().load_state_dict({key: next(values) for key in library.state_dict()})
    with torch.no_grad():
        y = mine.mask(x) if name == "mask" else mine(x)
        torch.testing.assert_close(y, library(x).view_as(y), rtol=1e-4, atol=1e-5)
print(f"{len(PAIRED)} of {len(PAIRED)} agree with the library in inference")

# %% tags=["hide-input"]
FACTORS = {
    "SE": ("(C, 1, 1)", "0 to 1", "means of channels"),
    "CBAM": ("(C, 1, 1) · (1, H, W)", "0 to 1", "means, maxima, neighbours"),
    "BAM": ("(C, H, W)", "1 to 2", "means, places 4 apart"),
    "coordinate": ("(C, H, 1) · (C, 1, W)", "0 to 1", "means of rows and columns"),
    "mask": ("(C, H, W)", "1 to 2", "a neighbourhood, in detail"),
    "spatial bias": ("none", "none", "means of quarters"),
}
frame = pd.DataFrame(FACTORS, index=["factor", "range", "what it reads"]).T
sizes = {name: models.count_parameters(mine) for name, (mine, _) in PAIRED.items()}
frame["parameters"] = pd.Series(sizes)
record("se_parameters_n", sizes["SE"])
record("mask_parameters_n", sizes["mask"])
record("mask_to_se_ratio", sizes["mask"] / sizes["SE"])
caption = "The six blocks, for maps of 64 channels. The mask is by far the largest."
table(frame.reset_index(names="block"), "blocks", caption)

# %% [markdown]
# This says that we and our library compute the same, and nothing about the papers: BAM is the released product, mask and spatial bias are the released forms.
#
# The mask has {{mask_to_se_ratio:,.0f}} times as many parameters as SE. In a comparison "with and without attention" this is no detail: more
# parameters may help, whatever they are called.
#
# ## 8 · Four puzzles
#
# Now all six against each other. In each pair of {fig:puzzles} the lit places have moved, and **the channel means agree**.

# %% tags=["hide-input"]
flat = face(mouth(5, 5, 5))
opened = face([(row, column) for row in (4, 5, 6) for column in (3, 4)])
PAIRS = {
    "flat or open": torch.cat([flat, opened]) / 32,
    "smile or frown": torch.cat([smile, frown]) / 32,
    "left or right": torch.cat([smirk, other_smirk]) / 32,
    "low or high": torch.cat([flat, flat.roll(-2, 2)]) / 32,
}
panels = []
for name, pair in PAIRS.items():
    panels += [*zip(name.split(" or "), pair.sum(1), strict=True), None]
figure(
    show_maps(panels[:-1], width=0.89, high=1),
    "puzzles",
    "Four pairs of faces. Which of the two is it?",
    "Flat and open mouth, smile and frown, two smirks, a low and a high face.",
)

# %% [markdown]
# We ask twice which block can solve which puzzle: by theory, and by training. Both use the same small network: a 1 × 1 convolution to 8 channels, the block, the mean of each channel, a linear
# layer. Only the block changes. The mixing does not spoil the puzzles: a 1 × 1 convolution and a ReLU treat each
# place alone, so the eight numbers of a place just move with it, and the means of the eight channels agree as well.

# %%
class Network(nn.Module):
    """Mix channels, apply a block, average over places, classify."""

    def __init__(self, make):
        super().__init__()
        self.mix = nn.Sequential(nn.Conv2d(2, 8, 1), nn.BatchNorm2d(8), nn.ReLU())
        self.block = make()
        width = 8 + 4 * 8 if isinstance(self.block, SpatialBias) else 8
        self.classify = nn.Sequential(nn.BatchNorm1d(width), nn.Linear(width, 2))

    def features(self, x):  # all that the classifier can see
        x = self.mix(x)
        y = self.block(x)
        if isinstance(self.block, SpatialBias):  # beside the map
            return torch.cat([x.mean((2, 3)), y.flatten(1)], 1)
        return y.mean((2, 3))

    def forward(self, x):
        return self.classify(self.features(x))


class NoBlock(Block):
    def factor(self, x):
        return torch.ones_like(x)


BLOCKS = {
    "no block": NoBlock,
    "SE": lambda: SE(8, 8),
    "CBAM": lambda: CBAM(8, 8),
    "BAM": lambda: BAM(8, 8),
    "coordinate": lambda: Coordinate(8, 8),
    "mask": lambda: Mask(8),
    "spatial bias": lambda: SpatialBias(8, 8),
}

# %% [markdown]
# **By theory.** The formulas above say what each block reads. To check that we understand them, we draw random weights, without any training, and compare the two faces
# of a pair. If the features of the two agree in every draw, the classifier sees the same thing twice, and there is nothing to learn. Two cases are possible then: the
# factor was the *same*, or it *moved along* with the lit places, as the row gates of the frown did. (Spatial bias has no factor. For it, *same* means that its
# numbers agree.)
#
# > **Question.** How many of the four puzzles can SE solve? How many can coordinate attention, and spatial bias? Write down your guess before you
# > scroll.


# %%
def verdict(make, pair, change=lambda net: net):
    """'told apart', 'moves along' or 'same', over ten random networks."""
    features = factors = 0.0
    with torch.no_grad():
        for seed in range(10):
            net = change(with_random_weights(Network(make), seed))
            a, b = net.features(pair)
            features = max(features, (a - b).abs().max().item())
            if isinstance(net.block, Block):
                a, b = net.block.factor(net.mix(pair)).expand(2, 8, 8, 8)
                factors = max(factors, (a - b).abs().max().item())
    if features > 1e-5:
        return "told apart"
    return "moves along" if factors > 1e-5 else "same"


theory = {
    (name, puzzle): verdict(make, pair)
    for name, make in BLOCKS.items()
    for puzzle, pair in PAIRS.items()
}

# %% [markdown]
# **By training.** Each network sees fresh maps with noise in every step, so it can't learn any of them by heart. The noise is of the same kind at every place, so it
# adds no difference between the two faces.


# %%
def draw(pair, n):
    """n noisy maps, and which of the two faces each one shows."""
    label = torch.randint(0, 2, (n,))
    x = pair[label]
    return (x + 0.2 * torch.randn_like(x)).relu(), label


def trained_accuracy(make, pair, seed):
    """Accuracy on new maps after training with one seed."""
    torch.manual_seed(seed)
    net = Network(make)
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.02)
    for _ in range(S.steps):
        x, label = draw(pair, 64)
        F.cross_entropy(net(x), label).backward()
        optimizer.step()
        optimizer.zero_grad()
    x, label = draw(pair, S.test)
    with torch.no_grad():
        return (net.eval()(x).argmax(1) == label).double().mean().item()


seeds = range(SEED, SEED + S.seeds)
accuracy = {
    (name, puzzle): [trained_accuracy(make, pair, seed) for seed in seeds]
    for name, make in BLOCKS.items()
    for puzzle, pair in PAIRS.items()
}

# %% tags=["hide-input"]
shades = {"same": (0.89, 0.89, 0.89), "moves along": (0.66, 0.8, 0.92)}
shades["told apart"] = (0.98, 0.78, 0.61)
with plots.style():
    picture = plots.Figure(figsize=(6.6, 3.7), layout="constrained")
    ax = picture.subplots()
    ax.imshow([[shades[theory[b, p]] for p in PAIRS] for b in BLOCKS], aspect="auto")
    for i, name in enumerate(BLOCKS):
        for j, puzzle in enumerate(PAIRS):
            text = f"{theory[name, puzzle]}\n{np.mean(accuracy[name, puzzle]):.0%}"
            ax.text(j, i, text, ha="center", va="center", fontsize=9)
    ax.set_xticks(range(len(PAIRS)), list(PAIRS))
    ax.set_yticks(range(len(BLOCKS)), list(BLOCKS))
    ax.hlines(np.arange(len(BLOCKS) - 1) + 0.5, -0.5, 3.5, color="white", linewidth=3)
    ax.vlines(np.arange(len(PAIRS) - 1) + 0.5, -0.5, 6.5, color="white", linewidth=3)
    ax.xaxis.tick_top()
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
figure(
    picture,
    "grid",
    "In words what theory says before any training, below it the accuracy after it"
    f" (mean over {S.seeds} seeds). Guessing gives 50 %. Only where theory says *told"
    " apart* is there anything to learn.",
    "Seven blocks and four puzzles, with a word and an accuracy in each cell.",
)

# %% tags=["hide-input"]
means = {key: np.mean(values) for key, values in accuracy.items()}
blind = [means[key] for key, word in theory.items() if word != "told apart"]
seeing = [means[key] for key, word in theory.items() if word == "told apart"]
record("blind_n", len(blind))
record("seeing_n", len(seeing))
record("blind_low_frac", min(blind))
record("blind_high_frac", max(blind))
record("seeing_low_frac", min(seeing))
record("steps_n", S.steps)
record("bam_smile_frac", np.mean(accuracy["BAM", "smile or frown"]))
record("guess_spread_frac", 2 * 0.5 / np.sqrt(S.test * S.seeds))

# %% [markdown]
# **Answer.** SE solves none, coordinate attention one, spatial bias one. CBAM, BAM and the mask have something to learn in all four. In the {{blind_n}} cells where
# theory sees no difference, training reaches {{blind_low_frac:.1%}} to {{blind_high_frac:.1%}}. That is guessing: with this many test maps, guessing alone gives
# 50 % plus or minus {{guess_spread_frac:.1%}} (two standard errors). In the other {{seeing_n}} cells it reaches {{seeing_low_frac:.1%}} or more.
#
# Read the rows of {fig:grid}:
#
# - **SE** is as blind as no block. All four pairs agree in the means, and the means are all it reads.
# - **Coordinate attention** finds the open mouth: one row with six lit places gets another gate than three rows with two. A smile and a frown
#   are the same rows in another order.
# - **Spatial bias** knows the four quarters, and nothing finer. In the first three puzzles every mouth has three lit places in each lower quarter, so their quarters
#   agree. The high face has its mouth in the upper quarters.
# - **CBAM and the mask** contain convolutions that look at neighbours, so they see which lit place lies above which.
# - **BAM** could solve all four as well, but within {{steps_n}} steps it reaches only {{bam_smile_frac:.0%}} for the smile and the frown. To be able to learn
#   something is not yet to learn it.
#
# How does BAM tell a smile from a frown at all? The points of its kernels lie 4 places apart, and the mouth has only two rows. But the eyes are in row 2, and the
# frown's corners four rows below them, in row 6. If that is the way, BAM must fail when we take the eyes away:

# %%
no_eyes = PAIRS["smile or frown"] * torch.tensor([0.0, 1.0])[:, None, None]
for name in ("CBAM", "BAM", "mask"):
    print(f"{name:5} smile or frown without eyes: {verdict(BLOCKS[name], no_eyes)}")

# %% tags=["hide-input"]
words = [verdict(BLOCKS[name], no_eyes) for name in ("CBAM", "BAM", "mask")]
record("no_eyes_told_n", words.count("told apart"))
record("no_eyes_bam_n", int(words[1] == "told apart"))

# %% [markdown]
# It does: without eyes BAM's factor only moves along. CBAM and the mask don't need the eyes.
#
# One cell should surprise you. A convolution uses the same weights everywhere. How can CBAM know a low face from a high one? By the rim: beyond it
# its padding fills in zeros, and on 8 × 8 places the rim is never far. We can take the rim away, and close each map to a ring. We do so for all puzzles, and for
# one more: the high face stands two rows above the low one, and the new one stands only one row above it.


# %%
def ring(net):
    """Beyond the right rim the convolutions find the left one, and so on."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            module.padding_mode = "circular"
    return net


RINGS = {**PAIRS, "one row higher": torch.cat([flat, flat.roll(-1, 2)]) / 32}
closed = {
    name: {puzzle: verdict(BLOCKS[name], pair, ring) for puzzle, pair in RINGS.items()}
    for name in ("CBAM", "BAM", "mask", "spatial bias")
}

# %% tags=["hide-input"]
frame = pd.DataFrame(closed).T.reset_index(names="on a ring")
table(frame, "ring", "What theory says when each map is closed to a ring.")
convolutions = ("CBAM", "BAM", "mask")
record("ring_n", sum(closed[n]["low or high"] == "moves along" for n in convolutions))
told = [closed[name]["smile or frown"] == "told apart" for name in convolutions]
record("ring_smile_n", sum(told))
record("ring_row_n", int(closed["mask"]["one row higher"] == "told apart"))
record("ring_bam_n", sum(word == "told apart" for word in closed["BAM"].values()))

# %% [markdown]
# CBAM, BAM and the mask contain convolutions that look at other places. On the ring, none of these three can tell low from high: the factor only moves along with the face.
# Smile and frown need no rim: all three still tell them apart. BAM loses the smirks on the ring, perhaps because four places up and four places down from a point are the same place
# on a ring of eight.
#
# The mask has a second way to notice a shift. Its pooling joins rows 0 and 1, rows 2 and 3, and so on. A face moved by *two* rows falls into such pairs as before, a face moved by
# *one* row does not. So on the ring the mask still tells a shift by one row. Spatial bias is the other way round: it tells low from high, as the mouth
# changes its quarter, and can't see the shift by one row, which changes no quarter.
#
# ## 9 · What a shape allows, and what a block finds
#
# The papers promise more than to tell two maps apart: the block should turn to what matters. We test this on drawn faces, where
# the truth is known. Six filters that one can name give the map, and what matters is **the mouth**. Each face is cut out at a random place, so that no
# fixed factor can do it.

# %% tags=["hide-input"]
NAMES = ("dark over\nbright", "bright over\ndark", "dark left\nof bright")
NAMES += ("bright left\nof dark", "darker\nspots", "brighter\nspots")
drawn = make_faces(S.faces, size=64, seed=SEED + 3, difficulty="easy", masks=True)
pick = torch.Generator().manual_seed(SEED)
tops, lefts = (torch.randint(low, 7, (S.faces,), generator=pick) for low in (3, 0))


def cut(maps):
    """Windows of 26 x 26 places, at a random place for each face."""
    at = zip(maps, tops, lefts, strict=True)
    windows = [m[..., top : top + 26, left : left + 26] for m, top, left in at]
    return torch.stack(windows)


small = F.avg_pool2d(torch.as_tensor(drawn.images)[:, None] / 255, 2)  # (N, 1, 32, 32)
down = torch.tensor([[-1.0, -2, -1], [0, 0, 0], [1, 2, 1]]) / 4
kernels = torch.stack([down, -down, down.T, -down.T])[:, None]
edges = F.conv2d(F.pad(small, [1] * 4, mode="replicate"), kernels)
around = F.avg_pool2d(F.pad(small, [3] * 4, mode="replicate"), 7, stride=1)
spots = 2 * torch.cat([around - small, small - around], 1)
maps = cut(3 * torch.cat([edges, spots], 1).relu() + 0.001)  # (N, 6, 26, 26), no zeros
mouths = cut(F.max_pool2d(torch.as_tensor(drawn.masks["mouth"]).float()[:, None], 2))
wanted = maps * mouths
held_out = slice(0, S.faces // 4)  # no block is trained on these

# %% tags=["hide-input"]
happy = torch.as_tensor(drawn.labels[held_out] == drawn.names.index("happiness"))
whole = mouths[held_out, 0, -2:].sum((1, 2)) == 0  # the mouth ends above the rim
one = int(torch.nonzero(happy & whole)[0])
with plots.style():
    picture = plots.Figure(figsize=(7.2, 4.0), layout="constrained")
    shown = [("the face", cut(small)[one, 0]), *zip(NAMES, maps[one], strict=True)]
    axes = picture.subplots(2, 4).flat
    axes[7].axis("off")
    for ax, (title, values) in zip(axes[:7], shown, strict=True):
        ax.imshow(values, cmap="gray", vmin=0, vmax=float(values.max()))
        ax.contour(mouths[one, 0], levels=[0.5], colors="#F0B000", linewidths=1)
        ax.set(xticks=[], yticks=[])
        ax.set_title(title, fontsize=9, loc="center")
figure(
    picture,
    "detectors",
    "A drawn face and its map of six channels. The outline is what counts as the mouth,"
    " a region wider than the lips. The mouth lights up in some channels and is nearly"
    " dark in others; eyes, brows and the edge of the face light up as well.",
    "A drawn face and six pictures of edges and spots.",
)

# %% [markdown]
# **The score.** Let $t$ be what is wanted: the map inside the mouth, and 0 outside. The *agreement* of an output $y$ with $t$ is the squared cosine of the angle between
# them, $\langle y, t\rangle^2 / (\lVert y\rVert^2\, \lVert t\rVert^2)$. It is 1 if $y$ is $t$ times any number. An example with two places: $x = (1, 1)$ and
# $t = (1, 0)$ agree by $1 / (2 \cdot 1) = 0.5$. Halve the second place, and $(1, \tfrac12)$ agrees by $1 / 1.25 = 0.8$.
#
# **The limit.** What is the best that *any* factor of a given shape could do? For SE the best number per channel is a least-squares fit. For coordinate attention we fit
# rows and columns in turn until nothing changes. With a number per place, CBAM could keep the mouth and nothing else: 1. And behind the $1 + {}$ of BAM and of the
# mask, the best is 2 in the mouth and 1 elsewhere. If the mouth holds the share $p$ of the map's energy (the sum of squares), that gives $4p / (1 + 3p)$. The share differs from
# face to face, so below every limit is a mean over the {{held_out_n}} faces.


# %%
def agreement(y, t):
    """Squared cosine of maps (N, C, H, W)."""
    dot = (y * t).sum((1, 2, 3))
    return dot**2 / ((y**2).sum((1, 2, 3)) * (t**2).sum((1, 2, 3)))


def fit(x, t, over):
    """The number for x that brings it nearest to t, one for all that is summed over."""
    energy = (x * x).sum(over, keepdim=True)
    return (x * t).sum(over, keepdim=True) / energy.clamp(min=1e-9)


x, t = maps[held_out], wanted[held_out]
columns = torch.ones_like(x[:, :, :1])  # (N, C, 1, W)
for _ in range(50):
    rows = fit(x * columns, t, 3)  # (N, C, H, 1)
    columns = fit(x * rows, t, 2)
share = agreement(x, t)  # for x itself this is p, the mouth's share
limits = {
    "SE": agreement(x * fit(x, t, (2, 3)), t),
    "CBAM": torch.ones_like(share),
    "BAM": 4 * share / (1 + 3 * share),
    "coordinate": agreement(x * rows * columns, t),
    "1 + mask": 4 * share / (1 + 3 * share),
    "mask alone": torch.ones_like(share),
}

# %% [markdown]
# > **Question.** How near can SE come to the mouth at best, and how near coordinate attention: to less than a half, or to more?
#
# We also train each block alone on {{rest_n}} other faces, with one minus the agreement as the loss, and score it on the {{held_out_n}} faces from which the limits
# come. The mask is the drawn one, with a sigmoid; once as $1 + M$, and once alone.


# %%
class MaskAlone(Mask):
    def factor(self, x):
        return self.mask(x)


def trained_block(make, seed):
    """One block, trained to keep the mouth."""
    torch.manual_seed(seed)
    block = make()
    optimizer = torch.optim.AdamW(block.parameters(), lr=0.02)
    rates = torch.optim.lr_scheduler
    schedule = rates.OneCycleLR(optimizer, 0.02, total_steps=S.face_steps)
    for _ in range(S.face_steps):
        batch = torch.randint(S.faces // 4, S.faces, (16,))
        (1 - agreement(block(maps[batch]), wanted[batch])).mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    return block.eval()


makers = {
    "SE": lambda: SE(6, 6),
    "CBAM": lambda: CBAM(6, 6),
    "BAM": lambda: BAM(6, 6),
    "coordinate": lambda: Coordinate(6, 6),
    "1 + mask": lambda: Mask(6, drawn=True),
    "mask alone": lambda: MaskAlone(6, drawn=True),
}
trained = {
    name: [trained_block(make, seed) for seed in (SEED, SEED + 1)]
    for name, make in makers.items()
}
with torch.no_grad():
    scores = {
        name: [agreement(block(x), t).mean().item() for block in blocks]
        for name, blocks in trained.items()
    }

# %% tags=["hide-input"]
limit = {name: float(values.mean()) for name, values in limits.items()}
numbers = {name: models.count_parameters(nets[0]) for name, nets in trained.items()}
with torch.no_grad():
    alone = [agreement(b.mask(x) * x, t).mean().item() for b in trained["1 + mask"]]
with plots.style():
    picture = plots.Figure(figsize=(7.0, 2.9), layout="constrained")
    ax = picture.subplots()
    for i, name in enumerate(limit):
        ax.barh(i, limit[name], height=0.66, color="#CBD6EE")
        ax.barh(i, np.mean(scores[name]), height=0.34, color=plots.COLOURS[0])
        ax.plot(scores[name], [i] * 2, "o", color=plots.COLOURS[1], markersize=4)
        text = f"{np.mean(scores[name]):.2f} of {limit[name]:.2f}"
        ax.text(limit[name] + 0.015, i, text, va="center", fontsize=9)
    ax.plot(alone, [4] * 2, "D", color=plots.COLOURS[2], markersize=4)
    ax.axvline(float(share.mean()), color="#404040", linewidth=1, linestyle=":")
    ax.set_yticks(range(len(limit)), [f"{n} ({numbers[n]:,})" for n in limit])
    ax.set(xlim=(0, 1.2), ylim=(5.6, -0.6), xlabel="agreement with the mouth")
    ax.set_xticks(np.arange(0, 1.1, 0.2))
figure(
    picture,
    "limits",
    "Pale: the most that the shape allows. Dark: what a trained block reaches on the"
    " same faces (dots: two seeds). Diamonds: the same two masks, their 1 left out."
    " Dotted: the map as it is. In brackets: the block's number of parameters.",
    "Six bars with limits and scores.",
)

# %% tags=["hide-input"]
record("rest_n", S.faces - S.faces // 4)
record("held_out_n", S.faces // 4)
record("share_frac", share.mean())
for name in limit:
    key = name.replace(" ", "_").replace("1_+", "one_plus").lower()
    record(f"{key}_limit_frac", limit[name])
    record(f"{key}_score_frac", np.mean(scores[name]))
record("cbam_small_n", numbers["CBAM"])
record("mask_small_n", numbers["mask alone"])
record("without_one_frac", np.mean(alone))
record("over_limit_n", sum(max(scores[name]) > limit[name] + 1e-6 for name in limit))

# %% [markdown]
# **Answer.** SE at most {{se_limit_frac:.2f}}, hardly more than the {{share_frac:.2f}} of the map as it is, because every kind of edge occurs elsewhere too.
# Coordinate attention could reach {{coordinate_limit_frac:.2f}}: the mouth's outline is nearly a rectangle. It gets {{coordinate_score_frac:.2f}}. The shape would allow it, but the block
# must find the mouth's rows from means of rows, where eyes and brows count too. CBAM could keep the mouth perfectly and reaches {{cbam_score_frac:.2f}}. But mind the
# numbers in brackets: CBAM has {{cbam_small_n:,}} parameters here, the mask {{mask_small_n:,}}. From this figure nobody can say whether the design or the size made the
# difference.
#
# Two rows are worth comparing. The mask alone reaches {{mask_alone_score_frac:.2f}}, and the mask as $1 + M$ reaches {{one_plus_mask_score_frac:.2f}} of at most
# {{one_plus_mask_limit_frac:.2f}}. Has it not found the mouth? It has: take its $M$ without the 1, and the agreement is {{without_one_frac:.2f}} (the diamonds). The 1 keeps the rest of
# the face in the map. According to the paper this is what the sum is for ({row:RM-masking-formula}).

# %% tags=["hide-input"]
with torch.no_grad():
    factors = {
        name: blocks[0].factor(maps[[one]]).expand(1, 6, 26, 26)[0]
        for name, blocks in trained.items()
    }
with plots.style():
    picture = plots.Figure(figsize=(7.9, 2.9), layout="constrained")
    axes = picture.subplots(2, 7)
    shown = {"wanted": mouths[one].expand(6, 26, 26), **factors}
    for ax, (name, g) in zip(axes.T, shown.items(), strict=True):
        colours = ax[0].imshow(g.mean(0), cmap="viridis", vmin=0, vmax=2)
        ax[0].contour(mouths[one, 0], levels=[0.5], colors="white", linewidths=0.8)
        out = ((g * maps[one]) ** 2).sum(0)
        ax[1].imshow((out / out.sum()).sqrt(), cmap="gray", vmin=0, vmax=0.2)
        ax[0].set_title(name, fontsize=9, loc="center")
        for panel in ax:
            panel.set(xticks=[], yticks=[])
    axes[0, 0].set_ylabel("factor", fontsize=9)
    axes[1, 0].set_ylabel("what comes out", fontsize=9)
    picture.colorbar(colours, ax=axes[0], ticks=[0, 1, 2], fraction=0.02, pad=0.01)
figure(
    picture,
    "faces",
    "One face that no block was trained on. Above: the factor, averaged over channels,"
    " on one scale from 0 to 2. Below: where the energy of"
    " what comes out lies (square root of each place's share, all on one scale).",
    "Seven columns: the mouth as wanted, and six blocks with factor and output.",
)

# %% [markdown]
# This is how to read such pictures. One flat colour: a gate per channel, the face stays whole. A dark picture with a bright mouth: a gate
# that erases. Stripes: rows and columns. Bright everywhere, brighter at the mouth: $1 + {}$ something. Remember two traps. The mean over channels hides a softmax over
# channels completely ({fig:softmax}). And a picture that is stretched to its own darkest and brightest value makes small differences look large.
#
# ## 10 · In the papers of this book
#
# Five of the six blocks are used in a paper that this book takes apart: SE in ResEmoteNet [@resemotenet], CBAM in diversified feature learning [@diversity], the mask in the
# Residual Masking Network, coordinate attention and spatial bias in LFNSB. BAM is in one of the networks that the Residual Masking paper compares with. You can now read
# these six rows of their ledgers. "See A1" or "See A2" means a longer entry with this number on the same ledger's page. "[19]" is the number of CBAM in that paper's own list of references.

# %%
ledger_table("resemotenet", "se-reduction")

# %%
ledger_table("diversity", "cbam")

# %%
ledger_table("resmasking", "mask-activation", "channel-mean")

# %%
ledger_table("lfnsb", "coordinate-attention", "spatial-bias")

# %% [markdown]
# ## Exercises
#
# **Exercise 1 (by hand).** The mouth holds one tenth of a map's energy. How much agreement can BAM reach at most?

# %%
answer_1 = None

# %% tags=["hide-input"]
check("limit of BAM", answer_1, 0.4 / 1.3, tolerance=1e-3, hint="2 inside, 1 outside.")

# %% [markdown]
# <details><summary>Hint</summary>
#
# The best factor is 2 in the mouth and 1 elsewhere. Energy grows with the square.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# p = 0.1
# answer_1 = 4 * p / (1 + 3 * p)
# ```
#
# Twice the strength is four times the energy: 0.4 inside beside 0.9 outside, so the mouth now holds 0.4 / 1.3 = 0.31 of the energy, and for an output that keeps the
# mouth's own form the agreement is that share. Three such blocks in a row would reach 64 · 0.1 / (6.4 + 0.9) = 0.88.
#
# </details>
#
# **Exercise 2 (change the code).** Coordinate attention can't tell a smile from a frown, because no row knows its number. Give it one: write a class `Placed` whose
# `factor` adds the row's number to the row means before the shared convolution. What does `verdict` say now for the smile and the frown?

# %%
answer_2 = None  # "same", "moves along" or "told apart"


# %% tags=["hide-input"]
class _Placed(Coordinate):
    def factor(self, x):
        numbers = torch.arange(x.shape[2])[:, None] / x.shape[2]
        g = torch.sigmoid(self.for_rows(self.shared(x.mean(3, keepdim=True) + numbers)))
        columns = self.shared(x.mean(2, keepdim=True))
        return g * torch.sigmoid(self.for_columns(columns))


expected_2 = verdict(lambda: _Placed(8, 8), PAIRS["smile or frown"])
check("verdict", answer_2, expected_2, hint="Compare it with verdict(Coordinate ...).")

# %% [markdown]
# <details><summary>Hint</summary>
#
# `torch.arange(H)[:, None] / H` has the shape (H, 1), and so fits the row means (B, C, H, 1).
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# class Placed(Coordinate):
#     def factor(self, x):
#         numbers = torch.arange(x.shape[2])[:, None] / x.shape[2]
#         rows = self.shared(x.mean(3, keepdim=True) + numbers)
#         columns = self.shared(x.mean(2, keepdim=True))
#         return torch.sigmoid(self.for_rows(rows)) * torch.sigmoid(self.for_columns(columns))
#
# answer_2 = verdict(lambda: Placed(8, 8), PAIRS["smile or frown"])
# ```
#
# Told apart. Equal rows at different heights now get different gates, so it matters which of the two mouth rows lies above. The smirks stay the same to it for
# another reason: to tell them, columns and rows would have to be read together.
#
# </details>
#
# **Exercise 3 (paper and code).** The first masking block of the Residual Masking Network has 64 channels. Suppose that at one place the softmax of the released
# code gives 0.4 to one channel, and the same to each of the others. By how many percent does $1 + M$ strengthen each of these others there? And if the sigmoid of the drawing is
# used, what is the most by which it could strengthen the *mean* over all 64 channels? Answer with a list of two numbers.

# %%
answer_3 = None

# %% tags=["hide-input"]
expected_3 = [60 / 63, 100]
check("percent", answer_3, expected_3, tolerance=0.01, hint="The softmax sums to 1.")

# %% [markdown]
# <details><summary>Hint</summary>
#
# The softmax gives 64 numbers that sum to 1. A sigmoid's numbers are each below 1, alone.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# answer_3 = [60 / 63, 100]
# ```
#
# The other 63 channels share the 0.6 that is left: 0.95 % each. What one channel gets, the others lose, so the mean stays at 1/64. The sigmoid has no such sum to
# keep: every channel may come near 100 %, and so may their mean.
#
# </details>
#
# ## What you found
#
# - A smile and a frown with the same channel means get the same gates from squeeze and excitation, {{se_eyes_frac:.2f}} and {{se_mouth_frac:.2f}} with the weights of our
#   example. After training it guessed, like a network without any block.
# - Before any training, {{blind_n}} of 28 cells (seven networks, four puzzles) could be called hopeless. Training agreed: at most {{blind_high_frac:.1%}} there, at least
#   {{seeing_low_frac:.1%}} elsewhere.
# - Coordinate attention sees that two rows differ, and not which one is above. On a ring, CBAM, BAM and the mask can't tell our low face from the
#   high one, two rows above it, but all three still tell the smile from the frown. The mask also tells a shift by one row there, because it pools rows in pairs.
# - The mean of a channel softmax is constant, the mask itself is not: in our example it varied by {{softmax_mouth_spread_frac:.2f}} from place to place.
# - On drawn faces a mask that was free to erase agreed with the mouth by {{mask_alone_score_frac:.2f}}. Behind $1 + M$ even a mask that knows the mouth gets
#   no further than {{one_plus_mask_limit_frac:.2f}}, on average over the {{held_out_n}} faces.
#
# Next, [notebook 10](10_resemotenet.ipynb): a published network with one such gate, and what happens when it is left out.

# %%
footer()
