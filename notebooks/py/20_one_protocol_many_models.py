# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 20 · One protocol, many models
#
# *Six networks under one protocol: which differences are real, what they cost, what their percentages mean, and what an average of them gains.*
#
# A table that ranks networks compares more than networks: data, epochs, augmentation, the number of tries, and luck come along. Here
# all of that is the same for six small networks from the papers of this book, and what is left of the ranking is looked at from five sides.
#
# ## Objectives
#
# After this notebook you can
#
# 1. write down a protocol that is equally fair to several networks, tries included
# 2. compare two networks on the same pictures, and say why the paired interval is the right one
# 3. put accuracy beside cost, and name the networks that are best for their cost
# 4. draw a reliability diagram, and repair percentages with one number found on validation
# 5. build an ensemble without looking at the test, and say what its gain and its oracle tell
# 6. cross-validate, and say what the spread over folds is and is not
#
# **You need** a training loop and seeds ([notebook 02](02_training_loop_by_hand.ipynb)). The networks have notebooks of their own
# ([10](10_resemotenet.ipynb), [12](12_lfnsb.ipynb)); here they are black boxes.

# %% tags=["parameters"]
PROFILE = "teach"  # smoke (seconds), teach (minutes on a laptop) or paper (full widths, needs a GPU)
DATA = "synthetic"  # or "fer2013", with the path of your own copy below
DATA_PATH = None
TEST_SPLIT = "test"  # "public_test" or "private_test" for fer2013
SEED = 0

# %%
import tempfile
from dataclasses import replace

import ipywidgets
import numpy as np

from ferkit.runs import ensemble
from ferkit import plots
from ferkit.evaluation.calibration import fit_temperature, reliability, temper
from ferkit.data.splits import stratified_folds
from ferkit.runs.experiment import build_model, load_faces, run
from ferkit.evaluation.metrics import cross_entropy, mean_interval, paired_difference, wilson
from ferkit.notebook import check, footer, ledger_table, profile, record
from ferkit.plots.house import new_figure
from ferkit.plots.results import draw_intervals
from ferkit.predict import predict_probabilities
from ferkit.runs.publish import read_record
from ferkit.training.recipe import Recipe
from ferkit.training import fit, make_task
from ferkit.widgets import explore

S = profile(
    PROFILE,
    smoke=dict(n_train=240, n_test=84, epochs=1, seeds=2, rates=(1e-3, 3e-3), folds=2, fold_epochs=1, scale=0.5),
    teach=dict(n_train=1600, n_test=1000, epochs=6, seeds=3, rates=(1e-3, 3e-3), folds=5, fold_epochs=4, scale=1.0),
    paper=dict(n_train=28709, n_test=3589, epochs=60, seeds=5, rates=(1e-3, 3e-3), folds=10, fold_epochs=60, scale=16.0),
)

# %% [markdown]
# ## 1 · The protocol
#
# The Residual Masking paper compares its network with ten others:

# %%
ledger_table("resmasking", "same-settings", "A14")

# %% [markdown]
# "The same setting" has many parts, and initial weights are one that can decide. So before anything runs, here is our setting. Everything
# but the first row is the same for all.
#
# | | |
# |---|---|
# | network | as in its paper, at a small fraction of its width, from random weights |
# | pictures | drawn faces of the easy kind, 48 px; enlarged to 64 where a network needs it |
# | splits | test apart; a quarter of the rest is validation, copies on one side |
# | steps | the same epochs, batch, optimiser (AdamW) and schedule (cosine); no augmentation |
# | **tries** | two learning rates each, one seed; the better on *validation* is kept |
# | seeds | three with that rate; the epoch is chosen on validation |
# | test | once per run, after all choices |
#
# The row on tries is the one most tables leave out. Who tunes his own network for a week and runs the others once compares weeks.

