# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 01 · Faces, labels, splits
#
# *Look at the data before any network does: what a label says, how many there are of each, and which pictures are in it twice.*
#
# FER2013 [@fer2013] is the data set behind most networks of this book: 35,887 small grey photographs of faces, each with one of
# seven {term:label|labels}. The contest's organisers searched the web for words of emotion, and people then threw out what did not
# fit; the label comes from the search word. Three years later, ten other people voted on every one of these pictures, and all their
# votes were kept; this is FER+ [@ferplus]. {fig:first-six} shows what they said about the **first six pictures of the file**. We do not
# print the photographs, because the people in them were never asked. We can print the votes.

# %% tags=["parameters"]
PROFILE = "teach"  # smoke (seconds) or teach (half a minute on a laptop)
SEED = 0

# %% tags=["hide-input"]
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageOps

from ferkit import data, doctor, evaluation, labels, papers, plots, runs, synthetic
from ferkit.notebook import check, figure, footer, ledger_table, profile, record, table
from ferkit.widgets import doctor_panel, explore

smoke, teach = dict(n_train=700, n_test=250), dict(n_train=4000, n_test=1000)
S = profile(PROFILE, chapter=1, smoke=smoke, teach=teach)
rng = np.random.default_rng(SEED)
EIGHT = labels.order("ferplus")  # FER+ has contempt, too
SEVEN = labels.EMOTIONS[:7]  # neutral and six emotions: FER2013's classes

# %% tags=["hide-input"]
# Rows 1 to 6 of fer2013new.csv (FER+, MIT licence), and FER2013's label of the same row
columns = labels.FERPLUS_COLUMNS
first_six = np.array(
    [
        [4, 0, 0, 1, 3, 2, 0, 0, 0, 0],
        [6, 0, 1, 1, 0, 0, 0, 0, 2, 0],
        [5, 0, 0, 3, 1, 0, 0, 0, 1, 0],
        [4, 0, 0, 4, 1, 0, 0, 0, 1, 0],
        [9, 0, 0, 1, 0, 0, 0, 0, 0, 0],
        [6, 0, 0, 1, 0, 0, 1, 1, 1, 0],
    ]
)
given = ["anger", "anger", "fear", "sadness", "neutral", "fear"]
panels = {
    f"picture {i + 1}": dict(zip(columns[:9], map(int, row[:9]), strict=True))
    for i, row in enumerate(first_six)
}
figure(
    plots.votes_and_labels(panels, labels=given),
    "first-six",
    "Ten votes for each of the first six pictures of FER2013, and FER2013's own label"
    " (shaded, in bold). For pictures 2 and 3 nobody chose the word that is the label.",
    "Six panels of bars, a bar per word; the row of the label is shaded.",
)

# %% [markdown]
# Picture 1 is labelled *anger*: four people said neutral, three said anger. Picture 2 is labelled *anger* as well, and nobody said so.
# Of the six labels, one (picture 5) is the word that more than half of the people chose.
#
# A network will learn whatever the file says. So before we build one, we look at the file: what a label is worth (section 1), what
# makes a face look like a word (2), what happens when labels are read in the wrong order (3), when some classes are rare (4), when
# files are broken (5), and when the same picture is in training and test (6). You need Python, and nothing is trained here.
#
# ## 1 · What a label is worth
#
# > **Question.** Six pictures prove little. We made the same comparison for a whole {term:split} of FER2013 with 3,589 pictures. How
# > often do all ten people agree? And where more than half of them agree on a word, how often is it another word than FER2013's label?

# %% tags=["hide-input"]
crowd = runs.read_record("label-noise-fer2013-public_test")
issues, n = crowd["all"]["issues"], crowd["crowd"]["n"]
unanimous = crowd["crowd"]["unanimous"]["value"]
none = issues["no_majority"] / n
other = issues["disputed"] / n
record("crowd_pictures_n", n)
record("unanimous_frac", unanimous)
record("no_majority_frac", none)
record("overruled_frac", issues["base_rate"]["value"])
two_raters = crowd["crowd"]["two_raters"]["value"]
record("two_raters_frac", two_raters)
agree = {"all ten agree": unanimous, "more than half agree": 1 - none - unanimous}
same = {"the majority chose the label": 1 - none - other, "another word": other}
missing = {"no majority": none}
rows = {"how far they agree": agree | missing, "on which word": same | missing}
figure(
    plots.shares(rows),
    "crowd",
    f"Ten votes for each of the {n:,} pictures of FER2013's public test split. A"
    " majority is more than half of the ten. Another word may also be *contempt* or"
    " *unknown*, which FER2013 does not have. Two of the ten people, picked at random,"
    f" say the same word with a probability of {two_raters:.0%}.",
    "Two bars cut in three parts each.",
)

# %% [markdown]
# **Answer.** All ten agree on {{unanimous_frac:.0%}} of the pictures, and on {{no_majority_frac:.0%}} no word has a majority. Where there is a
# majority, it is another word than the label in {{overruled_frac:.0%}} of the cases. Two people who look at the same picture say the same word with a
# probability of {{two_raters_frac:.0%}}.
#
# This does not mean that {{overruled_frac:.0%}} of the labels are mistakes and the crowd is right. FER2013's label is a search word that people checked;
# FER+'s is a vote. These are two procedures, and they give two answers. A label is **a judgement that somebody made about a picture**. It is not a measurement of what the person felt: people smile
# when they are sad, frown when they think, and differ in how much they show [@barrett].
#
# ### From ten votes to something to train on
#
# What should a network learn from picture 1, with votes 4, 3, 2, 1? FER+ first removes every word that got a single vote, as a slip. That
# leaves four for neutral, three for anger, two for disgust: nine votes. Two of its rules are:
#
# - **Majority**: the word with more than half of what is left. Half of nine is 4.5 and neutral has four, so picture 1 is left out.
# - **Probability**: collect words from the top until three quarters are reached (three words at most). Neutral and anger together have seven of nine, which
#   is enough. Training aims at 4/7 neutral and 3/7 anger.
#
# Removing slips can change the outcome. Picture 3 has five of ten votes for neutral, which {fig:crowd} counts as no majority. FER+ removes
# its two single votes, and five of the remaining eight are a majority.

