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
# A network learns what its data say, faults included. Most surprising results in this field, good and bad ones, can be explained
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
# your own copy of FER2013 [@fer2013] and of the FER+ votes [@ferplus], set the four values below and run again: counts, copies and
# votes are then those of the real data, as numbers and charts. [data/README.md](../data/README.md) says where to get them and under
# which terms. Pictures of real data sets are never shown here: they are people who were not asked.

# %% tags=["parameters"]
PROFILE = "teach"  # smoke (seconds) or teach (minutes on a laptop)
DATA = "synthetic"  # or "fer2013", with the paths of your own copies
DATA_PATH = None  # fer2013.csv, or its folder
VOTES_PATH = None  # fer2013new.csv of FER+; None: votes are simulated
SEED = 0

# %%
import dataclasses
import hashlib

import numpy as np
import torch
from matplotlib.patches import Rectangle
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as TF

from ferkit import data, labels, papers, plots
from ferkit.data import carve_validation, duplicate_mask, duplicates_across
from ferkit.data.action_units import AU_DESCRIPTIONS, AU_NAMES, PROTOTYPES, au_vector
from ferkit.data.ferplus import MODES, read_votes, vote_targets
from ferkit.data.synthetic import face_from_action_units, make_faces
from ferkit.data.transforms import prepare
from ferkit.metrics import evaluate, wilson
from ferkit.notebook import check, footer, ledger_table, profile, record
from ferkit.widgets import explore

S = profile(
    PROFILE,
    smoke=dict(n_train=800, n_test=200, originals=200, versions=(1, 4), n_votes=300),
    teach=dict(n_train=4000, n_test=1000, originals=600, versions=(1, 2, 4, 8), n_votes=1500),
)
rng = np.random.default_rng(SEED)
emotions = labels.EMOTIONS  # eight; the first seven are the usual problem
paper = papers.load("resemotenet")  # its ledger holds the counts printed for four data sets


def canvas(columns, width, height, rows=1, **options):
    """A figure in the workbook's style and its panels."""
    figure = plots.Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **options).ravel()


def table(values, rows, columns, width, height, form):
    """A matrix of numbers as a coloured table; zeros stay empty."""
    with plots.style():
        figure, (ax,) = canvas(1, width, height)
        ax.imshow(values, cmap="Blues", vmin=0, vmax=1.1, aspect="auto")
        for (i, j), value in np.ndenumerate(values):
            ink = "white" if value > 0.65 else "black"
            ax.text(j, i, form.format(value) if value else "", ha="center", va="center", fontsize=8, color=ink)
        ax.set_xticks(range(len(columns)), columns, rotation=40, ha="right", rotation_mode="anchor", fontsize=8)
        ax.set_yticks(range(len(rows)), rows)
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)
    return figure


# %% [markdown]
# ## 1 · From muscles to a word
#
# What a camera sees is skin moved by muscles. The Facial Action Coding System (FACS [@facs]) describes just that: **action units**
# (AU), numbered, each the visible trace of one muscle or a few, each with an intensity. It says *inner brow raised, lips parted*. It
# does not say *afraid*.
#
# The word comes afterwards. For each of seven emotions and neutral there is a combination of units that people usually read as that
# word, its **prototype**. Here they are, drawn on two persons:

# %%
faces = [face_from_action_units(PROTOTYPES[name], seed=person, size=128) for person in (2, 5) for name in emotions]
plots.face_grid(faces, [*emotions, *[""] * len(emotions)], columns=len(emotions))

# %% [markdown]
# And as a table: which unit belongs to which word, and how strongly in our drawings.

# %%
used = [au for au in AU_NAMES if any(au in units for units in PROTOTYPES.values())]
strength = np.array([[PROTOTYPES[name].get(au, 0) for au in used] for name in emotions])
table(strength, emotions, [f"{au}  {AU_DESCRIPTIONS[au]}" for au in used], 9.2, 4.1, "{:g}")

# %% [markdown]
# > **Question.** Which two words share the most units? A network will mix up those two before any others.

# %%
shared = {
    (a, b): sorted(set(PROTOTYPES[a]) & set(PROTOTYPES[b]), key=AU_NAMES.index)
    for i, a in enumerate(emotions)
    for b in emotions[i + 1 :]
}
for (a, b), units in sorted(shared.items(), key=lambda pair: -len(pair[1]))[:4]:
    print(f"{a:10} and {b:10} share {len(units)}: {', '.join(units)}")

# %% [markdown]
# Now make a face yourself. Start from fear and take the lip stretcher (AU20) away: where does it stop being fear for *you*? The bars
# say how near the face is to each prototype, as the angle between the two lists of intensities: 1 is the same direction.


# %%
def nearness(units):
    """Cosine between an AU vector and each prototype; neutral gets what is missing to a full expression."""
    v = np.array(au_vector(units))
    ideal = np.array([au_vector(PROTOTYPES[name]) for name in emotions])
    length = np.linalg.norm(v)
    cosine = ideal @ v / np.maximum(np.linalg.norm(ideal, axis=1) * length, 1e-9)
    cosine[emotions.index("neutral")] = max(0.0, 1 - length)
    return cosine


