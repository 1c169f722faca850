# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 21 · Where does it look?
#
# *Upload a face, see what networks say and where they look, and find out how far such a picture can be believed.*
#
# A heat map on a face convinces. That is its danger: it convinces whether or not the network looks there. Here you can upload a face, and
# then test the maps: against shuffled weights, against hiding, and, on drawn faces whose evidence is known, against the truth.
#
# ## Objectives
#
# After this notebook you can
#
# 1. upload a face, and read answers, doubt and disagreement of several networks
# 2. compute Grad-CAM by hand, and say what method and layer change
# 3. run the sanity check of shuffled weights, and say what a map that survives it explains
# 4. score maps against the truth, beside chance and a guess at the centre, with intervals
# 5. catch a network that is right for the wrong reason
# 6. test a map by hiding what it points at
#
# **You need** to have trained a network ([notebook 02](02_training_loop_by_hand.ipynb)). The first section is for trying out.

# %% tags=["parameters"]
PROFILE = "teach"  # smoke (seconds), teach (minutes on a laptop) or paper (more faces and seeds)
SEED = 0

# %%
import copy

import numpy as np
import torch
from torch import Tensor, nn

from ferkit import faces, plots
from ferkit.synthetic.faces import make_faces
from ferkit.explain import (
    METHODS,
    attention_maps,
    cam,
    capture,
    centre_prior,
    estimates,
    heat_maps,
    insertion_deletion,
    margins,
    raw_cam,
    score_maps,
    score_network,
    shuffle_weights,
    compare_maps as similarity,
)
from ferkit.evaluation.metrics import mean_interval
from ferkit.models import create_model
from ferkit.notebook import check, footer, profile, record
from ferkit.explain.opinions import available_networks
from ferkit.predict import predict_probabilities, prepare_for
from ferkit.training.recipe import Recipe
from ferkit.runs.experiment import build_model, load_faces
from ferkit.training import fit, make_task
from ferkit.widgets import explore, hidden_figure, map_layers, upload_face

S = profile(
    PROFILE,
    smoke=dict(n_train=140, n_test=35, epochs=1, width=1 / 8, seeds=2, looked_at=35, curves=6),
    teach=dict(n_train=2400, n_test=400, epochs=8, width=1 / 4, seeds=4, looked_at=200, curves=40),
    paper=dict(n_train=20000, n_test=2000, epochs=20, width=1.0, seeds=8, looked_at=1000, curves=200),
)
torch.set_num_threads(1)
torch.manual_seed(SEED)
# %% [markdown]
# ## 1 · Upload a face
#
# The picture below is what the workbook's networks say of a portrait of NASA astronaut Eileen Collins (public domain). In JupyterLab, upload a picture of your own, or
# use your camera. It stays in the memory of this kernel: nothing is sent or written anywhere.
#
# - **answers**: a column per network, named by what it learnt from (FER2013 [@fer2013] or the votes of FER+ [@ferplus]). *Doubt* is the entropy, 0 if a network is sure and 1 if all classes are alike. Bars in full colour form
#   the *conformal set*: set on validation images to hold the raters' label nine times in ten; on test images it did so in 88 to 94 %, by network
#   (`conformal` in the records of `data/results`). Your photograph is not such an image, so take it for a hint.
# - **where it looks**: a heat map, for any class, layer and method.
# - **hide a part**, **small changes**: what turns the answer. A person would not change their mind because a face was moved by a few pixels.
#
# Upload faces only of people who agree; [notebook 31](31_what_expressions_are_not.ipynb) says what an answer does not mean.

# %%
upload_face()

# %% [markdown]
# > **Question.** Cover the mouth (*hide a part*). Which network changes its answer? And does the heat map of that network point at the mouth?
#
# The first half of the answer, for the portrait:

# %%
photo = faces.portrait()
face = faces.find_faces(photo)[0]
crop = faces.crop_face(photo, face, size=128)
hidden_figure(available_networks(), faces.crop_face(photo, face, size=224), "mouth")

