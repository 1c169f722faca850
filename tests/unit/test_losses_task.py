"""Losses by name inside a training: what is minimised, which learning rates, what a run keeps of its centres."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from ferkit.data import cap_per_class
from ferkit.labels import order
from ferkit.losses import list_losses, make_criterion
from ferkit.losses.criterion import BranchCrossEntropy, CrossEntropy, Flooding
from ferkit.models import create_model, initialise, save_weights
from ferkit.models.base import Parts
from ferkit.models.esr import EsrParts
from ferkit.training import Task, fit, make_task
from ferkit.training.batches import EpochBatches, class_balance
from ferkit.training.optim import make_optimizer, parameter_groups
from ferkit.training.recipe import Recipe
from tests.unit.small_faces import NAMES, small_faces

RECIPE = Recipe(
    name="small",
    width=1 / 16,
    model_options={"head": "linear", "stem_dropout": 0.0},
    image_size=24,
    epochs=1,
    batch_size=32,
    lr=0.02,
)
TRAIN, VALIDATION = small_faces(96), small_faces(42, seed=1, split="validation")
FEATURE_LOSSES = [n for n in list_losses() if n not in ("cross_entropy", "branch_cross_entropy", "local_global")]


def network(seed=0):
    torch.manual_seed(seed)
    model = create_model("resemotenet", width=1 / 16, labels=NAMES, **RECIPE.model_options)
    model.input_size = 24
    return model


@pytest.mark.parametrize("loss", FEATURE_LOSSES)
def test_every_feature_loss_trains_and_reports_itself(loss, tmp_path):
    recipe = RECIPE.overlay({"loss": loss, "loss_options": {"weight": 0.1}})
    model = network()
    task = make_task(model, recipe, TRAIN.counts())
    history = fit(task, TRAIN, VALIDATION, recipe, folder=tmp_path, progress=False)
    row = history.rows[0]
    assert row["train_loss"] == pytest.approx(row["train_cross_entropy"] + row[f"train_{loss}"], abs=1e-6)
    assert np.isfinite(row["train_loss"])
    saved = load_file(tmp_path / "criterion.safetensors")
    assert saved and all(torch.equal(saved[k], v) for k, v in task.criterion.state_dict().items())


def test_fixed_centres_are_kept_with_the_run_too(tmp_path):
    """The released code's random centres are in no checkpoint of its own, so that its loss cannot be computed again."""
    task = make_task(
        network(),
        RECIPE.overlay({"loss": "cosine_harmony", "loss_options": {"variant": "released"}, "flood": 0.5}),
        TRAIN.counts(),
    )
    before = task.criterion.criterion.term.centres.clone()
    fit(task, TRAIN, VALIDATION, RECIPE, folder=tmp_path, progress=False)
    (saved,) = load_file(tmp_path / "criterion.safetensors").values()
    assert torch.equal(saved, before) and not saved.requires_grad
    fit(
        make_task(network(), RECIPE, TRAIN.counts()),
        TRAIN,
        VALIDATION,
        RECIPE,
        folder=tmp_path / "plain",
        progress=False,
    )
    assert not (tmp_path / "plain" / "criterion.safetensors").exists(), "cross entropy holds nothing"


def test_centres_move_only_when_trained():
    moved = {}
    for variant in ("ours", "released"):
        recipe = RECIPE.overlay({"loss": "cosine_harmony", "loss_options": {"variant": variant}})
        model = network()
        task = make_task(model, recipe, TRAIN.counts())
        before = {k: v.clone() for k, v in task.criterion.state_dict().items()}
        fit(task, TRAIN, VALIDATION, recipe, progress=False)
        moved[variant] = sum((task.criterion.state_dict()[k] - v).abs().sum().item() for k, v in before.items())
    assert moved["ours"] > 1e-3
    assert moved["released"] == 0


