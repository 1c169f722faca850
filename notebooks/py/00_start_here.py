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
# *A network names the expression on a real face. Make it change its mind, ask how far to trust it, and learn how to read this book.*
#
# This book is about **facial expression recognition**: a program gets a picture of a face and names the expression. It builds such
# programs with you, from four research papers, and checks what they claim. You need some Python, and no graphics card, no data set
# and no account. (Click into a cell of code and press **Shift + Enter** to run it; go from top to bottom.)
#
# Here is one such program at work. The portrait shows the astronaut Eileen Collins; NASA took it, and it is in the public domain.

# %% tags=["parameters"]
PROFILE = "teach"  # "smoke" (seconds), "teach" (minutes) or "paper" (full size)
FER2013_PATH = None  # your own copy of the FER2013 data set, if you have one
SEED = 8  # where random numbers begin: the same seed draws the same faces

# %% tags=["hide-input"]
import numpy as np
import pandas as pd
import torchvision.transforms.v2.functional as TF

from ferkit import data, explain, faces, models, papers, plots, predict, runs
from ferkit.data.transforms import as_batch, prepare
from ferkit.doctor.environment import check_environment
from ferkit.notebook import check, figure, footer, ledger_table, profile, record, table
from ferkit.widgets import explore

S = profile(PROFILE, chapter=0, smoke=dict(n_faces=140), teach=dict(n_faces=700))

# %%
picture = faces.portrait()  # your own: faces.read_picture("PATH"); it stays in memory
found = faces.find_faces(picture)  # boxes and landmarks, best first
crop = faces.crop_face(picture, found[0], size=96)  # (96, 96, 3): height, width, colour
network = models.create_model("resemotenet", weights="fer2013-teach").eval()


def answer(cut):
    """Seven probabilities for a cut-out (H, W, 3)."""
    return predict.predict_probabilities(network, cut.transpose(2, 0, 1)[None])[0]


probabilities = answer(crop)

# %% tags=["hide-input"]
top = network.labels[int(probabilities.argmax())]
record("faces_found_n", len(found))
record("portrait_top_frac", probabilities.max())
figure(
    plots.probability_bars(probabilities, network.labels, image=crop),
    "answer",
    "What the network says of this face. The seven numbers sum to 100 %.",
    "The portrait, and bars for seven expressions; happiness has nearly 90 %.",
)

# %% [markdown]
# Happiness, {{portrait_top_frac:.0%}}. That looks right, and it raises four questions that this book is about. What did the network get to
# see? What would it take to change its answer? Where did it look? And how often is it right? This chapter gives each a first answer, and
# then says how to read the rest.
#
# ## 1 · What the network gets
#
# First a small network [@mtcnn] finds the face and five points in it: two eyes, the nose, two corners of the mouth. Then a square is cut
# out, turned and scaled so that these points lie where they lay in the training pictures.

# %% tags=["hide-input"]
side = network.input_size
record("input_side_px", side)


def network_input(cut):
    """What the network gets of a cut-out: small and grey."""
    stack = cut.transpose(2, 0, 1)[None]
    return prepare(stack, size=side, mean=(0.0,), std=(1.0,), colour="grey")[0]


three = {
    "the photograph": picture,
    "what is cut out": crop,
    f"what the network gets: {side} × {side}": network_input(crop),
}
shown = plots.face_grid(list(three.values()), list(three), columns=3, size=2.4)
left, upper, right, lower = found[0].box
corners = [left, right, right, left, left], [upper, upper, lower, lower, upper]
shown.axes[0].plot(*corners, color="white", linewidth=1.5)
shown.axes[0].plot(*found[0].landmarks.T, "o", color="white", markersize=2)
figure(
    shown,
    "input",
    "From the photograph to the input. Colour, hair and background are mostly gone.",
    "The portrait with a box and five points; the cut-out face; the same, grey.",
)

# %% [markdown]
# What arrives is {{input_side_px}} × {{input_side_px}} grey numbers. Everything the network says, it says about these.
#
# ## 2 · Change its mind
#
# > **Question.** We cut the same face out of the same photograph, with a little more around it. Nothing in her face changes. Will the
# > answer?


