"""Diagrams of networks: boxes in a row, branches that fan out, gates that multiply, sums, skips, shapes on the arrows.

A diagram is made of parts in series, drawn from left to right, and parts in parallel, drawn one above the other:

    Diagram(
        Box("x", kind="data"), "64 × 48 × 48",                      # a text between two parts stands on their arrow
        Parallel(
            Skip(),                                                 # a line on which nothing happens
            Series(Box("pool"), Box("W₁"), Box("ReLU"), Box("W₂"), Box("σ", kind="gate")),
            join="×",                                               # the circle in which the branches meet
        ),
        Box("y", kind="data"),
    )

It is SVG on a light ground of its own, so that it can be read on a dark page too. Sizes are in px, 100 per inch.
"""

from __future__ import annotations

from functools import cache
from html import escape

import matplotlib
from PIL import ImageFont

from ferkit.plots.house import PAGE_INCHES, check

TEXT = 13.0  # 9.4 points
SMALL = 12.5  # 9 points: shapes on arrows, notes
LINE = 17  # from line to line
GAP = 20  # an arrow without a text
LEAD = 20  # from a fork to its branches, and from them to the join
APART = 16  # between branches
MARGIN = 12
RADIUS = 11  # of a join
INK, GROUND, FRAME = "#2D2D3C", "#FFFFFF", "#8A8A96"
#: What a box is, by colour: (inside, edge). No colours of emotions.
KINDS = {
    "layer": ("#E4EBFA", "#2D5AC3"),
    "gate": ("#FAE6ED", "#C34B78"),
    "pool": ("#E3F4E5", "#1E8A2A"),
    "head": ("#F0E9F8", "#7A55B0"),
    "data": ("#F3F3F3", "#6A6A76"),
}


@cache
def _font(size: float, bold: bool) -> ImageFont.FreeTypeFont:
    name = "DejaVuSans-Bold" if bold else "DejaVuSans"
    return ImageFont.truetype(f"{matplotlib.get_data_path()}/fonts/ttf/{name}.ttf", size)


def _wide(text: str, size: float = TEXT, bold: bool = False) -> float:
    return max(_font(size, bold).getlength(line) for line in text.split("\n"))


def _text(x: float, y: float, text: str, *, size: float = TEXT, bold: bool = False, anchor: str = "middle") -> str:
    """Lines of text, the block centred on height y."""
    lines = text.split("\n")
    first = y - LINE * (len(lines) - 1) / 2 + 0.36 * size
    style = f'font-size="{size:g}" text-anchor="{anchor}" fill="{INK}"' + (' font-weight="bold"' if bold else "")
    return "".join(
        f'<text x="{x:.1f}" y="{first + LINE * i:.1f}" {style}>{escape(line)}</text>' for i, line in enumerate(lines)
    )


def _line(*points: tuple[float, float], head: bool = False) -> str:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    end = ' marker-end="url(#head)"' if head else ""
    return f'<polyline points="{path}" fill="none" stroke="{INK}" stroke-width="1.4"{end}/>'


class Part:
    """Something with one way in, at the left of its middle line, and one way out, at the right."""

    width = 0.0  # from the way in to the way out
    up = 0.0  # above the middle line
    down = 0.0  # below it
    head = False  # whether the arrow that leads here ends in a head

    def draw(self, x: float, y: float, width: float) -> str:
        """Return SVG with the way in at (x, y) and the way out at (x + width, y); `width` is at least the part's own.
        """
        raise NotImplementedError


class Box(Part):
    """A layer, gate or piece of data: its name inside (lines separated by a line break), a note below."""

    head = True

    def __init__(self, text: str, *, kind: str = "layer", note: str = "") -> None:
        check(kind in KINDS, f"a kind of box among {', '.join(KINDS)}", repr(kind))
        self.text, self.kind, self.note = text, kind, note
        self.width = max(_wide(text) + 16, 34, _wide(note, SMALL))
        self.up = (LINE * (text.count("\n") + 1) + 14) / 2
        self.down = self.up + (LINE * (note.count("\n") + 1) + 3 if note else 0)

    def draw(self, x: float, y: float, width: float) -> str:
        """Return its SVG, see `Part`; a box keeps its width and a line leads on."""
        inside, edge = KINDS[self.kind]
        box = (
            f'<rect x="{x:.1f}" y="{y - self.up:.1f}" width="{self.width:.1f}" height="{2 * self.up:.1f}" rx="5" '
            f'fill="{inside}" stroke="{edge}" stroke-width="1.4"/>'
        )
        note = _text(x + self.width / 2, y + (self.up + self.down) / 2 + 1, self.note, size=SMALL) if self.note else ""
        rest = _line((x + self.width, y), (x + width, y)) if width > self.width else ""
        return box + _text(x + self.width / 2, y, self.text) + note + rest