def test_weight_scales_the_term_and_names_are_checked():
    model = network()
    parts, targets = Parts(torch.randn(8, 7), torch.randn(8, model.num_features)), torch.arange(8) % 7
    torch.manual_seed(1)
    one = make_criterion("center", model, num_classes=7)
    torch.manual_seed(1)
    third = make_criterion("center", model, num_classes=7, weight=0.25)
    assert third(parts, targets)["center"].item() == pytest.approx(
        0.25 * one(parts, targets)["center"].item(), rel=1e-6
    )
    soft = nn.functional.one_hot(targets, 7).float()
    assert third(parts, soft)["center"].item() == pytest.approx(third(parts, targets)["center"].item())
    with pytest.raises(ValueError, match="no loss named 'centre'; known: cross_entropy"):
        make_criterion("centre", model, num_classes=7)
    with pytest.raises(ValueError, match="island has no option 'lamda'; known: separation"):
        make_criterion("island", model, num_classes=7, lamda=1)


def test_flooding_turns_the_gradient_round():
    for scale, sign in ((8.0, -1.0), (0.1, 1.0)):  # sure and right: below the level; unsure: above
        logits = (scale * torch.eye(4)).requires_grad_()
        losses = Flooding(CrossEntropy(), level=0.5)(Parts(logits, logits), torch.arange(4))
        plain = nn.functional.cross_entropy(logits.detach(), torch.arange(4))
        assert losses["flooded"].item() == pytest.approx(abs(plain.item() - 0.5) + 0.5)
        losses["flooded"].backward()
        assert torch.sign(logits.grad[0, 1]).item() == sign  # plain cross entropy always pushes other logits down


def test_lfnsb_s_flooding_is_plain_flooding_at_one_half():
    """main.py@caf8fad floods batches below 0.52 only; from 0.5 on there is nothing to flood."""
    for logits in torch.linspace(0, 6, 61)[:, None, None] * torch.eye(4):
        total = nn.functional.cross_entropy(logits, torch.arange(4))
        released = (total - 0.5).abs() + 0.5 if total < 0.52 else total
        found = Flooding(CrossEntropy(), level=0.5)(Parts(logits, logits), torch.arange(4))["flooded"]
        assert found.item() == pytest.approx(released.item(), abs=1e-6)


def test_part_lr():
    task = Task(network(), make_criterion("center", network(), num_classes=7))
    groups = parameter_groups(task, 0.1, {"res_block1": 0.1, "res_block1.conv2": 0.0, "criterion": 5.0})
    rates = {id(p): g["lr"] for g in groups for p in g["params"]}
    assert len(rates) == len(list(task.parameters()))
    assert groups[0]["lr"] == 0.1 and "weight_decay" not in groups[0]
    assert [g["weight_decay"] for g in groups if "weight_decay" in g] == [0.0]
    model = task.model
    assert rates[id(model.conv1.weight)] == 0.1
    assert rates[id(model.res_block1.conv1.weight)] == pytest.approx(0.01)
    assert rates[id(model.res_block1.conv2.weight)] == 0.0
    assert {rates[id(p)] for p in task.criterion.parameters()} == {0.5}
    optimizer = make_optimizer(groups, name="sgd", lr=0.1)
    assert [g["lr"] for g in optimizer.param_groups] == [g["lr"] for g in groups]
    with pytest.raises(ValueError, match="part_lr names res_block, which no parameter's name begins with"):
        parameter_groups(task, 0.1, {"res_block": 0.1})


def test_balanced_sampler_draws_classes_equally():
    labels = torch.tensor([0] * 900 + [1] * 90 + [2] * 10)
    batches = EpochBatches(1000, 100, seed=0, epoch=0, weights=class_balance(labels))
    drawn = torch.bincount(labels[torch.tensor([i for b in batches for i in b])])
    assert drawn.sum() == 1000
    assert all(280 < n < 390 for n in drawn.tolist())
    plain = EpochBatches(1000, 100, seed=0, epoch=0)
    assert torch.bincount(labels[torch.tensor([i for b in plain for i in b])]).tolist() == [900, 90, 10]


