"""explore(): pictures of a function of a few values first, then controls that redraw it."""

import html
import inspect
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import ipywidgets
import matplotlib.figure
import numpy as np
import traitlets
from IPython.display import HTML, Image, display
from ipywidgets import interactive

from ferkit import plots
from ferkit.notebook import figure
from ferkit.widgets.strips import Cells, Frames


class _Shown(NamedTuple):
    """What a function's result looks like: PNG bytes, or HTML."""

    png: bytes = b""
    html: str = ""


class Panel(ipywidgets.VBox):
    """The picture of a function, a line for its errors, and controls that redraw it.

    Its text fallback, which GitHub prints, is a sentence and not a dump of widgets.
    """

    def __init__(self, fn: Callable[..., Any], boxes: Mapping[str, Any], static: Any = None) -> None:
        """`static`: see `take_the_place_of`."""
        self._fn, self._boxes, self._static, self._held = fn, dict(boxes), static, False
        self._picture = ipywidgets.Image(format="png", layout=ipywidgets.Layout(display="none", width="max-content"))
        self._text = ipywidgets.HTML(layout=ipywidgets.Layout(display="none"))
        self._note = ipywidgets.HTML()
        for box in self._boxes.values():
            box.observe(self.redraw, names="value")
        row = ipywidgets.HBox(list(self._boxes.values()), layout=ipywidgets.Layout(flex_flow="row wrap"))
        super().__init__([self._picture, self._text, self._note, row])

    @property
    def png(self) -> bytes:
        """The live picture as it is shown; empty before the first redraw."""
        return bytes(self._picture.value)

    def take_the_place_of(self, static: Any) -> None:
        """Show nothing until the next redraw, which empties the output behind this display handle (None outside a
        notebook).
        """
        self._static, self._picture.layout.display = static, "none"

    def on_drawing(self, then: Callable[[], None]) -> None:
        """Call a function whenever the picture has changed."""
        self._picture.observe(lambda _: then(), names="value")

    @contextmanager
    def held(self) -> Iterator[None]:
        """While controls are set together: no redraw inside."""
        self._held = True
        try:
            yield
        finally:
            self._held = False

    def redraw(self, _: Any = None) -> None:
        """Call the function with the controls' values and show what it returns; an error is one line,
        and the picture stays.
        """
        if self._held:
            return
        self._note.value = "<i>working …</i>"
        try:
            shown = _render(self._fn(**{name: box.value for name, box in self._boxes.items()}), small=False)
        except Exception as error:
            said = (str(error).strip() or "no message").splitlines()[0]
            self._note.value = f'<span style="color:#B00020">{type(error).__name__}: {html.escape(said)}</span>'
            return
        self._note.value = ""
        self.show(shown)

    def show(self, shown: "_Shown") -> None:
        """Show this as the live picture."""
        self._picture.value, self._text.value = shown.png, shown.html
        self._picture.layout.display = "block" if shown.png else "none"
        self._text.layout.display = "block" if shown.html else "none"
        if self._static is not None:
            self._static.update(HTML(""))  # the live picture stands in its place from now on

    def __repr__(self) -> str:
        return "(Live controls: run this notebook in JupyterLab.)"


def explore(
    fn: Callable[..., Any],
    *,
    strip: Sequence[Mapping[str, Any]] = (),
    name: str = "",
    caption: str = "",
    alt: str = "",
    **controls: Any,
) -> None:
    """Show `fn` in contrasting states as a numbered figure, and below it controls that redraw it.

    Args:
        fn: called with one keyword per control; returns a Figure, or an object that has an HTML or PNG representation.
        controls: as in ipywidgets.interact: (min, max) or (min, max, step), a list or dict of options, a bool, a
            number, a text, or a widget. Where `fn` gives a parameter a default, that is the initial value.
        strip: two to four states that contrast, such as [{"gamma": 0.1}, {"gamma": 10}]; what a state leaves out is at
            its initial value. The text may speak of these states only: on paper and on GitHub there are no others.
        name, caption, alt: of the strip, as of `ferkit.notebook.figure`.

    The strip is an ordinary output, so it is there without a running kernel. Where no strip is given, `fn` at its
    initial values is shown in its place, until the first change. An error of `fn` at its initial values is raised.
    Later ones are shown in one line below the picture, which stays, and the controls stay usable. With the environment
    variable FERKIT_WIDGETS=sweep, which tests set, `fn` is also called once for every option of every control, the
    others at their initial values, and its errors are raised.

    Raises:
        ValueError: something that is no control, a state that the controls cannot reach, or a function that returns
            nothing to show.

    """
    boxes = controls_for(fn, controls)
    first = _render(fn(**{name: box.value for name, box in boxes.items()}))
    if os.environ.get("FERKIT_WIDGETS") == "sweep":
        for values in sweep_values(boxes):
            _render(fn(**values))
    if strip:
        figure(film_strip(fn, boxes, strip), name, caption, alt)
        panel = Panel(fn, boxes)
        panel.show(first)
    else:
        panel = Panel(fn, boxes, display(Image(data=first.png) if first.png else HTML(first.html), display_id=True))
    display(panel)


