# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 23 · Leak laboratory
#
# *How an accuracy grows while the network stays as it is: six ways to fool oneself, each beside its honest twin.*
#
# A test accuracy is a promise about pictures nobody has seen. The promise is broken when something of the test leaks into the training or
# into a choice. Nothing fails then, no warning appears, and the number gets better, which is why leaks survive. Here each leak is made on
# purpose, with the same small network and the same pictures, and its **inflation** is measured: what is claimed minus what is true.
#
# ## Objectives
#
# After this notebook you can
#
# 1. say what a leak is, and measure its inflation against a truth that you know
# 2. split before you augment, and compute how many test pictures have a sibling in training if you do not
# 3. say what choosing an epoch or a seed on test pictures is worth, and predict it
# 4. compute what copies across splits add, from their share
# 5. tell what happens when a network normalises test pictures by each other
# 6. read a paper or its code for leaks, and say what is known and what is not
#
# **You need** a training loop, validation and seeds ([notebook 02](02_training_loop_by_hand.ipynb)), and copies across splits
# ([notebook 01](01_faces_labels_splits.ipynb)).

# %% tags=["parameters"]
PROFILE = "teach"  # smoke (seconds), teach (minutes on a laptop) or paper (many more pictures and seeds, needs a GPU)
DATA = "synthetic"  # or "fer2013", with the path of your own copy below
DATA_PATH = None
FRESH_SPLIT = "public_test"  # for fer2013: the pictures that stand for "never seen"
SEED = 0
OUT = None  # a file name: the figures of section 7 are written there as JSON

# %%
import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from ferkit import data, plots
from ferkit.synthetic.faces import TEST_START, make_faces
from ferkit.data.transforms import prepare
from ferkit.runs.experiment import environment
from ferkit.evaluation.metrics import mean_interval
from ferkit.notebook import check, footer, ledger_table, profile, record
from ferkit.plots.house import COLOURS, new_figure
from ferkit.widgets import explore

S = profile(
    PROFILE,
    smoke=dict(n=150, n_fresh=300, steps=6, marks=3, seeds=2, k=2, versions=3),
    teach=dict(n=600, n_fresh=3000, steps=80, marks=8, seeds=6, k=4, versions=6),
    paper=dict(n=9000, n_fresh=3589, steps=3000, marks=30, seeds=10, k=6, versions=6),
)

# %% [markdown]
# ## 1 · A truth to measure against
#
# Nobody knows the true accuracy of a network on photographs. For drawn faces we can know it as closely as we like: draw thousands of
# fresh ones. Each of our seeds gets a **pile** of its own, a few hundred faces, as small data sets are. It is dealt into training (60 %),
# validation and test (20 % each). The fresh faces are the same for all piles, and nothing is ever chosen by them.


# %%
def as_input(images):
    """Pictures (N, 48, 48) as the network's input (N, 1, 24, 24)."""
    return prepare(images, size=24, mean=(0.5,), std=(0.25,), colour="grey")


if DATA == "synthetic":
    drawn = make_faces(S.n_fresh, size=48, seed=SEED, start=TEST_START, difficulty="easy")
    fresh = as_input(drawn.images), torch.from_numpy(np.asarray(drawn.labels)).long()
else:
    whole = data.load(DATA, DATA_PATH)
    source, unseen = whole.select("train"), whole.select(FRESH_SPLIT)
    fresh = as_input(unseen.images[: S.n_fresh]), torch.from_numpy(np.asarray(unseen.labels[: S.n_fresh])).long()


def pile(seed):
    """Input (n, 1, 24, 24) and labels (n,) of one seed."""
    if DATA == "synthetic":
        faces = make_faces(S.n, size=48, seed=SEED, start=seed * S.n, difficulty="easy")
        return as_input(faces.images), torch.from_numpy(np.asarray(faces.labels)).long()
    rows = np.sort(np.random.default_rng(SEED + seed).choice(len(source), S.n, replace=False))
    return as_input(np.asarray(source.images[rows])), torch.from_numpy(np.asarray(source.labels[rows])).long()


