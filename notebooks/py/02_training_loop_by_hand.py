# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 02 · A CNN and its training loop, by hand
#
# *Work out a small network on paper, write its training loop, and find out why the last epoch is not the best one.*
#
# Below are ten drawn faces with their labels, just as a network will get them.
#
# > **Question.** Two of the ten labels are wrong. Can you find both?

# %% tags=["parameters"]
PROFILE = "teach"  # smoke (seconds) or teach (minutes on a laptop)
SEED = 0

# %% tags=["hide-input"]
import numpy as np
import pandas as pd
import torch
from torch import nn

from ferkit import data, evaluation, explain, models, plots, predict, training
from ferkit.notebook import check, figure, footer, ledger_table, profile, record, table
from ferkit.synthetic import PROTOTYPES, face_from_action_units, make_faces
from ferkit.widgets import explore

F = nn.functional
S = profile(
    PROFILE,
    chapter=2,
    smoke=dict(
        n_train=700, n_test=200, epochs=5, fit_epochs=1, seeds=2, seed_epochs=2,
        sweep_train=160, sweep_epochs=2,
    ),
    teach=dict(
        n_train=2500, n_test=1000, epochs=16, fit_epochs=3, seeds=4, seed_epochs=6,
        sweep_train=600, sweep_epochs=6,
    ),
)

# %% tags=["hide-input"]
drawn = make_faces(
    60, size=48, seed=0, imbalance="fer2013", difficulty="easy", label_noise=0.2
)
ten = [11, 12, 47, 51, 1, 50, 25, 23, 19, 45]
titles = [f"{n}: {drawn.names[drawn.labels[i]]}" for n, i in enumerate(ten, 1)]
mismatch = drawn.labels[ten] != drawn.true_labels[ten]
first, second = np.flatnonzero(mismatch) + 1
record("first_wrong_n", first)
record("second_wrong_n", second)
figure(
    plots.face_grid(drawn.images[ten], titles, columns=5, size=1.35),
    "labels",
    "Ten faces of 48 × 48 pixels, each with the label that the network is told. Eight"
    " labels are right.",
    "Two rows of five drawn faces with emotion names above them; most names fit.",
)

# %% [markdown]
# **Answer.** Numbers {{first_wrong_n}} and {{second_wrong_n}}: a smiling face is called neutral, and a sad one angry.
#
# Real collections have such labels too, because people disagree about faces
# ([notebook 01](01_faces_labels_splits.ipynb)). Here we put them in on purpose: of the {{train_n}} labels that our network
# learns from, about one in five is wrong ({{wrong_n}}), and nobody tells the network which. During its pass number {{epochs_n}} over the pictures it will
# agree with {{last_train_frac:.0%}} of these labels. Is that good news? When you can answer this, you know what a training
# loop does, and when to stop it.
#
# We build everything from arithmetic: first the network ({{parameters_n}} numbers), then the price of a wrong answer, then
# the loop that lowers the price. The main steps come twice, **by hand** and **by PyTorch**, and the two are compared. You need
# Python and a little PyTorch. In the code, `S` holds the sizes of this run: how many pictures, epochs and seeds.
#
# ## 1 · A convolution, on paper
#
# A {term:convolution} slides a small table of numbers, the {term:kernel}, over a picture. Wherever the kernel lies, we multiply
# each pixel under it by the kernel's number at that place, and add the products. Each position gives one number.
#
# Take a picture of 4 × 6 pixels, dark (0) on the left and bright (9) on the right, and a kernel of 3 × 3 that subtracts the
# left neighbours from the right ones. The kernel fits in at 2 × 4 positions.

# %%
picture = torch.tensor([[0.0, 0, 9, 9, 9, 9]] * 4)  # (4, 6)
kernel = torch.tensor([[-1.0, 0, 1]] * 3)  # (3, 3)

by_hand = torch.zeros(2, 4)
for i in range(2):
    for j in range(4):
        by_hand[i, j] = (picture[i : i + 3, j : j + 3] * kernel).sum()

by_pytorch = F.conv2d(picture[None, None], kernel[None, None])[0, 0]
assert torch.equal(by_hand, by_pytorch)


# %% tags=["hide-input"]
def convolve(row=0, column=0):
    """The window at one position, and the output up to there."""
    return plots.sliding_window(picture, kernel, row, column)


explore(
    convolve,
    row=(0, 1),
    column=(0, 3),
    strip=[{"row": 0, "column": 0}, {"row": 1, "column": 3}],
    name="sliding",
    caption="The framed window gives the framed number. Over the step from dark to"
    " bright it gives 27, over an even ground 0.",
    alt="A table of pixels with a framed window, a kernel of three columns -1, 0 and 1,"
    " and the output, in two states.",
)

# %% [markdown]
# Check the first window of {fig:sliding}: each of its three rows gives $-1 \cdot 0 + 0 \cdot 0 + 1 \cdot 9 = 9$, together 27. Move the window
# yourself, and work out its sum before you look. The kernel answers where the picture changes from left to right, so it finds upright
# edges. Other numbers find other things. Turned by a quarter, the same kernel finds level edges, and a kernel that compares a pixel with its
# eight neighbours finds what is darker than its surroundings:
#
# $$\underbrace{\begin{pmatrix} -1 & 0 & 1 \\ -1 & 0 & 1 \\ -1 & 0 & 1 \end{pmatrix}}_{\text{upright edges}} \qquad
# \underbrace{\begin{pmatrix} -1 & -1 & -1 \\ 0 & 0 & 0 \\ 1 & 1 & 1 \end{pmatrix}}_{\text{level edges}} \qquad
# \underbrace{\begin{pmatrix} 1 & 1 & 1 \\ 1 & -8 & 1 \\ 1 & 1 & 1 \end{pmatrix}}_{\text{darker than around}}$$
#
# The numbers of each kernel add up to 0, so over an even ground all three give 0.


# %% tags=["hide-input"]
KERNELS = {
    "upright edges": [[-1, 0, 1]] * 3,
    "level edges": [[-1, -1, -1], [0, 0, 0], [1, 1, 1]],
    "darker than around": [[1, 1, 1], [1, -8, 1], [1, 1, 1]],
}


def seen_by_kernels(expression="surprise", person=3):
    """A drawn face, and what each kernel makes of it."""
    face = face_from_action_units(PROTOTYPES[expression], seed=person, size=64)
    x = torch.tensor(face, dtype=torch.float32)[None, None] / 255
    maps = {}
    for name, numbers in KERNELS.items():
        kernel = torch.tensor(numbers, dtype=torch.float32)
        maps[name] = F.conv2d(x, kernel[None, None])[0, 0].numpy()
    return plots.filtered(face, maps, title=expression)


explore(
    seen_by_kernels,
    expression=list(PROTOTYPES)[:7],
    person=(0, 9, 1),
    strip=[{"expression": "surprise"}, {"expression": "happiness"}],
    name="kernels",
    caption="Red is positive, blue negative, white zero. Brows, eyes and lips are level"
    " edges, so in the map *level edges* the two mouths already look different.",
    alt="A surprised and a happy drawn face, each with three maps of its edges.",
)

# %% [markdown]
# We chose these kernels. A **CNN**, a convolutional neural network, finds its kernels itself: their numbers are {term:parameter|parameters},
# and training adjusts them.
#
# ### How large is the result?
#
# For a picture with a side of $n$ pixels, a kernel of side $k$, a *padding* of $p$ zeros around the picture and a *stride* of $s$ pixels
# from one position to the next, the output has the side
#
# $$\left\lfloor \frac{n + 2p - k}{s} \right\rfloor + 1 .$$
#
# Above it was $(6 + 0 - 3)/1 + 1 = 4$ positions in a row. {term:pooling|Max pooling} keeps the largest of $k \times k$ numbers: of the four
# numbers 0, 3, 2 and 0 it keeps 3. Its side follows the same formula.
#
# > **Question.** A picture has 48 × 48 pixels. Which side comes out of a convolution with kernel 3, padding 1, stride 1? And out of max
# > pooling with kernel 2, stride 2, behind it?

# %% tags=["nbval-check-output"]
x = torch.zeros(1, 1, 48, 48)  # (pictures, channels, height, width)
x = nn.Conv2d(1, 8, kernel_size=3, padding=1)(x)
print("after the convolution", tuple(x.shape))
x = nn.MaxPool2d(2)(x)
print("after max pooling    ", tuple(x.shape))

