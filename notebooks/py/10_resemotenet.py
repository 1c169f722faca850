# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 10 · ResEmoteNet, annotated
#
# *Build the network in fifty lines, train it, look inside its gate, take it apart, and only then judge what its paper reports.*
#
# ResEmoteNet [@resemotenet] names the expression on a face with three convolution stages, one gate, three residual blocks and a
# classifier. Its paper reports the best accuracy of its time on four data sets, and says that the gate lowers the loss. **Which of
# these parts does the work?** The authors asked in the usual way: leave a part out, train again, and see how much accuracy is lost.
# We asked the same of a narrow copy of their network, and did not see these losses.

# %% tags=["parameters"]
PROFILE = "teach"  # smoke (seconds), teach (minutes on a laptop) or paper (full size)
DATA = "synthetic"  # or "fer2013", with the path of your own copy below
DATA_PATH = None
TEST_SPLIT = "test"  # "public_test" or "private_test" for fer2013
SEED = 0

# %% tags=["hide-input"]
import numpy as np
import pandas as pd
import torch

from ferkit import evaluation, explain, faces, models, papers, plots, runs, training
from ferkit.notebook import check, figure, footer, ledger_table, profile, record, table
from ferkit.predict import predict_probabilities
from ferkit.synthetic import make_faces
from ferkit.widgets import explore

smoke = dict(n_train=280, n_test=140, size=48, width=1 / 16, epochs=1, seeds=2)
teach = dict(n_train=2500, n_test=3000, size=48, width=1 / 8, epochs=8, seeds=3)
full = dict(n_train=28709, n_test=3589, size=64, width=1.0, epochs=80, seeds=3)
S = profile(PROFILE, chapter=10, smoke=smoke, teach=teach, paper=full)
paper, nn = papers.load("resemotenet"), torch.nn
torch.manual_seed(SEED);

# %% tags=["hide-input"]
PARTS = {
    "C2": "the gate",
    "C5": "residual block 1",
    "C6": "residual blocks 1 and 2",
    "C3": "convolution stage 1",
    "C4": "convolution stages 1 and 2",
}
long_run = runs.read_shelf("resemotenet-ablations")
gains = runs.differences(long_run, "model_options.ablation", reference="C1")
ours = {PARTS[name]: gain for name, gain in gains.items()}
table_iv = paper.tables["IV"]
printed = {part: table_iv.cell(name, "accuracy change") for name, part in PARTS.items()}
record("printed_block1_points", printed["residual block 1"])
record("long_block1_points", ours["residual block 1"][0])
record("long_gate_points", ours["the gate"][0])
record("long_lowest_points", min(gain[1] for gain in ours.values()))
single = {part: (v, np.nan, np.nan) for part, v in printed.items()}
series = {
    "the paper: RAF-DB, one number each": single,
    "our long run: FER2013, three seeds": ours,
}
what = "change of accuracy when a part is left out (percentage points)"
figure(
    plots.forest(series, xlabel=what),
    "hook",
    "Leave a part out and train again. In the paper, most parts are worth 6 to 19"
    " points. In our long run, those we tried are not. (Dots: seeds; bands: 95 %.)",
    "Rows: parts left out. The paper's values lie between -19 and -1, ours near 0.",
)

# %% [markdown]
# Our *long run* was made before and is stored with the book: each network at an eighth of the width, trained three times for eight epochs
# on FER2013. (Two rows are still to come.) Without the first residual block, the paper's accuracy changes by {{printed_block1_points:+.1f}}
# points, ours by {{long_block1_points:+.1f}}. And the paper's own numbers hold a riddle: there, leaving out *two* residual blocks costs less than
# leaving out one, and *two* convolution stages less than one.
#
# The two experiments differ in many ways: other faces, other sizes, other training. One difference is stranger than these: the text leaves
# open *what was removed*, and its words fit several networks. To see that, we have to build one. You need to know what a convolution and a
# training loop are ([notebook 02](02_training_loop_by_hand.ipynb)).
#
# Three voices stay apart in this chapter: *the paper says* (the letter, arXiv version 2), *the code does* (the authors' repository
# at one commit), *we do* (this library). A code such as {row:RE-head} is a link into the *ledger*, the book's table of
# what a paper says, its code does and we do, with the evidence.
#
# ## 1 · The idea
#
# A face enters on the left of {fig:network}; seven numbers leave on the right. Three rules give every shape between them. A 3 × 3
# convolution with padding 1 keeps the side of a map. Pooling halves it, rounding down. A convolution of stride 2 halves it too, but
# rounds up.

# %% tags=["hide-input"]
figure(
    plots.gallery.resemotenet(),
    "network",
    "ResEmoteNet as released, for a picture of 64 px. Above an arrow: channels; below:"
    " side of the map. After the first stage, channels double as the side halves.",
    "Three convolution stages, a gate, three residual blocks, mean, classifier.",
)

# %% [markdown]
# > **Question.** FER2013's pictures are 48 px wide. The last map of the third residual block is then averaged over all its places
# > (the paper's equation 8). Over how many? Count before you run the cell.