# %%
def wider(margin=0.0, mirrored=False):
    """The answer when the cut-out gets `margin` of its side more on each side."""
    cut = faces.crop_face(picture, found[0], margin=margin, size=96)
    cut = np.ascontiguousarray(cut[:, ::-1]) if mirrored else cut
    return plots.probability_bars(answer(cut), network.labels, image=network_input(cut))


explore(
    wider,
    margin=(-0.1, 1.0, 0.1),
    mirrored=False,
    strip=[{"margin": 0.0}, {"margin": 1.0}],
    name="wider",
    caption="The same face, cut out as in training, and with 100 % more on each side.",
    alt="Two cut-outs of the portrait with their bars of probabilities.",
)

# %% tags=["hide-input"]
MARGINS = (0.0, 0.3, 0.6, 1.0)
k = network.labels.index(top)
cuts = [faces.crop_face(picture, found[0], margin=m, size=96) for m in MARGINS]
for margin, cut in zip((30, 60, 100), cuts[1:], strict=True):
    record(f"wider_{margin}_frac", answer(cut)[k])
record("widest_fear_frac", answer(cuts[-1])[network.labels.index("fear")])

# %% [markdown]
# **Answer.** It does. In the wide cut-out the network says *fear* ({{widest_fear_frac:.0%}}), and happiness has fallen from
# {{portrait_top_frac:.0%}} to {{wider_100_frac:.0%}}. Move the slider: does it fall all the way? (No: it rises to {{wider_30_frac:.0%}} first.)
#
# Three things changed at once. The face became *smaller* in the frame. It became *coarser*, because the same number of grey values has to
# hold more. And there is *more around it*.
#
# > **Question.** Which of the three is it? We take them apart: a face that is only coarser; and one that is as coarse and as small as
# > before, but with a smeared border instead of the photograph around it.


