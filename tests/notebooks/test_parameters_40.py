"""Notebook 40's parameters cell is a recipe: a recipe file is a papermill parameter file only while their keys agree."""

import ast
import dataclasses

import pytest

from ferkit.recipe import PROFILES, Recipe
from notebooks import build
from notebooks.build import tags

OWN = {"PROFILE": "paper", "OUT": "runs", "RESUME": True}
# What the notebook's own run has otherwise than a recipe by default, so that it is a laptop's work.
CHOSEN = {
    *("name", "source", "width", "model_options", "data_options"),
    *("augmentation", "epochs", "batch_size", "lr", "schedule", "warmup_epochs", "label_smoothing"),
}


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


def test_keys_are_those_of_a_recipe_in_its_order(values):
    assert list(values) == [*OWN, *(f.name for f in dataclasses.fields(Recipe))]


def test_values_are_the_defaults_except_those_named(values):
    usual = Recipe().as_dict()
    recipe = Recipe.of({k: v for k, v in values.items() if k not in OWN}).as_dict()
    assert {k for k in recipe if recipe[k] != usual[k]} == CHOSEN


def test_a_recipe_runs_as_written_unless_a_profile_is_asked_for(values):
    assert {k: values[k] for k in OWN} == OWN
    assert PROFILES[values["PROFILE"]] == {}


def test_stars_mark_what_differs():
    source = (build.NOTEBOOKS / "py" / "40_run_one_experiment.py").read_text(encoding="utf-8")
    starred = {line.split(" = ")[0] for line in source.splitlines() if "  # *" in line}
    assert starred == CHOSEN