# %%
majority, word = data.ferplus.vote_targets(first_six, "majority")
target, _ = data.ferplus.vote_targets(first_six, "probability")


# %% tags=["hide-input"]
def in_words(row):
    """The words of a target, the most probable first."""
    best = [k for k in np.argsort(-row, kind="stable") if row[k] > 0]
    return ", ".join(f"{EIGHT[k]} {row[k]:.0%}" for k in best) or "left out"


by_majority = [EIGHT[k] if k >= 0 else "left out" for k in word]
same = [a == b for a, b in zip(by_majority, given, strict=True)]
record("majority_is_label_n", sum(same))
frame = pd.DataFrame(
    {
        "picture": range(1, 7),
        "FER2013's label": given,
        "FER+: majority": by_majority,
        "FER+: probability": [in_words(row) for row in target],
    }
)
caption = (
    "Three ways to label the same six pictures. By FER+'s majority four of them are"
    " neutral and two are left out; FER2013's own labels call one neutral."
)
table(frame, "rules", caption)

# %% [markdown]
# By majority, two of the six pictures are left out; by probability, none. So two networks "trained on FER+" need not have seen the same pictures. An accuracy
# against FER2013's labels and one against FER+'s are two different quantities, even on the same photographs.
#
# ## 2 · From muscles to a word
#
# Now you are the {term:rater}. These faces are drawn, so nobody is exposed, and we know exactly what was drawn.
#
# > **Question.** Give each face one of the seven words of FER2013: neutral, happiness, sadness, surprise, fear, disgust, anger. Write
# > them down before you read on.

# %% tags=["hide-input"]
view = dict(yaw=(-8, 8), pitch=(-4, 4), roll=(-5, 5), light=(15, 25), noise=0, blur=0)
view |= dict(identity={"skin": (0.1, 0.5)}, occluders="none", colour="rgb")
many = synthetic.make_faces(60, size=240, seed=21, **view)
chosen = [18, 48, 13, 14, 16, 59]
titles = [f"face {k}" for k in range(1, 7)]
figure(
    plots.face_grid(many.images[chosen], titles, columns=3, size=2.5),
    "quiz",
    "Six drawn faces. Which of the seven words would you write under each?",
    "Six large drawn faces: three with parted lips, three with closed lips.",
)

# %% [markdown]
# Muscles under the skin move a face. The Facial Action Coding System [@facs] describes a face by **{term:action unit|action
# units}** (AU): each is the visible trace of one muscle or a few, with a strength. It says *inner brow raised, lips parted*. It does not
# say *afraid*. These are the units with which we drew the six faces:

# %% tags=["hide-input"]
rows = []
for i in chosen:
    units = dict(zip(synthetic.AU_NAMES, many.aus[i], strict=True))
    strong = sorted((au for au in units if units[au] >= 0.2), key=lambda au: -units[au])
    what = [f"{synthetic.AU_DESCRIPTIONS[au]} ({au}) {units[au]:.1f}" for au in strong]
    rows.append((many.names[many.true_labels[i]], ", ".join(what) or "none above 0.2"))
frame = pd.DataFrame(rows, columns=["drawn as", "action units, strength from 0 to 1"])
frame.insert(0, "face", range(1, 7))
table(frame, "drawn-as", "What was drawn. Units below 0.2 are left out.")

# %% [markdown]
# **Answer.** Fear, happiness, surprise, neutral, sadness, anger ({tab:drawn-as}). If you read faces 1 and 2 as the same smile, look at the corners of
# the mouth: in face 1 the lips are *stretched* sideways (AU20), in face 2 they are *pulled up* (AU12). Most of
# these expressions are weak: only in face 5 is a unit above half of its full strength.
#
# The makers of the system also listed, for each emotion, combinations of units that people often read as its word. We took one list per word
# for our drawings and call it the **prototype**. The strengths are our own choice. The prototype of neutral has no units. A prototype
# says how a face is *read*. Whether people who feel the emotion show it is another question, and the evidence for it is weak [@barrett].
# A drawn face may also have a unit more or less than its prototype: face 1 drops its jaw (AU26), which {fig:prototypes} does not list for fear.

# %% tags=["hide-input"]
PROTOTYPES = {word: synthetic.PROTOTYPES[word] for word in SEVEN}
used = [au for au in synthetic.AU_NAMES if any(au in p for p in PROTOTYPES.values())]
strength = np.array([[PROTOTYPES[word].get(au, 0) for au in used] for word in SEVEN])
rows_shown = [f"{au}  {synthetic.AU_DESCRIPTIONS[au]}" for au in used]
figure(
    plots.number_table(strength.T, rows_shown, SEVEN, inches=(7.4, 4.6)),
    "prototypes",
    "The prototype of each word, a column each: which units, and how strong. Compare"
    " the columns of surprise and fear.",
    "A matrix of fifteen action units and seven words with strengths.",
)

# %% [markdown]
# > **Question.** Which two words share the most units?

# %%
shared = {
    (a, b): len(PROTOTYPES[a].keys() & PROTOTYPES[b].keys())
    for i, a in enumerate(SEVEN)
    for b in SEVEN[i + 1 :]
}
for (a, b), n_units in sorted(shared.items(), key=lambda item: -item[1]):
    if n_units > 1:
        print(f"{a} and {b} share {n_units}")

# %% tags=["hide-input"]
record("surprise_fear_shared_n", shared["surprise", "fear"])

# %% [markdown]
# **Answer.** Surprise and fear. They share {{surprise_fear_shared_n}}: inner and outer brows raised, upper lids raised, lips parted.
#
# How close is a face to a prototype? Write the strengths of all units as two lists of numbers, and take the cosine of the angle
# between them. A small example with two units, AU6 and AU12: the prototype of happiness is (0.8, 1.0). A weak smile (0.4, 0.5) has the
# same proportions, so its cosine is 1. A face with AU6 alone, (0.4, 0), has the cosine $0.8 / \sqrt{0.8^2 + 1.0^2} = 0.62$. (For
# neutral, a list of zeros, there is no angle, so it has no bar below.)


