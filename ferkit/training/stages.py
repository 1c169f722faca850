"""Trainings that follow one another on the same network, such as ESR's: base and one branch first,
then one more at a time.
"""

from pathlib import Path
from typing import Any

import torch
from accelerate.utils import set_seed

from ferkit.data import cap_per_class
from ferkit.data.faceset import FaceSet
from ferkit.models import FerModel, freeze, thaw
from ferkit.training.batches import stream
from ferkit.training.history import History
from ferkit.training.loop import fit
from ferkit.training.recipe import Recipe
from ferkit.training.task import make_task


def stage_recipe(recipe: Recipe, number: int) -> tuple[Recipe, int | None]:
    """The recipe of stage `number` (from 1), and how many branches the network has in it, if the stage says so."""
    changes = dict(recipe.stages[number - 1])
    branches = changes.pop("branches", None)
    return recipe.overlay({"stages": [], **changes}), branches


def fit_stages(
    model: FerModel,
    train: FaceSet,
    validation: FaceSet,
    recipe: Recipe,
    *,
    folder: Path | None = None,
    resume: bool = True,
    progress: bool = True,
    until: float | None = None,
) -> History:
    """Train a network stage by stage; each starts from the best epoch of the one before, with a new optimiser.

    A stage is a dict of recipe keys to replace. The key `branches` beside them lets the network grow, through its
    method `add_branch()`, to that many branches before the stage begins. With `per_class`, each stage draws its images
    anew. What a stage's `freeze` names is kept as it is in that stage alone: `{freeze: [conv]}`, then `{freeze: []}`.

    Args:
        model: the network at its first stage; afterwards it holds the best weights of the last one.
        train, validation, recipe, resume, progress, until: as for `ferkit.training.loop.fit`.
        folder: each stage has a folder of its own in `folder/stages/`, with history, best weights and checkpoint. An
            interrupted training goes on inside the stage it had reached; finished stages are only read.

    Returns:
        The histories one after the other: `stage` counts from 1, `epoch` goes on.

    Raises:
        ValueError: a stage asks for fewer branches than there are, or for branches of a network that has none.

    """
    together, frozen = History(), recipe.freeze
    for number in range(1, len(recipe.stages) + 1):
        stage, branches = stage_recipe(recipe, number)
        seed = stream(recipe.seed, number) % 2**32
        set_seed(seed)  # what a stage draws depends on nothing that happened before it
        if branches is not None:
            _grow(model, branches)
        if stage.freeze != frozen:
            thaw(model, frozen)
            freeze(model, stage.freeze)
            frozen = stage.freeze
        chosen = cap_per_class(train, stage.per_class, seed) if stage.per_class else train
        here = None if folder is None else folder / "stages" / f"{number:02d}"
        history = fit(
            make_task(model, stage, chosen.counts()),
            chosen,
            validation,
            stage,
            folder=here,
            resume=resume,
            progress=progress,
            until=until,
        )
        done = len(together.rows)
        together.rows += [{"stage": number, **row, "epoch": done + row["epoch"]} for row in history.rows]
        if folder is not None:
            together.save(folder / "history.csv")
    return together


def _grow(model: FerModel, branches: int) -> None:
    add: Any = getattr(model, "add_branch", None)
    there: Any = getattr(model, "branches", None)
    if add is None or there is None:
        raise ValueError(f"a stage asks for {branches} branches, but {type(model).__name__} cannot grow")
    if len(there) > branches:
        raise ValueError(f"a stage asks for {branches} branches, but the network has {len(there)} already")
    device = next(model.parameters()).device
    with torch.device(device):
        for _ in range(branches - len(there)):
            add()