def test_cap_per_class():
    faces = small_faces(200)
    capped = cap_per_class(faces, 5, seed=1)
    assert set(capped.counts().values()) == {5}
    again, other = cap_per_class(faces, 5, seed=1), cap_per_class(faces, 5, seed=2)
    assert np.array_equal(capped.images, again.images) and not np.array_equal(capped.images, other.images)
    assert len(cap_per_class(faces, 1000)) == 200
    with pytest.raises(ValueError, match="at least one image per class"):
        cap_per_class(faces, 0)


def test_initialise_copies_what_fits(tmp_path):
    source = network(1)
    file = save_weights(source, tmp_path / "a.safetensors", weights="a")
    torch.manual_seed(2)
    eight = create_model("resemotenet", width=1 / 16, num_classes=8, **RECIPE.model_options)
    left = initialise(eight, str(file))
    assert left.stayed == ["fc.bias", "fc.weight"] and not left.kept  # eight classes without names
    assert torch.equal(eight.conv1.weight, source.conv1.weight)
    with pytest.raises(ValueError, match="ResEmoteNet has no ImageNet weights"):
        initialise(eight, "imagenet")
    with pytest.raises(FileNotFoundError, match="no weights to start from"):
        initialise(eight, str(tmp_path / "b.safetensors"))
    wider = create_model("resemotenet", width=1 / 8)
    with pytest.raises(
        ValueError,
        match=r"a.safetensors fits ResEmoteNet of width 0.125 in \d+ of \d+ tensors only; it is of width 0.0625: "
        r"build the network with width=0.0625",
    ):
        initialise(wider, str(file))


def test_a_run_does_not_go_on_with_other_data(tmp_path):
    recipe = RECIPE.overlay({"epochs": 2})
    fit(make_task(network(), recipe, TRAIN.counts()), TRAIN, VALIDATION, recipe, folder=tmp_path, progress=False)
    other = small_faces(96, seed=5)
    with pytest.raises(ValueError, match="was written while training on other data"):
        fit(make_task(network(), recipe, other.counts()), other, VALIDATION, recipe, folder=tmp_path, progress=False)


@pytest.mark.parametrize(
    ("name", "options"), [("esr", {"branches": 2, "valence_arousal": True}), ("manet", {}), ("resnet18", {})]
)
def test_initialise_puts_the_classes_of_the_head_in_order(name, options, tmp_path):
    """AffectNet and FER+ have the same eight emotions in another order: a copied head must not call sadness surprise.
    """
    torch.manual_seed(3)
    source = create_model(name, width=1 / 16, num_classes=8, labels=order("affectnet8"), **options).eval()
    file = save_weights(source, tmp_path / "affectnet.safetensors", weights="x")
    goal = create_model(name, width=1 / 16, num_classes=8, labels=order("ferplus"), **options).eval()
    assert initialise(goal, str(file)).stayed == []
    x = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        a, b = (net.forward_parts(x) for net in (source, goal))
    positions = [order("affectnet8").index(emotion) for emotion in order("ferplus")]
    logits = ("branch_logits",) if name == "esr" else ("logits",)
    for part in logits:
        assert torch.allclose(getattr(a, part)[..., positions], getattr(b, part), atol=1e-5)
    if name == "esr":
        assert torch.allclose(a.valence_arousal, b.valence_arousal, atol=1e-5)


def test_cross_entropy_of_the_first_branches_only():
    torch.manual_seed(0)
    parts = EsrParts(torch.zeros(4, 7), torch.zeros(4, 1), torch.randn(3, 4, 7), None, None, None)
    targets = torch.tensor([0, 1, 2, 3])
    each = [nn.functional.cross_entropy(logits, targets) for logits in parts.branch_logits]
    for first, expected in ((1, each[0]), (2, each[0] + each[1]), (None, sum(each))):
        assert BranchCrossEntropy(first=first)(parts, targets)["cross_entropy"] == pytest.approx(
            float(expected), rel=1e-6
        )
    with pytest.raises(ValueError, match="first=0"):
        BranchCrossEntropy(first=0)
