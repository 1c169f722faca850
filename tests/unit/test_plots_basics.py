"""Figures of the first steps: what they say is what was computed."""

import math

import numpy as np
import pytest
from matplotlib.text import Text

from ferkit import plots

EDGE = np.array([[0.0, 0, 9, 9, 9, 9]] * 4)
DIFFERENCE = np.array([[-1.0, 0, 1]] * 3)


def texts(figure, panel):
    return [t.get_text() for t in figure.axes[panel].texts]


def test_sliding_window_gives_the_sums_up_to_its_place():
    figure = plots.sliding_window(EDGE, DIFFERENCE, 1, 1)
    assert texts(figure, 2) == ["27", "27", "0", "0", "27", "27", "", ""]
    assert figure.axes[2].get_title(loc="left") == "sum of the 9 products: 27"
    frame = figure.axes[0].patches[-1]  # drawn last, over the cells
    assert (frame.get_x(), frame.get_y(), frame.get_width()) == (0.5, 0.5, 3)


def test_sliding_window_stays_inside():
    with pytest.raises(ValueError, match="a row below 2 and a column below 4, found 2 and 0"):
        plots.sliding_window(EDGE, DIFFERENCE, 2, 0)


def test_filtered_shows_zero_white_and_each_map_on_its_own_scale():
    maps = {"weak": np.array([[0.0, 1]]), "strong": np.array([[0.0, 100]])}
    figure = plots.filtered(np.zeros((4, 4), np.uint8), maps)
    limits = [ax.images[0].get_clim() for ax in figure.axes[1:]]
    assert limits == [(-0.8, 0.8), (-80, 80)]


@pytest.mark.parametrize(
    ("own", "other", "says"),
    [
        (0.9, 0.05, "says happiness, 90%: right, costs 0.11"),
        (0.2, 0.75, "says surprise, 75%: wrong, costs 1.61"),
        (1 / 7, 1 / 7, "all classes alike: a tie, costs 1.95"),
    ],
)
def test_price_says_whether_right_and_what_it_costs(own, other, says):
    rest = {f"other {i}": (1 - own - other) / 5 for i in range(5)}
    figure = plots.price({"happiness": own, "surprise": other, **rest}, "happiness")
    ax = figure.axes[0]
    assert ax.get_title(loc="left") == says
    dot = ax.lines[-1]
    assert (float(dot.get_xdata()[0]), float(dot.get_ydata()[0])) == pytest.approx((own, -math.log(own)))
    assert {"ln 2: least if wrong", "ln 7: knows nothing"} <= set(texts(figure, 0))


def test_walk_downhill_draws_every_step():
    figure = plots.walk_downhill([-2, 1, -0.5])
    assert figure.axes[0].lines[1].get_ydata().tolist() == [2, 0.5, 0.125]
    assert figure.axes[0].get_title(loc="left") == "loss 2.00 → 0.12 in 2 steps"


def test_curves_draw_landmarks_whose_names_do_not_overlap():
    rows = [{"epoch": i, "train_loss": 2 / i, "val_loss": 1.0} for i in range(1, 9)]
    levels = {"knows nothing": 1.95, "frequencies": 1.87, "floor": 0.86}
    figure = plots.curves(rows, metrics=["loss"], landmarks={"loss": levels})
    assert texts(figure, 0) == ["knows nothing", "frequencies", "floor"]
    assert {1.95, 1.87, 0.86} <= {float(line.get_ydata()[0]) for line in figure.axes[0].lines}
    assert plots.problems(figure) == []
    assert texts(plots.curves(rows, metrics=["loss"]), 0) == []


def test_two_close_levels_at_the_bottom_lean_apart_too():
    rows = [{"epoch": i, "train_loss": 2 / i, "val_loss": 1.0} for i in range(1, 9)]
    levels = {"knows nothing": 1.95, "floor, training": 0.82, "floor, validation": 0.76}
    figure = plots.curves(rows, metrics=["loss"], landmarks={"loss": levels})
    lean = {text.get_text(): text.get_va() for text in figure.axes[0].texts}
    assert lean == {"knows nothing": "center", "floor, training": "bottom", "floor, validation": "top"}
    assert plots.problems(figure) == []


def test_ordered_curves_go_from_dark_to_light_and_cut_at_the_limits():
    by_rate = {"0.1": [3, 9], "0.2": [2, 1], "0.3": [1, 1]}
    figure = plots.ordered_curves([1, 2], by_rate, ylim=(0, 4), legend="rate", landmarks={"floor": 0.9})
    ax = figure.axes[0]
    light = [sum(line.get_color()[:3]) for line in ax.lines[:3]]
    assert light == sorted(light) and light[0] < light[2]
    assert ax.get_ylim() == (0, 4) and ax.get_legend().get_title().get_text() == "rate"


def test_maps_by_row_name_rows_and_columns():
    maps = np.random.default_rng(0).random((3, 6, 6))
    rows = {"before": maps, "after": maps}
    figure = plots.maps_by_row(np.zeros((48, 48), np.uint8), rows, titles=["a", "b", "c"])
    said = [t.get_text() for t in figure.findobj(Text) if t.get_text()]
    assert [said.count(word) for word in ("before", "after", "a", "b", "c")] == [1, 1, 1, 1, 1]
    assert plots.problems(figure) == []