# %%
NETWORKS = {  # name -> model, width, options, side in pixels
    "ResEmoteNet": ("resemotenet", 1 / 16, dict(head="linear", stem_dropout=0.0), 48),
    "masking": ("resmasking", 1 / 16, dict(head="linear"), 64),
    "LFNSB": ("lfnsb", 1 / 8, {}, 48),
    "MA-Net": ("manet", 1 / 16, {}, 48),
    "ESR, 3 branches": ("esr", 1 / 16, dict(branches=3), 64),
    "ResNet-18": ("resnet18", 1 / 8, {}, 48),
}
drawn = dict(n_train=S.n_train, n_test=S.n_test, size=48, seed=SEED, difficulty="easy", imbalance="fer2013")
base = Recipe(
    data=DATA, data_path=DATA_PATH, data_options=drawn if DATA == "synthetic" else {}, test_split=TEST_SPLIT,
    validation_fraction=0.25, epochs=S.epochs, batch_size=32, optimizer="adamw", weight_decay=0.01,
    schedule="cosine", warmup_epochs=1.0,
)  # fmt: skip


def recipe_for(name, rate, seed):
    """The protocol, for one network."""
    model, width, options, side = NETWORKS[name]
    changes = dict(name=f"{model}-{seed}", model=model, width=min(1.0, width * S.scale), model_options=options)
    return base.overlay(dict(changes, image_size=side, lr=rate, seed=seed))


faceset = load_faces(base)
train, validation = faceset.select("train"), faceset.select("validation")
rates, tried = {}, {}
for name in NETWORKS:
    for rate in S.rates:
        recipe = recipe_for(name, rate, SEED)
        net = build_model(recipe, faceset.names)
        history = fit(make_task(net, recipe, train.counts()), train, validation, recipe, progress=False)
        tried[name, rate] = max(history.column("val_accuracy"))
    rates[name] = max(S.rates, key=lambda rate, name=name: tried[name, rate])
    print(f"{name:16}", "  ".join(f"{r:g}: {tried[name, r]:.1%}" for r in S.rates), f"  keeps {rates[name]:g}")

# %% [markdown]
# > **Question.** How would the ranking look if everybody had had the first rate only?
#
# ## 2 · Three seeds each
#
# Each run leaves a folder with its answers on validation and test. Everything below reads these folders; nothing is trained again but in
# section 6.

# %%
folder = tempfile.TemporaryDirectory()
members, cost, seconds = {}, {}, {}  # (name, seed) -> what the run said
for name in NETWORKS:
    for seed in range(S.seeds):
        done = run(recipe_for(name, rates[name], SEED + seed), out=folder.name, progress=False)
        members[name, seed] = ensemble.read_member(done.folder)
        cost[name] = done.result["model"]["macs"]
        seconds.setdefault(name, []).append(done.result["seconds"]["training"])
truth, truth_val = members[name, 0].test_labels, members[name, 0].validation_labels
right = {key: m.test.argmax(1) == truth for key, m in members.items()}  # (N,) each
scores = {name: [float(right[name, seed].mean()) for seed in range(S.seeds)] for name in NETWORKS}
lines = {name: name.replace(", ", ",\n") for name in NETWORKS}  # for the axis
plots.ablation({lines[n]: v for n, v in scores.items()}, {lines[n]: v for n, v in cost.items()})

# %%
for name, values in sorted(scores.items(), key=lambda item: -np.mean(item[1])):
    mean, low, high = mean_interval(values)
    print(f"{name:16} {mean:.1%}  (95 % interval over seeds {max(low, 0):.1%} to {min(high, 1):.1%})")
print(f"always the most frequent class: {np.bincount(truth).max() / len(truth):.1%}")
record("best_accuracy_frac", max(np.mean(v) for v in scores.values()))
record("resnet_accuracy_frac", np.mean(scores["ResNet-18"]))

# %% [markdown]
# This is a ranking of *these* fractions after *these* few steps, on drawings. A network that learns slowly looks bad here and may be
# good in the end; a narrow one may lose more than others by being narrow. A ranking belongs to its protocol.
#
# ## 3 · Pairs
#
# > **Question.** Two networks are tested on the same 1,000 pictures and get 78 % and 75 %. Each figure is known to about ± 2.6 points, so
# > the intervals overlap. Can the difference still be certain?
#
# Some pictures are hard for everybody and some are easy for everybody. Those say nothing about who is better. Only the pictures on which the
# two *disagree* do, and the **paired** comparison counts them: right only here, right only there. McNemar's test asks whether these two
# counts could come from a fair coin.