def compose(
    inner_brow_raiser_AU1=0.9,
    outer_brow_raiser_AU2=0.6,
    brow_lowerer_AU4=0.7,
    upper_lid_raiser_AU5=0.9,
    cheek_raiser_AU6=0.0,
    nose_wrinkler_AU9=0.0,
    lip_corner_puller_AU12=0.0,
    lip_corner_depressor_AU15=0.0,
    lip_stretcher_AU20=0.9,
    lips_part_AU25=0.6,
    jaw_drop_AU26=0.0,
    person=2,
):
    """A face with the units given, and how near it is to each prototype."""
    chosen = {name.rpartition("_")[2]: value for name, value in locals().items() if "_AU" in name}
    near = nearness(chosen)
    with plots.style():
        figure, (left, right) = canvas(2, 6.6, 2.7, width_ratios=(1, 1.2))
        left.imshow(face_from_action_units(chosen, seed=person), cmap="gray", vmin=0, vmax=255)
        left.set(xticks=[], yticks=[])
        right.barh(range(len(emotions)), near, color=[plots.colour(name) for name in emotions])
        right.set_yticks(range(len(emotions)), emotions)
        right.set(xlim=(0, 1), ylim=(len(emotions) - 0.4, -0.6), xlabel="nearness to the prototype")
    return figure


unit = (0.0, 1.0, 0.1)
explore(
    compose,
    inner_brow_raiser_AU1=unit,
    outer_brow_raiser_AU2=unit,
    brow_lowerer_AU4=unit,
    upper_lid_raiser_AU5=unit,
    cheek_raiser_AU6=unit,
    nose_wrinkler_AU9=unit,
    lip_corner_puller_AU12=unit,
    lip_corner_depressor_AU15=unit,
    lip_stretcher_AU20=unit,
    lips_part_AU25=unit,
    jaw_drop_AU26=unit,
    person=(0, 9, 1),
)

# %% [markdown]
# Prototypes are posters. In a data set expressions are weak, units are missing or belong to something else, heads turn, hands hide
# mouths. Our drawn data set imitates that.
#
# > **Question.** Give each of these eight faces one of the seven words (no contempt), before you run the cell below it.

# %%
quiz = make_faces(8, seed=SEED + 7, size=96)
plots.face_grid(quiz.images, [f"face {i + 1}" for i in range(8)])

# %%
for i in range(8):
    found = ", ".join(f"{au} {value:.1f}" for au, value in zip(AU_NAMES, quiz.aus[i], strict=True) if value > 0.15)
    print(f"face {i + 1}: drawn as {quiz.names[quiz.true_labels[i]]:10} units above 0.15: {found or 'none'}")

# %% [markdown]
# If you got all eight, you are better than most. A **label** is a word that somebody wrote under a picture. It is a judgement about a
# picture. It is not a measurement of what the person felt: people smile in grief, scowl in thought, and differ in how much they show
# [@barrett]. Networks trained on such labels learn the judgement, with the judges' habits.
#
# ## 2 · A label is a number, and numbers come in orders
#
# In a file the word is a number, and each data set counts in its own order. All orders this workbook has to do with, side by side:

# %%
orders = {}
for key, names in labels.ORDERS.items():
    orders.setdefault(names, []).append(key)
with plots.style():
    figure, (ax,) = canvas(1, 9.4, 4.3)
    for column, names in enumerate(orders):
        for row, name in enumerate(names):
            ax.add_patch(Rectangle((column, row), 0.96, 0.92, color=plots.colour(name)))
            ax.text(
                column + 0.48,
                row + 0.46,
                name,
                ha="center",
                va="center",
                fontsize=8.5,
                color="black" if name in ("neutral", "happiness", "surprise") else "white",
            )
    ax.set_xticks(np.arange(len(orders)) + 0.48, ["\n".join(keys) for keys in orders.values()])
    ax.set_yticks(np.arange(8) + 0.46, range(8))
    ax.set(xlim=(0, len(orders)), ylim=(8, 0), ylabel="position (RAF-DB's files count from 1)")
    ax.xaxis.tick_top()
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
figure

# %% [markdown]
# Seven orders for the same few words. `papers` is the order of printed tables, the alphabet's, and also what you get from folders
# named after emotions, because folders are sorted by name. **By hand**: label 3 of FER2013 is happiness; the released code of
# ResEmoteNet has happiness at 0; so 3 becomes 0. **By the library**, for a whole file at once:

# %% tags=["nbval-check-output"]
written = np.array([3, 3, 6, 0, 1, 5])  # as FER2013's file has them
translation = np.asarray(labels.index_map("fer2013", "resemotenet"))
print("table ", translation.tolist())
print("labels", written.tolist(), "->", translation[written].tolist())
print("words ", [labels.order("fer2013")[k] for k in written])
print(
    "RAF-DB counts from 1: surprise is",
    labels.native_code("rafdb", "surprise"),
    "and 7 is",
    labels.from_native("rafdb", 7),
)

# %% [markdown]
# > **Question.** Someone sorts the pictures of FER2013 into folders named anger, disgust, ... and then reads the folders' numbers as
# > FER2013's. How many of the labels are still right: none, one in seven, half?

