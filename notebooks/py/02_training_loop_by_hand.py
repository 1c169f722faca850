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
# *Work out the shapes of a small network on paper, then write the training loop that `fit` is.*
#
# A neural network is a function with many adjustable numbers, its **parameters**. Training means: show pictures, measure how wrong
# the answers are, and turn every parameter a little in the direction that makes them less wrong. There is no more to it. Each
# step comes twice, **by hand** and **by the layer**, and the two are compared; what is taken from ferkit, this workbook's package,
# gets a line that says what it does.
#
# ## Objectives
#
# 1. compute the shape and the parameters of every layer by hand
# 2. compute a cross entropy and a gradient step by hand, and check them against PyTorch
# 3. write a training loop, and say what each line is for and what `fit` adds to it
# 4. tell underfitting from overfitting in a curve, and find a learning rate that works
# 5. select a model on validation data and read the test split once
# 6. say how much of a result is the choice of a seed
#
# **You need** Python and a little PyTorch, and to have met the data ([notebook 01](01_faces_labels_splits.ipynb)).

# %% tags=["parameters"]
PROFILE = "teach"  # smoke (seconds) or teach (minutes on a laptop)
DATA = "synthetic"  # or "fer2013", with the path of your own copy below
DATA_PATH = None
TEST_SPLIT = "test"  # "public_test" or "private_test" for fer2013
SEED = 0

# %%
import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ferkit import plots
from ferkit.training.batches import EpochBatches
from ferkit.synthetic.action_units import PROTOTYPES
from ferkit.synthetic.faces import face_from_action_units
from ferkit.runs.experiment import load_faces
from ferkit.explain import capture
from ferkit.evaluation.metrics import evaluate, mean_interval
from ferkit.models import FerModel, count_parameters, summarise
from ferkit.notebook import check, footer, ledger_table, profile, record
from ferkit.papers import arithmetic
from ferkit.plots.house import new_figure, show
from ferkit.predict import predict_probabilities, prepare_for
from ferkit.training.recipe import Recipe
from ferkit.training import Task, fit
from ferkit.widgets import explore

S = profile(
    PROFILE,
    smoke=dict(n_train=700, n_test=200, epochs=4, few=36, few_epochs=16, sweep_train=160, sweep_epochs=2, seeds=2),
    teach=dict(n_train=2000, n_test=800, epochs=8, few=100, few_epochs=64, sweep_train=600, sweep_epochs=5, seeds=3),
)

# %% [markdown]
# ## 1 · A convolution, on paper
#
# A **convolution** slides a small table of numbers, the **kernel**, over the picture. Wherever the kernel lies, the pixels under
# it are multiplied with its numbers, and the products are added. One place, one number.
#
# **By hand.** A picture of 4 × 6 pixels, dark on the left, bright on the right, and a kernel of 3 × 3 that subtracts the left
# neighbour from the right one. The kernel fits in 2 × 4 places:

# %% tags=["nbval-check-output"]
picture = torch.tensor([[0.0, 0, 9, 9, 9, 9]] * 4)
kernel = torch.tensor([[-1.0, 0, 1]] * 3)

by_hand = torch.zeros(2, 4)
for i in range(2):
    for j in range(4):
        by_hand[i, j] = (picture[i : i + 3, j : j + 3] * kernel).sum()

by_layer = F.conv2d(picture[None, None], kernel[None, None])[0, 0]
print("by hand ", by_hand.tolist())
print("by layer", by_layer.tolist())
assert torch.equal(by_hand, by_layer)

# %% [markdown]
# Large numbers where something changes from left to right, zero where nothing does: this kernel finds upright edges. On a face:

# %%
KERNELS = {
    "upright edges": [[-1, 0, 1]] * 3,
    "level edges": [[-1, -1, -1], [0, 0, 0], [1, 1, 1]],
    "blur": [[1 / 9] * 3] * 3,
    "small dark spots": [[1, 1, 1], [1, -8, 1], [1, 1, 1]],
}


def filtered(expression="surprise", person=3):
    """A drawn face and what each kernel makes of it."""
    face = torch.tensor(face_from_action_units(PROTOTYPES[expression], seed=person, size=64)) / 255
    with plots.style():
        figure, axes = new_figure(1, 5, (9.4, 2.1))
        show(axes[0, 0], face)
        axes[0, 0].set_title(expression)
        for ax, (name, numbers) in zip(axes[0, 1:], KERNELS.items(), strict=True):
            kernel = torch.tensor(numbers, dtype=torch.float32)
            out = F.conv2d(face[None, None], kernel[None, None], padding=1)[0, 0]
            if name == "blur":
                ax.imshow(out, cmap="gray", vmin=0, vmax=1)
            else:
                ax.imshow(out, cmap="RdBu_r", vmin=-2, vmax=2)
            ax.set_title(name)
            ax.axis("off")
    return figure


explore(filtered, expression=list(PROTOTYPES)[:7], person=(0, 9, 1))

