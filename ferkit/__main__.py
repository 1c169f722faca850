"""The command line: `python -m ferkit predict | evaluate | export | run | sweep | kfold | shelve | reproduce |
ensemble | cross | doctor | crop | data | noise | weights`.
"""

import typer

from ferkit.commands import data, train, use

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)


@app.callback()
def main() -> None:
    """Facial expression recognition, reproducible: the commands beside the notebooks."""


for command in (
    *(use.predict, use.evaluate, use.export),
    *(train.run, train.sweep, train.kfold, train.ensemble, train.cross, train.shelve, train.reproduce, train.weights),
    *(data.doctor, data.crop, data.noise),
):
    app.command()(command)
app.add_typer(data.app, name="data")


if __name__ == "__main__":
    app()
