# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 14 · Diversified ESR
#
# *What a determinant of similarities rewards, when its gradient is dead, and whether different branches are better branches.*
#
# An ensemble is better than its members where they err on different faces. The ESR network [@esr] has nine or fifteen *branches* on a
# shared base; the diversity paper [@diversity] adds a term to its loss that asks the branches' attention to differ. We compute the term
# by hand, find when it acts, and train with it and without.
#
# ## Objectives
#
# After this notebook you can
#
# 1. compute the similarity matrix of an ensemble and read its determinant as a volume
# 2. choose gamma by the distances it has to tell apart, and recognise a dead term
# 3. say what a zero diagonal rewards, and why its direction turns with every branch
# 4. measure disagreement, common errors and gain, and judge by intervals whether a term helped
# 5. look at what each branch attends to, and leave an ensemble early
# 6. find out which images a table's percentages are shares of
#
# **Three voices** are kept apart: *the paper says*, *the released code does*, *we do*. The paper is the diversity paper; the code is its
# repository at `808a02a`. The *ledger* is the table in which this workbook keeps what paper, code and arithmetic say; codes such as A1 are its rows, and
# `ledger_table("diversity", "A1")` shows one.
#
# **You need** a training loop ([notebook 02](02_training_loop_by_hand.ipynb)) and CBAM's two gates
# ([notebook 03](03_attention_is_reweighting.ipynb)).

# %% tags=["parameters"]
PROFILE = "teach"  # smoke (seconds), teach (minutes on a laptop) or paper (larger, for a GPU)
DATA = "synthetic"  # or "ferplus" or "fer2013", with the path of your own copy below
DATA_PATH = None
TEST_SPLIT = "test"  # "public_test" or "private_test" for the other two
SEED = 0

# %%
import numpy as np
import torch
from torch import Tensor, nn

from ferkit import faces, papers, plots
from ferkit.evaluation import accuracy_by_branches, attention_overlap, cohen_kappa, disagreement, error_correlation, plurality
from ferkit.runs.experiment import build_model, load_faces
from ferkit.explain import spatial_maps
from ferkit.losses.diversity import describe_similarity as describe, diversity, similarity
from ferkit.evaluation.metrics import mean_interval
from ferkit.models import create_model, summarise
from ferkit.notebook import check, footer, ledger_table, profile, record
from ferkit.papers import arithmetic
from ferkit.predict import prepare_for
from ferkit.training.recipe import Recipe
from ferkit.training import fit, make_task
from ferkit.widgets import claim_checker, explore

S = profile(
    PROFILE,
    smoke=dict(n_train=60, n_test=40, size=72, width=1 / 16, epochs=1, seeds=2, steps=40),
    teach=dict(n_train=400, n_test=600, size=72, width=1 / 16, epochs=8, seeds=3, steps=400),
    paper=dict(n_train=28709, n_test=3589, size=96, width=1.0, epochs=60, seeds=5, steps=400),
)
paper = papers.load("diversity")
torch.set_num_threads(1)  # many small layers: a second thread would wait for the first
torch.manual_seed(SEED);

# %% [markdown]
# ## 1 · The network in one table

# %%
ledger_table("diversity", "idea", "esr-base", "esr-branch", "cbam", "vote", "weights-released")

# %% [markdown]
# Names, shapes and counts below come from the running network, one picture of 96 px. Every branch makes logits of its own and casts one
# vote; ties go to the class with the lowest number. (The figure lists the branches one after the other; each of them starts from the base.)

# %%
with torch.device("meta"):  # shapes and counts without computing anything
    rows = summarise(create_model("esr", attention="cbam"), 96)
notes = {"base": "4 convolutions, 4 CBAM", "branches.0": "4 convolutions, 4 CBAM"}
record("parameters_n", sum(row.params for row in rows))
plots.chain([(row.name, notes.get(row.name, ""), " × ".join(map(str, row.shape))) for row in rows], per_row=5)