# %% [markdown]
# **Answer.** $(48 + 2 - 3)/1 + 1 = 48$, so this convolution keeps the side; then $(48 - 2)/2 + 1 = 24$, so pooling halves it.
#
# The second number of a shape counts {term:channel|channels}. This layer has 8 kernels and makes 8 maps. A kernel of the next layer reaches
# through all 8 of them: from 8 to 16 channels takes 16 kernels of $8 \times 3 \times 3$ numbers, and one number added to each map, its *bias*.
# That makes $16 \cdot (8 \cdot 9 + 1) = 1168$ parameters.
#
# ## 2 · The network
#
# It has three stages of four steps, and one *linear layer* at the end. The linear layer takes the numbers of all maps written in one row (*flattened*)
# and computes each of its outputs as a weighted sum of them plus a bias.

# %% tags=["hide-input"]
stages = []
for number, text in enumerate(("8\n24 × 24", "16\n12 × 12", "32\n6 × 6"), 1):
    stages += [plots.Box(f"stage {number}\nconv 3×3\nBN, ReLU\nmax pool"), text]
figure(
    plots.Diagram(
        plots.Box("face", kind="data"),
        "1\n48 × 48",
        *stages,
        plots.Box("linear", kind="head"),
        "7",
        plots.Box("softmax", kind="head"),
        "7",
    ),
    "network",
    "From a face to seven probabilities. On each arrow the number of channels, below it"
    " the side of the maps: the maps become smaller and more.",
    "A chain: face, three stages, linear layer, softmax, with shapes on the arrows.",
)

# %% [markdown]
# | step | what it does | parameters |
# |---|---|---|
# | convolution 3 × 3 | looks for patterns | $c_{out} \cdot (9\,c_{in} + 1)$ |
# | {term:batch normalisation}, BN [@batchnorm] | brings each channel to mean 0 and variance 1, then scales and shifts it | $2\,c_{out}$ |
# | ReLU | turns negative numbers into 0: −1, 3, 2, −5 become 0, 3, 2, 0 | none |
# | max pooling 2 × 2 | keeps the largest of four numbers, halves the side | none |
# | linear layer | weighs all inputs; here $c_{in} = 32 \cdot 6 \cdot 6 = 1152$ and $c_{out} = 7$ | $c_{out} \cdot (c_{in} + 1)$ |
#
# The softmax at the end of {fig:network} turns seven numbers into probabilities; section 3 explains it. It has no parameters and is not part of the
# network's code below: our network returns the seven numbers *before* the softmax.
#
# Batch normalisation, by hand on a batch of four pictures that have one channel and one pixel each:

# %%
batch = torch.tensor([1.0, 2.0, 3.0, 6.0])  # mean 3, variance (4 + 1 + 0 + 9) / 4 = 3.5
by_hand = (batch - 3) / 3.5**0.5

layer = nn.BatchNorm2d(1)
training_mode = layer(batch.reshape(4, 1, 1, 1)).flatten()
layer.eval()
inference_mode = layer(batch.reshape(4, 1, 1, 1)).flatten()
assert torch.allclose(by_hand, training_mode, atol=1e-4)

# %% tags=["hide-input"]
normalised = (by_hand, training_mode, inference_mode)
frame = pd.DataFrame(
    {"how": ["by hand", "by PyTorch, training", "by PyTorch, inference"]}
    | {f"picture {k + 1}": [v.tolist()[k] for v in normalised] for k in range(4)}
)
table(
    frame,
    "batch-norm",
    "Batch normalisation of the numbers 1, 2, 3 and 6.",
    formats=dict.fromkeys(frame.columns[1:], "{:.2f}"),
)

# %% [markdown]
# In {tab:batch-norm} the first two rows agree. The third does not, although it is the same layer with the same input: in training BN uses the mean and
# variance of the batch at hand, and in {term:inference} it uses running averages, so that the answer for one face does not depend on who
# else is in the batch. (After one batch these averages have hardly moved from where they start.) `model.train()` and `model.eval()` switch
# between the two, and forgetting the switch is a classic mistake.
#
# Now the network. `FerModel` is a PyTorch module that also says which pictures it takes. It is written in two halves: from the picture to a
# list of numbers, its {term:feature|features}, and from these to one number per class.


# %%
class TinyCNN(models.FerModel):
    """Three stages of convolution, batch norm, ReLU and pooling, and a linear layer."""

    input_size, colour = 48, "grey"
    mean, std = (0.5,), (0.25,)  # a pixel in [0, 1] becomes (pixel - 0.5) / 0.25

    def __init__(self, num_classes=7):
        super().__init__()
        self.stage1 = self.stage(1, 8)
        self.stage2 = self.stage(8, 16)
        self.stage3 = self.stage(16, 32)
        self.fc = nn.Linear(32 * 6 * 6, num_classes)

    @staticmethod
    def stage(c_in, c_out):
        return nn.Sequential(
            nn.Conv2d(c_in, c_out, kernel_size=3, padding=1),
            nn.BatchNorm2d(c_out),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )

    def forward_features(self, images):
        x = self.stage1(images)  # (B, 8, 24, 24)
        x = self.stage2(x)  # (B, 16, 12, 12)
        x = self.stage3(x)  # (B, 32, 6, 6)
        return x.flatten(1)  # (B, 1152)

    def forward_head(self, features):
        return self.fc(features)  # (B, 7)


# %% [markdown]
# By hand we take the formulas of the table. `summarise` sends a picture of zeros through and writes down what it meets. It also counts
# {term:multiply-add|multiply-adds}: a convolution does $9\,c_{in}$ of them for each of its $c_{out}$ outputs at each place of its map.
#
# > **Question.** Which part has the most parameters, and which does the most work?

# %%
by_hand, side, c_in = [], 48, 1
for c_out in (8, 16, 32):
    parameters = c_out * (9 * c_in + 1) + 2 * c_out  # convolution and BN
    work = 9 * c_in * c_out * side * side  # the convolution comes before the pooling
    side, c_in = side // 2, c_out
    by_hand.append(((c_out, side, side), parameters, work))
by_hand.append(((7,), 7 * (32 * 6 * 6 + 1), 7 * 32 * 6 * 6))

rows = models.summarise(TinyCNN())
assert by_hand == [(row.shape, row.params, row.macs) for row in rows]

# %% tags=["hide-input"]
record("parameters_n", models.count_parameters(TinyCNN()))
record("linear_parameters_frac", rows[-1].params / sum(row.params for row in rows))
record("linear_work_frac", rows[-1].macs / sum(row.macs for row in rows))
figure(
    plots.stage_bars(rows),
    "cost",
    "Where the parameters are, and where the work is; fc is the linear layer. Counted"
    " by hand and by PyTorch, they are the same.",
    "Bars of parameters and of multiply-adds for three stages and the linear layer.",
)

# %% [markdown]
# **Answer.** The linear layer has {{linear_parameters_frac:.0%}} of the {{parameters_n}} parameters and does {{linear_work_frac:.1%}} of the work.
# The work is in stages 2 and 3 ({fig:cost}). A network with few parameters is therefore not necessarily a fast one.
#
# ## 3 · How wrong is an answer?
#
# For each face the network gives seven numbers, the {term:logit|logits} $z_k$. {term:softmax|Softmax} turns them into probabilities, and
# {term:cross entropy} is the price of the answer: minus the logarithm of the probability that the label got.
#
# $$p_k = \frac{e^{z_k}}{\sum_j e^{z_j}}, \qquad \ell = -\ln p_{\text{label}}$$
#
# By hand, for three classes with logits 2, 1 and 0, the first of them being the label: $e^2 = 7.39$, $e^1 = 2.72$, $e^0 = 1$, together
# 11.11, so the label gets $7.39 / 11.11 = 0.665$, and the price is $-\ln 0.665 = 0.408$. PyTorch's `cross_entropy` takes the logits and contains the
# softmax, so the network need not compute it.

# %% tags=["nbval-check-output"]
logits = torch.tensor([2.0, 1.0, 0.0])
print("probabilities", [round(p, 3) for p in logits.softmax(0).tolist()])
print("cross entropy", round(F.cross_entropy(logits, torch.tensor(0)).item(), 3))

# %% [markdown]
# The unit is the {term:nat}, because the logarithm is the natural one. With seven classes, the price of an answer depends on the
# probability of the label like this:


# %% tags=["hide-input"]
def answer(happiness=2.0, surprise=2.5):
    """Softmax and cross entropy of seven logits, five of them 0."""
    p = torch.tensor([happiness, surprise, *[0.0] * 5]).softmax(0).tolist()
    others = ("neutral", "sadness", "fear", "disgust", "anger")
    classes = dict(zip(("happiness", "surprise", *others), p, strict=True))
    return plots.price(classes, true="happiness")