# %%
def last_side(size):
    """Side of the map that is averaged: three poolings round down, three strides up."""
    for _ in range(3):
        size = size // 2
    for _ in range(3):
        size = -(-size // 2)
    return size


places = {size: last_side(size) ** 2 for size in (48, 64, 100, 224)}
print("places averaged, by size of the picture:", places)

# %% tags=["hide-input"]
record("places_48_n", places[48])
record("places_224_n", places[224])

# %% [markdown]
# **Answer.** Over {{places_48_n}} place: the side is 48, 24, 12 and 6 after the three stages, then 3, 2, 1 after the blocks. At 48 px, and also at the 64 px that the released code uses, the "adaptive average pooling" of the
# paper averages a single number, and does nothing. At 224 px it averages {{places_224_n}}.
#
# ### The gate, by hand
#
# The one unusual part is the {term:gate}, a {term:squeeze and excitation} block [@senet]. It asks a small question about the whole
# picture ("which of my 256 channels matter here?") and answers with one factor per channel.

# %% tags=["hide-input"]
figure(
    plots.gallery.se_block(),
    "gate",
    "The gate. The map x travels along the lower path unchanged. The upper path"
    " squeezes it to one mean per channel and turns the means into one factor between"
    " 0 and 1 per channel, which multiplies the map.",
    "Above: a mean, two linear layers, a sigmoid; below: x itself; a product.",
)

# %% [markdown]
# $$z_c = \tfrac{1}{HW}\textstyle\sum_{i,j} x_c(i,j) \qquad s = \sigma\big(W_2\,\mathrm{ReLU}(W_1 z)\big) \qquad y_c = s_c\,x_c$$
#
# In code, equations 2 to 6 are three lines. That the two linear layers have no biases can be read from the equations; that the
# hidden layer is 16 times narrower is only in the code ({row:RE-se-reduction}).

# %%
class Gate(nn.Module):
    """One factor per channel, from the channel means: equations 2 to 6."""

    def __init__(self, channels, hidden):
        super().__init__()
        self.W1 = nn.Linear(channels, hidden, bias=False)
        self.W2 = nn.Linear(hidden, channels, bias=False)

    def forward(self, x):  # (B, C, H, W)
        z = x.mean((2, 3))  # (B, C): squeeze, equation 2
        s = torch.sigmoid(self.W2(torch.relu(self.W1(z))))  # (B, C): equations 3 to 5
        return x * s[:, :, None, None]  # (B, C, H, W): equation 6


# %% [markdown]
# Take two channels and one hidden unit, with $W_1 = (1, -\tfrac13)$ and $W_2 = (2, -2)$. If the channel means are 2 and 3, the
# hidden unit is $\mathrm{ReLU}(2 - 1) = 1$, and the gates are $\sigma(2) = 0.88$ and $\sigma(-2) = 0.12$: the first channel passes,
# the second is nearly shut.
#
# > **Question.** What are the gates when the means are 1 and 6?

# %%
toy = Gate(2, hidden=1)
with torch.no_grad():
    toy.W1.weight.copy_(torch.tensor([[1.0, -1 / 3]]))
    toy.W2.weight.copy_(torch.tensor([[2.0], [-2.0]]))



# %% tags=["hide-input"]
def gates_for(mean_1=2.0, mean_2=3.0):
    """The hidden unit and the gates of a map whose channels have these means."""
    with torch.no_grad():
        hidden = torch.relu(toy.W1(torch.tensor([[mean_1, mean_2]])))
        gates = torch.sigmoid(toy.W2(hidden))[0]
    with plots.style():
        picture = plots.Figure(figsize=(2.35, 1.9), layout="constrained")
        ax = picture.subplots()
        names = ["channel 1", "channel 2"]
        bars = ax.bar(names, gates, width=0.5, color=plots.COLOURS[:2])
        ax.bar_label(bars, [f"{g:.2f}" for g in gates])
        ax.axhline(0.5, color="#606060", linewidth=0.9, linestyle=":")
        ax.set(ylim=(0, 1.18), yticks=[0, 0.5, 1], ylabel="gate")
        ax.set_title(f"hidden unit {hidden.item():.2g}")
    return picture


explore(
    gates_for,
    mean_1=(0.0, 6.0, 0.5),
    mean_2=(0.0, 6.0, 0.5),
    strip=[dict(mean_1=a, mean_2=b) for a, b in ((2.0, 3.0), (1.0, 6.0), (6.0, 1.0))],
    name="toy",
    caption="Left: the hidden unit is on, and the gates part. Middle: it is off, and"
    " both gates stand at one half. Right: it is on more strongly.",
    alt="Three pairs of bars: 0.88 and 0.12, twice 0.50, nearly 1 and nearly 0.",
)

# %% [markdown]
# **Answer.** One half each: the hidden unit is $\mathrm{ReLU}(1 - 2) = 0$, and $\sigma(0) = 0.5$. Remember this number. *A gate whose
# hidden units are off multiplies every channel by one half, whatever the picture shows.* Where the notebook runs, move the sliders: for which means is
# the hidden unit off? (Whenever the second is at least three times the first.)
#
# ### The residual block
#
# A {term:residual block} adds its input to what it computes, $F(x) = H(x) + x$ (equation 7), so that it only has to learn a
# correction. But each block here halves the side and doubles the channels, so $x$ does not fit:

# %% tags=["hide-input"]
figure(
    plots.gallery.projected_residual(),
    "block",
    "A residual block as released. The shortcut can't be x itself, because the shapes"
    " differ; a 1 × 1 convolution of stride 2 brings x to the right shape.",
    "x splits: two 3 by 3 convolutions above, one of 1 by 1 below; a sum joins them.",
)

# %% [markdown]
# The released code therefore learns the {term:shortcut} too ({row:RE-A11}). The original residual networks do the same wherever
# widths change: equation 7 is their general form, and the paper does not mention the exception.

# %%
class Block(nn.Module):
    """Two convolutions and a shortcut that follows their shape: equation 7."""

    def __init__(self, before, after):
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride=2, padding=1)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(after)
        project = nn.Conv2d(before, after, 1, stride=2)
        self.shortcut = nn.Sequential(project, nn.BatchNorm2d(after))

    def forward(self, x):  # (B, C, H, W)
        h = torch.relu(self.bn1(self.conv1(x)))  # (B, 2C, H/2, W/2)
        h = self.bn2(self.conv2(h))
        return torch.relu(h + self.shortcut(x))


# %% [markdown]
# ## 2 · The network, in fifty lines
#
# Gate, block, and now the rest. Dropout is in the code and not in the text ({row:RE-dropout}); where the paper says "the Linear
# layer" the code has four ({row:RE-head}).