# %% [markdown]
# ## 2 · Diversity by hand
#
# Take a map $\varphi_l(x_i)$ of each of $L$ members for each of $N$ faces ([@diversity], equations 1 and 2):
#
# $$S_{lk} = \tfrac1N\sum_i \exp\bigl(-\gamma\,\lVert\varphi_l(x_i)-\varphi_k(x_i)\rVert^2\bigr),\qquad D=\det S$$


# %%
def similarity_by_hand(maps: Tensor, gamma: float) -> Tensor:
    """Maps (L, N, D) to S (L, L)."""
    squares = (maps[:, None] - maps[None]).square().sum(-1)  # (L, L, N)
    return torch.exp(-gamma * squares).mean(-1)  # (L, L)


maps = torch.randn(4, 8, 5, dtype=torch.float64)
gap = (similarity_by_hand(maps, 0.1) - similarity(maps, gamma=0.1)).abs().max()
record("library_gap_ratio", float(gap))
two = similarity_by_hand(torch.tensor([[[0.0, 0.0]], [[0.5, 0.0]]]), 1.0)
print(f"two members half a unit apart, gamma 1: s = exp(-0.25) = {two[0, 1]:.3f}, det S = 1 - s^2 = {torch.linalg.det(two):.3f}")

# %% [markdown]
# The diagonal of $S$ is one. So $S$ is like a table of inner products of $L$ vectors of length one, and $\det S$ is the square of the volume
# they span: 0 where two coincide, 1 where all are at right angles.
#
# > **Question.** Three members: two very near each other, the third far away. Is $\det S$ large or small?


# %%
def three_members(x=0.6, y=0.4, gamma=2.0):
    """S of three points of a plane: (0, 0), (1, 0) and (x, y)."""
    s = similarity(torch.tensor([[[0.0, 0.0]], [[1.0, 0.0]], [[x, y]]]), gamma=gamma)
    return plots.matrices({f"det S = {describe(s)['unit']:.3f}": s.numpy()}, title=f"third member at ({x:.1f}, {y:.1f}), gamma {gamma:g}")


explore(three_members, x=(0.0, 1.0, 0.1), y=(0.0, 1.0, 0.1), gamma=[0.1, 1.0, 2.0, 10.0])

# %% [markdown]
# Small: as a pair comes to coincide the determinant goes to 0, however far the rest; move $(x, y)$ onto $(1, 0)$ and see. The determinant asks *all* pairs to differ.
#
# ## 3 · Which gamma?
#
# The paper leaves $\gamma$ open; the code takes 10, with distances summed over 36 to 512 entries. Below is $\exp(-\gamma d^2)$ over $d^2$, with the
# squared distances that untrained networks of full size have (measured with the released networks). The *pull* is the gradient with respect to the distance,
# as a share of the largest possible; where it is zero, nothing is learnt from the term. Where it is not is the *window* of this $\gamma$.

# %%
activity = paper.tables["activity"]
kinds = {"ESR, 9 branches, spatial 6x6": "ESR spatial", "ESR, 9 branches, channel 512": "ESR channel"}
kinds |= {"MA-Net patches, channel 512": "MA-Net channel", "MA-Net branches, 512": "MA-Net branches"}


def window(gamma=10.0):
    """The kernel over squared distances, and the pull it exerts, as a share of the largest possible."""
    squares = np.logspace(-3, 3, 200)
    pull = 2 * gamma * np.sqrt(squares) * np.exp(-gamma * squares)
    curves = {"similarity": np.exp(-gamma * squares), "pull": pull / np.sqrt(2 * gamma / np.e)}
    marks = {name: activity.cell(row, "median d2") for row, name in kinds.items()}
    return plots.lines(squares, curves, marks=marks, log=True, xlabel="squared distance", title=f"gamma {gamma:g}")


explore(window, gamma=[0.01, 0.1, 1.0, 10.0])

