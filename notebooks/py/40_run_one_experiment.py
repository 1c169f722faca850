# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 40 · Run one experiment
#
# *One recipe in, one run out: the notebook that papermill runs for every row of the papers' tables.*
#
# A **recipe** is everything that decides a training: network, data, augmentation, optimiser, seed. It is a short YAML file, and
# its keys are the parameters of this notebook. So one file has three uses: papermill runs this notebook with it, a shell trains
# by it, and you read in it what was done.
#
# ## Objectives
#
# 1. run any recipe, from a notebook, from papermill, or from a shell
# 2. read a result: its interval, its classes, its errors, and the paper's number beside it
# 3. resume a run that was interrupted
# 4. say what a run leaves behind, and what each file is for
#
# **You need** [notebook 02](02_training_loop_by_hand.ipynb): what an epoch, a validation split and a test split are.

# %% [markdown]
# ## 1 · Three ways to start
#
# Here: *Run ▸ Run All Cells*. As it stands, the notebook trains a small network on drawn faces; section 2 has its recipe.
#
# By papermill, which writes the values of a recipe file into this notebook, runs it, and keeps the result as a report:
#
# ```
# papermill notebooks/40_run_one_experiment.ipynb report.ipynb \
#     -f notebooks/recipes/resemotenet/teach-fer2013.yaml -p data_path PATH/TO/fer2013.csv
# ```
#
# From a shell, without any notebook:
#
# ```
# python -m ferkit run notebooks/recipes/resemotenet/teach-fer2013.yaml --data PATH/TO/fer2013.csv
# ```
#
# All three do the same and leave the same kind of folder. **A recipe you hand over runs as it is written**: on its own data, at its
# own size, for as long as it takes. That is what `PROFILE = "paper"` means, and here, unlike in the other notebooks, it is the
# default. To see first whether a recipe runs at all, add `-p PROFILE smoke` (seconds) or `-p PROFILE teach` (minutes); with
# `python -m ferkit run` it is `--profile smoke`. Both shrink the recipe and put drawn faces in the place of its data.
#
# Real data are never downloaded; [data/README.md](../data/README.md) says where to get them. A recipe that needs them and does
# not find them stops before anything is trained, and says where it looked.

# %% tags=["parameters"]
PROFILE = "paper"  # "paper": the recipe as it stands; "teach" or "smoke": shrunk, on synthetic faces
OUT = "runs"  # folder of all runs; this one gets a folder of its own in it
RESUME = True  # go on where an earlier start of this run stopped

# The recipe, with the defaults of ferkit.recipe.Recipe: papermill writes the values of a recipe file over these.
# By hand, rather change the example in section 2.
name = "experiment"  # folder of the run; every recipe file gives its own
source = ""  # which row of which table this is, or why it exists
model = "resemotenet"
width = 1.0  # factor on every channel count; 1.0 is the released size
model_options = {}  # what the network takes beside its width
image_size = None  # side in pixels that the network sees; None is the network's own
data = "synthetic"  # or "fer2013", "ferplus"
data_path = None  # where your copy lies
data_options = {}  # what the loader takes
test_split = "test"  # read once, at the end; for fer2013 "public_test" or "private_test"
validation_fraction = 0.1  # carved out of the training images
split_seed = 0
drop_leaked = False  # leave out training images that come back in the test split
target = "label"  # or "votes": the raters' distribution
augmentation = "none"  # random changes of training pictures
epochs = 10
batch_size = 64
optimizer = "sgd"
lr = 0.05  # learning rate
weight_decay = 1e-4
momentum = 0.9
nesterov = False
sam_rho = 0.0
schedule = "constant"  # how the learning rate changes
warmup_epochs = 0.0
lr_floor = 0.0
lr_factor = 0.1
plateau_patience = 10
step_epochs = 30
class_weight = "none"
label_smoothing = 0.0
grad_clip = 0.0
ema_decay = 0.0
early_stopping = None
select = "val_accuracy"  # the epoch where this is largest is kept
precision = "no"  # or "bf16", "fp16"
channels_last = False
tta = None  # or "flip": average over the picture and its mirror image, in the test
seed = 0
workers = 0
threads = None
checkpoint_steps = 0

# %%
import _thread
import dataclasses
import re
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from IPython.display import Markdown

from ferkit import papers, plots
from ferkit.data import duplicate_mask
from ferkit.data.synthetic import make_faces
from ferkit.experiment import build_model, load_faces, run
from ferkit.explain import cam
from ferkit.models import count_parameters, summarise
from ferkit.notebook import footer, profile, record
from ferkit.recipe import PROFILES, Recipe
from ferkit.train import newest_checkpoint

