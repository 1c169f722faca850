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
# A network learns what its data say, faults included. Many surprising results in this field, good and bad ones, can be explained
# before any network is trained: a label read in the wrong order, a class that hardly exists, a test picture that was also trained
# on. This notebook goes through them one by one. It trains nothing.
#
# ## Objectives
#
# 1. describe an expression by facial action units, and say what a label is and what it is not
# 2. translate between label orders, and see what a wrong order costs
# 3. say why accuracy alone misleads when classes are unequal
# 4. split data so that nothing leaks: before augmenting, with copies on one side
# 5. read a vote distribution and say what a single label hides
# 6. say what a network is really fed: size, grey, mirror
#
# **You need** Python and numpy. No network yet; that is [notebook 02](02_training_loop_by_hand.ipynb).
#
# **Which faces.** By default all faces here are *drawn*: no real person, no licence, and the truth about each picture is known. With
# your own copy of FER2013 [@fer2013] and of the FER+ votes [@ferplus], set the values below and run again: counts, copies and
# votes are then those of the real data, as numbers and charts. Pictures of real data sets are never shown here: they show people who
# were not asked.

# %% tags=["parameters"]
PROFILE = "teach"  # smoke (seconds) or teach (minutes on a laptop)
DATA = "synthetic"  # or "fer2013", with the paths of your own copies
DATA_PATH = None  # fer2013.csv, or its folder
VOTES_PATH = None  # fer2013new.csv of FER+; None: votes are simulated
SEED = 0

# %%
import dataclasses
import hashlib
import shutil
import tempfile
from inspect import signature
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as TF

from ferkit import data, labels, papers, plots
from ferkit.data import carve_validation, duplicate_mask, duplicates_across
from ferkit.synthetic.action_units import AU_DESCRIPTIONS, AU_NAMES, PROTOTYPES, au_vector
from ferkit.data.ferplus import MODES, read_votes, vote_targets
from ferkit.synthetic.faces import face_from_action_units, make_faces
from ferkit.data.transforms import prepare
from ferkit.doctor.published import official_tables
from ferkit.doctor.label_noise import agreement as votes_agree
from ferkit.doctor.label_noise import entropy
from ferkit.evaluation.metrics import evaluate, wilson
from ferkit.notebook import check, footer, ledger_table, profile, record
from ferkit.plots.house import barh, new_figure, show
from ferkit.runs.publish import read_record
from ferkit.widgets import doctor_panel, doctor_report, explore, source_panel

S = profile(
    PROFILE,
    smoke=dict(n_train=800, n_test=200, originals=200, versions=(1, 4), n_votes=300),
    teach=dict(n_train=4000, n_test=1000, originals=600, versions=(1, 2, 4, 8), n_votes=1500),
)
rng = np.random.default_rng(SEED)
emotions = labels.EMOTIONS  # eight words; the first seven are the usual problem
paper = papers.load("resemotenet")  # what is printed about four data sets is read from here, not typed

# %% [markdown]
# ## 1 · From muscles to a word
#
# What a camera sees is skin moved by muscles. The Facial Action Coding System (FACS [@facs]) describes just that: **action units**
# (AU), numbered, each the visible trace of one muscle or a few, each with an intensity. It says *inner brow raised, lips parted*. It
# does not say *afraid*.
#
# The word comes afterwards. For each of seven emotions there is a combination of units that people usually read as that word, its
# **prototype**; *neutral* is no unit at all. Here they are, drawn on two persons:

# %%
drawn = [
    face_from_action_units(PROTOTYPES[name], seed=person, size=128, colour="rgb")
    for person in (3, 1)
    for name in emotions
]
plots.face_grid(drawn, [*emotions, *[""] * 8], columns=8)

# %% [markdown]
# And as a table: which unit belongs to which word, and how strongly in our drawings, from 0 to 1.

# %%
used = [au for au in AU_NAMES if any(au in units for units in PROTOTYPES.values())]
strength = np.array([[PROTOTYPES[name].get(au, 0) for au in used] for name in emotions])
plots.number_table(strength, emotions, [f"{au}  {AU_DESCRIPTIONS[au]}" for au in used])

# %% [markdown]
# > **Question.** Which two words share the most units? A network is likely to mix up those two before others.

# %%
pairs = [(a, b) for i, a in enumerate(emotions) for b in emotions[i + 1 :]]
shared = {(a, b): [au for au in AU_NAMES if au in PROTOTYPES[a] and au in PROTOTYPES[b]] for a, b in pairs}
for (a, b), units in sorted(shared.items(), key=lambda item: -len(item[1]))[:4]:
    print(f"{a:9} and {b:9} share {len(units)}: {', '.join(units)}")

# %% [markdown]
# Surprise and fear. Now make a face yourself. Start from fear, and take the lip stretcher (AU20) and the brow lowerer (AU4) away: where
# does it stop being fear for *you*? The bars compare the face with each prototype: 1 means the same units in the same proportions, 0
# means no unit in common. (It is the cosine of the angle between the two lists of intensities.)


# %%
def likeness(units):
    """Cosine between a face's units and each prototype; neutral gets what is missing to a full unit."""
    v = np.array(au_vector(units))
    ideal = np.array([au_vector(PROTOTYPES[name]) for name in emotions])
    length = np.linalg.norm(v)
    cosine = ideal @ v / np.maximum(np.linalg.norm(ideal, axis=1) * length, 1e-9)
    cosine[emotions.index("neutral")] = max(0.0, 1 - length)
    return cosine


def compose(
    inner_brow_raiser_AU1=1.0,
    outer_brow_raiser_AU2=0.5,
    brow_lowerer_AU4=0.75,
    upper_lid_raiser_AU5=1.0,
    cheek_raiser_AU6=0.0,
    lid_tightener_AU7=0.5,
    nose_wrinkler_AU9=0.0,
    upper_lip_raiser_AU10=0.0,
    lip_corner_puller_AU12=0.0,
    dimpler_right_AU14R=0.0,
    lip_corner_depressor_AU15=0.0,
    lower_lip_depressor_AU16=0.0,
    lip_stretcher_AU20=1.0,
    lip_tightener_AU23=0.0,
    lips_part_AU25=0.5,
    jaw_drop_AU26=0.0,
    person=3,
):
    """A face with the units given, and how like each prototype it is."""
    units = {name.rpartition("_")[2]: value for name, value in locals().items() if "_AU" in name}
    close = likeness(units)
    with plots.style():
        figure, axes = new_figure(1, 2, (6.6, 2.7), widths=(1, 1.4))
        show(axes[0, 0], face_from_action_units(units, seed=person))
        colours = [plots.colour(name) for name in emotions]
        barh(axes[0, 1], emotions, close, [f"{value:.2f}" for value in close], colours, limit=1)
        axes[0, 1].set_xlabel("likeness to the prototype")
    return figure