# %% [markdown]
# At 10 all four marks are beyond the window, ESR's spatial maps the least, and one $\gamma$ serves maps whose squared distances differ a hundredfold. (The marks
# are medians: some pairs are nearer, and only these pull.) What
# that means for a training step, on a fresh small network and 32 faces: the length of the gradient of the cross entropy and of each term.

# %%
base = Recipe(
    name="notebook-14",
    model="esr",
    model_options=dict(branches=3, attention="cbam"),
    data=DATA,
    data_path=DATA_PATH,
    data_options=dict(n_train=S.n_train, n_test=S.n_test, size=S.size, seed=SEED, difficulty="easy") if DATA == "synthetic" else {},
    test_split=TEST_SPLIT,
    image_size=S.size,
    width=S.width,
    epochs=S.epochs,
    batch_size=20,
    optimizer="adamw",
    lr=0.006,
    schedule="cosine",
    warmup_epochs=0.5,
    augmentation="resemotenet",  # mirrored half of the time, nothing else
    channels_last=True,
    loss="branch_cross_entropy",
)
faceset = load_faces(base)
train, validation, test = (faceset.select(split) for split in ("train", "validation", TEST_SPLIT))
names = faceset.names


def gradients(branches, **options):
    """Length of the gradient of the cross entropy and of both terms, at the initial weights."""
    net = build_model(base.overlay({"model_options": {"branches": branches, "attention": "cbam"}}), names).train()
    parts = net.forward_parts(prepare_for(net, train.images[:32]))
    labels = torch.from_numpy(train.labels[:32])
    losses = {"cross entropy": sum(nn.functional.cross_entropy(logits, labels) for logits in parts.branch_logits)}
    losses["spatial term"] = -diversity(parts.spatial_gates, **options)[0]
    losses["channel term"] = -diversity(parts.channel_gates, **options)[0]
    found = {}
    for name, loss in losses.items():
        passed = torch.autograd.grad(loss, list(net.parameters()), retain_graph=True, allow_unused=True)
        found[name] = float(torch.stack([g.double().square().sum() for g in passed if g is not None]).sum().sqrt())
    return found


FORMS = {
    "released: zero diagonal": dict(diagonal="zero"),
    "equation 1: unit diagonal": {},
    "unit, gamma from the median": dict(gamma_mode="median"),
    "unit, log det, gamma from the median": dict(gamma_mode="median", objective="logdet"),
}
for branches in (3, 9):
    print(f"{branches} branches")
    for title, options in FORMS.items():
        torch.manual_seed(SEED)
        print(f"  {title:38}", "   ".join(f"{name} {length:.2g}" for name, length in gradients(branches, **options).items()))

# %%
ledger_table("diversity", "eq1", "gamma", "A1", "A2")

# %% [markdown]
# A term whose gradient is many orders below the cross entropy's changes nothing. `gamma_mode="median"` takes one over the median squared
# distance of the batch, so the term acts at any scale. It need not be stronger where the term was awake already: with nine branches the spatial
# term has more pull at 10 than at the median.
#
# ## 4 · A zero on the diagonal
#
# Equation 1 gives $S_{ll}=1$. The released loop leaves the diagonal at zero. For equal similarities $s$ the determinants are
#
# $$\det S_{unit}=(1-s)^{L-1}\,(1+(L-1)s),\qquad \det S_{zero}=(-1)^{L-1}(L-1)\,s^L$$
#
# > **Question.** The determinant is to be *maximised*. With a zero diagonal and an odd number of branches, should $s$ be large or small? And
# > with an even number?


# %%
def both_determinants(branches=9):
    """Both determinants over the common similarity."""
    s = np.linspace(0, 1, 101)
    curves = {"unit diagonal": (1 - s) ** (branches - 1) * (1 + (branches - 1) * s), "zero diagonal": (-1.0) ** (branches - 1) * (branches - 1) * s**branches}
    return plots.lines(s, curves, xlabel="common similarity s of all pairs", ylabel="determinant", title=f"{branches} branches")


explore(both_determinants, branches=(2, 15))