values = {f.name: globals()[f.name] for f in dataclasses.fields(Recipe)}  # before anything else takes these names
S = profile(PROFILE, **{p: dict(changes=changes, resume=RESUME and p != "smoke") for p, changes in PROFILES.items()})

# %% [markdown]
# ## 2 · What will be run
#
# Every recipe file gives its run a name. While `name` is the default, no recipe was handed over, and the notebook runs the example in
# the next cell: the network at an eighth of its width, on drawn faces. Change it as you like.

# %%
example = dict(
    name="first-run",
    source="ours: a first run, made for a laptop",
    width=0.125,
    model_options={"head": "linear"},
    data_options={"n_train": 4000, "n_test": 1000, "size": 64, "seed": 0},
    augmentation="resemotenet",  # mirrors half of the training pictures
    epochs=8,
    batch_size=16,
    lr=0.02,
    schedule="cosine",
    warmup_epochs=0.5,
    label_smoothing=0.1,
)
usual = Recipe().as_dict()
changed = {key: value for key, value in values.items() if value != usual[key]}
given = Recipe.of(changed if "name" in changed else {**example, **changed})
# A shrunk run is another run: it gets another folder.
recipe = given.overlay({**S.changes, "name": f"{given.name}-{S.profile}"}) if S.changes else given

# %% [markdown]
# Most keys of a recipe keep their defaults. These do not. papermill only *warns* of a parameter that it does not know, so look here
# for what you passed:

# %%
written = given.as_dict()
lines = ["| key | in this run | default | |", "|---|---|---|---|"]
for key, value in recipe.as_dict().items():
    if value != usual[key] and key != "data_path":  # where your files lie need not be in a report
        note = f"profile {S.profile}; the recipe says `{written[key]!r}`" if value != written[key] else ""
        lines.append(f"| {key} | `{value!r}` | `{usual[key]!r}` | {note} |")
Markdown("\n".join(lines))

# %% [markdown]
# ## 3 · The data
#
# The validation split decides which epoch is kept. Where the data bring none, it is carved out of the training images, copies of
# one picture always on one side. The test split is for the end.

# %%
faceset = load_faces(recipe)
train, validation, test = (faceset.select(split) for split in ("train", "validation", recipe.test_split))
drawn = recipe.data == "synthetic"  # only drawn faces are ever shown here
copies = duplicate_mask(faceset, recipe.test_split)
print(faceset)
print(f"{copies.sum():,} of {len(test):,} test images are also in training or validation, pixel for pixel")
plots.class_counts({"train": train.counts(), "validation": validation.counts(), recipe.test_split: test.counts()})

# %% [markdown]
# Look for classes with few test images: their figures will be uncertain, whatever the network does.

# %%
if drawn:
    first = [int(np.flatnonzero(train.labels == k)[i]) for i in range(2) for k in range(len(train.names))]
    titles = [train.names[k] for k in train.labels[first]]
    figure = plots.face_grid(train.images[first], titles, columns=len(train.names))
figure if drawn else "Pictures of real people are not shown in a report."

# %% [markdown]
# ## 4 · Training
#
# > **Question.** Before it starts: what accuracy would you get by always naming the commonest class of the test split?

# %%
network = build_model(recipe, faceset.names)
largest = max(test.counts(), key=test.counts().get)
print(f"always answering {largest!r} {test.counts()[largest] / len(test):.1%}, guessing {1 / len(faceset.names):.1%}")
work = sum(row.macs for row in summarise(network))
print(f"{recipe.model}: {count_parameters(network):,} parameters, {work:,} multiply-adds at {network.input_size} px")

# %%
done = run(recipe, out=OUT, resume=S.resume)
kept = done.history.best(recipe.select)
record("val_accuracy_frac", done.history.column("val_accuracy")[kept])
plots.curves(done.history, best=kept)

# %% [markdown]
# How to read it: the loss is what training makes smaller. While both lines of the accuracy rise, more epochs would help. Where
# training goes on rising and validation does not, the network learns its pictures by heart. The dotted line is the epoch whose
# weights are kept, chosen on validation alone.
#
# ## 5 · The one look at the test split

# %%
result = done.result["test"]
parts = {f"all {result['n']:,} images": result}
if copies.any() and "duplicate_clean" in result:
    parts[f"the {result['duplicate_clean']['n']:,} without a copy"] = result["duplicate_clean"]
points = [
    (f"{score.replace('_', ' ').replace('f1', 'F1')}, {part}", metrics[score], *metrics["intervals"][score])
    for part, metrics in parts.items()
    for score in metrics["intervals"]
]
for label, value, low, high in points:
    print(f"{label:45} {value:.1%}   95 % interval {low:.1%} to {high:.1%}")