# %%
official = paper.tables["fer2013"]  # counts per class of the contest's three splits
train_counts = {labels.canonical(name): n for name, n in official.numbers("Training").items() if name != "Total"}


def misread(written="papers", read="fer2013"):
    """What a label file in one order becomes when it is read in another; FER2013's training counts."""
    names = labels.order("fer2013")
    matrix = np.zeros((7, 7), int)
    for code, name in enumerate(labels.order(written)):
        matrix[names.index(name), names.index(labels.order(read)[code])] = train_counts[name]
    return plots.confusion(
        matrix,
        names,
        title=f"written in the order of {written}, read as {read}: {matrix.trace() / matrix.sum():.0%} right",
    )


keys7 = [keys[0] for names, keys in orders.items() if len(names) == 7]
explore(misread, written=["papers", *[key for key in keys7 if key != "papers"]], read=keys7)

# %% [markdown]
# Rows are what the label meant, columns what it is taken for. A little more than half survive, because four words happen to stand
# at the same place in both orders. All pairs:

# %%
kept = np.zeros((len(keys7), len(keys7)))
for i, a in enumerate(keys7):
    for j, b in enumerate(keys7):
        same = [x for x, y in zip(labels.order(a), labels.order(b), strict=True) if x == y]
        kept[i, j] = sum(train_counts[name] for name in same) / sum(train_counts.values())
record("folders_read_as_fer2013_frac", kept[keys7.index("papers"), keys7.index("fer2013")])
table(kept, [f"written as {key}" for key in keys7], [f"read as {key}" for key in keys7], 5.6, 3.6, "{:.0%}")

# %% [markdown]
# The dangerous cells are not the zeros. A network with 0 % is searched for a fault at once; one with half of the labels right looks
# like a mediocre network. Look at a confusion matrix early: a permuted order moves *whole rows*, a bad network spreads.
#
# The exchange of single columns happens in print, too. For one paper, in three voices:

# %%
ledger_table("resemotenet", "label-order", "T2.angry", "T2.disgust", "T2.surprise")

# %% [markdown]
# ## 3 · Unequal classes
#
# Load the data and count. (The drawn training set has FER2013's proportions by our choice.)

# %%
if DATA == "fer2013":
    faceset = data.load("fer2013", DATA_PATH)
else:
    faceset = data.load("synthetic", n_train=S.n_train, n_test=S.n_test, size=48, seed=SEED, imbalance="fer2013")
names = faceset.names
test_split = next(split for split in ("private_test", "public_test", "test") if split in faceset.splits())
print(faceset)
plots.class_counts({split: faceset.select(split).counts() for split in faceset.splits()})

# %%
printed = paper.tables["II"]
for column in ("FER2013 train", "RAF-DB train", "AffectNet-7 train", "ExpW train"):
    n = {name: count for name, count in printed.numbers(column).items() if name != "Total"}
    most, least = max(n, key=n.get), min(n, key=n.get)
    print(f"{column:18} most {most:8} {n[most]:7,}   least {least:8} {n[least]:5,}   {n[most] / n[least]:5.1f} to 1")

# %% [markdown]
# In each of the four sets the rarest emotion has 15 to 35 times fewer pictures than the most frequent one, and it is always disgust
# or fear. Nobody planned it: people put smiling pictures on the web.
#
# > **Question.** A classifier that always says *happiness* is tested on FER2013's private test split. What is its accuracy? Is it a
# > seventh?

# %%
test_counts = {labels.canonical(name): n for name, n in official.numbers("PrivateTest").items() if name != "Total"}
order = labels.order("fer2013")
truth = np.repeat(np.arange(7), [test_counts[name] for name in order])
always = np.zeros((len(truth), 7))
always[:, order.index("happiness")] = 1
scores = evaluate(always, truth, order, n_bootstrap=100)
print(
    f"accuracy {scores['accuracy']:.1%}, balanced accuracy {scores['balanced_accuracy']:.1%}, macro-F1 {scores['macro_f1']:.3f}"
)
record("majority_accuracy_frac", scores["accuracy"])
record("majority_balanced_accuracy_frac", scores["balanced_accuracy"])

# %% [markdown]
# Three figures for the same answers:
#
# - **accuracy**: correct answers over all answers. Frequent classes decide it.
# - **recall** of a class: of the pictures of this class, the share that was found. **Balanced accuracy** is the mean of the seven
#   recalls; each class counts the same. Knowing nothing gives a seventh.
# - **macro-F1**: for each class a mean of recall and of how often the classifier is right when it says this word, then the mean over
#   classes. A word that is thrown around costs something here.
#
# Now a subtler classifier: it is right on 70 % of each class, except that it never recognises one of them. What does that cost?

