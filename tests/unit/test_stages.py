"""Trainings in stages: growth, what is carried over, and interruptions at any stage."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from ferkit.models import create_model
from ferkit.runs import build_model
from ferkit.training import fit
from ferkit.training.history import History
from ferkit.training.recipe import Recipe
from ferkit.training.stages import fit_stages, stage_recipe
from tests.unit.small_faces import NAMES, small_faces

RECIPE = Recipe(
    name="grow",
    model="esr",
    model_options={"branches": 1, "attention": "cbam"},
    width=1 / 32,
    image_size=56,
    batch_size=24,
    lr=0.05,
    per_class=6,
    loss="branch_cross_entropy",
    loss_options={"diversity": {"spatial": 0.1, "channel": 0.1}},
    stages=[
        {"branches": 1, "epochs": 2},
        {"branches": 2, "epochs": 1, "part_lr": {"base": 0.1, "branches.0": 0.1}},
        {"branches": 3, "epochs": 1, "part_lr": {"base": 0.1, "branches.0": 0.1, "branches.1": 0.1}},
    ],
)
TRAIN, VALIDATION = small_faces(70, size=28), small_faces(28, size=28, seed=1, split="validation")


def network():
    torch.manual_seed(0)
    model = create_model("esr", width=RECIPE.width, num_classes=7, labels=NAMES, **RECIPE.model_options)
    model.input_size = RECIPE.image_size
    return model


def trained(folder=None, recipe=RECIPE):
    model = network()
    return model, fit_stages(model, TRAIN, VALIDATION, recipe, folder=folder, progress=False)


def state(model):
    return torch.cat([v.detach().double().flatten() for v in model.state_dict().values()])


def without_seconds(history):
    return [{k: v for k, v in row.items() if k != "seconds"} for row in history.rows]


def test_a_stage_freezes_what_it_names_and_the_next_one_thaws_it(tmp_path):
    recipe = Recipe(
        name="thaw", model="resemotenet", width=1 / 16, model_options={"head": "linear"}, image_size=28, batch_size=24,
        lr=0.05, freeze=["conv", "bn", "stage", "se", "res_block"],
        stages=[{"epochs": 1}, {"epochs": 1, "freeze": [], "lr": 0.01}],
    )  # fmt: skip
    model = build_model(recipe, NAMES)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    fit_stages(model, TRAIN, VALIDATION, recipe, folder=tmp_path, progress=False)
    after = load_file(tmp_path / "stages" / "01" / "best.safetensors")
    moved = {k for k, v in after.items() if not torch.equal(v, before[k])}
    assert moved == {"fc.weight", "fc.bias"}
    last = model.state_dict()
    assert not torch.equal(last["conv1.weight"], before["conv1.weight"])
    assert not torch.equal(last["bn1.running_mean"], before["bn1.running_mean"])


def test_the_network_grows_and_the_histories_join(tmp_path):
    model, history = trained(tmp_path)
    assert len(model.branches) == 3
    assert model.spec["options"]["branches"] == 3
    assert history.column("stage") == [1, 1, 2, 3]
    assert history.column("epoch") == [1, 2, 3, 4]
    assert "train_diversity_spatial" in history.columns()
    read = History.read(tmp_path / "history.csv")
    assert read.column("stage") == [1, 1, 2, 3]
    assert np.isfinite(read.column("train_cross_entropy")).all()


def test_an_interruption_at_any_stage_changes_nothing(tmp_path, monkeypatch):
    whole, history = trained(tmp_path / "whole")
    for stop in (1, 2, 3):
        folder = tmp_path / f"stopped{stop}"
        calls = 0

        def killed(*args, stop=stop, **options):
            nonlocal calls
            calls += 1
            if calls == stop:
                task, train, validation, recipe = args
                if recipe.epochs > 1:  # inside a stage: after its first epoch
                    fit(task, train, validation, recipe.overlay({"epochs": 1}), **options)
                raise KeyboardInterrupt
            return fit(*args, **options)

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr("ferkit.training.stages.fit", killed)
            trained(folder)
        resumed, again = trained(folder)
        assert without_seconds(again) == without_seconds(history), stop
        assert torch.equal(state(resumed), state(whole)), stop
    other, _ = trained(tmp_path / "other", RECIPE.overlay({"seed": 1}))
    assert not torch.equal(state(other), state(whole))  # the comparison can fail


def test_old_branches_learn_slowly():
    recipe = RECIPE.overlay(
        {
            "stages": [
                {"branches": 1, "epochs": 1},
                {"branches": 2, "epochs": 1, "part_lr": {"base": 0.0, "branches.0": 0.0}},
            ]
        }
    )
    torch.manual_seed(0)
    first, _ = trained(recipe=recipe.overlay({"stages": recipe.stages[:1]}))
    second, _ = trained(recipe=recipe)
    weights = [dict(m.named_parameters()) for m in (first, second)]
    assert torch.equal(weights[0]["branches.0.fc.weight"], weights[1]["branches.0.fc.weight"])
    assert "branches.1.fc.weight" in weights[1]


def test_wrong_stages_are_refused():
    with pytest.raises(ValueError, match="asks for 1 branches, but the network has 2"):
        trained(recipe=RECIPE.overlay({"stages": [{"branches": 2, "epochs": 1}, {"branches": 1, "epochs": 1}]}))
    with pytest.raises(ValueError, match="a recipe has no key 'epoch'"):
        stage_recipe(RECIPE.overlay({"stages": [{"epoch": 1}]}), 1)
    plain = create_model("resemotenet", width=1 / 16, labels=NAMES)
    with pytest.raises(ValueError, match="ResEmoteNet cannot grow"):
        fit_stages(plain, TRAIN, VALIDATION, RECIPE, progress=False)
