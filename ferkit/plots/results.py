"""Figures of data and results: counts, confusions, curves, intervals."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from ferkit.evaluation.metrics import mean_interval, wilson
from ferkit.plots.house import COLOURS, PAGE_INCHES, Figure, barh, check, colour, new_figure, short, styled


@styled
def class_counts(counts: Mapping[str, Mapping[str, int]] | Mapping[str, int]) -> Figure:
    """Draw images per class as bars with their numbers: {class: n}, or one panel per split for {split: {class: n}}."""
    nested = all(isinstance(v, Mapping) for v in counts.values())
    panels: dict[str, dict[str, int]] = {k: dict(v) for k, v in counts.items()} if nested else {"": dict(counts)}  # type: ignore[arg-type, call-overload, dict-item]
    names = list(dict.fromkeys(n for panel in panels.values() for n in panel))
    figure, axes = new_figure(1, len(panels), (1.2 + 2.6 * len(panels), 0.75 + 0.27 * len(names)), sharey=True)
    for ax, (split, panel) in zip(axes[0], panels.items(), strict=True):
        values = [panel.get(n, 0) for n in names]
        total = max(1, sum(values))
        barh(ax, names, values, [f"{v:,}  ({v / total:.0%})" for v in values], [colour(n) for n in names])
        ax.set(title=f"{split}: {sum(values):,}" if split else f"{sum(values):,} images")
    return figure


@styled
def confusion(matrix: Sequence[Sequence[int]] | np.ndarray, names: Sequence[str], *, title: str = "") -> Figure:
    """Draw a confusion matrix (K, K) of counts, rows true, columns predicted:
    each cell says its count and its share of the row.
    """
    m = np.asarray(matrix)
    check(m.shape == (len(names), len(names)), f"a matrix with {len(names)} rows and columns", m.shape)
    totals = m.sum(1, keepdims=True)
    shares = m / np.maximum(totals, 1)
    side, longest = 0.62 * len(names), max(map(len, names))
    left, below = max(1.9, 1.1 + 0.085 * longest), max(1.1, 0.5 + 0.065 * longest)  # inches for the names
    figure, axes = new_figure(1, 1, (left + max(side, 0.085 * len(title)), side + below))
    ax = axes[0, 0]
    ax.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (i, j), count in np.ndenumerate(m):
        ink = "white" if shares[i, j] > 0.55 else "#909090" if count == 0 else "black"
        ax.text(j, i, f"{count}\n{shares[i, j]:.0%}" if count else "0", ha="center", va="center", fontsize=9, color=ink)
    ax.set_xticks(range(len(names)), names, rotation=40, ha="right", rotation_mode="anchor")
    ax.set_yticks(range(len(names)), [f"{n}  (n={t})" for n, t in zip(names, totals[:, 0], strict=True)])
    ax.set(xlabel="predicted", ylabel="true", title=title)
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
    return figure


@styled
def cross_matrix(record: Mapping[str, Any], *, score: str = "accuracy") -> Figure:
    """Draw accuracies, trained on the row, tested on the column, from a record of `ferkit.runs.cross.cross`: percent
    and 95 % interval; own data framed.

    `score` is accuracy, macro_f1 or balanced_accuracy.
    """
    rows, columns, cells = record["runs"], record["sets"], record["cells"]
    check(
        bool(cells) and score in cells[0][0]["intervals"], f"a score among {', '.join(cells[0][0]['intervals'])}", score
    )
    values = np.array([[cell[score] for cell in line] for line in cells])
    figure, axes = new_figure(1, 1, (1.5 * len(columns) + 2.6, 0.75 * len(rows) + 1.3))
    ax = axes[0, 0]
    ax.imshow(values, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (i, j), value in np.ndenumerate(values):
        low, high = cells[i][j]["intervals"][score]
        copies = f"\n{cells[i][j]['copies']:,} trained on" if cells[i][j]["copies"] else ""
        text = f"{100 * value:.1f}\n{100 * low:.1f} to {100 * high:.1f}{copies}"
        ax.text(j, i, text, ha="center", va="center", fontsize=9, color="white" if value > 0.55 else "black")
    for i, j in enumerate(record["trained_on"]):
        ax.add_patch(Rectangle((j - 0.48, i - 0.47), 0.96, 0.94, fill=False, edgecolor=COLOURS[1], linewidth=2))
    ax.set_xticks(range(len(columns)), [f"{name}\nn = {cells[0][j]['n']:,}" for j, name in enumerate(columns)])
    ax.set_yticks(range(len(rows)), rows)
    what = score.replace("_", " ").replace("f1", "F1")
    ax.set(
        xlabel="tested on", ylabel="trained on", title=f"{what} in percent on {len(record['labels'])} shared emotions"
    )
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
    return figure


@styled
def recall_bars(matrix: Sequence[Sequence[int]] | np.ndarray, names: Sequence[str]) -> Figure:
    """Draw the share of each class that was recognised, with 95 % Wilson intervals,
    from a confusion matrix of counts (rows true).
    """
    m = np.asarray(matrix)
    check(m.shape == (len(names), len(names)), f"a matrix with {len(names)} rows and columns", m.shape)
    hits, totals = np.diag(m), m.sum(1)
    recall = hits / np.maximum(totals, 1)
    figure, axes = new_figure(1, 1, (6.0, 0.7 + 0.3 * len(names)))
    ax = axes[0, 0]
    texts = [f"{r:.0%}  ({k} of {n})" if n else "no image" for r, k, n in zip(recall, hits, totals, strict=True)]
    barh(ax, names, recall, texts, [colour(n) for n in names], limit=1, at_end=True)
    for i, (k, n) in enumerate(zip(hits, totals, strict=True)):
        if n:
            low, high = wilson(int(k), int(n))
            for width, ink in ((3.5, "white"), (1.5, "black")):
                ax.plot([low, high], [i, i], color=ink, linewidth=width, solid_capstyle="butt")
    ax.set_xlabel("recall, with 95 % interval")
    return figure


@styled
def curves(
    history: Any,
    *,
    metrics: Sequence[str] = ("loss", "accuracy"),
    best: int | None = None,
    landmarks: Mapping[str, Mapping[str, float]] | None = None,
) -> Figure:
    """Draw training curves over epochs: for each metric the columns `train_<metric>` and `val_<metric>`,
    whichever exist.

    Args:
        history: what `fit` returns, or its rows (list of dicts).
        metrics: a panel each.
        best: the row whose weights were kept.
        landmarks: levels to compare a curve with, by metric: {"loss": {"knows nothing": 1.95}}.

    """
    rows = _rows(history)
    if landmarks is None:
        figure, axes = new_figure(1, len(metrics), (min(PAGE_INCHES, 3.6 * len(metrics)), 2.7))
    else:  # below each other, so that the names of the landmarks have room
        figure, axes = new_figure(len(metrics), 1, (7.2, 2.7 * len(metrics)))
    epochs = [row.get("epoch", i) for i, row in enumerate(rows)]
    for ax, metric in zip(axes.flat, metrics, strict=True):
        known = [k for k in (f"train_{metric}", f"val_{metric}") if k in rows[0]]
        check(bool(known), f"columns train_{metric} or val_{metric}", ", ".join(rows[0]))
        for name in known:
            train = name.startswith("train")
            ax.plot(
                epochs,
                [row[name] for row in rows],
                marker="o" if train else "s",
                markersize=3 if len(rows) < 40 else 0,
                linestyle="--" if train else "-",
                color=COLOURS[0] if train else COLOURS[1],
                label="training" if train else "validation",
            )
        if best is not None:
            ax.axvline(epochs[best], color="#404040", linewidth=0.9, linestyle="-.", label="kept")  # levels are dotted
        draw_landmarks(ax, (landmarks or {}).get(metric, {}))
        ax.set(title=f"{metric.replace('_', ' ')}{' (nats)' if metric == 'loss' else ''}", xlabel="epoch")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        if len(rows) == 1:
            ax.set_xlim(epochs[0] - 1, epochs[0] + 1)
        ax.grid(axis="y")
        if landmarks is None:
            ax.legend(frameon=True, framealpha=0.95, edgecolor="none")
        else:  # above the frame, where it covers neither a level nor a curve
            ax.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=3, frameon=False)
    return figure


def draw_landmarks(ax: Axes, landmarks: Mapping[str, float]) -> None:
    """Draw dotted levels across given axes, each with its name at the right edge, outside.

    The names of two close levels lean apart. Limits that are set by hand must be set before.
    """
    levels = sorted(landmarks.items(), key=lambda item: -item[1])
    for _, value in levels:
        ax.axhline(value, color="#808080", linewidth=0.9, linestyle=":", zorder=0)
    bottom, top = ax.get_ylim()
    close = 0.1 * (top - bottom)
    for i, (text, value) in enumerate(levels):
        lean, shift = "center", 0
        if i + 1 < len(levels) and value - levels[i + 1][1] < close:
            lean, shift = "bottom", 0
        if i and levels[i - 1][1] - value < close:
            lean, shift = "top", 0
        how: Any = dict(textcoords="offset points", va=lean, fontsize=9, color="#404040")
        ax.annotate(text, (1, value), xycoords=("axes fraction", "data"), xytext=(4, shift), **how)


@styled
def compare_curves(histories: Mapping[str, Any], *, metric: str = "val_accuracy") -> Figure:
    """Draw one figure of several trainings over their epochs, a line each; `histories` is {title:
    history as in `curves`}.
    """
    figure, axes = new_figure(1, 1, (5.4, 2.8))
    ax = axes[0, 0]
    for i, (title, history) in enumerate(histories.items()):
        rows = _rows(history)
        check(metric in rows[0], f"a column {metric}", ", ".join(rows[0]))
        epochs, values = [row.get("epoch", k) for k, row in enumerate(rows)], [row[metric] for row in rows]
        ax.plot(epochs, values, marker="osv^Dx"[i % 6], markersize=3.5, color=COLOURS[i % len(COLOURS)], label=title)
    ax.set(title=metric.replace("val_", "validation ").replace("_", " "), xlabel="epoch")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.grid(axis="y")
    ax.legend()
    return figure


@styled
def intervals(
    points: Sequence[tuple[str, float, float, float]], *, reference: float | None = None, xlabel: str = "accuracy"
) -> Figure:
    """Draw values with error bars, one line each: (label, value, low, high); an optional reference line.

    NaN bars are left out.
    """
    figure, axes = new_figure(1, 1, (6.2, 0.75 + 0.3 * len(points)))
    draw_intervals(axes[0, 0], points, reference=reference)
    axes[0, 0].set_xlabel(xlabel)
    return figure


def draw_intervals(
    ax: Axes, points: Sequence[tuple[str, float, float, float]], *, reference: float | None = None
) -> None:
    """Draw what `intervals` draws, into given axes."""
    for i, (_, value, low, high) in enumerate(points):
        ax.plot([low, high], [i, i], color=COLOURS[0], linewidth=2.5, alpha=0.5, solid_capstyle="butt")
        ax.plot(value, i, "o", color=COLOURS[0])
        ax.annotate(f"{value:.3f}", (value, i), xytext=(0, 5), textcoords="offset points", ha="center", fontsize=9)
    if reference is not None:
        ax.axvline(reference, color=COLOURS[1], linewidth=1, linestyle="--")
    ax.set_yticks(range(len(points)), [p[0] for p in points])
    ax.set(ylim=(len(points) - 0.5, -0.7))
    ax.grid(axis="x")


@styled
def ablation(
    results: Mapping[str, Sequence[float]], macs: Mapping[str, float] | None = None, *, ylabel: str = "accuracy"
) -> Figure:
    """Draw one column per configuration: a dot per seed, mean and 95 % interval (Student t);
    multiply-adds below if given.
    """
    names = list(results)
    figure, axes = new_figure(
        1 if macs is None else 2,
        1,
        (max(5.2, 1.2 + 0.8 * len(names)), 2.8 if macs is None else 3.9),
        sharex=True,
        heights=(2.4, 1),
    )
    ax = axes[0, 0]
    for i, name in enumerate(names):
        values = [float(v) for v in results[name]]
        mean, low, high = mean_interval(values)
        low, high = max(low, 0.0), min(high, 1.0)  # a t-interval of few seeds does not know where accuracies end
        ax.plot([i, i], [low, high], color=COLOURS[0], linewidth=7, alpha=0.3, solid_capstyle="butt")
        ax.plot([i - 0.22, i + 0.22], [mean, mean], color=COLOURS[0], linewidth=2)
        ax.plot(
            i + np.linspace(-0.1, 0.1, len(values)) * (len(values) > 1), values, "o", color=COLOURS[1], markersize=3.5
        )
    ax.set(ylabel=ylabel, title="dot: a seed · line: mean · band: 95 % interval")
    ax.grid(axis="y")
    if macs is not None:
        below = axes[1, 0]
        costs = [macs[name] for name in names]
        below.bar(range(len(names)), costs, width=0.5, color=COLOURS[2])
        for i, value in enumerate(costs):
            below.annotate(short(value), (i, value), xytext=(0, 2), textcoords="offset points", ha="center", fontsize=9)
        below.set(ylabel="multiply-adds", ylim=(0, max(costs) * 1.25), yticks=[])
    axes[-1, 0].set_xticks(range(len(names)), names)
    axes[-1, 0].set_xlim(-0.6, len(names) - 0.4)
    return figure


def _rows(history: Any) -> list[dict[str, float]]:
    rows = list(getattr(history, "rows", history))
    check(bool(rows), "a history with at least one epoch", "none")
    return rows