# %%
def compare(a="ResEmoteNet", b="LFNSB", seed=0):
    """Two networks, one seed: the interval of each, and of their difference on the same pictures."""
    one, two = right[a, seed], right[b, seed]
    points = [(name, hits.mean(), *wilson(int(hits.sum()), len(hits))) for name, hits in ((a, one), (b, two))]
    pair = paired_difference(one, two)
    unpaired = 1.96 * np.sqrt(sum(p * (1 - p) / len(one) for _, p, *_ in points))
    gap = pair["accuracy"]
    rows = [("as if on other pictures", gap, gap - unpaired, gap + unpaired)]
    rows += [("on the same pictures", gap, *pair["interval"])]
    with plots.style():
        figure, axes = new_figure(1, 2, (9.0, 2.1))
        for ax, lines, title in ((axes[0, 0], points, "each alone"), (axes[0, 1], rows, "difference")):
            draw_intervals(ax, lines, reference=0 if lines is rows else None)
            ax.set_title(title)
        counts = f"right only in the first {pair['only_a']}, only in the second {pair['only_b']}"
        axes[0, 1].set_xlabel(f"{counts}\nMcNemar's p = {pair['p']:.2g}")
    return figure


explore(compare, a=list(NETWORKS), b=list(NETWORKS), seed=list(range(S.seeds)))

# %%
pair = paired_difference(right["ResEmoteNet", 0], right["LFNSB", 0])
width = np.ptp(pair["interval"])
single = [right[name, 0].mean() for name in ("ResEmoteNet", "LFNSB")]
apart = 2 * 1.96 * np.sqrt(sum(p * (1 - p) / len(truth) for p in single))
print(f"the paired interval is {width / apart:.2f} times as wide as the unpaired one")
by_seed = np.subtract(scores["ResEmoteNet"], scores["LFNSB"])
mean, low, high = mean_interval(by_seed)
print(f"over seeds the difference is {100 * mean:+.1f} points (95 % interval {100 * low:+.1f} to {100 * high:+.1f})")
record("paired_to_unpaired_ratio", width / apart)

# %% [markdown]
# Two questions, two intervals. *Is this trained network better than that one?* Pairs of pictures answer it. *Is this design better than
# that one?* For this, seeds have to vary too, and with three of them the interval is wide. Papers mostly print one run each, and so
# answer neither.
#
# ## 4 · Cost
#
# > **Question.** Which of the six would you leave out, if each multiply-add cost you money?

# %%
points = {}
for name, values in scores.items():
    mean, low, high = mean_interval(values)
    points[name] = (cost[name], mean, max(low, 0), min(high, 1))
plots.cost_scatter(points)

# %%
for name in sorted(NETWORKS, key=lambda n: cost[n]):
    print(f"{name:16} {cost[name] / 1e6:6.2f} million multiply-adds a picture,", end=" ")
    print(f"{np.mean(seconds[name]):5.1f} s of training a run")

# %% [markdown]
# The dashed line joins the networks for which no other is at least as good for less. Look at the last column before you trust the axis:
# multiply-adds are not seconds. Many thin layers take longer than their count says, as [notebook 12](12_lfnsb.ipynb) shows for LFNSB.
#
# ## 5 · What is a percentage worth?
#
# A network gives its answer a probability. Among all answers with about 80 %, are about 80 % right? If so it is **calibrated**
# [@calibration]. The diagram sorts the pictures into bins by the largest probability; the dotted line is where both agree.
#
# > **Question.** The networks were trained until they knew most training pictures. Will they be too sure, or not sure enough?

# %%
first = {name: members[name, 0] for name in NETWORKS}
# by validation, never by test
ranked = sorted(first, key=lambda n: -ensemble.accuracy(first[n].validation, truth_val))
name, chosen = ranked[0], first[ranked[0]]
temperature = fit_temperature(chosen.validation, truth_val)
panels = {
    f"{name}, as it is": reliability(chosen.test, truth, 10),
    f"temperature {temperature:.2f}, from validation": reliability(temper(chosen.test, temperature), truth, 10),
}
plots.reliability_diagram(panels)

