"""Notebook 40's parameters cell is a recipe: papermill writes a recipe file over it, so what the file leaves out must be the default."""

import ast

import pytest
import yaml

from ferkit.training.recipe import PROFILES, Recipe
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


def recipe_of(values):
    return Recipe(**{key: value for key, value in values.items() if key not in OWN})


def test_keys_are_those_of_a_recipe_in_its_order(values):
    assert list(values) == [*OWN, *Recipe.model_fields]


def test_values_are_the_defaults(values):
    assert recipe_of(values) == Recipe()


def test_a_recipe_runs_as_written_unless_a_profile_is_asked_for(values):
    assert {key: values[key] for key in OWN} == OWN
    assert PROFILES[values["PROFILE"]] == {}


@pytest.mark.parametrize("file", RECIPES, ids=lambda file: file.stem)
def test_a_recipe_file_over_the_cell_is_the_recipe(values, file):
    written = yaml.safe_load(file.read_text(encoding="utf-8"))
    assert recipe_of({**values, **written}) == Recipe.load(file)
    assert written["name"] != Recipe().name, "without a name of its own, the notebook takes it for no recipe"


def test_there_are_recipes():
    assert RECIPES


def test_a_recipe_that_asks_for_several_runs_makes_them_all(tmp_path, capsys):
    """The cells up to the data, as papermill would start them: the parameters, then the recipe's values over them."""
    entries = build.read_manifest()
    (entry,) = (e for e in entries if e.number == "40")
    space = {}
    for cell in build.assemble(entry, entries).cells:
        if cell.source.startswith("## 3"):
            break
        if cell.cell_type == "code":
            exec(compile(cell.source, "40", "exec"), space)  # the notebook's own code
        if "parameters" in tags(cell):
            space |= {"PROFILE": "smoke", "OUT": str(tmp_path), "name": "several", "sweep": {"label_smoothing": [0.0, 0.2], "seed": [0, 1]}}
    folder = tmp_path / "several-smoke"
    assert {p.name for p in folder.iterdir() if p.is_dir()} == {f"several-smoke-label_smoothing={s}-seed={k}" for s in (0.0, 0.2) for k in (0, 1)}
    assert space["folder_of_runs"] == folder and space["recipe"].name == "several-smoke-label_smoothing=0.0-seed=0"
    assert len(space["figure"].axes[0].get_yticklabels()) == 4
    assert "label_smoothing = 0.2: mean accuracy" in (said := capsys.readouterr().out) and "over 2 runs" in said