# %% [markdown]
# ## 2 · What a class activation map computes
#
# Take the output $A_c(i,j)$ of some layer, with channels $c$ and places $(i,j)$, and a class with the logit $y$. Grad-CAM [@gradcam] weights
# channels by their mean slope and adds them up:
#
# $$\alpha_c=\tfrac1{hw}\sum_{i,j}\frac{\partial y}{\partial A_c(i,j)},\qquad L(i,j)=\mathrm{ReLU}\Bigl(\sum_c\alpha_c\,A_c(i,j)\Bigr)$$


# %% tags=["same-as:ferkit.explain.grad_cam_by_hand"]
def grad_cam_by_hand(model: nn.Module, inputs: Tensor, layer: str, target: int) -> Tensor:
    """Inputs (B, C, H, W) to maps (B, h, w) of a layer, for the logit of a class."""
    with capture(model, layer, grad=True) as seen:
        logits = model(inputs)  # (B, K)
    maps = seen[layer]  # (B, C, h, w)
    (slopes,) = torch.autograd.grad(logits[:, target].sum(), maps)  # (B, C, h, w)
    weights = slopes.mean(dim=(2, 3))  # (B, C)
    return torch.einsum("bc,bchw->bhw", weights, maps).relu().detach()  # (B, h, w)


# %% [markdown]
# One photograph and the workbook's ResEmoteNet. The map by hand, and the one of the grad-cam package:

# %%
net = create_model("resemotenet", weights="fer2013-teach").eval()
picture = crop.transpose(2, 0, 1)[None]  # (1, 3, 128, 128)
layer = net.cam_layer(net.input_size)
smile = net.labels.index("happiness")
by_hand = grad_cam_by_hand(net, prepare_for(net, picture), layer, smile)[0]
package = np.maximum(raw_cam(net, picture, target="happiness", layer=layer)[0], 0)
record("by_hand_gap_ratio", float(np.abs(by_hand.numpy() - package).max() / package.max()))
print(f"layer {layer}: {tuple(by_hand.shape)} places")
plots.matrices(
    {"by hand": by_hand.numpy() / by_hand.max().item(), "package": package / package.max()},
    numbers=by_hand.shape[0] <= 8,
    form="{:.1f}",
)

# %% [markdown]
# The map has few places; what is laid over a face is enlarged from these. There are several methods: Grad-CAM++ [@gradcampp], LayerCAM [@layercam] and
# HiResCAM [@hirescam] weight places otherwise, EigenCAM takes the strongest pattern of the layer, whatever the class. (Score-CAM, one pass per
# channel, is left out for its time.) And one has to choose a layer.
#
# > **Question.** If a map says where the network looks, should it matter which method draws it, or at which layer?


# %%
def by_method(layer=layer, target="happiness"):
    """Each method's map of the portrait, at one layer."""
    heats = {
        method: cam(net, picture, target=target, layer=layer, method=method)
        for method in METHODS
        if method != "scorecam"
    }
    return plots.cam_grid(picture, heats, titles=[layer])


explore(by_method, layer=map_layers(net), target=list(net.labels))

# %%
maps = {method: cam(net, picture, target="happiness", method=method) for method in METHODS if method != "scorecam"}
names = list(maps)
agreement = np.array([[similarity(maps[a], maps[b])[0][0] for b in names] for a in names])
layers = map_layers(net)
at_layers = [cam(net, picture, target="happiness", layer=each) for each in layers]
between_layers = np.array([[similarity(a, b)[0][0] for b in at_layers] for a in at_layers])
record("methods_least_frac", float(agreement.min()))
record("layers_least_frac", float(between_layers.min()))
print("rows and columns, left:", ", ".join(names))
print("rows and columns, right:", ", ".join(layers))
plots.matrices({"rank correlation of methods": agreement, "of Grad-CAM at layers": between_layers})

# %% [markdown]
# On this face it matters a lot, more between layers than between methods. So a single map shows *one* way of asking. Which way to trust is not a matter of taste: it can be tested.
#
# ## 3 · The sanity check
#
# Shuffle a network's weights and it knows nothing. A map that looks the same afterwards did not explain the network [@sanitychecks].

