"""Commands for people who want answers: ask trained networks, measure them, and write them as files for elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

BEST = "resemotenet/fer2013-teach"
NETWORK_HELP = (
    "a name that `weights` lists, a run's folder or a .safetensors; a+b is the mean of two; may be given again"
)
Networks = Annotated[list[str], typer.Option("--network", "-n", metavar="NAME", help=NETWORK_HELP)]


def predict(
    paths: Annotated[
        list[str], typer.Argument(metavar="PATH...", help="pictures, folders, patterns or lists of pictures (csv)")
    ],
    network: Networks = [BEST],  # noqa: B006  (typer wants a list)
    out: Annotated[Path, typer.Option("--out", "-o", help="the answers: .csv, or .jsonl for JSON lines")] = Path(
        "answers.csv"
    ),
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="a contact sheet, too; it holds pictures of the faces")
    ] = None,
    crop: Annotated[
        str, typer.Option(help="face: find and cut out the faces; none: each picture is a face already")
    ] = "face",
    workers: Annotated[int, typer.Option(min=1, help="threads that read pictures and find faces")] = 2,
) -> None:
    """Say what networks see in the faces of pictures; exit status 1: some had no face or cannot be read.

    Example: `python -m ferkit predict photos/ --html sheet.html`. An interrupted call goes on where it stopped.
    """
    from ferkit.use.networks import load
    from ferkit.use.pictures import predict_to_file

    try:
        asked = [load(name) for name in network]
        counts, problems = predict_to_file(paths, asked, out, html=html, crop=crop, workers=workers)
    except (ValueError, OSError, ImportError) as error:
        raise SystemExit(f"ferkit: {error}") from None
    except KeyboardInterrupt:
        typer.echo(
            "ferkit: interrupted; what was answered is kept, and the same command goes on from there", err=True
        )
        raise typer.Exit(130) from None
    written = f"{out}" + (f" and {html}" if html is not None else "")
    typer.echo(f"{counts.pictures:,} pictures, {counts.faces:,} faces; answers in {written}")
    for one in asked:
        typer.echo(str(one))
    if counts.problems:
        more = [f"and {counts.problems - len(problems):,} more"] if counts.problems > len(problems) else []
        typer.echo("\n  ".join([f"{counts.problems:,} without an answer:", *problems, *more]), err=True)
        raise typer.Exit(1)
