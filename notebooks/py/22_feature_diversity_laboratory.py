# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 22 · Feature-diversity laboratory
#
# *Turn the weight, gamma and the number of branches, and see what moves: maps, answers, or nothing.*
#
# Notebook 14 asks whether the diversity term of [@diversity] helps. Here you turn its knobs. A grid of small ensembles is trained first, so that
# every control shows a *trained* network at once; then you train one of your own, and attach the term to another network.
#
# ## Objectives
#
# After this notebook you can
#
# 1. tell by overlap and determinant whether a diversity term acts in training
# 2. predict what more weight, another gamma or more branches do to gates and answers
# 3. set difference beside accuracy, each with its spread over seeds
# 4. train a setting of your own, and say how far one run can be believed
# 5. attach the term to any layers of any network
#
# **You need** [notebook 14](14_diversified_esr.ipynb), sections 2 to 4.

# %% tags=["parameters"]
PROFILE = "teach"  # smoke (seconds), teach (minutes on a laptop) or paper (larger, for a GPU)
SEED = 0
WEIGHT = 0.3  # of the term, in the ensemble of section 4
GAMMA = "median"  # or a number, as text: "10"
BRANCHES = 4

# %%
from itertools import product

import numpy as np
import torch
from torch import nn

from ferkit import plots
from ferkit.evaluation import attention_overlap, cohen_kappa, disagreement, plurality
from ferkit.runs.experiment import build_model, load_faces
from ferkit.losses.attached import AttachedDiversity, attached
from ferkit.losses.diversity import DiversityTerm, describe_similarity as describe, similarity, squared_distances
from ferkit.evaluation.metrics import mean_interval
from ferkit.models import create_model
from ferkit.notebook import check, footer, profile, record
from ferkit.predict import prepare_for
from ferkit.training.recipe import Recipe
from ferkit.training import fit, make_task
from ferkit.widgets import explore

S = profile(
    PROFILE,
    smoke=dict(n_train=60, n_test=40, size=72, width=1 / 16, epochs=1, weights=(0.0, 1.0), branches=(3, 4), seeds=2, steps=3),
    teach=dict(n_train=350, n_test=400, size=72, width=1 / 16, epochs=7, weights=(0.0, 0.1, 1.0), branches=(3, 6), seeds=3, steps=40),
    paper=dict(n_train=28709, n_test=3589, size=96, width=1.0, epochs=60, weights=(0.0, 0.1, 0.3, 1.0, 3.0), branches=(3, 6, 9), seeds=5, steps=400),
)
torch.set_num_threads(1)
torch.manual_seed(SEED);

# %% [markdown]
# ## 1 · The grid
#
# Each ensemble is a small ESR with CBAM [@cbam] on drawn faces, trained by
#
# $$L=\sum_b L_{ce}(f_b)-w\,(D_{sp}+D_{ch}),\qquad D=\log\det S$$
#
# over branches $b$, with the gates of the last CBAM and a unit diagonal. The logarithm and the weight $w$ are ours: the logarithm still pulls where members nearly
# coincide and the determinant is flat. $\gamma$ is 10, as in the released code, or one over the batch's *median* squared distance.

# %%
base = Recipe(
    name="notebook-22",
    model="esr",
    data_options=dict(n_train=S.n_train, n_test=S.n_test, size=S.size, seed=SEED, difficulty="easy"),
    image_size=S.size,
    width=S.width,
    epochs=S.epochs,
    batch_size=20,
    optimizer="adamw",
    lr=0.006,
    schedule="cosine",
    warmup_epochs=0.5,
    augmentation="resemotenet",  # mirrored half of the time, nothing else
    channels_last=True,
    loss="branch_cross_entropy",
)
faceset = load_faces(base)
train, validation, test = (faceset.select(split) for split in ("train", "validation", "test"))
GAMMAS = ("10", "median")


def train_ensemble(weight, gamma, branches, seed):
    """One ensemble with the term's weight (0: no term), gamma ("median" or a number) and number of branches."""
    options = dict(spatial=weight, channel=weight, objective="logdet")
    if gamma == "median":
        options["gamma_mode"] = "median"
    elif weight:
        options["gamma"] = float(gamma)
    run = base.overlay(
        {
            "seed": seed,
            "model_options": {"branches": branches, "attention": "cbam"},
            "loss_options": {"diversity": options} if weight else {},
        }
    )
    net = build_model(run, faceset.names)
    fit(make_task(net, run, train.counts()), train, validation, run, progress=False)
    return net.eval()