sliders = [name for name in signature(compose).parameters if "_AU" in name]
assert {name.rpartition("_")[2] for name in sliders} == set(used)  # every face of the table can be made
explore(compose, person=(0, 4, 1), **dict.fromkeys(sliders, (0.0, 1.0, 0.25)))

# %% [markdown]
# Prototypes are posters. In a data set expressions are weak, units are missing or belong to something else, heads turn, hands hide
# mouths. The drawn data set imitates that. Now and then it also adds a unit that is in no prototype, such as a wide open mouth (AU27)
# or closing eyes (AU43).
#
# > **Question.** Give each of these eight faces one of the seven words (no contempt), before you look below the next cell.

# %%
quiz = make_faces(8, seed=SEED + 20, size=64)
plots.face_grid(quiz.images, [f"face {i + 1}" for i in range(8)])

# %%
for i, (label, units) in enumerate(zip(quiz.true_labels, quiz.aus, strict=True)):
    seen = ", ".join(f"{au} {value:.1f}" for au, value in zip(AU_NAMES, units, strict=True) if value > 0.3)
    print(f"face {i + 1} was drawn as {quiz.names[label]:10} units above 0.3: {seen or 'none'}")

# %% [markdown]
# Units that are weak or blended in from another word are why such faces are hard. A **label** is a word that somebody wrote under a picture. It is a judgement about a picture. It is not a
# measurement of what the person felt: people smile in grief, scowl in thought, and differ in how much they show [@barrett]. A network
# trained on labels learns the judgement, with the judges' habits.
#
# ## 2 · A label is a number, and numbers come in orders
#
# In a file the word is a number, and each data set counts in its own order. Here are all orders that this workbook has to do with.
# Those who share one stand over one column; the first name is the key we use below. `fer2013`, `ferplus`, `rafdb`, `affectnet7`,
# `affectnet8` and `expw` are data sets, and `vemo` is a private one. `resemotenet`, `resmasking`, `lfnsb_...`, `esr`,
# `manet` and `ddamfn` are networks: the order of what they put out. `papers` is the order of printed tables.

# %%
orders = {}
for key, names in labels.ORDERS.items():
    orders.setdefault(names, []).append(key)
headings = {"\n".join(keys): names for names, keys in orders.items()}
plots.word_columns(headings, ylabel="position (RAF-DB: from 1)")

# %% [markdown]
# That many orders for the same few words. The order of printed tables is the alphabet's. It is also what you get from folders named
# after emotions, because folders are sorted by name. **By hand**: label 3 of FER2013 is happiness; the released code of
# ResEmoteNet has happiness at 0; so 3 becomes 0. **By the library**, for a whole file at once:

# %% tags=["nbval-check-output"]
written = np.array([3, 3, 6, 0, 1, 5])  # as FER2013's file has them
translation = np.asarray(labels.index_map("fer2013", "resemotenet"))
print("table ", translation.tolist())
print("labels", written.tolist(), "->", translation[written].tolist())
print("words ", [labels.order("fer2013")[k] for k in written])
print("RAF-DB's 1 is", labels.from_native("rafdb", 1), "and its neutral is", labels.native_code("rafdb", "neutral"))

# %% [markdown]
# > **Question.** Someone sorts the pictures of FER2013 into folders named anger, disgust, fear ..., lets a program number the folders,
# > and then reads the numbers as FER2013's. How many labels are still right: none, one in seven, half?

# %%
official = paper.tables["fer2013"]  # images per class of the contest's three splits


def per_class(column):
    """Images per class of one of FER2013's splits, by canonical name."""
    return {labels.canonical(word): n for word, n in official.numbers(column).items() if word != "Total"}


train_counts = per_class("Training")
keys7 = [keys[0] for names, keys in orders.items() if len(names) == 7]


def still_right(written, read):
    """Share of FER2013's training labels that survive being read in another order than they were written in."""
    kept = [a for a, b in zip(labels.order(written), labels.order(read), strict=True) if a == b]
    return sum(train_counts[name] for name in kept) / sum(train_counts.values())


def misread(written="papers", read="fer2013"):
    """What each number means, and what it is taken for."""
    both = {"means": labels.order(written), "is taken for": labels.order(read)}
    title = f"written as {written}, read as {read}:\n{still_right(written, read):.0%} of the labels right"
    return plots.word_columns(both, inches=(3.6, 3.3), ylabel="number in the file", title=title)


explore(misread, written=["papers", *keys7[:-1]], read=keys7)

# %% [markdown]
# A little more than half survive, because four words happen to stand at the same place in both orders. And other pairs of orders?

# %%
kept = {(a, b): still_right(a, b) for a in keys7 for b in keys7 if a != b}
for title, pairs_of_keys in (
    ("none right", [pair for pair, share in kept.items() if share == 0]),
    ("some right", [pair for pair, share in kept.items() if share > 0]),
):
    print(f"{title}: {len(pairs_of_keys):2} of {len(kept)} pairs, such as {' read as '.join(pairs_of_keys[0])}")
print(f"most that survive in a wrong order: {max(kept.values()):.0%}")
record("folders_read_as_fer2013_frac", still_right("papers", "fer2013"))

# %% [markdown]
# The dangerous pairs are not those where nothing is right. A network that is right in 0 % is searched for a fault at once; one trained or
# tested with half of its labels right looks like a mediocre network.
#
# Rows and columns can be exchanged in print, too. FER2013 was made for a contest and comes in three parts, which its file calls
# *Training*, *PublicTest* and *PrivateTest*; the two test parts hold 3,589 pictures each. Two rows of a ledger
# ([notebook 00](00_start_here.ipynb) says how to read one):

# %%
ledger_table("resemotenet", "label-order", "A2")