# %%
total = sum(test_counts.values())
lost_accuracy = {name: 70 * test_counts[name] / total for name in order}
lost_balanced = 70 / 7
with plots.style():
    figure, (ax,) = canvas(1, 7.0, 3.0)
    place = np.arange(7)
    ax.barh(place - 0.18, lost_accuracy.values(), height=0.34, color=[plots.colour(name) for name in order])
    ax.barh(place + 0.18, [lost_balanced] * 7, height=0.34, color="#E4E4E4", edgecolor="#808080")
    for i, name in enumerate(order):
        ax.text(
            lost_accuracy[name] + 0.2,
            i - 0.18,
            f"{lost_accuracy[name]:.1f} points of accuracy",
            va="center",
            fontsize=8,
        )
        ax.text(
            lost_balanced + 0.2, i + 0.18, f"{lost_balanced:.0f} points of balanced accuracy", va="center", fontsize=8
        )
    ax.set_yticks(place, [f"never {name}" for name in order])
    ax.set(ylim=(6.6, -0.6), xlim=(0, 26), xlabel="points lost (FER2013, private test)")
figure

# %% [markdown]
# Giving up on disgust costs one point of accuracy. Whoever trains for accuracy alone may do just that, and the printed number will
# hardly show it. Report recalls, or a confusion matrix, with it.
#
# A rare class is also hard to *measure*. With the same recall of 70 %, the 95 % interval for each class would be:

# %%
for name in order:
    n = test_counts[name]
    low, high = wilson(round(0.7 * n), n)
    print(f"{name:10} {n:4} pictures: {low:.0%} to {high:.0%}")

# %% [markdown]
# ## 4 · Splits
#
# | split | what for | comparison |
# |---|---|---|
# | **training** | the network is corrected on these | exercises |
# | **validation** | we choose by these: when to stop, which setting | mock exam |
# | **test** | read once, at the end | exam |
#
# An exam says something only if its questions were not among the exercises. When test or validation pictures, or their twins, are in
# the training data, we speak of a **leak**. What did the paper of notebook 10 do, and its code?

# %%
ledger_table("resemotenet", "split-fer2013", "split-rafdb-affectnet", "D1", "D2")

# %% [markdown]
# ### Split first, augment afterwards
#
# **Augmentation** makes several versions of a picture: mirrored, shifted, cropped. It is good for training. But suppose someone makes
# the versions *first* and splits at random *afterwards*: then most validation pictures have a sibling in training.
#
# > **Question.** With four versions of each picture and a random fifth for validation, how many validation pictures have at least one
# > sibling in training? (Each of the other three lands in validation with probability 1/5.)
#
# To see what that does, we need a learner that can do nothing but remember. **Nearest neighbour**: look for the training picture whose
# grey values are most similar, and give its label. It knows nothing of expressions.


# %%
def vectors(images):
    """Pictures as rows of grey values at 24 px, each of mean 0 and length 1."""
    x = prepare(images, size=24, mean=(0.0,), std=(1.0,), colour="grey").flatten(1).numpy()
    x = x - x.mean(1, keepdims=True)
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-9)


def remember(train_images, train_labels, images):
    """The label of the most similar training picture."""
    known = vectors(train_images)
    nearest = [(vectors(images[i : i + 500]) @ known.T).argmax(1) for i in range(0, len(images), 500)]
    return train_labels[np.concatenate(nearest)]


