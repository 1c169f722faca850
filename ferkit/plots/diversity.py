"""Figures on how different members of an ensemble are: curves over one quantity, and points that move."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.ticker import MaxNLocator

from ferkit.plots.house import COLOURS, Figure, check, new_figure, styled


@styled
def lines(
    x: Sequence[float] | np.ndarray,
    curves: Mapping[str, Sequence[float] | np.ndarray],
    *,
    bands: Mapping[str, tuple[np.ndarray, np.ndarray]] | None = None,
    marks: Mapping[str, float] | None = None,
    log: bool = False,
    xlabel: str = "",
    ylabel: str = "",
    title: str = "",
) -> Figure:
    """Draw curves over one axis: {name: values (n,)} over x (n,).

    Args:
        x: (n,) places on the horizontal axis.
        curves: values by name, one colour and marker each.
        bands: low and high (n,) by the name of a curve, drawn as its shade.
        marks: labelled dashed verticals, {what: x}.
        log: the horizontal axis is logarithmic.
        xlabel, ylabel, title: of the axes and the figure.

    """
    x = np.asarray(x, dtype=float)
    check(
        bool(curves) and all(np.shape(v) == x.shape for v in curves.values()),
        f"curves of {len(x)} points",
        {k: np.shape(v) for k, v in curves.items()},
    )
    bands = bands or {}
    check(set(bands) <= set(curves), f"bands of {', '.join(curves)}", ", ".join(bands))
    figure, axes = new_figure(1, 1, (6.6, 3.0))
    ax = axes[0, 0]
    for i, (name, values) in enumerate(curves.items()):
        ink = COLOURS[i % len(COLOURS)]
        if name in bands:
            ax.fill_between(x, *bands[name], color=ink, alpha=0.2, linewidth=0)
        ax.plot(x, values, color=ink, marker="osv^Dx"[i % 6] if len(x) <= 20 else None, markersize=3.5, label=name)
    if log:
        ax.set_xscale("log")
    elif np.allclose(x, np.round(x)):
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    # Labels of marks stand on three levels, so that neighbours do not cover each other.
    for i, (what, place) in enumerate(sorted((marks or {}).items(), key=lambda item: item[1])):
        ax.axvline(place, color="0.4", linewidth=0.8, linestyle="--")
        ax.annotate(
            what,
            (place, 1 - 0.14 * (i % 3)),
            xycoords=("data", "axes fraction"),
            xytext=(3, -2),
            textcoords="offset points",
            va="top",
            fontsize=9,
        )
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.set_title(title, fontsize=9.5)
    ax.grid(axis="y")
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


@styled
def paths(moves: Mapping[str, np.ndarray], *, title: str = "") -> Figure:
    """Draw how points in a plane moved, a panel each: {name: (steps, points, 2)}; open circles are starts,
    full ones ends.
    """
    arrays = {name: np.asarray(move, dtype=float) for name, move in moves.items()}
    check(
        bool(arrays) and all(a.ndim == 3 and a.shape[2] == 2 for a in arrays.values()),
        "paths (steps, points, 2)",
        {n: a.shape for n, a in arrays.items()},
    )
    figure, axes = new_figure(1, len(arrays), (0.4 + 2.7 * len(arrays), 3.0))
    for ax, (name, a) in zip(axes[0], arrays.items(), strict=True):
        for point in range(a.shape[1]):
            ink = COLOURS[point % len(COLOURS)]
            ax.plot(*a[:, point].T, color=ink, linewidth=1, alpha=0.7)
            ax.plot(*a[0, point], "o", color=ink, markerfacecolor="white", markersize=5)
            ax.plot(*a[-1, point], "o", color=ink, markersize=7, alpha=0.8)
        ax.set(aspect="equal", xticks=[], yticks=[])
        ax.margins(0.1)
        ax.set_title(name, fontsize=9)
    figure.suptitle(title, x=0.01, ha="left", fontsize=9.5)
    return figure