# %% [markdown]
# Six of the seven printed counts stand in the row of another word. Disgust and surprise are exchanged, and so are fear and neutral,
# happiness and sadness. The sum is right all the same, so adding up does not find it.

# %% [markdown]
# ## 3 · Unequal classes
#
# Load the data and count. (The drawn set has FER2013's proportions by our choice.)

# %%
if DATA == "fer2013":
    faceset = data.load("fer2013", DATA_PATH)
else:
    faceset = data.load("synthetic", n_train=S.n_train, n_test=S.n_test, size=48, seed=SEED, imbalance="fer2013")
names = faceset.names
test_split = next(split for split in ("private_test", "public_test", "test") if split in faceset.splits())
print(faceset)
plots.class_counts({split: faceset.select(split).counts() for split in faceset.splits()})

# %% [markdown]
# Is that special? The four data sets of one paper, as its Table II prints them:

# %%
printed = paper.tables["II"]
for column in ("FER2013 train", "RAF-DB train", "AffectNet-7 train", "ExpW train"):
    n = {word: count for word, count in printed.numbers(column).items() if word != "Total"}
    most, least = max(n, key=n.get), min(n, key=n.get)
    print(f"{column:18} most {most:8} {n[most]:7,}   least {least:8} {n[least]:5,}   {n[most] / n[least]:5.1f} to 1")

# %% [markdown]
# And as counted by the authors of the sets themselves? Two measures of inequality: the
# **imbalance ratio**, most over least, and the same ratio of **effective numbers** [@effectivenumber]. The effective number of $n$ pictures
# is $(1-\beta^n)/(1-\beta)$: each further picture of a word brings a little less that is new. With $\beta = 0.9999$ it cannot exceed 10,000.

# %%
print(f"{'training pictures':17} {'images':>8} {'most':>9} {'least':>8} {'ratio':>6}   {'effective':>9}")
for key, split in (("fer2013", "train"), ("rafdb", "train"), ("affectnet", "train"), ("expw", "all")):
    official_n = official_tables(key, {"train", "test"})[split]
    most, least = max(official_n, key=official_n.get), min(official_n, key=official_n.get)
    effective = {name: (1 - 0.9999**n) / (1 - 0.9999) for name, n in official_n.items()}
    ratio, kept = official_n[most] / official_n[least], effective[most] / effective[least]
    print(f"{key:17} {sum(official_n.values()):8,} {most:>9} {least:>8} {ratio:6.1f}   {kept:9.1f}")
    record(f"imbalance_{key}_ratio", ratio)

# %% [markdown]
# (AffectNet here with its eight words; ExpW has no official split.) The effective ratio is milder where even the rare word has thousands.
# It is a model, and a choice of $\beta$, not a measurement. The counts of FER2013 and RAF-DB tell which order a copy is in; AffectNet's do, too.
#
# In each of the four printed columns the rarest word has at least 16 times fewer pictures than the most frequent one. The rarest is always disgust or
# fear; the most frequent is happiness, but in ExpW neutral. The sets and how one gets them:
#
# | set | pictures | how to get it |
# |---|---|---|
# | FER2013 [@fer2013] | grey, 48 px, from web search | from the contest's page, under its rules |
# | FER+ [@ferplus] | the same; ten votes for each | the votes are free (MIT); the pictures are FER2013's |
# | RAF-DB [@rafdb] | colour, aligned faces | on request from its authors, for research |
# | AffectNet [@affectnet] | colour, large | on request from its authors, for research |
# | ExpW [@expw] | colour, in the wild | from its authors' page, for research |
#
# Places, terms, sizes and how to know that a copy is right, set by set:

# %%
source_panel("fer2013")

# %% [markdown]
# Have you got one? Let the **doctor** look at it before anything is trained, with `python -m ferkit doctor PATH` or here. To see what it
# says, we write drawn faces into folders, as such data lie on a disk, with two faults: one test picture is put into training under another
# word, and one file breaks off in the middle.

# %%
with tempfile.TemporaryDirectory() as place:
    small = make_faces(84, size=48, seed=SEED + 5)
    files = []
    for i, (image, k) in enumerate(zip(small.images, small.labels, strict=True)):
        files.append(Path(place, "train" if i < 56 else "test", small.names[k], f"{i:03}.png"))
        files[-1].parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(files[-1])
    other = next(file.parent for file in files[:56] if file.parent.name != files[-1].parent.name)
    shutil.copy(files[-1], other / "copied.png")
    files[0].write_bytes(files[0].read_bytes()[:200])
    examined = doctor_report(place)
dataclasses.replace(examined, path="faces")

# %%
record("doctor_errors_n", sum(finding.severity == "error" for finding in examined.findings))
doctor_panel(DATA_PATH or "")

# %% [markdown]
# > **Question.** A classifier that always says *happiness* is tested on FER2013's PrivateTest, its private test split. What is its accuracy? Is it a
# > seventh?

# %%
order = labels.order("fer2013")
test_counts = per_class("PrivateTest")
truth = np.repeat(np.arange(7), [test_counts[name] for name in order])
always = np.zeros((len(truth), 7))
always[:, order.index("happiness")] = 1  # probability 1 for happiness, every time
scores = evaluate(always, truth, order, n_bootstrap=100)
print({name: round(scores[name], 3) for name in ("accuracy", "balanced_accuracy", "macro_f1")})
record("majority_accuracy_frac", scores["accuracy"])
record("majority_balanced_accuracy_frac", scores["balanced_accuracy"])

# %% [markdown]
# A quarter, because a quarter of the pictures are happy. Three figures for the same answers:
#
# - **accuracy**: correct answers over all answers. Frequent classes decide it.
# - **balanced accuracy**: the **recall** of a class is the share of its pictures that was recognised; balanced accuracy is the mean of
#   the seven recalls, so that each class counts the same. Knowing nothing gives a seventh.
# - **macro-F1**: *precision* $P$ is how often the classifier is right when it says a word. F1 joins it with the word's recall $R$:
#   $F_1 = 2PR/(P+R)$, and 0 for a word that is never said; macro-F1 is the mean over classes. A word that is thrown around costs
#   something here.
#
# Now a subtler classifier. It recognises 70 % of each class, except that it never says one of the words. In balanced accuracy that
# costs ten points (70 / 7), whichever word it is. And in accuracy?