# %%
def likeness(units):
    """Cosine between a face's units and the prototype of each of the six emotions."""
    face = np.array([units.get(au, 0.0) for au in used])
    ideal = strength[1:]  # without neutral, which is the first
    lengths = np.linalg.norm(ideal, axis=1) * np.linalg.norm(face)
    return ideal @ face / np.maximum(lengths, 1e-9)


# %% tags=["hide-input"]
def compose(AU4=0.7, AU7=0.5, AU20=0.9, AU26=0.0, AU12=0.0):
    """A face that begins as fear, and how close it is to each prototype."""
    units = PROTOTYPES["fear"] | dict(AU4=AU4, AU7=AU7, AU20=AU20, AU26=AU26, AU12=AU12)
    with plots.style():
        picture = plots.Figure(figsize=(3.9, 2.1), layout="constrained")
        left, right = picture.subplots(1, 2, width_ratios=(1, 1.15))
        face = synthetic.face_from_action_units(units, seed=3, size=160, colour="rgb")
        left.imshow(face.transpose(1, 2, 0))
        left.axis("off")
        values = likeness(units)
        bars = right.barh(SEVEN[1:], values, color=[plots.colour(w) for w in SEVEN[1:]])
        right.bar_label(bars, [f"{v:.2f}" for v in values], padding=2)
        right.set(xlim=(0, 1.3), xticks=[0, 1], xlabel="cosine", ylim=(5.6, -0.6))
    return picture


explore(
    compose,
    **dict.fromkeys(["AU4", "AU7", "AU20", "AU26", "AU12"], (0.0, 1.0, 0.1)),
    strip=[
        dict(AU20=0.9),
        dict(AU20=0.0),
        dict(AU20=0.0, AU4=0.0),
        dict(AU20=0.0, AU4=0.0, AU26=0.9),
    ],
    name="compose",
    caption="From fear to surprise in three steps: stop stretching the lips (AU20),"
    " stop lowering the brows (AU4), drop the jaw (AU26).",
    alt="Four faces with bars: fear leads in the first, surprise in the last.",
)

# %% tags=["hide-input"]
fear = PROTOTYPES["fear"]
two_steps = likeness(fear | dict(AU20=0.0, AU4=0.0))
record("two_steps_fear_ratio", two_steps[SEVEN[1:].index("fear")])
record("two_steps_surprise_ratio", two_steps[SEVEN[1:].index("surprise")])

# %% [markdown]
# After two steps the face is about as close to fear ({{two_steps_fear_ratio:.2f}}) as to surprise ({{two_steps_surprise_ratio:.2f}}). Nothing in the picture
# says which word is right there.
#
# > **Question.** Move it yourself: begin again with fear, and bring the face as near to anger as these five controls allow. Can you make it
# > as close to anger as to fear?

# %%
nearest = likeness(PROTOTYPES["fear"] | dict(AU20=0.0, AU4=1.0, AU7=1.0))
print({word: round(float(v), 2) for word, v in zip(SEVEN[1:], nearest, strict=True)})

# %% tags=["hide-input"]
record("anger_fear_ratio", nearest[SEVEN[1:].index("fear")])
record("anger_anger_ratio", nearest[SEVEN[1:].index("anger")])

# %% [markdown]
# **Answer.** No. With the lips relaxed (AU20 at 0), the brows lowered and the lids tightened (AU4 and AU7 at 1), the face reaches
# {{anger_anger_ratio:.2f}} for anger, but fear is still at {{anger_fear_ratio:.2f}}. The raised brows (AU1, AU2) of fear have no control here, and neither
# have the tightened lips (AU23) of anger.
#
# ## 3 · A label is a number, and numbers come in orders
#
# In a file the word is a number, and every data set counts in its own order. FER2013 counts from anger = 0. ResEmoteNet [@resemotenet]
# is a network for facial expressions which [notebook 10](10_resemotenet.ipynb) takes apart; its released code counts from happiness = 0. **By hand**: in FER2013, 3 means happiness; in that network
# happiness is 0; so a label 3 becomes 0. For a whole file at once, we index a small table with the labels:

# %% tags=["nbval-check-output"]
written = np.array([3, 3, 6, 0, 1, 5])  # labels as FER2013's file has them
translation = np.array(labels.index_map("fer2013", "resemotenet"))
print("words       ", [labels.order("fer2013")[k] for k in written])
print("translation ", translation.tolist())
print("new labels  ", translation[written].tolist())

# %% [markdown]
# What if somebody forgets the translation? Suppose you sort the pictures of FER2013 into folders named anger, disgust, fear and so
# on, and let a program number the folders. Programs sort folders by the alphabet. Then you read the numbers as FER2013's.
#
# > **Question.** How many labels are still right: none, one in seven, half?

# %%
# The contest's counts, by split: our notes on ResEmoteNet keep them beside its own
official = papers.load("resemotenet").tables["fer2013"]


def per_class(split):
    """FER2013's images per class, as the contest published them."""
    counts = official.numbers(split)
    return {labels.canonical(w): n for w, n in counts.items() if w != "Total"}


train_counts, test_counts = per_class("Training"), per_class("PrivateTest")


def still_right(written, read, counts):
    """Share of labels that survive being written in one order and read in another."""
    pairs = zip(labels.order(written), labels.order(read), strict=True)
    return sum(counts[a] for a, b in pairs if a == b) / sum(counts.values())


# %% tags=["hide-input"]
ORDERS = {"the alphabet": "papers", "FER2013": "fer2013", "RAF-DB": "rafdb"}
ORDERS |= {"AffectNet": "affectnet7", "ResEmoteNet": "resemotenet"}


def misread(written="papers", read="fer2013"):
    """What each number means, and what it is taken for."""
    both = {"means": labels.order(written), "is taken for": labels.order(read)}
    return plots.word_columns(both, inches=(3.7, 3.1), ylabel="number")


record("folders_right_frac", still_right("papers", "fer2013", train_counts))
record("rafdb_right_frac", still_right("fer2013", "rafdb", train_counts))
explore(
    misread,
    written=ORDERS,
    read=ORDERS,
    strip=[
        dict(written="papers", read="fer2013"),
        dict(written="fer2013", read="rafdb"),
    ],
    name="misread",
    caption="Numbers that are read in another order than they were written in, on"
    " FER2013's training labels. Count the rows in which both words agree.",
    alt="Two pairs of columns of emotion words; four rows agree in the first pair.",
)

