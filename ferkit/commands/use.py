"""Commands for people who want answers: ask trained networks, measure them, and write them as files for elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ferkit.commands.shared import in_one_sentence, pairs

NETWORK_HELP = (
    "a name that `weights` lists, a run's folder or a .safetensors; a+b is the mean of two; may be given again"
)
Networks = Annotated[
    list[str] | None,
    typer.Option("--network", "-n", metavar="NAME", help=f"{NETWORK_HELP}; default: the best that is published"),
]


def predict(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="PATH...", help="pictures, folders, patterns or lists of pictures (csv); or one video"
        ),
    ],
    network: Networks = None,
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
    every: Annotated[int, typer.Option(min=1, help="of a video: look at the first of every so many frames")] = 1,
    figure: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="of a video: probabilities over time")
    ] = None,
    smooth: Annotated[float, typer.Option(min=0, help="of a video: seconds over which the figure averages")] = 0.5,
) -> None:
    """Say what networks see in the faces of pictures; exit status 1: some had no face or cannot be read.

    Example: `python -m ferkit predict photos/ --html sheet.html`. An interrupted call goes on where it stopped.
    A video: `python -m ferkit predict clip.mp4 --figure clip.png` follows its faces from frame to frame.
    """
    from ferkit.use.networks import load
    from ferkit.use.pictures import BEST, predict_to_file
    from ferkit.use.sources import VIDEOS

    with in_one_sentence(interrupted="interrupted; what was answered is kept, and the same command goes on from there"):
        asked = [load(name) for name in network or [BEST]]
        if any(path.lower().endswith(VIDEOS) for path in paths):
            if len(paths) > 1 or html is not None:
                raise ValueError(
                    "a video is asked about alone, and has no contact sheet; give its path and nothing else"
                )
            return _video(paths[0], asked, out, figure, every=every, smooth=smooth, crop=crop, workers=workers)
        counts, problems = predict_to_file(paths, asked, out, html=html, crop=crop, workers=workers)
    written = f"{out}" + (f" and {html}" if html is not None else "")
    typer.echo(f"{counts.pictures:,} pictures, {counts.faces:,} faces; answers in {written}")
    for one in asked:
        typer.echo(str(one))
    if counts.problems:
        more = [f"and {counts.problems - len(problems):,} more"] if counts.problems > len(problems) else []
        typer.echo("\n  ".join([f"{counts.problems:,} without an answer:", *problems, *more]), err=True)
        raise typer.Exit(1)


def _video(path: str, asked: list[Any], out: Path, figure: Path | None, *, smooth: float, **options: Any) -> None:
    """Write the table of a video, say how steady the answers are, and draw the face that was seen longest."""
    from ferkit.files import replacing
    from ferkit.use.video import draw, flips, predict_video

    table = predict_video(path, asked, **options)
    with replacing(out) as temporary:
        table.to_csv(temporary, index=False)
    frames = table["frame"].nunique()
    typer.echo(f"{frames:,} frames; answers in {out}")
    for track in flips(table).itertuples():
        typer.echo(
            f"{track.network}, face {track.face}: seen in {track.frames:,} of {frames:,} frames; "
            f"its answer changes {track.flips} times"
        )
    for one in asked:
        typer.echo(str(one))
    if figure is not None:
        with replacing(figure) as temporary:
            temporary.write_bytes(draw(table, smooth=smooth))
        typer.echo(str(figure))


Known = Annotated[
    list[str], typer.Argument(metavar="NETWORK...", help=NETWORK_HELP.removesuffix("; may be given again"))
]
DataName = Annotated[
    str, typer.Option(help="fer2013, ferplus, rafdb, affectnet7, expw, folder ..., as `data` lists them")
]
DataPath = Annotated[Path | None, typer.Option(help="where it lies")]
Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="an option of the loader: crop=face")
]


def evaluate(
    network: Known,
    data: DataName = "folder",
    data_path: DataPath = None,
    set_: Set = None,
    split: Annotated[
        str | None, typer.Option(help="pictures to ask about; default: test, or else what there is")
    ] = None,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="write the record")] = None,
    figure: Annotated[Path | None, typer.Option(metavar="FILE.png", help="draw who is taken for whom")] = None,
) -> None:
    """Measure trained networks on labelled pictures, and compare them in pairs.

    Example: `python -m ferkit evaluate lfnsb/fer2013-teach resmasking/fer2013-teach --data-path my_faces`.
    """
    from ferkit import data as datasets
    from ferkit.files import replacing, write_json
    from ferkit.use.measure import in_lines, measure
    from ferkit.use.networks import load

    with in_one_sentence():
        faces = datasets.load(data, data_path, **pairs(set_))
        record = measure([load(name) for name in network], faces, split=split)
        if json is not None:
            write_json(json, record)
        if figure is not None:
            from ferkit.plots import confusion, to_png

            for number, scores in enumerate(record["networks"]):
                file = figure if number == 0 else figure.with_stem(f"{figure.stem}-{number + 1}")
                with replacing(file) as temporary:
                    temporary.write_bytes(to_png(confusion(scores["confusion"], scores["names"], title=scores["name"])))
    typer.echo("\n".join(in_lines(record)))


def export(
    network: Annotated[str, typer.Argument(metavar="NETWORK", help=NETWORK_HELP.split("; a+b")[0])],
    to: Annotated[str, typer.Option(help="onnx, torch or safetensors")] = "onnx",
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="the file; default: named after the network")
    ] = None,
    int8: Annotated[
        bool, typer.Option("--int8", help="a small ONNX file, too; needs data to tune and to measure it")
    ] = False,
    data: DataName = "folder",
    data_path: DataPath = None,
    set_: Set = None,
    split: Annotated[str | None, typer.Option(help="pictures that say what int8 costs; not those of train")] = None,
) -> None:
    """Write a network as one file that needs no ferkit: pictures in, probabilities out, labels inside.

    Example: `python -m ferkit export resemotenet/fer2013-teach --int8 --data fer2013 --data-path fer2013.csv`.
    """
    from ferkit import data as datasets
    from ferkit.use import export as exporting
    from ferkit.use.networks import load

    with in_one_sentence():
        if int8 and to != "onnx":
            raise ValueError(f"--int8 writes ONNX, found --to {to}")
        faces = datasets.load(data, data_path, **pairs(set_)) if int8 else None
        chosen = load(network)
        file = out or Path(network.replace("/", "-").removesuffix(".safetensors") + exporting.KINDS.get(to, ""))
        done = exporting.export(chosen, file, to=to)
        said = f"{done.file}: {done.file.stat().st_size / 1e6:.1f} MB"
        if done.difference is not None:
            said += f"; says what the network says to {done.difference:.1g}, and to {done.resized:.1g} at other sizes"
        typer.echo(said)
        if faces is not None:
            cost = exporting.write_int8(chosen, done.file, faces, split=split)  # type: ignore[arg-type]
            low, high = (100 * bound for bound in cost["difference"]["interval"])
            size = Path(cost["file"]).stat().st_size / 1e6
            typer.echo(
                f"{cost['file']}: {size:.1f} MB; accuracy {100 * cost['int8']:.1f} % instead "
                f"of {100 * cost['float32']:.1f} %, {100 * cost['difference']['accuracy']:+.2f} points "
                f"({low:+.2f} to {high:+.2f}, n = {cost['n']:,})"
            )
