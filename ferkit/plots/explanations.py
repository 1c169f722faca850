"""Figures of what explanations show and what they are worth: masks and gates, scores, curves, layouts of features."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ferkit.evaluation.metrics import mean_interval
from ferkit.plots.house import COLOURS, Figure, check, colour, new_figure, show, styled
from ferkit.plots.results import draw_intervals

BEFORE_AND_AFTER = ("F_R", "F_N")  # a masking block's map before and after: one colour scale for both
MOST_BLOCKS = 10


@styled
def mask_grid(
    maps: Mapping[str, np.ndarray],
    *,
    image: Any = None,
    index: int = 0,
    shared: Sequence[str] = BEFORE_AND_AFTER,
    scale: str = "zero",
    title: str = "",
) -> Figure:
    """Draw masks and gates over places, a row per block and a column per quantity, each with its own colour bar.

    As Fig. 1 of the Residual Masking paper (before and after a block), with the numbers beside the colours.

    Args:
        maps: what `ferkit.explain.spatial_maps` gives, {"block: quantity" or "block.quantity": (N, h, w)}, or a part of
            it with at most ten blocks.
        image: the picture, shown once beside the first row.
        index: which of the N pictures.
        shared: quantities of a block that have one scale, by default F_R and F_N.
        scale: "zero": colours begin at 0, or are even around 0 where a map has negative values, so that sizes can be
            compared and a constant map looks constant. "range": from the least to the largest value, for gates that
            differ little from place to place; only the colour bar says how little, and a constant map (to six digits)
            stays as under "zero".
        title: of the figure.

    Raises ValueError for maps of another shape, none, or more blocks than fit.

    """
    check(len(maps) > 0, "at least one map; this network has no gates or masks over places", "none")
    check(scale in ("zero", "range"), "scale 'zero' or 'range'", repr(scale))
    grid: dict[str, dict[str, np.ndarray]] = {}
    for name, stack in maps.items():
        check(
            np.ndim(stack) == 3 and 0 <= index < len(stack),
            f"maps (N, h, w) with a picture {index} under {name!r}",
            np.shape(stack),
        )
        row, column = name.split(": ", 1) if ": " in name else name.rsplit(".", 1) if "." in name else ("", name)
        grid.setdefault(row, {})[column] = np.asarray(stack[index])
    check(len(grid) <= MOST_BLOCKS, f"maps of at most {MOST_BLOCKS} blocks, choose some", len(grid))
    columns = list(dict.fromkeys(c for row in grid.values() for c in row))
    first = int(image is not None)
    wide = min(1.9, 7.7 / (len(columns) + first))
    high = min(0.84 * wide, 6.3 / len(grid))
    figure, axes = new_figure(
        len(grid),
        len(columns) + first,
        (wide * (len(columns) + first) + 0.25, high * len(grid) + (0.5 if title else 0.3)),
    )
    for ax in axes.flat:
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
    if image is not None:
        show(axes[0, 0], image)
    for line, (row, quantities) in zip(axes, grid.items(), strict=True):
        line[0].set_ylabel(
            _in_lines(row), fontsize=9, **({"rotation": 0, "ha": "right", "va": "center"} if len(grid) > 4 else {})
        )
        for ax, column in zip(line[first:], columns, strict=True):
            if column not in quantities:
                continue
            low, highest = _bounds(
                [v for c, v in quantities.items() if c == column or (column in shared and c in shared)], scale
            )
            drawn = ax.imshow(
                quantities[column],
                cmap="RdBu_r" if low == -highest else "viridis",
                vmin=low,
                vmax=highest,
                aspect=_aspect(quantities[column]),
            )
            bar = figure.colorbar(drawn, ax=ax, fraction=0.05, pad=0.03, ticks=[low, highest])
            bar.ax.set_yticklabels(_apart(low, highest), fontsize=9)
            bar.outline.set_visible(False)  # type: ignore[operator]
    for ax, column in zip(axes[0, first:], columns, strict=True):
        ax.set_title(column.replace("*", " · ").replace("_gate", " gate"), fontsize=9, loc="center")
    figure.suptitle(title, x=0.01, ha="left", fontsize=9.5)
    return figure


def _bounds(maps: Sequence[np.ndarray], scale: str) -> tuple[float, float]:
    low, high = min(float(m.min()) for m in maps), max(float(m.max()) for m in maps)
    limit = max(-low, high) or 1.0
    if scale == "range" and high - low > 1e-6 * limit:
        return low, high
    return (-limit if low < 0 else 0.0), limit


def _apart(low: float, high: float) -> list[str]:
    """Two numbers with three digits, or as many as it takes to tell them apart."""
    return next(texts for digits in range(3, 18) if len(set(texts := [f"{b:.{digits}g}" for b in (low, high)])) == 2)


def _in_lines(name: str) -> str:
    """A dotted name, cut in two near its middle if it is long."""
    dots = [i for i, c in enumerate(name) if c == "."]
    if len(name) <= 16 or not dots:
        return name
    cut = min(dots, key=lambda i: abs(i - len(name) / 2)) + 1
    return f"{name[:cut]}\n{name[cut:]}"


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
    """Draw means of curves (N, S) over x (S,), each with a band, its 95 % interval (Student t) over N pictures,
    and its area.
    """
    figure, axes = new_figure(1, 1, (7.6, 3.0))
    ax = axes[0, 0]
    x = np.asarray(x, dtype=float)
    for i, (name, values) in enumerate(curves.items()):
        v = np.asarray(values, dtype=float)
        check(
            v.ndim == 2 and v.shape[1] == len(x) and len(v) > 0,
            f"curves of {len(x)} points, (N, {len(x)}), under {name!r}",
            v.shape,
        )
        mean, low, high = np.transpose([mean_interval(column) for column in v.T])
        ink = COLOURS[i % len(COLOURS)]
        ax.fill_between(x, low, high, color=ink, alpha=0.2, linewidth=0)
        ax.plot(
            x, mean, color=ink, marker="osv^Dx"[i % 6], markersize=3, label=f"{name}: area {np.trapezoid(mean, x):.3f}"
        )
    ax.set(xlabel=xlabel, ylabel=ylabel, title=title)
    ax.grid(axis="y")
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


@styled
def scores_bars(
    estimates: Mapping[str, Mapping[str, Sequence[float]]], *, reference: str | None = "chance", title: str = ""
) -> Figure:
    """Draw scores with intervals, a panel per score and a line per method: {method: {score: (value, low, high, ...)}}.

    As `ferkit.explain.estimates` gives them; with `margins` set `reference=None`, and 0 is marked. `reference` is the
    method at whose value a dashed line is drawn.
    """
    check(len(estimates) > 0, "at least one method", "none")
    check(reference is None or reference in estimates, f"the reference among {', '.join(estimates)}", reference)
    scores = list(next(iter(estimates.values())))
    figure, axes = new_figure(
        1, len(scores), (min(8.0, 1.6 + 2.5 * len(scores)), 0.9 + 0.33 * len(estimates)), sharey=True
    )
    for ax, score in zip(axes[0], scores, strict=True):
        points = [
            (name, float(row[score][0]), float(row[score][1]), float(row[score][2])) for name, row in estimates.items()
        ]
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
    """Draw vectors laid out on paper, a colour per class, the class means as crosses in a ring.

    Args:
        points: (N, 2), say `ferkit.explain.project(features).points`.
        labels: (N,) positions in `names`.
        names: K emotions.
        centres: (K, 2) to draw instead of the means of the points, say learnt centres through `Projection.place`.
        axes: what the axes are, `Projection.axes`.
        title: of the figure.

    """
    points, labels = np.asarray(points, dtype=float), np.asarray(labels)
    check(
        points.ndim == 2 and points.shape[1] == 2 and len(points) == len(labels),
        f"points ({len(labels)}, 2), one per label",
        points.shape,
    )
    check(
        len(labels) > 0 and 0 <= labels.min() and labels.max() < len(names),
        f"labels of 0 to {len(names) - 1}",
        f"{labels.min(initial=0)} to {labels.max(initial=0)}",
    )
    given = None if centres is None else np.asarray(centres, dtype=float)
    check(
        given is None or given.shape == (len(names), 2),
        f"centres ({len(names)}, 2)",
        None if given is None else given.shape,
    )
    figure, grid = new_figure(1, 1, (6.2, 4.4))
    ax = grid[0, 0]
    shuffled = np.random.default_rng(0).permutation(len(points))  # no class lies on top of all others
    ax.scatter(*points[shuffled].T, s=9, c=[colour(names[k]) for k in labels[shuffled]], alpha=0.7, linewidths=0)
    for k, name in enumerate(names):
        own = points[labels == k]
        ax.scatter([], [], s=22, c=colour(name), label=f"{name} ({len(own)})")
        if given is None and len(own) == 0:
            continue
        x, y = own.mean(0) if given is None else given[k]
        ax.plot(x, y, "o", markersize=11, color=colour(name), markeredgecolor="black", markeredgewidth=1.2)
        ax.plot(x, y, "x", markersize=5, color="white", markeredgewidth=1.6)
    ax.set(xlabel=axes[0], ylabel=axes[1], title=title, xticks=[], yticks=[])
    ax.legend(
        loc="center left",
        bbox_to_anchor=(1.0, 0.5),
        title="ring: mean of the class" if given is None else "ring: given centre",
    )
    return figure


@styled
def feature_neighbours(
    points: np.ndarray,
    labels: Sequence[int] | np.ndarray,
    names: Sequence[str],
    images: Any,
    shown: Sequence[int],
    *,
    axes: tuple[str, str] = ("", ""),
    title: str = "",
) -> Figure:
    """Draw vectors laid out on paper beside the faces behind some of them: the first is ringed,
    the others are numbered.

    Args:
        points: (N, 2).
        labels: (N,) positions in `names`.
        names: K emotions.
        images: N pictures as in `face_grid`.
        shown: up to six positions in `points`; the first is the chosen one, say with its nearest neighbours behind it.
        axes, title: as in `feature_map2d`.

    """
    points, labels = np.asarray(points, dtype=float), np.asarray(labels)
    check(
        points.ndim == 2 and points.shape[1] == 2 and len(points) == len(labels) == len(images),
        "one point (2,), label and picture each",
        (points.shape, len(labels), len(images)),
    )
    check(
        0 < len(shown) <= 6 and 0 <= min(shown) and max(shown) < len(points),
        f"one to six positions of {len(points)}",
        list(shown),
    )
    figure, grid = new_figure(2, 4, (8.0, 3.6), widths=(3.4, 1, 1, 1))
    grid[1, 0].remove()
    ax = grid[0, 0]
    ax.set_subplotspec(ax.get_gridspec()[:, 0])  # type: ignore[union-attr]
    for k in np.unique(labels):
        ax.scatter(*points[labels == k].T, s=8, color=colour(names[k]), alpha=0.6, linewidths=0, label=names[k])
    figure.legend(loc="outside lower left", ncols=7, columnspacing=1, handletextpad=0.1, markerscale=2)
    ax.plot(*points[shown[0]], "o", markersize=12, markerfacecolor="none", markeredgecolor="black", markeredgewidth=1.6)
    for number, i in enumerate(shown[1:], 1):
        ax.annotate(str(number), points[i], ha="center", va="center", fontsize=9, fontweight="bold")
    ax.set(xlabel=axes[0], ylabel=axes[1], xticks=[], yticks=[])
    ax.set_title(title, fontsize=9.5)
    for number, place in enumerate(grid[:, 1:].flat):
        place.axis("off")
        if number < len(shown):
            show(place, images[shown[number]])
            name = names[labels[shown[number]]]
            place.set_title(
                f"{'chosen' if number == 0 else number}: {name}",
                fontsize=9,
                loc="center",
                color=colour(name) if name != "neutral" else "black",
            )
    return figure