# %% [markdown]
# Four rows agree in the first pair of orders, three in the second. So the second should keep fewer labels right. Does it? We count images
# instead of rows:

# %%
print(f"four rows:  {still_right('papers', 'fer2013', train_counts):.1%}")
print(f"three rows: {still_right('fer2013', 'rafdb', train_counts):.1%}")

# %% [markdown]
# **Answer.** About half: {{folders_right_frac:.0%}} of the labels are right when folders are numbered by the alphabet. With only three rows, RAF-DB's order
# keeps more, {{rafdb_right_frac:.0%}}. The rows are not equally full. Both pairs agree on happiness, the largest class. The other three rows of the first
# pair are anger, fear and disgust, and disgust has few images; the other two of the second are sadness and neutral, which are both large.
#
# Half is the dangerous case. If nothing is right, everybody looks for the fault at once. If half of the labels are right, the network
# learns something, its accuracy looks mediocre, and you may blame the network. (An order that is wrong in the *same* way in training and in
# testing does no harm to the accuracy: the classes only swap their names. Harm is done where two orders meet: training pictures and test
# pictures, or a network's outputs and the names that are printed beside them.)
#
# A mixed-up order can happen in print, too. The paper on ResEmoteNet prints how many pictures of each class FER2013's test split has (the contest
# had a public and a private one; this is the private one):

# %% tags=["hide-input"]
table_ii = papers.load("resemotenet").tables["II"].numbers("FER2013 test")
shown = {labels.canonical(w): n for w, n in table_ii.items() if w != "Total"}
frame = pd.DataFrame({"the contest's file": test_counts, "printed in the paper": shown})
wrong = (frame["the contest's file"] != frame["printed in the paper"]).sum()
record("printed_elsewhere_n", wrong)
record("printed_total_n", sum(shown.values()))
table(frame.reset_index(names="class"), "printed", "Test images of FER2013 by class.")

# %% [markdown]
# > **Question.** How many rows differ, and what happened to them?
#
# **Answer.** {{printed_elsewhere_n}} rows differ, and each printed number is the true number of another class: disgust and surprise are exchanged, fear and
# neutral, happiness and sadness. The total, {{printed_total_n:,}}, is right, so adding up does not find the slip.
#
# For every paper it studies, this book keeps a **ledger**: where paper, released code and our own code differ, one row says what each of
# them does, why it matters, and what can be said for the authors. Here is the row for this table. "Issue #32" is a discussion in the public
# repository of the authors' code, and "a loader" is our function that reads FER2013: it warns if a copy has other counts.

# %%
ledger_table("resemotenet", "A2")

# %% [markdown]
# ## 4 · Unequal classes
#
# The classes of FER2013 have very different sizes, and those of other data sets have, too. {tab:imbalance} shows the training images of four data sets:
# FER2013, RAF-DB [@rafdb], AffectNet [@affectnet] and ExpW [@expw] (all of ExpW, which has no official split). AffectNet has contempt
# as an eighth class; we leave it out, so that all rows have the same seven classes.

# %% tags=["hide-input"]
sets = {"FER2013": "fer2013", "RAF-DB": "rafdb"}
sets |= {"AffectNet": "affectnet", "ExpW": "expw"}
rows = []
for title, key in sets.items():
    published = synthetic.action_units.IMBALANCES[key]
    counts = {word: published[word] for word in SEVEN}
    most, least = max(counts, key=counts.get), min(counts, key=counts.get)
    total = f"{sum(counts.values()):,}"
    ratio = counts[most] / counts[least]
    ends = [f"{word}: {counts[word]:,}" for word in (most, least)]
    rows.append((title, total, *ends, ratio))
    record(f"imbalance_{key}_ratio", ratio)
names = ["set", "images", "largest class", "smallest class", "ratio"]
frame = pd.DataFrame(rows, columns=names)
caption = "The largest and the smallest class of the training images, and their ratio."
table(frame, "imbalance", caption, formats={"ratio": "{:.1f}"})

# %% [markdown]
# > **Question.** A classifier says *happiness*, whatever it sees. What is its {term:accuracy} on FER2013's private test split? Is it a
# > seventh?

# %%
order = labels.order("fer2013")
truth = np.repeat(np.arange(7), [test_counts[word] for word in order])
always = np.zeros((len(truth), 7))
always[:, order.index("happiness")] = 1  # probability 1 for happiness, every time
scores = evaluation.evaluate(always, truth, order, n_bootstrap=100)
print(f"accuracy {scores['accuracy']:.1%}")
print(f"balanced accuracy {scores['balanced_accuracy']:.1%}")

# %% tags=["hide-input"]
record("always_accuracy_frac", scores["accuracy"])
record("always_balanced_frac", scores["balanced_accuracy"])

# %% [markdown]
# **Answer.** {{always_accuracy_frac:.1%}}, because about a quarter of the pictures are happy. Its {term:balanced accuracy} is
# {{always_balanced_frac:.1%}}, a seventh: this is the mean of the seven {term:recall|recalls}, and the recall of a class is the share of its
# pictures that were recognised. Here one recall is 1 and six are 0.
#
# Now the opposite: a classifier that recognises 70 % of every class, except for one class that it never says. What does this cost?

# %% tags=["hide-input"]
total = sum(test_counts.values())
lost = {word: 70 * test_counts[word] / total for word in order}
record("never_disgust_points", lost["disgust"])
record("never_happiness_points", lost["happiness"])
with plots.style():
    picture = plots.Figure(figsize=(7.4, 2.6), layout="constrained")
    ax = picture.subplots()
    rows = [f"never {word}" for word in order]
    bars = ax.barh(rows, list(lost.values()), color=[plots.colour(w) for w in order])
    white = dict(facecolor="white", edgecolor="none", pad=1)
    values = [f"{v:.1f}" for v in lost.values()]
    ax.bar_label(bars, values, label_type="center", bbox=white)
    ax.axvline(10, color="#606060", linestyle="--", linewidth=1, zorder=0)
    ax.set(ylim=(6.6, -0.6), xlim=(0, 20), xlabel="percentage points of accuracy lost")
    ax.set_xticks([0, 5, 10, 15, 20])
    ax.text(10.2, 1.0, "balanced accuracy loses 10", va="center", fontsize=9)