# %% [markdown]
# **Temperature scaling** divides all logits by one number before the softmax. It is found on validation pictures, as the number of least
# cross entropy. Written out for logits, and the same on probabilities:

# %% tags=["same-as:ferkit.evaluation.calibration.temper"]
def temper(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    if not temperature > 0:
        raise ValueError(f"a temperature is above 0, found {temperature}")
    scaled = np.log(np.clip(probabilities, 1e-30, None)) / temperature
    powers = np.exp(scaled - scaled.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


# %% [markdown]
# By hand, two classes with 0.8 and 0.2: their logits differ by $\ln 4$. Divided by 2 that is $\ln 2$, so the probabilities become 2 : 1.

# %%
print(temper(np.array([[0.8, 0.2]]), 2.0))
assert np.allclose(temper(np.array([[0.8, 0.2]]), 2.0), [[2 / 3, 1 / 3]])


def at_temperature(network=name, log2_temperature=0.0):
    """The reliability of one network at some temperature, and its cross entropy in nats, on both splits."""
    m, t, panels = members[network, 0], 2.0**log2_temperature, {}
    for split, p, y in (("validation", m.validation, truth_val), ("test", m.test, truth)):
        p = temper(p, t)
        title = f"{split}, T = {t:.2f}, cross entropy {cross_entropy(p, y):.3f}"
        panels[title] = reliability(p, y, 10)
    return plots.reliability_diagram(panels)


explore(at_temperature, network=list(NETWORKS), log2_temperature=(-2.0, 2.0, 0.25))

# %%
for each in NETWORKS:
    m = members[each, 0]
    t = fit_temperature(m.validation, truth_val)
    before, after = (cross_entropy(p, truth) for p in (m.test, temper(m.test, t)))
    print(f"{each:16} T = {t:4.2f}; test cross entropy {before:.3f} to {after:.3f} nats")
record("temperature_ratio", temperature)
gain = cross_entropy(chosen.test, truth) - cross_entropy(temper(chosen.test, temperature), truth)
record("calibration_gain_nats", gain)

# %% [markdown]
# $T > 1$: too sure before. The answer itself never changes, since the largest stays the largest. So accuracy cannot tell a calibrated
# network from one that is not, and a table of accuracies does not. Where validation has few pictures, $T$ itself is uncertain.
#
# ## 6 · Ensembles
#
# Let several networks answer, and average their probabilities. The masking paper's best number is such an average:

# %%
ledger_table("resmasking", "T3.resmasking", "ensemble", "ensemble-selection", "ensemble-tta", "ensemble-weights")

# %% [markdown]
# Why should it help? Let three networks be right with probability 0.7 each, *independently*. A majority of them is right with
# $0.7^3 + 3 \cdot 0.7^2 \cdot 0.3 = 0.784$. Real networks are not independent: they learn from the same pictures and fail on the same ones.
#
# > **Question.** Which will gain more: three seeds of one network, or three different networks?

# %%
kinds = {
    f"seeds of {name}": [members[name, seed] for seed in range(S.seeds)],
    " + ".join(ranked[:3]): [first[n] for n in ranked[:3]],
}
for title, group in kinds.items():
    found = ensemble.assess(group, name="notebook-20")
    more, (low, high) = found["gain"]["accuracy"], found["gain"]["interval"]
    differ = found["diversity"]
    print(f"{title}: {found['test']['accuracy']:.1%}")
    print(f"    over the best of them on validation {100 * more:+.1f} points ({100 * low:+.1f} to {100 * high:+.1f})")
    print(f"    pairs disagree on {differ['mean_disagreement']:.1%};", end=" ")
    print(f"one at least is right on {differ['oracle_accuracy']:.1%}")
record("oracle_frac", differ["oracle_accuracy"])

# %% [markdown]
# The last number is the **oracle**: the share of pictures that at least one member gets right. No rule that picks among the members can do
# better. And *disagreement* is what an average lives on: members that always agree average to one of them. Choose members yourself:


# %%
def average(who=tuple(ranked[:3])):
    """What the chosen networks say together, on validation and test."""
    if not who:
        raise ValueError("choose at least one network")
    together = ensemble.ensemble([first[n] for n in who])
    with plots.style():
        figure, axes = new_figure(1, 2, (8.6, 1.2 + 0.32 * len(who)), sharey=True)
        for ax, split, labels in zip(axes[0], ("validation", "test"), (truth_val, truth), strict=True):
            said = {n: getattr(first[n], split) for n in who} | {"together": together[split]}
            hits = {n: int((p.argmax(1) == labels).sum()) for n, p in said.items()}
            draw_intervals(ax, [(n, k / len(labels), *wilson(k, len(labels))) for n, k in hits.items()])
            ax.set_title(split)
    return figure


boxes = ipywidgets.SelectMultiple(options=list(NETWORKS), value=tuple(ranked[:3]), rows=6)
explore(average, who=boxes)

# %% [markdown]
# ### Chosen on validation, chosen on test
#
# Six networks have 63 subsets. Which one? The paper says by validation accuracy; the first committed script tries all and compares with
# test labels. Both ways here, on the same answers:

# %%
candidates = list(first.values())
honest = ensemble.choose(candidates)
swapped = [
    replace(m, validation=m.test, test=m.validation, validation_labels=m.test_labels, test_labels=m.validation_labels)
    for m in candidates
]
peeking = [candidates[swapped.index(m)] for m in ensemble.choose(swapped)]  # as if the test were validation
shown = {}
for title, group in (("chosen on validation", honest), ("chosen on test", peeking)):
    together = ensemble.ensemble(group)["test"].argmax(1) == truth
    shown[title] = together.mean()
    print(f"{title}: {len(group)} members, {together.mean():.1%} on test")
print(f"so {100 * (shown['chosen on test'] - shown['chosen on validation']):.1f} points come from having looked")
record("peeking_gain_frac", shown["chosen on test"] - shown["chosen on validation"])

# %% [markdown]
# The best on test can never be worse *on this test* than the one chosen without it: that is what choosing means. On new pictures the lead
# is gone. The more subsets are tried, the larger it grows (exercise 3 lets you count).
#
# ### On photographs
#
# The same on FER2013, with three small networks trained by recipes of this project: the masking network of
# [notebook 11](11_residual_masking.ipynb), a ResNet-18, and a ResEmoteNet somewhat wider than that of
# [notebook 10](10_resemotenet.ipynb). Their probabilities were averaged with equal weights, and none was left out:

# %%
published = read_record("teach-ensemble-fer2013")
for m in published["members"]:
    print(f"{m['name']:36} validation {m['validation_accuracy']:.1%}, test {m['test_accuracy']:.1%}")
whole, more, differ = published["test"], published["gain"], published["diversity"]
for title, part in (("together", whole), ("without images also in training", whole["duplicate_clean"])):
    low, high = part["intervals"]["accuracy"]
    print(f"{title}, n = {part['n']:,}: {part['accuracy']:.1%} ({low:.1%} to {high:.1%})")
low, high = more["interval"]
print(f"over {more['over']}: {100 * more['accuracy']:+.1f} points ({100 * low:+.1f} to {100 * high:+.1f}), p = {more['p']:.1g}")
print(f"pairs disagree on {differ['mean_disagreement']:.1%}; one at least is right on {differ['oracle_accuracy']:.1%}")
record("fer2013_ensemble_frac", whole["accuracy"])
record("fer2013_gain_frac", more["accuracy"])

# %% [markdown]
# The average shows *no* gain over its best member here; the interval holds 0, so the test cannot tell it from a small loss. The other two
# are weaker by four points, and equal weights give them two thirds of the say. Their validation accuracies would have warned us: an average helps where members are about equally good and err on
# different pictures. (A member's test accuracy stands beside it because its own record has it; nothing was chosen by it.) Between
# *together* and the oracle lies what a better rule of combining could gain at most.
#
# ## 7 · Folds
#
# A validation split of a few hundred pictures is a coarse ruler. **Cross-validation** uses every picture once: deal the pictures to
# $k$ folds (each class evenly, copies of a picture into the same fold), train $k$ times, each time validated on another fold.
#
# > **Question.** Will the $k$ accuracies spread more, or less, than the size of a fold alone explains?

# %%
pool = faceset.subset(np.isin(faceset.split, ["train", "validation"]))
fold = stratified_folds(pool, S.folds, seed=SEED)
found = []
for k in range(S.folds):
    rest, held = pool.subset(fold != k), pool.subset(fold == k)
    recipe = recipe_for("ResNet-18", rates["ResNet-18"], SEED).overlay(dict(epochs=S.fold_epochs))
    net = build_model(recipe, pool.names)
    fit(make_task(net, recipe, rest.counts()), rest, held, recipe, progress=False)
    found.append(float((predict_probabilities(net, held.images).argmax(1) == held.labels).mean()))
n_fold = len(pool) / S.folds
by_size = np.sqrt(np.mean(found) * (1 - np.mean(found)) / n_fold)
print("folds:", "  ".join(f"{v:.1%}" for v in found))
print(f"mean {np.mean(found):.1%}, standard deviation {100 * np.std(found, ddof=1):.1f} points;", end=" ")
print(f"{n_fold:.0f} pictures alone explain {100 * by_size:.1f}")
record("fold_spread_ratio", np.std(found, ddof=1) / by_size)

# %% [markdown]
# The mean over folds is known better than one validation accuracy, since it rests on all pictures. The standard deviation is *not* the
# uncertainty of that mean: any two trainings share most of their pictures, so the $k$ numbers are not independent, and dividing by
# $\sqrt{k}$ promises too much. And because each training chose its best epoch on the fold it is scored on, all $k$ are a little too high.
#
# ## Exercises
#
# **1.** Of 1,000 pictures, network A alone is right on 60 and network B alone on 30. What is the difference of their accuracies, and how
# many of the 90 would a fair coin give A on average? Answer as `(difference, count)`.

# %%
answer_1 = None

# %%
hint = "pictures that both or neither got right cancel; half of 90"
check("difference and coin", answer_1, (0.03, 45), tolerance=1e-9, hint=hint)

# %% tags=["solution"]
answer_1 = ((60 - 30) / 1000, 90 / 2)
check("difference and coin", answer_1, (0.03, 45), tolerance=1e-9)

# %% [markdown]
# **2.** Five independent networks, each right with probability 0.6. How often is a majority of them right?

# %%
answer_2 = None

# %%
from scipy.stats import binom

hint = "at least three of five: sum three binomial terms"
check("majority of five", answer_2, binom.sf(2, 5, 0.6), tolerance=1e-4, hint=hint)

# %% tags=["solution"]
answer_2 = sum(c * 0.6**k * 0.4 ** (5 - k) for k, c in ((3, 10), (4, 5), (5, 1)))
check("majority of five", answer_2, binom.sf(2, 5, 0.6), tolerance=1e-4)

# %% [markdown]
# **3.** How many subsets of at least one member have the masking paper's seven networks? And the fourteen networks that its README lists?

# %%
answer_3 = None

# %%
check("subsets", answer_3, (2**7 - 1, 2**14 - 1), hint="each network is in or out; the empty set does not count")

# %% tags=["solution"]
answer_3 = (2**7 - 1, 2**14 - 1)
check("subsets", answer_3, (127, 16383))

# %% [markdown]
# ## Recap
#
# 1. write down a protocol that is equally fair to several networks, tries included
# 2. compare two networks on the same pictures, and say why the paired interval is the right one
# 3. put accuracy beside cost, and name the networks that are best for their cost
# 4. draw a reliability diagram, and repair percentages with one number found on validation
# 5. build an ensemble without looking at the test, and say what its gain and its oracle tell
# 6. cross-validate, and say what the spread over folds is and is not

# %%
folder.cleanup()
footer(faceset)
