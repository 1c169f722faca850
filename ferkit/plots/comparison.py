"""Figures that set networks side by side: cost against accuracy, reliability, differences."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.ticker import PercentFormatter

from ferkit.evaluation.calibration import Reliability
from ferkit.plots.house import COLOURS, Figure, check, new_figure, styled


@styled
def cost_scatter(
    networks: Mapping[str, tuple[float, float, float, float]],
    *,
    xlabel: str = "multiply-adds per picture",
    ylabel: str = "accuracy",
) -> Figure:
    """Draw accuracy over cost, a point with its interval per network: {name: (cost, value, low, high)};
    costs on a log scale.

    A line joins the networks that no other beats in both: nobody is better for less.
    """
    check(all(v[0] > 0 for v in networks.values()), "costs above 0", {k: v[0] for k, v in networks.items()})
    figure, axes = new_figure(1, 1, (6.6, 3.4))
    ax = axes[0, 0]
    for name, (cost, value, low, high) in networks.items():
        ax.plot([cost, cost], [low, high], color=COLOURS[0], linewidth=2.5, alpha=0.4, solid_capstyle="butt")
        ax.plot(cost, value, "o", color=COLOURS[0])
        ax.annotate(name, (cost, value), xytext=(6, 4), textcoords="offset points", fontsize=9)
    front, best = [], -np.inf
    for cost, value, *_ in sorted(networks.values()):
        if value > best:
            front.append((cost, value))
            best = value
    ax.plot(
        *zip(*front, strict=True), color=COLOURS[1], linewidth=1, linestyle="--", zorder=0, label="best for its cost"
    )
    ax.set(xscale="log", xlabel=xlabel, ylabel=ylabel)
    ax.margins(x=0.22, y=0.12)
    ax.grid(axis="y")
    ax.legend(loc="lower right")
    return figure


@styled
def reliability_diagram(panels: Mapping[str, Reliability]) -> Figure:
    """Draw for each panel the share of right answers over the probability given,
    and below it how many pictures got such a one.
    """
    figure, axes = new_figure(2, len(panels), (3.0 * len(panels), 3.9), sharex=True, heights=(3, 1))
    for column, (title, found) in enumerate(panels.items()):
        upper, lower = axes[0, column], axes[1, column]
        width = 1 / len(found.n)
        middles = (np.arange(len(found.n)) + 0.5) * width
        some = found.n > 0
        upper.bar(middles[some], found.accuracy[some], width=0.9 * width, color=COLOURS[0], label="right")
        upper.plot([0, 1], [0, 1], color="black", linewidth=0.8, linestyle=":")
        upper.plot(found.confidence[some], found.accuracy[some], "o", markersize=3, color=COLOURS[1])
        error = float((found.n * np.abs(np.nan_to_num(found.accuracy - found.confidence))).sum() / found.n.sum())
        upper.set(
            xlim=(0, 1),
            ylim=(0, 1),
            title=f"{title}\nexpected calibration error {error:.3f}",
            ylabel="share right" if not column else "",
        )
        lower.bar(middles, found.n, width=0.9 * width, color=COLOURS[2])
        lower.set(xlabel="largest probability", ylabel="pictures" if not column else "")
    return figure


@styled
def forest(
    series: Mapping[str, Mapping[str, Sequence[Any]]], *, xlabel: str, zero: float = 0.0, first: int = 0
) -> Figure:
    """Draw values with their intervals as rows, several series under each other.

    Args:
        series: {series: {row: (value, low, high)}}, at most four, of one unit; a series may lack rows. With a fourth
            member, a list of single values (of seeds, say), these are drawn as small dots. Where low or high is nan, a
            value has no interval and is drawn hollow.
        xlabel: what the values are, with the unit.
        zero: where the line of no difference stands.
        first: place of the first series' colour, so that a series has one colour in several figures.

    """
    check(0 < len(series) <= 4, "one to four series", len(series))
    rows = list(dict.fromkeys(row for points in series.values() for row in points))
    step = 0.8 / len(series)
    figure, axes = new_figure(1, 1, (7.4, 1.0 + len(rows) * (0.16 + 0.22 * len(series))))
    ax = axes[0, 0]
    for i, (name, points) in enumerate(series.items()):
        ink, mark = COLOURS[first + i], "osD^"[first + i]
        for row, (value, low, high, *each) in points.items():
            y = rows.index(row) + (i - (len(series) - 1) / 2) * step
            known = bool(np.isfinite(low) and np.isfinite(high))
            if known:
                ax.plot([low, high], [y, y], color=ink, linewidth=6, alpha=0.3, solid_capstyle="butt")
            for single in each:
                ax.plot(single, [y] * len(single), "o", color="#2D2D3C", markersize=2.5, zorder=3)
            ax.plot(value, y, mark, color=ink, markersize=6, markerfacecolor=ink if known else "white")
            low, high = (low, high) if known else (value, value)
            end, side = (low, -1) if value < zero else (high, 1)
            how: Any = dict(textcoords="offset points", va="center", fontsize=9, color=ink)
            ax.annotate(f"{value:+.1f}", (end, y), xytext=(8 * side, 0), ha="left" if side > 0 else "right", **how)
        some = any(np.isfinite(p[1]) for p in points.values())
        ax.plot([], [], mark, color=ink, markerfacecolor=ink if some else "white", label=name)
    ax.axvline(zero, color="#606060", linewidth=0.9, linestyle=":")
    ax.set_yticks(range(len(rows)), rows)
    ax.set(ylim=(len(rows) - 0.45, -0.55), xlabel=xlabel)
    ax.margins(x=0.14)
    ax.grid(axis="x")
    figure.legend(loc="outside upper left", ncols=len(series), fontsize=9)
    return figure


@styled
def groups(
    values: Mapping[str, Sequence[float]], *, xlabel: str, bands: Mapping[str, tuple[float, float]] | None = None
) -> Figure:
    """Draw single values of several groups, a row of dots per group: {group: values}, for reports of different origin.

    Args:
        values: groups from top to bottom.
        xlabel: what the values are, with the unit.
        bands: interval of a group that has one value, by name.

    """
    check(bool(values), "at least one group", "none")
    figure, axes = new_figure(1, 1, (7.4, 0.9 + 0.42 * len(values)))
    ax = axes[0, 0]
    for i, (name, numbers) in enumerate(values.items()):
        if bands and name in bands:
            ax.plot(bands[name], [i, i], color=COLOURS[0], linewidth=6, alpha=0.35, solid_capstyle="butt")
        ax.plot(numbers, [i] * len(numbers), "o", color=COLOURS[0], alpha=0.75, markersize=6)
    ax.set_yticks(range(len(values)), list(values))
    ax.set(ylim=(len(values) - 0.5, -0.5), xlabel=xlabel)
    ax.grid(axis="x")
    return figure


@styled
def dumbbells(
    rows: Mapping[str, Mapping[str, Sequence[float]]], *, xlabel: str, limits: tuple[float, float] = (0, 1)
) -> Figure:
    """Draw two kinds of learner on the same pictures: {row: {kind: values}}, a row of dots joined by their means.

    Args:
        rows: at most two kinds, the same in every row; several values of a kind are several runs.
        xlabel: what the values are; they are fractions, and the means are written in percent.
        limits: of the axis.

    """
    kinds = list(next(iter(rows.values())))
    check(len(kinds) == 2 and all(list(row) == kinds for row in rows.values()), "two kinds, in every row", kinds)
    figure, axes = new_figure(1, 1, (7.4, 1.0 + 0.55 * len(rows)))
    ax = axes[0, 0]
    for y, row in enumerate(rows.values()):
        means = [float(np.mean(row[kind])) for kind in kinds]
        ax.plot(means, [y, y], color="#B0B0B0", linewidth=2, zorder=1)
        for i, kind in enumerate(kinds):
            values = list(row[kind])
            ax.plot(values, [y] * len(values), "os"[i], color=COLOURS[i], alpha=0.45, markersize=4, clip_on=False)
            ax.plot(means[i], y, "os"[i], color=COLOURS[i], markersize=8, clip_on=False, label=None if y else kind)
            side = 1 if means[i] > means[1 - i] or (means[i] == means[1 - i] and i) else -1
            how: Any = dict(textcoords="offset points", va="center", fontsize=9, color=COLOURS[i])
            edge = max(values) if side > 0 else min(values)
            ax.annotate(
                f"{means[i]:.0%}", (edge, y), xytext=(8 * side, 0), ha="left" if side > 0 else "right", **how
            )
    ax.set_yticks(range(len(rows)), list(rows))
    ax.set(ylim=(len(rows) - 0.5, -0.5), xlim=limits, xlabel=xlabel)
    ax.xaxis.set_major_formatter(PercentFormatter(1))
    ax.grid(axis="x")
    figure.legend(loc="outside upper left", ncols=2, fontsize=9)
    return figure