# %%
shuffled = copy.deepcopy(net)
shuffle_weights(shuffled, seed=SEED)
wanted = [m for m in METHODS if m != "scorecam"]
trained_maps = {m: cam(net, picture, target="happiness", method=m) for m in wanted}
shuffled_maps = {f"{m}, shuffled": cam(shuffled, picture, target="happiness", method=m) for m in wanted}
for m in wanted:
    kept = similarity(trained_maps[m], shuffled_maps[f"{m}, shuffled"])[0][0]
    print(f"{m:12} rank correlation of the map before and after shuffling: {kept:+.2f}")
record("gradcam_kept_frac", float(similarity(trained_maps["gradcam"], shuffled_maps["gradcam, shuffled"])[0][0]))
plots.cam_grid(
    picture,
    {
        m: heat
        for m in wanted
        for m, heat in ((m, trained_maps[m]), (f"{m}, shuffled", shuffled_maps[f"{m}, shuffled"]))
    },
)

# %% [markdown]
# One face is an anecdote, and a map can change and still be wrong. The next section takes many faces and asks whether maps are *right*.
#
# ## 4 · Against the truth
#
# Nobody knows what the evidence is in a photograph. In a drawn face we do: the generator returns a mask of the parts that define the label, say
# brows and mouth. Three scores compare a map with it:
#
# - *pointing*: is the hottest place inside? [@pointing]
# - *energy*: which share of the heat lies inside?
# - *IoU*: take as many hottest places as the mask has; intersection over union of the two
#
# None means anything alone. *Chance* is a map that knows nothing. The *centre prior* always guesses the middle, and faces are in the middle. *Shuffled*
# is the same network without its knowledge. And *another face* gives each picture the map of its neighbour in the list.

# %%
base = Recipe(
    name="notebook-21",
    model="resnet18",
    data_options=dict(n_train=S.n_train, n_test=S.n_test, size=64, seed=SEED, difficulty="easy"),
    image_size=64,
    width=S.width,
    epochs=S.epochs,
    batch_size=48,
    optimizer="adamw",
    lr=0.003,
    weight_decay=0.01,
    schedule="cosine",
    warmup_epochs=1.0,
    augmentation="resemotenet",  # mirrored half of the time, nothing else
)
faceset = load_faces(base)
train, validation, test = (faceset.select(split) for split in ("train", "validation", "test"))
truth = make_faces(
    S.looked_at, size=64, seed=SEED + 1000, difficulty="easy", masks=True
)  # faces that no network has seen
evidence = truth.masks["evidence"]
plots.cam_grid(
    truth.images[:7], {"evidence": evidence[:7].astype(np.float32)}, titles=[truth.names[k] for k in truth.labels[:7]]
)

# %%
LAYER, METHODS_HERE = "layer3", ("gradcam", "gradcam++", "layercam", "eigencam")
nets, scored = [], {}
for seed in range(S.seeds):
    recipe = base.overlay({"seed": SEED + seed})
    trained = build_model(recipe, faceset.names)
    fit(make_task(trained, recipe, train.counts()), train, validation, recipe, progress=False)
    nets.append(trained.eval())
    ignorant = copy.deepcopy(trained)
    shuffle_weights(ignorant, seed=SEED + seed)
    found = score_network(trained, truth.images, evidence, methods=METHODS_HERE, target=truth.labels, layer=LAYER)
    found["gradcam, shuffled"] = score_network(ignorant, truth.images, evidence, target=truth.labels, layer=LAYER)[
        "gradcam"
    ]
    found["gradcam of another face"] = score_maps(
        np.roll(heat_maps(trained, truth.images, target=truth.labels, layer=LAYER), 1, axis=0), evidence
    )
    for name, scores in found.items():
        for score, values in scores.items():
            scored.setdefault(name, {}).setdefault(score, []).append(values)
accuracies = [float((predict_probabilities(n, test.images).argmax(1) == test.labels).mean()) for n in nets]
print("accuracy of the networks on test faces:", ", ".join(f"{a:.1%}" for a in accuracies))
record("accuracy_frac", float(np.mean(accuracies)))
# of each picture, the mean over networks: the interval is over pictures
averaged = {name: {score: np.mean(runs, axis=0) for score, runs in scores.items()} for name, scores in scored.items()}
found = estimates(averaged)
plots.scores_bars(found, title=f"{S.looked_at} fresh faces, mean over {S.seeds} networks, layer {LAYER}; bars: 95 % over faces")

