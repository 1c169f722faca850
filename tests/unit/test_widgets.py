"""explore() and the widgets over it: plain functions on every option, the error path, the sweep."""

import io
from typing import Any

import ipywidgets
import numpy as np
import PIL.Image
import pytest
import torch
from IPython.display import HTML, Image

from ferkit import plots, widgets
from ferkit.explain import METHODS
from ferkit.models import FerModel, create_model
from ferkit.papers.arithmetic import reachable
from ferkit.widgets import controls


class Handle:
    """What IPython gives back for display(..., display_id=True)."""

    def __init__(self) -> None:
        self.updates: list[Any] = []

    def update(self, value: Any) -> None:
        self.updates.append(value)


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Everything that is displayed, in order; the handle of the static picture is its attribute `handle`."""
    record: list[Any] = []
    handle = Handle()

    def display(value: Any, display_id: bool = False) -> Handle | None:
        record.append(value)
        record.append(handle) if display_id else None
        return handle if display_id else None

    monkeypatch.setattr(controls, "display", display)
    monkeypatch.delenv("FERKIT_WIDGETS", raising=False)
    return record


@pytest.fixture(scope="module")
def model() -> FerModel:
    torch.manual_seed(0)
    return create_model("resemotenet", width=1 / 16, head="linear")


def dot(k: float = 1, **_: Any) -> plots.Figure:
    return plots.intervals([("x", k, k - 1, k + 1)])


def live_png(figure: plots.Figure) -> bytes:
    return plots.to_png(figure, small=False)


def parts(panel: Any) -> tuple[Any, Any, Any, list[Any]]:
    picture, text, note, row = panel.children
    return picture, text, note, list(row.children)


# -- explore -----------------------------------------------------------------------------------------------------------


def test_static_picture_first_then_controls(shown: list[Any]) -> None:
    assert widgets.explore(dot, k=(0, 4)) is None
    static, _, panel = shown
    assert isinstance(static, Image) and static.data == plots.to_png(dot(1))  # the function's default, not the middle
    assert "Live controls" in repr(panel) and len(repr(panel)) < 100
    picture, _, note, [slider] = parts(panel)
    assert picture.value == b"" and picture.layout.display == "none" and note.value == ""
    assert isinstance(slider, ipywidgets.IntSlider) and slider.continuous_update is False


def test_a_change_redraws_and_takes_the_static_pictures_place(shown: list[Any]) -> None:
    widgets.explore(dot, k=(0, 4))
    _, handle, panel = shown
    picture, _, _, [slider] = parts(panel)
    slider.value = 3
    assert picture.value == live_png(dot(3)) != live_png(dot(1))
    assert picture.layout.display == "block"
    assert handle.updates[0].data == ""


def test_a_failing_change_is_one_line_and_the_control_goes_on(shown: list[Any]) -> None:
    def draw(k: int = 1) -> plots.Figure:
        if k == 3:
            raise RuntimeError("no <b>three</b>\nsecond line")
        return dot(k)

    widgets.explore(draw, k=(0, 4))
    _, handle, panel = shown
    picture, _, note, [slider] = parts(panel)
    slider.value = 3
    assert "RuntimeError: no &lt;b&gt;three&lt;/b&gt;" in note.value and "second" not in note.value
    assert handle.updates == [] and picture.value == b""  # the picture stays
    slider.value = 2
    assert note.value == "" and picture.value == live_png(dot(2))
    slider.value = 3
    assert picture.value == live_png(dot(2)) and "RuntimeError" in note.value


def test_errors_at_the_initial_values_are_raised(shown: list[Any]) -> None:
    with pytest.raises(ZeroDivisionError):
        widgets.explore(lambda k: dot(1 / (k - 2)), k=(0, 4))
    assert shown == []


def test_html_results(shown: list[Any]) -> None:
    widgets.explore(lambda n: HTML(f"<b>{n}</b>"), n=[1, 2])
    static, handle, panel = shown
    assert isinstance(static, HTML) and static.data == "<b>1</b>"
    picture, text, _, [box] = parts(panel)
    box.value = 2
    assert text.value == "<b>2</b>" and text.layout.display == "block" and picture.layout.display == "none"


def test_a_function_that_forgets_to_return(shown: list[Any]) -> None:
    with pytest.raises(ValueError, match="found NoneType; return the figure"):
        widgets.explore(lambda k: None, k=[1])


def test_what_is_no_control_is_refused(shown: list[Any]) -> None:
    for bad in (object(), None, ipywidgets.fixed(3), (1, 2, 3, 4)):
        with pytest.raises(ValueError, match="control 'k': expected"):
            widgets.explore(dot, k=bad)


def test_a_pyplot_figure_is_not_left_to_be_shown_twice(shown: list[Any]) -> None:
    import matplotlib.pyplot as plt

    def draw(k: int) -> Any:
        figure, ax = plt.subplots(figsize=(2, 2))
        ax.plot([k])
        return figure

    widgets.explore(draw, k=[1, 2])
    assert plt.get_fignums() == []
    assert isinstance(shown[0], Image)


def test_without_a_notebook_it_still_runs(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FERKIT_WIDGETS", raising=False)
    widgets.explore(dot, k=(0, 4))
    assert "Live controls" in capsys.readouterr().out


# -- film strips -------------------------------------------------------------------------------------------------------


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[tuple]:
    """What `explore` hands to `figure`."""
    found: list[tuple] = []
    monkeypatch.setattr(controls, "figure", lambda *given: found.append(given))
    return found


WORDS = {"name": "dots", "caption": "It moves to the right.", "alt": "Two dots on a line."}


def test_a_strip_stands_above_the_live_picture(shown: list[Any], figures: list[tuple]) -> None:
    widgets.explore(dot, k=(0, 4), word=["sharp", "flat"], strip=[{"k": 0}, {"k": 4, "word": "flat"}], **WORDS)
    [(strip, name, caption, alt)] = figures
    assert (name, caption, alt) == tuple(WORDS.values())
    assert [label for row in strip.rows() for label, _ in row] == ["k = 0", "k = 4, word = flat"]
    frames = [np.array(frame) for row in strip.rows() for _, frame in row]
    for frame, k in zip(frames, (0, 4), strict=True):
        assert np.array_equal(frame, np.array(PIL.Image.open(io.BytesIO(plots.to_png(dot(k)))).convert("RGB")))
    [panel] = shown  # no static twin: the strip is what stays without a kernel
    picture, _, note, [slider, _] = parts(panel)
    assert picture.value == plots.to_png(dot(1)) and picture.layout.display == "block" and slider.value == 1
    slider.value = 3
    assert picture.value == live_png(dot(3))


def test_a_strip_breaks_into_rows_at_the_page_and_says_what_cannot_be_read(
    figures: list[tuple], shown: list[Any]
) -> None:
    def wide(k: int = 1) -> plots.Figure:
        from ferkit.plots.house import new_figure

        figure, axes = new_figure(1, 1, (3.5, 1.5))
        axes[0, 0].set_title("title", fontsize=9 if k else 6)
        return figure

    widgets.explore(wide, k=(0, 4), strip=[{"k": 1}, {"k": 2}, {"k": 0}], **WORDS)
    [(strip, *_)] = figures
    assert [[label for label, _ in row] for row in strip.rows()] == [["k = 1", "k = 2"], ["k = 0"]]
    assert strip.problems() == ["'title' has 6.0 points at page width; at least 9 are needed"]
    width, height = PIL.Image.open(io.BytesIO(strip._repr_png_())).size
    assert 700 < width <= 800 and 330 < height < 380
    long = ipywidgets.IntSlider(1, 0, 4, description="a control with a name as long as a whole sentence of text")
    assert "wider than its frame" in controls.film_strip(wide, {"k": long}, [{"k": 1}, {"k": 2}]).problems()[0]


def test_a_strip_of_html(figures: list[tuple], shown: list[Any]) -> None:
    widgets.explore(lambda n: HTML(f"<i>{n}</i>"), n={"one": 1, "two": 2}, strip=[{"n": 1}, {"n": 2}], **WORDS)
    page = figures[0][0]._repr_html_()
    assert "<b>n = one</b><br><i>1</i>" in page and "<b>n = two</b><br><i>2</i>" in page


@pytest.mark.parametrize(
    ("strip", "says"),
    [
        ([{"k": 1}], "two to four states"),
        ([{"k": i} for i in range(5)], "two to four states"),
        ([{"k": 1}, {"j": 2}], "sets 'j', which is no control; there are k, word"),
        ([{"k": 1}, {"k": 9}], "sets 'k' to 9, which the control cannot have"),
        ([{"k": 1}, {"word": "round"}], "sets 'word' to 'round'"),
    ],
)
def test_a_strip_of_states_that_no_reader_can_reach_is_refused(strip: list, says: str, shown: list[Any]) -> None:
    with pytest.raises(ValueError, match=says):
        widgets.explore(dot, k=(0, 4), word=["sharp", "flat"], strip=strip, **WORDS)
    assert shown == []


def test_sweep_covers_strip_and_controls(
    shown: list[Any], figures: list[tuple], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple] = []

    def draw(k: int = 1, word: str = "a") -> plots.Figure:
        seen.append((k, word))
        return dot(1)

    monkeypatch.setenv("FERKIT_WIDGETS", "sweep")
    widgets.explore(draw, k=(0, 2), word=["a", "b"], strip=[{"k": 0, "word": "b"}, {"k": 2, "word": "b"}], **WORDS)
    assert {(0, "b"), (2, "b"), (0, "a"), (1, "a"), (2, "a"), (1, "b")} == set(seen)


# -- sweep -------------------------------------------------------------------------------------------------------------


def test_sweep_calls_every_option_once_with_the_others_at_their_start(
    shown: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple] = []

    def draw(k: int = 1, word: str = "b", on: bool = False) -> plots.Figure:
        calls.append((k, word, on))
        return dot(k)

    monkeypatch.setenv("FERKIT_WIDGETS", "sweep")
    widgets.explore(draw, k=(0, 3), word=["a", "b", "c"], on=False)
    assert calls[0] == (1, "b", False)
    assert sorted(calls[1:]) == sorted(
        [(k, "b", False) for k in range(4)] + [(1, w, False) for w in "abc"] + [(1, "b", on) for on in (False, True)]
    )
    assert len(shown) == 3  # the notebook shows the same as without a sweep


def test_sweep_lets_errors_out_also_those_of_drawing(shown: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(k: int) -> plots.Figure:
        if k == 3:
            raise IndexError("at three")
        return dot(k)

    def fails_when_drawn(k: int) -> plots.Figure:
        figure = dot(k)
        if k == 3:
            figure.suptitle("$broken_{math$")
        return figure

    for fn, error in ((fails, IndexError), (fails_when_drawn, ValueError)):
        monkeypatch.setenv("FERKIT_WIDGETS", "sweep")
        with pytest.raises(error):
            widgets.explore(fn, k=[1, 2, 3])
        assert shown == []
        monkeypatch.delenv("FERKIT_WIDGETS")
        widgets.explore(fn, k=[1, 2, 3])
        shown.clear()


@pytest.mark.parametrize(
    ("control", "options"),
    [
        ((0, 2), [0, 1, 2]),
        ((0, 100, 5), [0, 10, 25, 40, 50, 60, 75, 90, 100]),
        ((0.0, 1.0, 0.5), [0.0, 0.5, 1.0]),
        (["x", "y"], ["x", "y"]),
        ([("one", 1), ("two", 2)], [1, 2]),
        ({"one": 1, "two": 2}, [1, 2]),
        (True, [False, True]),
        ("text", ["text"]),
        (ipywidgets.ToggleButtons(options=["p", "q"]), ["p", "q"]),
        (ipywidgets.SelectionSlider(options=[48, 64]), [48, 64]),
        (ipywidgets.SelectMultiple(options=["p", "q"], value=["p"]), [("p",), ("q",)]),
        (ipywidgets.BoundedIntText(3, min=1, max=9), [3]),
    ],
)
def test_options_of_each_kind_of_control(control: Any, options: list[Any]) -> None:
    box = controls._control(lambda k: None, "k", control)
    found = [v["k"] for v in widgets.sweep_values({"k": box})]
    assert found == pytest.approx(options) if isinstance(options[0], float) else found == options


# -- the widgets -------------------------------------------------------------------------------------------------------


def test_cam_figure_on_every_option(model: FerModel) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (48, 48)).astype(np.uint8)
    layers = widgets.map_layers(model)
    assert {"conv3", "se", "res_block2"} <= set(layers) and not {"res_block3", "pool", "fc", "relu"} & set(layers)
    options = [{"target": t} for t in ("predicted", *model.labels)]
    options += [{"layer": name} for name in layers] + [{"method": m, "layer": "se"} for m in METHODS]
    options += [{"opacity": o} for o in (0.0, 1.0)]
    titles = {widgets.cam_figure(model, picture, **o).get_suptitle() for o in options}
    assert len(titles) >= len(model.labels) + len(layers) + len(METHODS) - 3
    assert any("the strongest pattern, eigencam at se" in t for t in titles)


def test_cam_figure_says_when_there_is_no_contrast(model: FerModel) -> None:
    figure = widgets.cam_figure(model, np.zeros((3, 64, 64), np.uint8), layer="res_block3")
    assert "one place only" in figure.get_suptitle()


def test_cam_explorer(model: FerModel, shown: list[Any]) -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 64, 64)).astype(np.uint8)
    widgets.cam_explorer(model, images, ["first", "second"])
    *_, panel = shown
    picture, _, note, boxes = parts(panel)
    assert [b.description for b in boxes] == ["image", "target", "layer", "method", "opacity"]
    assert boxes[2].value == "se"
    before = b""
    for box, value in zip(boxes, (1, "fear", "conv3", "layercam", 0.3), strict=True):
        box.value = value
        assert note.value == "" and picture.value not in (b"", before)
        before = picture.value
    with pytest.raises(ValueError, match="2 pictures and 1 names"):
        widgets.cam_explorer(model, images, ["first"])


def title(figure: plots.Figure) -> str:
    return figure.axes[0].get_title(loc="left")


@pytest.mark.parametrize(
    ("percent", "n", "says"),
    [
        ("75.00", 8, "k = 6 (rounded)"),
        ("66.66", 3, "k = 2 (truncated)"),
        ("66.67", 3, "k = 2 (rounded)"),
        ("66.65", 3, "no k gives this number"),
        ("72.9", 3500, "k = 2,550 to 2,553 (rounded), k = 2,554 (truncated)"),
        ("100", 20, "k = 20 (rounded)"),
        ("0.0", 7, "k = 0 (rounded)"),
    ],
)
def test_claim_figure_says_what_reachable_says(percent: str, n: int, says: str) -> None:
    figure = widgets.claim_figure(percent, n)
    assert says in title(figure)
    decimals = len(percent.partition(".")[2])
    marked = [line.get_xdata()[0] for line in figure.axes[0].lines if line.get_color() == plots.COLOURS[1]]
    assert sorted(round(x * n / 100) for x in marked) == [k for k, _ in reachable(percent, n, decimals)]


def test_claim_figure_compares_a_loss_with_the_bound() -> None:
    # (1 - 0.75) ln 2 = 0.17329
    assert "at least 0.1733 nats: 0.18 is possible" in title(widgets.claim_figure("75.0", 1000, "0.18"))
    assert "at least 0.1733 nats: 0.17 is too small" in title(widgets.claim_figure("75.0", 1000, " 0.17 "))


@pytest.mark.parametrize(
    ("percent", "n", "loss", "words"),
    [
        ("abc", 10, "", "found 'abc'"),
        ("nan", 10, "", "percentage"),
        ("101", 10, "", "0 to 100"),
        ("50", 10, "x", "nats"),
    ],
)
def test_claim_figure_refuses_nonsense(percent: str, n: int, loss: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        widgets.claim_figure(percent, n, loss)


def test_claim_checker(shown: list[Any]) -> None:
    widgets.claim_checker(percent="75.00", n=8)
    *_, panel = shown
    picture, _, note, [percent, n, _] = parts(panel)
    n.value = 9
    assert picture.value == live_png(widgets.claim_figure("75.00", 9))
    percent.value = "seventy"
    assert "seventy" in note.value
    percent.value = "77.78"
    assert note.value == "" and picture.value == live_png(widgets.claim_figure("77.78", 9))


def test_architecture_explorer(shown: list[Any]) -> None:
    with torch.device("meta"):
        networks = {f"width {w}": create_model("resemotenet", width=w) for w in (1.0, 0.25)}
    figure = widgets.architecture_figure(networks["width 1.0"], 224)
    assert "multiply-adds: 4.32 G" in [ax.get_title(loc="left") for ax in figure.axes]
    widgets.architecture_explorer(networks, sizes=(4, 48, 64))
    *_, panel = shown
    picture, _, note, [network, size] = parts(panel)
    assert size.value == 64
    network.value = "width 0.25"
    assert picture.value == live_png(widgets.architecture_figure(networks["width 0.25"], 64, title="width 0.25"))
    size.value = 4  # too small for three poolings
    assert "RuntimeError" in note.value
    size.value = 48
    assert note.value == ""


def test_feature_explorer_changes_the_set_and_the_face(shown: list[Any]) -> None:
    rng = np.random.default_rng(0)
    sets = {"before": rng.normal(size=(30, 5)), "after": rng.normal(size=(30, 5))}
    images = rng.integers(0, 256, (30, 16, 16)).astype(np.uint8)
    widgets.feature_explorer(sets, np.arange(30) % 7, ("a", "b", "c", "d", "e", "f", "g"), images)
    picture, _, note, [features, face, method] = parts(shown[-1])
    face.value = 7
    first = picture.value
    features.value = "after"
    assert note.value == "" and picture.value != first and method.options == ("pca", "tsne")
    with pytest.raises(ValueError, match="features of the same 29 pictures"):
        widgets.feature_explorer(sets, np.arange(29) % 7, ("a",) * 7, images[:29])