originals = make_faces(S.originals, size=48, seed=SEED + 1, imbalance="fer2013")
crop = v2.RandomCrop(48, padding=2, padding_mode="edge")  # shifts by up to two pixels
torch.manual_seed(SEED)
outcome = {"augmented, then split": [], "split, then augmented": []}
siblings = []
for versions in S.versions:
    copies = [
        np.stack([crop(torch.from_numpy(image)[None])[0].numpy() for image in originals.images])
        for _ in range(versions - 1)
    ]
    images = np.concatenate([originals.images, *copies])
    who = np.tile(np.arange(S.originals), versions)  # which original a version comes from
    late = np.zeros(len(images), bool)
    late[rng.permutation(len(images))[: len(images) // 5]] = True  # a random fifth of all versions
    early = np.isin(
        who, rng.permutation(S.originals)[: S.originals // 5]
    )  # all versions of a random fifth of the originals
    siblings.append(np.isin(who[late], who[~late]).mean())
    for name, held_out in (("augmented, then split", late), ("split, then augmented", early)):
        said = remember(images[~held_out], originals.labels[who[~held_out]], images[held_out])
        outcome[name].append((said == originals.labels[who[held_out]]).mean())

with plots.style():
    figure, (ax,) = canvas(1, 6.4, 3.0)
    for (name, values), colour, side in zip(outcome.items(), plots.COLOURS[1::-1], (-0.2, 0.2), strict=True):
        place = np.arange(len(S.versions)) + side
        ax.bar(place, values, width=0.38, color=colour, label=name)
        for x, value in zip(place, values, strict=True):
            ax.text(x, value + 0.01, f"{value:.0%}", ha="center", fontsize=8.5)
    ax.set_xticks(
        range(len(S.versions)),
        [
            f"{k} version{'s' * (k > 1)}\n{share:.0%} with a sibling"
            for k, share in zip(S.versions, siblings, strict=True)
        ],
    )
    ax.set(ylim=(0, 1.05), ylabel="validation accuracy", title="a learner that only remembers")
    ax.legend(loc="upper left")
record("augmented_then_split_frac", outcome["augmented, then split"][-1])
record("split_then_augmented_frac", outcome["split, then augmented"][-1])
figure

# %% [markdown]
# The same faces, the same learner that understands nothing. Split first, and it is where it belongs, no better than guessing. Augment
# first, and it looks like a good network. No accuracy can be compared with another one before this is settled. (Answer: with four
# versions $1 - (1/5)^3$, more than 99 %.)
#
# ### Exact copies
#
# Pictures from the web come twice. To find equal pictures among many, nobody compares all pairs. One computes a short fingerprint
# of each, a **hash**, that is equal for equal pixels, and compares fingerprints. This is the library's own function; a test
# holds the two equal.


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
print("equal pictures, equal hash:", first == second, "  one pixel changed:", first == third)

# %% [markdown]
# One changed grey value gives another hash. So this finds *exact* copies only: a copy that was saved again as JPEG, resized or cropped
# escapes. What it finds is the least there is.
#
# Drawn faces have no copies, so we plant some: pictures of the test split get into training, a few of them under another label, and
# some training pictures are doubled. With `DATA = "fer2013"` nothing is planted.

# %%
if DATA == "synthetic":
    in_test, in_train = (np.flatnonzero(faceset.split == split) for split in ("test", "train"))
    taken = np.concatenate(
        [
            rng.choice(in_test, len(in_test) // 12, replace=False),
            rng.choice(in_train, len(in_train) // 25, replace=False),
        ]
    )
    relabelled = faceset.labels[taken].copy()
    relabelled[:5] = (relabelled[:5] + 1) % len(names)
    faceset = dataclasses.replace(
        faceset,
        images=np.concatenate([faceset.images, faceset.images[taken]]),
        labels=np.concatenate([faceset.labels, relabelled]),
        split=np.concatenate([faceset.split, np.repeat("train", len(taken))]),
    )
    print(f"planted: {len(in_test) // 12} test pictures in training, {len(in_train) // 25} training pictures doubled")

splits = list(faceset.splits())
hashes = {split: image_hashes(faceset.select(split).images) for split in splits}
for split in splits:
    extra = len(hashes[split]) - len(np.unique(hashes[split]))
    print(f"{split:13} {len(hashes[split]):6,} pictures, {extra:5,} of them repeat another one of this split")
    for other in splits:
        if other != split and (n := int(duplicate_mask(faceset, split, other).sum())):
            print(f"{'':13} {n:6,} of them are also in {other}")

pairs = duplicates_across(faceset, "train", test_split)
conflicting = int((faceset.labels[pairs[:, 0]] != faceset.labels[pairs[:, 1]]).sum())
print(
    f"pairs of equal pictures in train and {test_split}: {len(pairs)}, in {conflicting} of them the two labels differ"
)
leaked = duplicate_mask(faceset, test_split, "train")
record("leaked_test_n", leaked.sum())
record("conflicting_pairs_n", conflicting)

# %% [markdown]
# Copies with different labels are an estimate of the labels' noise that costs nothing: the same picture was judged twice, and the
# judgements differ.
#
# What do copies do to a result? The learner that only remembers, tested on all pictures, on the copies, and on the rest:

# %%
train, test = faceset.select("train"), faceset.select(test_split)
right = remember(train.images, train.labels, test.images) == test.labels
points = []
for name, chosen in (
    ("all test pictures", np.ones(len(test), bool)),
    ("copies of training pictures", leaked),
    ("without the copies", ~leaked),
):
    k, n = int(right[chosen].sum()), int(chosen.sum())
    points.append((f"{name} (n = {n:,})", k / n, *wilson(k, n)))
    print(f"{name:28} {k / n:6.1%} of {n:,}")
record("remember_all_frac", right.mean())
record("remember_clean_frac", right[~leaked].mean())
plots.intervals(points)

# %% [markdown]
# The result **without the copies** is the *duplicate-clean* figure. Every test result of this workbook is given in both ways: all
# pictures, to compare with others, and clean, to know. Does a leak of a few per cent matter? It adds its share of pictures that cost
# no understanding, and differences between published networks are often smaller than that.
#
# ### Carving a validation split
#
# FER2013 comes with three splits, most sets with two or one. `carve_validation` takes the validation pictures out of training, and
# keeps two promises. **Stratified**: the same share of every class. **Copies together**: equal pictures land on one side.

# %%
carved = carve_validation(faceset, fraction=0.1, seed=SEED)
drawn = rng.permutation(np.flatnonzero(faceset.split == "train"))[: len(train) // 10]
naive = dataclasses.replace(faceset, split=faceset.split.astype("<U12"))
naive.split[drawn] = "validation"
for title, result in (("drawn at random", naive), ("carve_validation", carved)):
    n = {split: np.array(list(result.select(split).counts().values())) for split in ("train", "validation")}
    share = n["validation"] / (n["train"] + n["validation"])
    crossing = int(duplicate_mask(result, "validation", "train").sum())
    print(
        f"{title:17} share of each class that moved: {share.min():.1%} to {share.max():.1%}; copies across the border: {crossing}"
    )
record("crossing_copies_n", crossing)

# %% [markdown]
# And training pictures that reappear in the test split can be left out altogether: `drop_leaked_from`.

# %%
clean = carve_validation(faceset, fraction=0.1, seed=SEED, drop_leaked_from=test_split)
print("before", carved.splits())
print("after ", clean.splits())
record("copies_left_n", duplicate_mask(clean, test_split).sum())

# %% [markdown]
# ## 5 · Votes instead of labels
#
# FER2013 has one label per picture. For FER+ [@ferplus] ten people looked at each of its pictures, and their **votes** are kept. For
# drawn faces we simulate ten raters: each sees the action units with errors of their own, and says the word whose prototype is
# nearest. The size of the errors is chosen so that they agree about as often as FER+'s raters do.


# %%
def simulated_votes(aus, raters=10, error=0.18):
    """Votes (N, 10) in FER+'s columns: eight emotions, unknown, not a face."""
    order = labels.order("ferplus")
    ideal = np.array([au_vector(PROTOTYPES[name]) for name in order])  # (8, A)
    seen = np.clip(aus[:, None] + rng.normal(0, error, (len(aus), raters, aus.shape[1])), 0, 1)  # (N, R, A)
    # a weak expression is still one: each prototype is compared at three strengths
    distance = np.min([((seen[:, :, None] - s * ideal) ** 2).sum(-1) for s in (0.35, 0.65, 1.0)], axis=0)  # (N, R, 8)
    said = distance.argmin(-1)  # (N, R)
    return np.stack([(said == k).sum(1) for k in range(10)], axis=1)


if DATA == "fer2013" and VOTES_PATH is not None:
    counts = read_votes(VOTES_PATH).counts
    print(f"FER+: {len(counts):,} pictures")
else:
    judged = make_faces(S.n_votes, size=48, seed=SEED + 3, emotions=8, imbalance="ferplus")
    counts = simulated_votes(judged.aus)
    print(f"simulated: {len(counts):,} pictures")
columns = labels.FERPLUS_COLUMNS
top = counts.max(1)

# %%
if DATA == "synthetic":
    drawn_as = np.array([judged.names[k] for k in judged.true_labels])
    agreed = [np.flatnonzero(top == 10)[0], *[np.flatnonzero(top == k)[0] for k in (8, 6, 5, 4, 3) if (top == k).any()]]
    with plots.style():
        figure, axes = canvas(len(agreed), 1.75 * len(agreed), 3.6, rows=2, height_ratios=(1, 1.1))
        for j, i in enumerate(agreed):
            axes[j].imshow(judged.images[i], cmap="gray", vmin=0, vmax=255)
            axes[j].set(xticks=[], yticks=[], title=f"drawn: {drawn_as[i]}")
            bars = axes[len(agreed) + j]
            bars.barh(range(8), counts[i, :8], color=[plots.colour(name) for name in columns[:8]])
            bars.set(xlim=(0, 10), ylim=(7.6, -0.6), xticks=(0, 5, 10))
            bars.set_yticks(range(8), columns[:8] if j == 0 else [""] * 8)
            bars.tick_params(axis="y", length=0)
        axes[len(agreed)].set_xlabel("votes of 10")
figure if DATA == "synthetic" else "Pictures of real data sets are not shown here."

# %% [markdown]
# From left to right the raters agree less and less. A single label would give all of these pictures the same certainty.
#
# How much agreement is there on the whole?

# %%
with plots.style():
    figure, (ax,) = canvas(1, 6.4, 2.6)
    share = np.bincount(top, minlength=11)[1:] / len(top)
    ax.bar(range(1, 11), share, color=plots.COLOURS[0])
    for k, value in enumerate(share, 1):
        ax.text(k, value + 0.005, f"{value:.0%}" if value else "", ha="center", fontsize=8)
    ax.set(xlabel="raters who gave the most frequent answer", ylabel="share of pictures", xticks=range(1, 11))
figure

# %%
_, majority = vote_targets(counts, "majority")
voters = counts.sum(1)
# one rater against the others: take each vote out, and see whether the rest would have said the same
one_against_rest = np.zeros(len(counts))
for k in range(counts.shape[1]):
    others = counts - np.eye(counts.shape[1], dtype=int)[k]
    same = (others.argmax(1) == k) & (counts[:, k] > 0)
    one_against_rest += counts[:, k] * same
agreement = (one_against_rest / voters).mean()
print(
    f"all raters agree on {(top == voters).mean():.0%} of the pictures; on {(majority < 0).mean():.0%} there is no majority for an emotion"
)
print(f"one rater agrees with the others' most frequent answer in {agreement:.0%} of all votes")
record("rater_agreement_frac", agreement)
record("no_majority_frac", (majority < 0).mean())

# %% [markdown]
# The last number is a landmark: a network scored against what most people said, and far above what one person reaches, has learned
# something about the *labels* that people do not see in the *faces*. Ask what.
#
# ### From votes to something to train on
#
# FER+ has rules for it. **Majority**: the word with more than half of the votes, otherwise the picture is left out. **Probability**:
# the most frequent words with their shares. **Multi-target**: every word with 30 % or more counts as fully right. A single vote is
# taken for a slip and removed first.
#
# > **Question.** Four say happiness, four surprise, two neutral. What does each rule make of it? Then move one vote.


# %%
def rules(happiness=4, surprise=4, neutral=2, fear=0, unknown=0):
    """The targets of the three rules for chosen votes."""
    votes = dict(happiness=happiness, surprise=surprise, neutral=neutral, fear=fear, unknown=unknown)
    row = np.array([[votes.get(name, 0) for name in columns]])
    with plots.style():
        figure, axes = canvas(4, 9.0, 2.5, sharey=True)
        panels = {"votes": row[0, [columns.index(name) for name in votes]]}
        panels |= {
            mode: [vote_targets(row, mode)[0][0, columns.index(name)] if name != "unknown" else 0 for name in votes]
            for mode in MODES
        }
        for ax, (title, values) in zip(axes, panels.items(), strict=True):
            ax.barh(
                range(len(votes)),
                values,
                color=[plots.colour(name) if name != "unknown" else "#4D4D4D" for name in votes],
            )
            ax.set(
                xlim=(0, 10 if title == "votes" else 1), ylim=(len(votes) - 0.4, -0.6), title=title.replace("_", "-")
            )
            ax.set_yticks(range(len(votes)), list(votes))
            if not any(values):
                ax.text(0.5, 0.5, "left out", transform=ax.transAxes, ha="center")
    return figure


count = (0, 10, 1)
explore(rules, happiness=count, surprise=count, neutral=count, fear=count, unknown=count)

# %%
for mode in MODES:
    targets, label = vote_targets(counts, mode)
    words = (targets[label >= 0] > 0).sum(1)
    print(f"{mode:13} keeps {np.mean(label >= 0):.1%} of the pictures, with {words.mean():.2f} words per picture")

# %%
if DATA == "fer2013" and VOTES_PATH is not None:
    one_label = [labels.order("fer2013")[k] for k in faceset.labels]
    both = majority[: len(one_label)] >= 0
    first_judge = np.array([labels.order("ferplus").index(name) for name in one_label])[both]
    print(
        f"FER2013's one label and FER+'s majority name the same emotion for {(first_judge == majority[: len(one_label)][both]).mean():.1%} of {both.sum():,} pictures"
    )
else:
    true = np.array([labels.order("ferplus").index(name) for name in drawn_as])
    both = majority >= 0
    print(
        f"where there is a majority, it is the drawn emotion in {(majority == true)[both].mean():.1%} of {both.sum():,} pictures"
    )

# %% [markdown]
# ## 6 · What the network is fed
#
# The last step before the network is code, too, and hardly ever in a paper. `prepare` makes a number array out of pictures: size,
# colour, normalisation.
#
# **Size.** Making a picture smaller means that one new pixel stands for many old ones. *With antialiasing* it is their mean; *without*
# it is read off at one place, and what lies between is lost. Libraries differ in which of the two they do by default.


# %%
def fed(side=32, noise=0.1, mirror=False):
    """One drawn face of 256 px, made small in two ways."""
    face = face_from_action_units(PROTOTYPES["happiness"], seed=5, size=256, noise=noise)
    face = face[:, ::-1].copy() if mirror else face
    x = torch.from_numpy(face)[None]
    with_it = TF.resize(x, [side, side], antialias=True)[0].numpy()
    without = TF.resize(x, [side, side], antialias=False)[0].numpy()
    with plots.style():
        figure, axes = canvas(4, 9.2, 2.6)
        change = with_it.astype(int) - without
        titles = ("256 px", f"{side} px, antialiased", f"{side} px, not")
        for ax, image, title in zip(axes, (face, with_it, without), titles, strict=False):
            ax.imshow(image, cmap="gray", vmin=0, vmax=255)
            ax.set_title(title)
        axes[3].imshow(change, cmap="RdBu_r", vmin=-80, vmax=80)
        axes[3].set_title(f"difference, mean {np.abs(change).mean():.0f} of 255")
        for ax in axes:
            ax.set(xticks=[], yticks=[])
    return figure


explore(fed, side=[24, 32, 48, 64, 100], noise=(0.0, 0.2, 0.05), mirror=False)

# %% [markdown]
# Without antialiasing the picture keeps the full grain of the sensor, and thin lines (lids, lips, the very things that carry an
# expression) break up. A network trained one way and used the other way sees pictures it has never met. `prepare` always
# antialiases.
#
# **Mirror.** Tick the box: another picture, the same label. That is why a random mirror is the commonest augmentation for faces. It
# belongs into training only; a *random* mirror while testing gives another result each time.
#
# **Colour.** Grey is not the mean of red, green and blue. The eye sees green best, and the usual weights (ITU-R 601, called **luma**)
# are 0.299, 0.587, 0.114. **By hand** for a skin-like colour, and **by `prepare`**:

# %% tags=["nbval-check-output"]
colour = np.array([200, 120, 80], np.uint8)  # red, green, blue
by_hand = 0.299 * 200 + 0.587 * 120 + 0.114 * 80
pixel = np.broadcast_to(colour[None, :, None, None], (1, 3, 8, 8)).copy()
by_prepare = prepare(pixel, size=8, mean=(0.0,), std=(1.0,), colour="grey")[0, 0, 0, 0].item() * 255
swapped = prepare(pixel[:, ::-1].copy(), size=8, mean=(0.0,), std=(1.0,), colour="grey")[0, 0, 0, 0].item() * 255
print(f"by hand {by_hand:.1f}   by prepare {by_prepare:.0f} (whole grey values)   red and blue swapped {swapped:.0f}")
assert abs(by_hand - by_prepare) <= 1

# %% [markdown]
# The last figure is a well-known trap: some libraries (OpenCV) store blue first. Skin gets darker, and no error is raised.

# %%
tinted = face_from_action_units(PROTOTYPES["happiness"], seed=5, size=128, colour="rgb")
grey, dark = (
    prepare(image[None], size=128, mean=(0.0,), std=(1.0,), colour="grey")[0, 0].numpy()
    for image in (tinted, tinted[::-1].copy())
)
plots.face_grid(
    [tinted, grey, tinted[::-1], dark],
    ["red, green, blue", "its luma", "read as\nblue, green, red", "its luma"],
    columns=4,
    size=1.5,
)

# %% [markdown]
# **Normalisation** shifts and scales the values so that they lie around 0, which suits the first layer. Mean and spread belong to the
# network: the same two numbers in training and in use.

# %%
example = originals.images[:200]
for name, mean, std in (("none", (0.0,), (1.0,)), ("mean 0.5, spread 0.25", (0.5,), (0.25,))):
    x = prepare(example, size=48, mean=mean, std=std, colour="grey")
    print(
        f"{name:22} shape {tuple(x.shape)}  from {x.min():+.2f} to {x.max():+.2f}, mean {x.mean():+.2f}, spread {x.std():.2f}"
    )

# %% [markdown]
# What one paper says about its input, and what its code does:

# %%
ledger_table("resemotenet", "input-size", "input-colour", "evaluation-flip", "B7")

# %% [markdown]
# ## Exercises
#
# **1.** A colleague sends labels without saying in which order they are. You only have their counts, for the training pictures of
# FER2013. Which order is it? Answer with its key in `labels.ORDERS`.

# %%
mystery = [train_counts[name] for name in labels.order("rafdb")]
print("counts of the labels 0 to 6:", mystery)
answer_1 = None

# %%
check(
    "the mystery's order",
    answer_1,
    "rafdb",
    hint="Disgust is the rarest (436) and happiness the most frequent (7,215): at which positions are they?",
)

# %% tags=["solution"]
answer_1 = next(key for key in keys7 if [train_counts[name] for name in labels.order(key)] == mystery)
check(
    "the mystery's order",
    answer_1,
    "rafdb",
    hint="Disgust is the rarest (436) and happiness the most frequent (7,215): at which positions are they?",
)

# %% [markdown]
# **2.** A classifier recognises 90 % of happiness, 80 % of surprise and neutral, 60 % of anger and sadness, and neither fear nor disgust,
# ever. What are its accuracy and its balanced accuracy on FER2013's private test split? Give a pair of fractions.

# %%
recall = {"anger": 0.6, "disgust": 0.0, "fear": 0.0, "happiness": 0.9, "sadness": 0.6, "surprise": 0.8, "neutral": 0.8}
answer_2 = None  # (accuracy, balanced accuracy); the counts are in test_counts

# %%
if answer_2 is not None:
    check(
        "accuracy",
        answer_2[0],
        sum(recall[k] * n for k, n in test_counts.items()) / total,
        tolerance=0.005,
        hint="Weigh each recall with the number of its pictures.",
    )
    check(
        "balanced accuracy",
        answer_2[1],
        sum(recall.values()) / 7,
        tolerance=0.005,
        hint="The plain mean of the seven recalls.",
    )

# %% tags=["solution"]
answer_2 = (sum(recall[name] * n for name, n in test_counts.items()) / total, sum(recall.values()) / 7)
print(f"accuracy {answer_2[0]:.1%}, balanced accuracy {answer_2[1]:.1%}")
check("accuracy", answer_2[0], 0.634, tolerance=0.005, hint="Weigh each recall with the number of its pictures.")
check("balanced accuracy", answer_2[1], 0.529, tolerance=0.005, hint="The plain mean of the seven recalls.")

# %% [markdown]
# **3.** Write `crossing(images, split)`: the number of rows of `validation` whose pixels also occur in `train`. Use `image_hashes`.


# %%
def crossing(images, split):
    """Your turn."""
    return None


# %%
check(
    "copies across the border of the random split",
    crossing(naive.images, naive.split),
    int(duplicate_mask(naive, "validation", "train").sum()),
    hint="np.isin(hashes of validation, hashes of train).sum()",
)


# %% tags=["solution"]
def crossing(images, split):
    """Rows of validation whose pixels occur in train."""
    hashes = image_hashes(images)
    return int(np.isin(hashes[split == "validation"], hashes[split == "train"]).sum())


check(
    "copies across the border of the random split",
    crossing(naive.images, naive.split),
    int(duplicate_mask(naive, "validation", "train").sum()),
    hint="np.isin(hashes of validation, hashes of train).sum()",
)

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
