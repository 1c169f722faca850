"""Commands that train by recipes, and tell what runs are worth: a recipe or runs in, a folder or a record out."""

import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ferkit.commands.shared import in_one_sentence, pairs

if TYPE_CHECKING:  # torch takes seconds to import, and `--help` needs none
    from ferkit.training import Recipe

RecipeFile = Annotated[Path, typer.Argument(help="a recipe, such as notebooks/recipes/resemotenet/teach-fer2013.yaml")]
Data = Annotated[Path | None, typer.Option(help="where the recipe's data set lies")]
Profile = Annotated[str, typer.Option(help="smoke, teach or paper (the recipe as it is)")]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="replace a value of the recipe, or one option: loss_options.alpha=0.2"
    ),
]
Out = Annotated[Path, typer.Option(help="folder of the runs")]
Resume = Annotated[bool, typer.Option(help="go on where an interrupted run stopped")]
Show = Annotated[bool, typer.Option("--show", help="print the recipe as it would run, and stop")]


def run(
    recipe: RecipeFile,
    data: Data = None,
    profile: Profile = "paper",
    set_: Set = None,
    out: Out = Path("runs"),
    resume: Resume = True,
    show: Show = False,
) -> None:
    """Train by a recipe and test once; on many GPUs: `accelerate launch -m ferkit run ...`.

    Despite its name, accelerate's `--multi_gpu --num_processes 2` also starts two processes on a machine without GPUs.
    """
    from ferkit.runs.experiment import run as run_recipe

    with in_one_sentence(interrupted=_how_to_go_on()):
        chosen = _recipe(recipe, data, profile, set_, show)
        done = run_recipe(chosen, out=out, resume=resume)
    if done.result:  # only the main process has one
        test = done.result["test"]
        low, high = test["intervals"]["accuracy"]
        typer.echo(
            f"{done.folder}: {chosen.test_split} accuracy {100 * test['accuracy']:.1f} % (95 % interval "
            f"{100 * low:.1f} to {100 * high:.1f}, n = {test['n']}), macro-F1 {test['macro_f1']:.3f}"
        )


def sweep(
    recipes: Annotated[list[Path], typer.Argument(help="recipes, one series after the other")],
    over: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=[A,B]", help="a list of values for a key: a run for every combination"),
    ] = None,
    data: Data = None,
    profile: Profile = "paper",
    set_: Set = None,
    out: Out = Path("runs"),
    resume: Resume = True,
    minutes: Annotated[
        float | None,
        typer.Option(min=0, help="stop between two epochs before so many are over; the same command goes on"),
    ] = None,
    show: Show = False,
) -> None:
    """Run a recipe once for every combination of values: those of --over, or else of its own key sweep;
    resumes run by run.
    """
    until = None if minutes is None else time.monotonic() + 60 * minutes
    with in_one_sentence(interrupted=_how_to_go_on()):
        values = pairs(over, "--over")
        for chosen in [_recipe(file, data, profile, set_, show) for file in recipes]:
            _series(chosen.overlay({"sweep": values}) if values else chosen, out, resume, until)


def kfold(
    recipe: RecipeFile,
    folds: Annotated[
        int | None, typer.Option(min=2, help="how many; default: the recipe's own key folds, or else 10")
    ] = None,
    data: Data = None,
    profile: Profile = "paper",
    set_: Set = None,
    out: Out = Path("runs"),
    resume: Resume = True,
    show: Show = False,
) -> None:
    """Cross-validate a recipe: stratified folds, copies of a picture in one of them, a run for each;
    resumes fold by fold.

    `--set fold_pool=train` leaves the official test split out of the folds. One fold alone: run --set folds=10 --set
    test_fold=3.
    """
    with in_one_sentence(interrupted=_how_to_go_on()):
        chosen = _recipe(recipe, data, profile, set_, show)
        _series(chosen.overlay({"folds": folds or chosen.folds or 10, "test_fold": None}), out, resume)


