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
# and no account. Click into a cell of code and press **Shift + Enter** to run it; go from top to bottom. Cells that
# import, draw a figure or note a number are folded away; a click unfolds them. Before a surprise we ask a *question*: write your guess
# down before you read on. Some figures come with sliders, which work where the notebook runs.
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

from ferkit import (
    data, evaluation, explain, faces, models, papers, plots, predict, runs,
)  # fmt: skip
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
    stack = cut.transpose(2, 0, 1)[None]  # (1, 3, H, W)
    return predict.predict_probabilities(network, stack)[0]  # resizes, makes it grey


probabilities = answer(crop)

# %% tags=["hide-input"]
top = network.labels[int(probabilities.argmax())]
record("faces_found_n", len(found))
record("portrait_top_frac", probabilities.max())
figure(
    plots.probability_bars(probabilities, network.labels, image=crop),
    "answer",
    "What the network says of this face. The seven numbers sum to 1.",
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
# out, turned and scaled so that the points come to lie in fixed places. (The pictures that it was trained on, those of FER2013, came cut out
# already, with faces that fill most of the picture.)

# %% tags=["hide-input"]
side = network.input_size
record("input_side_px", side)


def network_input(cut):
    """What the network gets of a cut-out: small and grey."""
    stack = cut.transpose(2, 0, 1)[None]
    return prepare(stack, size=side, mean=(0.0,), std=(1.0,), colour="grey")[0]


left, upper, right, lower = found[0].box
x, y = int(left - 1.2 * (right - left)), max(0, int(upper - 0.6 * (lower - upper)))
part = picture[y : y + 280, x : x + 280]
three = {
    "part of the photograph": part,
    "what is cut out": crop,
    f"what the network gets: {side} × {side}": network_input(crop),
}
shown = plots.face_grid(list(three.values()), list(three), columns=3, size=2.5)
xs, ys = np.array([left, right]) - x, np.array([upper, lower]) - y
corners = xs[[0, 1, 1, 0, 0]], ys[[0, 0, 1, 1, 0]]
shown.axes[0].plot(*corners, color="white", linewidth=1.5)
shown.axes[0].plot(*(found[0].landmarks - (x, y)).T, "o", color="white", markersize=2.5)
figure(
    shown,
    "input",
    "Left: the face that was found, and five points in it. Middle: the square that is"
    " cut out by means of the points. Right: the network's input, without colour.",
    "The portrait with a box and five points; the cut-out face; the same, grey.",
)

# %% [markdown]
# What arrives are {{input_side_px}} × {{input_side_px}} grey values. The network knows nothing else of her.
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
    caption="The same face: as above, and with 100 % more on each side (margin = 1).",
    alt="Two cut-outs of the portrait with their bars of probabilities.",
)

# %% tags=["hide-input"]
k = network.labels.index(top)
cut_30, cut_100 = (
    faces.crop_face(picture, found[0], margin=m, size=96) for m in (0.3, 1.0)
)
record("wider_30_frac", answer(cut_30)[k])
record("wider_100_frac", answer(cut_100)[k])
record("widest_fear_frac", answer(cut_100)[network.labels.index("fear")])

# %% [markdown]
# **Answer.** It does. In the wide cut-out the network says *fear* ({{widest_fear_frac:.0%}}), and happiness has fallen from
# {{portrait_top_frac:.0%}} to {{wider_100_frac:.0%}}. On the way it even rises: with 30 % more on each side to {{wider_30_frac:.0%}}. Move the slider to see where it turns.
#
# Three things changed at once. The face became *coarser*, because it is drawn with fewer of the 64 × 64 values. It became *smaller* in
# the frame. And there is *something else around it*.
#
# > **Question.** Which of the three is it? We take the first cut-out and make it only coarser; or coarser and smaller, with a border that
# > we choose: plain grey, or its own edge smeared outwards.


