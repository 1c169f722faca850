"""Commands around data sets: where they come from, whether a copy is right, and what its labels are worth."""

from pathlib import Path
from typing import Annotated

import typer

from ferkit.commands.shared import in_one_sentence


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

    with in_one_sentence():
        done = crop_pictures(source, target, size=size, margin=margin)
    typer.echo(
        f"{len(done.written):,} faces written to {target}"
        + (f", {len(done.there):,} were there already" if done.there else "")
    )
    for what, names in (("without a face", done.faceless), ("cannot be read", done.broken)):
        if names:
            typer.echo("\n  ".join([f"{len(names):,} {what}:", *names]), err=True)
    raise typer.Exit(1 if done.faceless or done.broken else 0)


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

    with in_one_sentence():
        record = plain(examine_fer2013(path, weights, split=split, tta=tta))
        record["command"] = f"python -m ferkit noise fer2013.csv --weights {weights} --split {split} --tta {tta}"
        if json is not None:
            write_json(json, record)
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


app = typer.Typer(help="Where data sets come from; get one whose terms allow it.")


@app.callback(invoke_without_command=True)
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


@app.command()
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

    with in_one_sentence():
        what = plan(name, to, origin=origin)
        typer.echo(f"from:  {what.source}\nterms: {what.terms}\nsize:  {what.size}\nto:    {to}")
        if not (yes or typer.confirm("Fetch it?")):
            raise typer.Exit(1)
        for file in what.fetch():
            typer.echo(str(file))
    typer.echo(f"Now look at it: python -m ferkit doctor {to}")