if not copies.any():
    print("no test image has a copy in the training data, so none had to be left out")
record("test_accuracy_frac", result["accuracy"])
plots.intervals(points, xlabel="score on the test split, with 95 % interval")

# %% [markdown]
# - **Accuracy** is the share of right answers. A network can have a high one and never name a rare class.
# - **Balanced accuracy** is the mean over classes of the share recognised, so that each class counts alike.
# - **Macro-F1** is the mean over classes of a figure that also punishes naming a class too often.
# - An **interval** says how far the figure could be off because the test split is finite. It says nothing about another seed: train
#   several for that.
# - **Without a copy** leaves out test images that are also in the training data. If that figure is lower, part of the result is
#   memory.

# %%
plots.confusion(result["confusion"], result["names"])

# %% [markdown]
# Each row is what the pictures are, each column what the network said, with counts. Dark cells off the diagonal are the confusions
# worth talking about. Row by row, the share recognised, with its interval:

# %%
plots.recall_bars(result["confusion"], result["names"])

# %% [markdown]
# **Does it know how sure it is?** The largest probability is what the network claims; the accuracy is what it earns.

# %%
stored = np.load(done.folder / "predictions.npz")
probabilities, truth = stored["test"], stored["test_labels"]
claimed, earned = probabilities.max(1).mean(), result["accuracy"]
gap = claimed - earned
verdict = "about right" if abs(gap) < 0.02 else "too sure of itself" if gap > 0 else "more careful than it need be"
print(f"it claims {claimed:.1%} on average and earns {earned:.1%}: {verdict}")
print(f"expected calibration error {result['ece']:.3f}: sort the pictures into 15 groups by what is claimed;")
print(f"within a group, claim and accuracy differ by {100 * result['ece']:.1f} percentage points on average")
record("ece_frac", result["ece"])

# %% [markdown]
# ## 6 · Where it errs, and where it looks
#
# Only for drawn faces. First its most confident errors: what it is, what the network said, and how sure it was.

# %%
said = probabilities.argmax(1)
wrong = np.flatnonzero(said != truth)
worst = wrong[np.argsort(-probabilities[wrong].max(1))][:14]
titles = [f"{test.names[truth[i]]}\n→ {test.names[said[i]]} {probabilities[i].max():.0%}" for i in worst]
print(f"{len(wrong):,} of {len(test):,} are wrong")
plots.face_grid(test.images[worst], titles, columns=7, size=1.2) if drawn and len(worst) else "no drawn face to show"

# %% [markdown]
# Are these mistakes of the network, or pictures that you could not read either? Both happen: faces are hidden, blurred and blended
# with another expression on purpose.
#
# And where it looks (Grad-CAM; [notebook 00](00_start_here.ipynb) says what that is): bright places speak for the class it names. On
# a drawn face we know the truth: the blue outline is the region that makes the expression.

# %%
if drawn:
    samples = make_faces(7, size=test.images.shape[-1], seed=recipe.seed + 1000, masks=True)
    evidence, names = samples.masks["evidence"], [samples.names[k] for k in samples.labels]
    layers = [done.model.cam_layer(done.model.input_size), done.model.official_cam_layer]
    heats = {f"layer {layer}": cam(done.model, samples.images, layer=layer) for layer in layers if layer}
    for layer, heat in heats.items():
        print(f"{layer}: {(heat * evidence).sum() / heat.sum():.0%} of the heat inside the outlines", end="; ")
    print(f"they are {evidence.mean():.0%} of the pictures")
    figure = plots.cam_grid(samples.images, heats, outlines=evidence, titles=names)
figure if drawn else "no drawn face to show"

# %% [markdown]
# Compare the shares: a map that knows nothing has as much heat inside the outlines as they have of the picture. If there is not
# clearly more, then the network uses something else, or the map does not show what it uses.
#
# ## 7 · The paper's number beside ours
#
# A recipe that repeats a row of a paper's table says so in its `source`, in the form `Table III, row ResEmoteNet, FER2013`. Then the
# printed number comes out of the paper's ledger.

# %%
low, high = result["intervals"]["accuracy"]
print(f"we measured   {100 * result['accuracy']:.2f} % accuracy (95 % interval {100 * low:.2f} to {100 * high:.2f} %)")
print(f"              on {recipe.data}, {recipe.test_split}, n = {result['n']:,}")
claim = re.match(r"Table ([\w-]+), row ([^,]+), ([^,]+)", recipe.source)
for key in sorted(papers.keys(), key=lambda key: key != recipe.model):  # the network's own paper first
    table = papers.load(key).tables.get(claim[1]) if claim else None
    if table and claim[2] in table.rows and claim[3] in table.columns:
        print(f"the paper     {table.cell(claim[2], claim[3])} ({table.place}, {claim[2]}, {claim[3]}: {table.caption})")
        break