# %% [markdown]
# Red is positive, blue negative, white zero; the lines at the rim come from the zeros put around the picture. Brows and lips are level
# edges, so the second kernel already sees a good part of an expression. A CNN does not get its kernels from us: they are parameters, and
# training finds them.
#
# ### The shape that comes out
#
# With a side of $n$ pixels, kernel $k$, padding $p$ (zeros around the picture) and stride $s$ (how far the kernel moves each
# time), the output has the side
#
# $$\left\lfloor \frac{n + 2p - k}{s} \right\rfloor + 1 .$$
#
# > **Question.** Kernel 3, padding 1, stride 1: what is the output's side for a picture of 48 pixels? And for max pooling with
# > kernel 2 and stride 2? Do it on paper first.

# %% tags=["nbval-check-output"]
x = torch.zeros(1, 1, 48, 48)  # (pictures, channels, height, width)
for name, n, k, p, s, layer in (
    ("convolution 3, padding 1", 48, 3, 1, 1, nn.Conv2d(1, 8, 3, padding=1)),
    ("max pooling 2", 48, 2, 0, 2, nn.MaxPool2d(2)),
):
    print(f"{name:25} by hand: side {(n + 2 * p - k) // s + 1}   by the layer: {tuple(layer(x).shape)}")

# %% [markdown]
# A 3 × 3 convolution with padding 1 keeps the side, and pooling halves it. The second number of a shape counts **channels**: this
# layer has 8 kernels and makes 8 maps. A later layer's kernels reach through all the maps below them: from 8 to 16 channels takes
# 16 kernels of 8 × 3 × 3 numbers, and one bias each.
#
# ## 2 · A small network
#
# Three stages, each made of four steps.
#
# | step | what it does | parameters |
# |---|---|---|
# | convolution 3 × 3 | looks for patterns | $c_{out} \cdot (c_{in} \cdot 9 + 1)$ |
# | batch normalisation [@batchnorm] | brings each channel to mean 0 and spread 1, then scales and shifts it | $2\,c_{out}$ |
# | ReLU | negative becomes 0 | none |
# | max pooling 2 × 2 | keeps the largest of four, halves the side | none |
#
# After them one **linear layer**: each of its $c_{out}$ outputs is a weighted sum of all $c_{in}$ inputs, plus a bias, which takes
# $c_{out} \cdot (c_{in} + 1)$ parameters.
#
# The steps that are new, by hand on four numbers each:

# %% tags=["nbval-check-output"]
values = torch.tensor([[-1.0, 3.0], [2.0, 0.5]])
print("ReLU       ", values.clamp(min=0).tolist(), " by the layer", F.relu(values).tolist())
print("max pooling", values.max().item(), " by the layer", F.max_pool2d(values[None, None], 2).item())

batch = torch.tensor([1.0, 2.0, 3.0, 6.0])  # one channel, four pictures of one pixel
by_hand = (batch - batch.mean()) / (batch.var(unbiased=False) + 1e-5).sqrt()
layer = nn.BatchNorm2d(1)
by_layer = layer(batch.reshape(4, 1, 1, 1)).flatten()
for title, result in (("by hand", by_hand), ("by the layer", by_layer)):
    print("batch norm ", title, [round(v, 3) for v in result.tolist()])
assert torch.allclose(by_hand, by_layer)

# %% [markdown]
# Batch normalisation has two faces. While **training** it uses the mean and spread of the batch at hand, and remembers a running
# average. In **use** it takes the remembered ones, so that an answer does not depend on who else is in the batch. `model.train()`
# and `model.eval()` switch between the two; forgetting that is a classic mistake.
#
# Now the network. `FerModel` is the workbook's frame for networks: a PyTorch module that also says which pictures it wants (here grey,
# 48 pixels, values around 0), and that is written in two halves, from the picture to a list of numbers, its **features**, and from
# these to one number per class.


# %%
class TinyCNN(FerModel):
    """Three stages of convolution, batch norm, ReLU and pooling, and one linear layer."""

    input_size, colour, mean, std = 48, "grey", (0.5,), (0.25,)

    def __init__(self, num_classes: int = 7) -> None:
        super().__init__()
        self.stage1 = self.stage(1, 8)
        self.stage2 = self.stage(8, 16)
        self.stage3 = self.stage(16, 32)
        self.fc = nn.Linear(32 * 6 * 6, num_classes)

    @staticmethod
    def stage(c_in: int, c_out: int) -> nn.Module:
        """One stage; it halves the side."""
        return nn.Sequential(nn.Conv2d(c_in, c_out, 3, padding=1), nn.BatchNorm2d(c_out), nn.ReLU(), nn.MaxPool2d(2))

    def forward_features(self, images: Tensor) -> Tensor:
        x = self.stage1(images)  # (B, 8, 24, 24)
        x = self.stage2(x)  # (B, 16, 12, 12)
        x = self.stage3(x)  # (B, 32, 6, 6)
        return x.flatten(1)  # (B, 1152)

    def forward_head(self, features: Tensor) -> Tensor:
        return self.fc(features)  # (B, 7)


# %% [markdown]
# **By hand**, with the formulas of this section and the one of the last. **By the layer**: `summarise` sends a picture of zeros through
# and writes down what it meets. It also counts **multiply-adds**, multiplications whose product is added to something: a convolution
# does $9\,c_{in}$ of them for each of its $c_{out}$ outputs at each place of its map, a linear layer $c_{in} \cdot c_{out}$.