explore(
    answer,
    happiness=(-1.0, 6.0, 0.5),
    surprise=(-1.0, 6.0, 0.5),
    strip=[
        {"happiness": 6.0, "surprise": 0.0},
        {"happiness": 0.0, "surprise": 0.0},
        {"happiness": 2.0, "surprise": 2.5},
        {"happiness": 0.0, "surprise": 6.0},
    ],
    name="price",
    caption="Four answers for a face labelled happiness; above each, the two logits;"
    " the five other logits are 0. Being sure and right costs almost nothing,"
    " being sure and wrong costs most.",
    alt="Four copies of the curve of minus the logarithm, with a dot for each answer.",
)

# %% [markdown]
# Two levels in {fig:price} are worth knowing by heart.
#
# - **$\ln 7 = 1.95$** is the price of knowing nothing: every class gets $1/7$. An untrained network starts near it.
# - **$\ln 2 = 0.69$** is the least that a *wrong* answer costs. If another class was chosen, that class got at least as much probability as
#   the label, so the label got one half at most.
#
# Move it yourself: find an answer that is right and costs more than $\ln 2$.
#
# <details><summary>One such answer</summary>
#
# Happiness 1 and surprise 0: the label gets $e / (e + 6) = 0.31$, more than any other class, and the price is 1.17.
#
# </details>
#
# ### The floor
#
# If all labels could be known from the face, the price could go down to 0: the network would only have to become surer and surer. Ours
# cannot. One label in five is wrong, and a face does not show whether its label is wrong.
#
# > **Question.** Suppose a perfect network sees the true class of every face. With which probability should it say so, if each label is
# > the true class with probability 0.8, and one of the six others with probability 0.2?
#
# If it gives $p$ to the true class and shares $1 - p$ among the six others, its mean price is
#
# $$-0.8 \ln p \;-\; 0.2 \ln \frac{1 - p}{6} .$$

# %% tags=["nbval-check-output"]
NOISE = 0.2  # the share of wrong labels


def mean_price(p):
    """Of a perfect network that gives p to the true class, with NOISE wrong labels."""
    return -(1 - NOISE) * np.log(p) - NOISE * np.log((1 - p) / 6)


floor = mean_price(1 - NOISE)
print(f"p = 0.5: {mean_price(0.5):.3f}  0.8: {floor:.3f}  0.99: {mean_price(0.99):.3f}")

# %% tags=["hide-input"]
record("floor_nats", floor)
record("too_sure_nats", mean_price(0.99))
grid = np.linspace(0.3, 0.995, 140)
figure(
    plots.lines(
        grid,
        {"one label in five wrong": mean_price(grid), "no wrong labels": -np.log(grid)},
        marks={f"floor {floor:.2f}": 0.8},
        xlabel="probability given to the true class",
        ylabel="mean price (nats)",
    ),
    "floor",
    "With true labels, being surer always pays. With one wrong label in five the price"
    " has a floor: a network that is surer than 80 % pays more, even if it knows every"
    " face.",
    "Two curves: one falls to zero, one has a valley at 0.8 and rises towards 1.",
)

# %% [markdown]
# **Answer.** With 0.8, the share of labels that are right. The mean price is then {{floor_nats:.2f}} nats, and on *new* faces no network can pay less on
# average if one label in five is wrong, however good it is. Saying 0.99 costs {{too_sure_nats:.2f}} ({fig:floor}). (Setting the derivative $-0.8/p + 0.2/(1-p)$ to zero gives
# $p = 0.8$ as well.)
#
# Keep this in mind: a network whose training loss falls *below the floor of its training labels* has learned something that is not in the
# expression: which label belongs to which single picture.
#
# Now the faces themselves. They are drawn from *action units*, numbers that say how far each part of the face moves
# (brows up, lip corners up). The classes have the proportions of FER2013, a well-known collection of photographs in which disgust is rare.
# `difficulty="easy"` asks for clearly shown expressions. A part of the training pictures
# becomes the {term:validation set}, on which we will choose. The labels of both are noisy: each was replaced by one of the six
# others with probability 0.2. Those of the {term:test set} are true, because we want to know in the end how many faces, not how many labels, the
# network gets right.

# %%
drawing = dict(
    n_train=S.n_train,
    n_test=S.n_test,
    size=48,
    seed=0,
    imbalance="fer2013",
    difficulty="easy",
)
faces = data.load("synthetic", **drawing, label_noise=NOISE)
faces = data.carve_validation(faces, fraction=0.2)
train, validation, test = map(faces.select, ("train", "validation", "test"))

clean = data.load("synthetic", **drawing)  # the same pictures, drawn with true labels
truth = {split: clean.labels[faces.split == split] for split in faces.splits()}
wrong = train.labels != truth["train"]  # for us to look at; the network never sees it
print(f"{len(train)} training pictures, {wrong.sum()} of them with a wrong label")
misled = validation.labels != truth["validation"]
print(f"{len(validation)} validation pictures, {misled.sum()} with a wrong label")
print(f"{len(test)} test pictures, all labels true")

# %% [markdown]
# > **Question.** More than one training label in five is that of the largest class, and very few are disgust. Suppose a network never looks at a face, and
# > always answers with these shares as its probabilities. Does it pay more or less than $\ln 7 = 1.95$? And does our untrained network start where it should?


# %%
def scores(model, faces):
    """Cross entropy in nats and accuracy, in inference."""
    p = predict.predict_probabilities(model, faces.images)  # (N, 7)
    of_label = p[np.arange(len(p)), faces.labels].clip(1e-12)  # log(0) is infinite
    return {
        "val_loss": float(-np.log(of_label).mean()),
        "val_accuracy": float((p.argmax(1) == faces.labels).mean()),
    }


share = np.bincount(train.labels) / len(train)
frequencies = float(-(share * np.log(share)).sum())
torch.manual_seed(SEED)
untrained = scores(TinyCNN(), validation)["val_loss"]
print(f"knows the frequencies {frequencies:.2f} nats, untrained {untrained:.2f} nats")

# %% tags=["hide-input"]
record("train_n", len(train))
record("wrong_n", wrong.sum())
record("right_labels_frac", 1 - wrong.mean())
record("val_right_labels_frac", 1 - misled.mean())
record("frequencies_nats", frequencies)
record("untrained_nats", untrained)


def floor_of(q):
    """The least mean price if a share q of the labels is wrong."""
    return -(1 - q) * np.log(1 - q) - q * np.log(q / 6)


floor_train, floor_val = floor_of(wrong.mean()), floor_of(misled.mean())
record("floor_here_nats", floor_train)
record("floor_val_nats", floor_val)
largest = int(np.bincount(train.labels).argmax())
always = [float((split.labels == largest).mean()) for split in (train, validation)]
price_val = float(-np.log(share[validation.labels]).mean())
right_shares = [1 - wrong.mean(), 1 - misled.mean()]
LANDMARKS = {
    "loss": {"knows nothing": np.log(7), "knows frequencies": frequencies}
    | {"floor, training": floor_train, "floor, validation": floor_val},
    "accuracy": {"knows frequencies": always[1]}
    | {"right labels, training": right_shares[0]}
    | {"right labels, validation": right_shares[1]},
}

# %% tags=["hide-input"]
levels = [
    ("knows nothing", np.log(7), np.log(7), 1 / 7, 1 / 7),
    ("knows the frequencies", frequencies, price_val, *always),
    ("knows every true class", floor_train, floor_val, *right_shares),
]
measured = ["loss, training", "loss, validation", "accuracy, training"]
measured.append("accuracy, validation")
frame = pd.DataFrame(levels, columns=["who", *measured])
table(
    frame,
    "landmarks",
    "Three levels that a curve can be compared with. The last row is the floor of each"
    " split, computed from its own share of wrong labels, and the highest accuracy that"
    " true answers can reach there.",
    formats=dict.fromkeys(measured[:2], "{:.2f}")
    | dict.fromkeys(measured[2:], "{:.1%}"),
)

# %% [markdown]
# **Answer.** Less, but only a little: {{frequencies_nats:.2f}} nats. A training that stays there has not looked at a single face. Our untrained
# network starts at {{untrained_nats:.2f}}, near "knows nothing", as it should. Far above it, something would be wrong.
#
# By chance not exactly 80 % of the labels are right, but {{right_labels_frac:.1%}} in training and {{val_right_labels_frac:.1%}} in validation. So each split has a
# floor of its own ({tab:landmarks}): {{floor_here_nats:.2f}} nats for training, {{floor_val_nats:.2f}} for validation. A network
# pays this floor if it knows every true class, gives that class a probability equal to the share of right labels, and divides the rest evenly among
# the six others. These are the levels that we draw below.
#
# ## 4 · Which way is better?
#
# How should the parameters change so that the price falls? The {term:gradient} says for each number how fast the loss grows when that
# number grows. Let us compute it for the logits, on the example from above: $z = (2, 1, 0)$, $p = (0.665, 0.245, 0.090)$, and the first class is
# the label. Written out, the loss is
#
# $$\ell = -\ln \frac{e^{z_1}}{e^{z_1} + e^{z_2} + e^{z_3}} = -z_1 + \ln\left(e^{z_1} + e^{z_2} + e^{z_3}\right).$$
#
# - The first term contains only the logit of the label. Its derivative is $-1$ for $z_1$ and 0 for the others.
# - The derivative of $\ln(\ldots)$ with respect to $z_k$ is $e^{z_k}$ divided by the sum, and that is just $p_k$.
#
# Together, with $y = (1, 0, 0)$ for the label: $\partial \ell / \partial z_k = p_k - y_k$. What the network said, minus what it was told. Here
# that is $(-0.335, 0.245, 0.090)$. We check it in two ways: by nudging each logit and watching the loss, and by PyTorch, which follows the
# chain of operations backwards (*autograd*).