figure(
    picture,
    "never",
    "A classifier that recognises 70 % of every class, except for one class that it"
    " never says. Bars: what this costs in accuracy on FER2013's private test split.",
    "Seven bars from 1.1 points for disgust to 17.1 for happiness; a line at 10.",
)

# %% [markdown]
# A network that gives up disgust loses {{never_disgust_points:.1f}} points of accuracy; one that gives up happiness
# loses {{never_happiness_points:.1f}}. In balanced accuracy both lose a seventh of 70, which is 10. If you choose networks by accuracy alone, you may
# end up with one that has never said *disgust*, and the number will not tell you.
#
# A rare class is also hard to measure. There are {{disgust_test_n}} test images of disgust. Suppose a network recognises 38 of them. How well is
# its recall known? Wilson's method gives a 95 % interval for a share:

# %%
n_disgust = test_counts["disgust"]
low, high = evaluation.wilson(38, n_disgust)
print(f"recall {38 / n_disgust:.0%}, 95 % interval {low:.0%} to {high:.0%}")

# %% tags=["hide-input"]
record("disgust_test_n", test_counts["disgust"])
record("disgust_low_frac", low)
record("disgust_high_frac", high)

# %% [markdown]
# On 55 pictures, a recall is known to about ten points in either direction.
#
# ## 5 · Spoil a data set, and call the doctor
#
# Before you train on pictures that somebody gave you, let the **doctor** look at them. To see what it notices, we write drawn faces
# into folders, one folder per class, as such data sets are often stored, and spoil a fresh copy in a different way each time.


