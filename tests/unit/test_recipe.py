"""Recipes: what is read, refused, overlaid and written."""

import functools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from ferkit.data import list_datasets
from ferkit.data.transforms import augmentation
from ferkit.labels import order
from ferkit.models import FerModel, create_model, list_models, list_weights
from ferkit.models.registry import read_weights_header, weights_file
from ferkit.papers import load as ledger
from ferkit.predict import tta_views
from ferkit.runs.experiment import build_model
from ferkit.runs.series import asks_for_several, recipes_of
from ferkit.training.optim import Schedule, class_weights, make_optimizer, parameter_groups
from ferkit.training.recipe import EXCEPTIONS, PROFILES, Recipe, resolve
from ferkit.training.stages import stage_recipe
from ferkit.training.task import make_task

FOLDER = Path(__file__).parents[2] / "notebooks" / "recipes"
FILES = sorted(FOLDER.rglob("*.yaml"))


def write(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "recipe.yaml"
    file.write_text(text, encoding="utf-8")
    return file


@functools.cache
def network(**_of: str) -> FerModel:
    """A recipe's network without numbers, with a forward pass at the recipe's size behind it;
    built once for many recipes.
    """
    recipe = Recipe(**{key: json.loads(value) for key, value in _of.items()})
    with torch.device("meta"):
        model = build_model(recipe, order("fer2013")).eval()
        side = recipe.image_size or model.input_size
        assert model(torch.zeros(2, 1 if model.colour == "grey" else 3, side, side)).shape == (2, 7)
    return model


def everything_exists(recipe: Recipe) -> None:
    """Every name in the recipe is one that the library knows, and the options fit."""
    assert recipe.data in list_datasets()
    augmentation(recipe.augmentation)
    tta_views(recipe.tta, 1)
    class_weights(np.ones(7), recipe.class_weight)
    model = network(
        **{key: json.dumps(getattr(recipe, key)) for key in ("model", "width", "model_options", "image_size")}
    )
    with torch.device("meta"):
        make_task(model, recipe, dict.fromkeys(order("fer2013"), 10))
    if recipe.init == "imagenet":
        assert recipe.width == 1 and hasattr(model, "load_imagenet")
    elif recipe.init in list_weights().get(recipe.model, []):
        header = read_weights_header(weights_file(recipe.model, recipe.init))
        assert (recipe.width, recipe.image_size) == (header["width"], header["input_size"])
    elif recipe.init is not None:  # the best weights of a run of another recipe
        runs, *series, run, best = recipe.init.split("/")
        assert (runs, best) == ("runs", "best.safetensors")
        source = Recipe.load(FOLDER / "diversity" / f"{(series or [run])[0].removeprefix('diversity-')}.yaml")
        made = [each for _, each in recipes_of(source)] if series else [source]
        assert run in [each.name for each in made]
    optimizer = make_optimizer(
        model.parameters(),
        name=recipe.optimizer,
        lr=recipe.lr,
        nesterov=recipe.nesterov,
        momentum=recipe.momentum,
        sam_rho=recipe.sam_rho,
    )
    Schedule(optimizer, name=recipe.schedule, epochs=recipe.epochs, warmup=recipe.warmup_epochs)


def test_there_are_recipes():
    assert FILES, f"no recipe in {FOLDER}"


@pytest.mark.parametrize("file", FILES, ids=lambda f: f"{f.parent.name}/{f.stem}")
def test_recipe_files(file):
    recipe = Recipe.load(file)
    assert recipe.name == f"{file.parent.name}-{file.stem}", "a run is found by its recipe's name"
    assert recipe.source, "a recipe says which row it is"
    if asks_for_several(recipe):
        everything_exists(recipes_of(recipe)[-1][1])
    for profile in PROFILES:
        everything_exists(resolve(recipe, profile=profile))


def test_the_profiles_of_recipes_are_those_of_notebooks():
    from ferkit import notebook

    assert tuple(PROFILES) == notebook.PROFILES


def test_a_profile_shortens_every_stage():
    recipe = Recipe(stages=[{"epochs": 50, "branches": 1}, {"epochs": 20, "lr": 0.1}, {"branches": 3}])
    assert resolve(recipe, profile="smoke").stages == [
        {"epochs": 1, "branches": 1},
        {"epochs": 1, "lr": 0.1},
        {"branches": 3},
    ]
    assert recipe.overlay({"epochs": 3}).stages == recipe.stages


def test_diversity_recipes_are_the_rows_of_its_tables():
    """Every row of Table 1 that the authors ran, on every data set, and its schedule as the card has it."""
    recipes = {file.stem: Recipe.load(file) for file in FOLDER.glob("diversity/*.yaml")}
    schedule = {"affectnet8": (50, 20), "ferplus": (100, 60), "rafdb": (100, 60)}
    for data, (first, further) in schedule.items():
        for branches in (9, 15):
            for plain in ("", "-plain"):
                recipe = recipes[f"table1-esr{branches}-{data}{plain}"]
                assert [s["epochs"] for s in recipe.stages] == [first] + [further] * (branches - 1)
                assert recipe.model_options.get("attention") == (None if plain else "cbam")
                assert (
                    recipe.image_size == 96
                    and recipe.batch_size == 32
                    and recipe.momentum == 0.9
                    and recipe.weight_decay == 0
                )
                assert (recipe.init is None) == (data == "affectnet8")
                # the released scripts keep an epoch whose accuracy is >= the best one
                assert recipe.equal_epochs == "last"
            rows = [
                (r.loss_options["diversity"]["spatial"], r.loss_options["diversity"]["channel"])
                for _, r in recipes_of(recipes[f"table1-esr{branches}-{data}"])
            ]
            assert sorted(rows) == [(0, 0), (0, 1), (1, 0), (1, 1)]  # attention, channel (ours), spatial, both
        with_terms, plain = recipes[f"table1-manet-{data}"], recipes[f"table1-manet-{data}-plain"]
        assert {k for k in with_terms.as_dict() if getattr(with_terms, k) != getattr(plain, k)} == {
            "name",
            "source",
            "loss_options",
        }
    for name, recipe in recipes.items():
        if name.endswith("printed"):
            assert "diagonal" not in recipe.loss_options["diversity"]
        elif name.startswith("table1") and "plain" not in name:
            assert recipe.loss_options["diversity"]["diagonal"] == "zero"


@pytest.mark.parametrize("name", ["table1-esr9-affectnet8", "table1-esr15-rafdb-plain", "esr9-ferplus-printed"])
def test_stages_of_the_diversity_recipes_name_what_the_network_has(name):
    recipe = Recipe.load(FOLDER / "diversity" / f"{name}.yaml").overlay({"width": 1 / 16})
    for number in (1, 2, len(recipe.stages)):
        stage, branches = stage_recipe(recipe, number)
        options = recipe.model_options | ({"branches": branches} if branches else {})
        task = make_task(create_model("esr", width=1 / 16, **options), stage, dict.fromkeys(order("affectnet8"), 10))
        rates = {round(group["lr"], 6) for group in parameter_groups(task, stage.lr, stage.part_lr)}
        assert rates == ({0.1} if number == 1 and branches else {0.01, 0.1} if branches else {0.02, 0.1}), (
            number,
            rates,
        )
        if not branches:
            assert task.criterion.first == number


def test_names_are_unique():
    names = [Recipe.load(file).name for file in FILES]
    assert len(set(names)) == len(names)


def test_round_trip(tmp_path):
    recipe = Recipe(
        name="häppy",
        source="Tabelle 3: 50 %",
        lr=1e-3,
        early_stopping=15,
        image_size=48,
        model_options={"head": "linear"},
        nesterov=True,
        tta="flip",
    )
    recipe.save(tmp_path / "r.yaml")
    assert Recipe.load(tmp_path / "r.yaml") == recipe
    assert [p.name for p in tmp_path.iterdir()] == ["r.yaml"]
    written = yaml.safe_load((tmp_path / "r.yaml").read_text("utf-8"))
    assert set(written) == {
        "name", "source", "model", "model_options", "image_size", "data", "lr", "nesterov", "early_stopping", "tta",
    }


def test_defaults_survive_being_written(tmp_path):
    Recipe().save(tmp_path / "r.yaml")
    assert yaml.safe_load((tmp_path / "r.yaml").read_text()) == {
        "name": "experiment",
        "model": "resemotenet",
        "data": "synthetic",
    }
    assert Recipe.load(tmp_path / "r.yaml") == Recipe()


def test_a_recipe_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        Recipe().lr = 1.0


def test_every_field_is_documented():
    text = Recipe.__doc__ or ""
    assert [f for f in Recipe.model_fields if f not in text] == []


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("learning_rate: 0.1", "a recipe has no key 'learning_rate'; known: name, source, model"),
        ("epoch: 3", r"a recipe has no key 'epoch'; did you mean epochs\?; known: name"),
        ("lr_factor: 0.1", "no key 'lr_factor' any more; it is called lr_drop now"),
        ("lr: fast", "recipe key lr must be a valid number, found 'fast'"),
        ("lr: 0", "recipe key lr must be greater than 0, found 0"),
        ("lr: .inf", "recipe key lr must be a finite number, found inf"),
        ("epochs: 3.5", "recipe key epochs must be a valid integer, found 3.5"),
        ("epochs: true", "recipe key epochs must be a valid integer, found True"),
        ("lr: true", "recipe key lr must be a valid number, found True"),
        ("nesterov: 1", "recipe key nesterov must be a valid boolean, found 1"),
        ("early_stopping: never", "recipe key early_stopping must be a valid integer, found 'never'"),
        ("early_stopping: -1", "recipe key early_stopping must be greater than or equal to 0, found -1"),
        ("grad_clip: -1", "recipe key grad_clip must be greater than or equal to 0, found -1"),
        ("image_size: 64.0", "recipe key image_size must be a valid integer"),
        ("model_options: linear", "recipe key model_options must be a valid dictionary, found 'linear'"),
        ("part_lr: {base: fast}", "recipe key part_lr.base must be a valid number, found 'fast'"),
        ("name: 7", "recipe key name must be a valid string, found 7"),
        ("precision: fp32", "recipe key precision must be 'no', 'bf16', 'fp16' or 'auto', found 'fp32'"),
        ("target: soft", "recipe key target must be 'label' or 'votes', found 'soft'"),
        ("select: val_loss", "recipe key select must be 'val_accuracy', "),
        ("schedule: cosin", r"recipe key schedule must be one of constant, .*, found 'cosin'; did you mean cosine\?$"),
        ("optimizer: lion", "recipe key optimizer must be one of sgd, adam, adamw, radam, found 'lion'"),
        ("augmentation: heavy", "recipe key augmentation must be one of none, .*, found 'heavy'"),
        ("class_weight: focal", "recipe key class_weight must be one of none, .*, found 'focal'"),
        ("loss: focal", "recipe key loss must be one of cross_entropy, .*, found 'focal'"),
        ("model: resemotent", r"recipe key model must be one of .*, found 'resemotent'; did you mean resemotenet\?"),
        ("data: fer13", r"recipe key data must be one of .*, found 'fer13'; did you mean fer2013\?"),
        ("tta: crops", "recipe key tta: no test-time augmentation 'crops'; known: none"),
        (
            "test_split: validation",
            "recipe key test_split must be a split that is neither trained nor selected on, .*, found 'validation'",
        ),
        ("test_split: train", "neither trained nor selected on, .*, found 'train'"),
        ("validation_split: test", "validation_split='test' is trained on or tested on; choose another"),
        ("name: ../elsewhere", "name is that of the run's folder, without slashes, found '../elsewhere'"),
        ("epochs: 0", "recipe key epochs must be greater than or equal to 1, found 0"),
        ("batch_size: 1", "recipe key batch_size must be greater than or equal to 2, found 1"),
        ("{sam_rho: 0.05, precision: fp16}", "sam_rho needs two backward passes"),
        (
            "{nesterov: true, optimizer: adam}",
            "nesterov belongs to optimizer: sgd with momentum above 0, found adam with momentum 0.9",
        ),
        ("{schedule: plateau, warmup_epochs: 1}", "schedule: plateau has no warm-up"),
        ("stages: [{epoch: 3}]", r"stage 1: a recipe has no key 'epoch'; did you mean epochs\?"),
        ("stages: [{epochs: 3}, {lr: -1}]", "stage 2: recipe key lr must be greater than 0, found -1"),
        ("- lr", "must hold keys and values, found list"),
        ("", "must hold keys and values, found NoneType"),
        ("a: [1", "is not YAML"),
        ("fold_pool: test", "recipe key fold_pool must be 'all' or 'train', found 'test'"),
        ("{folds: 5, test_fold: 6}", "test_fold counts from 1 to folds, found test_fold=6 and folds=5"),
        ("{folds: 5, validation_split: public_test}", "with folds, validation is carved from the folds trained on"),
        ("sweep: {lr: 0.1}", "recipe key sweep.lr must be a valid list, found 0.1"),
        ("sweep: {lr: []}", "sweep holds a list of values for each key, found none for lr"),
        ("sweep: {lrr: [1]}", r"sweep names 'lrr', which no recipe has; did you mean lr\?"),
    ],
)
def test_what_is_no_recipe_is_refused_by_file_name(tmp_path, text, complaint):
    file = write(tmp_path, text)
    with pytest.raises(ValueError, match=complaint) as error:
        Recipe.load(file)
    assert str(file) in str(error.value)