# %%
z = torch.tensor([2.0, 1.0, 0.0], dtype=torch.float64, requires_grad=True)
label = torch.tensor(0)
by_hand = z.detach().softmax(0) - torch.tensor([1.0, 0.0, 0.0])

loss = F.cross_entropy(z, label)
loss.backward()
nudged = torch.zeros(3)
for k in range(3):
    nudge = torch.zeros(3)
    nudge[k] = 0.001
    nudged[k] = (F.cross_entropy(z.detach() + nudge, label) - loss.detach()) / 0.001

# %% tags=["hide-input"]
frame = pd.DataFrame(
    {"how": ["by hand: p − y", "by nudging, 0.001 each", "by autograd"]}
    | {f"z{k + 1}": [float(v[k]) for v in (by_hand, nudged, z.grad)] for k in range(3)}
)
caption = "The same gradient three times: raise the label's logit, lower the others."
table(frame, "gradient", caption, formats={f"z{k}": "{:+.3f}" for k in (1, 2, 3)})

# %% [markdown]
# The three numbers add up to 0: whatever the label gains, the others lose. And the gradient vanishes only when $p = y$, which needs an infinitely
# large logit, so for a single picture the push towards "surer" never ends. (Over many pictures it can: where labels contradict each other, the pushes
# cancel at the floor of section 3.)
#
# **One layer down.** In a linear layer $z_k = \sum_i w_{ki} x_i$, a weight $w_{ki}$ changes only $z_k$, and does so $x_i$ times as fast. So
# $\partial \ell / \partial w_{ki} = (p_k - y_k)\, x_i$. With two features $x = (1, 2)$, two classes and all weights 0, both probabilities are ½. If
# the first class is the label, $p - y = (-\tfrac12, \tfrac12)$ and
#
# $$\frac{\partial \ell}{\partial W} = \begin{pmatrix} -\tfrac12 & -1 \\ \tfrac12 & 1 \end{pmatrix}.$$
#
# Then we take a step: multiply the gradient by a small number, the {term:learning rate} $\eta$, and subtract the result. With $\eta = 0.1$ the
# weights become
#
# $$W = \begin{pmatrix} 0.05 & 0.1 \\ -0.05 & -0.1 \end{pmatrix}.$$
#
# The logits are now $0.05 \cdot 1 + 0.1 \cdot 2 = 0.25$ and $-0.25$. The label gets $1 / (1 + e^{-0.5}) = 0.622$, and the price is
# $-\ln 0.622 = 0.474$.

# %% tags=["nbval-check-output"]
x, label = torch.tensor([1.0, 2.0]), torch.tensor(0)
W = torch.zeros(2, 2, requires_grad=True)
before = F.cross_entropy(W @ x, label)
before.backward()
assert torch.equal(W.grad, torch.tensor([[-0.5, -1.0], [0.5, 1.0]]))

eta = 0.1
after = F.cross_entropy((W - eta * W.grad) @ x, label)
print(f"loss before the step {before.item():.3f} (ln 2), after it {after.item():.3f}")

# %% [markdown]
# The convolutions below get their gradients in the same way, one layer after the other, and autograd keeps the books.
#
# ### How long should a step be?
#
# Take the simplest valley, a loss of $w^2 / 2$ with one parameter. Its gradient is $w$.
#
# > **Question.** From which learning rate on does a walk in this valley no longer come down?


# %%
def walk(learning_rate, steps=12):
    """Gradient descent on w² / 2, from w = -2."""
    path = [-2.0]
    for _ in range(steps):
        path.append(path[-1] - learning_rate * path[-1])
    return path


# %% tags=["hide-input"]
def descent(learning_rate=0.1):
    """The walk, drawn over its valley."""
    return plots.walk_downhill(walk(learning_rate))


explore(
    descent,
    learning_rate=[0.02, 0.1, 0.5, 1.0, 1.5, 1.8, 2.0, 2.05],
    strip=[{"learning_rate": rate} for rate in (0.02, 0.5, 1.8, 2.05)],
    name="valley",
    caption="Twelve steps from the black dot. A small rate crawls, a large one jumps"
    " across the valley, and above 2 each jump ends higher than it began.",
    alt="Four parabolas with the points of a walk: it crawls, arrives, jumps, rises.",
)

# %% [markdown]
# **Answer.** From 2 on. Each step multiplies $w$ by $1 - \eta$, so the walk comes down exactly if $1 - \eta$ lies between $-1$ and 1. At 2.05 each
# step multiplies by $-1.05$, and the loss grows from 2.00 to {{climbed_nats:.2f}}. Move it yourself: find the rate that arrives in a single step.
#
# <details><summary>The rate</summary>
#
# 1, because then $1 - \eta = 0$.
#
# </details>
#
# The loss of a network has thousands of directions, some steep and some flat, so no single rate suits all of them. {term:momentum|Momentum} helps: the step is
# $\eta v$ with $v \leftarrow 0.9\, v + \text{gradient}$, so that steps in one direction add up, and jumps to and fro cancel. *Weight decay* adds a small
# multiple of each parameter, here $10^{-4}\, w$, to its gradient and so pulls it towards 0. Three steps in the valley, by hand and by PyTorch's `SGD`:

# %% tags=["nbval-check-output"]
w, v = 1.0, 0.0
weight = nn.Parameter(torch.tensor(1.0, dtype=torch.float64))
optimizer = torch.optim.SGD([weight], lr=0.1, momentum=0.9, weight_decay=1e-4)
for _ in range(3):
    v = 0.9 * v + (w + 1e-4 * w)  # the gradient of w²/2 is w
    w = w - 0.1 * v

    optimizer.zero_grad()
    (weight**2 / 2).backward()
    optimizer.step()
    print(f"by hand {w:.6f}, by PyTorch {weight.item():.6f}")

# %% tags=["hide-input"]
record("climbed_nats", walk(2.05)[-1] ** 2 / 2)

# %% [markdown]
# All six digits agree. Six are needed: without weight decay the three lines would be 0.9, 0.72 and 0.486, so its whole effect is in the last digits.
#
# ## 5 · The loop, written out
#
# The gradient of all {{train_n}} pictures at once would be exact and slow, that of a single picture fast and shaky. A {term:batch} of 64 is a
# compromise. One pass through all training pictures is an {term:epoch}, and in each epoch the batches are dealt anew. Three helpers come from
# the library: `EpochBatches` deals row numbers, `prepare_for` turns pictures into normalised tensors, and `predict_probabilities`, inside our
# `scores`, asks the network in inference mode. A *recipe* holds the settings.

# %%
recipe = training.Recipe(
    name="notebook-02",
    epochs=S.epochs,  # passes over the training pictures
    batch_size=64,  # pictures per step
    lr=0.005,
    momentum=0.9,
    weight_decay=1e-4,  # each step also pulls every weight a little towards 0
    seed=SEED,
)



# %%
def train_by_hand(model, faces, held_out, recipe, watch=None):
    """Train on faces; return a row per epoch, and the weights of the best one.

    The best epoch is that of highest accuracy on the pictures held_out.
    watch(model), if given, adds columns to each row.
    """
    optimizer = torch.optim.SGD(
        model.parameters(),
        lr=recipe.lr,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
    )
    rows, kept = [], None
    for epoch in range(recipe.epochs):
        model.train()  # BN takes mean and variance from the batch
        loss_sum, right = 0.0, 0
        for batch in training.batches.EpochBatches(
            len(faces), recipe.batch_size, seed=recipe.seed, epoch=epoch
        ):
            images = predict.prepare_for(model, faces.images[batch])  # (B, 1, 48, 48)
            labels = torch.from_numpy(faces.labels[batch])  # (B,)
            logits = model(images)  # 1. answer, (B, 7)
            loss = F.cross_entropy(logits, labels)  # 2. how wrong
            loss.backward()  # 3. which way is better, for every parameter
            optimizer.step()  # 4. go there, a little
            optimizer.zero_grad()  # 5. set the gradients back to 0
            loss_sum += loss.item() * len(batch)
            right += (logits.argmax(1) == labels).sum().item()
        row = {"epoch": epoch + 1}
        row["train_loss"] = loss_sum / len(faces)
        row["train_accuracy"] = right / len(faces)
        row |= scores(model, held_out)
        if row["val_accuracy"] > max([r["val_accuracy"] for r in rows], default=0):
            kept = {name: value.clone() for name, value in model.state_dict().items()}
        rows.append(row | (watch(model) if watch else {}))
    return rows, kept