else:
    print("this recipe repeats no row of a paper's table" if claim is None else f"no ledger has {claim[0]}")
if S.changes:
    print(f"profile {S.profile} replaced data and size: our number is no answer to any other")

# %% [markdown]
# Two such numbers compare two protocols before they compare two networks. [Notebook 10](10_resemotenet.ipynb) shows what can lie
# between them: another split, another choice of the epoch, another size, copies in the test split.
#
# ## 8 · What a run leaves behind

# %%
meaning = {
    "recipe.yaml": "what was asked for; run it again with this file",
    "history.csv": "one line per epoch",
    "checkpoint": "everything needed to go on: weights, optimiser, random numbers",
    "best.safetensors": "the weights of the kept epoch, for create_model(..., weights=FILE)",
    "predictions.npz": "probabilities on validation and test, to compute another metric without a network",
    "result.json": "metrics with intervals, protocol, hashes of data and split, versions, seconds",
}
for name_of_file, what in meaning.items():
    path = done.folder / name_of_file
    size = sum(file.stat().st_size for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file())
    print(f"{name_of_file:18} {size / 1e3:9,.1f} kB   {what}")

# %%
done.result["protocol"]

# %% [markdown]
# ## 9 · Interrupted? Go on
#
# A checkpoint is written at the end of every epoch (and every `checkpoint_steps` steps, for long epochs), in one move: it is there
# whole or not at all. So a run may be stopped at any time, by you or by a power cut. Start it again, the same way.
#
# > **Question.** A training draws random numbers all the time: order, augmentation, dropout. Will a run that was stopped and resumed
# > end with the same figures as one that was not, nearly the same, or others?
#
# Let us stop one. A tiny recipe runs to its end in one folder; in another it is interrupted as soon as its first checkpoint exists,
# as if you had pressed the button *Interrupt the kernel*.

# %%
tiny = Recipe(name="tiny", augmentation="mild").overlay("smoke").overlay(dict(epochs=3, threads=1))


def press_stop(folder):
    """Wait for the first checkpoint, then interrupt the cell."""
    while newest_checkpoint(folder / "checkpoint") is None:
        time.sleep(0.01)
    _thread.interrupt_main()


with tempfile.TemporaryDirectory() as folder:
    straight = run(tiny, out=f"{folder}/straight", progress=False).history
    threading.Thread(target=press_stop, args=(Path(folder, "stopped", "tiny"),), daemon=True).start()
    try:
        run(tiny, out=f"{folder}/stopped")
        print("it was faster than the button")
    except KeyboardInterrupt:
        print("stopped")
    resumed = run(tiny, out=f"{folder}/stopped").history

# %%
losses = np.array([straight.column("val_loss"), resumed.column("val_loss")])  # (2, epochs)
for epoch, (a, b) in enumerate(losses.T, 1):
    print(f"epoch {epoch}   validation loss   straight {a:.12f}   resumed {b:.12f}")
record("resume_difference_nats", np.abs(losses[0] - losses[1]).max())

# %% [markdown]
# The same, to the last digit, on a CPU with the same number of threads: the checkpoint holds the state of every source of random
# numbers. A **finished** run is not trained again but loaded. If you change the recipe and keep its `name`, the run refuses, so that
# two experiments never end up in one folder: choose another name, or set `RESUME = False` to begin afresh.

# %%
began = time.perf_counter()
again = run(recipe, out=OUT)
print(f"{time.perf_counter() - began:.1f} s; the same result: {again.result == done.result}")

# %% [markdown]
# ## 10 · Many GPUs
#
# `batch_size` is that of all processes together, so the same recipe does the same on one device or eight. In a shell:
#
# ```
# accelerate launch --num_processes 8 -m ferkit run RECIPE.yaml --data PATH
# ```
#
# Over several machines, add `--num_machines`, `--machine_rank` and `--main_process_ip`, or answer the questions of
# `accelerate config` once. From a notebook, restart the kernel, run only the cells up to the recipe of section 2 (nothing may have
# used a GPU yet), and then:
#
# ```python
# from accelerate import notebook_launcher
#
# notebook_launcher(run, (recipe,), num_processes=8)  # writes into the folder `runs`
# done = run(recipe)                                  # loads the finished run
# ```
#
# ## Recap
#
# 1. run any recipe, from a notebook, from papermill, or from a shell
# 2. read a result: its interval, its classes, its errors, and the paper's number beside it
# 3. resume a run that was interrupted
# 4. say what a run leaves behind, and what each file is for

# %%
footer(faceset)