# %%
for branches in range(2, 8):
    s = torch.full((branches, branches), 0.5, dtype=torch.float64).fill_diagonal_(0)
    print(f"{branches} branches, s = 0.5: zero-diagonal determinant {float(torch.linalg.det(s)):+.4f}")
zero_nine = torch.full((9, 9), 0.9, dtype=torch.float64).fill_diagonal_(0)
record("zero_nine_ratio", float(torch.linalg.det(zero_nine)))

# %% [markdown]
# If all similarities were the same, the zero-diagonal determinant would be largest with nine branches where all are *equal*, and with eight where all
# differ: as the released training adds branch by branch, its goal turns round each time. Members free to differ have a third way: groups that
# coincide (four pairs of twins give $+1$). Watch six points move freely, uphill on each objective, from the open circle to the full one:

# %%
torch.manual_seed(SEED)
start = torch.randn(6, 2) * 0.5


def uphill(members=6, gamma=1.0):
    """Members as points of a plane, moved by gradient ascent."""
    objectives = {"det, unit": {}, "det, zero": dict(diagonal="zero"), "log det, unit": dict(objective="logdet")}
    moves = {}
    for title, options in objectives.items():
        points = start[:members].clone().requires_grad_()
        optimiser = torch.optim.Adam([points], lr=0.01)
        track = [points.detach().clone()]
        for _ in range(S.steps):
            optimiser.zero_grad()
            (-diversity(points[:, None], gamma=gamma, **options)[0]).backward()
            optimiser.step()
            track.append(points.detach().clone())
        d = describe(similarity(points.detach()[:, None], gamma=gamma))
        moves[f"{title}\nunit det {d['unit']:.2f}, zero det {d['zero']:.2f}"] = torch.stack(track).numpy()
    return plots.paths(moves, title=f"{members} members, gamma {gamma:g}")


explore(uphill, members=(2, 6), gamma=[0.1, 1.0, 10.0])

# %% [markdown]
# Uphill on the unit diagonal the points part. On the zero diagonal they gather in groups that coincide.
#
# ## 5 · Does it help?
#
# Three branches, trained all at once on drawn faces, in seven ways; the terms are those of the branches' last CBAM gates. Where
# nothing else is said the diagonal is one and $\gamma$ from the median, so that the terms act.
#
# > **Question.** Write down what you expect of the seven: which changes the gates, and which the accuracy of the vote?

# %%
ACTS = dict(gamma_mode="median")
CONDITIONS = {
    "no CBAM": (None, None),
    "CBAM": ("cbam", None),
    "+ spatial": ("cbam", dict(channel=0.0, **ACTS)),
    "+ channel": ("cbam", dict(spatial=0.0, **ACTS)),
    "+ both": ("cbam", ACTS),
    "+ both, log det": ("cbam", dict(objective="logdet", spatial=0.1, channel=0.1, **ACTS)),
    "+ both, zero diagonal": ("cbam", dict(diagonal="zero", **ACTS)),
}


def train_ensemble(attention, options, branches, seed):
    """One network, trained by the recipe above."""
    run = base.overlay(
        {"seed": seed, "model_options": {"branches": branches, "attention": attention}, "loss_options": {} if options is None else {"diversity": options}}
    )
    net = build_model(run, names)
    fit(make_task(net, run, train.counts()), train, validation, run, progress=False)
    return net.eval()


