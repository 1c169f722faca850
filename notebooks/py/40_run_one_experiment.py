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
# A **recipe** is everything that decides a training: network, data, augmentation, optimiser, seed. It is a short file of keys and
# values (in YAML, one `key: value` to a line; section 2 shows one), and its keys are the parameters of this notebook. So one file has
# three uses: papermill, a program that runs a notebook with other parameters, runs this one with it; a shell trains by it; and you
# read in it what was done.
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
# By papermill, which writes the values of a recipe file over those below, runs the notebook, and keeps the result as a report:
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
# size, for as long as it takes. That is what `PROFILE = "paper"` means, and here, unlike in the other notebooks, it is the
# default, also for the small example that you see here: the footer says *profile paper*, and a few minutes on a CPU. (The hours under
# the title are those of a paper's recipe on a GPU.) To see first whether a recipe runs at all, add `-p PROFILE smoke` (seconds) or `-p PROFILE teach` (minutes); with
# `python -m ferkit run` it is `--profile smoke`. Both shrink the recipe and put drawn faces in the place of its data.
#
# Real data are never downloaded; [data/README.md](../data/README.md) says where to get them. A recipe that needs them and does
# not find them stops before anything is trained, and says where it looked.

# %% tags=["parameters"]
PROFILE = "paper"  # "paper": the recipe as it stands; "teach" or "smoke": shrunk, on synthetic faces
OUT = "runs"  # folder of all runs; this one gets a folder of its own in it
RESUME = True  # go on where an earlier start of this run stopped
# Besides these, every key of a recipe is a parameter: `-f recipe.yaml` gives many at once, `-p epochs 3` one. Section 2 lists them.

# %%
from ferkit.notebook import parameters_given
from ferkit.training import Recipe

given = parameters_given(globals(), own=["PROFILE", "OUT", "RESUME"], known=Recipe.model_fields)

import _thread
import inspect
import re
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from IPython.display import Markdown

from ferkit import papers, plots
from ferkit.data import duplicate_mask
from ferkit.synthetic.faces import make_faces
from ferkit.runs.experiment import build_model, load_faces, run
from ferkit.explain import cam, margins, score_network
from ferkit.models import count_parameters, summarise
from ferkit.notebook import footer, profile, record
from ferkit.predict import predict_probabilities
from ferkit.runs.publish import read_record
from ferkit.runs.series import asks_for_several, run_all
from ferkit.training import PROFILES, resolve
from ferkit.training.checkpoints import newest_checkpoint

S = profile(PROFILE, **{p: dict(changes=changes, resume=RESUME and p != "smoke") for p, changes in PROFILES.items()})

# %% [markdown]
# ## 2 · What will be run
#
# Every recipe file gives its run a name. Where no `name` was handed over, no recipe was, and the notebook runs the example in the next
# cell, with the values you gave in the place of its own: the network at an eighth of its width, on drawn faces. Change it as you like.

# %%
example = dict(
    name="first-run",
    source="ours: a first run, made for a laptop",
    width=0.125,
    model_options={"head": "linear"},
    data_options={"n_train": 4000, "n_test": 1000, "size": 64, "seed": 0, "imbalance": "fer2013"},
    augmentation="resemotenet",  # mirrors half of the training pictures
    epochs=8,
    batch_size=16,
    lr=0.02,
    schedule="cosine",
    warmup_epochs=0.5,
    label_smoothing=0.1,
)
usual = Recipe().as_dict()
if "name" in given:  # a recipe was handed over, and the profile shrinks it
    recipe = resolve(resolve(Recipe(), changes=given), profile=S.profile)
else:
    recipe = resolve(Recipe(**example), profile=S.profile, changes=given)
if S.changes:  # a shrunk run is another run: it gets another folder
    recipe = recipe.overlay({"name": f"{recipe.name}-{S.profile}"})

# %% [markdown]
# This is the recipe, as the file that the run will keep. What is not in it keeps its default. What you gave by `-p` or `-f` always
# wins over the example. A profile shrinks a whole recipe that you hand over, as `--profile` does in a shell.

# %%
print(recipe.overlay({"data_path": None}).to_yaml())  # where your files lie need not be in a report
if S.changes:
    print(f"profile {S.profile} set {', '.join(S.changes)}")

