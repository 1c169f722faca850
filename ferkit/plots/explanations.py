"""Figures of what explanations show and what they are worth: masks and gates, scores, curves, layouts of features."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ferkit.metrics import mean_interval
from ferkit.plots.house import COLOURS, Figure, check, colour, new_figure, show, styled
from ferkit.plots.results import draw_intervals

BEFORE_AND_AFTER = ("F_R", "F_N")  # a masking block's map before and after: one colour scale for both


@styled
def mask_grid(
    maps: Mapping[str, np.ndarray], *, image: Any = None, index: int = 0, shared: Sequence[str] = BEFORE_AND_AFTER, title: str = ""
) -> Figure:
    """Masks and gates over places, a row per block and a column per quantity, each with its own colour bar.

    As Fig. 1 of the Residual Masking paper (before and after a block), with the numbers beside the colours. A scale begins at 0, or is
    even around 0 where a map has negative values; it is never stretched from the least to the largest value, so that a constant map looks
    constant.

    Args:
        maps: what `ferkit.explain.spatial_maps` gives, {"block: quantity" or "block.quantity": (N, h, w)}, or a part of it.
        image: the picture, shown once beside the first row.
        index: which of the N pictures.
        shared: quantities of a block that share one scale, by default F_R and F_N.
        title: of the figure.

    Raises ValueError for maps of another shape, or none.

    """
    check(len(maps) > 0, "at least one map; this network has no gates or masks over places", "none")
    grid: dict[str, dict[str, np.ndarray]] = {}
    for name, stack in maps.items():
        check(np.ndim(stack) == 3 and index < len(stack), f"maps (N, h, w) with a picture {index} under {name!r}", np.shape(stack))
        row, column = name.split(": ", 1) if ": " in name else name.rsplit(".", 1) if "." in name else ("", name)
        grid.setdefault(row, {})[column] = np.asarray(stack[index])
    columns = list(dict.fromkeys(c for row in grid.values() for c in row))
    first = int(image is not None)
    wide, high = min(1.75, 9.4 / (len(columns) + first)), min(1.5, 6.4 / len(grid))
    figure, axes = new_figure(len(grid), len(columns) + first, (wide * (len(columns) + first) + 0.2, high * len(grid) + (0.5 if title else 0.3)))
    for ax in axes.flat:
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
    if image is not None:
        show(axes[0, 0], image)
    for line, (row, quantities) in zip(axes, grid.items(), strict=True):
        line[0].set_ylabel(row, fontsize=8)
        line[0].yaxis.label.set_visible(True)
        for ax, column in zip(line[first:], columns, strict=True):
            if column not in quantities:
                continue
            partners = [v for c, v in quantities.items() if c == column or (column in shared and c in shared)]
            limit = max(float(np.abs(v).max()) for v in partners) or 1.0
            signed = min(float(v.min()) for v in partners) < 0
            bounds = (-limit if signed else 0, limit)
            drawn = ax.imshow(quantities[column], cmap="RdBu_r" if signed else "viridis", vmin=bounds[0], vmax=limit, aspect=_aspect(quantities[column]))
            bar = figure.colorbar(drawn, ax=ax, fraction=0.05, pad=0.03, ticks=bounds)
            bar.ax.set_yticklabels([f"{b:.3g}" for b in bounds], fontsize=7)
            bar.outline.set_visible(False)  # type: ignore[operator]
    for ax, column in zip(axes[0, first:], columns, strict=True):
        ax.set_title(column.replace("*", " · "), fontsize=8, loc="center")
    figure.suptitle(title, x=0.01, ha="left", fontsize=9.5)
    return figure


def _aspect(array: np.ndarray) -> str:
    """Strips (h, 1) and (1, w) fill their panel; maps keep their shape."""
    return "auto" if 1 in array.shape and array.size > 1 else "equal"


@styled
def curve_with_band(
    x: Sequence[float] | np.ndarray,
    curves: Mapping[str, np.ndarray],
    *,
    xlabel: str = "share of the pixels changed",
    ylabel: str = "probability of the class",
    title: str = "",
) -> Figure:
    """Means of curves (N, S) over x (S,), each with its 95 % interval (Student t) over the N pictures as a band, and its area."""
    figure, axes = new_figure(1, 1, (5.4, 3.0))
    ax = axes[0, 0]
    x = np.asarray(x, dtype=float)
    for i, (name, values) in enumerate(curves.items()):
        v = np.asarray(values, dtype=float)
        check(v.ndim == 2 and v.shape[1] == len(x) and len(v) > 0, f"curves of {len(x)} points, (N, {len(x)}), under {name!r}", v.shape)
        mean, low, high = np.transpose([mean_interval(column) for column in v.T])
        ink = COLOURS[i % len(COLOURS)]
        ax.fill_between(x, low, high, color=ink, alpha=0.2, linewidth=0)
        ax.plot(x, mean, color=ink, marker="osv^Dx"[i % 6], markersize=3, label=f"{name}: area {np.trapezoid(mean, x):.3f}")
    ax.set(xlabel=xlabel, ylabel=ylabel, title=title)
    ax.grid(axis="y")
    ax.legend()
    return figure


@styled
def scores_bars(
    estimates: Mapping[str, Mapping[str, Sequence[float]]], *, reference: str | None = "chance", title: str = ""
) -> Figure:
    """Scores with intervals, a panel per score and a line per method: {method: {score: (value, low, high, ...)}}.

    As `ferkit.explain.estimates` gives them; with `margins` set `reference=None`, and 0 is marked. `reference` is the method at whose
    value a dashed line is drawn.
    """
    check(len(estimates) > 0, "at least one method", "none")
    check(reference is None or reference in estimates, f"the reference among {', '.join(estimates)}", reference)
    scores = list(next(iter(estimates.values())))
    figure, axes = new_figure(1, len(scores), (1.6 + 2.5 * len(scores), 0.9 + 0.33 * len(estimates)), sharey=True)
    for ax, score in zip(axes[0], scores, strict=True):
        points = [(name, *(float(v) for v in row[score][:3])) for name, row in estimates.items()]
        draw_intervals(ax, points, reference=0.0 if reference is None else float(estimates[reference][score][0]))
        ax.set_title(score)
    figure.suptitle(title, x=0.01, ha="left", fontsize=9.5)
    return figure


@styled
def feature_map2d(
    points: np.ndarray,
    labels: Sequence[int] | np.ndarray,
    names: Sequence[str],
    *,
    centres: np.ndarray | None = None,
    axes: tuple[str, str] = ("", ""),
    title: str = "",
) -> Figure:
    """Vectors laid out on paper, a colour per class, the class means as crosses in a ring.

    Args:
        points: (N, 2), say `ferkit.explain.project(features).points`.
        labels: (N,) positions in `names`.
        names: K emotions.
        centres: (K, 2) to draw instead of the means of the points, say learnt centres through `Projection.place`.
        axes: what the axes are, `Projection.axes`.
        title: of the figure.

    """
    points, labels = np.asarray(points, dtype=float), np.asarray(labels)
    check(points.ndim == 2 and points.shape[1] == 2 and len(points) == len(labels), f"points ({len(labels)}, 2), one per label", points.shape)
    check(len(labels) > 0 and 0 <= labels.min() and labels.max() < len(names), f"labels of 0 to {len(names) - 1}", f"{labels.min(initial=0)} to {labels.max(initial=0)}")
    check(centres is None or np.shape(centres) == (len(names), 2), f"centres ({len(names)}, 2)", np.shape(centres))
    figure, grid = new_figure(1, 1, (6.2, 4.4))
    ax = grid[0, 0]
    shuffled = np.random.default_rng(0).permutation(len(points))  # no class lies on top of all others
    ax.scatter(*points[shuffled].T, s=9, c=[colour(names[k]) for k in labels[shuffled]], alpha=0.7, linewidths=0)
    for k, name in enumerate(names):
        own = points[labels == k]
        ax.scatter([], [], s=22, c=colour(name), label=f"{name} ({len(own)})")
        if centres is None and len(own) == 0:
            continue
        x, y = own.mean(0) if centres is None else np.asarray(centres)[k]
        ax.plot(x, y, "o", markersize=11, color=colour(name), markeredgecolor="black", markeredgewidth=1.2)
        ax.plot(x, y, "x", markersize=5, color="white", markeredgewidth=1.6)
    ax.set(xlabel=axes[0], ylabel=axes[1], title=title, xticks=[], yticks=[])
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), title="ring: mean of the class" if centres is None else "ring: given centre")
    return figure
