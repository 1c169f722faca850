"""Live controls over plain functions. The only importer of ipywidgets.

Every widget here is `explore` over a function that takes values and returns a figure, so each is also usable, and tested,
without a browser. A reader on GitHub sees the first picture; in JupyterLab the controls below it redraw it.
"""

import html
import inspect
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple

import ipywidgets
import matplotlib.figure
import numpy as np
from IPython.display import HTML, Image, display
from ipywidgets import interactive
from torch import Tensor

from ferkit import plots
from ferkit.data.transforms import as_batch
from ferkit.explain import METHODS, cam
from ferkit.models import FerModel, summarise
from ferkit.papers.arithmetic import minimal_cross_entropy, reachable
from ferkit.plots.house import COLOURS, new_figure, styled
from ferkit.predict import predict_probabilities


class _Shown(NamedTuple):
    """What a function's result looks like: PNG bytes, or HTML."""

    png: bytes = b""
    html: str = ""


class _Panel(ipywidgets.VBox):
    """Controls whose text fallback, which GitHub prints, is a sentence and not a dump of widgets."""

    def __repr__(self) -> str:
        return "(Live controls: run this notebook in JupyterLab.)"


def explore(fn: Callable[..., Any], **controls: Any) -> None:
    """Show `fn` at its initial values as a plain picture, and below it controls that redraw it.

    Args:
        fn: called with one keyword per control; returns a Figure, or an object that has an HTML or PNG representation.
        controls: as in ipywidgets.interact: (min, max) or (min, max, step), a list or dict of options, a bool, a number, a
            text, or a widget. Where `fn` gives a parameter a default, that is the initial value.

    The picture is an ordinary output, so it is there without a running kernel; at the first change the live one takes its
    place. An error of `fn` at its initial values is raised. Later ones are shown in one line below the picture, which
    stays, and the controls stay usable. With the environment variable FERKIT_WIDGETS=sweep, which tests set, `fn` is also
    called once for every option of every control, the others at their initial values, and its errors are raised.

    Raises:
        ValueError: something that is no control, or a function that returns nothing to show.

    """
    boxes = {name: _control(fn, name, value) for name, value in controls.items()}
    first = _render(fn(**{name: box.value for name, box in boxes.items()}))
    if os.environ.get("FERKIT_WIDGETS") == "sweep":
        for values in sweep_values(boxes):
            _render(fn(**values))
    static = display(Image(data=first.png) if first.png else HTML(first.html), display_id=True)
    display(_panel(fn, boxes, static))