# %%
def shrunk(margin, blow_up):
    """The first cut-out as coarse as a wider one: blown up, or its border smeared."""
    inner = round(96 / (1 + 2 * margin))
    first = as_batch(crop.transpose(2, 0, 1)[None])  # (1, 3, 96, 96)
    small = TF.resize(first, [inner, inner], antialias=True)
    gap = 96 - inner
    frame = [gap // 2, gap // 2, gap - gap // 2, gap - gap // 2]
    smeared = TF.pad(small, frame, padding_mode="edge")
    cut = TF.resize(small, [96, 96]) if blow_up else smeared
    return cut[0].numpy().transpose(1, 2, 0)  # (96, 96, 3)


rows = {
    "cut out wider": cuts,
    "only coarser": [shrunk(m, blow_up=True) for m in MARGINS],
    "smaller, border smeared": [shrunk(m, blow_up=False) for m in MARGINS],
}

# %% tags=["hide-input"]
named = {title: np.stack([answer(cut) for cut in row]) for title, row in rows.items()}
titles = [
    f"+{m:.0%}\n{network.labels[p.argmax()]} {p.max():.0%}"
    for row in named.values()
    for m, p in zip(MARGINS, row, strict=True)
]
record("coarse_happiness_frac", named["only coarser"][2, k])
record("smeared_happiness_frac", named["smaller, border smeared"][2, k])
record("smeared_top_frac", named["smaller, border smeared"][2].max())
inputs = [network_input(cut) for row in rows.values() for cut in row]
figure(
    plots.face_grid(inputs, titles, columns=4),
    "rows",
    "One thing at a time. Top: a wider cut-out. Middle: as coarse as above, but not"
    " smaller. Bottom: as coarse and as small, with a smeared border.",
    "Three rows of four grey pictures of one face; the network's answer above each.",
)

# %% [markdown]
# **Answer.** Not the coarseness: in the middle row the answer stays at {{coarse_happiness_frac:.0%}}. Now compare the top and the bottom
# row at +60 %. The face is equally small and equally coarse in both, and only the border differs: {{wider_60_frac:.0%}} happiness with the rest of
# the photograph, {{smeared_happiness_frac:.0%}} with a smeared border, where the network says *sadness* ({{smeared_top_frac:.0%}}). **What lies around a
# face can decide what the network says of the face.**
#
# The network was trained on faces cut out in one way, and part of what it knows is that way. One portrait is a hint, not a measurement; but
# whoever uses such a network has to know how its training pictures were cut.
#
# ## 3 · Where did it look?
#
# A network is a chain of layers, and each layer is a stack of coarse maps of the picture. *Grad-CAM* [@gradcam] picks one layer, and weighs
# each of its maps by how much the answer's score would rise if that map rose. The weighted maps are added, and what is positive is
# drawn. Bright places speak for the answer. But which layer should one pick? The authors of this network's paper take its third
# convolution; most people take a later one.
#
# > **Question.** One network, one picture, one answer. Will two layers show the same places?

# %%
stack = crop.transpose(2, 0, 1)[None]  # (1, 3, 96, 96)
heats = {
    "third convolution": explain.cam(network, stack, layer="conv3"),
    "a later layer": explain.cam(network, stack, layer="se"),
}
likeness = np.corrcoef(*(heat.ravel() for heat in heats.values()))[0, 1]
print(f"correlation of the two maps: {likeness:.2f}")

# %% tags=["hide-input"]
record("map_correlation_frac", likeness)
figure(
    plots.cam_grid(stack, heats),
    "heat",
    "Grad-CAM for the answer at two layers. Each map is scaled to its brightest place.",
    "The portrait, and two heat maps over it that differ.",
)

# %% [markdown]
# **Answer.** Hardly: their correlation is {{map_correlation_frac:.2f}}, where 1 would be the same map and 0 no relation. So neither map is
# *the* reason for the answer. [Notebook 21](21_where_does_it_look.ipynb) shows how to find out whether such a map deserves trust: on drawn
# faces, where we know what makes the expression.
#
# ## 4 · How far to trust it
#
# One picture proves nothing. FER2013 [@fer2013] is a set of 35,887 small photographs, found by web search and labelled by people. Our network
# was trained on one part of it and tested on another. Some test pictures are also in the training part, pixel for pixel, so there are
# two results. Each has a **95 % interval**: how far off it could be because these test pictures were asked, and not others.

# %% tags=["hide-input"]
measured = runs.read_record("resemotenet-teach-fer2013")["test"]
clean = measured["duplicate_clean"]
kinds = {"all test pictures": measured, "those not in training": clean}
frame = pd.DataFrame({"tested on": list(kinds)})
frame["pictures"] = [m["n"] for m in kinds.values()]
frame["accuracy"] = [m["accuracy"] for m in kinds.values()]
ends = [m["intervals"]["accuracy"] for m in kinds.values()]
frame["95 % interval"] = [f"{low:.1%} to {high:.1%}" for low, high in ends]
record("test_n", measured["n"])
record("accuracy_frac", measured["accuracy"])
record("clean_frac", clean["accuracy"])
record("copies_n", measured["n"] - clean["n"])
caption = "The network of this chapter on the test part of FER2013 (PublicTest)."
table(frame, "accuracy", caption, formats={"accuracy": "{:.1%}", "pictures": "{:,}"})
figure(
    plots.recall_bars(measured["confusion"], measured["names"]),
    "recall",
    "Recall: the share of each expression's pictures that got its name; 95 % intervals."
    " Where intervals overlap, one cannot say which expression is harder.",
    "Seven bars with intervals; happiness and surprise are the longest.",
)
recall = {name: v for name, v in measured["recall"].items() if v is not None}
record("happiness_recall_frac", recall["happiness"])
record("fear_recall_frac", recall["fear"])

# %% [markdown]
# It is right in {{clean_frac:.0%}} of new pictures, two of three. It finds {{happiness_recall_frac:.0%}} of the happy faces and
# {{fear_recall_frac:.0%}} of the fearful ones. An {{portrait_top_frac:.0%}} on the first page does not mean that it is right nine times in
# ten. And more basic than any accuracy:
#
# - **An expression is not an emotion.** People smile when they are sad and frown when they think; a face alone does not tell
#   [@barrett]. The network has learnt which label strangers gave to a picture, not what she felt.
# - **The labels disagree.** Ask ten people about one of these pictures, and you often get more than one answer [@ferplus].
# - **We don't know for whom it works.** Nobody wrote down who is in the training pictures.
#
# So use it to learn how such networks work, and never to judge anybody. [Notebook 31](31_what_expressions_are_not.ipynb) says why, at
# length.
#
# ## 5 · How to read this book
#
# **Profiles.** The first cell of code of each notebook holds what you may want to change, among it `PROFILE`:
#
# | profile | for | takes | what it shows |
# |---|---|---|---|
# | `smoke` | automatic tests | seconds | that every cell runs, nothing about accuracy |
# | `teach` | you, on a laptop | minutes | how a method behaves, on a small scale |
# | `paper` | a computer with a graphics card | hours | what the full recipe reaches |
#
# What you read here without running anything was made under `teach`. Where minutes on a laptop are too short, a notebook adds a *long run*
# on real faces that was made before.
#
# **Guess first.** Questions stand before surprises. Write your guess down before you read on: a guess that turns out wrong teaches more than a
# result merely read. **Figures** with sliders come as a strip of contrasting states first; the sliders live where the notebook runs. **Exercises**
# have a cell that checks your answer, and folded hints and solutions.
#
# **Three voices.** A paper, the code that its authors publish, and a program written afterwards often differ. So the facts of each paper
# stand in its *ledger*, with a column for each voice and a verdict. Two rows about the paper of the network above, ResEmoteNet
# [@resemotenet]:

# %%
ledger_table("resemotenet", "seeds", "A5")

# %% [markdown]
# The first fact is *unstated*: the paper leaves it open, and whoever rebuilds the program must guess. The second is *impossible* under the
# reading that the row names: the paper prints losses that are smaller than the errors beside them allow, if they are what one would take
# them for. You will derive that yourself, in one line, in [notebook 10](10_resemotenet.ipynb). The row also says what speaks
# for the authors. (Other verdicts: *agrees*; *conflicts*, where two sources say different things; *unverified*, where nothing public can
# settle it.) The authors are colleagues. What was printed, what the file says, and what we ran: that is all a ledger holds.
#
# ## 6 · Is everything here?
#
# The next cell looks for everything that the notebooks need. What is missing gets a line and its fix. Type the fix into a terminal
# (*File ▸ New ▸ Terminal*), choose *Kernel ▸ Restart Kernel*, and run the cells again.

# %%
environment = check_environment()  # in a cell of its own it prints every line
faults = [line for line in environment.checks if not line.ok]
print(*faults, sep="\n", end="\n" * bool(faults))
total = len(environment.checks)
print(f"{total - len(faults)} of {total} checks passed")

# %% tags=["hide-input"]
record("environment_failures_n", len(faults))
paths = dict.fromkeys(("fer2013", "ferplus"), FER2013_PATH)
lines = []
for name in data.list_datasets():
    few = dict(n_train=S.n_faces, n_test=S.n_faces // 4) if name == "synthetic" else {}
    try:
        loaded = data.load(name, paths.get(name), **few)
        lines.append((name, f"{len(loaded):,} pictures"))
    except (FileNotFoundError, ValueError):
        lines.append((name, "not here"))
frame = pd.DataFrame(lines, columns=["data set", "on this computer"])
caption = "Data sets that the notebooks can use. Only `synthetic` has to be here."
table(frame, "data", caption)

# %% [markdown]
# `synthetic` is drawn by the library while you wait: muscles of a made-up face are moved as textbooks say that an expression moves them.
# Nobody is shown, and we know the truth about each picture. The others show real people and come with terms that you accept yourself.
# So **no notebook downloads anything**; `python -m ferkit data get` fetches what may be fetched, when you ask for it.
# [data/README.md](../data/README.md) says where to get each set. When you have FER2013, put its path into `FER2013_PATH` above, or into the
# environment variable `FERKIT_FER2013`.
#
# ## Where to go from here
#
# | you want to | go to |
# |---|---|
# | see what the pictures are, who labelled them, and which are in the data twice | [01 · Faces, labels, splits](01_faces_labels_splits.ipynb) |
# | understand a network and its training from the first line | [02 · A CNN and its training loop, by hand](02_training_loop_by_hand.ipynb) |
# | take a paper apart, equation by equation | [10 · ResEmoteNet, annotated](10_resemotenet.ipynb) |
# | upload your own face | [21 · Where does it look?](21_where_does_it_look.ipynb) |
# | train something yourself, small or large | [40 · Run one experiment](40_run_one_experiment.ipynb) |
#
# If all this is new to you, take 01, 02, 03 and 10, in this order.
#
# ## Exercises
#
# ### Exercise 1 · by hand
#
# {tab:accuracy} gives an accuracy and a number of pictures. How many of all test pictures did the network get right?

# %%
answer_1 = None

# %% tags=["hide-input"]
right = int(np.trace(np.array(measured["confusion"])))
check("pictures it got right", answer_1, right, tolerance=3)

# %% [markdown]
# <details><summary>Hint</summary>
#
# A share of a number is their product. Rounding of the accuracy allows a few pictures more or less.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# answer_1 = round(measured["accuracy"] * measured["n"])
# ```
#
# An accuracy is always a whole number of pictures divided by another. That sounds trivial, and it is how one finds out that some printed
# accuracies cannot come from one run on the test set they name ([notebook 10](10_resemotenet.ipynb)).
#
# </details>
#
# ### Exercise 2 · change the code
#
# A mirror shows the same expression. By how much does the probability of happiness change when `crop` is mirrored? Give mirrored minus not
# mirrored.

# %%
answer_2 = None

# %% tags=["hide-input"]
mirror = np.ascontiguousarray(crop[:, ::-1])
difference = float(answer(mirror)[k] - probabilities[k])
record("mirror_change_frac", difference)
check("change by mirroring", answer_2, difference, tolerance=1e-3)

# %% [markdown]
# <details><summary>Hint</summary>
#
# `crop` has the axes height, width, colour, and `crop[:, ::-1]` turns the second one around. `answer(...)` gives seven probabilities in the order
# of `network.labels`.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# mirrored = np.ascontiguousarray(crop[:, ::-1])
# happiness = network.labels.index("happiness")
# answer_2 = float(answer(mirrored)[happiness] - answer(crop)[happiness])
# ```
#
# The change is small but not zero: the network saw mirrored faces in training, which makes it nearly indifferent to the mirror, and no more.
#
# </details>
#
# ### Exercise 3 · paper and code
#
# How many rows of ResEmoteNet's ledger are marked *impossible*? Show them with `ledger_table("resemotenet", status="impossible")`.

# %%
answer_3 = None

# %% tags=["hide-input"]
rows_3 = papers.load("resemotenet").select(status="impossible")
check("impossible rows", answer_3, len(rows_3))

# %% [markdown]
# <details><summary>Hint</summary>
#
# One row of the table is one claim.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# answer_3 = len(ledger_table("resemotenet", status="impossible").rows)
# ```
#
# All of them are about the losses of one table. Each row says what speaks for the authors: the table does not define its loss, and two
# readings would make it possible.
#
# </details>
#
# ## What you found
#
# - A network says *happiness*, {{portrait_top_frac:.0%}}, of a portrait. It saw {{input_side_px}} × {{input_side_px}} grey numbers.
# - With a wider cut-out of the same face it falls to {{wider_60_frac:.0%}}, and with a smeared border around an equally small face to
#   {{smeared_happiness_frac:.0%}}. Coarseness alone changes nothing.
# - Grad-CAM at two layers of this network gives two maps whose correlation is {{map_correlation_frac:.2f}}.
# - On {{test_n:,}} test pictures it is right in {{accuracy_frac:.1%}} of cases, and in {{clean_frac:.1%}} of those that are not also in its
#   training set.

# %%
footer()