def test_absent_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="no recipe at .*gone.yaml"):
        Recipe.load(tmp_path / "gone.yaml")


def test_what_yaml_takes_for_something_else(tmp_path):
    assert Recipe.load(write(tmp_path, "{lr: 1e-4, weight_decay: 5E-4, precision: no}")) == Recipe(
        lr=1e-4, weight_decay=5e-4, precision="no"
    )


def test_a_tuple_is_the_list_that_yaml_gives_back(tmp_path):
    recipe = Recipe(model_options={"depths": (1, 2), "deep": {"er": ((1,), 2)}}, freeze=("base",))
    recipe.save(tmp_path / "r.yaml")
    assert Recipe.load(tmp_path / "r.yaml") == recipe and recipe.model_options["depths"] == [1, 2]


def test_resolving_takes_the_file_then_the_profile_then_what_is_given_by_hand(tmp_path):
    file = tmp_path / "r.yaml"
    Recipe(
        name="r",
        data="fer2013",
        data_options={"order": "x"},
        test_split="public_test",
        target="votes",
        epochs=80,
        lr=0.3,
    ).save(file)
    assert resolve(file) == Recipe.load(file)
    by_hand = resolve(file, profile="smoke", changes={"epochs": 10, "lr": 0.05}, data_path="/there")
    assert (by_hand.epochs, by_hand.lr, by_hand.data_path) == (10, 0.05, "/there"), "also what equals a default wins"
    assert by_hand.width == PROFILES["smoke"]["width"]
    other = resolve(file, data="folder", data_path="/mine")
    assert (other.data, other.data_path, other.data_options, other.test_split, other.target) == (
        "folder",
        "/mine",
        {},
        "test",
        "label",
    )
    assert other.epochs == 80
    kept = resolve(file, changes={"data": "fer2013"})
    assert kept == Recipe.load(file), "the same data set keeps its options"
    with pytest.raises(ValueError, match="no profile 'quick'; known: smoke, teach, paper"):
        resolve(file, profile="quick")