def look(net):
    """What an ensemble answers on the test faces, and where its branches look: probabilities and gates (L, N, ...)."""
    outputs, spatial, channel = [], [], []
    with torch.no_grad():
        for rows in np.array_split(np.arange(len(test)), -(-len(test) // 100)):
            parts = net.forward_parts(prepare_for(net, test.images[rows]))
            outputs.append(parts.branch_logits.softmax(-1))
            spatial.append(parts.spatial_gates)
            channel.append(parts.channel_gates)
    return tuple(torch.cat(part, 1) for part in (outputs, spatial, channel))


def numbers(seen):
    """The figures that the controls move, by name."""
    outputs, spatial, channel = seen
    outputs = outputs.numpy()
    return {
        "accuracy of the vote": float((plurality(outputs) == test.labels).mean()),
        "mean branch": float((outputs.argmax(2) == test.labels).mean()),
        "disagreement": disagreement(outputs, n_bootstrap=20).mean,
        "overlap of spatial gates": attention_overlap(spatial.numpy(), n_bootstrap=20).mean,
        "overlap of channel gates": attention_overlap(channel.numpy(), n_bootstrap=20).mean,
    }


settings = [(0.0, "none", b) for b in S.branches] + list(product([w for w in S.weights if w], GAMMAS, S.branches))
seen, measured = {}, {}
for setting in settings:
    for seed in range(S.seeds):
        found = look(train_ensemble(*setting, SEED + seed))
        seen.setdefault(setting, found)  # of the first seed
        measured.setdefault(setting, []).append(numbers(found))
print(f"{len(settings)} settings, {S.seeds} seeds each")

# %% [markdown]
# ## 2 · Turn the knobs
#
# Left: the similarities $S$ of the branches' spatial gates (mean over entries, $\gamma=10$), a row and a column per branch; middle: of the channel gates;
# right: how far answers agree beyond chance ($\kappa$). Below: the last spatial gate of each branch on a face.
#
# > **Question.** Start at weight 0. Which matrix changes first as the weight grows, and which last?


# %%
def key(weight, gamma, branches):
    """Weight 0 has no gamma."""
    return (weight, gamma if weight else "none", branches)


def matrices(weight=0.0, gamma="median", branches=S.branches[0]):
    """S of both gates, and agreement."""
    outputs, spatial, channel = seen[key(weight, gamma, branches)]
    grids = {"spatial": similarity(spatial, distance="mean"), "channel": similarity(channel, distance="mean")}
    shown = {f"{name}\ndet {describe(s)['unit']:.2g}": s.numpy() for name, s in grids.items()}
    kappa = np.nan_to_num(cohen_kappa(outputs.numpy(), n_bootstrap=20).matrix)
    at = numbers(seen[key(weight, gamma, branches)])
    title = ", ".join(f"{name} {value:.2f}" for name, value in at.items() if "overlap" not in name)
    return plots.matrices(shown | {"answers\nkappa": kappa}, title=title)


explore(matrices, weight=list(S.weights), gamma=list(GAMMAS), branches=list(S.branches))


# %%
def gates(weight=0.0, gamma="median", branches=S.branches[0], face=0):
    """The last spatial gate of each branch on a test face; the number is its range, the colours go from its least to its largest value."""
    spatial = seen[key(weight, gamma, branches)][1][:, face]  # (L, h, w)
    heats = {}
    for b, gate in enumerate(spatial):
        low, high = gate.min(), gate.max()
        big = nn.functional.interpolate(((gate - low) / (high - low).clamp_min(1e-6))[None, None], size=(S.size, S.size), mode="bilinear")
        heats[f"{b + 1}: {float(high - low):.2f}"] = big[0].numpy()
    return plots.cam_grid(test.images[face : face + 1], heats, titles=[test.names[test.labels[face]]])


explore(gates, weight=list(S.weights), gamma=list(GAMMAS), branches=list(S.branches), face=(0, 9))

# %% [markdown]
# Colours go from the least to the largest value of each gate; a gate whose range is near zero lets everything through alike, whatever its colours say.
#
# ## 3 · Difference against accuracy
#
# Every setting with its mean and 95 % interval over seeds. Choose what to look at.


# %%
def title_of(setting):
    """Short name of a setting."""
    weight, gamma, branches = setting
    return f"{branches} branches, no term" if not weight else f"{branches} branches, w {weight:g}, gamma {gamma}"


def compare(what="accuracy of the vote"):
    """One figure of merit over all settings."""
    points = [(title_of(s), *mean_interval([row[what] for row in measured[s]])) for s in sorted(settings, key=lambda s: (s[2], s[0], s[1]))]
    return plots.intervals(points, xlabel=what)


explore(compare, what=list(next(iter(measured.values()))[0]))

# %%
print(f"difference to no term with as many branches, paired by seed, mean and 95 % interval over {S.seeds} seeds; * leaves out zero")
changed = {}
for setting in settings:
    if setting[0]:
        print(title_of(setting))
        for name in measured[setting][0]:
            pairs = zip(measured[setting], measured[0.0, "none", setting[2]], strict=True)
            mean, low, high = mean_interval([a[name] - b[name] for a, b in pairs])
            changed.setdefault(name, []).append(not low <= 0 <= high)
            print(f"    {name:26} {mean:+.3f} ({low:+.3f} to {high:+.3f}){' *' if changed[name][-1] else ''}")
print("settings with a star:", ", ".join(f"{name} {sum(stars)} of {len(stars)}" for name, stars in changed.items()))
record("accuracy_none_frac", float(np.mean([row["accuracy of the vote"] for row in measured[0.0, "none", S.branches[0]]])))
record("channel_overlap_none_frac", float(np.mean([row["overlap of channel gates"] for row in measured[0.0, "none", S.branches[0]]])))
record("channel_overlap_most_frac", float(np.mean([row["overlap of channel gates"] for row in measured[S.weights[-1], "median", S.branches[0]]])))
record("accuracy_stars_n", sum(changed["accuracy of the vote"]))

# %% [markdown]
# How to read this: with $\gamma=10$ the term hardly moves gates at either weight. With $\gamma$ from the median the channel gates part at once, already at a
# tenth of the weight, and the spatial gates a little. Answers hardly follow. *Accuracy* has two stars of eight, one up and one down. The one that is up stands where no
# gate moved; the other is the strongest setting, which has come down to chance (one in seven), so that too much of the term spoils a short training.
# That is what stars of three seeds are worth: where many settings are compared, some are luck.
#
# ## 4 · Train your own
#
# Set `WEIGHT`, `GAMMA` and `BRANCHES` at the top, or here, and run. It trains one ensemble as above; compare its figures with those of section 3.

# %%
yours = look(train_ensemble(WEIGHT, GAMMA, BRANCHES, SEED))
mine = numbers(yours)
for name, value in mine.items():
    print(f"{name:26} {value:.3f}")
record("yours_frac", mine["accuracy of the vote"])
among = {title_of(s): [row["accuracy of the vote"] for row in measured[s]] for s in settings}
spread = float(np.mean([np.std(v, ddof=1) for v in among.values()]))
print(f"within a setting the accuracy has a standard deviation of {100 * spread:.1f} points over seeds. Yours is one run.")

# %% [markdown]
# ## 5 · Any layers of any network
#
# The term needs maps, not branches. `AttachedDiversity` catches the outputs of named submodules, compares them, and gives losses to add. Here: two stages of
# a ResEmoteNet ([notebook 10](10_resemotenet.ipynb)) that have equally many channels are asked to differ in their channels' means. $\gamma$ is one over their squared
# distance *at the start*, and then fixed: with the median of each batch, two members would have a similarity of about $1/e$ however far they move.

# %%
torch.manual_seed(SEED)
net = create_model("resemotenet", width=1 / 8, num_classes=len(faceset.names))
net.input_size = S.size
x, y = prepare_for(net, train.images), torch.from_numpy(train.labels)
with torch.no_grad(), attached(net.train(), ["stage3", "se"]) as caught:
    net(x[:20])
start = torch.stack([maps[0].mean((2, 3)) for maps in caught.values()])  # (2, 20, C)
gamma = 1 / float(squared_distances(start)[0, 1].median())
term = AttachedDiversity(DiversityTerm(spatial=0.0, channel=1.0, gamma=gamma, objective="logdet"), channel=["stage3", "se"])
optimiser = torch.optim.AdamW(net.parameters(), lr=1e-3)
curve = []
for _ in range(S.steps):
    rows = torch.randperm(len(x))[:20]
    parts, losses = term(net.train(), x[rows])
    loss = nn.functional.cross_entropy(parts.logits, y[rows]) + sum(losses.values())
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    curve.append(float(losses["diversity_channel"].detach()))
record("attached_first_ratio", curve[0])
record("attached_last_ratio", curve[-1])
plots.lines(np.arange(len(curve)), {"minus log det": curve}, xlabel="step", ylabel="diversity term", title="two layers of one network, asked to differ")

# %% [markdown]
# Names and options are all that had to be given. Whether it is good for anything is an open question; you have the tools to ask it.
#
# ## Exercises
#
# **1.** Two gates coincide on every face. What is $\det S$ with a unit diagonal, whatever the other branches do?

# %%
answer_1 = None

# %%
check("det S", answer_1, 0.0, tolerance=1e-12, hint="Two equal rows.")

# %% tags=["solution"]
answer_1 = 0.0
check("det S", answer_1, 0.0, tolerance=1e-12)

# %% [markdown]
# **2.** In the median mode, what is the similarity of two members at the median squared distance?

# %%
answer_2 = None

# %%
check("similarity", answer_2, float(np.exp(-1)), tolerance=1e-3, hint="gamma times the median is 1.")

# %% tags=["solution"]
answer_2 = 1 / np.e
check("similarity", answer_2, float(np.exp(-1)), tolerance=1e-3)

# %% [markdown]
# **3.** With the term the spatial gates overlap less, and the accuracy's difference is +1 % with an interval from −2 % to +4 %. Did diversity help? Answer True, False or
# "cannot be said".

# %%
answer_3 = None

# %%
check("did it help", answer_3, "cannot be said", hint="Is zero inside?")

# %% tags=["solution"]
answer_3 = "cannot be said"
check("did it help", answer_3, "cannot be said")

# %% [markdown]
# ## Recap
#
# You can now
#
# 1. tell by overlap and determinant whether a diversity term acts in training
# 2. predict what more weight, another gamma or more branches do to gates and answers
# 3. set difference beside accuracy, each with its spread over seeds
# 4. train a setting of your own, and say how far one run can be believed
# 5. attach the term to any layers of any network

# %%
footer(faceset)
