"""Film strips: contrasting states of one picture side by side, for those who cannot move its controls."""

from __future__ import annotations

import html
import io
from collections.abc import Mapping, Sequence

import matplotlib
from PIL import Image, ImageDraw, ImageFont

from ferkit import plots

DPI = 100  # of `plots.to_png`
GAP = 16  # px between frames
HEAD = 30  # px for the label above a frame
POINTS = 10


class Frames:
    """PNG pictures under their labels, in as many rows as the page's width asks for; no frame is made smaller."""

    def __init__(self, pictures: Mapping[str, bytes], problems: Sequence[str] = ()) -> None:
        """`problems`: what `plots.problems` says of the single frames."""
        self._frames = [(label, Image.open(io.BytesIO(png)).convert("RGB")) for label, png in pictures.items()]
        self._problems = list(problems)
        self._font = ImageFont.truetype(
            f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans-Bold.ttf", POINTS * DPI / 72
        )

    def rows(self) -> list[list[tuple[str, Image.Image]]]:
        """The frames as they are laid out."""
        rows: list[list[tuple[str, Image.Image]]] = [[]]
        for label, frame in self._frames:
            if rows[-1] and sum(f.width + GAP for _, f in rows[-1]) + frame.width > plots.PAGE_INCHES * DPI:
                rows.append([])
            rows[-1].append((label, frame))
        return rows

    def problems(self) -> list[str]:
        """What a reader cannot read: as of the frames, and labels that are wider than their frame."""
        wide = [label for label, frame in self._frames if self._font.getlength(label) > frame.width]
        return self._problems + [f"the label {label!r} is wider than its frame" for label in wide]

    def _repr_png_(self) -> bytes:
        rows = self.rows()
        heights = [HEAD + max(f.height for _, f in row) for row in rows]
        whole = Image.new("RGB", (max(sum(f.width + GAP for _, f in row) - GAP for row in rows), sum(heights)), "white")
        pen, top = ImageDraw.Draw(whole), 0
        for row, height in zip(rows, heights, strict=True):
            left = 0
            for label, frame in row:
                pen.text((left + 4, top + 8), label, fill="#202020", font=self._font)
                whole.paste(frame, (left, top + HEAD))
                left += frame.width + GAP
            top += height
        return plots.in_few_colours(whole)


class Cells:
    """Pieces of HTML under their labels, side by side."""

    def __init__(self, pieces: Mapping[str, str]) -> None:
        self._pieces = pieces

    def _repr_html_(self) -> str:
        cells = [
            f'<td style="vertical-align:top;text-align:left"><b>{html.escape(k)}</b><br>{v}</td>'
            for k, v in self._pieces.items()
        ]
        return f"<table><tbody><tr>{''.join(cells)}</tr></tbody></table>"
