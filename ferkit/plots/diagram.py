"""Diagrams of networks: boxes in a row, branches that fan out, gates that multiply, sums, skips, shapes on the arrows.

A diagram is parts in series, drawn from left to right, and parts in parallel, drawn one above the other:

    Diagram(
        Box("x", kind="data"), "64 × 48 × 48",                      # a text between two parts is written on their arrow
        Parallel(
            Skip(),                                                 # an arrow that does nothing
            Series(Box("pool"), Box("W₁"), Box("ReLU"), Box("W₂"), Box("σ", kind="gate")),
            join="×",                                               # the circle in which the branches meet
        ),
        Box("y", kind="data"),
    )

Drawn as SVG on a light ground of its own, so that it can be read on a dark page too. Sizes are in px.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from html import escape

import matplotlib
from PIL import ImageFont

from ferkit.plots.house import PAGE_INCHES

FONT_PX = 13.0  # 9.4 points at 100 px per inch
SMALL_PX = 12.5  # 9 points: shapes on arrows, notes
LINE = 17
GAP = 26  # length of an arrow without a text
APART = 14  # between branches
MARGIN = 12
RADIUS = 11  # of a join
INK, GROUND, FRAME = "#2D2D3C", "#FFFFFF", "#8A8A96"
#: What a box is, by colour: (inside, edge).
KINDS = {
    "layer": ("#E4EBFA", "#2D5AC3"),
    "gate": ("#FAE6ED", "#C34B78"),
    "pool": ("#E3F4E5", "#1E8A2A"),
    "head": ("#F0E9F8", "#7A55B0"),
    "data": ("#F3F3F3", "#6A6A76"),
}


@cache
def _font(size: float, bold: bool = False) -> ImageFont.FreeTypeFont:
    name = "DejaVuSans-Bold" if bold else "DejaVuSans"
    return ImageFont.truetype(f"{matplotlib.get_data_path()}/fonts/ttf/{name}.ttf", size)


def _wide(text: str, size: float = FONT_PX, bold: bool = False) -> float:
    return max(_font(size, bold).getlength(line) for line in text.split("\n"))


def _text(x: float, y: float, text: str, *, size: float = FONT_PX, bold: bool = False, ink: str = INK) -> str:
    """Lines of text centred on (x, y)."""
    lines = text.split("\n")
    top = y - LINE * (len(lines) - 1) / 2 + 0.36 * size
    weight = ' font-weight="bold"' if bold else ""
    return "".join(
        f'<text x="{x:.1f}" y="{top + LINE * i:.1f}" font-size="{size:g}" fill="{ink}" text-anchor="middle"{weight}>{escape(line)}</text>'
        for i, line in enumerate(lines)
    )


def _arrow(*points: tuple[float, float], head: bool = True) -> str:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    end = ' marker-end="url(#head)"' if head else ""
    return f'<polyline points="{path}" fill="none" stroke="{INK}" stroke-width="1.4"{end}/>'
