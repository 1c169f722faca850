"""Figures of a network's inside: feature maps, gates, where parameters and multiply-adds are."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from ferkit.models import StageRow
from ferkit.plots.house import COLOURS, Figure, barh, check, colour, new_figure, short, styled


@styled
def feature_maps(maps: Tensor | np.ndarray, *, maximum: int = 16, columns: int = 8, title: str = "") -> Figure:
    """Draw the channels of one captured map (C, h, w), all on one scale around 0; the first `maximum` of them."""
    array = np.asarray(maps.detach().float().cpu() if isinstance(maps, Tensor) else maps)
    check(array.ndim == 3, "maps of one picture (C, h, w); choose one with maps[0]", array.shape)
    n = min(maximum, len(array))
    columns = min(columns, n)
    rows = math.ceil(n / columns)
    limit = float(np.abs(array[:n]).max()) or 1.0
    signed = array[:n].min() < 0
    figure, axes = new_figure(rows, columns, (0.9 * columns + 0.8, 1.12 * rows + (0.3 if title else 0)))
    for i, ax in enumerate(axes.flat):
        ax.axis("off")
        if i < n:
            shown = ax.imshow(
                array[i], cmap="RdBu_r" if signed else "viridis", vmin=-limit if signed else 0, vmax=limit
            )
            ax.set_title(f"{i}", fontsize=9, loc="center", pad=2)
    figure.colorbar(shown, ax=axes, fraction=0.03, shrink=0.9).outline.set_visible(False)  # type: ignore[operator]
    figure.suptitle(title, x=0.01, ha="left", fontsize=9.5)
    return figure


@styled
def gate_bars(gates: Mapping[str, Any] | Tensor | np.ndarray, *, title: str = "gate of each channel") -> Figure:
    """Draw channel gates in [0, 1], (C,) or (C, 1, 1), one panel per name; 0.5 is what an untrained gate gives."""
    panels = gates if isinstance(gates, Mapping) else {"": gates}
    figure, axes = new_figure(len(panels), 1, (6.4, 0.6 + 1.25 * len(panels)), sharex=True)
    for ax, (name, values) in zip(axes[:, 0], panels.items(), strict=True):
        g = np.asarray(values.detach().float().cpu() if isinstance(values, Tensor) else values).ravel()
        ax.bar(range(len(g)), g, width=1, color=colour(name))
        ax.axhline(0.5, color="black", linewidth=0.8, linestyle=":")
        ax.set(ylim=(0, 1), xlim=(-0.5, len(g) - 0.5), ylabel=name or "gate")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=min(9, len(g) + 1)))
    axes[-1, 0].set_xlabel("channel")
    axes[0, 0].set_title(title)
    return figure


@styled
def gate_ranges(panels: Mapping[str, np.ndarray | Tensor]) -> Figure:
    """Draw what each channel's gate does over many pictures: {title: gates (N, C) in [0, 1]}, a panel each.

    The channels stand in the order of their mean gate (the dot); the bar reaches from the smallest gate to the largest.
    """
    figure, axes = new_figure(1, len(panels), (3.9 * len(panels), 2.7), sharey=True)
    every = np.concatenate([np.asarray(gates).ravel() for gates in panels.values()])
    limits = min(0.35, float(every.min()) - 0.02), max(0.65, float(every.max()) + 0.02)
    for ax, (title, gates) in zip(axes[0], panels.items(), strict=True):
        g = np.asarray(gates)
        check(g.ndim == 2, "gates (N, C)", g.shape)
        g = g[:, np.argsort(g.mean(0), kind="stable")]
        ax.vlines(range(g.shape[1]), g.min(0), g.max(0), color=COLOURS[0], alpha=0.4, linewidth=3)
        ax.plot(g.mean(0), "o", color=COLOURS[0], markersize=3)
        ax.axhline(0.5, color="#606060", linewidth=0.9, linestyle=":")
        ax.set(title=title, xlabel="channel, by its mean gate", ylim=limits)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.grid(axis="y")
    axes[0, 0].set_ylabel("gate")
    return figure


@styled
def chain(boxes: Sequence[tuple[str, str, str]], *, per_row: int = 6, title: str = "") -> Figure:
    """Draw a network as a chain of boxes, read like text; each is (what it is, where the paper has it, what leaves it).
    """
    check(len(boxes) > 0, "at least one box", len(boxes))
    columns, rows = min(per_row, len(boxes)), math.ceil(len(boxes) / per_row)
    figure, axes = new_figure(1, 1, (1.42 * columns + 0.2, 1.05 * rows + (0.3 if title else 0)))
    ax = axes[0, 0]
    ax.axis("off")
    ax.set(xlim=(-0.55, columns - 0.45), ylim=(rows - 0.42, -0.5))
    for i, (what, where, shape) in enumerate(boxes):
        row, column = divmod(i, per_row)
        ax.text(
            column,
            row - 0.06,
            what,
            ha="center",
            va="center",
            fontsize=9,
            bbox=dict(boxstyle="round,pad=0.45", facecolor="#eef3f8", edgecolor=COLOURS[0]),
        )
        ax.text(column, row - 0.42, where, ha="center", va="center", fontsize=9, color=COLOURS[1])
        ax.text(column, row + 0.33, shape, ha="center", va="center", fontsize=9, color="0.3")
        if i + 1 < len(boxes):
            ends = "→" if column + 1 < columns else "↵"
            ax.text(column + 0.5, row - 0.06, ends, ha="center", va="center", fontsize=11, color="0.4")
    figure.suptitle(title, x=0.01, ha="left", fontsize=9.5)
    return figure


@styled
def stage_bars(rows: Sequence[StageRow], *, title: str = "") -> Figure:
    """Draw the parameters and multiply-adds of each stage, as `ferkit.models.summarise` lists them, with their shares.
    """
    rows = [r for r in rows if r.params or r.macs]
    figure, axes = new_figure(1, 2, (8.0, 0.8 + 0.27 * len(rows)), sharey=True)
    labels = [f"{r.name}   {'×'.join(map(str, r.shape))}" for r in rows]
    for ax, what, values in (
        (axes[0, 0], "parameters", [r.params for r in rows]),
        (axes[0, 1], "multiply-adds", [r.macs for r in rows]),
    ):
        total = max(1, sum(values))
        barh(
            ax,
            labels,
            values,
            [f"{short(v)}  {_share(v / total)}" for v in values],
            [COLOURS[ax is axes[0, 1]]] * len(rows),
        )
        ax.set_title(f"{what}: {short(sum(values))}")
    figure.suptitle(title, x=0.01, ha="left")
    return figure


def _share(part: float) -> str:
    return "<0.1%" if 0 < part < 0.0005 else f"{part:.1%}"