def ensemble(
    runs: Annotated[list[Path], typer.Argument(help="folders of finished runs, such as runs/resmasking-teach-fer2013")],
    name: Annotated[str, typer.Option(help="of the ensemble, and of its folder")],
    choose: Annotated[
        bool, typer.Option("--choose", help="take the subset of the runs that is best on validation")
    ] = False,
    max_size: Annotated[int | None, typer.Option(help="of that subset")] = None,
    out: Annotated[Path, typer.Option(help="folder of the runs")] = Path("runs"),
    publish: Annotated[bool, typer.Option("--publish", help="copy the record to data/results/, too")] = False,
) -> None:
    """Average what finished runs said, and say what that is worth beside the best of them."""
    from ferkit.models.registry import weights_folder
    from ferkit.runs.ensemble import publish_ensemble, run_ensemble

    with in_one_sentence():
        done = run_ensemble(runs, name=name, out=out, choosing=choose, max_size=max_size)
        test, gain = done["test"], done["gain"]
        low, high = (100 * v for v in test["intervals"]["accuracy"])
        less, more = (100 * v for v in gain["interval"])
        typer.echo(
            f"{out / name}: {' + '.join(m['name'] for m in done['members'])}\n"
            f"{done['protocol']['test_split']} accuracy {100 * test['accuracy']:.1f} % (95 % interval {low:.1f} to "
            f"{high:.1f}, n = {test['n']}); {100 * gain['accuracy']:+.1f} points over {gain['over']} ({less:+.1f} to "
            f"{more:+.1f}, McNemar p = {gain['p']:.2g})"
        )
        if publish:
            typer.echo(str(publish_ensemble(out / name, data_folder=weights_folder().parent)))


def shelve(
    recipe: RecipeFile,
    out: Out = Path("runs"),
    tries: Annotated[
        int,
        typer.Option(min=1, help="recipes that were tried and looked at before this one was taken, itself included"),
    ] = 1,
) -> None:
    """Write the record of a series, finished or not, to data/results/shelf."""
    from ferkit.runs.shelf import shelve as shelve_series
    from ferkit.training import Recipe

    with in_one_sentence():
        typer.echo(str(shelve_series(Recipe.load(recipe), out=out, tries=tries)))


def reproduce(
    name: Annotated[str, typer.Argument(help="a record in data/results/shelf, such as resemotenet-ablations")],
    data: Data = None,
    only: Annotated[str | None, typer.Option(metavar="RUN", help="one run of it, such as seed=0-ablation=C1")] = None,
    out: Annotated[Path, typer.Option(help="folder of the new runs")] = Path("runs/reproduced"),
) -> None:
    """Run a series of the shelf again; exit status 1 if a new test accuracy lies outside the 95 % interval
    of the old one.
    """
    from ferkit.runs.shelf import reproduce as reproduce_series

    outside = 0
    with in_one_sentence():
        for found in reproduce_series(name, data_path=None if data is None else str(data), only=only, out=out):
            low, high = (100 * bound for bound in found["interval"])
            outside += not found["within"]
            typer.echo(
                f"{found['name']}: accuracy {100 * found['new']:.1f} %, {'inside' if found['within'] else 'OUTSIDE'} "
                f"the interval {low:.1f} to {high:.1f} of {100 * found['old']:.1f} %; both right or both wrong on "
                f"{100 * found['alike']:.1f} % of the images"
            )
    if outside:
        raise typer.Exit(1)


def cross(
    runs: Annotated[list[Path], typer.Argument(help="folders of finished runs of one network on different data")],
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="write the record")] = None,
    figure: Annotated[Path | None, typer.Option(metavar="FILE.png", help="draw the matrix")] = None,
) -> None:
    """Test every run on every run's test data, on the emotions they share."""
    from ferkit.files import replacing, write_json
    from ferkit.runs.cross import cross as cross_runs

    with in_one_sentence():
        record = cross_runs(runs)
        if json is not None:
            write_json(json, record)
        if figure is not None:
            from ferkit.plots import cross_matrix, to_png

            with replacing(figure) as temporary:
                temporary.write_bytes(to_png(cross_matrix(record)))
    typer.echo(f"accuracy in percent (95 % interval) on {', '.join(record['labels'])}")
    for name, line in zip(record["runs"], record["cells"], strict=True):
        typer.echo(f"{name}:")
        for column, cell in zip(record["sets"], line, strict=True):
            low, high = (100 * value for value in cell["intervals"]["accuracy"])
            copies = f", {cell['copies']:,} of them trained on" if cell["copies"] else ""
            typer.echo(
                f"  on {column}: {100 * cell['accuracy']:.1f} ({low:.1f} to {high:.1f}), n = {cell['n']:,}{copies}"
            )


