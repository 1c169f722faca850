"""The command line: `python -m ferkit predict | evaluate | export | run | sweep | kfold | shelve | reproduce |
ensemble | cross | doctor | crop | data | noise | weights`.
"""

import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
import yaml

from ferkit.commands import use

if TYPE_CHECKING:  # torch takes seconds to import, and `--help` needs none
    from ferkit.training import Recipe

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)


@app.callback()
def main() -> None:
    """Facial expression recognition, reproducible: the commands beside the notebooks."""


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


@app.command()
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

    try:
        chosen = _recipe(recipe, data, profile, set_, show)
        done = run_recipe(chosen, out=out, resume=resume)
    except (ValueError, OSError, FloatingPointError) as error:
        raise SystemExit(f"ferkit: {error}") from None
    except KeyboardInterrupt:
        _say_how_to_go_on()
    if done.result:  # only the main process has one
        test = done.result["test"]
        low, high = test["intervals"]["accuracy"]
        typer.echo(
            f"{done.folder}: {chosen.test_split} accuracy {100 * test['accuracy']:.1f} % (95 % interval "
            f"{100 * low:.1f} to {100 * high:.1f}, n = {test['n']}), macro-F1 {test['macro_f1']:.3f}"
        )


@app.command()
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
    try:
        values = dict(_pair(text, "--over") for text in over or [])
        for chosen in [_recipe(file, data, profile, set_, show) for file in recipes]:
            _series(chosen.overlay({"sweep": values}) if values else chosen, out, resume, until)
    except (ValueError, OSError, FloatingPointError) as error:
        raise SystemExit(f"ferkit: {error}") from None
    except KeyboardInterrupt:
        _say_how_to_go_on()


@app.command()
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
    try:
        chosen = _recipe(recipe, data, profile, set_, show)
        _series(chosen.overlay({"folds": folds or chosen.folds or 10, "test_fold": None}), out, resume)
    except (ValueError, OSError, FloatingPointError) as error:
        raise SystemExit(f"ferkit: {error}") from None
    except KeyboardInterrupt:
        _say_how_to_go_on()


@app.command()
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

    try:
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
    except (ValueError, OSError) as error:
        raise SystemExit(f"ferkit: {error}") from None


@app.command()
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

    try:
        typer.echo(str(shelve_series(Recipe.load(recipe), out=out, tries=tries)))
    except (ValueError, OSError) as error:
        raise SystemExit(f"ferkit: {error}") from None


@app.command()
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
    try:
        for found in reproduce_series(name, data_path=None if data is None else str(data), only=only, out=out):
            low, high = (100 * bound for bound in found["interval"])
            outside += not found["within"]
            typer.echo(
                f"{found['name']}: accuracy {100 * found['new']:.1f} %, {'inside' if found['within'] else 'OUTSIDE'} "
                f"the interval {low:.1f} to {high:.1f} of {100 * found['old']:.1f} %; both right or both wrong on "
                f"{100 * found['alike']:.1f} % of the images"
            )
    except (ValueError, OSError, FloatingPointError) as error:
        raise SystemExit(f"ferkit: {error}") from None
    if outside:
        raise typer.Exit(1)


@app.command()
def doctor(
    path: Annotated[Path, typer.Argument(help="file or folder of a data set")],
    set_: Annotated[
        str | None,
        typer.Option("--set", metavar="NAME", help="what it is meant to be: fer2013, rafdb, affectnet, expw or folder"),
    ] = None,
    order: Annotated[
        str | None,
        typer.Option(help="which class each number is, such as rafdb or manet; for classes that are numbers"),
    ] = None,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="write the report as JSON, too")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="threads that decode pictures")] = None,
) -> None:
    """Say whether a copy of a data set is right; exit status 0: nothing wrong, 1: findings, 2: no data set recognised.
    """
    from ferkit.doctor import NotRecognised, examine
    from ferkit.files import write_text

    try:
        report = examine(path, set_name=set_, order=order, workers=workers)
        if json is not None:
            write_text(json, report.to_json() + "\n")
    except (NotRecognised, ValueError, OSError) as error:
        typer.echo(f"ferkit: {error}", err=True)
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        typer.echo("ferkit: interrupted; what was seen is kept, and the same command goes on from there", err=True)
        raise typer.Exit(130) from None
    typer.echo(str(report))
    raise typer.Exit(report.exit_status)


