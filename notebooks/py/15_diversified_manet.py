# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 15 · Diversified MA-Net
#
# *Global, local, patches and branches: what the diversity terms do there.*
#
# MA-Net [@manet] looks at a face twice: at four patches with attention, and at the whole. The diversity paper [@diversity] leaves the
# network as it is and adds terms to its loss that ask the patches, and the two ways, to differ. We take the network apart, measure
# whether the terms can act at all, and then train with and without them.
#
# ## Objectives
#
# After this notebook you can
#
# 1. follow a picture through the local and the global way of MA-Net, with shapes
# 2. cut a map in patches, at even and odd sides, and put it together again
# 3. say what the direction of the second chain in a multi-scale block changes
# 4. compute which diversity terms act on this network, and at which gamma
# 5. say what the determinant with a zero diagonal rewards for four patches, and see what training makes of it
# 6. mix local and global logits, and judge a small experiment by its intervals
#
# **Three voices** are kept apart: *the paper says*, *the released code does*, *we do*. The paper is the diversity paper; the code is its
# repository at `808a02a` and MA-Net's own at `923fa6c`. The *ledger* is the table in which this workbook keeps what paper, code and arithmetic say; codes such
# as A23 are its rows.
#
# **You need** a training loop ([notebook 02](02_training_loop_by_hand.ipynb)), gates ([notebook 03](03_attention_is_reweighting.ipynb)) and the diversity
# measure ([notebook 14](14_diversified_esr.ipynb), sections 2 to 4).

# %% tags=["parameters"]
PROFILE = "teach"  # smoke (seconds), teach (minutes on a laptop) or paper (larger, for a GPU)
SEED = 0

# %%
import numpy as np
import torch
from torch import Tensor

from ferkit import faces, papers, plots
from ferkit.evaluation import attention_overlap, disagreement
from ferkit.runs.experiment import build_model, load_faces
from ferkit.explain import cam, capture
from ferkit.losses.diversity import describe_similarity as describe, pool_channels, pool_space, similarity, squared_distances
from ferkit.evaluation.metrics import mean_interval
from ferkit.models import create_model, summarise
from ferkit.models.manet import MultiScaleBlock, mosaic
from ferkit.notebook import check, footer, ledger_table, profile, record
from ferkit.papers import arithmetic
from ferkit.predict import predict_probabilities, prepare_for
from ferkit.training.recipe import Recipe
from ferkit.training import fit, make_task
from ferkit.widgets import explore

S = profile(
    PROFILE,
    smoke=dict(n_train=60, n_test=40, size=64, width=1 / 16, epochs=1, seeds=2, batch=27),
    teach=dict(n_train=400, n_test=400, size=64, width=1 / 8, epochs=8, seeds=4, batch=30),
    paper=dict(n_train=20000, n_test=5000, size=224, width=1.0, epochs=40, seeds=5, batch=128),
)
paper = papers.load("diversity")
torch.manual_seed(SEED);

# %% [markdown]
# ## 1 · The network in one table

# %%
ledger_table("diversity", "manet-layers", "manet-fusion", "manet-size", "multiscale", "eq5", "weights-of-terms")

# %% [markdown]
# Names and shapes from the running network, one picture of 224 px. `local` is the four patches, each through its own residual blocks
# with CBAM [@cbam]; `local_map` is their maps put together again. `global_layer3` and `global_layer4` see the whole map.

# %%
with torch.device("meta"):  # shapes and counts without computing anything
    rows = summarise(create_model("manet"), 224)
notes = {
    "local": "4 patches, own weights each",
    "local_map": "patches put together",
    "fc_local": "7 logits, weight 0.6",
    "global_layer3": "2 multi-scale blocks",
    "global_layer4": "2 multi-scale blocks",
    "fc_global": "7 logits, weight 0.4",
}
boxes = [(r.name, notes.get(r.name, ""), " × ".join(map(str, r.shape))) for r in rows]
boxes = [(n, note, "4 × 512 × 7 × 7" if n == "local" else shape) for n, note, shape in boxes]  # patches before pictures
first_global = [n for n, _, _ in boxes].index("global_layer3")
plots.chain(boxes[:first_global], per_row=5, title="shared map, then the local way")

