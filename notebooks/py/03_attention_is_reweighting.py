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
# *Six blocks with six names, one formula: what each can say, what it cannot, and how to see it on a face.*
#
# Papers on faces add blocks called squeeze-and-excitation, CBAM, BAM, coordinate attention, masks, spatial bias. Each comes with a
# drawing of its own and the same promise: the network attends to what matters. All but one do the same thing. They multiply a map
# by numbers computed from that map. The names differ in one respect that is easy to check: **the shape of those numbers**.
#
# ## Objectives
#
# 1. write an attention block as a factor times a map, and read from the factor's shape what it can say
# 2. compute the factor of each block by hand on a map of two channels and four places
# 3. tell channel gates, place gates, row and column gates, masks and spatial bias apart by their pictures
# 4. say what a block can erase, and what changes between sigmoid and softmax, `m` and `1 + m`
# 5. predict which shuffles of a map a block ignores, follows or notices
# 6. test whether a block helps, on a task that needs it, with several seeds
#
# **You need** convolutions, channels and a training loop ([notebook 02](02_training_loop_by_hand.ipynb)).

# %% tags=["parameters"]
PROFILE = "teach"  # smoke (seconds) or teach (minutes on a laptop)
SEED = 0

# %%
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from ferkit import plots
from ferkit.synthetic.faces import make_faces
from ferkit.explain import capture
from ferkit.evaluation.metrics import mean_interval
from ferkit.models import count_parameters
from ferkit.models.attention import BAM, CBAM, ChannelGate, CoordinateAttention, SpatialBias, SqueezeExcite
from ferkit.models.resmasking import MaskingBlock
from ferkit.notebook import check, footer, ledger_table, profile, record
from ferkit.widgets import explore

S = profile(
    PROFILE,
    smoke=dict(faces=64, face_steps=8, n_train=800, n_test=400, steps=15, seeds=2),
    teach=dict(faces=192, face_steps=300, n_train=8000, n_test=1000, steps=300, seeds=3),
)


def canvas(rows, columns, width, height):
    """A figure in the workbook's style and its panels (rows, columns)."""
    figure = plots.Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


def numbers(tensor):
    """A tensor as nested lists, three digits."""
    return np.round(tensor.detach().double().numpy(), 3).tolist()


# %% [markdown]
# ## 1 · One formula
#
# A network's **map** $x$ has $C$ channels, each with $H \times W$ places. An attention block computes a **factor** $g$ from $x$ and
# multiplies:
#
# $$y_{c,i,j} = g_{c,i,j}\; x_{c,i,j}, \qquad g = g(x)$$
#
# A factor whose values lie between 0 and 1 is called a **gate**. Most blocks do not compute all $C \cdot H \cdot W$ numbers: they
# compute fewer and repeat them. What is repeated cannot be told apart.


# %%
def shapes():
    """A factor for 3 channels of 4 x 4 places, for each of four shapes; equal numbers have equal colours."""
    pick = torch.Generator().manual_seed(3)
    row, column = torch.rand(3, 4, 1, generator=pick), torch.rand(3, 1, 4, generator=pick)
    examples = {
        "(C, 1, 1)\none number per channel": torch.tensor([0.9, 0.2, 0.5]).reshape(3, 1, 1).expand(3, 4, 4),
        "(1, H, W)\none per place": torch.rand(1, 4, 4, generator=pick).expand(3, 4, 4),
        "(C, H, 1) · (C, 1, W)\nrow times column": row * column,
        "(C, H, W)\none per channel and place": torch.rand(3, 4, 4, generator=pick),
    }
    with plots.style():
        figure, axes = canvas(3, 4, 7.4, 4.2)
        for ax, (title, g) in zip(axes.T, examples.items(), strict=True):
            for c in range(3):
                ax[c].imshow(g[c], cmap="viridis", vmin=0, vmax=1)
                ax[c].set(xticks=[], yticks=[])
            ax[0].set_title(title, fontsize=8.5, loc="center")
        for c in range(3):
            axes[c, 0].set_ylabel(f"channel {c}")
    return figure


shapes()

# %% [markdown]
# Dark is near 0, bright near 1. The first shape says *which channel* and cannot say where. The second says *where* and treats all
# channels alike. The third says for each channel which rows and which columns; it makes blocks and crosses, no diagonals. The last
# says everything.
#
# > **Question.** Below are the blocks of the papers in this workbook, all for a map of 64 channels and 16 × 16 places. By what
# > factor do you expect their sizes to differ? (The smallest is written out first.)


# %% tags=["same-as:ferkit.models.attention.SpatialGate"]
class SpatialGate(nn.Module):
    """CBAM's gate over places, as an example of the family; section 3 works it out by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, 7, padding=3, bias=False)
        self.bn = nn.BatchNorm2d(1, momentum=0.01)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, 1, H, W)."""
        pair = torch.cat([x.max(1, keepdim=True).values, x.mean(1, keepdim=True)], 1)  # (B, 2, H, W)
        return torch.sigmoid(self.bn(self.conv(pair)))  # (B, 1, H, W)


# %%
class Times(nn.Module):
    """x times (plus + what `inner` gives): plus = 0 multiplies by a gate, plus = 1 adds what the gate lets through."""

    def __init__(self, inner, plus=0):
        super().__init__()
        self.inner, self.plus = inner, plus

    def forward(self, x):
        return x * (self.plus + self.inner(x))


def blocks(channels, hidden, depth=2):
    """Every block of this notebook for maps of some channels; `hidden` is the inner width of squeeze-and-excitation."""
    return {
        "SE": lambda: SqueezeExcite(channels, hidden=hidden),
        "CBAM: channels": lambda: Times(ChannelGate(channels)),
        "CBAM: places": lambda: Times(SpatialGate()),
        "CBAM": lambda: CBAM(channels),
        "BAM": lambda: BAM(channels),
        "coordinate": lambda: CoordinateAttention(channels),
        "mask, sigmoid": lambda: Times(MaskingBlock(channels, depth, mask="sigmoid")),
        "1 + mask, sigmoid": lambda: Times(MaskingBlock(channels, depth, mask="sigmoid"), plus=1),
        "1 + mask, softmax": lambda: Times(MaskingBlock(channels, depth), plus=1),
        "spatial bias": lambda: SpatialBias(channels, biases=channels),
    }


