"""Figures of labels: matrices of numbers, label orders, and raters' votes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.patches import Rectangle

from ferkit.plots.house import COLOURS, EMOTION_COLOURS, Figure, check, new_figure, show, styled

_DARK_INK = ("neutral", "happiness", "surprise")  # emotions whose colour is too light for white letters


@styled
def number_table(
    values: np.ndarray,
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    inches: tuple[float, float] = (8.8, 3.7),
    form: str = "{:g}",
) -> Figure:
    """Draw a matrix (R, C) of numbers in [0, 1], each in its cell and shown by its shade as well; zeros stay empty."""
    v = np.asarray(values, dtype=float)
    check(v.shape == (len(rows), len(columns)), f"a matrix of {len(rows)} rows and {len(columns)} columns", v.shape)
    figure, axes = new_figure(1, 1, inches)
    ax = axes[0, 0]
    ax.imshow(v, cmap="Blues", vmin=0, vmax=1.1, aspect="auto")
    for (i, j), value in np.ndenumerate(v):
        ink = "white" if value > 0.65 else "black"
        ax.text(j, i, form.format(value) if value else "", ha="center", va="center", fontsize=9, color=ink)
    ax.set_xticks(range(len(columns)), columns, rotation=40, ha="right", rotation_mode="anchor", fontsize=9)
    ax.set_yticks(range(len(rows)), rows)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    return figure


@styled
def word_columns(
    columns: Mapping[str, Sequence[str]], *, inches: tuple[float, float] = (8.8, 3.9), ylabel: str = "", title: str = ""
) -> Figure:
    """Draw columns of emotion words, each word in its colour, the first on top: {heading: words from position 0 on}."""
    check(bool(columns), "at least one column of words", "none")
    figure, axes = new_figure(1, 1, inches)
    ax = axes[0, 0]
    for x, names in enumerate(columns.values()):
        for y, name in enumerate(names):
            ax.add_patch(Rectangle((x, y), 0.96, 0.92, color=EMOTION_COLOURS.get(name, COLOURS[0])))
            ink = "black" if name in _DARK_INK else "white"
            ax.text(x + 0.48, y + 0.46, name, ha="center", va="center", fontsize=9, color=ink)
    longest = max(map(len, columns.values()))
    ax.set_xticks(np.arange(len(columns)) + 0.48, list(columns))
    ax.set_yticks(np.arange(longest) + 0.46, range(longest))
    ax.set(xlim=(0, len(columns)), ylim=(longest, 0), ylabel=ylabel)
    ax.xaxis.tick_top()
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    figure.suptitle(title, fontsize=9.5)
    return figure


@styled
def votes_below(
    images: Sequence[Any] | np.ndarray, votes: np.ndarray, names: Sequence[str], *, titles: Sequence[str]
) -> Figure:
    """Draw pictures in a row (as in `face_grid`), and below each the votes for it as bars; `votes` is (N, K)
    for K `names`.
    """
    v = np.asarray(votes)
    check(
        v.shape == (len(images), len(names)) and len(titles) == len(v) > 0,
        f"{len(names)} votes and a title for each picture",
        v.shape,
    )
    figure, axes = new_figure(2, len(v), (1.6 * len(v) + 0.4, 3.3), heights=(1, 1.1))
    for j, (image, row, title) in enumerate(zip(images, v, titles, strict=True)):
        show(axes[0, j], image)
        axes[0, j].set_title(title, fontsize=9, loc="center")
        _bars(axes[1, j], row, names, limit=int(v.sum(1).max()), labelled=j == 0)
        axes[1, j].set_xlabel("votes")
    return figure


@styled
def vote_rules(panels: Mapping[str, Mapping[str, float]], *, limits: Sequence[float]) -> Figure:
    """Draw what becomes of one picture's votes: {title: {word: value}}, a panel each, its axis up to its limit; no bar:
    "left out".
    """
    check(len(panels) == len(limits) > 0, "a limit for each panel", f"{len(panels)} and {len(limits)}")
    figure, axes = new_figure(1, len(panels), (2.25 * len(panels), 2.2))
    for i, (ax, (title, values), limit) in enumerate(zip(axes[0], panels.items(), limits, strict=True)):
        _bars(ax, list(values.values()), list(values), limit=limit, labelled=i == 0)
        ax.set_title(title)
        if not any(values.values()):
            ax.text(0.5, 0.5, "left out", transform=ax.transAxes, ha="center")
    return figure


def _bars(ax: Any, values: Sequence[float] | np.ndarray, names: Sequence[str], *, limit: float, labelled: bool) -> None:
    ax.barh(range(len(names)), values, color=[EMOTION_COLOURS.get(name, COLOURS[5]) for name in names])
    ax.set(xlim=(0, limit), xticks=(0, limit / 2, limit), ylim=(len(names) - 0.4, -0.6))
    ax.set_yticks(range(len(names)), names if labelled else [""] * len(names))