# %% tags=["nbval-check-output"]
by_hand = []
side, channels = 48, 1
for out in (8, 16, 32):
    work = side * side * out * channels * 9  # the convolution comes before the pooling
    side, parameters = side // 2, out * (channels * 9 + 1) + 2 * out
    channels = out
    by_hand.append(((channels, side, side), parameters, work))
by_hand.append(((7,), 7 * (32 * 6 * 6 + 1), 7 * 32 * 6 * 6))

torch.manual_seed(SEED)
model = TinyCNN()
print("by hand and by the layer:")
for (shape, parameters, work), row in zip(by_hand, summarise(model), strict=True):
    print(f"{row.name:7} {shape!s:12} {parameters:5,} parameters {work:7,} multiply-adds")
    assert (shape, parameters, work) == (row.shape, row.params, row.macs)
record("parameters_n", count_parameters(model))

# %%
plots.stage_bars(summarise(model))

# %% [markdown]
# More than half of the parameters sit in the last, linear layer, and most of the work in the second and third stage. Parameters and work are different things; [notebook 10](10_resemotenet.ipynb) meets that again.
#
# ## 3 · How wrong is an answer?
#
# For each picture the network gives seven numbers, the **logits** $z_k$. **Softmax** turns them into probabilities, and **cross
# entropy** is the price of an answer: minus the logarithm of the probability that the true class got.
#
# $$p_k = \frac{e^{z_k}}{\sum_j e^{z_j}}, \qquad \ell = -\ln p_{\text{true}}$$
#
# **By hand**, for three classes with logits 2, 1, 0, the first of them true:

# %% tags=["nbval-check-output"]
logits = [2.0, 1.0, 0.0]
exponentials = [math.exp(z) for z in logits]
p_true = exponentials[0] / sum(exponentials)
by_hand = -math.log(p_true)
by_layer = F.cross_entropy(torch.tensor([logits]), torch.tensor([0])).item()
print(f"p = {p_true:.3f}   by hand {by_hand:.4f} nats   by the layer {by_layer:.4f} nats")

# %% [markdown]
# The unit is called **nat**, because the logarithm is the natural one. Two values are worth knowing by heart.
#
# - **$\ln 7 \approx 1.95$** is the price of not knowing: every class gets $1/7$. A network of seven classes that knows nothing yet
#   starts about there. Far above it, something is wrong.
# - **$\ln 2 \approx 0.69$** is the least that a *wrong* answer costs. If the network chose another class, that class got at least as
#   much probability as the true one, so the true one got one half at most.


# %%
def price(happiness=1.0, surprise=2.0, others=0.0):
    """Cross entropy against the probability of the true class (happiness), for chosen logits."""
    p = torch.tensor([happiness, surprise, *[others] * 5]).softmax(0)
    cost = -p[0].log().item()
    verdict = "right" if p[0] > p[1:].max() else "wrong"
    with plots.style():
        figure, axes = new_figure(1, 2, (8.2, 2.9))
        left, ax = axes[0]
        left.barh(range(3), p[:3], color=[plots.colour(name) for name in ("happiness", "surprise", "neutral")])
        left.set_yticks(range(3), ["happiness (true)", "surprise", "each of 5 others"])
        left.set(xlim=(0, 1), ylim=(2.6, -0.6), xlabel="probability", title=f"the answer is {verdict}")
        grid = np.linspace(0.01, 1, 300)
        ax.plot(grid, -np.log(grid))
        ax.axvspan(0, 0.5, color="#F2F2F2", zorder=0)
        for value, text in ((math.log(2), "ln 2: least if wrong"), (math.log(7), "ln 7: knows nothing")):
            ax.axhline(value, color="#808080", linewidth=0.8, linestyle=":")
            ax.text(1, value + 0.05, text, ha="right", fontsize=8)
        ax.plot(p[0], cost, "o", color=plots.COLOURS[1])
        ax.set(xlim=(0, 1), ylim=(0, 4), xlabel="probability of the true class")
        ax.set_title(f"cross entropy {cost:.2f} nats")
    return figure


explore(price, happiness=(-3.0, 6.0, 0.5), surprise=(-3.0, 6.0, 0.5), others=(-3.0, 3.0, 0.5))

# %% [markdown]
# The dot is the answer on the left. Wrong answers all lie in the grey half, at $\ln 2$ or above. Right ones can lie there too, when
# no class gets much. Being *sure and wrong* is what costs most: the curve has no upper end.
#
# > **Question.** The network above has random parameters, so its mean cross entropy on our faces should be about $\ln 7$. What would
# > somebody pay who never looks at a face, but knows that one in four is happy and hardly any disgusted: more or less than that?
#
# First the faces. They are drawn, from action units ([notebook 01](01_faces_labels_splits.ipynb)), with the class proportions of
# FER2013 and the difficulty "easy", so that a small network learns something in a minute. A `Recipe` is the workbook's list of
# everything that decides a training; what its keys mean comes below, where they are used.

