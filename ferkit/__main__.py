"""The command line: `python -m ferkit run | ensemble | doctor | weights`."""

from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)


@app.callback()
def main() -> None:
    """Facial expression recognition, reproducible: the commands beside the notebooks."""


@app.command()
def run(
    recipe: Annotated[Path, typer.Argument(help="a recipe, such as notebooks/recipes/resemotenet/teach-fer2013.yaml")],
    data: Annotated[Path | None, typer.Option(help="where the recipe's data set lies")] = None,
    profile: Annotated[str, typer.Option(help="smoke, teach or paper (the recipe as it is)")] = "paper",
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="replace a value of the recipe")] = None,
    out: Annotated[Path, typer.Option(help="folder of the runs")] = Path("runs"),
    resume: Annotated[bool, typer.Option(help="go on where an interrupted run stopped")] = True,
) -> None:
    """Train by a recipe and test once; on many GPUs: `accelerate launch -m ferkit run ...`.

    Despite its name, accelerate's `--multi_gpu --num_processes 2` also starts two processes on a machine without GPUs.
    """
    from ferkit.experiment import run as run_recipe
    from ferkit.recipe import Recipe

    try:
        changes = dict(_pair(text) for text in set_ or [])
        chosen = Recipe.load(recipe).overlay(profile).overlay(changes)
        if data is not None:
            chosen = chosen.overlay({"data_path": str(data)})
        done = run_recipe(chosen, out=out, resume=resume)
    except (ValueError, OSError, FloatingPointError) as error:
        raise SystemExit(f"ferkit: {error}") from None
    if done.result:  # only the main process has one
        test = done.result["test"]
        low, high = test["intervals"]["accuracy"]
        typer.echo(
            f"{done.folder}: {chosen.test_split} accuracy {100 * test['accuracy']:.1f} % (95 % interval {100 * low:.1f} to "
            f"{100 * high:.1f}, n = {test['n']}), macro-F1 {test['macro_f1']:.3f}"
        )


@app.command()
def ensemble(
    runs: Annotated[list[Path], typer.Argument(help="folders of finished runs, such as runs/resmasking-teach-fer2013")],
    name: Annotated[str, typer.Option(help="of the ensemble, and of its folder")],
    choose: Annotated[bool, typer.Option("--choose", help="take the subset of the runs that is best on validation")] = False,
    max_size: Annotated[int | None, typer.Option(help="of that subset")] = None,
    out: Annotated[Path, typer.Option(help="folder of the runs")] = Path("runs"),
    publish: Annotated[bool, typer.Option("--publish", help="copy the record to data/results/, too")] = False,
) -> None:
    """Average what finished runs said, and say what that is worth beside the best of them."""
    from ferkit.ensemble import publish as publish_record
    from ferkit.ensemble import run as run_ensemble
    from ferkit.models.registry import weights_folder

    try:
        done = run_ensemble(runs, name=name, out=out, choosing=choose, max_size=max_size)
        test, gain = done["test"], done["gain"]
        low, high = (100 * v for v in test["intervals"]["accuracy"])
        less, more = (100 * v for v in gain["interval"])
        typer.echo(
            f"{out / name}: {' + '.join(m['name'] for m in done['members'])}\n"
            f"{done['protocol']['test_split']} accuracy {100 * test['accuracy']:.1f} % (95 % interval {low:.1f} to {high:.1f}, n = {test['n']}); "
            f"{100 * gain['accuracy']:+.1f} points over {gain['over']} ({less:+.1f} to {more:+.1f}, McNemar p = {gain['p']:.2g})"
        )
        if publish:
            typer.echo(str(publish_record(out / name, data_folder=weights_folder().parent)))
    except (ValueError, OSError) as error:
        raise SystemExit(f"ferkit: {error}") from None


@app.command()
def doctor(
    path: Annotated[Path, typer.Argument(help="file or folder of a data set")],
    set_: Annotated[str | None, typer.Option("--set", metavar="NAME", help="what it is meant to be: fer2013, rafdb, affectnet, expw or folder")] = None,
    order: Annotated[str | None, typer.Option(help="which class each number is, such as rafdb or manet; for classes that are numbers")] = None,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="write the report as JSON, too")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="threads that decode pictures")] = None,
) -> None:
    """Say whether a copy of a data set is right; exit status 0: nothing wrong, 1: findings, 2: no data set recognised."""
    from ferkit.doctor import NotRecognised, examine

    try:
        report = examine(path, set_name=set_, order=order, workers=workers)
        if json is not None:
            json.parent.mkdir(parents=True, exist_ok=True)
            json.write_text(report.to_json() + "\n", encoding="utf-8")
    except (NotRecognised, ValueError, OSError) as error:
        typer.echo(f"ferkit: {error}", err=True)
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        typer.echo("ferkit: interrupted; what was seen is kept, and the same command goes on from there", err=True)
        raise typer.Exit(130) from None
    typer.echo(str(report))
    raise typer.Exit(report.exit_status)


@app.command()
def weights(
    publish: Annotated[Path | None, typer.Option(help="a finished run whose weights, card and record go to data/")] = None,
    name: Annotated[str, typer.Option(help="the name create_model(..., weights=NAME) will know it by")] = "",
) -> None:
    """List the trained weights that come with the workbook, or add those of a run."""
    from ferkit.models import list_weights
    from ferkit.models.registry import weights_folder
    from ferkit.publish import publish as publish_run

    if publish is not None and not name:
        raise SystemExit("ferkit: give the weights a name, such as --name fer2013-teach")
    try:
        if publish is not None:
            for file in publish_run(publish, weights=name, data_folder=weights_folder().parent):
                typer.echo(str(file))
            return
        for model, names in list_weights().items():
            typer.echo(f"{model}: {', '.join(names)}")
    except (ValueError, OSError) as error:
        raise SystemExit(f"ferkit: {error}") from None


def _pair(text: str) -> tuple[str, Any]:
    key, separator, value = text.partition("=")
    if not separator:
        raise ValueError(f"--set takes KEY=VALUE, found {text!r}")
    return key, yaml.safe_load(value)


if __name__ == "__main__":
    app()