# %%
def stage(before, after, dropout):
    """A convolution stage: equation 1 is three of them."""
    return nn.Sequential(
        nn.Conv2d(before, after, 3, padding=1),
        nn.BatchNorm2d(after),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Dropout(dropout),
    )


class ResEmoteNet(nn.Module):
    """The released network; shapes are for 64 px."""

    def __init__(self, classes=7):
        super().__init__()
        self.stage1 = stage(3, 64, 0.2)
        self.stage2 = stage(64, 128, 0.2)
        self.stage3 = stage(128, 256, 0.0)
        self.gate = Gate(256, hidden=16)
        self.block1 = Block(256, 512)
        self.block2 = Block(512, 1024)
        self.block3 = Block(1024, 2048)
        hidden = [(2048, 1024), (1024, 512), (512, 256)]
        layers = [[nn.Linear(a, b), nn.ReLU(), nn.Dropout(0.5)] for a, b in hidden]
        self.head = nn.Sequential(*sum(layers, []), nn.Linear(256, classes))

    def forward(self, x):  # (B, 3, 64, 64)
        x = self.stage3(self.stage2(self.stage1(x)))  # (B, 256, 8, 8)
        x = self.gate(x)
        x = self.block3(self.block2(self.block1(x)))  # (B, 2048, 1, 1)
        return self.head(x.mean((2, 3)))  # (B, 7): equations 8 and 9, logits


# %% [markdown]
# Is it really the released network? The library's `resemotenet` is tested number by number against the authors' file. So we give
# both the same weights and compare their answers to random pictures:

# %%
mine, library = ResEmoteNet().eval(), models.create_model("resemotenet").eval()
values = iter(mine.state_dict().values())
library.load_state_dict({name: next(values) for name in library.state_dict()})
pictures = torch.randn(4, 3, 64, 64)
with torch.no_grad():
    apart = (mine(pictures) - library(pictures)).abs().max()
assert apart < 1e-5, apart
print(f"{models.count_parameters(mine):,} parameters")
print(f"the logits differ by at most {apart:.0e}")

# %% [markdown]
# They agree. From here on we use the library's network, which has one convenience: `width` scales every number of channels.
#
# > **Question.** Which part holds most of the {{parameters_n:,}} parameters? Does the same part do most of the
# > {term:multiply-add|multiply-adds}?


# %%
def cost(size=64, width=1.0):
    """Parameters and multiply-adds of each part."""
    with torch.device("meta"):  # shapes only: nothing is computed
        net = models.create_model("resemotenet", width=width)
    rows = [row for row in models.summarise(net, size) if row.macs]
    return plots.stage_bars(rows)


explore(
    cost,
    size=[48, 64, 100, 224],
    width={"1": 1.0, "1/2": 0.5, "1/4": 0.25, "1/8": 0.125},
    strip=[{"size": 64, "width": 1.0}, {"size": 224, "width": 1.0}],
    name="cost",
    caption="The last block holds most of the parameters, at any size of the picture."
    " The work is shared by later convolutions and blocks, and grows with the area.",
    alt="Bars per part, at 64 and at 224 px: parameters left, multiply-adds right.",
)

# %% tags=["hide-input"]
with torch.device("meta"):
    net = models.create_model("resemotenet")
rows = {px: {row.name: row for row in models.summarise(net, px)} for px in (64, 224)}
total = sum(row.params for row in rows[64].values())
work = {px: sum(row.macs for row in parts.values()) for px, parts in rows.items()}
record("parameters_n", models.count_parameters(mine))
record("conv3_work_frac", rows[64]["conv3"].macs / work[64])
record("block3_parameters_frac", rows[64]["res_block3"].params / total)
record("block3_work_frac", rows[64]["res_block3"].macs / work[64])
record("gate_parameters_frac", rows[64]["se"].params / total)
record("work_64_n", work[64])
record("work_224_ratio", work[224] / work[64])

# %% [markdown]
# **Answer.** The third residual block holds {{block3_parameters_frac:.0%}} of the parameters. At 64 px it does only
# {{block3_work_frac:.0%}} of the work, because its maps are tiny; the second and third convolution do more, {{conv3_work_frac:.0%}}
# each. At 224 px its maps are no longer tiny, and it does most again. The gate holds {{gate_parameters_frac:.2%}} of the
# parameters. At 224 px the work is {{work_224_ratio:.0f}} times as large, which is why it matters that the paper does not say which
# size entered the network ({row:RE-input-size}).
#
# ## 3 · Train it, and watch
#
# The authors train at full width for 80 epochs, with a batch of 16 and a learning rate of 0.001 ({row:RE-learning-rate}). We have
# minutes: an eighth of the width, {{epochs_n}} epochs, a larger learning rate. (`S` holds the sizes of the profile you run.) And we
# train on *drawn* faces, so that nobody's picture is needed and the truth about each face is known. They are the easy kind (strong
# expressions, seen from the front), in the class proportions of FER2013: for every face of disgust there are
# {{happy_per_disgust_n}} happy ones.

# %%
drawn = dict(n_train=S.n_train, n_test=S.n_test, size=S.size, seed=SEED)
drawn |= dict(difficulty="easy", imbalance="fer2013")
recipe = training.Recipe(
    name="notebook-10",
    model="resemotenet",
    # unlike the release, one linear layer as head (it learns faster); as in the
    # release, 16 hidden units in the gate (section 4 says why that matters)
    model_options=dict(head="linear", reduction=round(16 * S.width)),
    width=S.width,
    data=DATA,
    data_path=DATA_PATH,
    data_options=drawn if DATA == "synthetic" else {},
    test_split=TEST_SPLIT,
    image_size=S.size,
    augmentation="resemotenet",  # the mirror image, half of the time
    epochs=S.epochs,
    batch_size=32,
    lr=0.05,
    nesterov=True,
    weight_decay=5e-4,
    schedule="cosine",
    warmup_epochs=0.5,
    seed=SEED,
)
faceset = runs.load_faces(recipe)
train, validation = faceset.select("train"), faceset.select("validation")
test = faceset.select(TEST_SPLIT)
names = list(faceset.names)