# %%
for name in averaged:
    each = [np.nanmean(run) for run in scored[name]["pointing"]]
    value, low, high = found[name]["pointing"]
    mean, bottom, top = mean_interval(each)
    print(f"{name:24} points right {value:.0%} [{low:.0%}, {high:.0%}] over faces, [{bottom:.0%}, {top:.0%}] over networks: {', '.join(f'{e:.0%}' for e in each)}")
for name in ("gradcam", "chance", "centre prior", "gradcam, shuffled"):
    record(
        f"points_{name.replace(', ', '_').replace(' ', '_').replace('++', '_pp')}_frac", found[name]["pointing"].value
    )
above = margins(averaged, over="centre prior")
for name in ("gradcam", "layercam"):
    value, low, high = above[name]["pointing"]
    print(f"{name} less centre prior: {value:+.0%} [{low:+.0%}, {high:+.0%}]")
own = margins(averaged, over="gradcam of another face")["gradcam"]["pointing"]
print(f"gradcam less the map of another face: {own.value:+.0%} [{own.low:+.0%}, {own.high:+.0%}]")
record("above_centre_frac", above["gradcam"]["pointing"].value)
plots.scores_bars(above, reference=None, title="difference to the centre prior on the same faces")

# %% [markdown]
# In the pointing game Grad-CAM at this layer beats chance and the centre prior on the same faces, by more than the interval, and with shuffled weights it
# points no better than chance. So the map depends on what was learnt. But two things spoil the joy:
#
# - By energy and IoU the centre prior beats Grad-CAM: a broad guess at the middle covers much of the evidence. Which score one chooses decides.
# - The map of *another* face points nearly as well. Most of what Grad-CAM shows here is where brows and mouth lie in any drawn face, little
#   where they lie in this one. (The other methods were not put to this test.)
#
# Is it the same at every layer? Choose, and look at single faces; the line is the border of the evidence.


# %%
def scored_at(layer="layer3", method="gradcam", face=0):
    """One network's maps of five faces with the evidence outlined, and its pointing score over all faces."""
    shown = slice(face, face + 5)
    heats = heat_maps(nets[0], truth.images[shown], method=method, target=truth.labels[shown], layer=layer)
    return plots.cam_grid(
        truth.images[shown],
        {f"{method}\n{layer}": heats},
        titles=[truth.names[k] for k in truth.labels[shown]],
        outlines=evidence[shown],
    )


explore(
    scored_at,
    layer=["layer1", "layer2", "layer3", "layer4"],
    method=list(METHODS_HERE),
    face=(0, len(truth.images) - 5, 5),
)

# %%
by_layer = {}
for each in ("layer1", "layer2", "layer3", "layer4"):
    values = np.mean(
        [
            score_network(n, truth.images, evidence, target=truth.labels, layer=each)["gradcam"]["pointing"]
            for n in nets[:2]
        ],
        axis=0,
    )
    by_layer[f"Grad-CAM, {each}"] = {"pointing": values}
by_layer["chance"] = {"pointing": averaged["chance"]["pointing"]}
by_layer["centre prior"] = {"pointing": averaged["centre prior"]["pointing"]}
plots.scores_bars(estimates(by_layer), title="by layer, mean over two networks")

# %% [markdown]
# Nobody told you which layer to trust; the default of a tool is no evidence. `layer4` has 2 × 2 places here: enlarged, its hottest place is a corner of
# the picture, where no evidence is.
#
# ## 5 · Right for the wrong reason
#
# Now a network that cheats. In its training pictures a white mark on the upper edge stands at a place that names the class nine times in ten; in the
# test pictures it names any class. Would a heat map have warned you?