class Skip(Part):
    """A line on which nothing happens, with a text above it."""

    def __init__(self, text: str = "") -> None:
        self.text = text
        self.width = _wide(text, SMALL) + 12 if text else GAP
        self.up, self.down = (LINE + 6 if text else 4), 4

    def draw(self, x: float, y: float, width: float) -> str:
        """Return its SVG, see `Part`."""
        return _line((x, y), (x + width, y)) + (
            _text(x + width / 2, y - 11, self.text, size=SMALL) if self.text else ""
        )


class Series(Part):
    """Parts joined by arrows; a text between two of them stands on their arrow (a second line of it below)."""

    def __init__(self, *parts: Part | str) -> None:
        self.parts: list[Part] = []
        self.texts: list[str] = []  # on the arrow before each part
        text = ""
        for part in parts:
            if isinstance(part, str):
                text = part
            else:
                self.parts.append(part)
                self.texts.append(text)
                text = ""
        self.out = text  # on the line behind the last
        self.ends = False  # whether that line is an arrow out of the diagram
        check(len(self.parts) > 0, "at least one part that is no text", "none")
        self.arrows = [self._length(t) if t or i else 0.0 for i, t in enumerate(self.texts)]
        self.head = self.parts[0].head or self.arrows[0] > 0
        self.width = sum(p.width for p in self.parts) + sum(self.arrows) + (self._length(self.out) if self.out else 0)
        named = [t for t in [*self.texts, self.out] if t]
        self.up = max(*(p.up for p in self.parts), LINE + 6 if named else 0)
        self.down = max(*(p.down for p in self.parts), LINE + 6 if any("\n" in t for t in named) else 0)

    @staticmethod
    def _length(text: str) -> float:
        return max(GAP, _wide(text, SMALL) + 16) if text else GAP

    @staticmethod
    def _arrow(x: float, y: float, length: float, text: str, head: bool) -> str:
        above, _, below = text.partition("\n")
        texts = [_text(x + length / 2 - 3, y + dy, t, size=SMALL) for t, dy in ((above, -11), (below, 12)) if t]
        return _line((x, y), (x + length, y), head=head) + "".join(texts)

    def draw(self, x: float, y: float, width: float) -> str:
        """Return its SVG, see `Part`; the last arrow or part reaches to the full width."""
        end, drawn = x + width, []
        for i, (part, length, text) in enumerate(zip(self.parts, self.arrows, self.texts, strict=True)):
            if length:
                drawn.append(self._arrow(x, y, length, text, part.head))
            x += length
            last = i == len(self.parts) - 1 and not self.out
            drawn.append(part.draw(x, y, end - x if last else part.width))
            x += part.width
        if self.out:
            drawn.append(self._arrow(x, y, end - x, self.out, head=self.ends))
        return "".join(drawn)


class Parallel(Part):
    """Branches from one point, one above the other, that meet in a sign ("+", "×", "max") or, without one, end apart.

    With a skip among them, the middle line follows the skip where the branches are multiplied (a gate lies beside what
    it scales), and the first other branch where they are added (a shortcut lies beside what it skips). Without one, it
    runs through the middle.
    """

    def __init__(self, *branches: Part, join: str | None = None) -> None:
        check(len(branches) > 1, "at least two branches", len(branches))
        self.branches, self.join = branches, join
        self.inner = max(b.width for b in branches)
        self.sign = max(2 * RADIUS, _wide(join) + 14) if join else 0.0
        self.width = 2 * LEAD + self.inner + self.sign if join else LEAD + self.inner
        self.at = self._heights()
        self.up = max(b.up - at for b, at in zip(branches, self.at, strict=True))
        self.down = max(b.down + at for b, at in zip(branches, self.at, strict=True))

    def _heights(self) -> list[float]:
        """Each branch's middle line, relative to the whole's."""
        at = [0.0]
        for above, below in zip(self.branches, self.branches[1:], strict=False):
            at.append(at[-1] + above.down + APART + below.up)
        skips = [i for i, b in enumerate(self.branches) if isinstance(b, Skip)]
        others = [i for i, b in enumerate(self.branches) if not isinstance(b, Skip)]
        through = (skips if self.join == "×" else others)[:1] if skips and others else []
        middle = at[through[0]] if through else (at[0] + at[-1]) / 2
        return [a - middle for a in at]

    def draw(self, x: float, y: float, width: float) -> str:
        """Return its SVG, see `Part`."""
        fork, start = x + 6, x + LEAD
        end = start + self.inner
        meet = end + LEAD + self.sign / 2
        drawn = [_line((x, y), (fork, y)), f'<circle cx="{fork:.1f}" cy="{y:.1f}" r="2.6" fill="{INK}"/>']
        for branch, at in zip(self.branches, self.at, strict=True):
            level = y + at
            drawn.append(_line((fork, y), (fork, level), (start, level), head=branch.head))
            drawn.append(branch.draw(start, level, self.inner if self.join else branch.width))
            if self.join:
                side = 0 if abs(at) < 1 else -1 if at < 0 else 1
                target = (meet - self.sign / 2, y) if side == 0 else (meet, y + side * RADIUS)
                drawn.append(_line((end, level), *([(meet, level)] if side else []), target, head=True))
        if self.join:
            drawn.append(
                f'<rect x="{meet - self.sign / 2:.1f}" y="{y - RADIUS}" width="{self.sign:.1f}" '
                f'height="{2 * RADIUS}" rx="{RADIUS}" fill="{GROUND}" stroke="{INK}" stroke-width="1.4"/>'
            )
            drawn.append(_text(meet, y, self.join, size=16 if len(self.join) == 1 else TEXT))
            if width > self.width:
                drawn.append(_line((x + self.width, y), (x + width, y)))
        return "".join(drawn)