def dealt(n, seed):
    """Row numbers of training, validation and test: 60, 20 and 20 % of n, at random."""
    return np.split(np.random.default_rng(SEED + seed).permutation(n), [round(0.6 * n), round(0.8 * n)])


# %% [markdown]
# The network is three convolutions with batch normalisation, and the loop is that of [notebook 02](02_training_loop_by_hand.ipynb). One
# thing is new: at some **marks** during training it looks at both validation *and* test and keeps the best state by each. So one training
# gives two networks, which differ in nothing but what chose them.


# %%
def network():
    """Three convolutions with batch normalisation and a linear layer; (B, 1, 24, 24) -> (B, 7)."""
    sizes, layers = (1, 16, 32, 64), []
    for a, b in zip(sizes, sizes[1:], strict=False):
        layers += [nn.Conv2d(a, b, 3, padding=1, bias=False), nn.BatchNorm2d(b), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * 3 * 3, 7))


def changed(x):
    """Each picture mirrored or not, turned a little, and shifted a little."""
    n = len(x)
    mirror = torch.randint(0, 2, (n,)) * 2.0 - 1
    angle, shift = 0.15 * (2 * torch.rand(n) - 1), 0.12 * (2 * torch.rand(n, 2) - 1)
    rows = [torch.stack([mirror * angle.cos(), -angle.sin(), shift[:, 0]], 1)]
    rows += [torch.stack([mirror * angle.sin(), angle.cos(), shift[:, 1]], 1)]
    grid = F.affine_grid(torch.stack(rows, 1), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, padding_mode="border", align_corners=False)


@torch.no_grad()
def accuracy(net, x, y):
    """Share of right answers, in evaluation mode."""
    net.eval()
    return float(torch.cat([net(part).argmax(1) for part in x.split(500)]).eq(y).float().mean())