@app.command()
def cross(
    runs: Annotated[list[Path], typer.Argument(help="folders of finished runs of one network on different data")],
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="write the record")] = None,
    figure: Annotated[Path | None, typer.Option(metavar="FILE.png", help="draw the matrix")] = None,
) -> None:
    """Test every run on every run's test data, on the emotions they share."""
    from ferkit.files import write_json
    from ferkit.runs.cross import cross as cross_runs

    try:
        record = cross_runs(runs)
        if json is not None:
            write_json(json, record)
        if figure is not None:
            from ferkit.plots import cross_matrix, to_png

            figure.parent.mkdir(parents=True, exist_ok=True)
            figure.write_bytes(to_png(cross_matrix(record)))
    except (ValueError, OSError) as error:
        raise SystemExit(f"ferkit: {error}") from None
    typer.echo(f"accuracy in percent (95 % interval) on {', '.join(record['labels'])}")
    for name, line in zip(record["runs"], record["cells"], strict=True):
        typer.echo(f"{name}:")
        for column, cell in zip(record["sets"], line, strict=True):
            low, high = (100 * value for value in cell["intervals"]["accuracy"])
            copies = f", {cell['copies']:,} of them trained on" if cell["copies"] else ""
            typer.echo(
                f"  on {column}: {100 * cell['accuracy']:.1f} ({low:.1f} to {high:.1f}), n = {cell['n']:,}{copies}"
            )


@app.command()
def crop(
    source: Annotated[
        Path, typer.Argument(help="a photograph, or a folder of them; its folders (splits, classes) are kept")
    ],
    target: Annotated[Path, typer.Argument(help="folder for the faces")],
    size: Annotated[int, typer.Option(min=8, max=2048, help="side of a face in pixels")] = 224,
    margin: Annotated[
        float, typer.Option(min=0, max=2, help="added on each side, as a part of the side; 0 is framed as FER2013 is")
    ] = 0.0,
) -> None:
    """Cut the largest face out of every photograph, turned upright; exit status 1: some had no face or cannot be read.
    """
    from ferkit.data.crops import crop_pictures

    try:
        done = crop_pictures(source, target, size=size, margin=margin)
    except (ValueError, OSError, ImportError) as error:
        raise SystemExit(f"ferkit: {error}") from None
    typer.echo(
        f"{len(done.written):,} faces written to {target}"
        + (f", {len(done.there):,} were there already" if done.there else "")
    )
    for what, names in (("without a face", done.faceless), ("cannot be read", done.broken)):
        if names:
            typer.echo("\n  ".join([f"{len(names):,} {what}:", *names]), err=True)
    raise typer.Exit(1 if done.faceless or done.broken else 0)