def film_strip(fn: Callable[..., Any], boxes: Mapping[str, Any], states: Sequence[Mapping[str, Any]]) -> Frames | Cells:
    """What `fn` draws in each state, under the state in words.

    Raises ValueError for a state the controls cannot reach.
    """
    if not 2 <= len(states) <= 4:
        raise ValueError(f"expected two to four states that contrast, found {len(states)}")
    shown: dict[str, _Shown] = {}
    problems: list[str] = []
    for state in states:
        if unknown := sorted(set(state) - set(boxes)):
            raise ValueError(f"the strip sets {unknown[0]!r}, which is no control; there are {', '.join(boxes)}")
        label = ", ".join(
            f"{boxes[name].description} = {_in_words(boxes[name], value)}" for name, value in state.items()
        )
        result = fn(**{name: state.get(name, box.value) for name, box in boxes.items()})
        problems += plots.problems(result) if isinstance(result, matplotlib.figure.Figure) else []
        shown[label] = _render(result)
    if all(frame.png for frame in shown.values()):
        return Frames({label: frame.png for label, frame in shown.items()}, list(dict.fromkeys(problems)))
    return Cells({label: frame.html for label, frame in shown.items()})


def _in_words(box: Any, value: Any) -> str:
    """How the control itself would show this value, which must be one it can have."""
    initial = box.value
    try:
        box.value = value
        if not np.all(np.isclose(box.value, value)) if isinstance(value, float) else box.value != value:
            raise ValueError
        shown = box.label if hasattr(box, "label") else box.value
    except (traitlets.TraitError, ValueError):
        raise ValueError(f"the strip sets {box.description!r} to {value!r}, which the control cannot have") from None
    finally:
        box.value = initial
    if isinstance(shown, bool):
        return "on" if shown else "off"
    return f"{shown:g}" if isinstance(shown, float) else str(shown)


def controls_for(fn: Callable[..., Any], controls: Mapping[str, Any]) -> dict[str, Any]:
    """Return a widget for each control, as `explore` describes them."""
    return {name: _control(fn, name, value) for name, value in controls.items()}


def sweep_values(boxes: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return every option of every control once, the others at their present values; of a long slider, nine positions.
    """
    initial = {name: box.value for name, box in boxes.items()}
    return [{**initial, name: option} for name, box in boxes.items() for option in _options(box)]


def _control(fn: Callable[..., Any], name: str, value: Any) -> Any:
    parameter = inspect.signature(fn).parameters.get(name)
    default = inspect.Parameter.empty if parameter is None else parameter.default
    box = interactive.widget_from_abbrev(value, default)
    if not isinstance(box, ipywidgets.ValueWidget):
        raise ValueError(
            f"control {name!r}: expected (min, max), (min, max, step), a list or dict of options, a bool, a number, "
            f"a text or a widget, found {value!r}"
        )
    box.description = box.description or name.replace("_", " ")
    box.style.description_width = "initial"
    if box.has_trait("continuous_update"):
        box.continuous_update = False  # otherwise every pixel of a drag would be computed
    return box


def _options(box: Any) -> list[Any]:
    if isinstance(box, ipywidgets.Checkbox | ipywidgets.ToggleButton):
        return [False, True]
    if hasattr(box, "options"):
        options = list(box.options.items() if isinstance(box.options, Mapping) else box.options)
        pairs = all(isinstance(o, tuple | list) and len(o) == 2 for o in options)
        values = [o[1] for o in options] if pairs else options
        return [(v,) for v in values] if isinstance(box.value, tuple) else values  # a tuple: a control for several
    if isinstance(box, ipywidgets.IntSlider):
        every = range(box.min, box.max + 1, box.step)
        return [every[i] for i in np.linspace(0, len(every) - 1, min(9, len(every))).round().astype(int)]
    if isinstance(box, ipywidgets.FloatSlider):
        steps = round((box.max - box.min) / box.step)
        return [box.min + box.step * int(i) for i in np.linspace(0, steps, min(9, steps + 1)).round()]
    return [box.value]


def _render(result: Any, *, small: bool = True) -> _Shown:
    if isinstance(result, matplotlib.figure.Figure):
        plots.forget(result)
        return _Shown(png=plots.to_png(result, small=small))
    if hasattr(result, "_repr_html_"):
        return _Shown(html=result._repr_html_())
    if hasattr(result, "_repr_png_"):
        return _Shown(png=result._repr_png_())
    raise ValueError(
        f"expected a figure or something with an HTML form, found {type(result).__name__}; return the figure"
    )