# %% [markdown]
# The five numbered lines are the training. The fifth is needed because PyTorch adds each new gradient to the old one. The lines around them count
# losses and right answers. The `if` compares validation accuracy with all earlier epochs, and when it is a new record, the line below it
# stores a copy of the weights in `kept`. While it runs, we also watch the {{wrong_n}} faces with wrong labels: how often does the network give the
# true class, and how often does it repeat the wrong label?
#
# > **Question.** The network sees every face {{epochs_n}} times. Will it end up believing the true classes of these {{wrong_n}} faces, or their labels?


# %%
def ask_mislabelled(model):
    """What a network says of the training faces whose label is wrong."""
    says = predict.predict_probabilities(model, train.images[wrong]).argmax(1)
    return {
        "says_truth": float((says == truth["train"][wrong]).mean()),
        "repeats_label": float((says == train.labels[wrong]).mean()),
    }


torch.manual_seed(SEED)
model = TinyCNN()
rows, kept = train_by_hand(
    model, train, validation, recipe, watch=ask_mislabelled
)

# %% tags=["hide-input"]
best = int(np.argmax([row["val_accuracy"] for row in rows]))
below = next(
    (r["epoch"] for r in rows if r["train_loss"] < floor_train), recipe.epochs + 1
)
record("epochs_n", recipe.epochs)
record("best_epoch_n", best + 1)
record("below_floor_epoch_n", below)
record("last_train_frac", rows[-1]["train_accuracy"])
record("last_train_nats", rows[-1]["train_loss"])
lowest = min(row["val_loss"] for row in rows)
record("lowest_val_nats", lowest)
figure(
    plots.curves(rows, best=best, landmarks=LANDMARKS),
    "curves",
    f"Each split has its own floor. From epoch {below} on, training loss is below the"
    f" floor of training. The lowest validation loss is {lowest:.2f}, above the floor"
    f" of validation. The best epoch by validation accuracy is {best + 1}.",
    "Curves of loss and accuracy for training and validation, with dotted landmarks.",
)

# %% tags=["hide-input"]
record("truth_at_best_frac", rows[best]["says_truth"])
record("repeats_at_best_frac", rows[best]["repeats_label"])
record("truth_at_last_frac", rows[-1]["says_truth"])
record("repeats_at_last_frac", rows[-1]["repeats_label"])
jumps = np.diff([row["val_accuracy"] for row in rows])
deepest = int(jumps.argmin())
says_truth = [row["says_truth"] for row in rows]
record("dip_epoch_n", rows[deepest + 1]["epoch"])
record("dip_points", 100 * jumps[deepest])
record("dip_truth_points", 100 * np.diff(says_truth)[deepest])
chart = plots.lines(
    [row["epoch"] for row in rows],
    {
        "gives the true class": says_truth,
        "repeats the wrong label": [row["repeats_label"] for row in rows],
    },
    marks={"kept": best + 1},
    xlabel="epoch",
    ylabel="share of the wrongly labelled faces",
)
chart.axes[0].set_ylim(0, 1)
figure(
    chart,
    "wrong-labels",
    "First the network learns what faces have in common and overrules wrong labels."
    " Later it learns the wrong labels by heart.",
    "Two curves over the epochs: one rises and falls again, the other rises late.",
)

# %% [markdown]
# **Answer.** First the true classes, then the labels ({fig:wrong-labels}). In epoch {{best_epoch_n}} it gives the true class for {{truth_at_best_frac:.0%}} of
# these faces, against their labels. In epoch {{epochs_n}} only {{truth_at_last_frac:.0%}} are left, and it repeats {{repeats_at_last_frac:.0%}} of
# the wrong labels. A likely reason for this order, which we do not test here: the right labels of similar faces all pull the parameters in one
# direction, and the wrong ones pull in six. What is right would then be learned quickly, and what is wrong face by face.
#
# So {{last_train_frac:.0%}} agreement with the training labels is *not* good news. Only {{right_labels_frac:.0%}} of these labels are right. What goes
# beyond, at least, was learned by heart, and the training loss shows it from epoch {{below_floor_epoch_n}} on, where it is below the floor of the
# training labels ({{floor_here_nats:.2f}} nats).
#
# Read {fig:curves} from left to right. In the first epochs both losses are high and fall together: the network is {term:underfitting}, and
# stopping there would waste what it can still learn. Later the training loss falls and the validation loss rises: this is
# {term:overfitting}. The validation curves are jagged. The pictures are the same in every epoch, so what jumps is the network as it is in inference: its
# parameters, or the running averages of BN, which follow with a delay. We have not separated the two. The deepest
# fall is in epoch {{dip_epoch_n}} ({{dip_points:+.1f}} points), and in the same epoch the answers to the wrongly labelled *training* faces change as well
# ({{dip_truth_points:+.1f}} points for the true class in {fig:wrong-labels}). Validation is measured after the last step of an epoch; the training
# numbers are means over all steps of the epoch and therefore smoother.
#
# ## 6 · When to stop
#
# > **Question.** By the last epoch validation accuracy has fallen and validation loss has risen. What went wrong: does the network make more mistakes, or
# > is it surer of its answers? And which faces is the rise of the loss from?


# %%
def judged(model):
    """What a network says of the validation faces."""
    p = predict.predict_probabilities(model, validation.images)
    paid = -np.log(p[np.arange(len(p)), validation.labels])
    mistaken = p.argmax(1) != truth["validation"]
    return {
        "loss (nats)": paid.mean(),
        "on right labels": paid[~misled].mean(),
        "on wrong labels": paid[misled].mean(),
        "mistakes": mistaken.mean(),
        "confidence, mistakes": p.max(1)[mistaken].mean(),
        "confidence, wrong labels": p.max(1)[misled].mean(),
    }


best_model = TinyCNN()
best_model.load_state_dict(kept)
compared = {"kept": judged(best_model), "last": judged(model)}

# %% tags=["hide-input"]
for name, values in compared.items():
    record(f"{name}_loss_nats", values["loss (nats)"])
    record(f"{name}_on_right_nats", values["on right labels"])
    record(f"{name}_on_wrong_nats", values["on wrong labels"])
    record(f"{name}_mistakes_frac", values["mistakes"])
    record(f"{name}_said_frac", values["confidence, mistakes"])
    record(f"{name}_sure_frac", values["confidence, wrong labels"])
rises = {k: compared["last"][k] - compared["kept"][k] for k in compared["kept"]}
record("rise_nats", rises["loss (nats)"])
record("rise_wrong_nats", misled.mean() * rises["on wrong labels"])
record("misled_frac", misled.mean())
frame = pd.DataFrame(compared).T.reset_index(names="network")
frame["network"] = [f"kept, epoch {best + 1}", f"last, epoch {recipe.epochs}"]
table(
    frame,
    "kept-and-last",
    "The same training, at its best epoch and at its end, on the validation faces."
    " Mistakes are counted against the true classes. Confidence is the mean probability"
    " that the network gives its own answer, on the faces that it mistakes and on the"
    " faces whose label is wrong.",
    formats=dict.fromkeys(frame.columns[4:], "{:.1%}")
    | dict.fromkeys(frame.columns[1:4], "{:.2f}"),
)

# %% [markdown]
# **Answer.** Both ({tab:kept-and-last}). The kept network mistakes {{kept_mistakes_frac:.1%}} of the faces and the last one {{last_mistakes_frac:.1%}}, and
# in its mistakes its mean confidence grows from {{kept_said_frac:.0%}} to {{last_said_frac:.0%}}. But most of the rise of the loss comes from faces whose label
# is wrong. There the price goes from {{kept_on_wrong_nats:.2f}} to {{last_on_wrong_nats:.2f}} nats, on the others only from {{kept_on_right_nats:.2f}} to
# {{last_on_right_nats:.2f}}. Of the whole rise of {{rise_nats:.2f}} nats, {{rise_wrong_nats:.2f}} come from the {{misled_frac:.0%}} of faces with a wrong label. On these
# faces the mean confidence goes from {{kept_sure_frac:.0%}} to {{last_sure_frac:.0%}}. Whoever gives more to another class has less left for the label, and {fig:price}
# is steepest where the label gets least.
#
# So we keep the weights of the best epoch. The choice was made on validation, so the validation accuracy of that epoch is a little too
# friendly: it is the largest of {{epochs_n}} values that jump up and down. That is what the test set is for, in section 9.
#
# Which epoch a paper keeps is often not written down. An example
# is ResEmoteNet, the network of [notebook 10](10_resemotenet.ipynb). The table has one row for each question. It says what the paper states, what the
# authors' released code does, and what we do. The mark "? unstated" means that the paper does not say it.