class Frame(Part):
    """A dashed border with a title around a part: what the paper calls one block."""

    PAD = 10

    def __init__(self, title: str, *parts: Part | str) -> None:
        self.title, self.part = title, Series(*parts)
        self.width = max(self.part.width + 4 * self.PAD, _wide(title, SMALL, bold=True) + 2 * self.PAD)
        self.up, self.down = self.part.up + self.PAD + LINE + 4, self.part.down + self.PAD

    def draw(self, x: float, y: float, width: float) -> str:
        """Return its SVG, see `Part`."""
        left, top = x + self.PAD / 2, y - self.up
        border = (
            f'<rect x="{left:.1f}" y="{top:.1f}" width="{self.width - self.PAD:.1f}" '
            f'height="{self.up + self.down:.1f}" rx="8" fill="none" stroke="{FRAME}" stroke-dasharray="5 4"/>'
        )
        name = _text(left + 8, top + 13, self.title, size=SMALL, bold=True, anchor="start")
        inner = x + (self.width - self.part.width) / 2
        lines = _line((x, y), (inner, y), head=self.part.head) + _line((inner + self.part.width, y), (x + width, y))
        return border + name + lines + self.part.draw(inner, y, self.part.width)


class Diagram:
    """Parts in series on one or more rows; `Diagram.BREAK` between two parts begins a new row."""

    BREAK = "\f"

    def __init__(self, *parts: Part | str) -> None:
        rows: list[list[Part | str]] = [[]]
        for part in parts:
            if part == self.BREAK:
                rows.append([])
            else:
                rows[-1].append(part)
        self.rows = [Series(*row) for row in rows]
        self.rows[-1].ends = True
        turn = LEAD if len(rows) > 1 else 0  # room for the line that leads on to the next row
        self.width = max(r.width for r in self.rows) + 2 * MARGIN + 2 * turn
        self.height = sum(r.up + r.down for r in self.rows) + 2 * MARGIN + 2 * APART * (len(rows) - 1)

    def problems(self) -> list[str]:
        """Return what a reader cannot read; see `ferkit.plots.problems`."""
        most = 100 * PAGE_INCHES
        return (
            [f"the diagram is {self.width:.0f} px wide; the page has {most:.0f}: begin a new row with Diagram.BREAK"]
            if self.width > most
            else []
        )

    def _repr_svg_(self) -> str:
        turn = LEAD if len(self.rows) > 1 else 0
        left, y, drawn = MARGIN + turn, float(MARGIN), []
        for i, row in enumerate(self.rows):
            y += row.up
            drawn.append(row.draw(left, y, row.width))
            if i < len(self.rows) - 1:
                after = self.rows[i + 1]
                bend, between, below = (
                    left + row.width + turn / 2,
                    y + row.down + APART,
                    y + row.down + 2 * APART + after.up,
                )
                drawn.append(
                    _line(
                        (left + row.width, y),
                        (bend, y),
                        (bend, between),
                        (MARGIN, between),
                        (MARGIN, below),
                        (left, below),
                        head=after.head,
                    )
                )
            y += row.down + 2 * APART
        size = f'width="{self.width:.0f}" height="{self.height:.0f}" viewBox="0 0 {self.width:.1f} {self.height:.1f}"'
        head = (
            '<defs><marker id="head" markerWidth="9" markerHeight="8" refX="7.6" refY="4" orient="auto" '
            f'markerUnits="userSpaceOnUse"><path d="M0,0.6 L8,4 L0,7.4 z" fill="{INK}"/></marker></defs>'
        )
        ground = f'<rect width="100%" height="100%" rx="6" fill="{GROUND}"/>'
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" role="img" {size} font-family="DejaVu Sans, Verdana, '
            f'sans-serif">{head}{ground}{"".join(drawn)}</svg>'
        )