# %%
total = sum(test_counts.values())
lost = [70 * test_counts[name] / total for name in order]
with plots.style():
    figure, axes = new_figure(1, 1, (6.6, 2.7))
    ax = axes[0, 0]
    bars = [f"{points:.1f}" for points in lost]
    barh(
        ax,
        [f"never says {name}" for name in order],
        lost,
        bars,
        [plots.colour(name) for name in order],
        limit=18,
        at_end=True,
    )
    ax.axvline(10, color="#606060", linestyle="--", linewidth=1)
    ax.text(10.2, -0.75, "balanced accuracy: 10 for each", fontsize=8)
    ax.set(ylim=(6.6, -1.2), xlabel="points of accuracy lost, FER2013, private test")
figure

# %% [markdown]
# Giving up on disgust costs one point. Whoever chooses networks by accuracy alone may end there, and the printed number will hardly
# show it. Report recalls or a confusion matrix with it.
#
# A rare class is also hard to *measure*. If 70 % of each class were recognised, the test pictures would tell us so with this 95 %
# **interval** (the values that fit what was seen; more pictures, narrower):

# %%
for name in order:
    n = test_counts[name]
    low, high = wilson(round(0.7 * n), n)
    print(f"{name:10} {n:4} pictures: {low:.0%} to {high:.0%}")

# %% [markdown]
# ## 4 · Splits
#
# | split | what for | like |
# |---|---|---|
# | **training** | the network is corrected on these | exercises |
# | **validation** | we choose by these: when to stop, which setting | a mock exam |
# | **test** | read once, at the end | the exam |
#
# An exam says something only if its questions were not among the exercises. When test or validation pictures, or versions of them, are
# in the training data, we speak of a **leak**. What is known about one paper (in rows D1 and D2 the middle column has no code to quote,
# but what users and the maintainer wrote in issues):

# %%
ledger_table("resemotenet", "split-fer2013", "split-rafdb-affectnet", "D1", "D2")

# %% [markdown]
# Row D2 is worth an experiment.
#
# ### Split first, augment afterwards
#
# **Augmentation** makes several versions of a picture: mirrored, shifted, cropped. It is good for training. But suppose someone makes
# the versions *first* and splits at random *afterwards*.
#
# > **Question.** With four versions of each picture, and a random fifth of all versions for validation: how many validation pictures
# > have at least one sibling in training? (Each of the other three lands in validation with probability 1/5.)
#
# To see what that does we need a learner that can do nothing but remember. **Nearest neighbour**: look for the training picture with
# the most similar grey values, and say its label. It knows nothing of expressions.


# %%
def vectors(images):
    """Pictures as rows of grey values at 24 px, each with mean 0 and length 1."""
    x = prepare(images, size=24, mean=(0.0,), std=(1.0,), colour="grey").flatten(1).numpy()
    x = x - x.mean(1, keepdims=True)
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-9)


def remember(known_images, known_labels, images):
    """For each picture the label of the most similar known one."""
    known = vectors(known_images)
    nearest = [(vectors(images[i : i + 500]) @ known.T).argmax(1) for i in range(0, len(images), 500)]
    return known_labels[np.concatenate(nearest)]


