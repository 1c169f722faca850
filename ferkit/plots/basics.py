"""Figures of the first steps: a kernel that slides, what a kernel sees, the price of an answer, a walk downhill."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from ferkit.plots.house import COLOURS, Figure, check, new_figure, show, styled
from ferkit.plots.results import draw_landmarks

_GREY = "#808080"


@styled
def sliding_window(image: np.ndarray, kernel: np.ndarray, row: int, column: int) -> Figure:
    """Draw one place of a convolution without padding: picture (H, W), kernel (k, k), and the output up to this place.

    `row` and `column` are the window's upper left corner, from 0. What a window gives is the sum of the products, as a
    deep learning library computes it: the kernel is not turned round.
    """
    x, k = np.asarray(image, dtype=float), np.asarray(kernel, dtype=float)
    side = len(k)
    rows, columns = x.shape[0] - side + 1, x.shape[1] - side + 1
    fits = 0 <= row < rows and 0 <= column < columns
    check(fits, f"a row below {rows} and a column below {columns}", f"{row} and {column}")
    sums = [[(x[i : i + side, j : j + side] * k).sum() for j in range(columns)] for i in range(rows)]
    out = np.full((rows, columns), np.nan)  # not computed yet
    done = row * columns + column + 1
    out.flat[:done] = np.ravel(sums)[:done]
    figure, axes = new_figure(1, 3, (7.6, 1.95), widths=(x.shape[1], side + 0.6, columns + 0.6))
    darkest = x.min() - 0.5 * (np.ptp(x) or 1)  # so that it is shown as a dark grey
    _numbers(axes[0, 0], x, "picture", cmap="gray", limits=(darkest, x.max()))
    _numbers(axes[0, 1], k, "kernel")
    _numbers(axes[0, 2], out, f"sum of the {side * side} products: {out[row, column]:g}")
    for ax, n in ((axes[0, 0], side), (axes[0, 2], 1)):
        frame: Any = dict(fill=False, edgecolor=COLOURS[1], linewidth=2.5, clip_on=False)
        ax.add_patch(Rectangle((column - 0.5, row - 0.5), n, n, **frame))
    return figure


def _numbers(
    ax: Axes, values: np.ndarray, title: str, *, cmap: str = "RdBu_r", limits: tuple[float, float] | None = None
) -> None:
    """Numbers in their cells, nan as an empty one; without `limits` white is zero."""
    most = 2.2 * max(1e-9, float(np.nanmax(np.abs(values))))
    low, high = limits or (-most, most)
    ax.imshow(np.nan_to_num(values), cmap=cmap, vmin=low, vmax=high)
    for (i, j), value in np.ndenumerate(values):
        ink = "white" if limits and value < (low + high) / 2 else "black"
        ax.add_patch(Rectangle((j - 0.5, i - 0.5), 1, 1, fill=False, edgecolor="#B0B0B0", linewidth=0.8))
        ax.text(j, i, "" if np.isnan(value) else f"{value:g}", ha="center", va="center", fontsize=10, color=ink)
    ax.set(xticks=[], yticks=[], anchor="NW")
    ax.set_title(title)
    ax.spines[:].set_visible(False)


@styled
def filtered(image: np.ndarray, maps: Mapping[str, np.ndarray], *, title: str = "") -> Figure:
    """Draw a picture (H, W), and beside it maps (h, w) by name: red above zero, blue below, each on its own scale."""
    check(bool(maps), "at least one map", "none")
    n = 1 + len(maps)
    figure, axes = new_figure(1, n, (7.9, 7.9 / n + 0.35))
    show(axes[0, 0], image)
    axes[0, 0].set_title(title)
    for ax, (name, values) in zip(axes[0, 1:], maps.items(), strict=True):
        limit = float(np.abs(values).max()) * 0.8 or 1.0  # a few strong places are cut, so that others can be seen
        ax.imshow(values, cmap="RdBu_r", vmin=-limit, vmax=limit)
        ax.set_title(name)
        ax.axis("off")
    return figure


@styled
def price(probabilities: Mapping[str, float], true: str) -> Figure:
    """Draw what an answer costs: its cross entropy on the curve -ln p, with the landmarks ln 2 and ln K.

    Args:
        probabilities: of every class, summing to 1.
        true: the class that is true.

    """
    check(true in probabilities, f"the true class among {', '.join(probabilities)}", true)
    p, k = probabilities[true], len(probabilities)
    cost = -math.log(max(p, 1e-12))
    right = p >= max(probabilities.values()) - 1e-12 and sum(v >= p - 1e-12 for v in probabilities.values()) == 1
    figure, axes = new_figure(1, 1, (3.85, 2.55))
    ax = axes[0, 0]
    grid = np.linspace(0.0008, 1, 600)
    ax.plot(grid, -np.log(grid), color=COLOURS[0])
    for value, text in ((math.log(2), "ln 2: least if wrong"), (math.log(k), f"ln {k}: knows nothing")):
        ax.axhline(value, color=_GREY, linewidth=0.9, linestyle=":")
        how: Any = dict(textcoords="offset points", ha="right", fontsize=9, color="#404040")
        ax.annotate(text, (1, value), xytext=(0, 2), **how)
    ax.plot(p, cost, "o", color=COLOURS[1], markersize=9, zorder=3, clip_on=False)
    top = max(probabilities, key=lambda name: probabilities[name])
    said = "all classes alike" if max(probabilities.values()) < 1.01 / k else f"says {top}, {probabilities[top]:.0%}"
    ax.set(xlim=(0, 1), ylim=(0, 7), xlabel=f"probability of {true}, the label", ylabel="cross entropy (nats)")
    ax.set_title(f"{said}: {'right' if right else 'a tie' if said.startswith('all') else 'wrong'}, costs {cost:.2f}")
    return figure


@styled
def walk_downhill(path: Sequence[float]) -> Figure:
    """Draw the way (n + 1,) of n steps of gradient descent over the valley w² / 2, from the black dot on."""
    w = np.asarray(path, dtype=float)
    figure, axes = new_figure(1, 1, (3.85, 2.3))
    ax = axes[0, 0]
    grid = np.linspace(-4.5, 4.5, 200)
    ax.plot(grid, grid**2 / 2, color="#B0B0B0", linewidth=2)
    ax.plot(w, w**2 / 2, "o-", color=COLOURS[1], markersize=4, linewidth=1)
    ax.plot(w[0], w[0] ** 2 / 2, "o", color="black", markersize=7, zorder=3)
    ax.set(xlim=(-4.5, 4.5), ylim=(-0.4, 8), xlabel="parameter w", ylabel="loss")
    ax.set_title(f"loss {w[0] ** 2 / 2:.2f} → {w[-1] ** 2 / 2:.2f} in {len(w) - 1} steps")
    return figure


@styled
def maps_by_row(image: Any, rows: Mapping[str, np.ndarray], *, titles: Sequence[str] | None = None) -> Figure:
    """Draw a picture, and to its right one row of maps (C, h, w) for each name; each map has its own scale.

    `titles` (C,) stand below the last row.
    """
    (count,) = {len(maps) for maps in rows.values()}
    figure, axes = new_figure(len(rows), count + 1, (8.0, 8.4 / (count + 1) * len(rows) + 0.25))
    for i, (line, (name, maps)) in enumerate(zip(axes, rows.items(), strict=True), 1):
        show(line[0], image)
        line[0].set_ylabel(name, fontsize=9)
        for channel, (ax, values) in enumerate(zip(line[1:], maps, strict=True)):
            ax.imshow(values, cmap="gray")
            ax.axis("off")
            if titles is not None and i == len(rows):
                ax.text(0.5, -0.06, titles[channel], transform=ax.transAxes, ha="center", va="top", fontsize=9)
    return figure


@styled
def ordered_curves(
    x: Sequence[float],
    curves: Mapping[str, Sequence[float]],
    *,
    landmarks: Mapping[str, float] | None = None,
    ylim: tuple[float, float] | None = None,
    legend: str = "",
    xlabel: str = "epoch",
    ylabel: str = "",
) -> Figure:
    """Draw curves (n,) over x (n,) whose names are steps of one quantity, from dark (the first) to light.

    `landmarks` are levels by name, `ylim` cuts what lies outside, `legend` says what the names are.
    """
    check(bool(curves), "at least one curve", "none")
    figure, axes = new_figure(1, 1, (7.2, 3.2))
    ax = axes[0, 0]
    shades = colormaps["viridis"](np.linspace(0, 0.88, len(curves)))
    for i, (name, values) in enumerate(curves.items()):
        ax.plot(x, values, marker="osv^DPX*"[i % 8], markersize=5, color=shades[i], label=name)
    ax.set(ylim=ylim, xlabel=xlabel, ylabel=ylabel)
    draw_landmarks(ax, landmarks or {})
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.grid(axis="y")
    ax.legend(title=legend, loc="best", fontsize=9)
    return figure
