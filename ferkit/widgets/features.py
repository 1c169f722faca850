"""Which faces does a network put beside each other? Features on paper, linked to the pictures behind them."""

from collections.abc import Mapping, Sequence

import ipywidgets
import numpy as np

from ferkit import plots
from ferkit.explain import PROJECTIONS, project
from ferkit.widgets.controls import explore


def feature_figure(
    features: np.ndarray,
    labels: np.ndarray,
    names: Sequence[str],
    images: np.ndarray,
    *,
    face: int = 0,
    method: str = "pca",
    title: str = "",
) -> plots.Figure:
    """Draw features (N, D) on paper, one face ringed,
    and the five faces nearest to it (largest cosine in all D dimensions).
    """
    layout = project(features, method=method)
    unit = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    nearest = np.argsort(-(unit @ unit[face]), kind="stable")
    shown = [face, *(int(i) for i in nearest if i != face)][:6]
    same = sum(int(labels[i] == labels[face]) for i in shown[1:])
    said = f"{title}{': ' if title else ''}{same} of the {len(shown) - 1} nearest faces share its label"
    return plots.feature_neighbours(layout.points, labels, names, images, shown, axes=layout.axes, title=said)


def feature_explorer(
    sets: Mapping[str, np.ndarray], labels: np.ndarray, names: Sequence[str], images: np.ndarray
) -> None:
    """Choose a set of features, such as before and after a loss, a layout and a face; see `feature_figure`.

    Args:
        sets: features (N, D) of the same N pictures, by title.
        labels: (N,) positions in `names`.
        names: K emotions.
        images: N pictures.

    Raises:
        ValueError: sets of different length, or none.

    """
    lengths = {title: len(features) for title, features in sets.items()}
    if not sets or set(lengths.values()) != {len(labels)} or len(images) != len(labels):
        raise ValueError(
            f"expected features of the same {len(labels)} pictures, found {lengths or 'none'} and "
            f"{len(images)} pictures"
        )

    def draw(features: str, face: int, method: str) -> plots.Figure:
        return feature_figure(sets[features], labels, names, images, face=face, method=method, title=features)

    explore(
        draw,
        features=list(sets),
        face=ipywidgets.IntSlider(value=0, min=0, max=len(labels) - 1),
        method=[m for m in PROJECTIONS if m != "umap"],  # which needs a package of its own; `feature_figure` takes it
    )
