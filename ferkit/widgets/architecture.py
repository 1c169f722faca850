"""Where are the parameters? Shapes, parameters and multiply-adds of each stage of a network."""

from collections.abc import Mapping, Sequence

import ipywidgets

from ferkit import plots
from ferkit.models import FerModel, summarise
from ferkit.widgets.controls import explore


def architecture_figure(model: FerModel, size: int, *, title: str = "") -> plots.Figure:
    """Draw shapes, parameters and multiply-adds of each stage for a picture of `size` pixels;
    models on the meta device will do.
    """
    return plots.stage_bars(summarise(model, size), title=f"{title or type(model).__name__}, {size} x {size} pixels")


def architecture_explorer(models: Mapping[str, FerModel], *, sizes: Sequence[int] = (48, 64, 100, 224)) -> None:
    """Choose a network, by the names given, and an input size."""

    def draw(network: str, size: int) -> plots.Figure:
        return architecture_figure(models[network], size, title=network)

    first = next(iter(models.values())).input_size
    explore(
        draw,
        network=list(models),
        size=ipywidgets.SelectionSlider(options=sizes, value=first if first in sizes else sizes[0]),
    )