def sweep_values(boxes: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every option of every control once, the others at their present values; of a long slider, nine positions."""
    initial = {name: box.value for name, box in boxes.items()}
    return [{**initial, name: option} for name, box in boxes.items() for option in _options(box)]


def _panel(fn: Callable[..., Any], boxes: Mapping[str, Any], static: Any) -> _Panel:
    picture = ipywidgets.Image(format="png", layout=ipywidgets.Layout(display="none", width="max-content"))
    text = ipywidgets.HTML(layout=ipywidgets.Layout(display="none"))
    note = ipywidgets.HTML()

    def redraw(_: Any) -> None:
        note.value = "<i>working …</i>"
        try:
            shown = _render(fn(**{name: box.value for name, box in boxes.items()}))
        except Exception as error:
            said = (str(error).strip() or "no message").splitlines()[0]
            note.value = f'<span style="color:#B00020">{type(error).__name__}: {html.escape(said)}</span>'
            return
        note.value = ""
        picture.value, text.value = shown.png, shown.html
        picture.layout.display = "block" if shown.png else "none"
        text.layout.display = "block" if shown.html else "none"
        if static is not None:
            static.update(HTML(""))  # the live picture stands in its place from now on

    for box in boxes.values():
        box.observe(redraw, names="value")
    row = ipywidgets.HBox(list(boxes.values()), layout=ipywidgets.Layout(flex_flow="row wrap"))
    return _Panel([picture, text, note, row])


def _control(fn: Callable[..., Any], name: str, value: Any) -> Any:
    parameter = inspect.signature(fn).parameters.get(name)
    default = inspect.Parameter.empty if parameter is None else parameter.default
    box = interactive.widget_from_abbrev(value, default)
    if not isinstance(box, ipywidgets.ValueWidget):
        raise ValueError(
            f"control {name!r}: expected (min, max), (min, max, step), a list or dict of options, a bool, a number, a text "
            f"or a widget, found {value!r}"
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


def _render(result: Any) -> _Shown:
    if isinstance(result, matplotlib.figure.Figure):
        if "matplotlib.pyplot" in sys.modules:
            sys.modules["matplotlib.pyplot"].close(result)  # a figure made by pyplot would be shown a second time
        return _Shown(png=plots.to_png(result))
    if hasattr(result, "_repr_html_"):
        return _Shown(html=result._repr_html_())
    if hasattr(result, "_repr_png_"):
        return _Shown(png=result._repr_png_())
    raise ValueError(f"expected a figure or something with an HTML form, found {type(result).__name__}; return the figure")


# -- where does it look? -----------------------------------------------------------------------------------------------


def cam_figure(
    model: FerModel,
    picture: np.ndarray | Tensor,
    *,
    target: str = "predicted",
    layer: str | None = None,
    method: str = "gradcam",
    opacity: float = 0.6,
    name: str = "",
) -> plots.Figure:
    """One picture beside its heat map, with the class and its probability. `picture` is uint8 (H, W) or (C, H, W)."""
    batch = as_batch(picture[None])
    probabilities = predict_probabilities(model, batch)[0]
    index = int(probabilities.argmax()) if target == "predicted" else model.labels.index(target)
    heat = cam(model, batch, target=index, layer=layer, method=method)[0]
    what = "the strongest pattern" if method == "eigencam" else f"{model.labels[index]} ({probabilities[index]:.0%})"
    title = f"{name + ': ' if name else ''}{what}, {method} at {layer or model.cam_layer(model.input_size)}"
    if not heat.any():
        title += "\nno contrast: nothing here speaks for this class, or the map has one place only"
    return plots.overlay(batch[0], heat, opacity=opacity, title=title)


def map_layers(model: FerModel) -> list[str]:
    """Direct submodules whose output is a map with more than one place, in the order they run."""
    return [r.name for r in summarise(model) if len(r.shape) == 3 and r.shape[1] * r.shape[2] > 1]


def cam_explorer(model: FerModel, images: np.ndarray | Tensor, names: Sequence[str]) -> None:
    """Choose picture, class, layer, method and opacity; `images` as in `cam`, one name (say, the true class) for each."""
    if len(images) != len(names):
        raise ValueError(f"expected one name per picture, found {len(images)} pictures and {len(names)} names")

    def draw(image: int, target: str, layer: str, method: str, opacity: float) -> plots.Figure:
        return cam_figure(model, images[image], target=target, layer=layer, method=method, opacity=opacity, name=names[image])

    layers = map_layers(model)
    default = model.cam_layer(model.input_size)
    explore(
        draw,
        image=ipywidgets.Dropdown(options=[(f"{i}: {name}", i) for i, name in enumerate(names)]),
        target=["predicted", *model.labels],
        layer=ipywidgets.Dropdown(options=layers, value=default if default in layers else layers[-1]),
        method=list(METHODS),
        opacity=ipywidgets.FloatSlider(value=0.6, min=0, max=1, step=0.1),
    )


# -- can this number be true? ------------------------------------------------------------------------------------------


@styled
def claim_figure(percent: str, n: int, loss: str = "") -> plots.Figure:
    """Which numbers k of correct answers out of n would be printed as `percent`, and the least cross entropy they allow.

    Args:
        percent: as printed, "79.79"; the decimals count.
        n: number of test images.
        loss: a printed mean cross entropy in nats to compare, or "".

    """
    printed = _number(percent, "a percentage as printed, such as 79.79")
    decimals = max(0, -int(printed.as_tuple().exponent))
    hits = reachable(percent.strip(), n, decimals)
    unit, value = 10.0**-decimals, float(printed)
    least = minimal_cross_entropy(value / 100)
    figure, axes = new_figure(1, 1, (7.2, 2.5))
    ax = axes[0, 0]
    ax.axvspan(value - unit / 2, value + unit / 2, color=COLOURS[0], alpha=0.25, linewidth=0, label="rounded to it")
    ax.axvspan(value, value + unit, ymax=0.45, color=COLOURS[4], alpha=0.35, linewidth=0, label="cut off to it")
    middle = round(value * n / 100)
    reach = max(2, min(8, round(unit * n / 100) + 1))
    fits = {k for k, _ in hits}
    for k in range(max(0, middle - reach), min(n, middle + reach) + 1):
        ax.plot(100 * k / n, 0.5, "o", color=COLOURS[1] if k in fits else "#909090")
        ax.annotate(f"{k}", (100 * k / n, 0.5), xytext=(0, 6), textcoords="offset points", ha="center", fontsize=7.5)
    ax.set(ylim=(0, 1), yticks=[], xlabel=f"100 · k / {n:,}")
    ax.ticklabel_format(axis="x", useOffset=False)
    ax.spines["left"].set_visible(False)
    figure.legend(loc="outside right upper", fontsize=7.5)
    ways = []
    for how in ("rounded", "truncated"):
        ks = [k for k, way in hits if way == how]
        ways += [f"k = {ks[0]:,}{f' to {ks[-1]:,}' if len(ks) > 1 else ''} ({how})"] if ks else []
    title = f"{percent.strip()} % of {n:,}: {', '.join(ways) or 'no k gives this number'}"
    title += f"\nWrong answers cost ln 2 at least, so the mean cross entropy is at least {least:.4f} nats"
    if loss.strip():
        stated = float(_number(loss, "a mean cross entropy in nats, such as 0.12"))
        title += f": {stated:g} is {'possible' if stated >= least else 'too small'}"
    ax.set_title(title, fontsize=9.5)
    return figure


def claim_checker(*, percent: str, n: int, loss: str = "") -> None:
    """Type an accuracy and a number of test images, and see whether they can belong together (see `claim_figure`)."""
    explore(
        claim_figure,
        percent=ipywidgets.Text(percent, description="accuracy in %"),
        n=ipywidgets.BoundedIntText(n, min=1, max=10_000_000, description="test images"),
        loss=ipywidgets.Text(loss, description="mean cross entropy", placeholder="nats, or empty"),
    )


def _number(text: str, expected: str) -> Decimal:
    try:
        number = Decimal(text.strip())
    except InvalidOperation:
        number = Decimal("nan")
    if not number.is_finite():
        raise ValueError(f"expected {expected}, found {text!r}")
    return number


# -- where are the parameters? -----------------------------------------------------------------------------------------


def architecture_figure(model: FerModel, size: int, *, title: str = "") -> plots.Figure:
    """Shapes, parameters and multiply-adds of each stage for a picture of `size` pixels; models on the meta device will do."""
    return plots.stage_bars(summarise(model, size), title=f"{title or type(model).__name__}, {size} x {size} pixels")


def architecture_explorer(models: Mapping[str, FerModel], *, sizes: Sequence[int] = (48, 64, 100, 224)) -> None:
    """Choose a network, by the names given, and an input size."""

    def draw(network: str, size: int) -> plots.Figure:
        return architecture_figure(models[network], size, title=network)

    first = next(iter(models.values())).input_size
    explore(draw, network=list(models), size=ipywidgets.SelectionSlider(options=sizes, value=first if first in sizes else sizes[0]))
