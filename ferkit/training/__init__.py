"""From a recipe to trained weights: one visible loop on accelerate, and what it is made of."""

from ferkit.training.history import History
from ferkit.training.loop import fit, validate
from ferkit.training.recipe import PROFILES, Recipe, resolve
from ferkit.training.session import OutOfTime, make_accelerator
from ferkit.training.stages import fit_stages
from ferkit.training.task import Task, make_task

__all__ = [
    "PROFILES", "History", "OutOfTime", "Recipe", "Task", "fit", "fit_stages", "make_accelerator", "make_task",
    "resolve", "validate",
]