# %%
ledger_table("resemotenet", "selection", "test-every-epoch")

# %% [markdown]
# ## 7 · `fit` is this loop
#
# From here on the workbook calls `training.fit`. It takes a network with its loss (a `Task`), the pictures and the recipe. If it is our loop, it
# must give our numbers, from the same first parameters and the same batches.

# %%
torch.manual_seed(SEED)
fitted = TinyCNN()
fitted.labels = train.names
task = training.Task(fitted, nn.CrossEntropyLoss())
short = recipe.overlay({"epochs": S.fit_epochs})
history = training.fit(task, train, validation, short, progress=False)

difference = max(
    abs(ours[column] - theirs[column])
    for ours, theirs in zip(rows, history.rows, strict=False)
    for column in ("train_loss", "val_loss")
)
print(f"largest difference of a loss in {S.fit_epochs} epochs: {difference:.1e} nats")
assert difference < 1e-3

# %% tags=["hide-input"]
record("fit_difference_nats", difference)
record("fit_epochs_n", S.fit_epochs)

# %% [markdown]
# The same numbers in the first {{fit_epochs_n}} of our {{epochs_n}} epochs, to the last digit or nearly so; to save time we compare no more. Sums may be taken in another order on your machine, and tiny differences grow with each
# step. What `fit` adds to the five lines is care:

# %% tags=["hide-input"]
care = {
    "selection": "afterwards the network holds the weights of its best epoch",
    "schedules": "the learning rate can grow at the start and fall towards the end",
    "averaging": "it can keep a moving average of the weights",
    "augmentation": "training pictures can be mirrored, turned or moved at random",
    "safety": "a loss that is not finite stops the run, and a run can be resumed",
}
frame = pd.DataFrame({"what": list(care), "in words": list(care.values())})
table(frame, "fit", "What `fit` adds. The best epoch is that of validation accuracy.")

# %% [markdown]
# ## 8 · The learning rate
#
# This one setting can decide alone between learning and not learning. We train the network briefly on {{sweep_n}} pictures, at five rates and in batches
# of 32. We use our own loop: after it, `net` has the weights of the *last* epoch, and we want to see where each rate has led. To count how many
# numbers after stage 3 are 0, we ask the network in training mode, because that is the mode in which it is trained.
#
# > **Question.** How does the loss look when the rate is far too high: does it grow without end, as in the valley?

# %%
some = train.subset(range(S.sweep_train))
sweep, zeros, given = {}, {}, {}
for rate in (0.0001, 0.001, 0.005, 0.02, 0.1):
    torch.manual_seed(SEED)
    net = TinyCNN()
    changes = {"lr": rate, "epochs": S.sweep_epochs, "batch_size": 32}
    epochs, _ = train_by_hand(net, some, validation, recipe.overlay(changes))
    sweep[rate] = [row["train_loss"] for row in epochs]
    p = predict.predict_probabilities(net, validation.images)  # of the last epoch
    given[rate] = len(np.unique(p.argmax(1)))
    net.train()
    with explain.capture(net, "stage3") as seen, torch.no_grad():
        net(predict.prepare_for(net, some.images))
    zeros[rate] = float((seen["stage3"] == 0).float().mean())

# %% tags=["hide-input"]
record("sweep_n", len(some))
record("slow_nats", sweep[0.0001][-1])
record("good_nats", sweep[0.005][-1])
record("high_nats", sweep[0.1][-1])
record("high_zeros_frac", zeros[0.1])
record("good_zeros_frac", zeros[0.005])
record("middle_nats", sweep[0.02][-1])
record("middle_zeros_frac", zeros[0.02])
record("middle_classes_n", given[0.02])
record("high_first_nats", sweep[0.1][0])
record("high_second_nats", sweep[0.1][1])
known = np.unique(some.labels, return_counts=True)[1] / len(some)
frequencies_some = float(-(known * np.log(known)).sum())
record("frequencies_some_nats", frequencies_some)
marks = {"knows nothing": np.log(7), "knows frequencies": frequencies_some}
figure(
    plots.ordered_curves(
        range(1, S.sweep_epochs + 1),
        {f"{rate:g}": losses for rate, losses in sweep.items()},
        landmarks=marks,
        ylim=(0.9, 2.5),
        legend="learning rate",
        ylabel="training loss (nats)",
    ),
    "rates",
    "Darker is a smaller rate. The first epoch of the two highest rates lies above the"
    " frame. At the end three curves lie close together: the smallest rate and the two"
    " highest.",
    "Five curves of training loss, with two dotted landmarks.",
)

# %% tags=["hide-input"]
frame = pd.DataFrame(
    {
        "learning rate": [f"{rate:g}" for rate in sweep],
        "loss, first epoch": [losses[0] for losses in sweep.values()],
        "loss, last epoch": [losses[-1] for losses in sweep.values()],
        "classes it answers": list(given.values()),
        "zeros after stage 3": list(zeros.values()),
    }
)
table(
    frame,
    "rates",
    "Each network after its last epoch: how many different classes it answers on the"
    " validation faces, and how many of the numbers after stage 3 are 0 on the faces"
    " it was trained on, in training mode.",
    formats=dict.fromkeys(frame.columns[1:3], "{:.2f}")
    | {"zeros after stage 3": "{:.0%}"},
)

# %% [markdown]
# **Answer.** No. Averaged over the first epoch the loss at 0.1 is {{high_first_nats:.2f}}, far above "knows nothing", where an untrained network starts. In the
# second epoch it is {{high_second_nats:.2f}}, and it ends at {{high_nats:.2f}}, beside the landmark of the class frequencies of these {{sweep_n}} pictures
# ({{frequencies_some_nats:.2f}}). {tab:rates} says why: {{high_zeros_frac:.0%}} of the numbers after stage 3 are 0, against {{good_zeros_frac:.0%}} at a rate of
# 0.005. The large first steps pushed the network to where its ReLUs give 0. Where a ReLU gives 0, no gradient flows back through it. If it gives 0
# for every face, nothing before it can learn any more. The biases of the linear layer still learn, and all they can learn is how frequent each class
# is. At the rate of 0.02, {{middle_zeros_frac:.0%}} of the numbers are 0. This network is not quite dead: it ends
# at {{middle_nats:.2f}} and still answers {{middle_classes_n}} different classes.
#
# A rate that is too low is only slow: at 0.0001 the loss ends at {{slow_nats:.2f}}, while 0.005 comes to {{good_nats:.2f}}. In {fig:rates} the slow
# network and the dead one end almost side by side, but they need opposite remedies. So when a loss lies near the landmark of the frequencies, look at two
# things first. Does it still fall from epoch to epoch, and are the zeros as few as at the rates that learn? Then the network is slow: wait, or
# try a *larger* rate. Does the loss lie flat, and are nearly all numbers 0? Then the network is dead: start anew with a *smaller* rate.
# The run at 0.02 fits neither description: most numbers are 0, yet some of the network is alive. Such a run calls for a smaller rate or more epochs, and one
# cannot tell which without trying. (This was one
# run per rate. With another seed the border may lie elsewhere, and it depends on the network, the batch size and the schedule.)
#
# ## 9 · The test set, at the end
#
# We chose the best epoch on the validation set. The test pictures have not been touched so far. We read them now for two networks and in section 10
# for some more, to report and never to choose.
#
# > **Question.** The network was taught with labels of which {{right_labels_frac:.0%}} are right. How many of the *new* faces will it get right?
# > And how many would it have got right if we had used the last epoch?

# %%
p = {
    name: predict.predict_probabilities(net, test.images)
    for name, net in (("kept", best_model), ("last", model))
}
result = evaluation.evaluate(p["kept"], test.labels, test.names)
low, high = result["intervals"]["accuracy"]
print(f"kept: accuracy {result['accuracy']:.1%}, 95 % interval {low:.1%} to {high:.1%}")

right = {name: p[name].argmax(1) == test.labels for name in p}
gain = evaluation.paired_difference(right["kept"], right["last"])
print(f"last: accuracy {right['last'].mean():.1%}")
print(f"kept minus last: {gain['accuracy']:+.1%}", end=", ")
print("95 % interval {:+.1%} to {:+.1%}".format(*gain["interval"]))

