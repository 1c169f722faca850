"""Where does it look? A picture, its class and the heat map behind it."""

from collections.abc import Sequence
from typing import Any

import ipywidgets
import numpy as np
from torch import Tensor

from ferkit import plots
from ferkit.data.transforms import as_batch
from ferkit.explain import METHODS, cam
from ferkit.explain.forward import labels_of
from ferkit.models import FerModel, summarise
from ferkit.predict import predict_probabilities
from ferkit.widgets.controls import explore


def cam_figure(
    model: FerModel,
    picture: Any,
    *,
    target: str = "predicted",
    layer: str | None = None,
    method: str = "gradcam",
    opacity: float = 0.6,
    name: str = "",
) -> plots.Figure:
    """Return one picture beside its heat map, with the class and its probability.

    `picture` is uint8 (H, W) or (C, H, W), or a PIL image or path.
    """
    coloured = isinstance(picture, np.ndarray | Tensor) and picture.ndim == 3 and picture.shape[0] in (1, 3)
    batch = as_batch(picture[None] if coloured else picture)
    probabilities = predict_probabilities(model, batch)[0]
    labels = labels_of(model) or tuple(f"class {k}" for k in range(len(probabilities)))
    index = int(probabilities.argmax()) if target == "predicted" else labels.index(target)
    heat = cam(model, batch, target=index, layer=layer, method=method)[0]
    what = "the strongest pattern" if method == "eigencam" else f"{labels[index]} ({probabilities[index]:.0%})"
    title = f"{name + ': ' if name else ''}{what}, {method} at {layer or model.cam_layer(model.input_size)}"
    if not heat.any():
        title += "\nno contrast: nothing here speaks for this class, or the map has one place only"
    return plots.overlay(batch[0], heat, opacity=opacity, title=title)


def map_layers(model: FerModel) -> list[str]:
    """Return direct submodules whose output is a map with more than one place, in the order they run."""
    return [r.name for r in summarise(model) if len(r.shape) == 3 and r.shape[1] * r.shape[2] > 1]


def cam_explorer(model: FerModel, images: np.ndarray | Tensor, names: Sequence[str]) -> None:
    """Choose picture, class, layer, method and opacity; `images` as in `cam`, one name (say, the true class) for each.
    """
    if len(images) != len(names):
        raise ValueError(f"expected one name per picture, found {len(images)} pictures and {len(names)} names")

    def draw(image: int, target: str, layer: str, method: str, opacity: float) -> plots.Figure:
        return cam_figure(
            model, images[image], target=target, layer=layer, method=method, opacity=opacity, name=names[image]
        )

    layers = map_layers(model)
    default = model.cam_layer(model.input_size)
    explore(
        draw,
        image=ipywidgets.Dropdown(options=[(f"{i}: {name}", i) for i, name in enumerate(names)]),
        target=["predicted", *model.labels],
        layer=ipywidgets.Dropdown(options=layers, value=default if default in layers else layers[-1]),
        method=list(METHODS),
        opacity=ipywidgets.FloatSlider(value=0.6, min=0, max=1, step=0.1),
    )