# %%
def altered(margin, border):
    """The first cut-out, as coarse as one with this margin, in a frame of 64 × 64."""
    inner = round(64 / (1 + 2 * margin))  # pixels that are left for the face
    first = as_batch(crop.transpose(2, 0, 1)[None])  # (1, 3, 96, 96)
    small = TF.resize(first, [inner, inner], antialias=True)  # (1, 3, inner, inner)
    gap = 64 - inner
    frame = [gap // 2, gap // 2, gap - gap // 2, gap - gap // 2]
    if border == "none":
        cut = TF.resize(small, [64, 64])  # blown up again: coarse, but not small
    elif border == "grey":
        cut = TF.pad(small, frame, fill=128)
    else:
        cut = TF.pad(small, frame, padding_mode="edge")
    return cut[0].numpy().transpose(1, 2, 0)  # (64, 64, 3)


MARGINS = (0.0, 0.3, 0.6, 1.0)  # more on each side, as a part of the side
rows = {
    "cut out\nwider": [
        faces.crop_face(picture, found[0], margin=m, size=96) for m in MARGINS
    ],
    "only\ncoarser": [altered(m, "none") for m in MARGINS],
    "smaller,\ngrey": [altered(m, "grey") for m in MARGINS],
    "smaller,\nsmeared": [altered(m, "smeared") for m in MARGINS],
}

# %% tags=["hide-input"]
named = {title: np.stack([answer(cut) for cut in row]) for title, row in rows.items()}
titles = []
for row in named.values():
    for m, p in zip(MARGINS, row, strict=True):
        other = "" if p.argmax() == k else f": {network.labels[p.argmax()]}"
        titles.append(f"+{m:.0%}{other}\nhappiness {p[k]:.0%}")
photo, coarse, grey, smeared = named.values()
record("wider_60_frac", photo[2, k])
record("coarse_60_frac", coarse[2, k])
record("coarse_100_frac", coarse[3, k])
record("grey_60_frac", grey[2, k])
record("grey_100_frac", grey[3, k])
record("smeared_60_frac", smeared[2, k])
record("smeared_100_frac", smeared[3, k])
inputs = [network_input(cut) for row in rows.values() for cut in row]
figure(
    plots.face_grid(inputs, titles, columns=4, rows=list(rows)),
    "rows",
    "In a column, all faces are equally coarse; in rows 1, 3 and 4 also equally small."
    " Where the network's answer is not happiness, it is named.",
    "Four rows of four grey pictures of one face; the network's answer above each.",
)

# %% [markdown]
# **Answer.** *Not the coarseness alone:* a face that is only coarser keeps {{coarse_60_frac:.0%}} at +60 %, and {{coarse_100_frac:.0%}} at +100 %.
# *The border counts:* at +60 % the face is equally coarse and equally small in three rows, with {{wider_60_frac:.0%}} happiness inside the
# photograph, {{grey_60_frac:.0%}} on grey, and {{smeared_60_frac:.0%}} with smeared edges. *The size seems to count, too:* with each of these
# borders, happiness falls from +60 to +100 % (on grey to {{grey_100_frac:.0%}}); but a smaller face always has more border. **What lies around a
# face can decide what the network says of the face.**
#
# This is one portrait, a hint and not a measurement. But the network has learnt from faces that fill the picture, and whoever uses such a
# network should know how its training pictures were cut.
#
# ## 3 · Where did it look?
#
# A network is a chain of layers. Each layer turns the picture into a stack of maps, coarse pictures of where it found what. *Grad-CAM*
# [@gradcam] takes one layer and asks of each of its maps $A_c$: if it were a little stronger, by how much would the answer's score rise? Call this
# number $w_c$. Then it draws $\mathrm{ReLU}\big(\sum_c w_c A_c\big)$, the sum of the maps with these weights, as far as it is positive. Bright places
# speak for the answer. But which layer should one take?
# The demo of this network's authors takes the third convolution (`conv3`). We add the map of the block that follows (`se`,
# explained in [chapter 10](10_resemotenet.ipynb)).
#
# > **Question.** One network, one picture, one answer. Will two layers show the same places?

# %%
stack = crop.transpose(2, 0, 1)[None]  # (1, 3, 96, 96)
heats = {
    "third convolution": explain.cam(network, stack, layer="conv3"),
    "the next block": explain.cam(network, stack, layer="se"),
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
# **Answer.** Only in part. Both mark the corner of the mouth on the right; beyond that they differ, and the second is brightest at the brow on the
# left. The correlation of the two maps is {{map_correlation_frac:.2f}}, where 1 would be the same pattern and 0 no linear relation. So if you see one such
# map, ask which other ones could have been shown. [Chapter 21](21_where_does_it_look.ipynb) tests whether a map deserves trust, on
# drawn faces, where we know what makes the expression.
#
# ## 4 · How far to trust it
#
# One picture proves nothing. FER2013 [@fer2013] is a set of 35,887 small photographs, found by web search and labelled by people. Our network
# was trained on one part of it and tested on another. What follows is the stored result of that run; FER2013 itself need not be on your
# computer. Some test pictures are also in the training part, pixel for pixel, so there are two results. Each has a **95 % interval**:
# intervals that are made in this way contain the accuracy on *all* such pictures, not just these, 19 times in 20.

# %% tags=["hide-input"]
measured = runs.read_record("resemotenet-teach-fer2013")["test"]
clean = measured["duplicate_clean"]
kinds = {"all test pictures": measured, "those not in training": clean}
frame = pd.DataFrame({"tested on": list(kinds)})
frame["pictures"] = [m["n"] for m in kinds.values()]
frame["accuracy"] = [m["accuracy"] for m in kinds.values()]
rights = {title: round(m["accuracy"] * m["n"]) for title, m in kinds.items()}
ends = [evaluation.wilson(rights[title], m["n"]) for title, m in kinds.items()]
frame["95 % interval"] = [f"{low:.1%} to {high:.1%}" for low, high in ends]
frame["calibration error"] = [measured["ece"], np.nan]
first, second = rights.values()
record("copies_right_n", first - second)
record("test_n", measured["n"])
record("accuracy_frac", measured["accuracy"])
record("clean_frac", clean["accuracy"])
record("copies_n", measured["n"] - clean["n"])
caption = "The network of this chapter on the test part of FER2013 (PublicTest)."
formats = {"accuracy": "{:.1%}", "pictures": "{:,}", "calibration error": "{:.3f}"}
table(frame, "accuracy", caption, formats=formats)
figure(
    plots.recall_bars(measured["confusion"], measured["names"]),
    "recall",
    "Recall of all test pictures: the share of each expression's pictures that got its"
    " name. The rarest expression, disgust, has the widest interval.",
    "Seven bars with intervals; happiness and surprise are the longest.",
)
recall = {name: v for name, v in measured["recall"].items() if v is not None}
record("happiness_recall_frac", recall["happiness"])
record("fear_recall_frac", recall["fear"])
record("calibration_frac", measured["ece"])

# %% [markdown]
# Of the {{copies_n}} test pictures that were also in training, it gets {{copies_right_n}} right: it has seen them with their labels. Of the others it
# gets {{clean_frac:.0%}} right, nearly two of three, and this is the number to believe. Of all test pictures, it finds
# {{happiness_recall_frac:.0%}} of the happy faces and {{fear_recall_frac:.0%}} of the fearful ones. And what does "89 %" mean? On the test pictures,
# when the network says 89 %, it is right about that often: on average, probability and share of right answers are
# 3 percentage points apart (the calibration error of {tab:accuracy}; [chapter 20](20_one_protocol_many_models.ipynb) measures it). For portraits by
# NASA nobody knows. And more basic than any accuracy:
#
# - **An expression is not an emotion.** People smile when they are sad and frown when they think; a face alone does not tell
#   [@barrett]. The network has learnt which label strangers gave to a picture, not what she felt.
# - **The labels disagree.** Ask ten people about one of these pictures, and you often get more than one answer [@ferplus].
# - **We don't know for whom it works.** Nobody wrote down who is in the training pictures.
#
# So use it to learn how such networks work, and never to judge anybody. [Chapter 31](31_what_expressions_are_not.ipynb) says why, at
# length.
#
# ## 5 · How to read this book
#
# **Profiles.** The first cell of code of each notebook holds what you may want to change. One of its names is `PROFILE`:
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
# **Guesses, sliders, exercises.** A wrong guess teaches more than a right answer that was only read. Above each set of sliders stand a few of the
# pictures that it can make. Exercises have a cell that checks your answer, and folded hints and solutions.
#
# **Four papers.** ResEmoteNet [@resemotenet] is the network of this chapter. (Its paper reports {{paper_frac:.2%}} on FER2013. Ours is a quarter
# as wide, was trained in another way, and was tested on another part: the two numbers can't be compared.) The Residual Masking Network [@resmasking] re-weights places, LFNSB [@lfnsb] is small and fast, and *diversified feature
# learning* [@diversity] makes the branches of a network disagree. Chapters 10 to 15 take them apart.
#
# **Three voices.** A paper, the code that its authors publish, and a program written afterwards often differ. So the facts of each paper
# stand in its *ledger*, with a column for each voice and a verdict:

# %%
ledger_table("resemotenet", "seeds", "head")

# %% tags=["hide-input"]
tables = papers.load("resemotenet").tables
table_iv = tables["IV"]
record("paper_frac", tables["III"].cell("ResEmoteNet", "FER2013") / 100)
record("printed_right_frac", table_iv.cell("C5", "accuracy %") / 100)
wrong = 1 - table_iv.cell("C5", "accuracy %") / 100
record("printed_wrong_frac", wrong)
record("least_loss_frac", wrong * np.log(2))
record("printed_loss_frac", table_iv.cell("C5", "loss %") / 100)

# %% [markdown]
# The first fact is *unstated*: the paper leaves it open, and whoever rebuilds the program must guess. In the second, paper and code
# *conflict*: they say different things, and the row adds what speaks for the authors. Other rows *agree*, or are *unverified* because nothing
# public can settle them.
#
# A few are *impossible*: arithmetic excludes them, under a reading that is stated. One of them you can check now. For its network without the first
# residual block, on the data set RAF-DB, the paper prints an accuracy of {{printed_right_frac:.2%}} and beside it a loss of {{printed_loss_frac:.1%}}. Suppose that the loss is 100 times
# the mean {term:cross entropy} on the same pictures. If an answer is wrong, the true label got at most one half, and the picture costs at
# least $\ln 2 = 0.693$. With {{printed_wrong_frac:.2%}} wrong answers, that makes at least
# {{least_loss_frac:.1%}}. So the loss must be something else, or one number is wrong;
# the row ({row:RE-A5}) names two readings that are possible.
#
# The authors of these papers are colleagues of everybody who works in this field. A ledger holds what was printed, what the file says, and
# what we ran, and no guesses about people.
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
mirror = np.ascontiguousarray(crop[:, ::-1])
record("mirror_change_frac", answer(mirror)[k] - probabilities[k])  # exercise 2
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
# `synthetic` are faces that the library draws while you wait. It moves the muscles of a made-up face in the way that
# textbooks describe for each expression. Nobody is shown, and we know the truth about each picture. The others show real people and come with terms that you accept yourself.
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
# If all this is new to you, take 01, 02, [03](03_attention_is_reweighting.ipynb) and 10, in this order.
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
check("pictures it got right (3 more or less will do)", answer_1, right, tolerance=3)

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
# accuracies cannot come from one run on the test set they name ([chapter 10](10_resemotenet.ipynb)).
#
# </details>
#
# ### Exercise 2 · change the code
#
# A mirror shows the same expression. By how much does the probability of happiness change when `crop` is mirrored? Give mirrored minus not
# mirrored, as a fraction.

# %%
answer_2 = None

# %% tags=["hide-input"]
mirror = np.ascontiguousarray(crop[:, ::-1])
difference = float(answer(mirror)[k] - probabilities[k])
check("change by mirroring", answer_2, difference, tolerance=1e-3)

# %% [markdown]
# <details><summary>Hint</summary>
#
# `crop` has the axes height, width, colour; `np.ascontiguousarray(crop[:, ::-1])` turns the second one around. `answer(...)` gives seven probabilities in the order
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
# other readings would make it possible.
#
# </details>
#
# ## What you found
#
# - A network says *happiness*, {{portrait_top_frac:.0%}}, of a portrait. It saw {{input_side_px}} × {{input_side_px}} grey numbers.
# - In a cut-out with 100 % more on each side it falls to {{wider_100_frac:.0%}}. Coarseness alone leaves {{coarse_100_frac:.0%}}; at one and the same
#   size (+60 %), happiness is {{wider_60_frac:.0%}} or {{smeared_60_frac:.0%}}, depending on the border.
# - Grad-CAM at two layers of this network gives two maps whose correlation is {{map_correlation_frac:.2f}}.
# - On {{test_n:,}} test pictures it is right in {{accuracy_frac:.1%}} of cases, and in {{clean_frac:.1%}} of those that are not also in its
#   training set.

# %%
footer()