def weights(
    publish: Annotated[
        Path | None, typer.Option(help="a finished run whose weights, card and record go to data/")
    ] = None,
    name: Annotated[str, typer.Option(help="the name create_model(..., weights=NAME) will know it by")] = "",
    record_only: Annotated[
        bool, typer.Option("--record-only", help="publish the record of a run without its weights")
    ] = False,
    calibrate: Annotated[
        str, typer.Option(help="a record in data/results whose conformal threshold to compute anew from --data")
    ] = "",
    data: Annotated[Path | None, typer.Option(help="where the data set of that record lies")] = None,
) -> None:
    """List the trained weights that come with the workbook, add those of a run, or calibrate committed ones."""
    from ferkit.models import list_weights
    from ferkit.models.registry import weights_folder
    from ferkit.runs.publish import calibrate as calibrate_weights
    from ferkit.runs.publish import publish_run

    if publish is not None and bool(name) == record_only:
        raise SystemExit("ferkit: give the weights a name, such as --name fer2013-teach, or --record-only")
    with in_one_sentence():
        if publish is not None:
            for file in publish_run(publish, weights=name or None, data_folder=weights_folder().parent):
                typer.echo(str(file))
            return
        if calibrate:
            found = calibrate_weights(calibrate, data_path=None if data is None else str(data))
            sizes = f"{found['test_mean_size']:.2f} classes on average"
            typer.echo(
                f"{calibrate}: classes of at least {found['threshold']:.3f}; {sizes}; the label is in "
                f"{found['test_coverage']:.1%} of the test images' sets"
            )
            return
        for model, names in list_weights().items():
            typer.echo(f"{model}: {', '.join(names)}")


def _recipe(file: Path, data: Path | None, profile: str, changes: list[str] | None, show: bool) -> "Recipe":
    """The recipe that is run, printed once; with --show that is all."""
    from ferkit.training import resolve

    chosen = resolve(
        file, profile=profile, changes=pairs(changes), data_path=data
    )
    typer.echo(f"# {file}, profile {profile}\n{chosen.to_yaml()}", err=not show)
    if show:
        raise typer.Exit
    return chosen


def _series(recipe: "Recipe", out: Path, resume: bool, until: float | None = None) -> None:
    from ferkit.runs.series import run_all

    done = run_all(recipe, out=out, resume=resume, until=until)
    for group in done.summary["groups"]:  # only the main process has some
        differs = ", ".join(f"{key} = {value}" for key, value in group["values"].items()) or recipe.name
        accuracy, f1 = group["test"]["accuracy"], group["test"]["macro_f1"]
        spread = (
            ""
            if accuracy["sd"] is None
            else f" (standard deviation {100 * accuracy['sd']:.2f} over {group['runs']} runs)"
        )
        typer.echo(
            f"{differs}: {recipe.test_split} accuracy {100 * accuracy['mean']:.2f} %{spread}, macro-F1 {f1['mean']:.3f}"
        )
    for run in done.summary["failed"]:
        typer.echo(f"{run['name']} failed: {run['why']}")
    if done.summary["groups"]:
        typer.echo(f"{done.folder}: summary.csv, summary.json and {done.summary['finished']} runs")
    if until is not None and done.summary["finished"] + len(done.summary["failed"]) < done.summary["planned"]:
        typer.echo(
            f"{recipe.name}: the time is over, {done.summary['finished']} of {done.summary['planned']} runs are "
            "finished; the same command goes on from there"
        )


def _how_to_go_on() -> str:
    """The command that goes on from an interrupted training's last checkpoint."""
    words = [word for word in sys.argv[1:] if word != "--no-resume"]  # which would begin anew
    return f"interrupted; to go on from there: python -m ferkit {shlex.join(words)}"
