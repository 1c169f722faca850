"""The house style: colours, fonts, a Figure that shows itself, and the few drawing helpers that the figures share."""

import io
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeVar

import matplotlib
import matplotlib.figure
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.colors import hsv_to_rgb, to_hex
from PIL import Image
from torch import Tensor

from ferkit.labels import EMOTIONS

F = TypeVar("F", bound=Callable[..., Any])

#: One fixed colour per emotion. Any two differ by at least 20 (CIEDE2000) for normal vision and for protan-, deuteran-
#: and tritanopia (Machado et al. 2009); found by search, checked in tests.
EMOTION_COLOURS = dict(
    zip(
        EMOTIONS,
        ("#BDBDBD", "#FFAC14", "#063B4A", "#61A0FF", "#9034BD", "#607C70", "#C64D0B", "#730414"),
        strict=True,
    )
)
#: Series that are not emotions, in this order. Each differs by at least 17 from the others (for any colour vision, as
#: above) and from every colour of an emotion, so that those mean emotions and nothing else.
COLOURS = ("#2D5AC3", "#C34B78", "#1EA52D", "#A587D2", "#4B2D00", "#2D2D3C")

_own_colours: dict[str, str] = {}

STYLE: Any = {
    "axes.axisbelow": True,
    "axes.edgecolor": "#808080",
    "axes.prop_cycle": cycler(color=COLOURS),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "figure.dpi": 100,
    "figure.facecolor": "white",
    "figure.titlesize": 11,
    "font.family": "DejaVu Sans",  # comes with matplotlib, so figures look the same everywhere
    "font.size": 9,
    "grid.color": "#E4E4E4",
    "image.interpolation": "nearest",
    "legend.frameon": False,
    "savefig.dpi": 100,
    "xtick.color": "#404040",
    "ytick.color": "#404040",
}


#: The column of text in JupyterLab, on GitHub and in the book: about 800 px, at the 100 per inch of `to_png`.
PAGE_INCHES = 8.0


class Figure(matplotlib.figure.Figure):
    """A matplotlib Figure that shows itself in a notebook, also where pyplot was never imported."""

    def _repr_png_(self) -> bytes:
        return to_png(self)


def forget(figure: matplotlib.figure.Figure) -> None:
    """Close a figure made by pyplot, which would be shown a second time at the end of its cell."""
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close(figure)


def style() -> AbstractContextManager:
    """Return a context in house style, for figures drawn by hand: ``with style(): ...``.

    The functions of this package use it by themselves.
    """
    return matplotlib.rc_context(STYLE)


def styled(function: F) -> F:
    """Decorate a function so that it draws in house style, whatever the caller's rcParams say."""
    return matplotlib.rc_context(STYLE)(function)


def to_png(figure: matplotlib.figure.Figure, *, small: bool = True) -> bytes:
    """Return the figure as PNG, at 100 dots per inch; the same figure gives the same bytes.

    `small`: in 256 colours, the figure's own: a notebook full of figures stays a third of its size, and nobody sees it.
    A picture that only a live control shows need not be small, and is drawn in half the time.
    """
    drawn = io.BytesIO()
    with style():
        figure.savefig(drawn, format="png", pil_kwargs={} if small else {"compress_level": 1})
    if not small:
        return drawn.getvalue()
    return in_few_colours(Image.open(drawn))


def in_few_colours(image: Image.Image) -> bytes:
    """Return a picture as PNG in its own 256 colours."""
    buffer = io.BytesIO()
    few = image.convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=4, dither=Image.Dither.NONE)
    few.save(buffer, "png", optimize=True)
    return buffer.getvalue()


def colour(name: str) -> str:
    """Return the fixed colour of an emotion;
    for a class of one's own a colour that no other class has had in this session.
    """
    if name in EMOTION_COLOURS:
        return EMOTION_COLOURS[name]
    if name not in _own_colours:
        n = len(_own_colours)
        # after the six, hues a golden section apart, which stay apart however many there are
        _own_colours[name] = (
            COLOURS[n] if n < len(COLOURS) else to_hex(tuple(hsv_to_rgb((n * 0.618034 % 1, 0.55, 0.75)).tolist()))
        )
    return _own_colours[name]


def new_figure(
    rows: int,
    columns: int,
    inches: tuple[float, float],
    *,
    sharex: bool = False,
    sharey: bool = False,
    widths: Sequence[float] | None = None,
    heights: Sequence[float] | None = None,
) -> tuple[Figure, np.ndarray]:
    """Return a Figure of `inches` and its axes (rows, columns)."""
    figure = Figure(figsize=inches, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.07, h_pad=0.06)  # type: ignore[union-attr, call-arg]
    axes = figure.subplots(
        rows,
        columns,
        squeeze=False,
        sharex=sharex,
        sharey=sharey,
        width_ratios=widths if columns > 1 else None,
        height_ratios=heights if rows > 1 else None,
    )
    return figure, axes


def barh(
    ax: Axes,
    names: Sequence[str],
    values: Sequence[float] | np.ndarray,
    texts: Sequence[str],
    colours: Sequence[str],
    *,
    limit: float | None = None,
    at_end: bool = False,
) -> None:
    """Draw horizontal bars, the first on top, each with a text behind it (or behind the axis' end)."""
    ax.barh(range(len(names)), values, color=colours, height=0.72)
    top = limit or max([*values, 1e-12])
    for i, (value, text) in enumerate(zip(values, texts, strict=True)):
        ax.annotate(
            text, (top if at_end else value, i), xytext=(4, 0), textcoords="offset points", va="center", fontsize=9
        )
    ax.set_yticks(range(len(names)), names)
    ax.set(ylim=(len(names) - 0.4, -0.6), xlim=(0, top * (1 if at_end else 1.18 if limit else 1.6)))
    ax.tick_params(axis="y", length=0)
    if limit is None:
        ax.set_xticks([])
        ax.spines["bottom"].set_visible(False)
    else:
        ax.spines["bottom"].set_bounds(0, limit)  # the room behind it is for the texts


def picture(image: Any) -> np.ndarray:
    """Return (H, W), (1, H, W), (3, H, W) or (H, W, 3) as something imshow takes."""
    array = np.asarray(image.detach().cpu() if isinstance(image, Tensor) else image)
    if array.ndim == 3 and array.shape[0] in (1, 3) and array.shape[2] != 3:
        array = array.transpose(1, 2, 0)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    check(
        array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3),
        "a picture (H, W), (C, H, W) or (H, W, 3)",
        array.shape,
    )
    return array


def show(ax: Axes, image: Any) -> None:
    """Draw a picture without ticks and frame; grey values are shown as they are, not stretched."""
    array = picture(image)
    ax.imshow(array, cmap="gray", vmin=0, vmax=255 if array.dtype == np.uint8 else 1)
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)


def show_heat(ax: Axes, image: Any, heat: np.ndarray, opacity: float) -> Any:
    """Draw a heat map (H, W) in [0, 1] over its picture, clearer where it is hotter."""
    check(
        np.shape(heat) == picture(image).shape[:2],
        f"a heat map of the picture's size {picture(image).shape[:2]}",
        np.shape(heat),
    )
    show(ax, image)
    return ax.imshow(heat, cmap="inferno", vmin=0, vmax=1, alpha=np.clip(np.asarray(heat) * 1.5, 0.15, 1) * opacity)


def check(fits: bool, expected: str, found: Any) -> None:
    """Raise ValueError in the project's words unless `fits`."""
    if not fits:
        raise ValueError(f"expected {expected}, found {found}")


def short(value: float) -> str:
    """Return 1234567 as "1.23 M"."""
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:g}"