@app.command()
def noise(
    path: Annotated[Path, typer.Argument(help="FER2013 as csv, with fer2013new.csv beside it")],
    weights: Annotated[Path, typer.Option(help=".safetensors of a network trained on another split")],
    split: Annotated[str, typer.Option(help="rows to look at")] = "public_test",
    tta: Annotated[str, typer.Option(help="test-time augmentation, see predict_probabilities")] = "flip",
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="write the record")] = None,
) -> None:
    """Hold FER2013's labels against FER+'s crowd, and a network's doubts about them against both."""
    from ferkit.doctor.label_noise import examine_fer2013, plain
    from ferkit.files import write_json

    try:
        record = plain(examine_fer2013(path, weights, split=split, tta=tta))
        record["command"] = f"python -m ferkit noise fer2013.csv --weights {weights} --split {split} --tta {tta}"
        if json is not None:
            write_json(json, record)
    except (ValueError, OSError, ImportError) as error:
        raise SystemExit(f"ferkit: {error}") from None
    crowd, found = record["crowd"], record["all"]["issues"]
    typer.echo(f"{split}: {crowd['n']:,} pictures, {crowd['entropy_bits']['mean']:.2f} bits of disagreement on average")
    for what, entry in (
        ("two raters agree", crowd["two_raters"]),
        ("most that can be expected against one rater", crowd["ceiling"]),
        ("labels that a majority disputes", found["base_rate"]),
        ("... among those the network suspects", found["precision"]),
        ("disputed labels that the network suspects", found["recall"]),
    ):
        low, high = (100 * value for value in entry["interval"])
        typer.echo(f"  {what}: {100 * entry['value']:.1f} % (95 % interval {low:.1f} to {high:.1f})")


data_app = typer.Typer(help="Where data sets come from; get one whose terms allow it.")
app.add_typer(data_app, name="data")


@data_app.callback(invoke_without_command=True)
def sources(context: typer.Context) -> None:
    """List every data set: where, terms, size, checks."""
    from ferkit.data.sources import SOURCES

    if context.invoked_subcommand is None:
        for entry in SOURCES:
            typer.echo(
                f"{entry.title} ({entry.name}): {entry.what}\n  {entry.where}\n  {entry.how}\n  terms: "
                f"{entry.terms}\n  size: {entry.size}\n  check: {entry.check}"
            )
            typer.echo(f"  {'python -m ferkit data get ' + entry.name if entry.get else 'not fetched by ferkit'}\n")


@data_app.command()
def get(
    name: Annotated[str, typer.Argument(help="fer2013, ferplus or folder")],
    to: Annotated[Path, typer.Option(help="folder to put it into")],
    origin: Annotated[
        str | None,
        typer.Option("--from", metavar="hf:OWNER/NAME[@REVISION]", help="a data set repository at Hugging Face"),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask")] = False,
) -> None:
    """Fetch a data set after saying from where, on what terms and how much; interrupted transfers go on."""
    from ferkit.data.download import plan

    try:
        what = plan(name, to, origin=origin)
        typer.echo(f"from:  {what.source}\nterms: {what.terms}\nsize:  {what.size}\nto:    {to}")
        if not (yes or typer.confirm("Fetch it?")):
            raise typer.Exit(1)
        for file in what.fetch():
            typer.echo(str(file))
    except (ValueError, OSError, ImportError) as error:
        raise SystemExit(f"ferkit: {error}") from None
    typer.echo(f"Now look at it: python -m ferkit doctor {to}")


@app.command()
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
    try:
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
    except (ValueError, OSError) as error:
        raise SystemExit(f"ferkit: {error}") from None


def _recipe(file: Path, data: Path | None, profile: str, changes: list[str] | None, show: bool) -> "Recipe":
    """The recipe that is run, printed once; with --show that is all."""
    from ferkit.training import resolve

    chosen = resolve(
        file, profile=profile, changes=dict(_pair(text, "--set") for text in changes or []), data_path=data
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


def _say_how_to_go_on() -> NoReturn:
    """End an interrupted training with the command that goes on from its last checkpoint."""
    words = [word for word in sys.argv[1:] if word != "--no-resume"]  # which would begin anew
    typer.echo(f"\nferkit: interrupted; to go on from there: python -m ferkit {shlex.join(words)}", err=True)
    raise typer.Exit(130) from None


def _pair(text: str, option: str) -> tuple[str, Any]:
    key, separator, value = text.partition("=")
    if not separator:
        raise ValueError(f"{option} takes KEY=VALUE, found {text!r}")
    return key, yaml.safe_load(value)


for command in (use.predict, use.evaluate, use.export):
    app.command()(command)


if __name__ == "__main__":
    app()