# %%
plots.chain([(n, note, shape) for n, note, shape in boxes if n == "layer2"] + boxes[first_global:], per_row=5, title="the global way, from the same map")


# %%
def where_the_cost_is(size=224):
    """Parameters and multiply-adds of each stage."""
    with torch.device("meta"):
        stages = summarise(create_model("manet"), size)
    return plots.stage_bars(stages, title=f"MA-Net, {size} px: {sum(r.params for r in stages):,} parameters")


record("parameters_n", sum(r.params for r in rows))
explore(where_the_cost_is, size=[64, 112, 224])


# %% [markdown]
# ## 2 · Cutting a map in patches
#
# The map behind `layer2` is cut in four, in the order top left, top right, bottom left, bottom right. The released code cuts at places
# 14 and 28 (right for 224 px alone); we cut the map that is there:


# %% tags=["same-as:ferkit.models.manet.quadrants"]
def quadrants(x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A map (B, C, H, W) cut in four of equal size: top left, top right, bottom left, bottom right."""
    h, w = -(-x.shape[-2] // 2), -(-x.shape[-1] // 2)
    top, bottom = x[..., :h, :], x[..., -h:, :]
    return top[..., :w], top[..., -w:], bottom[..., :w], bottom[..., -w:]


# %% [markdown]
# By hand: the numbers 0 to 15 on a map of 4 × 4 places.

# %%
x = torch.arange(16.0).view(1, 1, 4, 4)
cut = quadrants(x)
assert cut[1][0, 0].tolist() == [[2, 3], [6, 7]] and torch.equal(mosaic(torch.stack(cut)), x)
titles = ("top left", "top right", "bottom left", "bottom right")
plots.matrices({"map": x[0, 0].numpy(), **{t: c[0, 0].numpy() for t, c in zip(titles, cut, strict=True)}}, form="{:.0f}")

# %% [markdown]
# On a face it looks like this. It is a drawing, since the network cuts its map and not the picture: places near a cut have already
# seen pixels from beyond it.

# %%
recipe = Recipe(
    name="notebook-15",
    model="manet",
    data_options=dict(n_train=S.n_train, n_test=S.n_test, size=S.size, seed=SEED, difficulty="easy"),
    image_size=S.size,
    width=S.width,
    epochs=S.epochs,
    batch_size=S.batch,
    optimizer="adamw",
    lr=0.003,
    schedule="cosine",
    warmup_epochs=0.5,
    augmentation="resemotenet",  # mirrored half of the time, nothing else
)
faceset = load_faces(recipe)
train, validation, test = (faceset.select(split) for split in ("train", "validation", "test"))
names = faceset.names
face = test.images[:1]
pieces = quadrants(torch.from_numpy(face)[:, None])
plots.face_grid([face[0], *(p[0, 0].numpy() for p in pieces)], ["the face", *titles], columns=5)

# %% [markdown]
# ## 3 · The multi-scale block
#
# A block of the global way splits its channels in four groups. In a *chain*, each group is convolved together with what the group
# before it gave. Two chains are added. MA-Net's code runs the second one *backward* since April 2023; before, and in the diversified
# release, it runs *forward* like the first.
#
# > **Question.** With both chains forward, which output groups can the last input group influence? And with one backward?

# %%
reach = {}
for direction in ("backward", "forward"):
    block = MultiScaleBlock(16, 16, stride=1, backward=direction == "backward").eval()
    block.conv1 = torch.nn.Identity()  # so that group i of the input is group i of the chains
    block.downsample = lambda x: torch.zeros_like(x)  # only the chains
    groups = torch.zeros(4, 4)
    for i in range(4):
        x = torch.rand(1, 16, 5, 5)
        changed = x.clone()
        changed[:, 4 * i : 4 * i + 4] += 1
        with torch.no_grad():
            moved = (block(changed) - block(x)).abs().sum((0, 2, 3)).view(4, 4).sum(1)  # one number per output group
        groups[i] = (moved > 0).float()
    reach[direction] = groups
record("reach_backward_n", int(reach["backward"].sum()))
record("reach_forward_n", int(reach["forward"].sum()))
plots.matrices({d: g.numpy() for d, g in reach.items()}, form="{:.0f}", title="input group (row) reaches output group (column)")

# %% [markdown]
# With both forward, late groups never reach early ones; with one backward, each reaches all. The parameters have the same names and
# shapes, so weights of the one load into the other without an error and give other answers:

# %%
torch.manual_seed(SEED)
back, forth = (create_model("manet", width=S.width, multi_scale=d).eval() for d in ("backward", "forward"))
forth.load_state_dict(back.state_dict())
with torch.no_grad():
    a, b = (net.forward_parts(prepare_for(net, face)) for net in (back, forth))
print(f"local logits moved by {float((a.local_logits - b.local_logits).abs().max()):.1g}, global by {float((a.global_logits - b.global_logits).abs().max()):.2g}")
record("local_changed_n", int((a.local_logits != b.local_logits).sum()))
ledger_table("diversity", "A23")

# %% [markdown]
# ## 4 · Where the terms are attached
#
# Recall the measure ([@diversity], equations 1 to 3). Maps $\varphi_l$ of $L$ members are compared image by image, and the similarities
# averaged: $S_{lk} = \tfrac1N\sum_i \exp(-\gamma\lVert\varphi_l(x_i)-\varphi_k(x_i)\rVert^2)$, so $S_{ll}=1$.
# The diversity is $D=\det S$: 0 if two members coincide, 1 if all are far apart; it is subtracted from the loss.
#
# MA-Net gets three: between the four patches' maps averaged over channels (*spatial*), between the same averaged over places
# (*channel*), and between the local and the global vector (*branches*).

# %%
ledger_table("diversity", "gamma", "pooling", "A1", "A2", "A29")

# %% [markdown]
# > **Question.** A similarity is $\exp(-\gamma d^2)$ and the code takes $\gamma=10$. With a squared distance of 30, can a gradient come
# > through?


# %%
probe = test.images[:32]


def members(net):
    """{term: maps of its members (L, N, ...)} in evaluation mode."""
    net.eval()
    with torch.no_grad():
        parts = net.forward_parts(prepare_for(net, probe))
    maps = {"spatial": pool_channels(parts.patch_maps), "channel": pool_space(parts.patch_maps)}
    return maps | {"branches": parts.branch_vectors}


def acts(net, gamma=10.0):
    """Prints distances, similarities and both determinants."""
    for term, maps in members(net).items():
        pairs = squared_distances(maps)[np.triu_indices(len(maps), 1)]
        d = describe(similarity(maps, gamma=gamma))
        line = f"{term:9} median d² {float(pairs.median()):9.3g}   mean S {d['mean']:.2g}   det S {d['unit']:.3g}"
        print(f"{line}, diagonal zero {d['zero']:.2g}   {d['state']}")


torch.manual_seed(SEED)
fresh = create_model("manet", width=S.width, num_classes=7)
fresh.input_size = S.size
fresh.train()
with torch.no_grad():
    for _ in range(30):
        fresh(prepare_for(fresh, train.images[:30]))  # so that batch normalisation knows its means
acts(fresh)
start = {term: describe(similarity(maps)) for term, maps in members(fresh).items()}
record("branch_similarity_frac", start["branches"]["mean"])

# %% [markdown]
# Move $\gamma$ on a logarithmic scale and see which term wakes up where:


# %%
at_start = members(fresh)


def similarity_at(log_gamma=1.0):
    """The three matrices S of the untrained network."""
    found = {term: similarity(maps, gamma=10.0**log_gamma) for term, maps in at_start.items()}
    return plots.matrices({f"{t}: det {describe(s)['unit']:.2g}": s.numpy() for t, s in found.items()}, title=f"gamma = {10**log_gamma:.3g}")


explore(similarity_at, log_gamma=(-4.0, 2.0, 0.5))

# %% [markdown]
# One $\gamma$ cannot serve all three: their distances differ by orders of magnitude. At 10 the *channel* and *branches* terms are dead: a squared distance of 30 gives
# $e^{-300}$. (`inert` means that no similarity exceeds 0.0001.) The released network at full size, measured the same way, has larger distances throughout, so
# that its spatial term is weaker than ours:

# %%
table = paper.tables["activity"]
for name in ("MA-Net patches, spatial 7x7", "MA-Net patches, channel 512", "MA-Net branches, 512"):
    print(f"{name:30}", "   ".join(f"{column}: {value:.3g}" for column, value in table.row(name).items()))

# %% [markdown]
# ## 5 · With and without
#
# A small training on synthetic faces, from random weights, the same for all: no term; the terms as the equations have them (unit
# diagonal); the terms as the code has them (zero diagonal).
#
# > **Question.** With a zero diagonal, four members and $\gamma$ fixed, the largest possible determinant is 1. Which $S$ has it? (Write
# > $S$ with two pairs of equal members.)

# %%
twins = torch.tensor([[0.0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]])
print(f"two pairs of twins, diagonal zero: det {float(torch.linalg.det(twins)):+.0f}; diagonal one: {float(torch.linalg.det(twins + torch.eye(4))):+.0f}")
plots.matrices({"two pairs of twins, diagonal zero": twins.numpy()}, form="{:.0f}")

# %% [markdown]
# So the released objective has a maximum where patches pair up, two and two alike. Does training go there?

# %%
conditions = {
    "no term": {},
    "unit diagonal": dict(loss_options=dict(diversity={})),
    "zero diagonal": dict(loss_options=dict(diversity=dict(diagonal="zero"))),
}
torch.set_num_threads(1)
scores, measures, trained = {}, {}, {}
for title, options in conditions.items():
    for seed in range(S.seeds):
        run = recipe.overlay({**options, "seed": SEED + seed})
        net = build_model(run, names)
        fit(make_task(net, run, train.counts()), train, validation, run, progress=False)
        trained.setdefault(title, net)
        scores.setdefault(title, []).append(float((predict_probabilities(net, test.images).argmax(1) == test.labels).mean()))
        net.eval()
        with torch.no_grad():
            parts = net.forward_parts(prepare_for(net, test.images))
        pooled = pool_channels(parts.patch_maps)
        both = torch.stack([parts.local_logits, parts.global_logits]).numpy()
        d = describe(similarity(pooled))
        found = {
            "det S": d["unit"],
            "det, diagonal zero": d["zero"],
            "largest S": d["max"],
            "patch overlap": attention_overlap(pooled.numpy(), n_bootstrap=50).mean,
            "local and global disagree": disagreement(both, n_bootstrap=50).mean,
        }
        for name, value in found.items():
            measures.setdefault(name, {}).setdefault(title, []).append(value)
plots.ablation(scores)

# %%
chance = max(test.counts().values()) / len(test)
print(f"always the largest class: {chance:.1%}")
for title, values in scores.items():
    mean, low, high = mean_interval(values)
    print(f"{title:14} accuracy {mean:.1%}, 95 % interval over {len(values)} seeds {max(low, 0):.1%} to {min(high, 1):.1%}")
for title in ("unit diagonal", "zero diagonal"):
    mean, low, high = mean_interval([a - b for a, b in zip(scores[title], scores["no term"], strict=True)])
    print(f"{title} less no term, same seeds: {mean:+.1%}, {low:+.1%} to {high:+.1%}")
for name, by_condition in measures.items():
    print(name)
    for title, values in by_condition.items():
        print(f"    {title:14} {np.mean(values):+.3f} ({min(values):+.3f} to {max(values):+.3f})")
record("accuracy_without_frac", float(np.mean(scores["no term"])))
record("accuracy_unit_frac", float(np.mean(scores["unit diagonal"])))
record("accuracy_zero_frac", float(np.mean(scores["zero diagonal"])))

# %% [markdown]
# The first lines are accuracies with intervals over seeds (Student $t$), and differences paired by seed. The others are measures of the test faces: mean, and in
# brackets the least and the largest seed. Few seeds and a network of a few epochs can show what a term does to the maps; a difference in accuracy only
# if its interval leaves out zero.
#
# How to read this: with a unit diagonal the patches part in every seed (*largest S* near zero, half the overlap), and accuracy is lower by an amount whose interval just
# leaves out zero; it did not help here. With a zero diagonal that determinant rises, too, but two ways lead up, twins or parting (which ends at 0). No seed
# arrived at twins: *largest S* scatters from small to middling. The channel and branch terms sleep in all of them (`inert` below): at $\gamma=10$ no gradient reaches them. The patches' matrices
# of the first seed:

# %%
after = {title: similarity(members(net)["spatial"]) for title, net in trained.items()}
plots.matrices({f"{t}: det {describe(s)['unit']:.2g}": s.numpy() for t, s in after.items()}, title="S of the four patches after training")

# %%
for title, net in trained.items():
    print(title)
    acts(net)

# %% [markdown]
# ## 6 · Local, global and their mixture
#
# A drawn face, through the network trained without a term above; and a portrait of NASA astronaut Eileen Collins (public domain), through the
# workbook's own MA-Net, which was trained on FER2013 at a quarter of its width. For each, the heat map of the local and of the global
# way for the fused answer.

# %%
net = trained["no term"].eval()
own = create_model("manet", weights="fer2013-teach").eval()
photo = faces.portrait()
crop = faces.crop_face(photo, faces.find_faces(photo)[0], size=own.input_size)
pair = {"drawn": (net, face), "portrait": (own, crop.transpose(2, 0, 1)[None])}


def mixture(picture="drawn", fusion=0.6):
    """Probabilities by both ways and by the mixture of their logits, one class per row."""
    network, pixels = pair[picture]
    with torch.no_grad():
        parts = network.forward_parts(prepare_for(network, pixels))
    mixed = fusion * parts.local_logits + (1 - fusion) * parts.global_logits
    rows = {"local": parts.local_logits, "global": parts.global_logits, f"{fusion:.1f} local": mixed}
    grid = {title: logits.softmax(1).numpy() for title, logits in rows.items()}  # (1, K) each
    return plots.matrices({t: p.T for t, p in grid.items()}, title=f"{picture}; rows: {' '.join(n[:3] for n in network.labels)}")


def both_ways(picture):
    """Heat maps on the last map of each way."""
    network, pixels = pair[picture]
    heats = {"local": cam(network, pixels, layer="local_map"), "global": cam(network, pixels, layer="global_map")}
    return plots.cam_grid(pixels, heats, titles=[picture])


both_ways("drawn")

# %%
record("portrait_happiness_frac", float(predict_probabilities(own, pair["portrait"][1])[0, own.labels.index("happiness")]))
both_ways("portrait")

# %% [markdown]
# The fusion weight $\lambda$ is the share of the local logits in the decision (0.6 in the code; the paper gives 0.6 for the loss and says *decision-level fusion*). Move it:

# %%
explore(mixture, picture=list(pair), fusion=(0.0, 1.0, 0.1))

# %%
with torch.no_grad():
    parts = net.forward_parts(prepare_for(net, test.images))
weights = np.linspace(0, 1, 11)
by_weight = [float((((w * parts.local_logits + (1 - w) * parts.global_logits).argmax(1)).numpy() == test.labels).mean()) for w in weights]
bars = [arithmetic.binomial_half_width(max(p, 0.01), len(test)) for p in by_weight]
plots.intervals([(f"{w:.1f} local", p, p - h, p + h) for w, p, h in zip(weights, by_weight, bars, strict=True)])

# %% [markdown]
# These bars (95 %) are for one network on finitely many pictures: no weight stands out, and a weight chosen here would have been chosen on the test set.
#
# The gates of CBAM in the four patches, put back in place, first and last block:

# %%
gates = {}
for stage in ("layer3.0", "layer4.1"):
    wanted = [f"local.patches.{p}.{stage}.cbam.spatial_gate" for p in range(4)]
    with capture(net, wanted) as seen, torch.no_grad():
        net(prepare_for(net, face))
    gates[f"{stage}: gate"] = mosaic(torch.stack([seen[name] for name in wanted]))[:, 0].numpy()
plots.mask_grid(gates, image=face[0], scale="range")

# %% [markdown]
# ## Why our number differs
#
# Ours is from a few hundred drawn faces at 64 px, an eighth of the width, random initial weights and a few epochs. Theirs starts from
# weights trained with millions of faces and is fine-tuned on photographs at 224 px, with epochs selected on the reported images. Our
# experiment tests what the *terms* do to the maps of a small network early in training. It neither confirms nor refutes their gain.

# %%
ledger_table("diversity", "T1.manet", "T1.manet-full", "A11", "A12", "A20", "manet-training")

# %% [markdown]
# ## Exercises
#
# **1.** A picture of 96 px gives a map of 12 × 12 behind `layer2`. What is the side of a patch, and what is it after the patch's blocks,
# which halve it once? Give both as a pair.

# %%
answer_1 = None

# %%
sides = [quadrants(torch.zeros(1, 1, 12, 12))[0].shape[-1]]
sides.append(sides[0] // 2)
check("sides", answer_1, sides, hint="Half of 12, and half of that.")

# %% tags=["solution"]
answer_1 = [6, 3]
check("sides", answer_1, sides)

# %% [markdown]
# **2.** Two members with the similarity $s=0.6$. What is $\det S$ with a unit diagonal, and with a zero one? Give both as a pair.

# %%
answer_2 = None

# %%
two = torch.tensor([[1.0, 0.6], [0.6, 1.0]])
dets = [float(torch.linalg.det(two)), float(torch.linalg.det(two - torch.eye(2)))]
check("unit", answer_2 and answer_2[0], dets[0], tolerance=1e-5, hint="The product of the diagonal less the product of the others.")
check("zero", answer_2 and answer_2[1], dets[1], tolerance=1e-5, hint="The same with a diagonal of zeros.")

# %% tags=["solution"]
answer_2 = [1 - 0.36, -0.36]
check("unit", answer_2[0], dets[0], tolerance=1e-5)
check("zero", answer_2[1], dets[1], tolerance=1e-5)

# %% [markdown]
# **3.** At a squared distance of 34, which $\gamma$ makes the similarity $1/e$?

# %%
answer_3 = None

# %%
check("gamma", answer_3, 1 / 34, tolerance=1e-4, hint="Solve gamma times 34 = 1.")

# %% tags=["solution"]
answer_3 = 1 / 34
check("gamma", answer_3, 1 / 34, tolerance=1e-4)

# %% [markdown]
# ## Recap
#
# You can now
#
# 1. follow a picture through the local and the global way of MA-Net, with shapes
# 2. cut a map in patches, at even and odd sides, and put it together again
# 3. say what the direction of the second chain in a multi-scale block changes
# 4. compute which diversity terms act on this network, and at which gamma
# 5. say what the determinant with a zero diagonal rewards for four patches, and see what training makes of it
# 6. mix local and global logits, and judge a small experiment by its intervals

# %%
footer(faceset)