# %% [markdown]
# All keys there are, by what they are for; those of this run are printed bold. (`help(...)` of what a line points to says more: what
# `sam_rho` is, say.)

# %%
GROUPS = {  # first key of each group: what the group is for
    "name": "what the run is called, and why it exists",
    "model": "the network, and what it starts from",
    "data": "the pictures, how they are split, what is done to them",
    "epochs": "the steps: how many, by which rule, how far, and how that changes",
    "loss": "what is made smaller, and how the classes count in it",
    "sampler": "which pictures come how often, and trainings one after another",
    "grad_clip": "care on the way, and which epoch is kept",
    "precision": "how it is computed; no part of the method but for `tta` and `seed`",
    "sweep": "several runs by one recipe",
}
entries = re.findall(r"^    (\w+(?:, \w+)*): (.+?)(?=^    \w|\Z)", inspect.getdoc(Recipe).split("Attributes:")[1].split("Raises:")[0], re.M | re.S)
said = {key: (keys.split(", "), " ".join(text.split())) for keys, text in entries for key in keys.split(", ")}
assert list(said) == list(dict.fromkeys(said)) and set(said) == set(usual)
lines, seen = ["| for | keys |", "|---|---|"], set()
for key in usual:
    if key in GROUPS:
        lines.append(f"| {GROUPS[key]} | ")
    if key not in seen:
        keys, text = said[key]
        seen.update(keys)
        shown = ", ".join(f"**`{k}`**" if recipe.as_dict()[k] != usual[k] else f"`{k}`" for k in keys)
        lines[-1] += f"<small>{shown}: {text}</small><br>"
Markdown("\n".join(line.removesuffix("<br>") + " |" * (i > 1) for i, line in enumerate(lines)))

# %% [markdown]
# **Several runs by one recipe.** One run says nothing about how much a figure would move with another seed, other pictures, or another
# setting. A recipe can ask for several:
#
# - `sweep` holds lists of values, such as `{"loss_options.alpha": [0.1, 0.5], "seed": [0, 1, 2]}`: one run for every combination, six here.
# - `folds: 10` deals the pictures to ten parts, evenly by class and copies of one picture into the same part. Ten networks are trained,
#   each tested on the part it has not seen (*K-fold cross-validation*).
#
# The next cell makes them all, each in a folder of its own, and sums them up; the rest of the notebook shows the first. In a shell,
# `python -m ferkit sweep RECIPE.yaml --over "seed=[0, 1, 2]"` and `python -m ferkit kfold RECIPE.yaml --folds 10` do the same for any
# recipe. Stopped, they go on in the run they had reached.

# %%
folder_of_runs, resume, figure = OUT, S.resume, None
if asks_for_several(recipe):
    several = run_all(recipe, out=OUT, resume=S.resume)
    for group in several.summary["groups"]:
        accuracy = group["test"]["accuracy"]
        spread = "" if accuracy["sd"] is None else f", standard deviation {100 * accuracy['sd']:.2f} points over {group['runs']} runs"
        print(f"{', '.join(f'{key} = {value}' for key, value in group['values'].items())}: mean accuracy {accuracy['mean']:.2%}{spread}".removeprefix(": "))
    points = [
        (", ".join(f"{key.split('.')[-1]} = {value}" for key, value in row["values"].items()), row["test"]["accuracy"], *row["test"]["accuracy_interval"])
        for row in several.summary["runs"]
    ]
    figure = plots.intervals(points, xlabel="accuracy on the test split, with 95 % interval over its images")
    recipe, folder_of_runs, resume = several.recipes[0], several.folder, True
figure if figure is not None else "This recipe is a single run."

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
# Look for classes with few test images: their figures will be uncertain, whatever the network does. (The example has FER2013's
# proportions, by `imbalance` in its recipe.)

# %%
if drawn:
    first = [int(np.flatnonzero(train.labels == k)[i]) for i in range(2) for k in range(len(train.names))]
    titles = [train.names[k] for k in train.labels[first]]
    figure = plots.face_grid(train.images[first], titles, columns=len(train.names))
figure if drawn else "Pictures of real people are not shown in a report."

