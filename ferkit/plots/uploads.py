"""Figures around one uploaded face: where it was found, what networks say of it, what changes their answers."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ferkit.plots.house import COLOURS, Figure, barh, check, colour, new_figure, show, styled


@styled
def faces_found(
    picture: np.ndarray,
    boxes: Sequence[Sequence[float]],
    landmarks: Sequence[np.ndarray],
    crops: Mapping[str, np.ndarray],
    *,
    chosen: int = 0,
) -> Figure:
    """Draw a picture with its faces numbered, and beside it crops of the chosen one by title.

    Args:
        picture: uint8 RGB (H, W, 3).
        boxes: left, top, right, bottom in pixels, one for each face.
        landmarks: (5, 2) in pixels, one for each face.
        crops: uint8 RGB (S, S, 3) by title, such as before and after alignment.
        chosen: number of the face that is used.

    """
    check(len(boxes) == len(landmarks), "landmarks for each box", f"{len(landmarks)} for {len(boxes)}")
    height, width = picture.shape[:2]
    tall = 2.5
    figure, axes = new_figure(
        1,
        1 + len(crops),
        (tall * min(1.8, width / height) + tall * len(crops) + 0.3, tall + 0.3),
        widths=(min(1.8, width / height), *[1.0] * len(crops)),
    )
    show(axes[0, 0], picture)
    axes[0, 0].set_title(f"{len(boxes)} face{'s' * (len(boxes) != 1)} found", fontsize=9, loc="center")
    for i, (box, points) in enumerate(zip(boxes, landmarks, strict=True)):
        ink = COLOURS[1] if i == chosen else "white"
        left, top, right, bottom = box
        axes[0, 0].plot([left, right, right, left, left], [top, top, bottom, bottom, top], color=ink, linewidth=1.6)
        label = dict(boxstyle="round,pad=0.15", facecolor="black", edgecolor="none", alpha=0.7)
        axes[0, 0].text(
            left, top, f"{i}", color="white", fontsize=9, fontweight="bold", va="bottom", ha="left", bbox=label
        )
        if i == chosen:
            axes[0, 0].plot(*np.asarray(points).T, ".", color=ink, markersize=4)
    for ax, (title, crop) in zip(axes[0, 1:], crops.items(), strict=True):
        show(ax, crop)
        ax.set_title(title, fontsize=9, loc="center")
    return figure


@styled
def opinion_bars(
    opinions: Sequence[Any], names: Sequence[str], *, crop: np.ndarray | None = None, title: str = ""
) -> Figure:
    """Draw probabilities of several networks, three in a row, one line per emotion,
    classes of the conformal set in full colour.

    Args:
        opinions: with `network`, `labels`, `probabilities`, `doubt` and `likely`, as of `ferkit.explain.opinions.ask`.
        names: the lines, top to bottom; emotions a network does not know stay empty.
        crop: the face, shown at the left.
        title: of the figure.

    """
    check(len(opinions) > 0, "at least one opinion", "none")
    extra, per_row = int(crop is not None), min(3, len(opinions))
    rows = math.ceil(len(opinions) / per_row)
    size = (min(8.0, 2.2 * per_row + extra * 1.8 + 0.8), (0.9 + 0.26 * len(names)) * rows)
    figure, axes = new_figure(rows, per_row + extra, size, widths=[1.0] * extra + [1.25] * per_row)
    if crop is not None:
        show(axes[0, 0], crop)
        for ax in axes[1:, 0]:
            ax.remove()
    cells = axes[:, extra:].flat
    for ax in list(cells)[len(opinions) :]:
        ax.remove()
    for i, (ax, opinion) in enumerate(zip(axes[:, extra:].flat, opinions, strict=False)):
        p = [float(opinion.probabilities[opinion.labels.index(n)]) if n in opinion.labels else 0.0 for n in names]
        known = [n in opinion.labels for n in names]
        words = [f"{v:.0%}" if k else "not asked" for v, k in zip(p, known, strict=True)]
        barh(ax, list(names) if i % per_row == 0 else [""] * len(names), p, words, [colour(n) for n in names], limit=1)
        for bar, name in zip(ax.patches, names, strict=True):
            bar.set_alpha(1.0 if name in opinion.likely or not opinion.likely else 0.35)
        if i == 0 and opinion.likely:
            ax.set_xlabel("full colour: not ruled out", fontsize=9)
        ax.set_title(f"{opinion.network.replace(' ', chr(10))}\ndoubt {opinion.doubt:.2f}", fontsize=9, loc="center")
    figure.suptitle(title, x=0.01, ha="left", fontsize=9.5)
    return figure


@styled
def changes_grid(rows: Mapping[str, np.ndarray], names: Sequence[str], *, reference: str, title: str = "") -> Figure:
    """Draw probabilities under changes: {change: (K,)}, a line each and a column per emotion;
    answers unlike the reference are framed.
    """
    check(
        reference in rows and all(np.shape(p) == (len(names),) for p in rows.values()),
        f"{len(names)} probabilities for each change and for {reference!r}",
        {k: np.shape(v) for k, v in rows.items()},
    )
    values = np.array(list(rows.values()), dtype=float)
    figure, axes = new_figure(1, 1, (1.6 + 0.72 * len(names), 0.8 + 0.27 * len(rows)))
    ax = axes[0, 0]
    ax.imshow(values, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    first = int(np.asarray(rows[reference]).argmax())
    for (i, k), value in np.ndenumerate(values):
        ax.text(k, i, f"{value:.0%}", ha="center", va="center", fontsize=9, color="white" if value > 0.6 else "black")
    for i, row in enumerate(values):
        k = int(row.argmax())
        if k != first:
            ax.plot(
                [k - 0.47, k + 0.47, k + 0.47, k - 0.47, k - 0.47],
                [i - 0.45, i - 0.45, i + 0.45, i + 0.45, i - 0.45],
                color=COLOURS[1],
                linewidth=1.8,
            )
    ax.set_xticks(range(len(names)), names, fontsize=9)
    ax.set_yticks(range(len(rows)), list(rows), fontsize=9)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    turned = sum(int(row.argmax()) != first for row in values)
    ax.set_title(f"{title}{': ' if title else ''}{turned} of {len(rows) - 1} changes turn the answer", fontsize=9.5)
    return figure
