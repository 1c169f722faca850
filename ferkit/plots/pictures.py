"""Figures that show faces: grids, predictions, heat maps."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ferkit.plots.house import PAGE_INCHES, Figure, barh, check, colour, new_figure, show, show_heat, styled


@styled
def face_grid(
    images: Sequence[Any] | np.ndarray,
    titles: Sequence[str] | None = None,
    *,
    columns: int = 8,
    size: float | None = None,
    rows: Sequence[str] = (),
) -> Figure:
    """Draw pictures in rows: (N, H, W), (N, C, H, W) or a list of (H, W), (C, H, W) or (H, W, 3), uint8.

    Args:
        images: N pictures.
        titles: N texts to stand above them.
        columns: pictures in a row.
        size: inches each; by default what fits the page, at most 1.6.
        rows: names of the rows, to stand at their left.

    """
    if len(images) == 0 or (titles is not None and len(titles) != len(images)):
        raise ValueError(f"expected pictures and one title for each, found {len(images)} and {len(titles or [])}")
    columns = min(columns, len(images))
    n_rows = math.ceil(len(images) / columns)
    check(len(rows) in (0, n_rows), f"a name for each of {n_rows} rows", len(rows))
    left = 0.2 * max((name.count("\n") + 1 for name in rows), default=0)
    size = size or min(1.6, (PAGE_INCHES - left) / columns)
    lines = max((t.count("\n") + 1 for t in titles), default=0) if titles is not None else 0
    figure, axes = new_figure(n_rows, columns, (size * columns + left, (size + 0.17 * lines) * n_rows))
    for ax, name in zip(axes[:, 0], rows, strict=False):
        at: Any = dict(xycoords="axes fraction", textcoords="offset points", rotation=90, fontsize=9)
        ax.annotate(name, (0, 0.5), xytext=(-5, 0), ha="right", va="center", **at)
    for i, ax in enumerate(axes.flat):
        ax.axis("off")
        if i < len(images):
            show(ax, images[i])
            if titles is not None:
                ax.set_title(titles[i], fontsize=9, loc="center", pad=2)
    return figure


@styled
def error_gallery(
    images: Sequence[Any] | np.ndarray,
    labels: Sequence[int] | np.ndarray,
    probabilities: np.ndarray,
    names: Sequence[str],
    *,
    maximum: int = 24,
    columns: int = 5,
) -> Figure:
    """Draw the faces a network got wrong, the surest mistake first: truth,
    answer and its probability (Residual Masking paper, Fig. 8).

    Args:
        images: N pictures as in `face_grid`.
        labels: (N,) true classes, positions in `names`.
        probabilities: (N, K).
        names: K emotions.
        maximum: how many faces at most.
        columns: faces in a row.

    """
    y, p = np.asarray(labels), np.asarray(probabilities, dtype=float)
    check(
        len(images) == len(y) > 0 and p.shape == (len(y), len(names)),
        f"one label and {len(names)} probabilities for each of {len(images)} pictures",
        f"{y.shape} and {p.shape}",
    )
    check(0 <= y.min() and y.max() < len(names), f"labels of 0 to {len(names) - 1}", f"{y.min()} to {y.max()}")
    answer, sure = p.argmax(1), p.max(1)
    wrong = np.flatnonzero(answer != y)
    worst = wrong[np.argsort(-sure[wrong], kind="stable")][:maximum]
    if len(worst) == 0:
        figure, axes = new_figure(1, 1, (4.2, 1.1))
        axes[0, 0].axis("off")
        axes[0, 0].text(0, 0.5, f"0 of {len(y)} answers are wrong.", va="center")
        return figure
    titles = [f"{names[y[i]]}\n→ {names[answer[i]]} {sure[i]:.0%}" for i in worst]
    figure = face_grid([images[i] for i in worst], titles, columns=columns)
    figure.suptitle(
        f"{len(wrong)} of {len(y)} "
        f"wrong{f', the surest {len(worst)}' if len(wrong) > len(worst) else ''}: truth → answer",
        x=0.01,
        ha="left",
        fontsize=9.5,
    )
    return figure


@styled
def probability_bars(
    probabilities: Sequence[float] | np.ndarray, names: Sequence[str], *, image: Any = None, truth: str | None = None
) -> Figure:
    """Draw probabilities (K,) of one picture as bars, the true class marked, the picture beside them if given."""
    p = np.asarray(probabilities, dtype=float)
    check(p.shape == (len(names),), f"one probability per name ({len(names)})", p.shape)
    height = 0.5 + 0.27 * len(names)
    figure, axes = new_figure(
        1, 1 if image is None else 2, (4.2 + (image is not None) * height, height), widths=(height, 4.2)
    )
    if image is not None:
        show(axes[0, 0], image)
    ax = axes[0, -1]
    shown = [f"true: {n}" if n == truth else n for n in names]
    barh(ax, shown, p, [f"{v:.1%}" for v in p], [colour(n) for n in names], limit=1)
    if truth is not None:
        check(truth in names, f"the true class among the names {', '.join(names)}", truth)
        ax.get_yticklabels()[list(names).index(truth)].set_fontweight("bold")
    ax.set_xlabel("probability")
    return figure


@styled
def overlay(image: Any, heat: np.ndarray, *, opacity: float = 0.6, title: str = "") -> Figure:
    """Draw a picture, and the same with a heat map (H, W) in [0, 1] over it; `opacity` in [0,
    1] is that of the hottest place.
    """
    figure, axes = new_figure(1, 2, (6.0, 2.95))
    show(axes[0, 0], image)
    shown = show_heat(axes[0, 1], image, heat, opacity)
    bar = figure.colorbar(shown, ax=axes[0, 1], fraction=0.05, ticks=[0, 1])
    bar.ax.set_yticklabels(["least", "most"])
    bar.outline.set_visible(False)  # type: ignore[operator]
    figure.suptitle(title, x=0.01, ha="left", fontsize=9.5)
    return figure


@styled
def cam_grid(
    images: Sequence[Any] | np.ndarray,
    heats: Mapping[str, np.ndarray],
    *,
    titles: Sequence[str] | None = None,
    outlines: np.ndarray | None = None,
    opacity: float = 0.6,
) -> Figure:
    """Draw one column per picture, below it each heat map over it; with few pictures, one row per picture instead.

    `heats` is {title: (N, H, W) in [0, 1]}; `outlines` (N, H, W) are masks whose borders are drawn, say of the truth.
    """
    kinds = ["picture", *heats]
    lying = len(images) < len(kinds)
    shape = (len(images), len(kinds)) if lying else (len(kinds), len(images))
    size = min(1.9, (PAGE_INCHES - 0.3) / shape[1])
    figure, axes = new_figure(*shape, (size * shape[1] + 0.3, size * shape[0] + 0.3))
    grid = axes.T if lying else axes  # (kinds, pictures)
    for i, image in enumerate(images):
        for ax, kind in zip(grid[:, i], kinds, strict=True):
            if kind == "picture":
                show(ax, image)
            else:
                show_heat(ax, image, heats[kind][i], opacity)
            if outlines is not None:
                ax.contour(outlines[i], levels=[0.5], colors="#00C2FF", linewidths=0.9)
    for i, kind in enumerate(kinds):
        if lying:
            axes[0, i].set_title(kind, fontsize=9, loc="center")
        else:
            axes[i, 0].set_ylabel(kind, fontsize=9)
    for i, title in enumerate(titles or []):
        if lying:
            axes[i, 0].set_ylabel(title, fontsize=9)
        else:
            axes[0, i].set_title(title, fontsize=9, loc="center")
    return figure