# %% tags=["hide-input"]
counts = train.counts()
record("epochs_n", S.epochs)
record("disgust_train_n", counts["disgust"])
record("disgust_test_n", test.counts()["disgust"])
record("happy_per_disgust_n", round(counts["happiness"] / counts["disgust"]))
large = make_faces(60, size=128, seed=SEED, difficulty="easy")
first = [int(np.flatnonzero(large.labels == large.names.index(n))[0]) for n in names]
titles = [f"{n}\n{counts[n]}" for n in names]
figure(
    plots.face_grid(large.images[first], titles, columns=4),
    "faces",
    "One drawn face of each class, larger than the network sees it, and the number of"
    f" such faces among the {len(train):,} training images.",
    "Seven drawn faces, from neutral to anger, each with a count.",
)


# %%
def trained(recipe):
    """A network at its best epoch on validation images, and its history."""
    net = runs.build_model(recipe, names)
    task = training.make_task(net, recipe, train.counts())
    history = training.fit(task, train, validation, recipe, progress=False)
    return net, history


model, history = trained(recipe)

# %% tags=["hide-input"]
largest = max(validation.counts().values()) / len(validation)
best = int(np.argmax(history.column("val_accuracy")))
record("val_accuracy_frac", history.column("val_accuracy")[best])
record("train_accuracy_frac", history.column("train_accuracy")[best])
record("largest_class_frac", largest)
guessing = {"guessing: ln 7": np.log(7)}
marks = {"accuracy": {"always happiness": largest}, "loss": guessing}
figure(
    plots.curves(history, best=best, landmarks=marks),
    "curves",
    "The network learns: both accuracies climb far above the share of the largest"
    " class. The dotted line marks the epoch whose weights were kept.",
    "Loss and accuracy over epochs, for training and validation, with landmarks.",
)

# %% [markdown]
# The validation curve may lie above the training curve, and that is no mistake: training accuracy is counted *while* an epoch
# changes the weights, with dropout switched on, and validation accuracy afterwards, with dropout off.
#
# Everything so far was chosen on validation images. Now the test images:

# %%
probabilities = predict_probabilities(model, test.images)
result = evaluation.evaluate(probabilities, test.labels, names)

# %% tags=["hide-input"]
low, high = result["intervals"]["accuracy"]
confusion = np.array(result["confusion"])
rare = names.index("disgust")
record("test_accuracy_frac", result["accuracy"])
record("test_low_frac", low)
record("test_high_frac", high)
record("disgust_right_n", confusion[rare, rare])
record("balanced_accuracy_frac", result["balanced_accuracy"])
figure(
    plots.confusion(confusion, names),
    "confusion",
    "Rows: what was drawn; columns: what the network says. Look at the row of disgust.",
    "A confusion matrix of seven classes.",
)

# %% [markdown]
# Accuracy is {{test_accuracy_frac:.1%}} (95 % interval {{test_low_frac:.1%}} to {{test_high_frac:.1%}}). But of the
# {{disgust_test_n}} disgusted faces it recognises {{disgust_right_n}}. It saw {{disgust_train_n}} of them in training, and a network
# that never says "disgust" loses next to nothing in accuracy. **The {term:confusion matrix} shows at once what the accuracy hides.**
#
# The paper gives "more weightage" to rare classes, without a formula, and the released code has nothing of the kind
# ({row:RE-class-weights}). Two things can be meant. {term:class weight|Class weights} $w_c = N / (K\,n_c)$ in the loss let each
# disgusted face count {{disgust_weight_ratio:.1f}} times as much as an average one. Balanced *sampling* draws disgusted faces more often
# instead, so that each class fills a seventh of every epoch. On average, both push equally hard.
#
# > **Question.** So they should do the same. Do they? We train once with each.

# %%
ways = {
    "as it is": (model, history),
    "class weights": trained(recipe.overlay(dict(class_weight="balanced"))),
    "balanced sampling": trained(recipe.overlay(dict(sampler="balanced"))),
}

# %% tags=["hide-input"]
found = {}
for way, (net, _) in ways.items():
    answers = predict_probabilities(net, test.images)
    found[way] = evaluation.evaluate(answers, test.labels, names)
weighted, sampled = found["class weights"], found["balanced sampling"]
record("train_n", len(train))
record("disgust_weight_ratio", len(train) / (len(names) * counts["disgust"]))
record("disgust_per_batch_frac", recipe.batch_size * counts["disgust"] / len(train))
record("weighted_disgust_n", np.array(weighted["confusion"])[rare, rare])
record("weighted_accuracy_frac", weighted["accuracy"])
record("sampled_disgust_n", np.array(sampled["confusion"])[rare, rare])
record("sampled_accuracy_frac", sampled["accuracy"])
frame = pd.DataFrame({"rare classes": list(found)})
frame["accuracy"] = [r["accuracy"] for r in found.values()]
frame["balanced accuracy"] = [r["balanced_accuracy"] for r in found.values()]
for emotion in ("happiness", "fear", "disgust"):
    frame[f"recall of {emotion}"] = [r["recall"][emotion] for r in found.values()]
formats = {column: "{:.1%}" for column in frame.columns[1:]}
caption = "Two ways to favour rare classes, on the same test images (one seed each)."
table(frame, "rare", caption, formats=formats)