def test_whole_numbers_are_fractions_where_those_are_meant(tmp_path):
    recipe = Recipe.load(write(tmp_path, "{lr: 1, width: 1, warmup_epochs: 2, weight_decay: 1.0e-4}"))
    assert (recipe.lr, recipe.width, recipe.warmup_epochs, recipe.weight_decay) == (1.0, 1.0, 2.0, 1e-4)
    assert isinstance(recipe.lr, float)


def test_profiles():
    recipe = Recipe(
        name="x",
        data="fer2013",
        data_path="/somewhere",
        test_split="private_test",
        validation_split="public_test",
        init="imagenet",
        epochs=80,
        batch_size=16,
        lr=0.3,
    )
    assert resolve(recipe, profile="paper") == recipe
    for profile in ("smoke", "teach"):
        changed = resolve(recipe, profile=profile)
        assert (changed.data, changed.data_path, changed.test_split) == ("synthetic", None, "test")
        assert changed.init is None and changed.validation_split is None
        assert changed.width < 1 and changed.epochs < 80
        assert (changed.name, changed.batch_size, changed.lr) == ("x", 16, 0.3)
    assert resolve(recipe, profile="smoke").width < resolve(recipe, profile="teach").width
    assert recipe.overlay({"lr": 0.1, "epochs": 2}) == Recipe(**{**recipe.as_dict(), "lr": 0.1, "epochs": 2})
    assert recipe.lr == 0.3