def branch_outputs(net):
    """Probabilities (L, N, K) and both gates of the test faces, batch by batch."""
    probabilities, spatial, channel = [], [], []
    with torch.no_grad():
        for rows in np.array_split(np.arange(len(test)), -(-len(test) // 100)):
            parts = net.forward_parts(prepare_for(net, test.images[rows]))
            probabilities.append(parts.branch_logits.softmax(-1))
            if parts.spatial_gates is not None:
                spatial.append(parts.spatial_gates)
                channel.append(parts.channel_gates)
    gates = [torch.cat(g, 1) if g else None for g in (spatial, channel)]
    return torch.cat(probabilities, 1).numpy(), *gates


def measures(net):
    """What is compared below, by name."""
    outputs, spatial, channel = branch_outputs(net)
    found = {
        "vote": float((plurality(outputs) == test.labels).mean()),
        "mean branch": float((outputs.argmax(2) == test.labels).mean()),
        "disagreement": disagreement(outputs, n_bootstrap=20).mean,
        "error correlation": error_correlation(outputs, test.labels, n_bootstrap=20).mean,
    }
    found["gain"] = found["vote"] - found["mean branch"]
    if spatial is not None:
        found["spatial overlap"] = attention_overlap(spatial.numpy(), n_bootstrap=20).mean
        found["channel overlap"] = attention_overlap(channel.numpy(), n_bootstrap=20).mean
    return found


trained, measured = {}, {}
for title, (attention, options) in CONDITIONS.items():
    for seed in range(S.seeds):
        net = train_ensemble(attention, options, 3, SEED + seed)
        trained.setdefault((3, title), net)
        for name, value in measures(net).items():
            measured.setdefault(name, {}).setdefault((3, title), []).append(value)
plots.ablation({title.replace("+ ", "+\n").replace(", ", ",\n"): measured["vote"][3, title] for title in CONDITIONS})

# %% [markdown]
# Networks of equal seed share the initial weights of what they have in common and the order of faces, so conditions are compared *seed by
# seed* with CBAM alone:


# %%
def against(reference, branches, titles):
    """Differences to a condition, paired by seed: mean, 95 % interval (Student t), a star where it leaves out zero."""
    for title in titles:
        said = []
        for name, values in measured.items():
            if (branches, title) in values and (branches, reference) in values:
                pairs = zip(values[branches, title], values[branches, reference], strict=True)
                mean, low, high = mean_interval([a - b for a, b in pairs])
                said.append(f"{name} {mean:+.3f} ({low:+.3f} to {high:+.3f}){' ' if low <= 0 <= high else '*'}")
        print(f"{title}\n   " + "\n   ".join(said))


print("difference to CBAM alone, three branches")
against("CBAM", 3, [title for title in CONDITIONS if title != "CBAM"])
chance = max(test.counts().values()) / len(test)
print(f"always the largest class would have {chance:.1%}")
record("vote_cbam_frac", float(np.mean(measured["vote"][3, "CBAM"])))
record("vote_both_frac", float(np.mean(measured["vote"][3, "+ both"])))

# %% [markdown]
# Now with more branches, for CBAM alone and both forms of the diagonal:

# %%
FEW = ("CBAM", "+ both", "+ both, zero diagonal")
for branches in (6, 9):
    for title in FEW:
        for seed in range(S.seeds):
            net = train_ensemble(*CONDITIONS[title], branches, SEED + seed)
            trained.setdefault((branches, title), net)
            for name, value in measures(net).items():
                measured[name].setdefault((branches, title), []).append(value)
for branches in (6, 9):
    print(f"\ndifference to CBAM alone, {branches} branches")
    against("CBAM", branches, FEW[1:])
points = [(f"{b} branches, {t}", *mean_interval(measured["vote"][b, t])) for b in (3, 6, 9) for t in FEW]
plots.intervals(points, xlabel="accuracy of the vote")

# %%
record("vote_nine_frac", float(np.mean(measured["vote"][9, "CBAM"])))
record("overlap_nine_frac", float(np.mean(measured["spatial overlap"][9, "CBAM"])))
points = [(f"{b} branches, {t}", *mean_interval(measured["spatial overlap"][b, t])) for b in (3, 6, 9) for t in FEW]
plots.intervals(points, xlabel="overlap of spatial gates between branches (cosine)")

# %% [markdown]
# How to read this:
#
# - **Gates move**, mostly in the direction of section 4. With a unit diagonal and the channel term, channel gates overlap far less with three, six and nine branches
#   alike. With a zero diagonal both kinds of gates overlap *more* with three branches and *less* with six: the goal has turned round. With nine,
#   the channel gates show no direction and the spatial ones part; nine members can also gather in groups, as the points did.
# - **Accuracy** of no form with a unit diagonal differs from that of CBAM alone by more than the seeds do. The vote has two stars: the zero diagonal
#   with three branches is worse (no better than always saying the largest class), and the network *without* CBAM is better, which says that CBAM makes so short a training harder and
#   nothing about long ones.
# - **How much could this have shown?** The intervals are tens of points wide. The gains of the paper's table are around half a point. To find such an effect
#   in trainings that scatter like these would take thousands of seeds; in long ones, fewer. So the honest answer is: the terms change maps,
#   and whether they raise accuracy cannot be said from here.
#
# ## 6 · Looking at the branches
#
# The last spatial gate of each of nine branches on one face, trained without a term, with it, and with the zero diagonal; below, $S$ of these gates over
# the test faces, and how far the branches' answers agree beyond chance (Cohen's $\kappa$).


# %%
def gates_of(title="CBAM", face=0):
    """The nine last spatial gates on a test face, each on a scale from its least to its largest value."""
    found = spatial_maps(trained[9, title], test.images[face : face + 1])
    grid = {f"branch: {b + 1}": found[f"branches.{b}.attention4.spatial_gate"] for b in range(9)}
    ranges = [f"{float(g.max() - g.min()):.2f}" for g in grid.values()]
    heats = {f"{name.split()[1]}: {r}": upscale(g) for (name, g), r in zip(grid.items(), ranges, strict=True)}
    return plots.cam_grid(test.images[face : face + 1], heats, titles=[f"{title}; range of each gate"])


def upscale(gate):
    """(1, h, w) to (1, size, size) in [0, 1]."""
    low, high = gate.min(), gate.max()
    big = nn.functional.interpolate(torch.from_numpy((gate - low) / max(high - low, 1e-6))[:, None], size=test.images.shape[-2:], mode="bilinear")
    return big[:, 0].numpy()


explore(gates_of, title=list(FEW), face=(0, 9))


# %%
def branch_matrices(title="CBAM"):
    """S of the spatial gates (mean over entries, gamma 10), and agreement of the answers."""
    outputs, spatial, _ = branch_outputs(trained[9, title])
    s = similarity(spatial, distance="mean")
    kappa = cohen_kappa(outputs, n_bootstrap=20).matrix
    return plots.matrices({f"S, det {describe(s)['unit']:.2g}": s.numpy(), "kappa": np.nan_to_num(kappa)}, title=title)


explore(branch_matrices, title=list(FEW))

# %% [markdown]
# Branches can look at different places and answer alike, or the other way round: the term speaks of gates, the vote of answers.
#
# ### Nine branches on a photograph
#
# The workbook's own weights are a diversified ESR-9 at a quarter of its width, trained on the votes of FER+. A portrait of NASA astronaut Eileen Collins
# (public domain), what each branch says, and where it looks:

# %%
own = create_model("esr", weights="ferplus-teach").eval()
photo = faces.portrait()
crop = faces.crop_face(photo, faces.find_faces(photo)[0], size=own.input_size)
picture = crop.transpose(2, 0, 1)[None]
with torch.no_grad():
    parts = own.forward_parts(prepare_for(own, picture))
said = parts.branch_logits.softmax(-1)[:, 0].numpy()  # (9, 8)
print("a row per branch; columns:", ", ".join(own.labels))
plots.matrices({"probabilities": said})

# %%
found = spatial_maps(own, picture)
size = picture.shape[-2:]
heats = {}
for b in range(9):
    gate = found[f"branches.{b}.attention4.spatial_gate"]
    big = nn.functional.interpolate(torch.from_numpy((gate - gate.min()) / max(gate.max() - gate.min(), 1e-6))[:, None], size=size, mode="bilinear")
    heats[f"{b + 1}: {gate.max() - gate.min():.2f}"] = big[:, 0].numpy()
record("portrait_votes_n", int((said.argmax(1) == said.mean(0).argmax()).sum()))
plots.cam_grid(picture, heats, titles=["last spatial gates; range of each"])

# %% [markdown]
# ## 7 · Leaving early
#
# A branch costs about a sixth of the base, so one may stop after $n$ branches. The vote of the first $n$, for the nine-branch network of seed 0,
# with intervals over test faces; the *oracle* counts a face as right if any of the first $n$ is.


# %%
def early_exit(title="CBAM"):
    """Accuracy of the first n of nine branches."""
    outputs, _, _ = branch_outputs(trained[9, title])
    found = accuracy_by_branches(outputs, test.labels, n_bootstrap=200)
    wanted = ("plurality", "mean_probability", "mean_branch", "oracle", "tie_rate")
    curves = {name.replace("_", " "): found[name].value for name in wanted}
    bands = {"plurality": (found["plurality"].low, found["plurality"].high)}
    return plots.lines(np.arange(1, 10), curves, bands=bands, xlabel="branches used", ylabel="share of test faces", title=title)


explore(early_exit, title=list(FEW))

# %%
base_macs, branch_macs = (paper.tables["networks"].cell(row, "million multiply-adds") for row in ("ESR base", "ESR branch"))
for n in (1, 3, 9, 15):
    print(f"{n:2} branches at full size and 96 px: {base_macs + n * branch_macs:,.0f} million multiply-adds")
record("nine_to_one_ratio", (base_macs + 9 * branch_macs) / (base_macs + branch_macs))

# %% [markdown]
# Ties are frequent for two branches, where the second can only make a tie, and rare for odd numbers. Beyond that the curves hardly rise, and the difference
# between voting and averaging probabilities lies inside the band: these branches share a base and agree on most faces.
#
# ## 8 · A list that hides from eval()
#
# The released code keeps branches in a Python list, which PyTorch does not look into: `eval()` reaches the base only, and the branches' batch
# normalisations go on using the statistics of the *test batch* (A4). The list comes from ESR, and all compared networks have it. What that does to one face's logits, when other faces share its batch:

# %%
net = trained[3, "CBAM"]
with torch.no_grad():
    alone = net.forward_parts(prepare_for(net, test.images[:1])).branch_logits[0, 0]
    for branch in net.branches:  # as if eval() had not reached them
        branch.train()
    shifts = {}
    for size in (4, 16, 64):
        answers = []
        for draw in range(5):
            others = np.random.default_rng(draw).choice(np.arange(1, len(test)), min(size, len(test) - 1), replace=False)
            state = {k: v.clone() for k, v in net.state_dict().items()}
            answers.append(net.forward_parts(prepare_for(net, test.images[np.r_[0, others]])).branch_logits[0, 0])
            net.load_state_dict(state)  # these passes moved the running statistics
        shifts[size] = float(torch.stack(answers).std(0).mean())
        print(f"with {size} other faces: the logits of one face have a standard deviation of {shifts[size]:.2f} over five batches")
    net.eval()
    again = net.forward_parts(prepare_for(net, test.images[:1])).branch_logits[0, 0]
record("eval_gap_ratio", float((again - alone).abs().max()))
record("batch_shift_ratio", shifts[4])

# %% [markdown]
# In evaluation mode nothing depends on the company: the face alone gives the same logits before and after. Here branches are in a `ModuleList`.
#
# ## 9 · Which images is a percentage a share of?
#
# Table 1 gives 88.40 % for ESR-9 on FER+. FER+ has thousands of test images, how many depends on the rule that turns votes into labels. A
# percentage with two decimals can only be $k/n$ for few $n$:

# %%
table = paper.tables["1"]
printed = sorted({table.cell(row, "FER+") for row in table.rows if row != "ESR-9 [13]"} - {None})  # [13] is quoted


def cut_to(value, n):
    """Whether some k of n images is `value` percent, cut off after two decimals."""
    hundredths = round(100 * value)
    k = -(-hundredths * n // 10_000)  # the least k with k/n at or above the value
    return 10_000 * k < (hundredths + 1) * n


fits = [n for n in range(2700, 3600) if all(cut_to(value, n) for value in printed)]
print(len(printed), "percentages; numbers of images from 2,700 to 3,599 that allow them all:", fits)
record("images_n", fits[0])
record("fits_n", len(fits))

# %%
claim_checker(percent="88.40", n=fits[0])

# %% [markdown]
# 3,191 is what the released loader keeps of FER+'s *validation* images, which also selected epochs (A10). ESR's own released script
# evaluates on the same images; which images the other methods of Table 3 report was not checked. And how large are the steps of Table 1?

# %%
for name, images in (("AffectNet-8", 4000), ("FER+", 3191), ("RAF-DB", 3068)):
    with_attention, with_both = (paper.tables["1"].cell(row, name) for row in ("ESR-9 attention", "ESR-9*"))
    half = arithmetic.binomial_half_width(with_both / 100, images) * 2**0.5
    print(f"{name:12} both diversities over attention alone: {with_both - with_attention:+.2f} points; two independent runs differ by up to +-{100 * half:.2f} by chance")

# %%
ledger_table("diversity", "claim-diversity", "A10", "A12", "A4", "A16")

# %% [markdown]
# ## Why our number differs
#
# Ours is from a few hundred drawn faces at 72 px, a sixteenth of the width, all branches trained at once for a few epochs. Theirs is from
# photographs, full width, branch by branch, 210 to 940 epochs, and the epoch chosen on the reported images. Our experiment shows what each
# term does to gates and answers of a small ensemble; it neither confirms nor refutes a gain of half a point, which none of the printed numbers can
# either.

# %%
ledger_table("diversity", "esr-affectnet", "esr-transfer", "selection", "seeds")

# %% [markdown]
# ## Exercises
#
# **1.** Three members, all similarities 0.5. What is $\det S$ with a unit diagonal, and with a zero one? Give both as a pair.

# %%
answer_1 = None

# %%
three = torch.full((3, 3), 0.5, dtype=torch.float64)
dets = [float(torch.linalg.det(three.fill_diagonal_(d))) for d in (1.0, 0.0)]
check("unit", answer_1 and answer_1[0], dets[0], tolerance=1e-9, hint="The formulas of section 4 with L = 3.")
check("zero", answer_1 and answer_1[1], dets[1], tolerance=1e-9, hint="The formulas of section 4 with L = 3.")

# %% tags=["solution"]
answer_1 = [0.5**2 * 2, 2 * 0.5**3]
check("unit", answer_1[0], dets[0], tolerance=1e-9)
check("zero", answer_1[1], dets[1], tolerance=1e-9)

# %% [markdown]
# **2.** The pull of the kernel is largest at $d^2=1/(2\gamma)$. Which $\gamma$ suits maps whose squared distances are about 5?

# %%
answer_2 = None

# %%
check("gamma", answer_2, 0.1, tolerance=1e-9, hint="Solve 1 / (2 gamma) = 5.")

# %% tags=["solution"]
answer_2 = 1 / (2 * 5)
check("gamma", answer_2, 0.1, tolerance=1e-9)

# %% [markdown]
# **3.** Four branches vote for the classes 2, 5, 5, 2. Which class does the released rule choose?

# %%
answer_3 = None

# %%
votes = np.array([[2], [5], [5], [2]])
check("class", answer_3, int(plurality(votes)[0]), hint="A tie goes to the lowest number.")

# %% tags=["solution"]
answer_3 = 2
check("class", answer_3, int(plurality(votes)[0]))

# %% [markdown]
# ## Recap
#
# You can now
#
# 1. compute the similarity matrix of an ensemble and read its determinant as a volume
# 2. choose gamma by the distances it has to tell apart, and recognise a dead term
# 3. say what a zero diagonal rewards, and why its direction turns with every branch
# 4. measure disagreement, common errors and gain, and judge by intervals whether a term helped
# 5. look at what each branch attends to, and leave an ensemble early
# 6. find out which images a table's percentages are shares of

# %%
footer(faceset)
