"""Figures for masks that re-weight feature maps: what they do to a value, which sizes their U-Nets take,
when a plateau ends.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from ferkit.models.resmasking import DEPTHS, block_sides, legal_size, nearest_legal_sizes
from ferkit.plots.house import COLOURS, Figure, check, new_figure, styled


@styled
def reweighted(
    features: Sequence[float] | np.ndarray, mask: Sequence[float] | np.ndarray, *, title: str = ""
) -> Figure:
    """Draw features F_R (n,) beside F_R (1 + F_M) and F_R F_M for a mask F_M (n,) in [0, 1]."""
    f, m = np.asarray(features, dtype=float), np.asarray(mask, dtype=float)
    check(f.ndim == 1 and f.shape == m.shape and len(f) > 0, "as many weights as features", f"{f.shape} and {m.shape}")
    check(bool(((m >= 0) & (m <= 1)).all()), "weights of 0 to 1", f"{m.min():g} to {m.max():g}")
    figure, axes = new_figure(1, 1, (5.6, 2.5))
    ax = axes[0, 0]
    kinds = (
        ("$F_R$", f, "#BDBDBD"),
        ("$F_R\\,(1 + F_M)$", f * (1 + m), COLOURS[0]),
        ("$F_R\\,F_M$", f * m, COLOURS[1]),
    )
    for i, (name, values, ink) in enumerate(kinds):
        bars = ax.bar(np.arange(len(f)) + 0.27 * (i - 1), values, width=0.25, color=ink, label=name)
        ax.bar_label(bars, [f"{v:.3g}" for v in values], fontsize=9, padding=1)
    ax.set_xticks(range(len(f)), [f"$F_M$ = {w:.3g}" for w in m])
    ax.set(
        ylim=(min(0.0, 2.2 * float(f.min())), max(2.2 * float(f.max()), 1e-6)), ylabel="value of a feature", title=title
    )
    ax.tick_params(axis="x", length=0)
    figure.legend(loc="outside right upper")
    return figure


@styled
def mask_sizes(side: int, *, depths: Sequence[int] = DEPTHS) -> Figure:
    """Draw the sides of the maps in the four masking blocks for pictures of `side` pixels: down the left arm of the U,
    up the right one.

    What comes up must have the side of the skip that it is joined with; a pair that has not is red.
    """
    blocks = block_sides(side, depths)
    figure, axes = new_figure(1, len(blocks), (8.0, 2.9))
    top = max((len(b.down) for b in blocks if b is not None), default=1)
    for k, (ax, block) in enumerate(zip(axes[0], blocks, strict=True), 1):
        ax.axis("off")
        ax.set(xlim=(-0.6, 2.6), ylim=(-top + 0.4, 0.75))
        if block is None:
            ax.set_title(f"block {k}: left out")
            continue
        ax.set_title(f"block {k}, depth {len(block.down)}")
        for level, n in enumerate(block.down):
            bottom = level == len(block.down) - 1
            _side(ax, 1 if bottom and level else 0, -level, f"{n}", good=n > 0)
            if not bottom:
                ax.annotate(
                    "",
                    (1 if level == len(block.down) - 2 else 0, -level - 0.72),
                    (0, -level - 0.25),
                    arrowprops={"arrowstyle": "->", "color": "0.5"},
                )
        for step, (up, skip) in enumerate(block.up):
            level = len(block.down) - 2 - step
            start = 1 if step == 0 else 2
            ax.annotate("", (2, -level - 0.25), (start, -level - 0.75), arrowprops={"arrowstyle": "->", "color": "0.5"})
            _side(ax, 2, -level, f"{up}" if up == skip else f"{up} ≠ {skip}", good=up == skip)
            ax.plot(
                [0.4, 1.45], [-level, -level], color="0.6" if up == skip else COLOURS[1], linewidth=0.9, linestyle=":"
            )
    fits = legal_size(side, depths)
    verdict = (
        "taken"
        if fits
        else f"refused; nearest sides that are taken: {' and '.join(map(str, nearest_legal_sizes(side, depths)))}"
    )
    figure.suptitle(f"pictures of {side} px: {verdict}", x=0.01, ha="left", color="black" if fits else COLOURS[1])
    return figure


def _side(ax: Axes, x: float, y: float, text: str, *, good: bool) -> None:
    ink = COLOURS[0] if good else COLOURS[1]
    ax.text(
        x,
        y,
        text,
        ha="center",
        va="center",
        fontsize=9,
        color="black" if good else COLOURS[1],
        bbox={"boxstyle": "round,pad=0.3", "facecolor": "white", "edgecolor": ink},
    )


@styled
def schedule_replay(accuracies: Sequence[float], rates: Sequence[float], *, title: str = "") -> Figure:
    """Draw the validation accuracies (E,) in percent with the best so far,
    and below them the learning rate of each epoch (E,).
    """
    check(len(accuracies) == len(rates) > 0, "one learning rate per epoch", f"{len(rates)} for {len(accuracies)}")
    figure, axes = new_figure(2, 1, (6.0, 3.4), sharex=True, heights=(1.6, 1))
    epochs = np.arange(1, len(accuracies) + 1)
    above, below = axes[:, 0]
    above.step(epochs, np.maximum.accumulate(accuracies), where="mid", color="0.7", label="best so far")
    above.plot(epochs, accuracies, "o-", color=COLOURS[0], markersize=3, label="validation accuracy, %")
    above.legend(loc="lower right", fontsize=9)
    above.set_title(title)
    below.step(epochs, rates, where="mid", color=COLOURS[1])
    below.plot(epochs, rates, "o", color=COLOURS[1], markersize=2.5)
    below.set(yscale="log", ylabel="learning rate", xlabel="epoch", ylim=(min(rates) / 3, max(rates) * 3))
    below.xaxis.set_major_locator(MaxNLocator(integer=True))
    for ax in (above, below):
        ax.grid(axis="x")
    return figure