@pytest.mark.parametrize("name", list_models())
def test_profiles_fit_every_network(name):
    for profile in ("smoke", "teach"):
        everything_exists(resolve(Recipe(model=name, init="imagenet"), profile=profile))


def test_exceptions_are_networks_that_the_profile_does_not_fit():
    """A line that is no longer needed, or of a network that is gone, is found here."""
    for name, exception in EXCEPTIONS.items():
        with pytest.raises(ValueError):
            everything_exists(Recipe(model=name).overlay(PROFILES["smoke"]))
        assert set(exception) <= {"width", "image_size"}


def test_only_profiles_make_exceptions():
    recipe = Recipe(model="googlenet", image_size=224)
    assert resolve(recipe, profile="smoke").width == resolve(recipe, profile="teach").width == 1.0
    assert resolve(recipe, profile="paper") == recipe
    assert recipe.overlay({"width": 0.5}).width == 0.5, (
        "what is asked for by hand is refused by the network, not ignored"
    )
    assert resolve(Recipe(model="resnet18"), profile="smoke").width == 0.0625


def test_residual_masking_tables_are_complete():
    recipes = {file.stem: Recipe.load(file) for file in FOLDER.glob("resmasking/*.yaml")}
    table2 = {name: recipe for name, recipe in recipes.items() if name.startswith("table2-")}
    rows = ledger("resmasking").tables["II"].rows
    assert len(table2) == len(rows) == 11
    for row, (parameters, percent) in rows.items():
        found = [r for r in table2.values() if f"row {row} ({parameters} M, {percent:.2f} %" in r.source]
        assert len(found) == 1, row
    same = (
        "data", "test_split", "validation_split", "augmentation", "batch_size", "optimizer", "lr", "weight_decay",
        "schedule", "early_stopping", "seed",
    )
    paper = [recipe for name, recipe in recipes.items() if name == "released" or name.startswith(("table2", "table3"))]
    assert len({tuple(getattr(recipe, key) for key in same) for recipe in paper}) == 1
    assert {r.model for r in table2.values() if r.init is None} == {"resattnet56", "densenet121", "resnet152"}
    released, printed = recipes["released"], recipes["table2-resmasking"]
    differ = {key for key in released.as_dict() if getattr(released, key) != getattr(printed, key)}
    assert differ == {"name", "source", "init", "tta"}
    table4 = [recipe for name, recipe in recipes.items() if name.startswith("table4-")]
    rows = ledger("resmasking").tables["IV"].rows
    assert len(table4) == len(rows) == 4 and {r.data for r in table4} == {"folder"}
    for row, (percent,) in rows.items():
        assert sum(f"row {row} ({percent:.2f} %)" in r.source for r in table4) == 1, row
    members = {"table2-cbam_resnet50", "table2-efficientnet_b2b", "table2-resmasking"} | {
        name for name in recipes if "member" in name
    }
    assert len(members) == 6 and len({recipes[name].tta for name in members}) == 1