# %%
def write(place):
    """Write 98 training and 42 test faces into folders; return their paths."""
    faces = synthetic.make_faces(140, size=48, seed=SEED + 5)
    paths = []
    for i, (image, k) in enumerate(zip(faces.images, faces.labels, strict=True)):
        path = Path(place, "train" if i < 98 else "test", faces.names[k], f"{i:03}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
        paths.append(path)
    return paths


def spoil(paths, fault):
    """Do one thing wrong."""
    first, last = paths[0], paths[-1]  # a training picture and a test picture
    train = last.parents[2] / "train"
    into = train / last.parent.name / "new.png"  # training folder of the same word
    if fault == "a test picture is copied into training":
        into.write_bytes(last.read_bytes())
    elif fault == "the same, mirrored":
        ImageOps.mirror(Image.open(last)).save(into)
    elif fault == "the same, two pixels cut off on each side, scaled back":
        Image.open(last).crop((2, 2, 46, 46)).resize((48, 48)).save(into)
    elif fault == "a training picture is copied, with another label":
        (paths[1].parent / "new.png").write_bytes(first.read_bytes())
    elif fault == "a file breaks off":
        first.write_bytes(first.read_bytes()[:200])
    elif fault == "a folder's name is misspelt":
        (train / "happiness").rename(train / "hapiness")


def examine(fault):
    """What the doctor finds in a fresh copy with this fault."""
    with tempfile.TemporaryDirectory() as place:
        spoil(write(place), fault)
        return doctor.examine(Path(place), progress=False).findings


# %% [markdown]
# > **Question.** Six faults are written out above. Which of them will the doctor miss?

# %%
FAULTS = [
    "a test picture is copied into training",
    "the same, mirrored",
    "the same, two pixels cut off on each side, scaled back",
    "a training picture is copied, with another label",
    "a file breaks off",
    "a folder's name is misspelt",
]
found = {fault: examine(fault) for fault in ["nothing", *FAULTS]}

# %% tags=["hide-input"]
rows = []
for fault, findings in found.items():
    heads = [f.sentence.split(";")[0].split(": ")[0] for f in findings]
    said = [f"{f.severity}: {head}" for f, head in zip(findings, heads, strict=True)]
    rows.append((fault, " · ".join(said) or "nothing wrong found"))
record("faults_n", len(FAULTS))
record("faults_found_n", sum(bool(found[fault]) for fault in FAULTS))
frame = pd.DataFrame(rows, columns=["what was done", "what the doctor finds"])
table(frame, "doctor", "Each row is a fresh copy with one fault.")

# %% [markdown]
# **Answer.** It finds {{faults_found_n}} of {{faults_n}} and misses the picture that was cut. To find copies, the doctor compares pictures place by place. Cutting and
# scaling moves what is near the edge by two pixels, and that is too far for this tool. So the number of copies that a tool finds is a lower bound.
#
# With a data set of your own: `python -m ferkit doctor PATH` in a terminal, or the panel at the end of this chapter.
#
# ## 6 · What is a copy worth?
#
# How does one find equal pictures among many thousands? Comparing every picture with every other takes a time that grows with the square of their number. Instead one computes a short
# fingerprint of every picture, a {term:hash}, which is equal for equal pixels, and compares fingerprints:

# %% tags=["nbval-check-output"]
a = np.zeros((48, 48), np.uint8)
b, c = a.copy(), a.copy()
c[0, 0] = 1  # one pixel, one grey value
first, second, third = data.image_hashes(np.stack([a, b, c]))
print("equal pictures, equal hash:", bool(first == second))
print("one grey value changed, equal hash:", bool(first == third))

# %% [markdown]
# In a web search the same photograph can come up twice, and FER2013's makers did not remove all of these. Such
# {term:duplicate|duplicates} across splits are a {term:leak}: an exam question that was among the exercises. How a network does on them we can read from a
# record of ours. We trained ResEmoteNet at a quarter of its width on FER2013's training split, copies included (its weights come with this book):

# %% tags=["hide-input"]
measured = runs.read_record("resemotenet-teach-fer2013")["test"]
rest = measured["duplicate_clean"]
n_copies = measured["n"] - rest["n"]
right = measured["accuracy"] * measured["n"] - rest["accuracy"] * rest["n"]
record("copies_n", n_copies)
record("published_copies_frac", right / n_copies)
record("published_rest_frac", rest["accuracy"])
record("published_gap_points", 100 * (right / n_copies - rest["accuracy"]))
which = ["pixel for pixel also a training picture", "the other test pictures"]
accuracies = [right / n_copies, rest["accuracy"]]
frame = pd.DataFrame({"": which, "n": [n_copies, rest["n"]], "accuracy": accuracies})
caption = "One network, trained with the copies, on FER2013's public test split."
table(frame, "published", caption, formats={"accuracy": "{:.1%}", "n": "{:,}"})

# %% [markdown]
# The two accuracies are {{published_gap_points:.0f}} points apart. Is that what a copy is worth?
#
# These two numbers can't tell, because they are about *different pictures*. Perhaps the copies are easier than the rest. What we need is a
# **control**: the same pictures, judged by somebody who has never seen them.
#
# ### A learner that only remembers
#
# We begin with a learner for which a copy must be worth a lot. *Nearest neighbour* looks for the training picture with the most similar
# grey values and repeats its label. It knows nothing about expressions.


# %%
def vectors(images):
    """Pictures as rows of grey values, each with mean 0 and length 1."""
    x = images.reshape(len(images), -1).astype(np.float32)
    x = x - x.mean(1, keepdims=True)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def remember(train, test):
    """For each test picture: has the most similar training picture its label?"""
    similar = vectors(test.images) @ vectors(train.images).T  # (test, train), cosines
    return train.labels[similar.argmax(1)] == test.labels


# %% [markdown]
# Drawn faces have no copies, so we plant some: a tenth of the test faces, with their right labels, also go into a second training set.

# %%
drawn = dict(n_train=S.n_train, n_test=S.n_test, size=48, imbalance="fer2013")
faces = data.load("synthetic", seed=SEED, **drawn)
without, test = faces.select("train"), faces.select("test")
planted = np.isin(np.arange(len(test)), rng.permutation(len(test))[: len(test) // 10])
both = np.flatnonzero(faces.split == "train").tolist()
both += np.flatnonzero(faces.split == "test")[planted].tolist()
with_copies = faces.subset(np.array(both))  # training pictures and planted copies

right_never, right_saw = remember(without, test), remember(with_copies, test)

# %% tags=["hide-input"]
def groups(copies):
    """The test pictures that are copies, the others, and all."""
    parts = [copies, ~copies, copies | ~copies]
    names = ["the copies", "the other test pictures", "all"]
    return {f"{t}, n = {m.sum():,}": m for t, m in zip(names, parts, strict=True)}


kinds = {"never saw the copies": right_never, "has seen them": right_saw}
rows = {
    title: {kind: [right[chosen].mean()] for kind, right in kinds.items()}
    for title, chosen in groups(planted).items()
}
record("planted_n", planted.sum())
record("memory_never_frac", right_never[planted].mean())
record("memory_saw_frac", right_saw[planted].mean())
record("memory_never_all_frac", right_never.mean())
record("memory_saw_all_frac", right_saw.mean())
record("memory_gain_points", 100 * (right_saw.mean() - right_never.mean()))
figure(
    plots.dumbbells(rows, xlabel="accuracy of nearest neighbour, drawn faces"),
    "memory",
    "The same test pictures, judged by two nearest-neighbour learners that differ only"
    " in whether the copies were among their training pictures. On all pictures:"
    f" {right_never.mean():.1%} and {right_saw.mean():.1%}.",
    "Three rows of two dots: far apart on the copies, close on the others.",
)

# %% [markdown]
# If it has never seen the copies, it is right on {{memory_never_frac:.0%}} of them, no more often than somebody who always says
# *happiness* (the drawn classes have FER2013's proportions). If it has seen
# them, it is right on {{memory_saw_frac:.0%}}. The pictures are the same, so the whole difference comes from having seen them. On all test pictures together
# this raises the accuracy from {{memory_never_all_frac:.1%}} to {{memory_saw_all_frac:.1%}}, by {{memory_gain_points:.1f}} points.
#
# ### Networks on real faces
#
# The same experiment with networks on FER2013 takes more than an hour, so we ran it beforehand. The network is again ResEmoteNet, now at an
# eighth of its width (1.2 million weights), and training goes through the pictures only {{epochs_n}} times. We trained it from {{seeds_n}} seeds with the training
# set as it is, and from the same {{seeds_n}} seeds without those training pictures that are also in the test split.

# %%
shelf = runs.read_shelf("resemotenet-copies")
saw, never = shelf.select({"drop_leaked": False}), shelf.select({"drop_leaked": True})
copies = ~saw.clean[0]  # test pictures that are also training pictures

# %% tags=["hide-input"]
gap_saw = saw.right[:, copies].mean(1) - saw.right[:, ~copies].mean(1)  # seed by seed
gap_never = never.right[:, copies].mean(1) - never.right[:, ~copies].mean(1)
record("seeds_n", len(saw.right))
record("epochs_n", shelf.record["recipe"]["epochs"])
record("network_saw_frac", saw.right[:, copies].mean())
record("network_saw_rest_frac", saw.right[:, ~copies].mean())
record("saw_gap_points", 100 * gap_saw.mean())
print(f"networks that have seen the copies, mean of {len(saw.right)} seeds:")
print(f"  accuracy on the copies           {saw.right[:, copies].mean():.1%}")
print(f"  accuracy on the other pictures   {saw.right[:, ~copies].mean():.1%}")
print(f"  gap                              {100 * gap_saw.mean():.1f} points")

# %% [markdown]
# > **Question.** Networks that have seen the copies are {{saw_gap_points:.0f}} points better on them than on the rest. How large is this gap for the
# > networks that have never seen a copy: nothing, a third of that, or more than half?

# %% tags=["hide-input"]
record("network_never_frac", never.right[:, copies].mean())
record("network_rest_frac", never.right[:, ~copies].mean())
record("easier_points", 100 * gap_never.mean())
record("easier_least_points", 100 * gap_never.min())
record("easier_most_points", 100 * gap_never.max())
record("spread_points", 100 * np.ptp(never.right.mean(1)))
low, high = evaluation.wilson(round(never.right[:, copies].mean() * n_copies), n_copies)
record("never_low_frac", low)
record("never_high_frac", high)
rows = []
for title, chosen in groups(copies).items():
    both = [s.right[:, chosen].mean(1) for s in (never, saw)]
    means = [f"{each.mean():.1%}" for each in both]
    ranges = [f"{100 * e.min():.1f} to {100 * e.max():.1f}" for e in both]
    cells = [f"{m} ({r})" for m, r in zip(means, ranges, strict=True)]
    rows.append((title, *cells))
names = ["test pictures", "never saw the copies", "have seen them"]
caption = f"Accuracy of networks: mean of {len(saw.right)} seeds (lowest to highest)."
table(pd.DataFrame(rows, columns=names), "networks", caption)

# %% [markdown]
# **Answer.** More than half: {{easier_points:.0f}} of {{saw_gap_points:.0f}} points ({{easier_least_points:.0f}} to {{easier_most_points:.0f}}, by seed). Networks that never saw
# a copy are right on {{network_never_frac:.0%}} of these pictures and on {{network_rest_frac:.0%}} of the rest. This is not the luck of {{copies_n}} pictures: an accuracy of
# {{network_never_frac:.0%}} on so few has a 95 % interval (Wilson) of {{never_low_frac:.0%}} to {{never_high_frac:.0%}}, all of it above {{network_rest_frac:.0%}}. So the copies seem to be **easier pictures**. (We
# have not checked two other reasons: another mixture of classes, and near-copies in training that an exact comparison does not find.)
#
# And the remaining points? For them we compare network with network, on the same pictures and from the same seed. {fig:networks} shows the differences.

# %% tags=["hide-input"]
series = {"interval over seeds": {}, "interval over pictures": {}}
gains = []
for title, chosen in groups(copies).items():
    gain = runs.compare(saw, never, images=chosen)  # seed by seed
    gains.append(gain)
    mean, each = 100 * gain["accuracy"], [100 * d for d in gain["each"]]
    by_seed, by_picture = (
        [100 * end for end in gain[key]] for key in ("seeds_interval", "interval")
    )
    series["interval over seeds"][title] = (mean, *by_seed, each)
    series["interval over pictures"][title] = (mean, *by_picture)
record("seen_points", 100 * gains[0]["accuracy"])
record("rest_points", 100 * gains[1]["accuracy"])
record("all_points", 100 * gains[2]["accuracy"])
record("whole_points", 100 * gains[0]["accuracy"] * copies.mean())
record("seen_seeds_low_points", 100 * gains[0]["seeds_interval"][0])
record("seen_seeds_high_points", 100 * gains[0]["seeds_interval"][1])
record("seen_images_low_points", 100 * gains[0]["interval"][0])
record("seen_images_high_points", 100 * gains[0]["interval"][1])
record("seen_least_points", 100 * min(gains[0]["each"]))
record("seen_most_points", 100 * max(gains[0]["each"]))
figure(
    plots.forest(series, xlabel="gain from having seen the copies, percentage points"),
    "networks",
    "Accuracy of networks that have seen the copies, less that of networks from the"
    " same seed that have not. Small dots: one seed each. Bars: 95 % intervals, for two"
    " questions: what would other seeds give, and what would other pictures give?",
    "Three rows; on the copies the interval over seeds is wide and crosses zero.",
)

# %% [markdown]
# Having seen the copies goes with {{seen_points:+.1f}} points on them, and the seeds disagree: {{seen_least_points:+.1f}} to {{seen_most_points:+.1f}}. For these very
# networks the difference is clear, {{seen_images_low_points:+.1f}} to {{seen_images_high_points:+.1f}} over pictures. For networks from other seeds, three seeds give an
# interval of {{seen_seeds_low_points:+.1f}} to {{seen_seeds_high_points:+.1f}}, which contains 0. **Three seeds do not settle how much such a network remembers.**
#
# On the whole split this hardly shows. {{copies_n}} of {{crowd_pictures_n:,}} pictures are copies, so {{seen_points:.1f}} points on them are {{whole_points:.1f}} points of the whole
# accuracy. Here {{rest_points:+.1f}} on the other pictures, where there was nothing to remember, nearly cancels them: together {{all_points:+.1f}}. {tab:networks} has the spread of
# networks that differ only in their seed: {{spread_points:.1f}} points from the lowest to the highest among those that never saw a copy.
#
# So a gap between copies and other pictures does not say how much a network remembers. That holds for the larger network of {tab:published}, too,
# because it has no control; we don't know what part of its {{published_gap_points:.0f}} points is memory. In this book we report two accuracies on FER2013: on all test
# pictures, so that you can compare with published results, and without the copies.
#
# ### Splitting without a leak
#
# When you split off a {term:validation set} yourself, keep copies together. `carve_validation` treats equal pictures as one group, and
# takes the same share of every class. Here it is beside a random choice, on a training set to which we add a second copy of every tenth picture:

# %%
train = faces.select("train")
twice = np.concatenate([np.arange(len(train)), np.arange(0, len(train), 10)])
doubled = train.subset(twice)
held_out = rng.permutation(len(doubled))[: len(doubled) // 10]
names = np.where(np.isin(np.arange(len(doubled)), held_out), "validation", "train")
at_random = data.FaceSet(
    images=doubled.images, labels=doubled.labels, names=doubled.names, split=names,
    name="at random", source="", sha256="",
)
carved = data.carve_validation(doubled, fraction=0.1, seed=SEED)
crossing = {
    title: int(data.duplicate_mask(split, "validation", "train").sum())
    for title, split in (("at random", at_random), ("carve_validation", carved))
}
print("validation pictures that are also in training:", crossing)

# %% tags=["hide-input"]
record("crossing_random_n", crossing["at random"])
record("crossing_carved_n", crossing["carve_validation"])

# %% [markdown]
# At random {{crossing_random_n}} copies end up on both sides; with `carve_validation` {{crossing_carved_n}} do. The same idea holds for versions that you make yourself:
# **split first, augment afterwards**. [Notebook 23](23_leak_laboratory.ipynb) shows what happens in the other order.
#
# ## Exercises
#
# **Exercise 1 (by hand).** A colleague sends you FER2013's training labels without saying in which order they are. These are the counts
# of the numbers 0 to 6. Which of the orders is it: `"fer2013"`, `"rafdb"`, `"affectnet7"` (AffectNet without contempt), `"resemotenet"`, or
# `"papers"` (the alphabet)?

# %% tags=["hide-input"]
pick = np.random.default_rng([SEED, 1]).integers(3)
secret = ["rafdb", "affectnet7", "resemotenet"][pick]
mystery = [train_counts[word] for word in labels.order(secret)]

# %%
print(mystery)
answer_1 = None

# %% tags=["hide-input"]
hint_1 = "Disgust is the rarest class and happiness the largest: where are they?"
check("the order", answer_1, secret, hint=hint_1)

# %% [markdown]
# <details><summary>Hint</summary>
#
# Find the smallest and the largest count, and `print(labels.ORDERS)` for the orders.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# keys = ["fer2013", "rafdb", "affectnet7", "resemotenet", "papers"]
# answer_1 = next(k for k in keys if [train_counts[w] for w in labels.order(k)] == mystery)
# ```
#
# All seven counts differ, so they tell the order of any copy of FER2013. The doctor uses the same trick.
#
# </details>
#
# **Exercise 2 (by hand).** A classifier recognises 90 % of happiness, 80 % of surprise and of neutral, 60 % of anger and of sadness, and
# never fear or disgust. What are its accuracy and its balanced accuracy on FER2013's private test split (`test_counts`), as fractions?

# %%
recall = dict(anger=0.6, disgust=0.0, fear=0.0, happiness=0.9)
recall |= dict(sadness=0.6, surprise=0.8, neutral=0.8)
answer_2 = None  # two numbers: [accuracy, balanced accuracy]

# %% tags=["hide-input"]
weighted = sum(recall[word] * n for word, n in test_counts.items())
expected_2 = [weighted / sum(test_counts.values()), sum(recall.values()) / 7]
check("accuracy and balanced accuracy", answer_2, expected_2, tolerance=0.001)

# %% [markdown]
# <details><summary>Hint</summary>
#
# For the accuracy every recall counts as often as its class has pictures; for balanced accuracy every recall counts once.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# right = sum(recall[word] * n for word, n in test_counts.items())
# answer_2 = [right / sum(test_counts.values()), sum(recall.values()) / 7]
# ```
#
# The accuracy is 63 %, not far from that of a useful network, although two of seven classes do not exist for this classifier. The balanced
# accuracy is 53 %.
#
# </details>
#
# **Exercise 3 (change the code).** Write `count_copies(faces)`: how many pictures of `validation` have the same pixels as one of `train`?
# Use `data.image_hashes`, not `duplicate_mask`.


# %%
def count_copies(faces):
    """Your turn."""
    return None


# %% tags=["hide-input"]
hint_3 = "A hash for every picture; numpy's isin says which occur among others."
on_both = crossing["at random"]
check("copies on both sides", count_copies(at_random), on_both, hint=hint_3)

# %% [markdown]
# <details><summary>Hint</summary>
#
# `faces.images[faces.split == "train"]` are the training pictures; `np.isin(a, b)` says for each value of `a` whether it occurs in `b`.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def count_copies(faces):
#     hashes = data.image_hashes(faces.images)
#     known = hashes[faces.split == "train"]
#     return int(np.isin(hashes[faces.split == "validation"], known).sum())
# ```
#
# Sorting the hashes takes the place of comparing every pair: thousands of operations instead of millions.
#
# </details>
#
# **Exercise 4 (paper and code).** The order of ResEmoteNet's outputs stands in its released code and not in its paper. Suppose a network
# that is always right is tested on FER2013's private test split, and somebody reads its outputs in FER2013's order. What accuracy do they measure?

# %%
answer_4 = None

# %% tags=["hide-input"]
measured_4 = still_right("resemotenet", "fer2013", test_counts)
check("accuracy of a perfect network", answer_4, measured_4, tolerance=0.001)

# %% [markdown]
# <details><summary>Hint</summary>
#
# `labels.order("resemotenet")` and `labels.order("fer2013")`: in which places do they agree? What share of the pictures has that class?
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# answer_4 = test_counts["neutral"] / sum(test_counts.values())
# ```
#
# Only neutral has the same number in both orders. A perfect network would seem to be right in 17 % of the cases, hardly above one in
# seven. Before you say that released weights do not work, check the order.
#
# </details>
#
# ## Where the data come from
#
# Everything above runs on drawn faces, published counts and votes, and records of our runs. For real pictures, these are the sources:

# %% tags=["hide-input"]
sources = [s for s in data.sources.SOURCES if s.name in ("fer2013", "ferplus", "rafdb")]
sources += [s for s in data.sources.SOURCES if s.name.startswith(("affectnet", "expw"))]
rows = [(s.title, s.what, s.how, s.terms) for s in sources]
frame = pd.DataFrame(rows, columns=["set", "what", "how to get it", "terms"])
table(frame, "sources", "Data sets of this book; `data/README.md` has the addresses.")

# %% [markdown]
# And this is the doctor, for your own copy (live in JupyterLab):

# %%
doctor_panel()

# %% [markdown]
# ## What you found
#
# - Ten people agree on {{unanimous_frac:.0%}} of the pictures of a FER2013 test split; where they have a majority, it is another word than the
#   label in {{overruled_frac:.0%}} of the cases.
# - Surprise and fear share {{surprise_fear_shared_n}} action units. On the way from one to the other there is a face with a cosine of
#   {{two_steps_fear_ratio:.2f}} to fear and {{two_steps_surprise_ratio:.2f}} to surprise.
# - Labels that were numbered in the alphabet's order and read in FER2013's are right in {{folders_right_frac:.0%}} of the cases: enough to look like a mediocre network.
# - Always saying *happiness* gives an accuracy of {{always_accuracy_frac:.1%}} and a balanced accuracy of {{always_balanced_frac:.1%}}. Never saying *disgust*
#   costs {{never_disgust_points:.1f}} points of accuracy.
# - The doctor found {{faults_found_n}} of {{faults_n}} faults; a copy that was cut and scaled escaped.
# - {{copies_n}} of {{crowd_pictures_n:,}} test pictures of FER2013 are also training pictures. Networks that never saw them were already
#   {{easier_points:.0f}} points better on them than on the rest. Having seen them went with {{seen_points:+.1f}} points more, but over three seeds the 95 % interval
#   is {{seen_seeds_low_points:+.1f}} to {{seen_seeds_high_points:+.1f}}. **Compare the same pictures, and count your seeds.**
#
# Next: [a network, by hand](02_training_loop_by_hand.ipynb).

# %%
footer(faces)