# %%
cheat = base.overlay(
    {
        "data_options": dict(
            n_train=S.n_train,
            n_test=S.n_test,
            size=64,
            seed=SEED,
            difficulty="easy",
            shortcut="mark",
            test={"shortcut_strength": 1 / 7},
        )
    }
)
marked = load_faces(cheat)
marked_train, marked_validation, marked_test = (marked.select(split) for split in ("train", "validation", "test"))
cheater = build_model(cheat, marked.names)
fit(make_task(cheater, cheat, marked_train.counts()), marked_train, marked_validation, cheat, progress=False)
cheater.eval()
held_out = {"validation, with the mark": marked_validation, "test, where the mark tells nothing": marked_test}
for what, part in held_out.items():
    print(f"{what:28} {float((predict_probabilities(cheater, part.images).argmax(1) == part.labels).mean()):.1%}")
    record(
        f"cheater_{what.split(',')[0]}_frac",
        float((predict_probabilities(cheater, part.images).argmax(1) == part.labels).mean()),
    )

# %%
def with_marks(strength):
    """The same faces, with a mark that names their class (strength 1) or always another one (strength 0)."""
    return make_faces(S.looked_at, size=64, seed=SEED + 2000, difficulty="easy", masks=True, shortcut="mark", shortcut_strength=strength)


right, wrong = with_marks(1.0), with_marks(0.0)
honest = nets[0]
for who, network in (("cheater", cheater), ("honest", honest)):
    before, after = (predict_probabilities(network, part.images).argmax(1) for part in (right, wrong))
    follows = float((after == wrong.cue).mean())
    print(f"{who:8} right with a true mark: {np.mean(before == right.labels):.0%}, with a false one: {np.mean(after == wrong.labels):.0%}; says what the false mark says: {follows:.0%}")
    record(f"{who}_follows_frac", follows)

# %% [markdown]
# That is the proof, by intervention: same faces, other marks, other answers. Now the maps, for the answers on the falsely marked faces:

# %%
answers = predict_probabilities(cheater, wrong.images).argmax(1)
mark = wrong.masks["shortcut"]
ways = {"Grad-CAM, layer3": ("gradcam", "layer3"), "Grad-CAM, layer1": ("gradcam", "layer1"), "Grad-CAM++, layer1": ("gradcam++", "layer1")}
ways |= {"LayerCAM, layer1": ("layercam", "layer1"), "occlusion": ("occlusion", None)}
looks, kept = {"chance": score_maps(np.zeros(mark.shape), mark)}, {}
for title, (method, layer) in ways.items():
    for who, network in (("cheater", cheater), ("honest", honest)):
        heats = heat_maps(network, wrong.images, method=method, target=answers, layer=layer)
        looks[f"{who}: {title}"] = score_maps(heats, mark)
        kept[f"{who}:\n{title.replace(', ', chr(10))}"] = heats
points = {name: {"pointing": row["pointing"]} for name, row in looks.items()}
plots.scores_bars(estimates(points), title="how often the hottest place is the mark")

# %%
record("mark_gradcam_frac", float(np.nanmean(looks["cheater: Grad-CAM, layer3"]["pointing"])))
record("mark_occlusion_frac", float(np.nanmean(looks["cheater: occlusion"]["pointing"])))
record("mark_occlusion_honest_frac", float(np.nanmean(looks["honest: occlusion"]["pointing"])))
chosen = [name for name in kept if "layer3" in name or "occlusion" in name]
plots.cam_grid(wrong.images[:5], {name: kept[name][:5] for name in chosen})

# %% [markdown]
# Grad-CAM at a deep layer, which is what most tools draw, does not point at the mark. Occlusion does, in the cheater far more often than in the honest
# network. Grad-CAM++ at the first layer does too, but points at it in the honest network as well: a false alarm. So a heat map that shows nothing
# suspicious is no proof of honesty, and one that does is no proof of guilt. What settled it was a test made for the suspicion: change the mark,
# and watch the answer. (This is one cheater; others may be caught otherwise.)
#
# ## 6 · Hide it and see
#
# A map claims that some places matter. So hide them: *deletion* greys pixels, the hottest first, and watches the probability fall; *insertion* puts
# them back into a blurred picture [@rise]. A map is good if the curve falls (rises) sooner than for a random order.

