"""Figures of labels: matrices of numbers, label orders, and raters' votes."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.patches import Rectangle

from ferkit.plots.house import COLOURS, EMOTION_COLOURS, PAGE_INCHES, Figure, check, new_figure, styled

_DARK_INK = ("neutral", "happiness", "surprise")  # emotions whose colour is too light for white letters
# parts of a whole: ground and ink
_PARTS = (("#2D5AC3", "white"), ("#9DB5EA", "black"), ("#E0E0E0", "black"), ("#2E7D4F", "white"), ("#C34B78", "white"))


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
    ax.set_xticks(range(len(columns)), columns, fontsize=9)
    if max(map(len, columns)) > 10:  # short words have room side by side
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
def votes_and_labels(
    panels: Mapping[str, Mapping[str, int]], *, labels: Sequence[str], raters: int = 10, columns: int = 3
) -> Figure:
    """Draw votes for pictures that are not shown: {title: {word: votes}}, a panel each, all over the same words.

    `labels`: the word that each picture's data set gives it; its row is shaded, and the word bold.
    """
    check(len(panels) == len(labels) > 0, "a label for each panel", f"{len(panels)} and {len(labels)}")
    words = list(next(iter(panels.values())))
    rows = -(-len(panels) // columns)
    inches = (PAGE_INCHES, (0.5 + 0.21 * len(words)) * rows)
    figure, axes = new_figure(rows, columns, inches, sharex=True, sharey=True)
    for i, (title, votes) in enumerate(panels.items()):
        ax = axes.flat[i]
        check(list(votes) == words, f"votes for {', '.join(words)}", list(votes))
        check(labels[i] in words, f"a label among {', '.join(words)}", labels[i])
        ax.axhspan(words.index(labels[i]) - 0.5, words.index(labels[i]) + 0.5, color="#F2E2B8", zorder=0)
        bars = ax.barh(words, list(votes.values()), color=[EMOTION_COLOURS.get(word, COLOURS[5]) for word in words])
        ax.bar_label(bars, [str(n) if n else "" for n in votes.values()], padding=4)
        ax.set(title=title, xlim=(0, 1.12 * raters), xticks=(0, raters / 2, raters), ylim=(len(words) - 0.4, -0.6))
        ax.tick_params(labelleft=True, left=False)
        ax.get_yticklabels()[words.index(labels[i])].set_fontweight("bold")
    for ax in axes.flat[len(panels) :]:
        ax.axis("off")
    for ax in axes[-1]:
        ax.set_xlabel("votes")
    return figure


@styled
def shares(rows: Mapping[str, Mapping[str, float]]) -> Figure:
    """Draw wholes and their parts: {row: {part: share}}, a bar from 0 to 100 % each, parts with name and share.

    The shares of a row sum to 1; a part narrower than a tenth has no room for its name. There are at most five names of
    parts, each with a colour of its own in all rows.
    """
    names = list(dict.fromkeys(part for parts in rows.values() for part in parts))
    check(0 < len(names) <= len(_PARTS), f"one to {len(_PARTS)} names of parts", len(names))
    for row, parts in rows.items():
        check(abs(sum(parts.values()) - 1) < 1e-6, f"shares of {row!r} that sum to 1", sum(parts.values()))
        check(min(parts.values()) >= 0.1, f"parts of {row!r} of a tenth at least", dict(parts))
    figure, axes = new_figure(1, 1, (PAGE_INCHES, 0.4 + 0.62 * len(rows)))
    ax = axes[0, 0]
    for y, parts in enumerate(rows.values()):
        start = 0.0
        for part, share in parts.items():
            ground, ink = _PARTS[names.index(part)]
            ax.barh(y, share, left=start, height=0.8, color=ground, edgecolor="white")
            ax.text(start + share / 2, y, f"{share:.0%}\n{part}", ha="center", va="center", fontsize=9, color=ink)
            start += share
    ax.set_yticks(range(len(rows)), list(rows))
    ax.set(xlim=(0, 1), ylim=(len(rows) - 0.5, -0.5), xticks=[])
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    return figure