# %% [markdown]
# **Answer.** Not in {{epochs_n}} epochs. With class weights {{weighted_disgust_n}} of the {{disgust_test_n}} are recognised, and accuracy
# falls to {{weighted_accuracy_frac:.1%}}. With balanced sampling {{sampled_disgust_n}} are, and accuracy stays at
# {{sampled_accuracy_frac:.1%}}. A likely reason lies in the batches: of 32 faces, {{disgust_per_batch_frac:.1f}} are disgusted on average. With weights,
# most batches say nothing about disgust, and now and then one face pulls as hard as ten others: a noisy gradient. With sampling, a batch
# holds four or five of them on average. (One seed each; longer training may close the gap.) So "more weightage"
# can mean two experiments, and in a short training they end differently.
#
# ## 4 · Look inside the gate
#
# A detail in the recipe above deserves a second look: `reduction`. The released gate has 256 channels and $256 / 16 = 16$ hidden
# units. In a copy of a quarter of the width, the same ratio leaves only {{narrow_hidden_n}}. We published such a copy: it was trained
# on FER2013 for 45 epochs, is right in {{ours_fer2013_frac:.1%}} of the test images, and can be loaded by name.
#
# > **Question.** What will its gates look like? What could go wrong with {{narrow_hidden_n}} hidden units? (You have seen it in
# > {fig:toy}.)

# %%
published = models.create_model("resemotenet", weights="fer2013-teach").eval()


def gates_of(net):
    """For every validation face the gates (N, C) and the hidden units (N, hidden)."""
    with explain.capture(net, ["se.gate", "se.fc.1"]) as seen:
        predict_probabilities(net, validation.images, batch_size=len(validation))
    return seen["se.gate"].flatten(1), seen["se.fc.1"]


(narrow_gates, narrow_units), (gates, units) = gates_of(published), gates_of(model)
for title, hidden in {"published": narrow_units, "yours": units}.items():
    alive = int((hidden.amax(0) > 0).sum())
    print(f"{title}: {alive} of {hidden.shape[1]} hidden units are ever on,", end=" ")
    print(f"at most {hidden.max():.3f}")

# %% tags=["hide-input"]
record("narrow_alive_n", (narrow_units.amax(0) > 0).sum())
record("narrow_most_ratio", narrow_units.max())
record("alive_n", (units.amax(0) > 0).sum())
record("narrow_channels_n", narrow_gates.shape[1])
record("narrow_hidden_n", published.se.fc[0].out_features)
record("narrow_gate_low_frac", narrow_gates.min())
record("narrow_gate_high_frac", narrow_gates.max())
record("gate_low_frac", gates.min())
record("gate_high_frac", gates.max())
move = float((gates.amax(0) - gates.amin(0)).mean())
record("gate_move_frac", move)
panels = {
    "published: 4 hidden units": narrow_gates,
    f"yours: 16, moving by {move:.3f} on average": gates,
}
figure(
    plots.gate_ranges(panels),
    "gates",
    "Each dot is a channel's mean gate; its bar reaches from the smallest gate over the"
    " faces to the largest. The published network's gates stand still.",
    "Two panels of gates by channel: flat at one half; spread, with bars.",
)

# %% [markdown]
# **Answer.** They stand still: all {{narrow_channels_n}} lie between {{narrow_gate_low_frac:.4f}} and {{narrow_gate_high_frac:.4f}} for all these drawn
# faces, and at most at {{portrait_gate_frac:.4f}} for the portrait below. Only {{narrow_alive_n}} of the {{narrow_hidden_n}} hidden units is ever on, and it never
# passes {{narrow_most_ratio:.3f}}. The others are off for every face that we tried. A ReLU whose input is negative for all training faces, too, gives 0 and gets no
# gradient, so it can't come back: it is dead. This network has a gate on paper and a factor of one half in fact. Yours is alive: {{alive_n}} hidden units work, and its gates
# reach from {{gate_low_frac:.2f}} to {{gate_high_frac:.2f}}.
#
# This was our own mistake, and no accuracy gave it away. In our first long run, the full network had such a gate with each of its three seeds.
# Then "with the gate" and "without" differ by a factor of one half, which the next layer's batch normalisation removes: we had compared two
# networks that can compute exactly the same. We found it by looking, gave the gate its 16 units back, and began the long run again. {fig:hook}
# shows what is finished of the second one. **Before you remove
# a part, check that it is alive.**
#
# A living gate is not yet a useful one. A gate that is the same for every face could be multiplied into the next layer's weights
# once and for all. What a gate adds is how it *moves from face to face*: in your network by {{gate_move_frac:.3f}} between a channel's
# smallest and largest value, on average over the channels (the bars in {fig:gates}).
#
# > **Question.** Freeze every gate of your network at its mean over the validation faces. How many test answers change?


# %%
class Frozen(nn.Module):
    """Gates that no longer look at the face."""

    def __init__(self, mean):
        super().__init__()
        self.mean = mean

    def forward(self, gate):  # (B, C, 1, 1)
        return self.mean[None, :, None, None].expand_as(gate)


model.se.gate = Frozen(gates.mean(0))
frozen = predict_probabilities(model, test.images).argmax(1)
model.se.gate = nn.Identity()  # as before: this module passes the gate on
changed = (frozen != probabilities.argmax(1)).mean()
accuracy = (frozen == test.labels).mean()
print(f"{changed:.1%} of the answers change; accuracy {accuracy:.1%}")

# %% tags=["hide-input"]
record("frozen_changed_frac", changed)
record("frozen_accuracy_frac", accuracy)

# %% [markdown]
# **Answer.** {{frozen_changed_frac:.1%}} of them, and the accuracy is {{frozen_accuracy_frac:.1%}} instead of
# {{test_accuracy_frac:.1%}}. In this small network, trained for minutes on drawings, the gate's attention to the individual face
# decides next to nothing. Whether it would at full size on photographs, this experiment can't say. It shows how to ask.
#
# ## 5 · Where does it look?
#
# [Grad-CAM](21_where_does_it_look.ipynb) draws which places of a layer raise the logit of the network's answer. The released script takes
# the third convolution, before its batch normalisation ({row:RE-B10}). Most tools would take a later layer, such as the map that leaves the
# gate. We draw both: on drawn faces, where we know which regions show the expression, and on a portrait, where we don't.

