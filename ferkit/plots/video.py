"""Probabilities over the time of a video, and where the answer flips."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np

from ferkit.plots.house import Figure, check, colour, new_figure, styled


@styled
def over_time(
    seconds: Sequence[float] | np.ndarray,
    probabilities: Mapping[str, np.ndarray],
    answers: Mapping[str, Sequence[str]],
    *,
    title: str = "",
) -> Figure:
    """What a network says of one face over a video: a line for each class, and below it the answers as strips.

    Args:
        seconds: (T,) times of the frames.
        probabilities: {class: (T,)}.
        answers: {what: T classes}, such as {"as it is": ..., "smoothed": ...}; a strip says how often it flips.
        title: of the figure.

    """
    time = np.asarray(seconds, float)
    given = [*probabilities.values(), *answers.values()]
    lengths = [len(values) for values in given]
    check(
        len(time) > 0 and set(lengths) == {len(time)}, f"{len(time)} values for each line, and one at least", lengths
    )
    figure, axes = new_figure(2, 1, (7.4, 2.9 + 0.32 * len(answers)), heights=(8.0, 0.9 * len(answers)), sharex=True)
    ax, strips = axes[0, 0], axes[1, 0]
    step = float(np.median(np.diff(time))) if len(time) > 1 else 1.0
    away = np.flatnonzero(np.diff(time) > 1.5 * step) + 1  # where the face was out of sight, a line has a gap
    for name, values in probabilities.items():
        whole = np.insert(np.asarray(values, float), away, np.nan)
        ax.plot(np.insert(time, away, np.nan), whole, color=colour(name), linewidth=1.6, label=name)
    ax.set(ylim=(0, 1), ylabel="probability")
    ax.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=9)
    ax.set_title(title)
    for row, said in enumerate(answers.values()):
        inks = [colour(answer) for answer in said]
        strips.barh([row] * len(inks), step, left=time - step / 2, height=0.8, color=inks, linewidth=0)
        count = sum(a != b for a, b in pairwise(said))
        words = "1 flip" if count == 1 else f"{count} flips"
        strips.annotate(words, (1.01, row), xycoords=("axes fraction", "data"), va="center", fontsize=9)
    strips.set_yticks(range(len(answers)), list(answers))
    strips.set(ylim=(len(answers) - 0.5, -0.5), xlim=(time[0] - step / 2, time[-1] + step / 2), xlabel="seconds")
    strips.tick_params(axis="y", length=0)
    return figure