# %%
drawing = dict(n_train=S.n_train, n_test=S.n_test, size=48, seed=SEED, imbalance="fer2013", difficulty="easy")
recipe = Recipe(
    name="notebook-02",
    data=DATA,
    data_path=DATA_PATH,
    data_options=drawing if DATA == "synthetic" else {},
    test_split=TEST_SPLIT,
    drop_leaked=True,  # training pictures that are also in the test split are left out (notebook 01)
    epochs=S.epochs,
    batch_size=64,
    optimizer="sgd",
    lr=0.005,
    momentum=0.9,
    weight_decay=1e-4,  # each step also shrinks all parameters by this part of the rate: large ones have to be worth it
    seed=SEED,
)
faceset = load_faces(recipe)  # train, validation and test; validation is carved out of train
names = faceset.names
train, validation, test = (faceset.select(split) for split in ("train", "validation", TEST_SPLIT))
train = train.subset(range(min(len(train), S.n_train)))  # all of a real data set would take longer than a lesson
print(f"{len(train)} training, {len(validation)} validation and {len(test)} test pictures")

# %%
if DATA == "synthetic":
    shown = np.ravel([[np.flatnonzero(train.labels == k)[i] for k in range(7)] for i in range(2)])
    figure = plots.face_grid(train.images[shown], [names[k] for k in train.labels[shown]], columns=7)
figure if DATA == "synthetic" else "Pictures of real data sets are not shown here."


# %%
def mean_loss(model, faces):
    """Mean cross entropy in nats, in use (not training)."""
    p = predict_probabilities(model, faces.images)
    return float(-np.log(p[np.arange(len(faces)), faces.labels]).mean())


torch.manual_seed(SEED)
model = TinyCNN(len(names))
untrained = mean_loss(model, validation)
share = np.bincount(train.labels, minlength=len(names)) / len(train)
frequencies_only = float(-(share * np.log(share)).sum())
print(f"untrained network {untrained:.2f} nats, ln 7 = {math.log(7):.2f}")
print(f"an answer that knows only how frequent each class is: {frequencies_only:.2f} nats")
record("untrained_loss_nats", untrained)

# %% [markdown]
# Close to $\ln 7$, as it should be. The second line is the next landmark: whoever gives every picture the same probabilities, those
# of the class frequencies, pays that much. A training that stays there has not looked at a single face.
#
# ## 4 · One step downhill, on paper
#
# How should the parameters change? The **gradient** says for each parameter how much the loss grows when the parameter grows a
# little. We go the other way, by a small multiple of it, the **learning rate** $\eta$:
#
# $$w \leftarrow w - \eta \, \frac{\partial \ell}{\partial w}$$
#
# **By hand.** Take the smallest classifier: two features $x = (1, 2)$, two classes, $z = W x$, and all weights 0. Then both
# probabilities are ½. For cross entropy behind a softmax the derivative has a form one can remember, *what was said minus what is
# true*: $\partial \ell / \partial z = p - y$. With the first class true this is $(\tfrac12 - 1, \tfrac12 - 0) = (-\tfrac12, \tfrac12)$,
# and each row of $W$ gets it times $x$:
#
# $$\frac{\partial \ell}{\partial W} = \begin{pmatrix} -\tfrac12 & -1 \\ \tfrac12 & 1 \end{pmatrix}$$
#
# **By PyTorch**, which follows the chain of operations backwards (*autograd*):

# %% tags=["nbval-check-output"]
x, true = torch.tensor([1.0, 2.0]), torch.tensor(0)
W = torch.zeros(2, 2, requires_grad=True)
loss = F.cross_entropy(W @ x, true)
loss.backward()

by_hand = torch.tensor([[-0.5, -1.0], [0.5, 1.0]])
print("by hand   ", by_hand.tolist())
print("by PyTorch", W.grad.tolist())
assert torch.allclose(by_hand, W.grad)

eta = 0.1
after = F.cross_entropy((W - eta * W.grad) @ x, true)
print(f"loss before the step {loss.item():.4f} (ln 2), after it {after.item():.4f}")

# %% [markdown]
# One step, and the answer is a little less wrong. How far should a step go? Here is a valley with one parameter, and twelve steps in
# it.
#
# > **Question.** At which learning rate does the path no longer come down? Guess, then choose another rate. The valley is $w^2/2$, so
# > its gradient is $w$.


# %%
ETAS = [0.02, 0.1, 0.3, 1.0, 1.6, 2.0, 2.2]


