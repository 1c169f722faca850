# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 00 · Start here
#
# *Check that everything works, learn how a notebook is read here, and see a prediction on a real face.*
#
# This workbook is about **facial expression recognition**: a program gets a picture of a face and names the expression. It reads
# research papers with you, equation by equation, and runs what they claim. You need no graphics card, no data set and no account,
# and no notebook downloads or sends anything.
#
# Click into a cell of code and press **Shift + Enter** to run it. Go from top to bottom: later cells use what earlier ones made.
# You need some Python; every other word is explained where it first matters. Much of the work is done by **ferkit**, this
# workbook's own package, which the notebooks import from; its source is in the folder `ferkit/`.
#
# ## Objectives
#
# 1. check your environment and repair what it lacks
# 2. choose a profile: seconds, minutes, or the full recipe
# 3. tell the three voices apart: the paper says, the released code does, we do
# 4. predict the expression on a photograph, and say what a heat map can tell and what it cannot

# %% tags=["parameters"]
PROFILE = "teach"  # "smoke" (seconds), "teach" (minutes on a laptop) or "paper" (full size): see section 2
FER2013_PATH = None  # your own copy of the FER2013 data set, if you have one: a file or a folder
SEED = 8  # where random numbers begin: the same seed draws the same faces

# %%
import textwrap

import numpy as np
from torchvision.transforms.v2 import functional as TF

from ferkit import data, faces, papers, plots
from ferkit.synthetic.action_units import AU_DESCRIPTIONS, PROTOTYPES
from ferkit.synthetic.faces import face_from_action_units, make_faces
from ferkit.data.transforms import as_batch, prepare
from ferkit.doctor.environment import check_environment
from ferkit.explain import cam
from ferkit.models import create_model, summarise
from ferkit.notebook import check, footer, ledger_table, profile, record
from ferkit.plots.house import new_figure, show_heat
from ferkit.predict import predict_probabilities
from ferkit.runs.records import read_record
from ferkit.widgets import cam_explorer, explore

S = profile(PROFILE, smoke=dict(n_faces=140), teach=dict(n_faces=700))

# %% [markdown]
# ## 1 · Is everything here?
#
# The next cell looks for everything the notebooks need. What is missing gets a line and its fix, like this:
#
# ```
# [FAIL] scikit-image       not installed (wanted >=0.25)
#        fix: python -m pip install "scikit-image>=0.25"
# ```
#
# Type the fix into a terminal (*File ▸ New ▸ Terminal*), choose *Kernel ▸ Restart Kernel*, and run the cells again from the top.

# %%
environment = check_environment()
faults = [line for line in environment.checks if not line.ok]
print(*faults, sep="\n", end="\n" * bool(faults))
print(f"{len(environment.checks) - len(faults)} of {len(environment.checks)} things are as they should be")
record("environment_failures_n", len(faults))

# %% [markdown]
# (`environment`, in a cell of its own, prints every line. A last line such as `environment_failures_n = 0` is a number that the
# project's tests read out of the notebook; its ending is the unit, here *n* for a count. You will meet more of them.)

# %% [markdown]
# ## 2 · How to read a notebook of this book
#
# **Parameters.** The first cell of code holds everything you may want to change. Change a value there, then *Run ▸ Run All Cells*.
#
# **Profiles.** `PROFILE` says how much work the notebook does. The steps are the same in all three, only the numbers grow.
#
# | profile | for | takes | what it proves |
# |---|---|---|---|
# | `smoke` | automatic tests | seconds | that every cell runs, and nothing about accuracy |
# | `teach` | you, on a laptop | minutes | how a method behaves, on a small scale |
# | `paper` | a computer with a graphics card | hours | what the full recipe reaches |
#
# What you read here without running anything was made under `teach`. Notebooks without a full recipe, this one too, do under
# `paper` what they do under `teach`. Today's settings:

# %%
S

# %% [markdown]
# **Three voices.** A paper, the code its authors publish, and a program written afterwards often differ. So every fact of a paper
# stands in a table, the paper's *ledger*, and each voice has its own column. Three rows about the paper *ResEmoteNet*
# [@resemotenet], which [notebook 10](10_resemotenet.ipynb) takes apart:

