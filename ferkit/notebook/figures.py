"""Figures and tables with number, caption and alt text, the same in JupyterLab, on GitHub and in the book.

The number is the chapter's, "Figure 10.3", in the order in which names are first shown. Running a cell again keeps it.
What the build and the tests need of a figure lies in the metadata of its output under "ferkit".
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from IPython.display import display

from ferkit.notebook.session import number_of

if TYPE_CHECKING:
    import pandas

NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


def figure(picture: Any, name: str, caption: str, alt: str) -> None:
    """Shows a picture with its number and caption: "**Figure 10.3.** Gates of three branches. ..."

    Args:
        picture: a matplotlib Figure, or anything else with an SVG, PNG or HTML representation, such as a `Diagram`.
        name: short and lower-case, such as "gates-by-branch"; the text refers to the figure as `{fig:gates-by-branch}`.
        caption: one or two sentences of Markdown that say what to see, not what was drawn.
        alt: what the picture shows, for those who cannot see it. nbconvert, GitHub and the book hand it on; JupyterLab
            4 shows it only where the picture cannot be drawn.

    Raises:
        ValueError: no chapter is set (`profile(..., chapter=10)`), the name is no such name, or a text is missing.
    """
    _check_words(name, caption, alt=alt)
    data, problems = _drawn(picture, name)
    note = {
        "kind": "figure",
        "name": name,
        "number": number_of("figure", name),
        "caption": caption,
        "alt": alt,
        "problems": problems,
    }
    mime = next(iter(data))
    display({**data, "text/plain": alt}, raw=True, metadata={mime: {"alt": alt}, "ferkit": note})
    _caption(note)


def table(
    frame: pandas.DataFrame,
    name: str,
    caption: str,
    *,
    formats: Mapping[str, str | Callable[[Any], str]] | str | None = None,
) -> None:
    """Shows a DataFrame below its number and caption: "**Table 10.1.** ..."; the text refers to it as `{tab:name}`.

    Args:
        frame: the rows in the order wanted; an index that only counts is left out.
        name: as of a `figure`.
        caption: as of a `figure`.
        formats: by column, or one for all, as pandas' Styler.format takes them: "{:.1%}", "{:,}". Without one, numbers
            have four digits and thousands are set apart. What is missing is a dash.

    Raises:
        ValueError: as `figure`.
    """
    import pandas

    _check_words(name, caption)
    left = [column for column in frame if not pandas.api.types.is_numeric_dtype(frame[column])]
    styled = frame.style.format(_plain, na_rep="–") if formats is None else frame.style.format(formats, na_rep="–")
    styled = styled.set_uuid(name).set_table_attributes('class="dataframe"')
    styled = styled.set_properties(subset=left, **{"text-align": "left"}).set_properties(**{"padding": "0.25em 0.8em"})
    styled = styled.set_table_styles([{"selector": "th", "props": "padding: 0.25em 0.8em; text-align: right"}])
    styled = styled.set_table_styles(
        {column: [{"selector": "th.col_heading", "props": "text-align: left"}] for column in left}, overwrite=False
    )
    if isinstance(frame.index, pandas.RangeIndex):
        styled = styled.hide(axis="index")
    note = {"kind": "table", "name": name, "number": number_of("table", name), "caption": caption}
    _caption(note)
    display({"text/html": styled.to_html(), "text/plain": str(frame)}, raw=True, metadata={"ferkit": note})


def numbered(cells: Iterable[Mapping[str, Any]], where: str) -> dict[str, str]:
    """The figures and tables among a notebook's cells: {"fig:gates": "Figure 10.3", "tab:cost": "Table 10.1"}.

    Raises ValueError, naming `where`, if two outputs have one name.
    """
    found: dict[str, str] = {}
    for cell in cells:
        for output in cell.get("outputs", []):
            note = output.get("metadata", {}).get("ferkit", {})
            if "kind" in note:
                key = f"{note['kind'][:3]}:{note['name']}"
                if key in found:
                    raise ValueError(f"{where} shows two of the name {key}; give each its own")
                found[key] = f"{note['kind'].capitalize()} {note['number']}"
    return found


def _drawn(picture: Any, name: str) -> tuple[dict[str, str], list[str]]:
    """A picture by its MIME type, and what `plots.problems` or its own `problems` says of it."""
    from matplotlib.figure import Figure  # here, so that reading records waits for neither this nor torch

    from ferkit import plots

    if isinstance(picture, Figure):
        problems, png = plots.problems(picture), plots.to_png(picture)
        plots.forget(picture)
        return {"image/png": base64.b64encode(png).decode()}, problems
    problems = picture.problems() if hasattr(picture, "problems") else []
    if hasattr(picture, "_repr_svg_"):
        return {"image/svg+xml": picture._repr_svg_()}, problems
    if hasattr(picture, "_repr_png_"):
        return {"image/png": base64.b64encode(picture._repr_png_()).decode()}, problems
    if hasattr(picture, "_repr_html_"):
        return {"text/html": picture._repr_html_()}, problems
    raise ValueError(f"figure {name}: expected a figure or something that draws itself, found {type(picture).__name__}")


def _caption(note: Mapping[str, Any]) -> None:
    label = f"{note['kind'].capitalize()} {note['number']}."
    words = {"text/markdown": f"**{label}** {note['caption']}", "text/plain": f"{label} {note['caption']}"}
    display(words, raw=True, metadata={"ferkit": {"caption_of": note["name"]}})


def _check_words(name: str, caption: str, **others: str) -> None:
    if not NAME.fullmatch(name):
        raise ValueError(
            f"expected a name of lower-case words joined by hyphens, such as 'gates-by-branch', found {name!r}"
        )
    for what, text in {"caption": caption, **others}.items():
        if len(text.split()) < 3:
            raise ValueError(f"{name}: expected a sentence as {what}, found {text!r}; say what there is to see")


def _plain(value: Any) -> str:
    """A cell without a format: counts with thousands set apart, other numbers with four digits, the rest as it is."""
    if isinstance(value, bool) or not hasattr(value, "__index__") and not hasattr(value, "__float__"):
        return str(value)
    return f"{value:,}" if hasattr(value, "__index__") else f"{value:,.4g}"
