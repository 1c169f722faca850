"""Figures of light networks: where a saving arises, what a mixed kernel reads,
small matrices of weights beside each other.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import colormaps

from ferkit.plots.house import COLOURS, Figure, barh, check, new_figure, short, styled

#: (parameters, multiply-adds)
Cost = tuple[float, float]


@styled
def stacked_costs(networks: Mapping[str, Mapping[str, Cost]], *, title: str = "") -> Figure:
    """Draw one bar per network, cut into its stages: {network: {stage: (parameters, multiply-adds)}},
    a panel for each of the two.
    """
    stages = list(dict.fromkeys(stage for costs in networks.values() for stage in costs))
    check(bool(stages), "at least one network with a stage", "none")
    shades = [colormaps["viridis"](i / max(1, len(stages) - 1)) for i in range(len(stages))]
    figure, axes = new_figure(1, 2, (8.0, 1.5 + 0.36 * len(networks)), sharey=True)
    for k, what in enumerate(("parameters", "multiply-adds")):
        ax, left = axes[0, k], np.zeros(len(networks))
        for stage, shade in zip(stages, shades, strict=True):
            values = np.array([costs.get(stage, (0, 0))[k] for costs in networks.values()], dtype=float)
            ax.barh(range(len(networks)), values, left=left, color=shade, height=0.7, label=stage if k == 0 else None)
            left += values
        for i, total in enumerate(left):
            ax.annotate(short(total), (total, i), xytext=(4, 0), textcoords="offset points", va="center", fontsize=9)
        ax.set_yticks(range(len(networks)), list(networks))
        ax.set(ylim=(len(networks) - 0.4, -0.6), xlim=(0, 1.18 * max(left.max(), 1e-12)), xticks=[], title=what)
        ax.tick_params(axis="y", length=0)
        ax.spines["bottom"].set_visible(False)
    figure.legend(loc="outside lower center", ncols=min(7, len(stages)), fontsize=9)
    figure.suptitle(title, x=0.01, ha="left")
    return figure


@styled
def cost_steps(steps: Sequence[tuple[str, Cost]], *, printed: Cost | None = None, title: str = "") -> Figure:
    """Draw a network that is changed step by step: (what was done, (parameters, multiply-adds));
    the first row is what it began as.

    Each bar is what one step takes away (or adds), in percent of the first row, beginning where the last one ended.
    `printed` are two changes in percent to compare with, drawn as lines.
    """
    check(len(steps) > 1 and min(steps[0][1]) > 0, "a network and at least one step", steps)
    figure, axes = new_figure(1, 2, (8.0, 1.0 + 0.34 * (len(steps) - 1)), sharey=True)
    for k, what in enumerate(("parameters", "multiply-adds")):
        ax = axes[0, k]
        level = [100 * (cost[k] / steps[0][1][k] - 1) for _, cost in steps]
        for i, (before, after) in enumerate(zip(level, level[1:], strict=False)):
            ax.barh(i, after - before, left=before, color=COLOURS[k], height=0.66)
            end = min(before, after)
            ax.annotate(
                f"{after - before:+.1f}",
                (end, i),
                xytext=(-4, 0),
                textcoords="offset points",
                ha="right",
                va="center",
                fontsize=9,
                bbox=dict(facecolor="white", edgecolor="none", pad=0.6),
            )
        if printed is not None:
            ax.axvline(printed[k], color="0.35", linestyle=":", linewidth=1.2)
            ax.annotate(
                f"printed {printed[k]:g}",
                (printed[k], -0.5),
                xytext=(3, 0),
                textcoords="offset points",
                fontsize=9,
                color="0.35",
            )
        low = min([*level, printed[k] if printed else 0])
        ax.axvline(0, color="0.6", linewidth=0.8)
        ax.set(xlim=(1.22 * low, 0.03 * abs(low)), ylim=(len(steps) - 1.5, -0.75), xlabel=f"% of {steps[0][0]}")
        ax.set_title(f"{what}: {level[-1]:+.1f} %")
        ax.set_yticks(range(len(steps) - 1), [name for name, _ in steps[1:]])
        ax.tick_params(axis="y", length=0)
    figure.suptitle(title, x=0.01, ha="left")
    return figure


@styled
def matrices(
    grids: Mapping[str, np.ndarray], *, signs: str = "", form: str = "{:.2f}", numbers: bool = True, title: str = ""
) -> Figure:
    """Draw small matrices in a row, each number in its cell, one colour scale around 0 for all;
    `signs[i]` stands behind matrix i.
    """
    arrays = {name: np.asarray(grid, dtype=float) for name, grid in grids.items()}
    check(
        bool(arrays) and all(a.ndim == 2 for a in arrays.values()),
        "matrices (rows, columns)",
        {n: a.shape for n, a in arrays.items()},
    )
    limit = max(float(np.abs(a).max()) for a in arrays.values()) or 1.0
    cells = [max(2.2, a.shape[1]) for a in arrays.values()]
    unit = min(0.36, 8.6 / (sum(cells) + 0.9 * len(cells)))
    high = max(a.shape[0] for a in arrays.values())
    figure, axes = new_figure(
        1,
        len(arrays),
        (unit * (sum(cells) + 1.1 * len(cells)) + 0.2, unit * high + (0.9 if title else 0.6)),
        widths=cells,
    )
    for i, (ax, (name, a)) in enumerate(zip(axes[0], arrays.items(), strict=True)):
        ax.imshow(a, cmap="RdBu_r", vmin=-limit, vmax=limit)
        for (row, column), value in np.ndenumerate(a) if numbers else ():
            ink = "white" if abs(value) > 0.6 * limit else "black" if value else "0.6"
            ax.text(column, row, form.format(value) if value else "0", ha="center", va="center", fontsize=9, color=ink)
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
        ax.set_title(name, fontsize=9, loc="center")
        if i < len(signs) and signs[i].strip():
            ax.annotate(
                signs[i],
                (1, 0.5),
                xycoords="axes fraction",
                xytext=(8, 0),
                textcoords="offset points",
                ha="center",
                va="center",
                fontsize=13,
            )
    figure.suptitle(title, x=0.01, ha="left", fontsize=9.5)
    return figure


@styled
def footprint(reach: np.ndarray, costs: Mapping[str, float], *, title: str = "", unit: str = "parameters") -> Figure:
    """Draw what one place of a map reads (h, w), as shares of the largest, beside what each part of the block costs."""
    check(np.ndim(reach) == 2, "a map (h, w)", np.shape(reach))
    figure, axes = new_figure(1, 2, (7.8, 2.6), widths=(1, 1.7))
    peak = float(np.max(reach)) or 1.0
    shown = axes[0, 0].imshow(np.asarray(reach) / peak, cmap="viridis", vmin=0, vmax=1)
    axes[0, 0].set(xticks=[], yticks=[])
    axes[0, 0].set_title("what one place reads", fontsize=9)
    figure.colorbar(shown, ax=axes[0, 0], fraction=0.05, ticks=[0, 1])
    total = max(1e-12, sum(costs.values()))
    values = list(costs.values())
    barh(axes[0, 1], list(costs), values, [f"{v:,.0f}  {v / total:.0%}" for v in values], [COLOURS[0]] * len(values))
    axes[0, 1].set_title(f"{unit}: {total:,.0f}", fontsize=9)
    figure.suptitle(title, x=0.01, ha="left", fontsize=9.5)
    return figure