def descent(learning_rate=0.3):
    """Twelve steps of gradient descent in the valley w^2 / 2, and the loss along the way for this and the other rates."""
    paths = {rate: [-2.0] for rate in ETAS}
    for rate, path in paths.items():
        for _ in range(12):
            path.append(path[-1] - rate * path[-1])
    path = np.array(paths[learning_rate])
    with plots.style():
        figure, axes = new_figure(1, 2, (8.2, 2.9))
        left, right = axes[0]
        grid = np.linspace(-4, 4, 200)
        left.plot(grid, grid**2 / 2, color="#B0B0B0")
        left.plot(path, path**2 / 2, "o-", color=plots.COLOURS[1], markersize=4, linewidth=1)
        left.plot(-2, 2, "o", color="black")
        left.set(xlim=(-4, 4), ylim=(-0.3, 8), xlabel="parameter w")
        left.set_title(f"loss; learning rate {learning_rate:g}, black: start")
        for rate, other in paths.items():
            losses = np.maximum(np.array(other) ** 2 / 2, 1e-6)
            chosen = rate == learning_rate
            right.semilogy(
                losses, "o-" if chosen else "-", color=plots.COLOURS[1] if chosen else "#B0B0B0", markersize=4
            )
            place = dict(xytext=(5, {2.0: 3, 0.02: -4}.get(rate, 0)), textcoords="offset points", va="center")
            right.annotate(f"{rate:g}", (12, losses[-1]), fontsize=8, **place)
        right.set(xlabel="step", title="loss, by learning rate", ylim=(5e-7, 1e3), xlim=(0, 13.2))
        right.grid(axis="y")
    return figure


explore(descent, learning_rate=ETAS)

# %% [markdown]
# Too small crawls; 1 would be perfect in this valley; above 1 the path jumps over the bottom; from 2 on it never comes down. A
# network's valley has thousands of directions, some steep, some flat, so no rate is perfect for all. **Momentum** helps in the flat
# ones: the step is $\eta v$ with $v \leftarrow 0.9\,v + \text{gradient}$, so that steps in one direction add up and jumps to and fro
# cancel.
#
# ## 5 · The loop, written out
#
# All pictures at once would be slow, and one at a time would be shaky: a **batch** of 64 gives a good enough gradient. One round
# through all training pictures is an **epoch**, and every epoch deals the batches anew. `EpochBatches` deals them, `prepare_for`
# turns pictures into the normalised numbers that the network wants, and `predict_probabilities` asks a network in use. The rest is
# written out.


# %%
def train_by_hand(model, train, validation, recipe):
    """Train a network; one row of figures per epoch."""
    optimizer = torch.optim.SGD(model.parameters(), recipe.lr, recipe.momentum, weight_decay=recipe.weight_decay)
    criterion = nn.CrossEntropyLoss()
    rows = []
    for epoch in range(recipe.epochs):
        model.train()  # batch norm uses the batch's mean and spread
        loss_sum = right = seen = 0
        # lists of 64 row numbers, dealt anew in each epoch
        for batch in EpochBatches(len(train), recipe.batch_size, seed=recipe.seed, epoch=epoch):
            images = prepare_for(model, train.images[batch])  # (B, 1, 48, 48), normalised
            targets = torch.from_numpy(train.labels[batch])
            logits = model(images)  # 1. answer
            loss = criterion(logits, targets)  # 2. how wrong
            loss.backward()  # 3. which way is better, for every parameter
            optimizer.step()  # 4. go there, a little
            optimizer.zero_grad()  # 5. forget this gradient, or the next one is added to it
            loss_sum += loss.item() * len(batch)
            right += (logits.argmax(1) == targets).sum().item()
            seen += len(batch)
        row = {"epoch": epoch + 1, "train_loss": loss_sum / seen, "train_accuracy": right / seen}
        p = predict_probabilities(model, validation.images)  # switches to use, and back
        row["val_loss"] = float(-np.log(p[np.arange(len(p)), validation.labels]).mean())
        row["val_accuracy"] = float((p.argmax(1) == validation.labels).mean())
        rows.append(row)
    return rows


torch.manual_seed(SEED)
model = TinyCNN(len(names))
by_hand = train_by_hand(model, train, validation, recipe)
plots.curves(by_hand)

# %%
frequent = max(train.counts(), key=train.counts().get)
for row in (by_hand[0], by_hand[-1]):
    print(f"epoch {row['epoch']}: training loss {row['train_loss']:.2f}, validation {row['val_accuracy']:.1%} right")
print(f"always saying {frequent} would be right in {validation.counts()[frequent] / len(validation):.1%}")
record("by_hand_train_loss_nats", by_hand[-1]["train_loss"])

# %% [markdown]
# Training loss falls from the landmark $\ln 7$ towards 0. Validation, pictures that the network has never been corrected on, goes
# along with jumps: it is measured on few pictures, and on a network still in motion.
#
# A frequent surprise: validation can be *better* than training in the same row. The training figure is a mean over the epoch, taken
# while the network was still worse; validation is measured at the epoch's end.
#
# What has it learned? Here are the eight maps of the first stage for one face: with the random kernels it began with, and with those
# that training made of them. (Each map has its own scale, from its smallest to its largest value.)
#
# > **Question.** Will the upper row show anything of the face?

# %%
surprised = face_from_action_units(PROTOTYPES["surprise"], seed=3, size=48)
torch.manual_seed(SEED)
stages = {"before": TinyCNN(len(names)).eval(), "after": model.eval()}  # the same seed, so the same beginning
with plots.style():
    figure, axes = new_figure(2, 9, (9.6, 2.5))
    for row, (title, network) in zip(axes, stages.items(), strict=True):
        with capture(network, "stage1") as seen, torch.no_grad():
            network(prepare_for(network, surprised[None]))
        show(row[0], surprised)
        row[0].set_ylabel(title, fontsize=9)
        for channel, ax in enumerate(row[1:]):
            ax.imshow(seen["stage1"][0, channel], cmap="gray")
            ax.axis("off")