# %% tags=["hide-input"]
samples = make_faces(4, size=S.size, seed=SEED + 1000, difficulty="easy", masks=True)
evidence = samples.masks["evidence"]
heats = {}
for title, layer in (("third convolution", "official"), ("after the gate", None)):
    heat = explain.cam(model, samples.images, layer=layer)
    inside = (heat * evidence).sum() / heat.sum()
    record(f"heat_{'conv3' if layer else 'gate'}_frac", inside)
    heats[f"{title}\n{inside:.0%} inside"] = heat
record("evidence_frac", evidence.mean())
said = predict_probabilities(model, samples.images).argmax(1)
drawn_as = [samples.names[k] for k in samples.labels]
says = [names[k] for k in said]
titles = [f"drawn: {d}\nsays: {s}" for d, s in zip(drawn_as, says, strict=True)]
figure(
    plots.cam_grid(samples.images, heats, outlines=evidence, titles=titles),
    "heat",
    "Two layers of one network, two stories. Outlined: the regions that show the drawn"
    f" expression, {evidence.mean():.0%} of the picture.",
    "Four drawn faces; below each two heat maps with outlines.",
)

# %% tags=["hide-input"]
portrait = faces.portrait()
crop = faces.crop_face(portrait, faces.find_faces(portrait)[0], size=96)
crops = crop.transpose(2, 0, 1)[None]  # (1, 3, H, W)
answer = predict_probabilities(published, crops)[0]
record("portrait_top_frac", answer.max())
with explain.capture(published, "se.gate") as captured:
    predict_probabilities(published, crops)
record("portrait_gate_frac", captured["se.gate"].max())
layers = {
    "third convolution": explain.cam(published, crops, layer="official"),
    "after the gate": explain.cam(published, crops),
}
says = f"{published.labels[int(answer.argmax())]} {answer.max():.0%}"
figure(
    plots.cam_grid(crops, layers, titles=[says]),
    "portrait",
    "The astronaut Eileen Collins (public domain), seen by the published network. Its"
    " answer is clear, and again the two layers point to different places.",
    "A portrait and two heat maps over it.",
)

# %% [markdown]
# On the drawn faces, {{heat_conv3_frac:.0%}} of one layer's heat and {{heat_gate_frac:.0%}} of the other's lies inside the outlines.
# Heat spread evenly would have {{evidence_frac:.0%}} there. So neither map shows that the network looks at the expression, although its
# answers are mostly right. What a map explains is a logit, and coarsely, in 12 × 12 or 6 × 6 places. Which maps deserve trust, and
# how one finds out, is the subject of [notebook 21](21_where_does_it_look.ipynb). (In the published network, as you now know, the gate only
# halves the map: what "after the gate" shows there is a later layer, and no gating.)
#
# ## 6 · Take it apart
#
# Back to the question of the first page. The paper's Table IV leaves parts out: without the gate (C2), without convolution stages
# (C3, C4), without residual blocks (C5, C6). What it does not say is how the rest is joined ({row:RE-ablation-wiring}). Each stage
# also *halves the map*. If a stage goes, does its halving go with it, or does it stay?
#
# > **Question.** "Without convolution stages 1 and 2." Is that less work per picture than the full network, or more?


# %%
def count(name, wiring):
    """Multiply-adds at full width with one linear layer as head."""
    options = dict(ablation=name, wiring=wiring, head="linear")
    with torch.device("meta"):
        net = models.create_model("resemotenet", **options)
    return sum(row.macs for row in models.summarise(net, S.size))


full_work = count("C1", "drop_and_rewire")
goes = {name: count(name, "drop_and_rewire") / full_work for name in ("C1", *PARTS)}
stays = {name: count(name, "keep_pool") / full_work for name in ("C3", "C4")}

# %% tags=["hide-input"]
record("c4_work_ratio", goes["C4"])
record("c4_stays_ratio", stays["C4"])
record("c4_between_ratio", goes["C4"] / stays["C4"])
frame = pd.DataFrame({"configuration": list(goes)})
frame["left out"] = ["nothing", *PARTS.values()]
frame["work if the halving goes"] = list(goes.values())
frame["work if it stays"] = [stays.get(name, np.nan) for name in goes]
formats = dict.fromkeys(frame.columns[2:], "{:.2f} ×")
caption = f"Multiply-adds per picture of {S.size} px, compared with the full network."
caption += " Pooling can stay alone; a residual block takes its stride with it."
table(frame, "configurations", caption, formats=formats)

# %% [markdown]
# **Answer.** It can be either: {{c4_work_ratio:.1f}} times the work if the halving goes too, because all that follows sees larger maps;
# {{c4_stays_ratio:.1f}} times if it stays. The same words name two networks, and one of them does {{c4_between_ratio:.0f}} times the work of
# the other. Any difference in accuracy then mixes two things: fewer layers, and a closer look. (The names of the residual blocks leave
# room for a third reading: exercise 3.) Our long run lets the halving go.
#
# Now your own run: three configurations with {{seeds_n}} seeds each, drawn faces, balanced sampling.

# %%
right = {}  # configuration: (seeds, test images), whether the answer is right
for name in ("C1", "C2", "C6"):
    right[name] = []
    for seed in range(S.seeds):
        options = dict(recipe.model_options, ablation=name)
        changes = dict(seed=seed, sampler="balanced", model_options=options)
        net, _ = trained(recipe.overlay(changes))
        answers = predict_probabilities(net, test.images).argmax(1)
        right[name].append(answers == test.labels)
right = {name: np.array(rows) for name, rows in right.items()}

# %% tags=["hide-input"]
yours = {}
for name in ("C2", "C6"):  # seed by seed, on the same test images
    pairs = 100 * (right[name].mean(1) - right["C1"].mean(1))
    yours[PARTS[name]] = (*evaluation.mean_interval(pairs), list(pairs))
