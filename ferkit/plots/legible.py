"""What makes a drawn figure hard to read, measured on the drawing itself."""

import math
from collections.abc import Iterator

import matplotlib.colors
import matplotlib.figure
from matplotlib.artist import Artist
from matplotlib.axis import Axis, Tick
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import Collection
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from ferkit.plots.house import EMOTION_COLOURS, PAGE_INCHES, style

SMALLEST_POINTS = 9.0
TOUCH = 1.5  # px by which two texts must overlap in both directions: their boxes are a little larger than their letters


def problems(figure: matplotlib.figure.Figure) -> list[str]:
    """Return sentences about what a reader cannot read: small text, texts over each other or cut off,
    emotion colours misused.

    A figure wider than the page (8 inches) is shown smaller, and its text with it: at least 9 points must be left. A
    colour of `EMOTION_COLOURS` may stand in a figure only where a text names its emotion.
    """
    with style():
        FigureCanvasAgg(figure)  # one that can measure text
        figure.draw_without_rendering()
        texts = [(text, text.get_window_extent()) for text in _texts(figure)]
    shrunk = min(1.0, PAGE_INCHES / figure.get_figwidth())
    found = []
    for text, box in texts:
        if (points := float(text.get_fontsize()) * shrunk) < SMALLEST_POINTS - 0.01:
            found.append(
                f"{_quoted(text)} has {points:.1f} points at page width; at least {SMALLEST_POINTS:g} are needed"
            )
        edge = figure.bbox
        if box.x0 < edge.x0 - TOUCH or box.y0 < edge.y0 - TOUCH or box.x1 > edge.x1 + TOUCH or box.y1 > edge.y1 + TOUCH:
            found.append(f"{_quoted(text)} runs off the edge of the figure")
    for i, (one, first) in enumerate(texts):
        for other, second in texts[i + 1 :]:
            if _overlap(first, second) and not _slanted_alike(one, other):
                found.append(f"{_quoted(one)} and {_quoted(other)} overlap")
    said = " ".join(text.get_text().lower() for text, _ in texts)
    for name, value in EMOTION_COLOURS.items():
        if name not in said and value in _colours(figure):
            found.append(f"the colour of {name} ({value}) is used where no text names {name}; take plots.COLOURS")
    return list(dict.fromkeys(found))


def _texts(figure: matplotlib.figure.Figure) -> list[Text]:
    """The texts that are drawn: of tick labels only those at ticks inside their axis."""
    ticks = {label for tick in figure.findobj(Tick) for label in (tick.label1, tick.label2)}  # more than are in use
    drawn: set[Artist] = set()
    for axis in (axis for axis in figure.findobj(Axis) if axis.axes.axison and _shown(axis)):
        low, high = sorted(axis.get_view_interval())
        slack = 1e-9 * (high - low)
        for tick in [*axis.get_major_ticks(), *axis.get_minor_ticks()]:
            if low - slack <= tick.get_loc() <= high + slack:
                drawn |= {tick.label1, tick.label2}
    off = {text for axis in figure.findobj(Axis) if not axis.axes.axison for text in (axis.label, axis.offsetText)}
    texts = [text for text in figure.findobj(Text) if text not in off and (text not in ticks or text in drawn)]
    return [text for text in texts if text.get_text().strip() and _shown(text)]


def _shown(artist: Artist) -> bool:
    return artist.get_visible() and (artist.axes is None or artist.axes.get_visible())


def _overlap(one: Bbox, other: Bbox) -> bool:
    wide = min(one.x1, other.x1) - max(one.x0, other.x0)
    high = min(one.y1, other.y1) - max(one.y0, other.y0)
    return wide > TOUCH and high > TOUCH


def _slanted_alike(one: Text, other: Text) -> bool:
    """Texts side by side at one slant: their upright boxes overlap where they do not."""
    return one.get_rotation() == other.get_rotation() and not math.isclose(one.get_rotation() % 90, 0, abs_tol=1e-6)


def _quoted(text: Text) -> str:
    return repr(" ".join(text.get_text().split()))


def _colours(figure: matplotlib.figure.Figure) -> set[str]:
    """The colours of lines, areas and points, as #RRGGBB."""

    def values() -> Iterator[object]:
        for line in figure.findobj(Line2D):
            yield from (
                (line.get_color(), line.get_markerfacecolor(), line.get_markeredgecolor()) if _shown(line) else ()
            )
        for patch in figure.findobj(Patch):
            yield from (patch.get_facecolor(), patch.get_edgecolor()) if _shown(patch) else ()
        for many in figure.findobj(Collection):
            yield from (
                [*many.get_facecolor(), *many.get_edgecolor()] if _shown(many) and many.get_array() is None else ()
            )

    return {
        matplotlib.colors.to_hex(value).upper()  # type: ignore[arg-type]
        for value in values()
        if not (isinstance(value, str) and value.lower() == "none")
    }