rare = test.names.index("disgust")
labelled = train.labels == rare
shown = (truth["train"][labelled] == rare).sum()
print(f"{labelled.sum()} training pictures labelled disgust, {shown} of them show it")

# %% tags=["hide-input"]
record("test_accuracy_frac", result["accuracy"])
record("test_low_frac", low)
record("test_high_frac", high)
record("test_last_frac", right["last"].mean())
record("kept_gain_pct", 100 * gain["accuracy"])
record("kept_gain_low_pct", 100 * gain["interval"][0])
record("kept_gain_high_pct", 100 * gain["interval"][1])
record("balanced_frac", result["balanced_accuracy"])
confusion = np.array(result["confusion"])
record("rare_right_n", confusion[rare, rare])
record("rare_n", confusion[rare].sum())
record("rare_said_n", confusion[:, rare].sum())
record("labelled_rare_n", labelled.sum())
record("really_rare_n", shown)
missed = confusion - np.diag(np.diag(confusion))
order = np.argsort(missed, axis=None)[::-1][:2]
pairs = [np.unravel_index(k, missed.shape) for k in order]
said = [f"{test.names[i]} called {test.names[j]} ({missed[i, j]})" for i, j in pairs]
record("two_confusions_n", sum(missed[i, j] for i, j in pairs))
record("missed_n", missed.sum())
figure(
    plots.confusion(confusion, test.names),
    "confusion",
    "Rows are true classes, columns what the network says. Look at the column of"
    f" disgust. The two most frequent mistakes are {said[0]} and {said[1]}.",
    "A confusion matrix of seven emotions with counts and shares.",
)

# %% [markdown]
# **Answer.** {{test_accuracy_frac:.1%}}, with a {term:bootstrap interval} from {{test_low_frac:.1%}} to {{test_high_frac:.1%}}. The seed was kind to us: in
# section 10 we train from {{seeds_n}} seeds, and the networks lie between {{seed_low_frac:.1%}} and {{seed_high_frac:.1%}}, with a mean of
# {{seed_mean_frac:.1%}}. Ours is the best of them, so the mean says better what this training achieves. Either way a network can be right nearly as often as
# its labels. It need not copy their errors: perhaps, as we supposed in section 5, because right labels pull in one direction and wrong ones in six.
#
# The last epoch has {{test_last_frac:.1%}}. On the same faces the kept network is better by {{kept_gain_pct:.1f}} points ({{kept_gain_low_pct:.1f}} to
# {{kept_gain_high_pct:.1f}}), so in this training the choice was worth making, although it was made on noisy labels. The interval says how much other test
# faces could change the gain. It does not say what another seed would change, and the accuracies of the seeds in section 10 are further apart than this
# gain.
#
# (On noisy labels a network looks worse than it is. Exercise 3 works out by how much, for a network with an accuracy of 81 %.)
#
# The {term:confusion matrix} in {fig:confusion} shows what accuracy hides. Two confusions, named in its caption, make up {{two_confusions_n}} of all
# {{missed_n}} mistakes. And the network finds {{rare_right_n}} of the {{rare_n}} faces of disgust; it says "disgust" {{rare_said_n}} times in all. The training data suggest why: {{labelled_rare_n}} pictures are labelled disgust, and only
# {{really_rare_n}} of them show it. Disgust is rare, so even a few of the many other
# pictures, mislabelled as disgust, outnumber the real ones.
# {term:balanced accuracy|Balanced accuracy}, the mean over classes of the share found, notices: {{balanced_frac:.1%}}.
#
# ## 10 · What was training the kernels worth?
#
# What has the network learned, and where? Here is what its first convolution makes of a face, with the random kernels it began with and with those that
# training made of them. We look before BN, whose averages differ between the two networks, so that only the kernels are compared.
#
# > **Question.** How much of the face can be seen before any training?

# %%
face = face_from_action_units(PROTOTYPES["surprise"], seed=3, size=48)
torch.manual_seed(SEED)
maps = {}
for name, net in (("untrained", TinyCNN()), ("trained", best_model)):
    net.eval()
    with explain.capture(net, "stage1.0") as seen, torch.no_grad():
        net(predict.prepare_for(net, face[None]))
    maps[name] = seen["stage1.0"][0].numpy()  # (8, 48, 48)
pairs = zip(maps["untrained"], maps["trained"], strict=True)
alike = [np.corrcoef(before.ravel(), after.ravel())[0, 1] for before, after in pairs]

# %% tags=["hide-input"]
record("alike_n", sum(r > 0.9 for r in alike))
record("least_alike_ratio", min(alike))
order = np.argsort(alike)[::-1]
chosen = [*order[:2], *order[-2:]]  # the two most alike, the two least alike
figure(
    plots.maps_by_row(
        face,
        {name: values[chosen] for name, values in maps.items()},
        titles=[f"r = {alike[k]:.2f}" for k in chosen],
    ),
    "maps",
    "Four of the eight maps of the first convolution, each on a scale of its own: the"
    " two that training changed least and the two that it changed most. Below, the"
    " correlation between the map before training and the same map after it.",
    "A drawn face and two rows of four maps in which the face can be seen.",
)

# %% [markdown]
# **Answer.** Hair, eyes, brows and mouth can be found in the upper row of {fig:maps} already. Random kernels respond to brightness and to edges as well, so a map
# that shows brows and mouth is not by itself a sign of learning. Training has changed the maps by different amounts: {{alike_n}} of the 8 correlate with their
# beginning by more than 0.9, and the least alike by {{least_alike_ratio:.2f}}. But was the change of any use? A picture cannot tell.
#
# An experiment can. We keep the kernels of the first stage *frozen*, as the random generator drew them, and train the rest. And, for
# comparison, we keep the kernels of all three stages. (Batch normalisation still learns: in stage 1 the kernels and their biases have 80 parameters,
# and BN has the 16 others.) Each is done for {{seed_epochs_n}} epochs, of which the best is kept, and from
# {{seeds_n}} seeds, because another {term:seed} gives other first parameters and
# another order of the pictures, and that alone changes the result.
#
# > **Question.** How many points does it cost to leave the kernels of the first stage random? And those of all three?

# %%
FROZEN = {
    "all trained": [],
    "stage 1 kernels random": ["stage1.0"],
    "all kernels random": ["stage1.0", "stage2.0", "stage3.0"],
}
accuracy = {name: [] for name in FROZEN}
for seed in range(SEED, SEED + S.seeds):
    for name, kernels in FROZEN.items():
        torch.manual_seed(seed)
        net = TinyCNN()
        models.freeze(net, kernels)
        changes = {"seed": seed, "epochs": S.seed_epochs}
        _, weights = train_by_hand(net, train, validation, recipe.overlay(changes))
        net.load_state_dict(weights)
        p = predict.predict_probabilities(net, test.images)
        accuracy[name].append(float((p.argmax(1) == test.labels).mean()))

# %% tags=["hide-input"]
values = np.array(list(accuracy.values()))  # (3, seeds)
first_cost = evaluation.mean_interval(values[0] - values[1])
all_cost = evaluation.mean_interval(values[0] - values[2])
record("seeds_n", S.seeds)
record("seed_epochs_n", S.seed_epochs)
record("seed_mean_frac", values[0].mean())
record("seed_low_frac", values[0].min())
record("seed_high_frac", values[0].max())
for name, cost in (("first", first_cost), ("all", all_cost)):
    record(f"{name}_cost_pct", 100 * cost[0])
    record(f"{name}_cost_low_pct", 100 * cost[1])
    record(f"{name}_cost_high_pct", 100 * cost[2])
with plots.style():
    chart = plots.Figure(figsize=(6.0, 3.0), layout="constrained")
    ax = chart.subplots()
    for i, line in enumerate(values.T):
        how = {"marker": "osv^"[i % 4], "color": plots.COLOURS[i], "lw": 1.2}
        ax.plot(range(3), line, label=f"seed {SEED + i}", **how)
    ax.plot(range(3), values.mean(1), "_", color="black", ms=34, mew=2)
    ax.legend(loc="upper right", fontsize=9)
    ax.set_xticks(range(3), accuracy)
    ax.set(ylabel="test accuracy", xlim=(-0.4, 2.4))
    ax.grid(axis="y")
figure(
    chart,
    "frozen",
    "Each line is one seed, each short black bar a mean. Compare the steps from"
    " column to column with the spread within a column. The axis does not begin at 0.",
    "Lines of test accuracy, one for each seed, over three conditions.",
)