# %%
ledger_table("resemotenet", "framework", "seeds", "scheduler")

# %% [markdown]
# (A *seed* is where random numbers begin. The *learning rate* says how far each step of a training goes, and its *schedule* how
# that changes; to *plateau* is to get no better.) The small print says where to find it: a section of the paper, or `file@version`
# of the code. Where the middle column has no code to quote but people, say users who write what they saw, it names them. The last
# column says how the voices relate:
#
# - **agrees**: they say the same.
# - **unstated**: the paper leaves it open, so whoever rebuilds the program must guess.
# - **conflicts**: two of them contradict each other, or one contradicts itself.
# - **impossible**: a printed number that no program can have produced, shown by arithmetic.
# - **unverified**: nobody outside can check it with what is public.
#
# Whether somebody was careless is never the question. What was printed, what the file says, and what we ran: that is all.
#
# **Questions.** Before each surprise stands a question. Write your answer down before you run the cell: a guess that turns out
# wrong teaches more than a result merely read.
#
# **Figures and controls.** First comes a figure, then the same figure with sliders and menus. On a web page you see only the
# figure; the controls live where the notebook runs.
#
# **Exercises** stand at the end, in all notebooks but number 40. Each has a cell that checks your answer, and a folded solution.
#
# ## 3 · Which data are here?
#
# A *data set* is a pile of pictures, each with a *label*: the name of an expression that people wrote down when they saw it.