def trained(train, validation, test, seed, *, augment=True):
    """The network that was best on validation and the one that was best on test, of one training."""
    torch.manual_seed(1000 * SEED + seed)
    net, (x, y) = network(), train
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=S.steps)
    best = {"validation": (-1.0, {}), "test": (-1.0, {})}
    for step in range(1, S.steps + 1):
        net.train()
        rows = torch.randint(len(x), (64,))
        loss = F.cross_entropy(net(changed(x[rows]) if augment else x[rows]), y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % (S.steps // S.marks) == 0:
            for name, part in (("validation", validation), ("test", test)):
                found = accuracy(net, *part)
                if found > best[name][0]:
                    best[name] = found, {k: v.clone() for k, v in net.state_dict().items()}
    chosen = {}
    for name, (_, state) in best.items():
        chosen[name] = network()
        chosen[name].load_state_dict(state)
    return chosen["validation"], chosen["test"]


# %% [markdown]
# The honest way first: split, change *training* pictures only, choose the mark on validation, read the test once. **Claimed** is what the
# test says; **true** is what the fresh faces say.

# %%
claims = defaultdict(list)  # way -> (claimed, true) of each seed


def put_down(way, net, test):
    """Note what this way claims for a network, and what is true."""
    claims[way].append((accuracy(net, *test), accuracy(net, *fresh)))


def inflation(way):
    """Claimed minus true in points: mean over seeds, and the ends of its 95 % interval."""
    return [100 * v for v in mean_interval([claimed - true for claimed, true in claims[way]])]


def against(way, twin):
    """Inflation of a way minus that of its twin on the same pile, in points, with its 95 % interval."""
    gaps = [[claimed - true for claimed, true in claims[name]] for name in (way, twin)]
    return [100 * v for v in mean_interval(np.subtract(*gaps).tolist())]


def report(way, twin=None):
    """One line about a way to evaluate, and one that compares it with its twin."""
    claimed, true = np.mean(claims[way], axis=0)
    mean, low, high = inflation(way)
    print(f"{way}: claimed {claimed:.1%}, true {true:.1%}, inflation {mean:+.1f} points ({low:+.1f} to {high:+.1f})")
    if twin:
        mean, low, high = against(way, twin)
        print(f"    that is {mean:+.1f} points ({low:+.1f} to {high:+.1f}) beside '{twin}', pile by pile")


parts, by_validation, by_test = [], [], []
for seed in range(S.seeds):
    x, y = pile(seed)
    parts.append([(x[rows], y[rows]) for rows in dealt(len(x), seed)])
    good, picked = trained(*parts[seed], seed)
    by_validation.append(good)
    by_test.append(picked)
    put_down("honest", good, parts[seed][2])
report("honest")
record("honest_true_frac", np.mean([true for _, true in claims["honest"]]))
record("honest_points_pct", inflation("honest")[0])

# %% [markdown]
# An honest test is sometimes lucky and sometimes not, and right on average: the interval should hold 0. Its width is the luck of tests
# of this size.
#
# ## 2 · Augment, then split
#
# Few pictures? Make more: of each, some mirrored, turned, shifted versions. Then deal *all of them* to training, validation and test.
#
# > **Question.** Six versions of each picture, a fifth of all for the test. How many test pictures have a sibling outside the test?


# %%
def with_sibling(copies=6, test_share=20):
    """Chance that a test picture has a sibling outside the test: by counting on a large pile, and by formula."""
    rng, n = np.random.default_rng(0), 5000
    owner = np.repeat(np.arange(n), copies)
    test = np.zeros(len(owner), bool)
    test[rng.permutation(len(owner))[: round(test_share / 100 * len(owner))]] = True
    counted = np.isin(owner[test], owner[~test]).mean()
    each = np.arange(1, 13)
    with plots.style():
        figure, axes = new_figure(1, 1, (5.6, 2.6))
        ax = axes[0, 0]
        formula = 1 - (test_share / 100) ** (each - 1)
        ax.plot(each, formula, "-", color=COLOURS[0], label="1 − (test share)^(versions − 1)")
        ax.plot(copies, counted, "o", color=COLOURS[1], label=f"counted: {counted:.1%}")
        ax.set(xlabel="versions of each picture", ylabel="with a sibling", ylim=(-0.03, 1.05), xticks=each)
        ax.grid(axis="y")
        ax.legend(loc="lower right")
    return figure


explore(with_sibling, copies=(1, 12), test_share=(5, 50, 5))

# %% [markdown]
# Nearly all. So the network is examined on pictures it has all but seen. Both ways now, with the same pictures, the same versions, and the
# same number of training steps. In the honest twin all versions of a picture stay on its side.


# %%
def augment_then_split(versions, labels, owner, seed):
    """The leak: versions are dealt as if they were different pictures."""
    return [(versions[rows], labels[rows]) for rows in dealt(len(versions), seed)]


def split_then_augment(versions, labels, owner, seed):
    """The honest twin: pictures are dealt, and their versions follow."""
    sides = [np.isin(owner, people) for people in dealt(int(owner.max()) + 1, seed)]
    return [(versions[side], labels[side]) for side in sides]


ways = {"split, then augment": split_then_augment, "augment, then split": augment_then_split}
for seed in range(S.seeds):
    x, y = pile(seed)
    torch.manual_seed(seed)
    many = torch.cat([changed(x) for _ in range(S.versions)])
    many_labels, owner = y.repeat(S.versions), np.tile(np.arange(len(x)), S.versions)
    for way, deal in ways.items():
        train, validation, test = deal(many, many_labels, owner, seed)
        net, _ = trained(train, validation, test, seed, augment=False)
        put_down(way, net, test)
report("split, then augment")
report("augment, then split", "split, then augment")
record("augment_first_points_pct", inflation("augment, then split")[0])
record("augment_first_against_twin_pct", against("augment, then split", "split, then augment")[0])

# %% [markdown]
# Compare what is true of the two networks with what is claimed of them: the exam differs more than the networks do. The more a network
# remembers of its training pictures, the larger this leak; ours trains for seconds and remembers little.
# [Notebook 01](01_faces_labels_splits.ipynb) shows what copies give to a learner that does nothing but remember.
#
# ## 3 · Choosing on the test
#
# No test picture is trained on here. The test only *chooses* which state of the training is reported.
#
# > **Question.** Eight states to choose from, a test of 120 pictures. Will that be worth nearer to 1, 5 or 20 points?

# %%
for seed in range(S.seeds):
    put_down("state chosen on test", by_test[seed], parts[seed][2])
report("state chosen on test", "honest")
record("state_points_pct", against("state chosen on test", "honest")[0])

# %% [markdown]
# States of one training are much alike, so choosing among eight of them is less than choosing among eight independent numbers. The
# claimed accuracy can only grow by it: the largest of eight is at least the one that validation chose. With so small a test the gain is
# lost in the luck of the test; six piles cannot tell it from nothing.
#
# ## 4 · The best of k seeds
#
# Train with several seeds, print the best. In other words: choose the seed on the test.
#
# If $k$ networks are equally good and the test has $n$ pictures, each test accuracy is the truth $p$ plus luck with the standard deviation
# $\sqrt{p(1-p)/n}$. If their lucks are independent, the largest of $k$ is on average 0.56, 1.03, 1.27 or 1.54 of these above the truth for
# $k$ = 2, 4, 6, 10. It is nothing but the largest of $k$ draws:


# %%
def best_of(k=4, n_test=120, true_accuracy=0.7, draws=4000):
    """What each of k equally good networks claims, and what the best of them claims."""
    rng = np.random.default_rng(0)
    found = rng.binomial(n_test, true_accuracy, (draws, k)) / n_test
    spread = 5 * np.sqrt(true_accuracy * (1 - true_accuracy) / n_test)
    edges = (np.arange(-0.5, n_test + 1, max(1, n_test // 100))) / n_test
    with plots.style():
        figure, axes = new_figure(1, 1, (6.2, 2.5))
        ax = axes[0, 0]
        for title, values in {"one seed": found[:, 0], f"best of {k}": found.max(1)}.items():
            ax.hist(values, bins=edges, density=True, alpha=0.55, label=f"{title}: mean {values.mean():.1%}")
        ax.axvline(true_accuracy, color="black", linewidth=1, linestyle=":", label="the truth")
        ax.set(xlim=(true_accuracy - spread, true_accuracy + spread), yticks=[], xlabel="test accuracy")
        ax.legend(fontsize=8)
    return figure


explore(best_of, k=[1, 2, 4, 6, 10, 20], n_test=[50, 120, 500, 3589], true_accuracy=(0.5, 0.95, 0.05))

# %% [markdown]
# Now with networks. On each pile we train some with other seeds, and choose one by test (the leak) or by validation (the twin).

# %%
expected, spreads = [], []
normal = np.random.default_rng(SEED).standard_normal((20000, S.k)).max(1).mean()
for seed in range(S.seeds):
    train, validation, test = parts[seed]
    nets = [by_validation[seed], *(trained(*parts[seed], 100 * i + seed)[0] for i in range(1, S.k))]
    put_down("best seed by test", max(nets, key=lambda net: accuracy(net, *test)), test)
    put_down("best seed by validation", max(nets, key=lambda net: accuracy(net, *validation)), test)
    p = np.mean([accuracy(net, *fresh) for net in nets])
    expected.append(100 * normal * np.sqrt(p * (1 - p) / len(test[1])))
    spreads.append(100 * np.std([accuracy(net, *test) for net in nets], ddof=1))
report("best seed by validation")
report("best seed by test", "best seed by validation")
print(f"theory, equally good networks with independent lucks: {np.mean(expected):+.1f} points above the truth")
print(f"test accuracies of the seeds of one pile differ by {np.mean(spreads):.1f} points (standard deviation)")
record("best_seed_points_pct", against("best seed by test", "best seed by validation")[0])
record("best_seed_theory_pct", np.mean(expected))

# %% [markdown]
# Theory assumes two things that are not so here. The networks are not equally good, and their lucks are not independent: all sit the
# same test, and an easy test is easy for all. Where it matters what is left: on FER2013's test of 3,589 pictures the luck of one
# test is a fifth of what it is on 120. Large tests protect from this leak, but not from the first one.
#
# ## 5 · Copies across splits
#
# FER2013 holds pictures that are in training and in a test split ([notebook 01](01_faces_labels_splits.ipynb)). The training stays as it
# was; we replace a share of the test by training pictures: 8 %, about as much as was counted there, and more.


# %%
def with_copies(train, test, share):
    """The test, with a share of its pictures replaced by training pictures."""
    n = round(share * len(test[1]))
    return [torch.cat([old[n:], new[:n]]) for old, new in zip(test, train, strict=True)]


for share in (0.08, 0.2, 0.5):
    for net, (train, _, test) in zip(by_validation, parts, strict=True):
        put_down(f"{share:.0%} copies", net, with_copies(train, test, share))
    report(f"{share:.0%} copies", "honest")
knows = np.mean([accuracy(net, *train) for net, (train, _, _) in zip(by_validation, parts, strict=True)])
others = np.mean([true for _, true in claims["honest"]])
print(
    f"on training pictures {knows:.1%}, on fresh ones {others:.1%}: 8 % copies should give {8 * (knows - others):+.1f}"
)
record("copies_8_points_pct", against("8% copies", "honest")[0])
record("copies_50_points_pct", against("50% copies", "honest")[0])

# %% [markdown]
# What copies add is their share times how much better the network does on pictures it was trained on. A network that knows its training
# pictures by heart would gain that share of its errors. This is why a *duplicate-clean* figure stands beside each of our results on FER2013.
#
# ## 6 · Normalised by its neighbours
#
# Batch normalisation takes mean and variance from the batch while it trains; in use it takes those it collected. Forget `net.eval()`, and
# each answer depends on which other pictures happen to be in the batch.
#
# > **Question.** The same network, the same test pictures. Does it matter whether they come shuffled, or sorted by class, as from folders?


# %%
@torch.no_grad()
def with_batch_statistics(net, x, y, order, batch=20):
    """Accuracy where batch normalisation uses the batch, for pictures in a given order; the network is left as it was."""
    kept = {k: v.clone() for k, v in net.state_dict().items()}
    net.train()
    hits = sum(int(net(x[rows]).argmax(1).eq(y[rows]).sum()) for rows in torch.as_tensor(order).split(batch))
    net.load_state_dict(kept)
    net.eval()
    return hits / len(order)


gains = defaultdict(list)
for seed, (net, (_, _, (x, y))) in enumerate(zip(by_validation, parts, strict=True)):
    shuffled, ordered = np.random.default_rng(seed).permutation(len(y)), torch.argsort(y, stable=True)
    honestly, true = claims["honest"][seed]
    for title, order in {"shuffled": shuffled, "sorted by class": ordered}.items():
        found = with_batch_statistics(net, x, y, order)
        gains[title].append(100 * (found - honestly))
        claims[f"batch statistics, {title}"].append((found, true))
    dark = 0.35 * (x + 2) - 2  # a third of the light: the input's black is -2
    repaired = with_batch_statistics(net, dark, y, shuffled) - accuracy(net, dark, y)
    gains["dark pictures, shuffled"].append(100 * repaired)
for title, values in gains.items():
    mean, low, high = mean_interval(values)
    print(f"{title}: {mean:+.1f} points against evaluation mode ({low:+.1f} to {high:+.1f})")
    record(f"batch_{title.split()[0]}_points_pct", mean)

# %% [markdown]
# Sorted, the statistics of a batch are those of one class, and normalising by them removes what the class has in common. That makes numbers
# *worse*, so it is found. The last line is the flattering side: where test pictures differ from training pictures as a whole, here with a
# third of the light, normalising them by each other can repair what one picture alone would suffer (its
# interval just holds 0 here). Some methods want this and call it
# adaptation to the test. Then they have to say so, because the answer for one picture needs the others.
#
# ## 7 · All together

# %%
order = ["honest", "split, then augment", "best seed by validation", "8% copies", "50% copies", "state chosen on test"]
order += ["best seed by test", "batch statistics, shuffled", "batch statistics, sorted by class", "augment, then split"]
plots.intervals([(way, *inflation(way)) for way in order], reference=0, xlabel="claimed minus true, in points")

# %%
if OUT:
    rows = {}
    for way in order:
        claimed, true = np.mean(claims[way], axis=0)
        rows[way] = dict(claimed=claimed, true=true, points=inflation(way), points_beside_honest=against(way, "honest"))
    what = dict(data=DATA, fresh=FRESH_SPLIT if DATA != "synthetic" else "drawn", seed=SEED, **vars(S))
    what["interval"] = "95 %, over seeds; points: mean, low, high"
    found = dict(name=f"leaks-{DATA}", protocol=what, ways=rows, environment=environment(1, "cpu"))
    Path(OUT).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")

# %% [markdown]
# Mean over piles and 95 % interval. All rows but those with *augment* share the same test pictures, so they share that luck too: compare
# a leak with its honest twin, as the lines above do, more than with 0.
#
# What is known of the papers of this book? Only what a text prints or a file shows:

# %%
ledger_table("resemotenet", "test-every-epoch", "D1")

# %%
ledger_table("lfnsb", "A16")

# %%
ledger_table("diversity", "A11")

# %%
ledger_table("resmasking", "A12")

# %% [markdown]
# None of
# these rows says how much of a printed number is due to it. That is what *unstated* and *unverified* mean.
#
# ## Exercises
#
# **1.** Four versions of each picture, a tenth of all for the test. What share of test pictures has a sibling outside the test?

# %%
answer_1 = None

# %%
hint = "all three siblings must be in the test for it to have none"
check("with a sibling", answer_1, 1 - 0.1**3, tolerance=1e-6, hint=hint)

# %% tags=["solution"]
answer_1 = 1 - 0.1**3
check("with a sibling", answer_1, 1 - 0.1**3, tolerance=1e-6)

# %% [markdown]
# **2.** A network is right on 99 % of its training pictures and on 64 % of others. 280 of 3,589 test pictures are copies of training
# pictures. What does it claim?

# %%
answer_2 = None

# %%
share = 280 / 3589
hint = "a mean of two groups, weighted by their sizes"
check("claim", answer_2, share * 0.99 + (1 - share) * 0.64, tolerance=1e-4, hint=hint)

# %% tags=["solution"]
answer_2 = (280 * 0.99 + (3589 - 280) * 0.64) / 3589
check("claim", answer_2, share * 0.99 + (1 - share) * 0.64, tolerance=1e-4)
print(f"{answer_2:.1%}: {100 * (answer_2 - 0.64):.1f} points more than on faces it has not seen")

# %% [markdown]
# **3.** A paper prints 71.0 % on 3,589 pictures as the best of ten seeds. By how many points does luck alone lift the best of ten equally good
# networks, on average? The largest of ten standard normal numbers is 1.54 on average.

# %%
answer_3 = None

# %%
hint = "1.54 standard deviations of a proportion, times 100"
check("points", answer_3, 154 * np.sqrt(0.71 * 0.29 / 3589), tolerance=0.01, hint=hint)

# %% tags=["solution"]
answer_3 = 100 * 1.54 * (0.71 * 0.29 / 3589) ** 0.5
check("points", answer_3, 154 * np.sqrt(0.71 * 0.29 / 3589), tolerance=0.01)

# %% [markdown]
# ## Recap
#
# 1. say what a leak is, and measure its inflation against a truth that you know
# 2. split before you augment, and compute how many test pictures have a sibling in training if you do not
# 3. say what choosing an epoch or a seed on test pictures is worth, and predict it
# 4. compute what copies across splits add, from their share
# 5. tell what happens when a network normalises test pictures by each other
# 6. read a paper or its code for leaks, and say what is known and what is not

# %%
footer()
