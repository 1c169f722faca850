"""Notebook 40's parameters cell is a recipe: papermill writes a recipe file over it,
so what the file leaves out must be the default.
"""

import ast

import pytest
import yaml

from ferkit.training import PROFILES, Recipe, resolve
from notebooks import build
from notebooks.build import tags

OWN = {"PROFILE": "paper", "OUT": "runs", "RESUME": True}
RECIPES = sorted((build.NOTEBOOKS / "recipes").rglob("*.yaml"))


@pytest.fixture(scope="module")
def values():
    entries = build.read_manifest()
    (entry,) = (e for e in entries if e.number == "40")
    (cell,) = (c for c in build.assemble(entry, entries).cells if "parameters" in tags(c))
    found = {}
    for statement in ast.parse(cell.source).body:
        (target,) = statement.targets
        assert target.id not in found, f"{target.id} is set twice"
        found[target.id] = ast.literal_eval(statement.value)
    return found


def cells_up_to(heading):
    entries = build.read_manifest()
    (entry,) = (e for e in entries if e.number == "40")
    for cell in build.assemble(entry, entries).cells:
        if cell.source.startswith(heading):
            return
        if cell.cell_type == "code":
            yield cell


def recipe_from(**given):
    """The recipe that the notebook runs when papermill writes these values below its parameters cell."""
    space = {}
    for cell in cells_up_to("This is the recipe"):
        exec(compile(cell.source, "40", "exec"), space)  # the notebook's own code
        if "parameters" in tags(cell):
            space |= given
    return space["recipe"]


def test_the_cell_has_what_is_no_recipe(values):
    assert values == OWN
    assert PROFILES[values["PROFILE"]] == {}


@pytest.mark.parametrize(
    "file",
    [file for file in RECIPES if file.stem.startswith(("teach", "table1-esr9-rafdb", "table4-alpha"))],
    ids=lambda file: file.stem,
)
def test_a_recipe_file_under_papermill_is_the_recipe_in_a_shell(file):
    written = yaml.safe_load(file.read_text(encoding="utf-8"))
    assert recipe_from(**written) == resolve(file)
    small = recipe_from(**written, PROFILE="smoke")
    assert small == resolve(file, profile="smoke").overlay({"name": f"{written['name']}-smoke"})
    assert written["name"] != Recipe().name


def test_values_given_win_also_where_they_equal_a_default():
    plain = recipe_from()
    assert (plain.name, plain.epochs, plain.augmentation) == ("first-run", 8, "resemotenet")
    # all of them defaults of a recipe, none of the example
    changed = recipe_from(epochs=10, augmentation="none", lr=0.05)
    assert (changed.name, changed.epochs, changed.augmentation, changed.lr, changed.batch_size) == (
        "first-run",
        10,
        "none",
        0.05,
        16,
    )
    small = recipe_from(PROFILE="smoke", epochs=2)
    assert (small.name, small.epochs, small.width) == ("first-run-smoke", 2, PROFILES["smoke"]["width"]), (
        "as with --set"
    )


def test_other_data_leave_the_example_s_options_behind():
    other = recipe_from(data="folder", data_path="/mine")
    assert (other.data, other.data_path, other.data_options) == ("folder", "/mine", {})


def test_texts_of_the_command_line_are_understood():
    recipe = recipe_from(
        nesterov="true", model_options="{head: mlp}", early_stopping="null", lr="1e-3", freeze="[conv1]"
    )
    assert (recipe.nesterov, recipe.model_options, recipe.early_stopping, recipe.lr, recipe.freeze) == (
        True,
        {"head": "mlp"},
        None,
        1e-3,
        ["conv1"],
    )


def test_a_misspelt_parameter_is_named():
    with pytest.raises(ValueError, match=r"the notebook has no parameter 'epoch'; did you mean epochs\?"):
        recipe_from(epoch=3)
    with pytest.raises(ValueError, match=r"no parameter 'Profile'"):
        recipe_from(Profile="smoke")


def test_there_are_recipes():
    assert RECIPES


def test_a_recipe_that_asks_for_several_runs_makes_them_all(tmp_path, capsys):
    """The cells up to the data, as papermill would start them: the parameters, then the recipe's values over them."""
    space = {}
    for cell in cells_up_to("## 3"):
        exec(compile(cell.source, "40", "exec"), space)  # the notebook's own code
        if "parameters" in tags(cell):
            space |= {
                "PROFILE": "smoke",
                "OUT": str(tmp_path),
                "name": "several",
                "sweep": {"label_smoothing": [0.0, 0.2], "seed": [0, 1]},
            }
    folder = tmp_path / "several-smoke"
    assert {p.name for p in folder.iterdir() if p.is_dir()} == {
        f"several-smoke-label_smoothing={s}-seed={k}" for s in (0.0, 0.2) for k in (0, 1)
    }
    assert space["folder_of_runs"] == folder and space["recipe"].name == "several-smoke-label_smoothing=0.0-seed=0"
    assert len(space["figure"].axes[0].get_yticklabels()) == 4
    assert "label_smoothing = 0.2: mean accuracy" in (said := capsys.readouterr().out) and "over 2 runs" in said