figure

# %% [markdown]
# The upper row shows the face, too: random kernels are edge finders of a kind, and a map that lights up at brows and mouth proves no
# learning. Compare column by column what training changed. Mostly the maps look alike; what has been learned is what the later stages and
# the linear layer make of them. (Notebook 40 puts such pictures to a test.)
#
# ## 6 · `fit` is this loop
#
# From here on the workbook uses `ferkit.training.loop.fit`. It takes a `Task`, a network together with its loss. Same seed for the parameters, same batches, same recipe: if `fit` is the loop
# above, it must give the same numbers.

# %%
torch.manual_seed(SEED)
model = TinyCNN(len(names))
model.labels = names
history = fit(Task(model, nn.CrossEntropyLoss()), train, validation, recipe)
difference = max(abs(a["train_loss"] - b) for a, b in zip(by_hand, history.column("train_loss"), strict=True))
print(f"\nlargest difference between the two training losses: {difference:.1e} nats")
record("by_hand_minus_fit_nats", difference)
assert difference < 1e-3

# %% [markdown]
# The same, to the last digit or nearly so. (With another number of threads, say, sums are taken in another order, and tiny differences
# grow with each step. Equal code does not promise equal bits.) What `fit` adds is not learning, it is care:
#
# | | |
# |---|---|
# | selection | after training the network holds the weights of the epoch that was best on **validation** |
# | schedules | the learning rate can *warm up* (grow from 0 during the first steps), fall along half a *cosine* wave (slowly, fast, slowly, to 0), or drop when nothing improves |
# | averaging | it can keep a moving average of the weights over many steps (*EMA*, exponential moving average), which is steadier than the last step |
# | augmentation | training pictures can be changed at random, as under *mild*: mirrored, turned and moved a little, lighter or darker; validation and test pictures never are |
# | safety | a loss that is no longer finite stops the run with a sentence; a killed run goes on from its last checkpoint, bit for bit on a CPU |
# | scale | many GPUs or machines run the same recipe; a test compares two processes with one |
#
# Which of this a paper did is often not written down. For the paper of [notebook 10](10_resemotenet.ipynb), in three voices:

# %%
ledger_table("resemotenet", "selection", "test-every-epoch", "scheduler", "seeds")

# %%
best = history.best("val_accuracy")
print(f"kept: epoch {best + 1} of {recipe.epochs}, validation accuracy {history.rows[best]['val_accuracy']:.1%}")
record("val_accuracy_frac", history.rows[best]["val_accuracy"])

# %% [markdown]
# ## 7 · Too little, too much
#
# > **Question.** We train the same network on only a few of these pictures, for many epochs. What will the training accuracy be at
# > the end? And the validation accuracy?


# %%
def train_fresh(faces, seed=SEED, **changes):
    """The small network, trained anew on `faces` with some of the recipe changed."""
    torch.manual_seed(seed)
    fresh = TinyCNN(len(names))
    fresh.labels = names
    task = Task(fresh, nn.CrossEntropyLoss())
    return fresh, fit(task, faces, validation, recipe.overlay(dict(seed=seed, **changes)), progress=False)


few = train.subset(range(S.few))
_, over = train_fresh(few, epochs=S.few_epochs, batch_size=20)
plots.curves(over)