def test_lfnsb_tables_are_complete():
    """Every row of Tables 2 to 5 and 9 that names a network to train is in a recipe's source,
    and the headline's three sets.
    """
    recipes = {
        file.stem: Recipe.load(file) for file in FOLDER.glob("lfnsb/*.yaml") if not file.stem.startswith("teach")
    }
    tables = ledger("lfnsb").tables
    rows = [("2", row, "accuracy") for row in tables["2"].rows]
    rows += [
        (table, row, column)
        for table in ("3", "5")
        for row in tables[table].rows
        if row != "gain"
        for column in tables[table].columns
    ]
    rows += [("9", row, "mean") for row in tables["9"].rows] + [("headline", "AffectNet-8", "accuracy")]
    for table, row, column in rows:
        found = [r for r in recipes.values() if f"Table {table}, row {row}, {column}" in r.source]
        assert found, (table, row, column)
        data = {"RAF-DB": "rafdb", "AffectNet-7": "affectnet7", "AffectNet-8": "affectnet8"}
        assert {r.data for r in found} == {data.get(column) or data.get(row) or "rafdb"}
        network = {"MobileFaceNet": "mobilefacenet", "MFN": "mfn", "CE": "lfn", "CE + CH": "lfn", "LFN": "lfn"}.get(
            row, "lfnsb"
        )
        assert {r.model for r in found} == {network}, (table, row)
        assert {r.loss for r in found} == {None if row == "CE" else "cosine_harmony"}
    sweep = recipes["table4-alpha"].sweep
    assert sweep["loss_options.alpha"] == list(tables["4"].column("alpha").values()) and len(sweep["seed"]) >= 3
    assert {name for name, r in recipes.items() if r.folds} == {"table9-rafdb", "table9-affectnet7"}
    for name, r in recipes.items():
        assert (
            r.width == 1 and r.image_size == 112 and r.epochs == 40 and r.lr == (0.01 if r.data == "rafdb" else 1e-4)
        ), name
        printed = name.endswith("printed")
        assert (r.batch_size, r.schedule != "constant") == (256 if printed or r.data != "rafdb" else 128, not printed)
        assert (r.flood, r.sam_rho, r.sampler) == {
            (True, True): (0.0, 0.0, "shuffle"), (True, False): (0.0, 0.0, "shuffle"),
            (False, True): (0.5, 0.0, "shuffle"), (False, False): (0.0, 0.05, "balanced"),
        }[printed, r.data == "rafdb"]  # fmt: skip
        assert r.loss is None or r.loss_options["variant"] == "released"


