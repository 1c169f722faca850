"""Figures of light networks."""

import numpy as np
import pytest

from ferkit import plots


def texts(ax):
    return [t.get_text() for t in ax.texts if t.get_text()]


def test_stacked_costs_add_up_and_a_missing_stage_counts_nothing():
    figure = plots.stacked_costs({"big": {"a": (1000, 4e6), "b": (500, 1e6)}, "small": {"a": (250, 1e6)}})
    assert texts(figure.axes[0]) == ["1.5 k", "250"] and texts(figure.axes[1]) == ["5 M", "1 M"]
    with pytest.raises(ValueError, match="at least one network"):
        plots.stacked_costs({"empty": {}})


def test_cost_steps_are_percent_of_the_first_and_end_in_the_titles():
    figure = plots.cost_steps(
        [("MFN", (200, 1000)), ("narrower", (150, 800)), ("more head", (160, 800))], printed=(-30.8, -27.1)
    )
    assert texts(figure.axes[0]) == ["-25.0", "+5.0", "printed -30.8"]
    assert figure.axes[0].get_title(loc="left") == "parameters: -20.0 %"
    assert figure.axes[1].get_title(loc="left") == "multiply-adds: -20.0 %"
    with pytest.raises(ValueError, match="at least one step"):
        plots.cost_steps([("MFN", (200, 1000))])


def test_matrices_write_every_number_and_signs_between():
    figure = plots.matrices({"a": np.eye(2), "b": np.array([[0.25, -0.5, 0]])}, signs="+")
    assert texts(figure.axes[0]) == ["1.00", "0", "0", "1.00", "+"]
    assert texts(figure.axes[1]) == ["0.25", "-0.50", "0"]
    with pytest.raises(ValueError, match="matrices"):
        plots.matrices({"a": np.zeros(3)})


def test_footprint_gives_shares_of_costs():
    figure = plots.footprint(np.eye(3), {"1x1": 300, "3x3": 100})
    assert texts(figure.axes[1]) == ["300  75%", "100  25%"]
    with pytest.raises(ValueError, match="map"):
        plots.footprint(np.zeros(3), {"a": 1})