# %%
originals = make_faces(S.originals, size=48, seed=SEED + 1, imbalance="fer2013")
shift = v2.RandomCrop(48, padding=2, padding_mode="edge")  # by up to two pixels
torch.manual_seed(SEED)
augment_first, split_first, siblings = [], [], []
for versions in S.versions:
    images = [originals.images]
    for _ in range(versions - 1):
        images.append(np.stack([shift(torch.from_numpy(image)[None])[0].numpy() for image in originals.images]))
    images = np.concatenate(images)
    who = np.tile(np.arange(S.originals), versions)  # which original a version comes from
    label = originals.labels[who]

    late = np.isin(np.arange(len(who)), rng.permutation(len(who))[: len(who) // 5])  # a fifth of the versions
    early = np.isin(who, rng.permutation(S.originals)[: S.originals // 5])  # a fifth of the originals, all versions
    for held_out, scores in ((late, augment_first), (early, split_first)):
        said = remember(images[~held_out], label[~held_out], images[held_out])
        scores.append(float((said == label[held_out]).mean()))
    siblings.append(np.isin(who[late], who[~late]).mean())
record("augmented_then_split_frac", augment_first[-1])
record("split_then_augmented_frac", split_first[-1])

# %%
with plots.style():
    figure, axes = new_figure(1, 1, (6.6, 3.0))
    ax = axes[0, 0]
    place = np.arange(len(S.versions))
    ax.bar(place - 0.2, augment_first, width=0.38, color=plots.COLOURS[1], label="augmented, then split")
    ax.bar(place + 0.2, split_first, width=0.38, color=plots.COLOURS[0], label="split, then augmented")
    for x, value in [*zip(place - 0.2, augment_first, strict=True), *zip(place + 0.2, split_first, strict=True)]:
        ax.text(x, value + 0.01, f"{value:.0%}", ha="center", fontsize=8.5)
    for x, k, share in zip(place, S.versions, siblings, strict=True):
        ax.text(x, -0.06, f"{k} version{'s' * (k > 1)}\n{share:.0%} have a sibling", ha="center", va="top")
    ax.set_xticks([])
    always = max(np.bincount(originals.labels)) / len(originals.labels)
    ax.axhline(always, color="#B0B0B0", linestyle="--", linewidth=1, zorder=0, label="always the most frequent word")
    ax.set(ylim=(0, 1.1), ylabel="validation accuracy", title="a learner that only remembers")
    ax.legend(loc="upper left")
figure

# %% [markdown]
# The same faces, the same learner that understands nothing. Split first, and it stays where it belongs: about where always saying the most
# frequent word would be. Augment first, and it looks like a good network. No two accuracies can be compared before this is settled. (The answer: with four versions
# $1 - (1/5)^3$, more than 99 %.)
#
# ### Exact copies
#
# Pictures from the web come twice. To find equal pictures among many, nobody compares all pairs. One computes a short fingerprint of
# each, a **hash**, which is equal for equal pixels, and compares fingerprints. This is the library's own function; a test proves that
# the two are equal.


# %% tags=["same-as:ferkit.data.splits.image_hashes"]
def image_hashes(images: np.ndarray) -> np.ndarray:
    """Return a 64-bit digest of each image, equal exactly for equal pixels."""
    digests = b"".join(hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=8).digest() for image in images)
    return np.frombuffer(digests, np.uint64)


# %% tags=["nbval-check-output"]
a = np.zeros((48, 48), np.uint8)
b, c = a.copy(), a.copy()
c[0, 0] = 1  # one pixel, one grey value
first, second, third = image_hashes(np.stack([a, b, c]))
print("equal pictures, equal hash:", bool(first == second), "  one pixel changed:", bool(first == third))

# %% [markdown]
# One changed grey value gives another hash. So this finds *exact* copies only; one that was saved again as JPEG, resized or cropped
# escapes. What it finds is the least there is.
#
# Drawn faces have no copies, so we plant some: test pictures get into training, five of them under another label, and some training
# pictures are doubled. (With `DATA = "fer2013"` nothing is planted. What is found there is in the data.)

# %%
if DATA == "synthetic":
    from_test = rng.choice(np.flatnonzero(faceset.split == "test"), S.n_test // 12, replace=False)
    from_train = rng.choice(np.flatnonzero(faceset.split == "train"), S.n_train // 25, replace=False)
    rows = np.concatenate([from_test, from_train])
    new_labels = faceset.labels[rows]
    new_labels[:5] = (new_labels[:5] + 1) % len(names)
    faceset = dataclasses.replace(
        faceset,
        images=np.concatenate([faceset.images, faceset.images[rows]]),
        labels=np.concatenate([faceset.labels, new_labels]),
        split=np.concatenate([faceset.split, np.repeat("train", len(rows))]),
    )
    print(f"planted: {len(from_test)} test pictures in training, {len(from_train)} training pictures doubled")

# %%
for split in faceset.splits():
    hashes = image_hashes(faceset.select(split).images)
    repeated = len(hashes) - len(np.unique(hashes))
    print(f"{split:13} {len(hashes):6,} pictures, {repeated:5,} repeat another one of this split")
    for other in faceset.splits():
        copies = int(duplicate_mask(faceset, split, other).sum()) if other != split else 0
        if copies:
            print(f"{'':13} {copies:6,} of them are also in {other}")

leaked = duplicate_mask(faceset, test_split, "train")  # one True or False per test picture
pairs = duplicates_across(faceset, "train", test_split)  # rows of equal pictures
conflicting = int((faceset.labels[pairs[:, 0]] != faceset.labels[pairs[:, 1]]).sum())
print(f"equal pairs in train and {test_split}: {len(pairs)}, of which {conflicting} carry two different labels")
record("leaked_test_n", leaked.sum())
record("conflicting_pairs_n", conflicting)

# %% [markdown]
# Copies with different labels measure the labels themselves: one picture was judged twice, and the judgements differ.
#
# What do copies do to a result? The learner that only remembers, tested on all pictures, on the copies, and on the rest:

# %%
train, test = faceset.select("train"), faceset.select(test_split)
right = remember(train.images, train.labels, test.images) == test.labels
groups = {"all test pictures": leaked | ~leaked, "only the copies": leaked, "without the copies": ~leaked}
points = []
for title, chosen in groups.items():
    k, n = int(right[chosen].sum()), int(chosen.sum())
    points.append((f"{title}, n = {n:,}", k / n, *wilson(k, n)))
record("remember_all_frac", right.mean())
record("remember_clean_frac", right[~leaked].mean())
plots.intervals(points)

# %% [markdown]
# It recognises the copies, unless the label was changed, and guesses the rest. The figure **without the copies** is called
# *duplicate-clean*. Test results on real data are given in both ways in this workbook: on all pictures, to compare with others, and
# clean, to know.
#
# A memory gains most by a leak. How much does a network gain? The one of notebook 00 was trained on FER2013, where nobody planted
# anything; its record holds both figures:

# %%
measured = read_record("resemotenet-teach-fer2013")["test"]
rest = measured["duplicate_clean"]
copied = measured["n"] - rest["n"]
right_on_copies = (measured["accuracy"] * measured["n"] - rest["accuracy"] * rest["n"]) / copied
print(
    f"all {measured['n']:,} test pictures {measured['accuracy']:.1%}, the {rest['n']:,} without a copy {rest['accuracy']:.1%}"
)
print(f"on the {copied} copies alone {right_on_copies:.1%}; they are {copied / measured['n']:.1%} of the split")

# %% [markdown]
# It recognises the copies better than the rest, as one would expect of pictures that were trained on, and because they are few, the figure
# moves by a point or two. That is about as far as the interval of such an accuracy reaches ([notebook 00](00_start_here.ipynb), section
# 6), so it matters as soon as two networks are close.
#
# ### Carving a validation split
#
# FER2013's file has three splits; many sets have two or one. `carve_validation` takes validation pictures out of training and keeps two
# promises. **Stratified**: of every class the same share, as nearly as whole pictures allow. **Copies together**: equal pictures land on
# one side, as a group that counts for one class.

# %%
carved = carve_validation(faceset, fraction=0.1, seed=SEED)
naive = dataclasses.replace(faceset, split=faceset.split.astype("<U12"))
naive.split[rng.permutation(np.flatnonzero(faceset.split == "train"))[: len(train) // 10]] = "validation"
for title, result in (("at random", naive), ("carve_validation", carved)):
    n = {split: np.array(list(result.select(split).counts().values())) for split in ("train", "validation")}
    share = n["validation"] / (n["train"] + n["validation"])
    crossing = int(duplicate_mask(result, "validation", "train").sum())
    print(
        f"{title:17} moved {share.min():.1%} to {share.max():.1%} of each class; copies across the border: {crossing}"
    )
rarest = min(train.counts(), key=train.counts().get)
print(f"(one picture more or less is {1 / train.counts()[rarest]:.1%} of the {train.counts()[rarest]} of {rarest})")
record("crossing_copies_n", crossing)

# %% [markdown]
# Training pictures that reappear in the test split can be left out altogether:

# %%
clean = carve_validation(faceset, fraction=0.1, seed=SEED, drop_leaked_from=test_split)
print("before", carved.splits())
print("after ", clean.splits())
record("copies_left_n", duplicate_mask(clean, test_split).sum())

# %% [markdown]
# ## 5 · Votes instead of labels
#
# FER2013 has one label per picture. For FER+ [@ferplus] ten people looked at each of its pictures, and their **votes** are kept. Beside
# eight words they could choose *unknown* (a face, but none of the words) and *NF* (no face).
#
# For drawn faces we simulate ten raters: each sees the action units with errors of their own, and says the word whose prototype is
# nearest. How large the errors are is our choice, so the figures below show what votes are like, not how much people agree.


# %%
def simulated_votes(aus, raters=10, error=0.18):
    """Votes (N, 10) in FER+'s columns: eight emotions, unknown, not a face."""
    ideal = np.array([au_vector(PROTOTYPES[name]) for name in labels.order("ferplus")])  # (8, A)
    seen = np.clip(aus[:, None] + rng.normal(0, error, (len(aus), raters, aus.shape[1])), 0, 1)  # (N, raters, A)
    # a weak expression is one, too: each prototype is compared at three strengths
    distance = np.min([((seen[:, :, None] - s * ideal) ** 2).sum(-1) for s in (0.35, 0.65, 1.0)], axis=0)
    said = distance.argmin(-1)  # (N, raters)
    return np.stack([(said == k).sum(1) for k in range(10)], axis=1)


judged = make_faces(S.n_votes, size=48, seed=SEED + 3, emotions=8, imbalance="ferplus")
real_votes = DATA == "fer2013" and VOTES_PATH is not None
counts = read_votes(VOTES_PATH).counts if real_votes else simulated_votes(judged.aus)
columns = labels.FERPLUS_COLUMNS
top, voters = counts.max(1), counts.sum(1)
print(f"{'FER+' if real_votes else 'simulated'}: {len(counts):,} pictures, columns {', '.join(columns)}")

# %%
if not real_votes:
    drawn_as = [judged.names[k] for k in judged.true_labels]
    contrast = judged.images[:, 14:34, 14:34].std((1, 2))  # around eyes, nose and mouth
    clearest = np.argsort(-contrast * (judged.parameters["occluder"] == 0))
    shown = []
    for level in (10, 8, 6, 5, 4, 3):  # one picture for each level of agreement, each of another emotion
        used_up = {drawn_as[i] for i in shown}
        shown += [i for i in clearest if top[i] == level and drawn_as[i] not in used_up][:1]
    titles = [f"drawn: {drawn_as[i]}" for i in shown]
    figure = plots.votes_below(judged.images[shown], counts[shown][:, :8], columns[:8], titles=titles)
figure if not real_votes else "Pictures of real data sets are not shown here."

# %% [markdown]
# From left to right the raters agree less and less. One label per picture would give all of these the same certainty. And on the whole?

# %%
with plots.style():
    figure, axes = new_figure(1, 1, (6.6, 2.5))
    ax = axes[0, 0]
    share = np.bincount(top, minlength=11)[1:] / len(top)
    ax.bar(range(1, 11), share, color=plots.COLOURS[0])
    for k, value in enumerate(share, 1):
        ax.text(k, value + 0.005, f"{value:.0%}" if value else "", ha="center", fontsize=8)
    ax.set(xlabel="raters who gave the most frequent answer", ylabel="share of pictures", xticks=range(1, 11))
figure

# %%
# One rater against the others: take a vote out, and ask whether it is what most of the others said (ties in parts).
agreed = np.zeros(len(counts))
for k in range(len(columns)):
    others = counts - np.eye(len(columns), dtype=int)[k]
    best = others == others.max(1, keepdims=True)
    agreed += counts[:, k] * best[:, k] / best.sum(1)
agreement = float((agreed / voters).mean())
_, majority = vote_targets(counts, "majority")
print(f"all raters agree on {(top == voters).mean():.0%} of the pictures")
print(f"no emotion has a majority on {(majority < 0).mean():.0%}")
print(f"a rater says what most of the others say in {agreement:.0%} of all votes")
if not real_votes:
    steady = simulated_votes(
        judged.aus, raters=1, error=0.0
    )  # (N, 10), one vote each, by somebody who sees without errors
    best = counts == counts.max(1, keepdims=True)
    print(f"somebody without errors says what most say in {((steady * best).sum(1) / best.sum(1)).mean():.0%}")
bits = entropy(counts[voters > 1])
for title, found in votes_agree(counts[voters > 1], n_bootstrap=200).items():
    print(f"{title:10} {found.value:.1%} ({found.low:.1%} to {found.high:.1%})")
print(f"entropy of the votes: mean {bits.mean():.2f} bits, half of the pictures below {np.median(bits):.2f}")
record("rater_agreement_frac", agreement)
record("no_majority_frac", (majority < 0).mean())

# %% [markdown]
# Careful with such figures as landmarks. A rater who is compared with others brings errors of their own; a majority of ten has averaged
# most errors away. So a network that agrees with majorities more often than one rater agrees with the others need not have seen more than
# people see. In our simulation somebody without errors does the same.
#
# *two_raters* is the chance that two raters of a picture say the same. *ceiling* is how often somebody who knows all votes would meet the
# word of one rater: nobody who is scored against single ratings can expect more. **Entropy**, $-\sum_k v_k \log_2 v_k$ of the shares $v_k$, is 0 where
# all agree and 1 bit where two words are even.
#
# ### Doubtful labels
#
# Most sets have no votes. Then one can only ask a network that was *not* trained on a picture whether it believes the label. Confident
# learning, as in the package cleanlab, does that. FER2013 has both, label and votes, so the suspicion can be checked by the crowd.
#
# > **Question.** How many of the labels that a 70 % network suspects would the crowd overrule? A third, a half, three quarters?

# %%
noise = read_record("label-noise-fer2013-public_test")
found = noise["without_copies"]["issues"]
print(
    f"{found['n']:,} pictures on which the crowd has a majority: it overrules {found['base_rate']['value']:.0%} of FER2013's labels"
)
low, high = found["precision"]["interval"]
print(f"of {found['suspected']} suspected labels: {found['precision']['value']:.0%} ({low:.0%} to {high:.0%})")
print(f"of the overruled labels {found['recall']['value']:.0%} were suspected")
print(f"raters of FER+ on all pictures of that split: ceiling {noise['crowd']['ceiling']['value']:.1%}")

# %% [markdown]
# A suspicion is worth a look and is no proof. It finds a part of what the crowd would overrule, and the rest of what it finds are hard
# pictures with a label that most people share. (The network of [notebook 10](10_resemotenet.ipynb), FER2013's public test without copies; the
# record names all settings.)
#
# ### From votes to something to train on
#
# FER+ has three rules. In each, a single vote is taken for a slip and removed first, and a picture whose strongest answer is *unknown* or
# *NF* is left out.
#
# - **Majority**: the word with more than half of the votes; without one the picture is left out.
# - **Probability**: words from the most frequent down, until three quarters of the votes or three words are collected, or *unknown* or
#   *NF* is met; each with its share of what was collected. Left out where that is half of the votes at most, or where equals would
#   make it more than three words.
# - **Multi-target**: every word with at least 30 % of the votes, each as good as the others. Left out where these are half of the votes
#   at most.
#
# > **Question.** Four say happiness, three surprise, two neutral, one fear. What does each rule make of it? Then move one vote.


# %%
def rules(happiness=4, surprise=3, neutral=2, fear=1, unknown=0):
    """What the three rules make of some votes."""
    votes = dict(happiness=happiness, surprise=surprise, neutral=neutral, fear=fear, unknown=unknown)
    row = np.array([[votes.get(name, 0) for name in columns]])
    results = {mode: dict(zip(columns, vote_targets(row, mode)[0][0], strict=False)) for mode in MODES}
    panels = {mode.replace("_", "-"): {word: values.get(word, 0) for word in votes} for mode, values in results.items()}
    return plots.vote_rules({"votes": votes, **panels}, limits=(10, 1, 1, 1))


one_to_ten = (0, 10, 1)
explore(rules, happiness=one_to_ten, surprise=one_to_ten, neutral=one_to_ten, fear=one_to_ten, unknown=one_to_ten)

# %% [markdown]
# The one vote for fear goes first, so nine are left. *Majority* wants five, and nobody has them: the picture is left out. *Probability*
# wants three quarters, 6.75: happiness and surprise bring seven, so it stops, and neutral vanishes although two of ten said it.
# *Multi-target* wants 30 %, 2.7 votes: the same two words, now alike.
#
# The rules are not a detail: they decide which pictures exist, and with how many words.

# %%
for mode in MODES:
    targets, label = vote_targets(counts, mode)
    n_words = (targets[label >= 0] > 0).sum(1).mean()
    print(f"{mode:13} keeps {np.mean(label >= 0):.1%} of the pictures, with {n_words:.2f} words per picture")

# %%
ferplus = labels.order("ferplus")
if real_votes:  # the rows of both files belong together
    other = np.array([ferplus.index(names[k]) for k in faceset.labels])
    title = "FER+'s majority is FER2013's label"
else:
    other = np.array([ferplus.index(judged.names[k]) for k in judged.true_labels])
    title = "the raters' majority is the emotion that was drawn"
has_one = majority[: len(other)] >= 0
same = (other == majority[: len(other)])[has_one].mean()
print(f"{title} on {same:.1%} of {has_one.sum():,} pictures that have a majority")
record("majority_is_label_frac", same)

# %% [markdown]
# ## 6 · What the network is fed
#
# The last step before the network is code, too, and is seldom described in a paper. `prepare` turns pictures into an array of numbers:
# size, colour, normalisation.
#
# **Size.** In a smaller picture one new pixel stands for many old ones. *With antialiasing* it is their mean; *without* it is read off
# at one place, and what lies between is lost. Libraries differ in which of the two they do by default.


# %%
def smaller(side=32, noise=0.06, mirror=False):
    """One drawn face of 192 px, made small in two ways."""
    face = face_from_action_units(PROTOTYPES["fear"], seed=3, size=192, noise=noise)
    face = face[:, ::-1].copy() if mirror else face
    x = torch.from_numpy(face)[None]
    small = [TF.resize(x, [side, side], antialias=antialias)[0].numpy() for antialias in (True, False)]
    titles = ["192 px", f"{side} px, antialiased", f"{side} px, not antialiased"]
    return plots.face_grid([face, *small], titles, columns=3, size=2.0)


explore(smaller, side=[24, 32, 48, 64, 100], noise=(0.0, 0.2, 0.02), mirror=False)

# %% [markdown]
# Without antialiasing the small picture keeps the full grain of the sensor, and thin lines (lids, brows, lips: what carries an
# expression) break up. A network trained one way and used the other way sees pictures it has never met. `prepare` always antialiases.
#
# **Mirror.** Tick the box: another picture, the same label. So a random mirror is a natural augmentation for faces. It belongs into
# training only; a *random* mirror while testing gives another result each time.
#
# **Colour.** Grey is not the mean of red, green and blue. The eye sees green best, and the usual weights (ITU-R 601; the result is
# called **luma**) are 0.299, 0.587 and 0.114. **By hand** for a skin-like colour, and **by `prepare`**:

# %% tags=["nbval-check-output"]
red, green, blue = 200, 120, 80
by_hand = 0.299 * red + 0.587 * green + 0.114 * blue
picture = np.empty((1, 3, 8, 8), np.uint8)
picture[0] = np.array([red, green, blue])[:, None, None]
to_grey = dict(size=8, mean=(0.0,), std=(1.0,), colour="grey")  # values from 0 to 1
by_prepare = 255 * prepare(picture, **to_grey)[0, 0, 0, 0].item()
swapped = 255 * prepare(picture[:, ::-1].copy(), **to_grey)[0, 0, 0, 0].item()
print(f"by hand {by_hand:.1f}   by prepare {by_prepare:.0f}   with red and blue exchanged {swapped:.0f}")
assert abs(by_hand - by_prepare) <= 1  # whole grey values

# %% [markdown]
# The last figure is a well-known trap: some programs (OpenCV) store blue first. Skin gets darker, and no error is raised.

# %%
tinted = face_from_action_units(PROTOTYPES["happiness"], seed=12, size=128, colour="rgb")
exchanged = tinted[::-1].copy()
grey, dark = (prepare(p[None], **{**to_grey, "size": 128})[0, 0].numpy() for p in (tinted, exchanged))
lumas = [f"luma, mean {255 * image.mean():.0f}" for image in (grey, dark)]
titles = ["as it is", lumas[0], "red and blue exchanged", lumas[1]]
plots.face_grid([tinted, grey, exchanged, dark], titles, columns=4, size=1.5)

# %% [markdown]
# **Normalisation** shifts and scales the values so that they lie around 0, which suits the first layer. The two numbers, mean and
# spread, belong to the network: the same in training and in use.

# %%
for title, mean, std in (("as they are", (0.0,), (1.0,)), ("mean 0.5, spread 0.25", (0.5,), (0.25,))):
    x = prepare(originals.images[:200], size=48, mean=mean, std=std, colour="grey")
    print(f"{title:22} from {x.min():+.1f} to {x.max():+.1f}, mean {x.mean():+.2f}, spread {x.std():.2f}")

# %% [markdown]
# What one paper says about its input, and what its code does. (*grey3* is luma copied into three channels, for networks that expect
# colour. *tta*, test-time augmentation, is asking the network about several versions of a picture, here it and its mirror image, and
# taking the mean. A *Haar cascade* and *RetinaFace* are two programs that find faces.)

# %%
ledger_table("resemotenet", "input-size", "input-colour", "evaluation-flip", "B7")

# %% [markdown]
# ## Exercises
#
# **1.** A colleague sends FER2013's training labels, but does not say in which order. You have the counts of the numbers 0 to 6. Which
# order is it? Answer with a key of section 2.

# %%
secret = keys7[(SEED + 1) % len(keys7)]
mystery = [train_counts[name] for name in labels.order(secret)]
print("counts of the labels 0 to 6:", mystery)
answer_1 = None

# %%
hint_1 = "Disgust is the rarest and happiness the most frequent: at which positions are they?"
check("the order", answer_1, secret, hint=hint_1)

# %% tags=["solution"]
answer_1 = next(key for key in keys7 if [train_counts[name] for name in labels.order(key)] == mystery)
check("the order", answer_1, secret, hint=hint_1)

# %% [markdown]
# **2.** A classifier recognises 90 % of happiness, 80 % of surprise and neutral, 60 % of anger and sadness, and never fear or disgust.
# What are its accuracy and its balanced accuracy on FER2013's private test split, as fractions? (The counts are in `test_counts`.)

# %%
recall = dict(anger=0.6, disgust=0.0, fear=0.0, happiness=0.9, sadness=0.6, surprise=0.8, neutral=0.8)
answer_2a = None  # accuracy
answer_2b = None  # balanced accuracy

# %%
check("accuracy", answer_2a, 0.634, tolerance=0.005, hint="Weigh each recall with the number of its pictures.")
check("balanced accuracy", answer_2b, 0.529, tolerance=0.005, hint="The plain mean of the seven recalls.")

# %% tags=["solution"]
answer_2a = sum(recall[name] * n for name, n in test_counts.items()) / total
answer_2b = sum(recall.values()) / 7
check("accuracy", answer_2a, 0.634, tolerance=0.005, hint="Weigh each recall with the number of its pictures.")
check("balanced accuracy", answer_2b, 0.529, tolerance=0.005, hint="The plain mean of the seven recalls.")

# %% [markdown]
# **3.** Write `count_copies(images, split)`: how many pictures of `validation` have equal pixels with one of `train`? Use `image_hashes`.


# %%
def count_copies(images, split):
    """Your turn."""
    return None


# %%
expected_3 = int(duplicate_mask(naive, "validation", "train").sum())
hint_3 = "A hash for each picture, then ask which of validation's occur among train's; numpy has a function for that."
check("copies across the border", count_copies(naive.images, naive.split), expected_3, hint=hint_3)


# %% tags=["solution"]
def count_copies(images, split):
    """Pictures of validation whose pixels occur in train."""
    hashes = image_hashes(images)
    return int(np.isin(hashes[split == "validation"], hashes[split == "train"]).sum())


check("copies across the border", count_copies(naive.images, naive.split), expected_3, hint=hint_3)

# %% [markdown]
# **4.** Somebody draws the brows together (AU4), raises the upper lids (AU5) and tightens the lower ones (AU7), each at 0.7, and presses
# the lips to a line (AU23 at 0.7). Which prototype is nearest? And which if the lips stretch (AU20) instead of tightening?

# %%
answer_4 = None  # two words: ["...", "..."]

# %%
tense = dict(AU4=0.7, AU5=0.7, AU7=0.7)
nearest = [emotions[likeness({**tense, unit: 0.7}).argmax()] for unit in ("AU23", "AU20")]
check("the nearest prototypes", answer_4, nearest, hint="Make the faces with the sliders of section 1.")

# %% tags=["solution"]
answer_4 = ["anger", "fear"]
check("the nearest prototypes", answer_4, nearest, hint="Make the faces with the sliders of section 1.")

# %% [markdown]
# **5.** Ten votes: five for happiness, five for surprise. How many words does each rule keep: majority, probability, multi-target?

# %%
answer_5 = None  # three numbers: [majority, probability, multi-target]

# %%
tie = np.array([[5 * (name in ("happiness", "surprise")) for name in columns]])
expected_5 = [int((vote_targets(tie, mode)[0] > 0).sum()) for mode in ("majority", "probability", "multi_target")]
check("words kept", answer_5, expected_5, hint="Is five of ten more than half?")

# %% tags=["solution"]
answer_5 = [0, 2, 2]
check("words kept", answer_5, expected_5, hint="Is five of ten more than half?")

# %% [markdown]
# **6.** A network was trained with mean 0.5 and spread 0.25. What does it get for a white pixel? And what, if somebody forgets the
# normalisation?

# %%
answer_6 = None  # two numbers: [as trained, forgotten]

# %%
hint_6 = "White is 1 before normalisation; subtract the mean, divide by the spread."
check("white, as trained and forgotten", answer_6, [2.0, 1.0], hint=hint_6)

# %% tags=["solution"]
answer_6 = [(1 - 0.5) / 0.25, 1.0]  # for this network 1.0 is a light grey: every picture looks washed out
check("white, as trained and forgotten", answer_6, [2.0, 1.0], hint=hint_6)

# %% [markdown]
# ## Recap
#
# You can now
#
# 1. describe an expression by facial action units, and say what a label is and what it is not
# 2. translate between label orders, and see what a wrong order costs
# 3. say why accuracy alone misleads when classes are unequal
# 4. split data so that nothing leaks: before augmenting, with copies on one side
# 5. read a vote distribution and say what a single label hides
# 6. say what a network is really fed: size, grey, mirror
#
# Next: [a network, by hand](02_training_loop_by_hand.ipynb).

# %%
footer(faceset)