long_full = long_run.select({"model_options.ablation": "C1"}).right.mean(1)
your_full = right["C1"].mean(1)
record("seeds_n", S.seeds)
record("printed_gate_points", printed["the gate"])
record("your_gate_points", yours["the gate"][0])
record("your_blocks_points", yours["residual blocks 1 and 2"][0])
record("your_spread_points", 100 * np.ptp(your_full))
record("long_full_frac", long_full.mean())
record("long_spread_points", 100 * np.ptp(long_full))
both = {
    f"long run on FER2013 (full network {long_full.mean():.1%})": ours,
    f"yours on drawn faces (full network {your_full.mean():.1%})": yours,
}
figure(
    plots.forest(both, xlabel=what, first=1),
    "ablation",
    "Each small dot is a pair of networks with one seed, tested on the same images;"
    " bands are 95 % intervals of their mean. They all contain zero.",
    "Rows: parts left out; your run and the long run, with a dot per seed.",
)

# %% [markdown]
# How far is a difference just luck? The full network alone varies by {{your_spread_points:.1f}} points over your {{seeds_n}} seeds, and by
# {{long_spread_points:.1f}} over those of the long run. A single pair of runs can't show an effect of that size; the paper's {{printed_gate_points:.1f}}
# points for the gate are such an effect. Its other numbers, 6 to 19 points, are not: seeds don't explain them.
#
# **So which part does the work?** In our setting we can't find one that is needed: all bands contain zero, though differences of a point
# or two remain possible, and the convolution stages are still to be run. What decides in the paper's setting we don't know. Ours is an
# eighth of the width, eight epochs, FER2013 at 48 px, {{long_full_frac:.1%}}; the paper's is the full width, 80 epochs, RAF-DB, and perhaps another
# wiring. None of this refutes the paper. It shows that *the words of Table IV don't fix the experiment*, so nobody else can repeat it.
#
# ## Exercises
#
# ### Exercise 1 · by hand
#
# How many weights would the gate of the released network have with a ratio of 4 instead of 16, that is, with 64 hidden units?

# %%
answer_1 = None

# %% tags=["hide-input"]
weights = models.count_parameters(models.create_model("resemotenet", reduction=4).se)
check("weights of the gate", answer_1, weights, hint="Two matrices, and no biases.")

# %% [markdown]
# <details><summary>Hint</summary>
#
# $W_1$ turns 256 numbers into 64, $W_2$ turns 64 into 256.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# answer_1 = 256 * 64 + 64 * 256
# ```
#
# Two matrices without biases. Four times as many hidden units have four times as many weights: 32,768 instead of 8,192, of 80 million.
#
# </details>
#
# ### Exercise 2 · change the code
#
# Give a dead gate a second life. Replace the ReLU in `Gate` by a leaky ReLU, which multiplies negative numbers by 0.01 instead of by 0,
# and ask the toy again about channel means of 1 and 6. How far is the first gate from one half?

# %%
answer_2 = None  # |gate of channel 1 - 0.5|, with nn.functional.leaky_relu

# %% tags=["hide-input"]
hidden = nn.functional.leaky_relu(torch.tensor(1.0 - 6 / 3))
distance = abs(float(torch.sigmoid(2 * hidden)) - 0.5)
check("distance from one half", answer_2, distance, tolerance=1e-4)

# %% [markdown]
# <details><summary>Hint</summary>
#
# `nn.functional.leaky_relu`. The hidden unit becomes $0.01 \cdot (1 - 2) = -0.01$.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# class LeakyGate(Gate):
#     def forward(self, x):
#         z = x.mean((2, 3))
#         s = torch.sigmoid(self.W2(nn.functional.leaky_relu(self.W1(z))))
#         return x * s[:, :, None, None]
#
# leaky = LeakyGate(2, hidden=1)
# leaky.load_state_dict(toy.state_dict())
# x = torch.tensor([1.0, 6.0]).reshape(1, 2, 1, 1)
# gate_1 = float((leaky(x) / x)[0, 0].detach())
# answer_2 = abs(gate_1 - 0.5)
# ```
#
# The hidden unit is $-0.01$ instead of 0, and the first gate $\sigma(-0.02) = 0.495$. That is a tiny change of the answer. The gradient is
# what matters: it is no longer exactly zero, so training can bring the unit back.
#
# </details>
#
# ### Exercise 3 · paper and code
#
# The paper calls its residual blocks "256, 512, 1024". In the code these are the channels that *enter*
# the blocks. If a reader takes them for the channels that *leave* them, the last block ends with 1,024. How many times smaller does
# the network become, with one linear layer as head in both?

# %%
answer_3 = None

# %% tags=["hide-input"]
def size_of(wiring):
    net = models.create_model("resemotenet", head="linear", wiring=wiring)
    return models.count_parameters(net)


ratio = size_of("drop_and_rewire") / size_of("out_names")
check("times smaller", answer_3, ratio, tolerance=0.01, hint="Try wiring='out_names'.")

# %% [markdown]
# <details><summary>Hint</summary>
#
# `models.create_model("resemotenet", head="linear", wiring="out_names")`, and `models.count_parameters`.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# as_code = models.create_model("resemotenet", head="linear")
# as_text = models.create_model("resemotenet", head="linear", wiring="out_names")
# answer_3 = models.count_parameters(as_code) / models.count_parameters(as_text)
# ```
#
# Nearly four times: halving every width of a block halves both its inputs and its outputs, and a convolution's weights are their product.
#
# </details>
#
# ## What the paper reports, and what can be checked
#
# You have now built, trained and dissected the network, so you can judge its paper.
#
# **Losses that can't be.** Table IV prints a "Loss (%)" beside each accuracy, without saying what it is. Suppose it is 100 times the
# mean {term:cross entropy} on the test images. A picture costs $-\ln p$, with $p$ the probability of its true class. If the answer
# is wrong, some other class got at least as much as the true one, so $p$ is at most one half, and the picture costs at least $\ln 2 =
# 0.69$. If a share $a$ of the answers is right, the mean is therefore at least $(1 - a)\ln 2$, however good the network is
# otherwise. For C5, with {{printed_c5_frac:.2%}} right, that is {{least_c5_nats:.4f}}. Printed is {{printed_c5_nats:.4f}}.