# %%
paths = dict.fromkeys(("fer2013", "ferplus"), FER2013_PATH)
absent = {}
for name in data.list_datasets():
    options = dict(n_train=S.n_faces, n_test=S.n_faces // 4) if name == "synthetic" else {}
    try:
        print("✓", data.load(name, paths.get(name), **options))
    except (FileNotFoundError, ValueError) as reason:
        absent[name] = str(reason)
print("– not here:", ", ".join(absent))
if "fer2013" in absent:
    print(textwrap.fill(f"  fer2013: {absent['fer2013']}", 100, subsequent_indent="  "))

# %% [markdown]
# Only `synthetic` has to be there: ferkit draws it while you wait. Pictures of real people come with terms that you must accept
# yourself, so **nothing is ever downloaded for you**. When you have a copy of FER2013, say where it is: in `FER2013_PATH` above, or
# once and for all in the environment variable `FERKIT_FER2013`. FER+ is the same pictures with the votes of ten people for each;
# its file of votes belongs into the same folder. (`folder` is for pictures of your own.) [data/README.md](../data/README.md) says
# where to get each set, and [notebook 01](01_faces_labels_splits.ipynb) checks what you got.
#
# ## 4 · Synthetic faces
#
# They are drawn: muscles of a face are moved as textbooks say an expression moves them, on a made-up head, under a random light.
# Nobody is shown, and we know the truth about each picture.
#
# > **Question.** Each of these drawings shows a different one of seven expressions: neutral, happiness, sadness, surprise, fear,
# > disgust, anger. Name them from left to right, and only then go on.

# %%
batch = make_faces(70, size=96, seed=SEED, difficulty="easy", noise=0.0)
shuffled = np.random.default_rng(SEED).permutation(len(batch.names))
light = np.abs(batch.images[:, 24:72, 24:72].mean((1, 2)) - 135)  # how far a face is from a middling grey
shown = [min(np.flatnonzero(batch.labels == k), key=light.__getitem__) for k in shuffled]  # of each, the best lit
plots.face_grid(batch.images[shown], columns=7)

# %%
print("from left to right:", ", ".join(batch.names[k] for k in shuffled))

# %% [markdown]
# Did you get all seven? Fear and surprise both raise the brows and widen the eyes; fear and anger both draw the brows together and
# tense the lower lids. The labels of photographs were written by people with the same trouble, and an accuracy only counts how often a network agrees
# with them.
#
# Move the sliders: one head, with an expression from none (0) to full (1). Above the picture stands how far each *action unit*
# moves: one muscle, or a few that move together, in the system that researchers describe faces with [@facs]. From which strength on would
# you name the expression?


# %%
def drawn_face(expression="surprise", strength=0.8, person=4):
    """One head with one expression, and the action units that make it."""
    units = {unit: strength * full for unit, full in PROTOTYPES[expression].items()}
    moved = ", ".join(f"{AU_DESCRIPTIONS[unit]} {amount:.1f}" for unit, amount in units.items())
    figure = plots.face_grid([face_from_action_units(units, seed=person, size=192)], size=2.4)
    figure.axes[0].set_title(textwrap.fill(moved or "no unit moves", 38), fontsize=8, loc="center")
    return figure


explore(drawn_face, expression=list(batch.names), strength=(0.0, 1.0, 0.1), person=(0, 15, 1))

# %% [markdown]
# ## 5 · A real face
#
# The portrait shows the astronaut Eileen Collins. NASA took it, it is in the public domain, and it comes with the package
# scikit-image, so it is on your disk already. A first network [@mtcnn] finds the face and five points in it; then a square is cut out,
# turned and scaled so that eyes and mouth lie where they lie in the training pictures.

# %%
picture = faces.portrait()  # to try your own photograph: faces.read_picture("PATH/TO/IT.jpg"); it stays in memory
found = faces.find_faces(picture)
print(faces.describe(found, picture))
record("faces_found_n", len(found))
crop = faces.crop_face(picture, found[0], size=96)  # (96, 96, 3): height, width, colours
crops = crop.transpose(2, 0, 1)[None]  # (1, 3, 96, 96): a stack of one picture

real = create_model("resemotenet", weights="fer2013-teach").eval()  # trained beforehand, kept in data/weights


def network_input(stack):
    """What the network gets of the first picture: small and grey."""
    return prepare(stack, size=real.input_size, mean=(0.0,), std=(1.0,), colour="grey")[0]


side = real.input_size
titles = ["the photograph", "what is cut out", f"what the network gets, {side} × {side}"]
figure = plots.face_grid([picture, crop, network_input(crops)], titles, columns=3, size=2.1)
left, top, right, bottom = found[0].box
figure.axes[0].plot([left, right, right, left, left], [top, top, bottom, bottom, top], color="white", linewidth=1.5)
figure.axes[0].plot(*found[0].landmarks.T, "o", color="white", markersize=1.5)
figure

# %% [markdown]
# > **Question.** Which of the seven expressions would you write under this face? How sure are you, in percent? And where in the
# > picture did you look to decide?

# %%
p = predict_probabilities(real, crops)[0]
first = real.labels[int(p.argmax())]
record("portrait_top_frac", float(p.max()))
plots.probability_bars(p, real.labels)

# %% [markdown]
# Seven numbers that sum to 100 %. They are what the network makes of the picture: which label people would most likely have
# written under it. Not one of them says what she felt.
#
# > **Question.** Which parts of the picture raised that first number? Mouth, eyes, something else?
#
# *Grad-CAM* [@gradcam] gives one answer. A network is a chain of layers, and each layer is a stack of coarse maps of the picture,
# coarser from layer to layer. Grad-CAM takes one layer and asks at each place: had the signal here been stronger, would this
# expression have got more? Bright means yes. The answer depends on the layer. These are the layers with maps, in order:

# %%
maps = [row for row in summarise(real) if len(row.shape) == 3 and row.name.startswith(("conv", "se", "res"))]
print(" → ".join(f"{row.name} {row.shape[1]}×{row.shape[2]}" for row in maps))
ours = real.cam_layer(real.input_size)
heats = {
    f"released demo: layer {real.official_cam_layer}": cam(real, crops, layer="official"),
    f"ours: layer {ours}": cam(real, crops),
}
figure, axes = new_figure(1, 2, (5.0, 2.7))
for ax, (title, heat) in zip(axes[0], heats.items(), strict=True):
    show_heat(ax, crop, heat[0], 0.6)
    ax.set_title(title, fontsize=9)
likeness = np.corrcoef(*(heat.ravel() for heat in heats.values()))[0, 1]
print(f"correlation of the two maps: {likeness:.2f} (1 would be the same map, 0 no relation)")
record("map_correlation_frac", likeness)
figure

# %%
ledger_table("resemotenet", "B10")

# %% [markdown]
# (The words of this row come in [notebook 10](10_resemotenet.ipynb). What matters here: the authors' demo takes `conv3`, the third in
# the chain above; we take a later one, the last that still has places enough to tell apart.)
#
# Two layers, two maps, one network, one answer. So neither map is *the* reason for it. Such maps can help and they can mislead.
# Whether one points at the right places can be tested on faces whose truth we know, the drawn ones:
# [notebook 40](40_run_one_experiment.ipynb) does so in its section 6.
#
# Now your turn. Choose another expression, and see what would have spoken for it; then other layers and methods.

# %%
cam_explorer(real, crops, ["portrait"])

# %% [markdown]
# > **Question.** How much wider can the cut-out be before the first number drops by ten points? (And a mirror shows the same
# > expression: does the network agree? Tick the box; exercise 2 asks for the number.)


# %%
def framed(margin=0.0, mirrored=False, turned=True):
    """The prediction for another cut-out of the same face."""
    other = faces.crop_face(picture, found[0], margin=margin, size=96, align=turned).transpose(2, 0, 1)[None]
    other = np.ascontiguousarray(other[..., ::-1]) if mirrored else other
    return plots.probability_bars(predict_probabilities(real, other)[0], real.labels, image=network_input(other))


explore(framed, margin=(-0.1, 0.6, 0.05), mirrored=False, turned=True)

# %%
margins = np.linspace(0, 0.6, 7)  # how much is added on each side, as a part of the side
wider = np.stack([faces.crop_face(picture, found[0], margin=m, size=96).transpose(2, 0, 1) for m in margins])


def shrunk(margin, fill):
    """The first cut-out with the face as small as in a wider one: blown up again, or its own border smeared outwards."""
    inner = round(96 / (1 + 2 * margin))
    small = TF.resize(as_batch(crops), [inner, inner], antialias=True)
    gap = 96 - inner
    frame = [gap // 2, gap // 2, gap - gap // 2, gap - gap // 2]
    return (TF.resize(small, [96, 96]) if fill == "blown up" else TF.pad(small, frame, padding_mode="edge"))[0].numpy()


rows = {
    "cut out wider": wider,
    "as coarse, but not smaller": np.stack([shrunk(m, "blown up") for m in margins]),
    "as small, border smeared out": np.stack([shrunk(m, "smeared") for m in margins]),
}
titles, shares = [], []
for title, stack in rows.items():
    named = predict_probabilities(real, stack)  # (7, 7): a row for each cut-out, a column for each expression
    share = named[:, real.labels.index(first)]
    shares.append(share)
    titles += [f"+{m:.0%}\n{real.labels[row.argmax()]} {row.max():.0%}" for m, row in zip(margins, named, strict=True)]
    drop = np.flatnonzero(share < share[0] - 0.1)
    fate = f"ten points lost from +{margins[drop[0]]:.0%} on" if len(drop) else "never ten points lost"
    print(f"{title:29} {first} {share[0]:.0%} to {share[-1]:.0%}, {fate}")
record("margin_range_frac", float(shares[0].max() - shares[0].min()))
plots.face_grid([network_input(part[None]) for stack in rows.values() for part in stack], titles, columns=7)

# %% [markdown]
# The rows of pictures are those of the three printed lines. In the first row three things change at once: the face gets smaller, it
# gets coarser, and more is seen around it. The other rows take them apart. The second makes the face just as coarse and leaves its size:
# if it holds, lost detail is not the cause. The third makes it just as small and shows nothing new of the scene: if it falls, too, the
# size in the frame is enough, or the border is, for a smeared one is a strange sight. Nothing in her face changed in any of them. The
# network was trained on faces cut out in one way, and part of what it knows is that way. (One face: a hint, no measurement.)
#
# ## 6 · How far to trust it
#
# One picture proves nothing. FER2013 comes in three parts: one to train on, and two to test on, called *public* and *private* after
# their role in the contest it was made for. The paper of notebook 10 counts the private one as its test (notebook 01 has the rows).
# Our network was trained from a copy without it and tested on the public one, so its figure stands near the paper's, not beside it.
#
# Some test pictures also are in the training part, pixel for pixel. So there are two figures. Each comes with a **95 % interval**:
# how far off it could be because these test pictures, and not others, were asked. Intervals made in this way hold the true value 19
# times in 20.

# %%
measured = read_record("resemotenet-teach-fer2013")
test, clean = measured["test"], measured["test"]["duplicate_clean"]
print(f"{measured['data']['name']}, {measured['protocol']['test_split']}")
for title, m in (("all pictures", test), (f"without the {test['n'] - clean['n']} that have a copy in training", clean)):
    low, high = m["intervals"]["accuracy"]
    print(f"  right in {m['accuracy']:.1%} of {m['n']:,} (95 % interval {low:.1%} to {high:.1%}), {title}")
recall = {name: value for name, value in test["recall"].items() if value is not None}
print(f"best at {max(recall, key=recall.get)}, worst at {min(recall, key=recall.get)}")
plots.recall_bars(test["confusion"], test["names"])

# %% [markdown]
# *Recall* is the share of an expression's pictures that got its name, here of all test pictures, copies included. Look where the
# portrait's expression stands. The network's card, [data/weights](../data/weights/resemotenet-teach-fer2013.md), says how it was
# trained.
#
# And more basic than any accuracy:
#
# - **An expression is not an emotion.** People smile when they are sad and frown when they think; a face alone does not tell
#   [@barrett]. The network was taught the labels that strangers gave to single pictures.
# - **The labels disagree.** Ask ten people about one of these pictures, and often you get more than one answer [@ferplus].
# - **Whom it works for is not known.** Nobody wrote down who is in the training pictures [@fer2013].
#
# So use it to learn how such networks work, and never to judge anybody.
#
# ## 7 · Where to go from here
#
# | you want to | go to |
# |---|---|
# | see what the pictures are, who labelled them, and which are in the data twice | [01 · Faces, labels, splits](01_faces_labels_splits.ipynb) |
# | understand a network and its training from the first line | [02 · A CNN and its training loop, by hand](02_training_loop_by_hand.ipynb) |
# | take a paper apart, equation by equation | [10 · ResEmoteNet, annotated](10_resemotenet.ipynb) |
# | train something yourself, small or large | [40 · Run one experiment](40_run_one_experiment.ipynb) |
#
# New to all this: 01, 02, 10, in this order. Here for the paper: 10 at once.
#
# ## Exercises
#
# **1.** How many claims of the paper ResEmoteNet has the ledger marked `impossible`? Print them with
# `ledger_table("resemotenet", status="impossible")` and count.

# %%
answer_1 = None

# %%
expected = len(papers.load("resemotenet").select(status="impossible"))
check("number of impossible claims", answer_1, expected, hint="One row of the table is one claim.")

# %% tags=["solution"]
answer_1 = len(ledger_table("resemotenet", status="impossible").rows)
check("number of impossible claims", answer_1, expected)
print(f"{answer_1} claims")

# %% [markdown]
# **2.** By how much does the probability of the first expression change when the picture in `crops` is mirrored? Give the difference,
# mirrored minus not mirrored. `crops` has the shape (1, 3, height, width), and `crops[..., ::-1]` turns its last axis around.

# %%
answer_2 = None

# %%
k = real.labels.index(first)
expected = float(predict_probabilities(real, crops[..., ::-1])[0, k] - p[k])
hint = "predict_probabilities(real, ...)[0, k] of each; then mirrored minus not mirrored."
check("change by mirroring", answer_2, expected, tolerance=1e-4, hint=hint)

# %% tags=["solution"]
answer_2 = float(predict_probabilities(real, crops[..., ::-1])[0, k] - predict_probabilities(real, crops)[0, k])
check("change by mirroring", answer_2, expected, tolerance=1e-4)
record("mirror_change_frac", answer_2)

# %% [markdown]
# ## Recap
#
# 1. check your environment and repair what it lacks
# 2. choose a profile: seconds, minutes, or the full recipe
# 3. tell the three voices apart: the paper says, the released code does, we do
# 4. predict the expression on a photograph, and say what a heat map can tell and what it cannot

# %%
footer()