def test_an_option_can_be_replaced_alone():
    recipe = Recipe(loss_options={"variant": "released", "alpha": 0.1})
    assert recipe.overlay({"loss_options.alpha": 0.5, "lr": 0.1}).loss_options == {"variant": "released", "alpha": 0.5}
    assert recipe.overlay({"loss_options.diversity.spatial": 2.0}).loss_options["diversity"] == {"spatial": 2.0}
    assert recipe.loss_options == {"variant": "released", "alpha": 0.1}
    with pytest.raises(ValueError, match="lr.alpha names an option of lr, which is 0.05 and has none"):
        recipe.overlay({"lr.alpha": 1})
    with pytest.raises(ValueError, match="a recipe has no key 'los_options'"):
        recipe.overlay({"los_options.alpha": 1})


def test_overlay_refuses_what_a_recipe_refuses():
    with pytest.raises(ValueError, match="no profile 'quick'; known: smoke, teach, paper"):
        resolve(Recipe(), profile="quick")
    with pytest.raises(ValueError, match="no key 'depth'"):
        Recipe().overlay({"depth": 3})
    with pytest.raises(ValueError, match="lr must be a valid number"):
        Recipe().overlay({"lr": "slow"})


def test_changing_one_recipe_does_not_change_another():
    one = resolve(Recipe(), profile="smoke")
    one.as_dict()["data_options"]["size"] = 7
    one.data_options["size"] = 7
    assert resolve(Recipe(), profile="smoke").data_options["size"] != 7
    assert PROFILES["smoke"]["data_options"]["size"] != 7
