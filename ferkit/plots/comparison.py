"""Figures that set networks side by side: cost against accuracy, reliability, differences."""

from collections.abc import Mapping

import numpy as np

from ferkit.evaluation.calibration import Reliability
from ferkit.plots.house import COLOURS, Figure, check, new_figure, styled


@styled
def cost_scatter(networks: Mapping[str, tuple[float, float, float, float]], *, xlabel: str = "multiply-adds per picture", ylabel: str = "accuracy") -> Figure:
    """Accuracy over cost, a point with its interval per network: {name: (cost, value, low, high)}; costs on a log scale.

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
    ax.plot(*zip(*front, strict=True), color=COLOURS[1], linewidth=1, linestyle="--", zorder=0, label="best for its cost")
    ax.set(xscale="log", xlabel=xlabel, ylabel=ylabel)
    ax.margins(x=0.22, y=0.12)
    ax.grid(axis="y")
    ax.legend(loc="lower right")
    return figure


@styled
def reliability_diagram(panels: Mapping[str, Reliability]) -> Figure:
    """For each panel the share of right answers over the probability given, and below it how many pictures got such a one."""
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
        upper.set(xlim=(0, 1), ylim=(0, 1), title=f"{title}\nexpected calibration error {error:.3f}", ylabel="share right" if not column else "")
        lower.bar(middles, found.n, width=0.9 * width, color=COLOURS[2])
        lower.set(xlabel="largest probability", ylabel="pictures" if not column else "")
    return figure