# %% [markdown]
# ## 4 · Training
#
# > **Question.** Which will be higher in the first epochs, the accuracy on training pictures or on validation pictures?

# %%
network = build_model(recipe, faceset.names)
largest = max(test.counts(), key=test.counts().get)
print(f"always answering {largest!r} {test.counts()[largest] / len(test):.1%}, guessing {1 / len(faceset.names):.1%}")
work = sum(row.macs for row in summarise(network))
print(f"{recipe.model}: {count_parameters(network):,} parameters, {work:,} multiply-adds at {network.input_size} px")

# %%
done = run(recipe, out=folder_of_runs, resume=resume)
kept = done.history.best(recipe.select)
record("val_accuracy_frac", done.history.column("val_accuracy")[kept])
plots.curves(done.history, best=kept)

# %% [markdown]
# How to read it: the loss is what training makes smaller. The dotted line is the epoch whose weights are kept, chosen on validation
# alone. Where training goes on rising and validation does not, the network learns its pictures by heart.
#
# **Validation above training** is no miracle. The two lines are not the same measurement: training is counted while the network still
# changes, on pictures that augmentation has altered, and with *dropout*, which sets a part of the numbers inside the network to 0 at random
# so that none can rely on a single one. Validation is counted at the end of the epoch with none of this. And with *label smoothing* (0.1
# in the example) the training loss is another quantity: the true class is asked to get 90 % plus its share of the rest, not all, so even
# a perfect network pays. The validation loss is the plain cross entropy.
#
# **Would more epochs help?** While both lines rise, perhaps; but look at the schedule. Under a cosine the rate reaches 0 in the last
# epoch, so the lines flatten there whatever is left to learn. The test is a new run with larger `epochs`, not a continued one.
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
# Each row is what the pictures are, each column what the network said, with counts. The largest confusions, and the share recognised of
# each class with its interval:

# %%
table = np.array(result["confusion"])
off = table - np.diag(np.diag(table))
for i, j in zip(*np.unravel_index(np.argsort(-off, axis=None)[:4], off.shape), strict=True):
    print(f"{result['names'][i]:9} taken for {result['names'][j]:9} {off[i, j]:3} of {table[i].sum()}")
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
# Label smoothing asks a network not to be sure, so one trained with it claims less; whether that is the cause here, a run with
# `label_smoothing=0.0` would show.
#
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
# a drawn face we know the truth: the blue outline is the region that makes the expression. (Of a neutral face it is every region, at rest.)
#
# > **Question.** How much of the heat must lie inside the outlines before you believe that the map knows the place?

# %%
if drawn:
    samples = make_faces(70, size=test.images.shape[-1], seed=recipe.seed + 1000, occluders="none", masks=True)
    evidence = samples.masks["evidence"]
    answers = [done.model.labels[k] for k in predict_probabilities(done.model, samples.images).argmax(1)]
    layers = [done.model.cam_layer(done.model.input_size), done.model.official_cam_layer]
    heats = {f"layer {layer}": cam(done.model, samples.images[:7], layer=layer) for layer in layers if layer}
    titles = [f"{samples.names[k]}\n→ {answer}" for k, answer in zip(samples.labels[:7], answers[:7], strict=True)]
    figure = plots.cam_grid(samples.images[:7], heats, outlines=evidence[:7], titles=titles)
figure if drawn else "no drawn face to show"

# %% [markdown]
# Above each face stands what it is and what the network says. A map without any bright place says that nothing in this layer speaks for
# the class. Seven faces prove nothing, so here are 70. Two rivals know nothing of the network: *chance*, heat spread evenly, and a *guess
# at the middle* of every picture, which is not bad, because faces are centred.

# %%
if drawn:
    scored = {}
    for layer in layers:
        if layer:
            found = score_network(done.model, samples.images, evidence, layer=layer)
            scored[f"layer {layer}"] = found["gradcam"]
    scored |= {"a guess at the middle": found["centre prior"], "chance": found["chance"]}
    over = {rival: margins(scored, rival) for rival in ("chance", "a guess at the middle")}
    for title, row in scored.items():
        print(f"{title:20} {np.nanmean(row['energy']):.0%} of the heat inside the outlines")
        for rival in over if title.startswith("layer") else ():
            m = over[rival][title]["energy"]
            verdict = "more than" if m.low > 0 else "less than" if m.high < 0 else "no different from"
            print(f"{'':24} {verdict} {rival} ({100 * m.low:+.0f} to {100 * m.high:+.0f} points)")