# %% tags=["hide-input"]
configurations = ["C1", *PARTS]
accuracy, loss = (
    np.array([table_iv.cell(name, column) for name in configurations])
    for column in ("accuracy %", "loss %")
)
frame = pd.DataFrame({"left out": ["nothing", *PARTS.values()]}, index=configurations)
frame["accuracy printed"], frame["loss printed"] = accuracy, loss
frame["least possible"] = (100 - accuracy) * np.log(2)
frame["can it be?"] = np.where(loss < frame["least possible"], "no", "yes")
record("impossible_losses_n", (frame["can it be?"] == "no").sum())
record("printed_c5_frac", frame.loc["C5", "accuracy printed"] / 100)
record("least_c5_nats", frame.loc["C5", "least possible"] / 100)
record("printed_c5_nats", frame.loc["C5", "loss printed"] / 100)
formats = {column: "{:.2f}" for column in frame if frame[column].dtype == float}
caption = "Table IV against the bound, in percent: four losses are below it."
table(frame.reset_index(names="configuration"), "losses", caption, formats=formats)

# %% [markdown]
# {{impossible_losses_n}} of the six cannot be, *under this reading*. Two other readings would allow them: a loss on other images than the
# accuracy (the training images, say), or a mean with class weights, which the paper does mention. So the table does not show that the
# authors erred. It shows that the column can't be used until someone says what it is.
#
# **Accuracies.** What has been reported for this network on FER2013?

# %% tags=["hide-input"]
reports = paper.tables["reports"]
seen = {"the paper": [paper.tables["III"].cell("ResEmoteNet", "FER2013")]}
for r in (reports.row(key) for key in reports.rows):
    words = str(r["accuracy %"]).split()
    numbers = [float(w) for w in words if w.replace(".", "").isdigit()]
    kind = "users: trained on FER2013"
    kind = "users: trained on the authors' copy" if "shared" in r["data"] else kind
    kind = "users: released weights" if "released" in r["setting"] else kind
    if "FER2013" in r["data"]:
        seen.setdefault(kind, []).extend(numbers)
measured = runs.read_record("resemotenet-teach-fer2013")["test"]
mine = "ours: quarter width, FER2013"
seen[mine] = [100 * measured["accuracy"]]
band = tuple(100 * v for v in measured["intervals"]["accuracy"])
record("paper_fer2013_frac", seen["the paper"][0] / 100)
record("ours_fer2013_frac", measured["accuracy"])
record("users_low_frac", min(seen["users: trained on FER2013"]) / 100)
record("users_high_frac", max(seen["users: trained on FER2013"]) / 100)
figure(
    plots.groups(seen, xlabel="accuracy on FER2013 (%)", bands={mine: band}),
    "reports",
    "One network, many numbers. Users' numbers are what they wrote in the repository's"
    " issues; we repeated none of them. (Band: 95 % interval of ours.)",
    "Rows of dots: paper 80, users near 60, users of the shared copy near 90, ours 65.",
)

# %% [markdown]
# The paper reports {{paper_fer2013_frac:.1%}}. Users who trained the code on FER2013 write {{users_low_frac:.0%}} to
# {{users_high_frac:.0%}}; with a copy of the data that the authors shared, about 90 %, *above* the paper. Our quarter-width network, trained in
# another way, has {{ours_fer2013_frac:.1%}}. Numbers this far apart usually mean that the test images differ, or that some of them were also in
# the training set ({row:RE-D1}); how that happens is the subject of [notebook 23](23_leak_laboratory.ipynb). We can't tell here who is right. We
# have not examined the shared copy; the maintainer's advice to the users was to augment the data, and to use that copy.
#
# Six rows of the ledger that you can now judge for yourself:

# %%
rows = ["head", "dropout", "A11", "class-weights", "ablation-wiring", "A5"]
ledger_table("resemotenet", *rows)

# %% [markdown]
# ## What you found
#
# - The network has {{parameters_n:,}} parameters, and {{block3_parameters_frac:.0%}} of them lie in its last block. At 48 and 64 px its last
#   pooling averages {{places_48_n}} number.
# - A network that was right in {{test_accuracy_frac:.0%}} of all cases recognised {{disgust_right_n}} of {{disgust_test_n}} disgusted faces.
#   With class weights it recognised {{weighted_disgust_n}}, with balanced sampling {{sampled_disgust_n}}.
# - The gate of our published network is as good as dead: of {{narrow_hidden_n}} hidden units {{narrow_alive_n}} is ever on, and every gate lies between {{narrow_gate_low_frac:.4f}} and
#   {{narrow_gate_high_frac:.4f}}. Yours, with 16, is alive, and freezing it changed {{frozen_changed_frac:.1%}} of the answers.
# - "Without convolution stages 1 and 2" names two networks, of {{c4_work_ratio:.1f}} and {{c4_stays_ratio:.1f}} times the work of the full one. In
#   our long run on real faces, leaving out residual block 1 gave {{long_block1_points:+.1f}} points, where the paper prints
#   {{printed_block1_points:+.1f}}.
# - A wrong answer costs at least ln 2. If Table IV's losses are mean cross entropies on the images of its accuracies, {{impossible_losses_n}} of
#   the six are too small to be true.
#
# Recipes at full size are in `notebooks/recipes/resemotenet/`; [notebook 40](40_run_one_experiment.ipynb) runs them.

# %%
footer(faceset)