# %%
_, flipped = train_fresh(few, epochs=S.few_epochs, batch_size=20, augmentation="mild")
runs = {f"{len(few)} pictures": over, f"{len(few)} pictures, changed\nat random (mild)": flipped}
for times in (4, 16):  # more pictures, as many fewer epochs: the number of steps stays
    more = train.subset(range(min(len(train), times * S.few)))
    _, runs[f"{len(more)} pictures"] = train_fresh(more, epochs=max(1, S.few_epochs // times), batch_size=20)
steps = S.few_epochs * math.ceil(len(few) / 20)
with plots.style():
    figure, axes = new_figure(1, 1, (7.2, 2.7))
    ax = axes[0, 0]
    for i, run in enumerate(runs.values()):
        a, b = run.rows[-1]["train_accuracy"], run.rows[-1]["val_accuracy"]
        ax.plot([a, b], [i, i], color="#B0B0B0", linewidth=2, zorder=0)
        ax.plot(a, i, "o", color=plots.COLOURS[0], label="training" if i == 0 else None)
        ax.plot(b, i, "s", color=plots.COLOURS[1], label="validation" if i == 0 else None)
    ax.set_yticks(range(len(runs)), list(runs))
    ax.set(xlim=(0, 1.02), ylim=(len(runs) - 0.5, -0.6), xlabel="accuracy after the last epoch")
    ax.set_title(f"about {steps} steps of 20 pictures each")
    ax.grid(axis="x")
    ax.legend(loc="lower left")
record("few_train_accuracy_frac", over.rows[-1]["train_accuracy"])
record("few_val_accuracy_frac", over.rows[-1]["val_accuracy"])
figure

# %% [markdown]
# - **Underfitting**: training accuracy itself is low. The network is too small, trained too briefly, or at a bad rate. The first
#   epochs of every curve look like this. Curves that end there need more training, not more data.
# - **Overfitting**: training accuracy is high and validation is far behind; the grey line is long. The network has learned *these
#   pictures* by heart. Its training loss goes to 0 while its validation loss stays where it was: on new faces it is often sure and wrong.
#
# The best cure is more faces: the two lower rows take as many steps, with as many pictures in each, and only more of the faces are
# different ones. Changing the few we have at random makes learning by heart harder: training accuracy falls, and the gap shrinks. It is
# no substitute for faces the network has not seen.
#
# ## 8 · The learning rate
#
# One setting that can decide alone between learning and not learning. We train the network briefly at five rates.
#
# > **Question.** What does the loss of a rate that is much too high look like: does it grow without end?

# %%
RATES = [0.0001, 0.001, 0.005, 0.02, 0.1]
part = train.subset(range(min(len(train), S.sweep_train)))
sweep, silent = {}, {}
for rate in RATES:
    net, sweep[rate] = train_fresh(part, lr=rate, epochs=S.sweep_epochs, batch_size=32)
    with capture(net, "stage3") as seen:
        predict_probabilities(net, validation.images[:64])
    silent[rate] = float((seen["stage3"] == 0).float().mean())


def at_rate(rate="all"):
    """Training loss and validation accuracy of the sweep, one rate brought to the front."""
    with plots.style():
        figure, axes = new_figure(1, 2, (8.6, 3.0))
        axes = axes[0]
        for ax, column in zip(axes, ("train_loss", "val_accuracy"), strict=True):
            for each, run in sweep.items():
                alpha = 1 if rate in ("all", each) else 0.15
                ax.plot(run.column("epoch"), run.column(column), "o-", markersize=3, alpha=alpha, label=f"{each:g}")
            ax.set(xlabel="epoch", xticks=range(1, S.sweep_epochs + 1))
            ax.grid(axis="y")
        axes[0].axhline(frequencies_only, color="black", linewidth=0.8, linestyle=":")
        axes[0].set(ylim=(0, 4), title="training loss (dotted: knows the class frequencies)")
        axes[1].set(title="validation accuracy")
        axes[1].legend(title="learning rate", loc="upper left", bbox_to_anchor=(1, 1))
    return figure


explore(at_rate, rate=["all", *RATES])

# %%
for rate, run in sweep.items():
    reached = run.rows[-1]["train_loss"]
    began = run.rows[0]["train_loss"]
    print(
        f"rate {rate:<7g} training loss {began:6.2f} to {reached:.2f}; of the numbers after stage 3 {silent[rate]:.0%} are 0"
    )
record("loss_at_0_1_to_0_005_ratio", sweep[0.1].rows[-1]["train_loss"] / sweep[0.005].rows[-1]["train_loss"])

# %% [markdown]
# Too low: everything moves the right way, and takes for ever. Too high, at 0.1: after a wild start (its first epoch lies above the
# picture) the loss settles near the dotted line, the price of knowing the class frequencies and nothing else (section 3). The last column
# says why. The large first steps pushed the network to where its ReLUs give 0 for every picture. Where the output is always 0 no gradient
# flows back, so it stays there, and the last layer can only learn how frequent each class is. The rate below it, 0.02, stands between:
# a part of the numbers is lost, and the network learns less than at 0.005, or later. That flat line, with the accuracy of the most frequent
# class, is worth recognising: before you blame data or network, try a smaller rate.
#
# One run per rate shows the kind of thing, not the border: with another seed 0.02 may do better or worse. And a rate belongs to a
# network, a batch size and a schedule. The network of [notebook 40](40_run_one_experiment.ipynb) has another last layer, which gets far
# fewer numbers, and a rate that warms up; there 0.02 works.
#
# ## 9 · The test split, once
#
# What was chosen above was chosen on validation pictures: the epoch that is kept. So they flatter us a little. The test pictures were not
# touched until this line, and nothing will be chosen by them.

# %%
probabilities = predict_probabilities(model, test.images)
result = evaluate(probabilities, test.labels, names)
low, high = result["intervals"]["accuracy"]
print(f"test accuracy {result['accuracy']:.1%} (95 % interval {low:.1%} to {high:.1%}), n = {result['n']}")
print(f"balanced accuracy {result['balanced_accuracy']:.1%}")
said = np.sum(result["confusion"], axis=0)
print("words it never says:", ", ".join(name for name, n in zip(names, said, strict=True) if n == 0) or "none")
record("test_accuracy_frac", result["accuracy"])
plots.confusion(result["confusion"], names)

# %% [markdown]
# A **confusion matrix**: rows are the true label, columns what the network said, the diagonal what it got right. Look off the
# diagonal first: which pair is mixed up most, and which action units have the two in common? Then look at empty columns: a word that is
# never said. With so few pictures of disgust, giving it up is cheap, as [notebook 01](01_faces_labels_splits.ipynb) computed: accuracy
# hardly notices, balanced accuracy does.

# %%
plots.recall_bars(result["confusion"], names)

# %% [markdown]
# **Recall** is the diagonal as a share of its row. The black lines are 95 % intervals: where few pictures are, they are long, and two
# classes whose intervals overlap widely should not be ranked.
#
# Why only once? Because choosing is learning. Suppose several networks are *equally* good, and we report the one that looks best on
# the test split:

# %%
rng = np.random.default_rng(SEED)
for tries in (1, 5, 20, 100):
    best_looking = rng.binomial(result["n"], result["accuracy"], size=(2000, tries)).max(1).mean() / result["n"]
    print(f"best of {tries:3}: looks {100 * (best_looking - result['accuracy']):+.1f} points better than it is")

# %% [markdown]
# Nothing was learned, and the number rose. Looking at the test split after each epoch and reporting the best one is a game of the same
# kind. It has as many tries as epochs at most: networks of neighbouring epochs are alike, and so are their errors, so they count for
# fewer.
#
# ## 10 · What a seed changes
#
# The seed decides the first parameters and the order of the pictures. Nothing about it is better or worse, so whatever changes with
# it is luck.

# %%
accuracies = [result["accuracy"]]
for seed in range(SEED + 1, SEED + S.seeds):
    other, _ = train_fresh(train, seed=seed)
    accuracies.append(float((predict_probabilities(other, test.images).argmax(1) == test.labels).mean()))
mean, seed_low, seed_high = mean_interval(accuracies)
print("accuracy by seed:", ", ".join(f"{a:.1%}" for a in accuracies))
print(f"mean of {len(accuracies)} seeds {mean:.1%}, 95 % interval of the mean {seed_low:.1%} to {seed_high:.1%}")
record("seed_spread_frac", max(accuracies) - min(accuracies))
spread = (mean, max(0.0, seed_low), min(1.0, seed_high))
plots.intervals([("other test pictures", accuracies[0], low, high), ("other seeds", *spread)])

# %% [markdown]
# Two different questions, two intervals. The upper one: *had we drawn other test pictures*, where would this network be? (Bootstrap:
# the test pictures drawn again, with replacement.) The lower one: *had we started from other seeds*, where would the mean be? For $n$
# seeds with mean $m$ and spread $s$ it is $m \pm t\,s/\sqrt{n}$, where Student's $t$ is 4.3 for three seeds and goes down to 2 for
# many. With so few seeds it is wide, and that is the honest message: a smaller difference between two methods needs more seeds before
# it is a finding.
#
# (We read the test split once per seed here, to *report* the spread. Nothing was chosen by it.)
#
# ## Exercises
#
# **1.** The same three stages get a picture of 100 × 100 pixels. How many inputs must the linear layer have?

# %%
answer_1 = None

# %%
hint_1 = "Pooling rounds down: 100, 50, 25, 12. Then count channels times places."
check("inputs of the linear layer at 100 px", answer_1, 4608, hint=hint_1)

# %% tags=["solution"]
answer_1 = 32 * (100 // 2 // 2 // 2) ** 2
check("inputs of the linear layer at 100 px", answer_1, 4608, hint=hint_1)

# %% [markdown]
# **2.** A table prints an accuracy of 80 % and a mean cross entropy of 0.10 nats for the same test. What is the least mean cross
# entropy that an accuracy of 80 % allows? (So, can the table be right?)

# %%
answer_2 = None

# %%
expected_2 = arithmetic.minimal_cross_entropy(0.80)
hint_2 = "One answer in five is wrong, and each of those costs at least ln 2."
check("least mean cross entropy at 80 %", answer_2, expected_2, tolerance=1e-3, hint=hint_2)

# %% tags=["solution"]
answer_2 = 0.20 * math.log(2)  # 0.139 nats, so 0.10 is impossible
check("least mean cross entropy at 80 %", answer_2, expected_2, tolerance=1e-3, hint=hint_2)

# %% [markdown]
# **3.** Somebody forgets `optimizer.zero_grad()`. In the valley $w^2/2$, from $w = 1$, with learning rate 0.1 and no momentum: where is
# $w$ after two steps? (With it, at 0.81.)

# %%
answer_3 = None

# %%
w = nn.Parameter(torch.tensor(1.0))
forgetful = torch.optim.SGD([w], lr=0.1)
for _ in range(2):
    (w**2 / 2).backward()
    forgetful.step()
hint_3 = "The second step uses the sum of both gradients: 1 and 0.9."
check("w after two forgetful steps", answer_3, w.item(), tolerance=1e-3, hint=hint_3)

# %% tags=["solution"]
answer_3 = 0.9 - 0.1 * (1 + 0.9)
check("w after two forgetful steps", answer_3, w.item(), tolerance=1e-3, hint=hint_3)

# %% [markdown]
# ## Recap
#
# You can now
#
# 1. compute the shape and the parameters of every layer by hand
# 2. compute a cross entropy and a gradient step by hand, and check them against PyTorch
# 3. write a training loop, and say what each line is for and what `fit` adds to it
# 4. tell underfitting from overfitting in a curve, and find a learning rate that works
# 5. select a model on validation data and read the test split once
# 6. say how much of a result is the choice of a seed
#
# Next, [notebook 10](10_resemotenet.ipynb): a published network. Convolution, batch normalisation, ReLU, pooling and linear layers you
# know now. New there are residual blocks, dropout, and a gate that weighs channels.

# %%
footer(faceset)
