"""Several runs of one recipe: a sweep over values, the folds of a cross-validation, or both; a folder for each,
one summary.
"""

import csv
import io
import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ferkit.files import write_json, write_text
from ferkit.runs.experiment import run
from ferkit.training import OutOfTime, Recipe, make_accelerator

#: Keys whose values are repetitions of one experiment: means and standard deviations are taken over these.
REPETITIONS = ("seed", "split_seed", "test_fold")
SCORES = ("accuracy", "balanced_accuracy", "macro_f1", "cross_entropy")


@dataclass(frozen=True)
class Series:
    """Finished runs of one recipe: their folder, the recipe of each run, and the summary that the folder holds."""

    folder: Path
    recipes: list[Recipe]
    summary: dict[str, Any]


def asks_for_several(recipe: Recipe) -> bool:
    """Whether `run_all`, and not `ferkit.runs.run`, is meant."""
    return bool(recipe.sweep) or (recipe.folds is not None and recipe.test_fold is None)


def recipes_of(recipe: Recipe) -> list[tuple[dict[str, Any], Recipe]]:
    """What differs and the recipe, of each run: every combination of the values of `sweep` and of the folds,
    last key fastest.

    Raises:
        ValueError: nothing to vary, a value no recipe takes, or two runs with the same values.

    """
    if not asks_for_several(recipe):
        raise ValueError(
            f"{recipe.name} is a single run: give its key sweep lists of values, such as {{seed: [0, 1, 2]}}, or folds"
        )
    values = dict(recipe.sweep)
    if recipe.folds is not None and recipe.test_fold is None and "test_fold" not in values:
        values["test_fold"] = list(range(1, recipe.folds + 1))
    made = []
    for combination in itertools.product(*values.values()):
        differs = dict(zip(values, combination, strict=True))
        made.append(
            (
                differs,
                recipe.overlay({"sweep": {}, **differs, "name": f"{recipe.name}-{_label(differs, recipe.folds)}"}),
            )
        )
    names = [each.name for _, each in made]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"two runs of {recipe.name} would be called {twice[0]}: give each value once")
    return made


def run_all(
    recipe: Recipe, *, out: str | Path = "runs", resume: bool = True, progress: bool = True, until: float | None = None
) -> Series:
    """Run every combination that the recipe asks for, one after the other, each in a folder of its own,
    and sum them up.

    `out/<name>/` holds the run folders, of `ferkit.runs.experiment.run`, and is brought up to date after each of them:

    - summary.csv: a line per run, with what differs and its scores.
    - summary.json: the same, with `failed`: the runs whose loss was no longer finite, and why. And `groups`: the runs
      that differ in nothing but a repetition (`REPETITIONS`), with mean and standard deviation (n - 1) of each score.
      Folds share most of their training images, so that their standard deviation is no standard error of the mean.

    Args:
        recipe: with `sweep`, or with `folds` and no `test_fold`.
        out, progress: as of `run`.
        resume: finished runs are read and the interrupted one goes on where it stopped; False begins all of them anew.
        until: when to stop, as `time.monotonic()` counts: the summary then tells fewer runs as `finished` than as
            `planned`, and the same call goes on from there. A training stops between two epochs, see
            `ferkit.training.fit`.

    Raises:
        ValueError: as `recipes_of` and `run`; or the folder holds a single run. Every recipe is checked before the
            first run.

    """
    made = recipes_of(recipe)
    folder = Path(out) / recipe.name
    if (folder / "recipe.yaml").exists():
        raise ValueError(f"{folder} holds a single run; give the series another name")
    main = make_accelerator().is_main_process
    rows: list[dict[str, Any]] = []
    failed: list[dict[str, Any]] = []
    for number, (differs, each) in enumerate(made, 1):
        if progress and main:
            print(f"run {number} of {len(made)}: {each.name}", flush=True)
        try:
            result = run(each, out=folder, resume=resume, progress=progress, until=until).result
        except OutOfTime as stopped:
            if progress and main:
                print(f"{each.name} {stopped}", flush=True)
            break
        except FloatingPointError as error:  # one that diverges is a finding about its values; the others go on
            failed.append({"name": each.name, "values": differs, "why": str(error)})
            if progress and main:
                print(f"{each.name} failed: {error}", flush=True)
            continue
        if main:  # the others have no result
            rows.append(
                {"name": each.name, "values": differs, "seconds": result["seconds"]["training"]}
                | {part: _scores(result[part]) for part in ("test", "validation")}
            )
            _write(folder, _summary(recipe, made, rows, failed))
    if main and failed:
        _write(folder, _summary(recipe, made, rows, failed))
    return Series(folder, [each for _, each in made], _summary(recipe, made, rows, failed))


def _summary(
    recipe: Recipe, made: list[tuple[dict[str, Any], Recipe]], rows: list[dict[str, Any]], failed: list[dict[str, Any]]
) -> dict[str, Any]:
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(repr(_constant(row["values"])), []).append(row)
    return {
        "name": recipe.name,
        "source": recipe.source,
        "recipe": recipe.as_dict(),
        "finished": len(rows),
        "planned": len(made),
        "runs": rows,
        "failed": failed,
        "groups": [
            {
                "values": _constant(group[0]["values"]),
                "runs": len(group),
                **{
                    part: {score: _spread([row[part][score] for row in group]) for score in SCORES}
                    for part in ("test", "validation")
                },
            }
            for group in groups.values()
        ],
    }


def _constant(values: dict[str, Any]) -> dict[str, Any]:
    """What is the same in all repetitions."""
    return {key: value for key, value in values.items() if key not in REPETITIONS}


def _spread(values: list[float]) -> dict[str, float | None]:
    return {"mean": float(np.mean(values)), "sd": float(np.std(values, ddof=1)) if len(values) > 1 else None}


def _scores(result: dict[str, Any]) -> dict[str, Any]:
    return {
        "n": result["n"],
        **{score: result[score] for score in SCORES},
        "accuracy_interval": result["intervals"]["accuracy"],
    }


def _write(folder: Path, summary: dict[str, Any]) -> None:
    write_json(folder / "summary.json", summary)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    parts = [f"{part}_{key}" for part in ("test", "validation") for key in ("n", *SCORES)]
    if not summary["runs"]:
        return
    writer.writerow(
        ["name", *summary["runs"][0]["values"], *parts, "test_accuracy_low", "test_accuracy_high", "seconds"]
    )
    for row in summary["runs"]:
        scores = [row[part][key] for part in ("test", "validation") for key in ("n", *SCORES)]
        writer.writerow(
            [row["name"], *row["values"].values(), *scores, *row["test"]["accuracy_interval"], row["seconds"]]
        )
    write_text(folder / "summary.csv", text.getvalue())


def _label(differs: dict[str, Any], folds: int | None) -> str:
    """Part of a folder's name: `alpha=0.1-seed=0`, `test_fold=03`."""
    width = len(str(folds))
    texts = [
        f"{key.rpartition('.')[2]}={value:0{width}d}" if key == "test_fold" else f"{key.rpartition('.')[2]}={value}"
        for key, value in differs.items()
    ]
    return "-".join(texts).replace("/", "_").replace("\\", "_")