# %%
some = truth.images[: S.curves]
labels = truth.labels[: S.curves]
orders = {
    "gradcam, layer3": heat_maps(nets[0], some, target=labels, layer="layer3"),
    "gradcam, layer1": heat_maps(nets[0], some, target=labels, layer="layer1"),
}
orders["occlusion"] = heat_maps(nets[0], some, method="occlusion", target=labels)
orders["centre prior"] = np.repeat(centre_prior(64, 64)[None], len(some), 0)
orders["random"] = np.random.default_rng(SEED).random(some.shape[:1] + some.shape[-2:]).astype(np.float32)
curves = {name: insertion_deletion(nets[0], some, heat, target=labels) for name, heat in orders.items()}
shares = next(iter(curves.values())).fractions
plots.curve_with_band(shares, {name: c.deletion for name, c in curves.items()}, title="deletion: lower is better")

# %%
plots.curve_with_band(shares, {name: c.insertion for name, c in curves.items()}, title="insertion: higher is better")

# %%
print("mean probability over the curve; deletion: less is better, insertion: more is better")
for name, c in curves.items():
    print(f"{name:16} deletion {c.deletion.mean():.3f}   insertion {c.insertion.mean():.3f}")
record("deletion_gain_frac", float(curves["random"].deletion.mean() - curves["occlusion"].deletion.mean()))

# %% [markdown]
# Greyed pictures are strange to the network, so a fall can also mean that; this is why the random order stands beside it. Mind two things. Occlusion is made by
# hiding, and is judged here by hiding: that it wins is no surprise. And look where the centre prior stands, which never saw the network: a heat map has
# to beat *that* before it says anything about the network.
#
# ## 7 · Gates are not explanations
#
# Some networks show weights of their own: masks, attention gates. They multiply the map, for every class alike, and later layers decide what
# becomes of it. The masks of the Residual Masking Network [@resmasking] on the portrait (the largest over channels at each place), and Grad-CAM of the same network for three classes:

# %%
masking = create_model("resmasking", weights="fer2013-teach").eval()
gates = {name: value for name, value in attention_maps(masking, picture).items() if name.endswith("max F_M")}
plots.mask_grid(gates, image=crop, scale="range")

# %%
heats = {
    label: cam(masking, picture, target=label, layer=masking.cam_layer(masking.input_size))
    for label in ("happiness", "sadness", "surprise")
}
plots.cam_grid(picture, heats)

# %% [markdown]
# The masks are the same for all classes; class activation maps differ by class. Neither is the network's reason.
#
# ## Exercises
#
# **1.** A mask covers 12 % of the picture. How often does a map that knows nothing point right?

# %%
answer_1 = None

# %%
check("chance", answer_1, 0.12, tolerance=1e-9, hint="As often as a random place lies in the mask.")

# %% tags=["solution"]
answer_1 = 0.12
check("chance", answer_1, 0.12, tolerance=1e-9)

# %% [markdown]
# **2.** A layer has two channels on 1 × 2 places: $A_1=(1, 0)$ and $A_2=(0, 2)$. The slopes are $(3, 1)$ for the first and $(-1, -1)$ for the
# second. What is Grad-CAM at both places?

# %%
answer_2 = None

# %%
check(
    "Grad-CAM", answer_2, [2.0, 0.0], tolerance=1e-9, hint="Mean slopes are 2 and -1; then add, then cut off below 0."
)

# %% tags=["solution"]
answer_2 = [max(0, 2 * 1 - 1 * 0), max(0, 2 * 0 - 1 * 2)]
check("Grad-CAM", answer_2, [2.0, 0.0], tolerance=1e-9)

# %% [markdown]
# **3.** A map points right in 40 of 100 faces, the centre prior in 45 of the same. May one say that the map finds the evidence? Answer True or False.

# %%
answer_3 = None

# %%
check("finds the evidence", answer_3, False, hint="What knows nothing of the network does better.")

# %% tags=["solution"]
answer_3 = False
check("finds the evidence", answer_3, False)

# %% [markdown]
# ## Recap
#
# You can now
#
# 1. upload a face, and read answers, doubt and disagreement of several networks
# 2. compute Grad-CAM by hand, and say what method and layer change
# 3. run the sanity check of shuffled weights, and say what a map that survives it explains
# 4. score maps against the truth, beside chance and a guess at the centre, with intervals
# 5. catch a network that is right for the wrong reason
# 6. test a map by hiding what it points at

# %%
footer(faceset)