# %% [markdown]
# (In brackets the 95 % interval of the difference.) A layer that does no better than chance tells you nothing about where this network
# looks, however convincing single maps are, and it makes no difference who chose the layer: us or the authors. One that beats chance but
# not the guess at the middle may know no more than that faces are centred. And what is found on drawn faces, for this network, this layer and this method
# need not hold for photographs. That is why [notebook 00](00_start_here.ipynb) did not call its maps reasons.
#
# ## 7 · The paper's number beside ours
#
# A recipe that repeats a row of a paper's table says so in its `source`, in the form `Table III, row ResEmoteNet, FER2013`. Then the
# printed number comes out of the paper's ledger. The last lines are there in every report: a paper's number beside one of ours on the
# same data set, the network that notebook 00 uses.

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

kept_record = read_record("resemotenet-teach-fer2013")
ours, ledger = kept_record["test"], papers.load("resemotenet")
table, released = ledger.tables["III"], ledger.tables["widths"].cell("1", "parameters")
low, high = ours["intervals"]["accuracy"]
size = f"{kept_record['model']['parameters'] / 1e6:.1f} million parameters"
print(f"\nfor example:\nwe measured   {100 * ours['accuracy']:.2f} % (95 % interval {100 * low:.2f} to {100 * high:.2f} %)")
print(f"              {kept_record['name']}: {size}, {kept_record['protocol']['test_split']}, n = {ours['n']:,}")
print(f"the paper     {table.cell('ResEmoteNet', 'FER2013')} ({table.place}; the released network: {released / 1e6:.1f} million parameters)")

# %% [markdown]
# Two such numbers compare two protocols before they compare two networks. In the example the widths differ, the recipes, and the test
# splits. [Notebook 10](10_resemotenet.ipynb) shows what else can lie between them: another choice of the epoch, copies in the test
# split, numbers that arithmetic forbids.
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
# > **Question.** A training draws random numbers all the time, for the order, the augmentation, the dropout. Will a run that was stopped and resumed
# > end with the same figures as one that was not, nearly the same, or others?
#
# Let us stop one. A tiny recipe runs to its end in one folder; in another it is interrupted as soon as its first checkpoint exists,
# as if you had pressed the button *Interrupt the kernel* (that is all that `press_stop` does). Then we ask for another recipe under
# the same name.

# %%
tiny = resolve(Recipe(name="tiny", augmentation="mild"), profile="smoke").overlay(dict(epochs=3, threads=1))


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
    try:
        run(tiny.overlay(dict(lr=0.01)), out=f"{folder}/stopped")
    except ValueError as refusal:
        print("refused:", str(refusal).replace(f"{folder}/", ""))

# %%
losses = np.array([straight.column("val_loss"), resumed.column("val_loss")])  # (2, epochs)
for epoch, (a, b) in enumerate(losses.T, 1):
    print(f"epoch {epoch}   validation loss   straight {a:.12f}   resumed {b:.12f}")
record("resume_difference_nats", np.abs(losses[0] - losses[1]).max())

# %% [markdown]
# The same, to the last digit, on a CPU with the same number of threads: the checkpoint holds the state of every source of random
# numbers. A changed recipe that keeps its `name` is refused, so that two experiments never end up in one folder: choose another name, or
# set `RESUME = False` to begin afresh. And a **finished** run is not trained again but loaded:

# %%
began = time.perf_counter()
again = run(recipe, out=folder_of_runs)
print(f"{time.perf_counter() - began:.1f} s; the same result: {again.result == done.result}")

# %% [markdown]
# ## 10 · Many GPUs
#
# `batch_size` is that of all processes together, and batch normalisation takes its mean and spread over all of them, so the recipe need
# not change with the number of devices. The project's tests train with two processes on one CPU and find the losses of one process, but
# for rounding; on several GPUs nothing was run for this page. In a shell:
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