# %% [markdown]
# **Answer.** Those of the first stage: {{first_cost_pct:.1f}} points, with a 95 % interval of the mean difference from {{first_cost_low_pct:.1f}} to
# {{first_cost_high_pct:.1f}}. All three: {{all_cost_pct:.1f}} points ({{all_cost_low_pct:.1f}} to {{all_cost_high_pct:.1f}}). The {{seeds_n}} fully trained
# networks alone lie between {{seed_low_frac:.1%}} and {{seed_high_frac:.1%}}, and nothing but the seed differs between them.
#
# So with {{seeds_n}} seeds and {{seed_epochs_n}} epochs we cannot see that training the kernels of the first stage was worth anything: the interval contains 0.
# (This does not prove that the difference is 0, and BN could still learn.) Leaving all kernels random costs far more. So some
# kernels had to be learned. Whether those of stage 2, of stage 3 or of both, the experiment cannot say, because we froze neither of them alone.
#
# (We read the test set again for each of these networks, to *report* the differences. Nothing was chosen by it.)
#
# ## Exercises
#
# ### Exercise 1 · by hand
#
# The same three stages get a picture of 100 × 100 pixels. How many inputs must the linear layer have?

# %%
answer_1 = None

# %% tags=["hide-input"]
check("inputs of the linear layer at 100 px", answer_1, 4608)

# %% [markdown]
# <details><summary>Hint</summary>
#
# Pooling rounds down. Follow the side through three stages, then count channels times places.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# answer_1 = 32 * 12 * 12
# ```
#
# The side goes 100, 50, 25, 12: the third pooling cuts off a row and a column, because $\lfloor (25 - 2)/2 \rfloor + 1 = 12$. With 32 channels that
# makes 4,608 numbers.
#
# </details>
#
# ### Exercise 2 · by hand
#
# Somebody forgets `optimizer.zero_grad()`. In the valley $w^2/2$, from $w = 1$, with learning rate 0.1 and no momentum:
# where is $w$ after two steps?

# %%
answer_2 = None

# %% tags=["hide-input"]
w = nn.Parameter(torch.tensor(1.0))
forgetful = torch.optim.SGD([w], lr=0.1)
for _ in range(2):
    (w**2 / 2).backward()
    forgetful.step()
check("w after two forgetful steps", answer_2, w.item(), tolerance=1e-3)

# %% [markdown]
# <details><summary>Hint</summary>
#
# PyTorch adds each new gradient to the one that is there.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# answer_2 = 0.9 - 0.1 * (1 + 0.9)
# ```
#
# The first step goes from 1 to 0.9. The second one uses the old gradient 1 *and* the new one 0.9, and ends at 0.71 instead of 0.81. The old gradient
# acts like momentum that never fades.
#
# </details>
#
# ### Exercise 3 · by hand
#
# A network is right about the true class of 81 % of all faces. With how many of the *noisy* labels does it agree, if one label
# in five is wrong and the wrong ones are spread evenly over the six other classes? (As a fraction.)

# %%
answer_3 = None

# %% tags=["hide-input"]
expected_3 = 0.81 * 0.8 + 0.19 * 0.2 / 6
check("agreement with noisy labels", answer_3, expected_3, tolerance=0.003)

# %% [markdown]
# <details><summary>Hint</summary>
#
# There are two ways to agree: right about the face, and the label is right; or wrong about the face, and the label happens to be wrong in the same way.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# answer_3 = 0.81 * 0.8 + 0.19 * 0.2 / 6
# ```
#
# $0.648 + 0.006 = 0.654$. So about 65 % on noisy labels is what a network of 81 % looks like, and 80 % is the most that any network can expect.
#
# </details>
#
# ### Exercise 4 · change the code
#
# *Early stopping* ends a training when validation accuracy has set no record for some epochs, the *patience*. Write it
# as a function of the rows of section 5: after how many epochs would our training have stopped with a patience of 4?

# %%
def stopped_after(rows, patience):
    """How many epochs are run before the training is stopped."""
    return None


answer_4 = stopped_after(rows, patience=4)

# %% tags=["hide-input"]
record_so_far, since, expected_4 = 0.0, 0, len(rows)
for row in rows:
    since = 0 if row["val_accuracy"] > record_so_far else since + 1
    record_so_far = max(record_so_far, row["val_accuracy"])
    if since == 4:
        expected_4 = row["epoch"]
        break
check("epochs before early stopping", answer_4, expected_4)

# %% [markdown]
# <details><summary>Hint</summary>
#
# Remember the epoch of the last record, and compare it with the epoch at hand.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def stopped_after(rows, patience):
#     record, at = 0.0, 0
#     for row in rows:
#         if row["val_accuracy"] > record:
#             record, at = row["val_accuracy"], row["epoch"]
#         if row["epoch"] - at == patience:
#             return row["epoch"]
#     return len(rows)
#
# answer_4 = stopped_after(rows, patience=4)
# ```
#
# The training ends four epochs after a record that none of the four has beaten. That saves time, and it can miss a later and better epoch. Which epoch is
# *kept* is decided as before.
#
# </details>
#
# ### Exercise 5 · a printed table
#
# A table prints an accuracy of 80 % and a mean cross entropy of 0.10 nats for the same test pictures. What is the
# least mean cross entropy that an accuracy of 80 % allows? So, can both numbers be true?

# %%
answer_5 = None
both_true = None  # True or False

# %% tags=["hide-input"]
check("least mean cross entropy at 80 %", answer_5, 0.2 * np.log(2), tolerance=1e-3)
check("both numbers can be true", both_true, False)

# %% [markdown]
# <details><summary>Hint</summary>
#
# One answer in five is wrong. What does a wrong answer cost at least?
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# answer_5 = 0.2 * np.log(2)
# both_true = False
# ```
#
# Right answers may cost nothing, but each wrong one costs $\ln 2$ at least: $0.2 \cdot 0.693 = 0.139$ nats. A *mean* of 0.10 over the same pictures is
# impossible. Another definition of the printed loss may still save the table, and one should ask before one judges.
#
# </details>
#
# ### Exercise 6 · paper and code
#
# The released code of the ledger's first row keeps an epoch if its validation accuracy is "strictly greater" ({row:RE-selection}); the paper does not
# say it. Which line of `train_by_hand` does the same? When would `>=` matter? As a check: with validation accuracies of 0.60, 0.71, 0.68 and 0.71 in epochs
# 1 to 4, which epoch is kept with `>`, and which with `>=`?

# %%
kept_greater, kept_equal = None, None

# %% tags=["hide-input"]
check("epoch kept with >", kept_greater, 2)
check("epoch kept with >=", kept_equal, 4)

# %% [markdown]
# <details><summary>Hint</summary>
#
# Think of two epochs with equal validation accuracy, one before and one after the training loss has fallen below its floor.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# kept_greater, kept_equal = 2, 4
# ```
#
# The line that begins with `if row["val_accuracy"] >`. With `>=`, the later of two equal epochs would be kept. Accuracies on few validation pictures are
# often equal, and in a training like ours the later network has learned more labels by heart. A paper that states its accuracy without this rule leaves open which network it
# is about.
#
# </details>
#
# ## What you found
#
# - The linear layer holds {{linear_parameters_frac:.0%}} of the {{parameters_n}} parameters and does {{linear_work_frac:.1%}} of the work.
# - At the logits the gradient of cross entropy is $p - y$: by hand, by nudging and by autograd $(-0.335, 0.245, 0.090)$ on the example.
# - With one wrong label in five, no network can pay less than {{floor_nats:.2f}} nats on average for new faces. For our training labels the floor is
#   {{floor_here_nats:.2f}}. The training loss is below it from epoch {{below_floor_epoch_n}} on, and at the end the network repeats {{repeats_at_last_frac:.0%}} of the wrong labels.
# - Its best epoch was {{best_epoch_n}} of {{epochs_n}}. Kept from there, it is right about {{test_accuracy_frac:.1%}} of the test faces, after the last
#   epoch about {{test_last_frac:.1%}}. Over {{seeds_n}} seeds the mean is {{seed_mean_frac:.1%}}, and ours was the luckiest. Of the faces of disgust it finds {{rare_right_n}} of {{rare_n}}.
# - At a learning rate of 0.1 the network died: {{high_zeros_frac:.0%}} zeros after stage 3, and a last loss of {{high_nats:.2f}}. At 0.0001 it was only
#   slow, and its last loss, {{slow_nats:.2f}}, looks much the same.
# - Random kernels in stage 1 cost {{first_cost_pct:.1f}} points ({{first_cost_low_pct:.1f}} to {{first_cost_high_pct:.1f}}), random kernels in all stages
#   {{all_cost_pct:.1f}} ({{all_cost_low_pct:.1f}} to {{all_cost_high_pct:.1f}}).
#
# Next, [notebook 03](03_attention_is_reweighting.ipynb): attention blocks, which compute from a map how much
# each part of it should count.

# %%
footer(faces)