# %% tags=["nbval-check-output"]
SHAPE = {
    "SE": "(C,1,1)", "CBAM: channels": "(C,1,1)", "CBAM: places": "(1,H,W)", "CBAM": "(C,1,1) then (1,H,W)",
    "BAM": "(C,1,1) and (1,H,W)", "coordinate": "(C,H,1) and (C,1,W)", "spatial bias": "no factor: (n,2,2) beside x",
}  # fmt: skip
costs = {}
with torch.device("meta"):  # counts without computing
    for name, make in blocks(64, 4).items():
        block = make().eval()
        with FlopCounterMode(display=False) as counter:
            block(torch.zeros(1, 64, 16, 16))
        costs[name] = (count_parameters(block), counter.get_total_flops() // 2)
        shape = SHAPE.get(name, "(C,H,W)")
        print(f"{name:18} {shape:28} {costs[name][0]:9,} parameters {costs[name][1]:12,} multiply-adds")
record("se_parameters_n", costs["SE"][0])
record("place_gate_parameters_n", costs["CBAM: places"][0])
record("mask_to_se_parameters_ratio", costs["1 + mask, softmax"][0] / costs["SE"][0])

# %% [markdown]
# Multiply-adds are those of convolutions and linear layers. CBAM's gate over places has 98 weights and the two numbers of a batch
# normalisation, for any number of channels. A mask of depth 2 is a network of its own, some thousand times the size of a squeeze-and-excitation
# block. In a comparison "with and without attention", that is not a detail: more parameters may help whatever they are called.
#
# For the rest of the notebook, one toy map: two channels, four places. Channel 0 lives in the upper row, channel 1 in the lower.

# %% tags=["nbval-check-output"]
toy = torch.tensor([[[1.0, 3.0], [0.0, 0.0]], [[0.0, 0.0], [4.0, 8.0]]])[None]  # (1, 2, 2, 2)
print("channel 0", toy[0, 0].tolist(), " mean", toy[0, 0].mean().item(), " maximum", toy[0, 0].max().item())
print("channel 1", toy[0, 1].tolist(), " mean", toy[0, 1].mean().item(), " maximum", toy[0, 1].max().item())

# %% [markdown]
# ## 2 · Over channels: squeeze-and-excitation
#
# $$z_c = \text{mean of channel } c, \qquad g = \sigma\big(W_2\,\mathrm{ReLU}(W_1 z)\big)$$
#
# **Squeeze** [@senet]: each channel becomes one number, its mean. **Excite**: two small linear layers look at all means together. $\sigma$ is
# the **sigmoid** $1/(1+e^{-v})$; it makes any number a gate.
#
# **By hand.** Means are 1 and 3. With $W_1 = (-1, 1)$ and $W_2 = (-1, 1)^T$ the hidden unit is $\mathrm{ReLU}(3 - 1) = 2$, and the
# gates are $\sigma(-2)$ and $\sigma(2)$: the stronger channel closes the weaker one.

# %% tags=["nbval-check-output"]
se = SqueezeExcite(2, hidden=1)
with torch.no_grad():
    se.fc[0].weight.copy_(torch.tensor([[-1.0, 1.0]]))
    se.fc[2].weight.copy_(torch.tensor([[-1.0], [1.0]]))
with capture(se, "gate") as seen:
    se(toy)
by_hand = torch.sigmoid(torch.tensor([-2.0, 2.0]))
print("by hand     ", numbers(by_hand))
print("by the layer", numbers(seen["gate"].flatten()), " shape", tuple(seen["gate"].shape[1:]))
assert torch.allclose(by_hand, seen["gate"].flatten())


# %%
def gates_of_means(mean_0=1.0, mean_1=3.0, first_weight=1.0, second_weight=1.0):
    """The two gates of the toy block for chosen means and weights."""
    hidden = max(0.0, first_weight * (mean_1 - mean_0))
    gates = torch.sigmoid(second_weight * hidden * torch.tensor([-1.0, 1.0]))
    return plots.gate_bars(gates, title=f"hidden unit {hidden:.1f}, gates {gates[0]:.2f} and {gates[1]:.2f}")


weights = (0.0, 3.0, 0.5)
explore(gates_of_means, mean_0=(0.0, 6.0, 0.5), mean_1=(0.0, 6.0, 0.5), first_weight=weights, second_weight=weights)

# %% [markdown]
# Set both means equal: the hidden unit is 0 and the gates are one half, whatever the second weight. Note what the block has *not*
# seen: where in its channel a value stood. In [notebook 10](10_resemotenet.ipynb) it sits once in the network:

# %%
ledger_table("resemotenet", "se-placement", "se-reduction", "se-bias")

# %% [markdown]
# ## 3 · Over places: CBAM and BAM
#
# CBAM [@cbam] has two gates, one after the other. Its **channel gate** is squeeze-and-excitation with a second look: the same two
# layers read the means *and* the maxima, and the results are added. A single strong place moves a maximum at once and a mean hardly.
#
# Its **place gate** does the same with the roles exchanged: at each place it takes the maximum and the mean *over the channels*,
# which leaves two pictures, and runs a 7 × 7 convolution over them:
#
# $$g_{i,j} = \sigma\big(\mathrm{BN}(\mathrm{conv}_{7\times7}[\max_c x, \mathrm{mean}_c x])\big)$$
#
# **By hand**, with all weights of the convolution 0 but the middle one for the mean, which is 1: the gate is $\sigma$ of the mean
# over the two channels. (Batch normalisation, in use and untrained, changes nothing worth seeing.)

# %% tags=["nbval-check-output"]
channel_gate = ChannelGate(2).eval()  # has four hidden units; we use one
place_gate = SpatialGate().eval()
with torch.no_grad():
    for parameter in (*channel_gate.parameters(), place_gate.conv.weight):
        parameter.zero_()
    channel_gate.mlp[0].weight[0] = torch.tensor([-1.0, 1.0])
    channel_gate.mlp[2].weight[:, 0] = torch.tensor([-1.0, 1.0])
    place_gate.conv.weight[0, 1, 3, 3] = 1

means, maxima = 3 - 1, 8 - 3  # hidden units: from the means 1 and 3, from the maxima 3 and 8
by_hand = torch.sigmoid(torch.tensor([-1.0, 1.0]) * (means + maxima))
by_layer = channel_gate(toy).flatten()
print("channels: by hand", numbers(by_hand), " by the layer", numbers(by_layer))
assert torch.allclose(by_hand, by_layer)

by_hand = torch.sigmoid(torch.tensor([[0.5, 1.5], [2.0, 4.0]]))
by_layer = place_gate(toy)[0, 0]
print("places:   by hand", numbers(by_hand), " by the layer", numbers(by_layer))
assert torch.allclose(by_hand, by_layer, atol=1e-4)

# %% [markdown]
# **BAM** [@bam] lays both kinds side by side instead of one after the other, joins them *before* one common sigmoid, and then adds
# the result to the map:
#
# $$y = x \cdot \big(1 + \sigma(M_c \cdot M_s)\big)$$
#
# $M_c$ has a number per channel, $M_s$ one per place, and a product of the two one per channel and place. (The paper adds the two
# branches under the sigmoid; the network that the Residual Masking paper compares with multiplies them, and so do we.) From the
# branches, by hand:

# %%
torch.manual_seed(SEED)
bam = BAM(2).eval()
with capture(bam, ["channel_gate", "spatial_gate"]) as seen, torch.no_grad():
    y = bam(toy)
by_hand = toy * (1 + torch.sigmoid(seen["channel_gate"] * seen["spatial_gate"]))
print("by hand", numbers(by_hand[0]), "\nby the layer", numbers(y[0]))
assert torch.allclose(by_hand, y)

# %% [markdown]
# Where the papers of this workbook use them: CBAM in every layer of an ensemble ([@diversity]), BAM and CBAM as rivals in a table.

# %%
ledger_table("diversity", "cbam")

# %%
ledger_table("resmasking", "T2.bam", "T2.cbam")

# %% [markdown]
# ## 4 · Over rows and columns: coordinate attention
#
# Coordinate attention [@coordinate] takes two kinds of means: of each row, and of each column. Both
# go through the same 1 × 1 convolution, normalisation and **h-swish** $v \cdot \min(\max(v+3, 0), 6)/6$, and then each through its
# own convolution and sigmoid. The factor at a place is its row's gate times its column's gate, for each channel.
#
# **By hand**, all convolutions set to pass every channel on unchanged. Row means are (2, 0) in channel 0 and (0, 6) in channel 1.


# %% tags=["nbval-check-output"]
def hswish(v):
    """As in the text."""
    return v * (v + 3).clamp(0, 6) / 6


coordinate = CoordinateAttention(2, hidden=2).eval()
with torch.no_grad():
    for conv in (coordinate.conv1, coordinate.conv_height, coordinate.conv_width):
        conv.weight.copy_(torch.eye(2)[:, :, None, None])
        conv.bias.zero_()
row_gates = hswish(torch.tensor([[2.0, 0.0], [0.0, 6.0]])).sigmoid()  # (C, H)
column_gates = hswish(torch.tensor([[0.5, 1.5], [2.0, 4.0]])).sigmoid()  # (C, W)
by_hand = toy[0] * row_gates[:, :, None] * column_gates[:, None, :]
by_layer = coordinate(toy)[0]
print("row gates", numbers(row_gates), " column gates", numbers(column_gates))
print("by hand     ", numbers(by_hand))
print("by the layer", numbers(by_layer))
assert torch.allclose(by_hand, by_layer, atol=1e-3)

# %%
ledger_table("lfnsb", "coordinate-attention")

# %% [markdown]
# ## 5 · Masks: one number per channel and place
#
# The masking block of the Residual Masking Network [@resmasking] is a small U-Net: it shrinks the map, enlarges it again, and
# gives a tensor $z$ of the map's own shape. Two decisions make a mask of it. First, **how $z$ becomes a mask** $m$ in [0, 1]:
#
# | | formula | sums to 1 over |
# |---|---|---|
# | sigmoid | $1/(1+e^{-z})$ | nothing; each number is alone |
# | softmax over channels | $e^{z_{c,i,j}} / \sum_{k} e^{z_{k,i,j}}$ | the channels of each place |
# | softmax over places | $e^{z_{c,i,j}} / \sum_{p,q} e^{z_{c,p,q}}$ | the places of each channel |
#
# Second, **how the mask is used**: $m \cdot x$, or $(1 + m) \cdot x$, the residual form.
#
# > **Question.** Take the softmax over channels, and average the mask over the channels to get a picture of *where* it looks. What
# > will the picture show?


# %%
def masks(activation="softmax over channels", strength=1.0):
    """The toy map as z, times a strength; its mask, and the mask's mean over the channels."""
    z = strength * toy[0]
    m = {
        "sigmoid": z.sigmoid(),
        "softmax over channels": z.softmax(0),
        "softmax over places": z.flatten(1).softmax(1).view_as(z),
    }[activation]
    with plots.style():
        figure, axes = canvas(1, 5, 8.8, 2.2)
        panels = {"z, channel 0": z[0], "z, channel 1": z[1]}
        panels |= {"mask, channel 0": m[0], "mask, channel 1": m[1], "mean of the mask": m.mean(0)}
        for ax, (title, values) in zip(axes[0], panels.items(), strict=True):
            ax.imshow(values, cmap="viridis", vmin=0, vmax=8 * strength if title.startswith("z") else 1)
            for (i, j), v in np.ndenumerate(values.numpy()):
                white = dict(facecolor="white", edgecolor="none", pad=1)
                text = f"{v:.3f}" if title[0] == "m" else f"{v:g}"
                ax.text(j, i, text, ha="center", va="center", fontsize=7.5, bbox=white)
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
            ax.set_title(title, loc="center", fontsize=9)
        figure.suptitle(activation)
    return figure


explore(masks, activation=["softmax over channels", "sigmoid", "softmax over places"], strength=(0.5, 2.0, 0.5))

# %% [markdown]
# One half at every place: a constant. It must be so, since two numbers that sum to 1 have the mean ½ (and $C$ of them $1/C$). Such a
# mask shares out weight among the channels of one place and cannot prefer a place. The other two can. The by-hand numbers, and the
# real block:

# %%
torch.manual_seed(SEED)
by_hand, by_layer = np.e / (np.e + 1), toy[0].softmax(0)[0, 0, 0].item()
print(f"softmax(1, 0), first number: by hand {by_hand:.3f}, by the layer {by_layer:.3f}")
spread = {}
for kind in ("channel_softmax", "sigmoid", "spatial_softmax"):
    block = MaskingBlock(8, 2, mask=kind).eval()
    for parameter in block.parameters():  # as if trained: the released start gives normalisations the weight 0
        nn.init.normal_(parameter, std=0.3)
    with torch.no_grad():
        m = block(torch.rand(1, 8, 16, 16))
    spread[kind] = float(m.mean(1).max() - m.mean(1).min())
    print(f"{kind:16} values {m.min():.4f} to {m.max():.4f}, channel mean differs between places by {spread[kind]:.1e}")
record("channel_mean_spread_frac", spread["channel_softmax"])

# %% [markdown]
# The last unit of the block ends in a ReLU, so $z \ge 0$, and a sigmoid of that is ½ at least: even `mask="sigmoid"` halves and does
# not erase. Three voices on this block:

# %%
ledger_table("resmasking", "masking-formula", "mask-activation", "channel-mean")

# %% [markdown]
# ### What can a block erase?
#
# With $0 < g < 1$ a block weakens, almost down to nothing, and never strengthens. With $1 + m$ it strengthens, up to twice, and
# never weakens. So the residual form leaves everything in the map; the *contrast* between two places is a factor of 2 at most. To
# see what is reachable we blow up random weights and note the smallest and the largest factor, dividing what comes out by what went in.


# %%
def factor(block, x):
    """What the map was multiplied with; x must have no zeros."""
    return block(x) / x


def shaken(make, scale, seed=0):
    """A block with random parameters of some size, in use; normalisations keep their weights positive."""
    torch.manual_seed(seed)
    block = make().eval()
    with torch.no_grad():
        for name, parameter in block.named_parameters():
            parameter.copy_(torch.randn_like(parameter) * scale)
            if name.endswith("bn.weight"):
                parameter.abs_()
    return block


ranges = {}
for name, make in list(blocks(8, 8).items())[:-1]:
    with torch.no_grad():
        tried = torch.stack([factor(shaken(make, 3.0, seed), 0.1 + torch.rand(4, 8, 16, 16)) for seed in range(6)])
    ranges[name] = (tried.min().item(), tried.max().item())
    print(f"{name:18} factors from {ranges[name][0]:.3f} to {ranges[name][1]:.3f}")
record("smallest_residual_factor_ratio", ranges["1 + mask, softmax"][0])
record("smallest_gate_factor_frac", ranges["SE"][0])

# %% [markdown]
# ## 6 · Spatial bias: beside the map, not times it
#
# The odd one out. Spatial bias [@spatialbias] multiplies nothing. A 1 × 1 convolution mixes the channels, the result is averaged
# over a coarse grid (here 2 × 2, four quarters of the picture), and a short convolution mixes those averages. The few numbers that come out go *beside* the
# map or its features, to be read by the classifier. A factor can change what is there; this **adds** something that was not: which
# quarter of the picture holds what.
#
# **By hand**, one grid place: a channel of mean 3 and a 1-D convolution that copies. **By the layer:**

# %% tags=["nbval-check-output"]
bias = SpatialBias(2, biases=1, grid=1).eval()
with torch.no_grad():
    bias.reduce.weight.copy_(torch.tensor([[0.0, 1.0]] * 3)[:, :, None, None])  # three copies of channel 1
    bias.mix.weight.copy_(torch.tensor([[[0.0, 1.0, 0.0]]]))  # take the middle one
    bias.mix.bias.zero_()
print("by hand", 3.0, " by the layer", round(bias(toy).item(), 3), " shape", tuple(bias(toy).shape[1:]))
assert abs(bias(toy).item() - 3) < 1e-3

# %%
ledger_table("lfnsb", "spatial-bias", "spatial-bias-size")

# %% [markdown]
# ## 7 · Side by side on one face
#
# Gates of a trained network are hard to read, because nobody knows what is in its channels. So we make the map ourselves: six
# filters that a reader can name, on a drawn face of 64 pixels, at 26 × 26 places.

# %%
DETECTORS = ("dark above bright", "bright above dark", "dark left of bright", "bright left of dark")
DETECTORS += ("darker than around", "brighter than around")


def detect(images):
    """Grey pictures (N, 64, 64) to six maps (N, 6, 32, 32), none negative."""
    x = F.avg_pool2d(torch.as_tensor(images)[:, None] / 255, 2)
    down = torch.tensor([[-1.0, -2, -1], [0, 0, 0], [1, 2, 1]]) / 4
    kernels = torch.stack([down, -down, down.T, -down.T])[:, None]
    edges = F.conv2d(F.pad(x, [1] * 4, mode="replicate"), kernels)
    contrast = 2 * (x - F.avg_pool2d(F.pad(x, [3] * 4, mode="replicate"), 7, stride=1))
    return 3 * torch.cat([edges, -contrast, contrast], 1).relu() + 0.001  # no zeros: we want to divide by it


drawn = make_faces(S.faces, size=64, seed=SEED + 3, difficulty="easy", masks=True)
pick = torch.Generator().manual_seed(SEED)
corners = list(zip(torch.randint(3, 7, (S.faces,), generator=pick), torch.randint(0, 7, (S.faces,), generator=pick), strict=True))


def cut(maps):
    """Windows of 26 x 26, at a random place for each face, so that no face part has a fixed place."""
    return torch.stack([m[..., r : r + 26, c : c + 26] for m, (r, c) in zip(maps, corners, strict=True)])


features = cut(detect(drawn.images))  # (N, 6, 26, 26)
regions = {}  # (N, 26, 26) each
for part in ("mouth", "eyes", "brows"):
    regions[part] = cut(F.max_pool2d(torch.as_tensor(drawn.masks[part]).float(), 2))
one = int(np.flatnonzero(drawn.labels == drawn.names.index("happiness"))[0])
pictures = [np.asarray(cut(torch.as_tensor(drawn.images)[:, ::2, ::2])[one])]
pictures += [(255 * features[one, c] / features[one].max()).byte().numpy() for c in range(6)]
plots.face_grid(pictures, ["the window", *(name.replace(" ", "\n", 1) for name in DETECTORS)], columns=7, size=1.3)

# %% [markdown]
# ### What a shape could say
#
# Suppose we want only a part of this map, and may choose the factor *freely*, as long as it has the right shape. How near can we get?
# As the score take the **agreement** of what comes out, $y$, with what is wanted, $t$: the squared cosine of the angle between
# them, $\langle y,t\rangle^2 / (\lVert y\rVert^2 \lVert t\rVert^2)$. It is 1 when $y$ is $t$ times a number, so no block is punished for its scale.
# Passing $x$ on unchanged scores the share of $x$'s energy that is wanted.
#
# The best factor of a shape is a least-squares problem: $g = \sum x\,t / \sum x^2$, sums over whatever shares one number; for rows times columns,
# one after the other until nothing changes.
#
# > **Question.** We want the mouth in all channels. What is the best that one number per channel can do: about half, or little?


# %%
def agreement(y, t):
    """Squared cosine of two maps (..., C, H, W)."""
    return (y * t).sum((-1, -2, -3)) ** 2 / ((y**2).sum((-1, -2, -3)) * (t**2).sum((-1, -2, -3)) + 1e-12)


def best_factor(x, t, shape):
    """The factor of a shape that brings x (C, H, W) nearest to t; 0 <= t <= x."""
    if shape == "channel, place":
        return t / x
    if shape != "row, column":
        over = {"nothing": (0, 1, 2), "channel": (1, 2), "place": (0,)}[shape]
        return ((x * t).sum(over, keepdim=True) / (x * x).sum(over, keepdim=True)).expand_as(x)
    column = torch.ones_like(x[:, :1])  # (C, 1, W)
    for _ in range(30):
        row = (x * t * column).sum(2, keepdim=True) / (x * column).pow(2).sum(2, keepdim=True).clamp(min=1e-9)
        column = (x * t * row).sum(1, keepdim=True) / (x * row).pow(2).sum(1, keepdim=True).clamp(min=1e-9)
    return (row * column).clamp(max=1)


x = features[one]
part = {k: m[one].expand_as(x) for k, m in regions.items()}
middle = int(torch.nonzero(regions["mouth"][one].sum(0)).float().mean().round())  # the column of the mouth's middle
left, right = (torch.arange(26) < middle).float(), (torch.arange(26) >= middle).float()
only = torch.eye(6)[:, :, None, None]
WANTED = {
    "darker spots, everywhere": x * only[4],
    "the mouth": x * part["mouth"],
    "left eye, right half of the mouth": x * (part["eyes"] * left + part["mouth"] * right).clamp(max=1),
    "brows in channel 1, mouth in channel 4": x * (only[1] * part["brows"] + only[4] * part["mouth"]),
}
KINDS = ("nothing", "channel", "place", "row, column", "channel, place")
print(f"{'agreement with the best factor per':40}" + "".join(f"{kind:>15}" for kind in KINDS))
limits = {}
for wanted, t in WANTED.items():
    limits[wanted] = {kind: agreement(x * best_factor(x, t, kind), t).item() for kind in KINDS}
    print(f"{wanted:40}" + "".join(f"{limits[wanted][kind]:15.2f}" for kind in KINDS))
record("mouth_by_channels_frac", limits["the mouth"]["channel"])
record("mouth_by_rows_frac", limits["the mouth"]["row, column"])


# %%
def best_on_the_face(wanted="left eye, right half of the mouth"):
    """What is wanted, and the nearest that each shape can come: factor (mean over channels) and what comes out."""
    t = WANTED[wanted]
    with plots.style():
        figure, axes = canvas(2, 5, 8.6, 3.9)
        for ax, kind in zip(axes.T, ("wanted", *KINDS[1:]), strict=True):
            g = t / x if kind == "wanted" else best_factor(x, t, kind)
            ax[0].imshow(g.mean(0), cmap="viridis", vmin=0, vmax=g.mean(0).max())
            out = ((g * x) ** 2).sum(0).sqrt()
            ax[1].imshow(out / out.max(), cmap="gray", vmin=0, vmax=0.8)
            score = "" if kind == "wanted" else f"\nagreement {limits[wanted][kind]:.2f}"
            ax[0].set_title(f"{kind}{score}", fontsize=8.5, loc="center")
        axes[0, 0].set_ylabel("factor")
        axes[1, 0].set_ylabel("what comes out")
        for ax in axes.flat:
            ax.set(xticks=[], yticks=[])
    return figure


explore(best_on_the_face, wanted=list(WANTED))

# %% [markdown]
# Little: with one number per channel the mouth hardly gains, because every kind of edge is found elsewhere too. One per place is perfect for a
# place, and fails when channels are wanted at different places. Rows times columns is good at one block. Two blocks on a diagonal
# cost it: the same rows and columns also cross at the two other corners, so it lights ghosts there or dims what was wanted. No training can change any
# of this; it follows from the shape alone.
#
# ### What a block finds
#
# The best factor knew the answer. A block must compute it from $x$. **Untrained**, on this face:

# %%
torch.manual_seed(SEED)
make = blocks(6, 6)
multiplying = [name for name in make if name != "spatial bias"]
for name in multiplying:
    g = factor(make[name]().eval(), features[one][None]).detach()
    print(f"{name:18} factors {g.min():.2f} to {g.max():.2f}, mean {g.mean():.2f}")

# %% [markdown]
# An untrained gate is around ½ (two in a row ¼); an untrained residual block adds nearly the same everywhere, and with a softmax over six
# channels that is $1/6$. Pictures of attention from such a block show the map and nothing else. So we train each block alone, on many faces, to keep the mouth: the loss is one minus the agreement with the mouth's
# part. The faces stand at different places in their windows, so the block has to find the mouth.

# %%
wanted = features * regions["mouth"][:, None]
held_out = slice(0, S.faces // 6)  # faces that no block is trained on
rest = torch.arange(S.faces)[S.faces // 6 :]
one = int(np.flatnonzero(drawn.labels[held_out] == drawn.names.index("happiness"))[0])
trained = {}
for name in multiplying:
    torch.manual_seed(SEED)
    block = make[name]()
    optimizer = torch.optim.AdamW(block.parameters(), lr=0.02, weight_decay=0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.02, total_steps=S.face_steps)
    for _ in range(S.face_steps):
        batch = rest[torch.randint(0, len(rest), (16,))]
        (1 - agreement(block(features[batch]), wanted[batch])).mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    trained[name] = block.eval()

with torch.no_grad():
    found = {name: agreement(block(features[held_out]), wanted[held_out]).mean().item() for name, block in trained.items()}
before = agreement(features[held_out], wanted[held_out]).mean().item()
print(f"{'the map as it is':18} {before:.2f}")
for name, score in found.items():
    print(f"{name:18} {score:.2f}")
record("mouth_share_before_frac", before)
record("mouth_found_by_coordinate_frac", found["coordinate"])


# %%
def side_by_side(face=one):
    """Each trained block on one face it was not trained on: factor over places, factor over channels, what comes out."""
    x = features[face][None]
    with plots.style():
        figure, axes = canvas(3, len(trained) + 1, 10.4, 4.4)
        columns = {"the map": None, **trained}
        for i, (ax, (name, block)) in enumerate(zip(axes.T, columns.items(), strict=True)):
            with torch.no_grad():
                g = torch.ones_like(x)[0] if block is None else factor(block, x)[0]
            ax[0].imshow(g.mean(0), cmap="viridis", vmin=0, vmax=g.mean(0).max())
            ax[0].contour(regions["mouth"][face], levels=[0.5], colors="white", linewidths=0.8)
            ax[1].bar(range(6), g.mean((1, 2)) / g.mean((1, 2)).max(), color=plots.COLOURS[0])
            ax[1].set(ylim=(0, 1), xticks=[], yticks=[0, 1] if i == 0 else [])
            out = ((g * x[0]) ** 2).sum(0).sqrt()
            ax[2].imshow(out / out.max(), cmap="gray", vmin=0, vmax=0.8)
            ax[0].set_title(name.replace(": ", ":\n").replace(", ", ",\n"), fontsize=7.5, loc="center")
            for image in (ax[0], ax[2]):
                image.set(xticks=[], yticks=[])
        for k, label in enumerate(("factor by place", "factor by\nchannel", "what comes out")):
            axes[k, 0].set_ylabel(label, fontsize=8)
    return figure


explore(side_by_side, face=list(dict.fromkeys([one, *range(min(8, S.faces // 6))])))

# %% [markdown]
# Above, the factor averaged over the channels, with the mouth's outline; in the middle, averaged over the places; below, what comes out.
# Each from 0 to its own largest value. This is how to tell them apart:
#
# - **one flat colour** above and uneven bars: channel gates. All they can do is prefer a kind of edge; the face stays whole.
# - **a picture** above and even bars: gates over places. CBAM as a whole may have both.
# - **stripes and blocks**, never a slanted line: coordinate attention, other ones in each channel.
# - **fine detail**: masks. Behind $1 + m$ nothing is dark: the rest of the face is still there, and likewise with BAM.
# - **flat, and yet at work**: the residual mask with a softmax over channels. Its mean over the channels is constant (section 5); what it
#   does shows in the bars and below.
#
# Spatial bias has no column, since it has no factor. And compare the scores with the limits of the first table: shapes that *could* keep the
# mouth perfectly do not, when a small block has to find it among edges.
#
# ## 8 · What does a block notice?
#
# Change a map and watch the factor. It can **ignore** the change (stay as it is), **follow** it (the factor of the changed map is the
# changed factor), or **notice** it (neither). This says what a block can know, without any training: nobody can learn to tell apart what
# the block ignores, and a block that follows every shift cannot know where anything is *in the picture*.
#
# > **Question.** Coordinate attention has positions in its name. Shuffle the rows of a map. Does it notice?

# %%
n, side = 4, 48
shuffle = torch.Generator().manual_seed(1)
places, rows = torch.randperm(side * side, generator=shuffle), torch.randperm(side, generator=shuffle)
upper, lower = (torch.randperm(side // 2, generator=shuffle) for _ in range(2))
in_half = torch.cat([upper, side // 2 + lower])
CHANGES = {
    "shuffle places": lambda x: x.flatten(2)[:, :, places].view_as(x),
    "shuffle rows": lambda x: x[:, :, rows],
    "shuffle rows in each half": lambda x: x[:, :, in_half],
    "mirror": lambda x: x.flip(3),
    "shift by 4": lambda x: x.roll((4, 4), (2, 3)),
    "shuffle channels": lambda x: x[:, [2, 0, 3, 1]],
}


def reaction(make, change, x, *, inner=slice(None)):
    """ignores, follows or notices, over several random blocks; only `inner` rows and columns are compared."""

    def result(block, x):
        y = block(x)
        return F.interpolate(y, x.shape[2:]) if isinstance(block, SpatialBias) else y / x

    def equal(a, b):
        return torch.allclose(a[:, :, inner, inner], b[:, :, inner, inner], atol=1e-4, rtol=1e-3)

    pairs = []
    with torch.no_grad():
        for seed in range(5):
            block = shaken(make, 1.0, seed)
            pairs.append((result(block, x), result(block, change(x))))
    if all(equal(new, old) for old, new in pairs):
        return "ignores"
    return "follows" if all(equal(new, change(old)) for old, new in pairs) else "notices"


sample = (0.5 + torch.rand(1, n, side, side, generator=shuffle)) * torch.tensor([1.0, 0.5, 2.0, 1.5])[:, None, None]
table = {}
for name, maker in blocks(n, n).items():
    table[name] = []
    for title, change in CHANGES.items():
        inner = slice(20, 28) if title == "shift by 4" else slice(None)
        table[name].append(reaction(maker, change, sample, inner=inner))
record("follows_n", sum(word == "follows" for row in table.values() for word in row))
with plots.style():
    figure, axes = canvas(1, 1, 8.2, 3.4)
    ax = axes[0, 0]
    shades = {"ignores": (0.91, 0.91, 0.91), "follows": (0.65, 0.80, 0.92), "notices": (0.97, 0.78, 0.64)}
    ax.imshow([[shades[word] for word in row] for row in table.values()], aspect="auto")
    for (i, j), word in np.ndenumerate(np.array(list(table.values()))):
        ax.text(j, i, word, ha="center", va="center", fontsize=8)
    ax.set_xticks(range(len(CHANGES)), [title.replace(" ", "\n", 1) for title in CHANGES])
    ax.set_yticks(range(len(table)), list(table))
    ax.xaxis.tick_top()
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
figure

# %% [markdown]
# - Shuffled rows: coordinate attention *follows*. Each row's gate is computed from that row's mean alone, by a 1 × 1 convolution that never
#   looks at a neighbour or a row number. It says which rows *look* important, not where they are. Shuffling single places
#   changes the means, so that it notices.
# - A channel gate ignores everything that happens inside the channels.
# - CBAM's place gate ignores the order of the channels, and follows a shift: one kernel serves all places. So do all convolutions.
# - Spatial bias ignores what stays inside a quarter of the picture and notices what leaves it: it alone knows, by construction, *where in the picture*.
#
# The shift was compared away from the rim. Near it, convolutions meet the zeros of their padding, and through these they do learn something of
# the place. The next section shows how much.
#
# ## 9 · Which one helps? An experiment that can answer
#
# Three tasks of two classes on maps of 8 × 8 places. Channels A and B each hold marks, a third a cue.
#
# | task | the class is | what decides |
# |---|---|---|
# | which | whether there is a mark in A, if the cue is scattered over the map; otherwise whether there is one in B | **which channel** counts |
# | beside | two marks, each in A or B by a coin: the channel of the one next to the cue | **where**, seen from the cue |
# | above | the same without a cue: the channel of the one in the upper half | **where** in the picture |

# %%
SIDE, CHANNELS = 8, 8
A, B, CUE = 0, 1, 2


def draw(task, n, seed):
    """Maps (n, 3, 8, 8) with a little noise, and classes (n,)."""
    coins = torch.Generator().manual_seed(seed)
    x = (0.1 * torch.randn(n, 3, SIDE, SIDE, generator=coins)).relu()
    each, (first, second, third) = torch.arange(n), torch.randint(0, 2, (3, n), generator=coins)

    def anywhere(top=0, bottom=SIDE, right=SIDE):
        return torch.randint(top, bottom, (n,), generator=coins), torch.randint(0, right, (n,), generator=coins)

    if task == "which":
        x[:, CUE] += (torch.rand(n, SIDE, SIDE, generator=coins) < 0.3) * third[:, None, None]
        for channel, present in ((A, first), (B, second)):
            x[each, channel, *anywhere()] += present
        return x, torch.where(third == 1, first, second)
    if task == "beside":
        row, column = anywhere(right=SIDE - 1)
        far = (row + torch.randint(3, 6, (n,), generator=coins)) % SIDE  # three rows away at least, around the rim
        x[each, CUE, row, column] += 1
        x[each, first, row, column + 1] += 1
        x[each, second, far, anywhere()[1]] += 1
        return x, first
    x[each, first, *anywhere(bottom=SIDE // 2)] += 1
    x[each, second, *anywhere(top=SIDE // 2)] += 1
    return x, first


TASKS = ("which", "beside", "above")
ink = 1 - torch.tensor([[0.78, 0.30, 0.04], [0.16, 0.44, 0.69], [0.45, 0.45, 0.45]])  # A orange, B blue, cue grey
with plots.style():
    figure, axes = canvas(1, 6, 9.4, 2.0)
    for i, ax in enumerate(axes[0]):
        maps, classes = draw(TASKS[i // 2], 8, SEED + 4)
        k = int((classes == i % 2).nonzero()[0])
        ax.imshow((1 - maps[k].clamp(0, 1).permute(1, 2, 0) @ ink).clamp(0, 1))
        ax.set(xticks=[], yticks=[])
        ax.set_title(f"{TASKS[i // 2]}, class {'AB'[i % 2] if i > 1 else i % 2}", fontsize=8.5, loc="center")
figure

# %% [markdown]
# A is orange, B blue, the cue grey; the pale rest is noise. One network for all: a 1 × 1 convolution to 8 channels, the block, the mean of each channel, a linear layer. Only the block differs; spatial
# bias goes beside the means. **Without any block** the classifier knows how many marks each channel holds and whether there is a cue, and must add up. It
# is right when both answers agree, and guesses otherwise: three quarters.
#
# > **Question.** Before you run it: which blocks will solve which task? Sections 1 and 8 hold nearly all you need.


# %%
class Tiny(nn.Module):
    """Mix channels, apply a block, average, classify."""

    def __init__(self, make):
        super().__init__()
        self.mix = nn.Sequential(nn.Conv2d(3, CHANNELS, 1), nn.BatchNorm2d(CHANNELS), nn.ReLU())
        self.block = make()
        extra = 4 * CHANNELS if isinstance(self.block, SpatialBias) else 0
        self.fc = nn.Linear(CHANNELS + extra, 2)

    def forward(self, x):
        x = self.mix(x)
        y = self.block(x)
        if isinstance(self.block, SpatialBias):
            return self.fc(torch.cat([SIDE * x.mean((2, 3)), y.flatten(1)], 1))
        return self.fc(SIDE * y.mean((2, 3)))


def trained_accuracy(make, data, test, seed):
    """Train one network; its accuracy on new maps."""
    torch.manual_seed(seed)
    net, (x, y) = Tiny(make), data
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.04, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.04, total_steps=S.steps)
    for _ in range(S.steps):
        batch = torch.randint(0, len(x), (64,))
        F.cross_entropy(net(x[batch]), y[batch]).backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    net.eval()
    with torch.no_grad():
        return (net(test[0]).argmax(1) == test[1]).float().mean().item()


everything = blocks(CHANNELS, CHANNELS)
contestants = {"no block": nn.Identity}
for name in ("SE", "CBAM: places", "CBAM", "BAM", "coordinate", "1 + mask, sigmoid", "spatial bias"):
    contestants[name] = everything[name]
scores = {}
for task in TASKS:
    data, test = draw(task, S.n_train, SEED + 1), draw(task, S.n_test, SEED + 2)
    for name, maker in contestants.items():
        scores[task, name] = [trained_accuracy(maker, data, test, SEED + seed) for seed in range(S.seeds)]

with plots.style():
    figure, axes = canvas(1, 3, 9.2, 3.0)
    for ax, task in zip(axes[0], TASKS, strict=True):
        for i, name in enumerate(contestants):
            mean, low, high = mean_interval(scores[task, name])
            band = dict(color=plots.COLOURS[0], linewidth=6, alpha=0.3, solid_capstyle="butt")
            ax.plot([max(low, 0), min(high, 1)], [i, i], **band)
            ax.plot(mean, i, "|", color=plots.COLOURS[0], markersize=11, markeredgewidth=2)
            ax.plot(scores[task, name], [i] * S.seeds, "o", color=plots.COLOURS[1], markersize=3)
        ax.axvline(0.75, color="black", linewidth=0.8, linestyle=":")
        ax.set(xlim=(0.45, 1.01), ylim=(len(contestants) - 0.5, -0.5), title=task, xlabel="accuracy")
        ax.set_yticks(range(len(contestants)), list(contestants) if task == "which" else [])
        ax.grid(axis="x")
figure

# %%
print(f"mean and 95 % interval of the mean over {S.seeds} seeds")
for name, maker in contestants.items():
    cells = []
    for task in TASKS:
        mean, low, high = mean_interval(scores[task, name])
        cells.append(f"{task} {mean:.3f} ({max(low, 0):.2f} to {min(high, 1):.2f})")
    print(f"{name:18}{count_parameters(Tiny(maker)):7,} parameters  " + "  ".join(cells))
record("no_block_which_frac", float(np.mean(scores["which", "no block"])))
record("coordinate_beside_frac", float(np.mean(scores["beside", "coordinate"])))
record("bias_above_frac", float(np.mean(scores["above", "spatial bias"])))

# %% [markdown]
# With three seeds of the teach profile:
#
# - **which**: every block with a number per channel solves it. The place gate alone does not, it treats all channels alike. Spatial bias
#   gains a little: it is a small network beside the map, with a ReLU of its own.
# - **beside**: squeeze-and-excitation cannot (section 8: it ignores every shuffle of places). CBAM and the mask see the neighbourhood;
#   coordinate attention needs only the cue's row. And BAM? The nine points of its 3 × 3 kernels lie 4 places apart, so it never compares
#   a place with its direct neighbour. That is a detail of a setting, not of the idea, and it decides.
# - **above**: spatial bias, made for it. Coordinate attention, for all its name, does not: it follows every shift of the rows. CBAM's
#   place gate, BAM and the mask nearly or fully solve it, though they follow shifts too: on 8 × 8 places the zeros of the padding are never
#   far, and tell them where the rim is. On a larger map they are.
# - The residual mask cannot erase, and solves all three: a linear layer can subtract what is always there. It has some hundred times the
#   parameters of the small blocks.
#
# No block is best. Each is good at what its shape and its inputs allow, and we could say most of it before the first training step.
#
#
# These maps were made for this test. They show what a block *can* do when the task needs it. Faces are another matter: there the layers around
# the block can do much of the same work, and whether a block adds something is a question for an ablation with several seeds.
#
# ## 10 · What the papers say it brings
#
# Each of the four papers credits such a block with a gain. The steps as printed, without and with it, and what can be said of them:

# %%
ledger_table("resemotenet", "T4.C2")

# %%
ledger_table("diversity", "T1.esr9-attention", "claim-attention")

# %%
ledger_table("resmasking", "T2.resnet34", "T2.resmasking")

# %%
ledger_table("lfnsb", "T5")

# %% [markdown]
# Single runs, on test sets of some thousand pictures. Whoever reads such a table asks three questions: how many seeds, how wide is the interval,
# and did the row without the block get as many parameters and as much tuning?
#
# ## Exercises
#
# **1.** How many parameters has CBAM's place gate on a map of 512 channels?

# %%
answer_1 = None

# %%
hint_1 = "It sees two pictures, whatever the number of channels. Count the kernel, and the normalisation's two numbers."
check("parameters of the place gate", answer_1, count_parameters(SpatialGate()), hint=hint_1)

# %% tags=["solution"]
answer_1 = 2 * 7 * 7 + 2
check("parameters of the place gate", answer_1, count_parameters(SpatialGate()), hint=hint_1)

# %% [markdown]
# **2.** The mouth holds one tenth of a map's energy (the sum of squares). What is the largest share that a residual mask, $1 + m$ with $m$ in [0, 1], can give it?

# %%
answer_2 = None

# %%
energy = torch.tensor([0.1, 0.9])  # mouth, rest
best = energy * torch.tensor([1.0 + 1.0, 1.0 + 0.0]) ** 2
expected_2 = (best[0] / best.sum()).item()
hint_2 = "At best twice the value at the mouth and once elsewhere; energy is the square."
check("largest share of the mouth", answer_2, expected_2, tolerance=1e-3, hint=hint_2)

# %% tags=["solution"]
answer_2 = 4 * 0.1 / (4 * 0.1 + 0.9)
check("largest share of the mouth", answer_2, expected_2, tolerance=1e-3, hint=hint_2)

# %% [markdown]
# **3.** Both rows *and* columns of a map are shuffled, each in its own way. Does coordinate attention ignore, follow or notice it? And CBAM's channel
# gate? Answer with a list of two words.

# %%
answer_3 = None


# %%
def shuffle_both(x):
    """Rows in one order, columns in another."""
    return x[:, :, rows][:, :, :, rows.flip(0)]


makers = blocks(n, n)
expected_3 = [reaction(makers[name], shuffle_both, sample) for name in ("coordinate", "CBAM: channels")]
hint_3 = "Each row keeps its mean and each column too; they only change places."
check("reaction of the two blocks", answer_3, expected_3, hint=hint_3)

# %% tags=["solution"]
answer_3 = ["follows", "ignores"]
check("reaction of the two blocks", answer_3, expected_3, hint=hint_3)

# %% [markdown]
# ## Recap
#
# You can now
#
# 1. write an attention block as a factor times a map, and read from the factor's shape what it can say
# 2. compute the factor of each block by hand on a map of two channels and four places
# 3. tell channel gates, place gates, row and column gates, masks and spatial bias apart by their pictures
# 4. say what a block can erase, and what changes between sigmoid and softmax, `m` and `1 + m`
# 5. predict which shuffles of a map a block ignores, follows or notices
# 6. test whether a block helps, on a task that needs it, with several seeds
#
# Next, [notebook 10](10_resemotenet.ipynb): a published network with one such gate, and what an ablation can say about it.

# %%
footer()
