"""Figures and tables with number, caption and alt text, and what the build reads of them."""

import base64
import io

import nbformat
import numpy as np
import pandas
import pytest
from PIL import Image

from ferkit import plots
from ferkit.notebook import figure, figures, numbered, profile, session, table


@pytest.fixture
def shown(monkeypatch):
    """What was displayed: (data, metadata); a session in chapter 3 that has shown nothing yet."""
    found = []
    monkeypatch.setattr(figures, "display", lambda data, raw, metadata: found.append((data, metadata)))
    monkeypatch.setattr(
        session, "_session", {"began": 0.0, "profile": "none", "chapter": None, "figure": {}, "table": {}}
    )
    monkeypatch.delenv("FERKIT_PROFILE", raising=False)
    profile("smoke", chapter=3, smoke={}, teach={})
    return found


def dot():
    return plots.intervals([("x", 0.5, 0.4, 0.6)])


def test_a_figure_has_number_caption_and_alt_text(shown):
    figure(dot(), "one-dot", "A dot stands **still**.", "A dot with its interval.")
    (picture, about), (caption, _) = shown
    assert base64.b64decode(picture["image/png"]) == plots.to_png(dot())
    assert picture["text/plain"] == "A dot with its interval." and about["image/png"] == {
        "alt": "A dot with its interval."
    }
    assert about["ferkit"] == {
        "kind": "figure", "name": "one-dot", "number": "3.1", "caption": "A dot stands **still**.",
        "alt": "A dot with its interval.", "problems": [],
    }  # fmt: skip
    assert caption == {
        "text/markdown": "**Figure 3.1.** A dot stands **still**.",
        "text/plain": "Figure 3.1. A dot stands **still**.",
    }


def test_numbers_follow_the_order_of_first_showing_and_stay(shown):
    words = ("A dot stands still.", "A dot with its interval.")
    for name in ("a", "b", "a", "c"):
        figure(dot(), name, *words)
    table(pandas.DataFrame({"x": [1]}), "a", "One cell only here.")
    assert [about["ferkit"]["number"] for _, about in shown if "number" in about["ferkit"]] == [
        "3.1",
        "3.2",
        "3.1",
        "3.3",
        "3.1",
    ]


def test_anything_that_draws_itself_is_a_figure(shown):
    words = ("A dot stands still.", "A dot with its interval.")

    class Drawn:
        def _repr_svg_(self):
            return "<svg/>"

        def problems(self):
            return ["too wide"]

    figure(Drawn(), "svg", *words)
    assert shown[0][0]["image/svg+xml"] == "<svg/>" and shown[0][1]["ferkit"]["problems"] == ["too wide"]
    import matplotlib.pyplot as plt

    by_hand, ax = plt.subplots(figsize=(2, 2))
    ax.set(xticks=[], yticks=[])
    ax.set_title("small", fontsize=5)
    figure(by_hand, "by-hand", *words)
    assert plt.get_fignums() == [], "it would be shown twice"
    assert shown[2][1]["ferkit"]["problems"] == ["'small' has 5.0 points at page width; at least 9 are needed"]
    assert Image.open(io.BytesIO(base64.b64decode(shown[2][0]["image/png"]))).size == (200, 200)


@pytest.mark.parametrize(
    ("picture", "name", "caption", "alt", "says"),
    [
        (dot, "One Dot", "A dot stands still.", "A dot is shown.", "lower-case words joined by hyphens"),
        (dot, "dot", "", "A dot is shown.", "dot: expected a sentence as caption, found ''"),
        (dot, "dot", "A dot stands still.", "dot", "dot: expected a sentence as alt, found 'dot'"),
        (lambda: 3, "dot", "A dot stands still.", "A dot is shown.", "something that draws itself, found int"),
    ],
)
def test_a_figure_refuses(shown, picture, name, caption, alt, says):
    with pytest.raises(ValueError, match=says):
        figure(picture(), name, caption, alt)
    assert shown == []


def test_without_a_chapter_there_is_no_number(shown):
    profile("smoke", smoke={}, teach={})
    with pytest.raises(ValueError, match=r"figure dot has no chapter; .*profile\(\.\.\., chapter=10\)"):
        figure(dot(), "dot", "A dot stands still.", "A dot is shown.")


def test_a_table_is_styled_below_its_caption(shown):
    frame = pandas.DataFrame({"network": ["a & b", "c"], "parameters": [80238599, 7], "accuracy": [0.123456, np.nan]})
    table(frame, "cost", "The larger one costs more.")
    (caption, _), (cells, about) = shown
    assert (
        caption["text/markdown"] == "**Table 3.1.** The larger one costs more." and about["ferkit"]["kind"] == "table"
    )
    page = cells["text/html"]
    for text in ("80,238,599", "0.1235", "–", 'class="dataframe"'):
        assert text in page
    assert "nan" not in page and page.count("<tr>") == 3 and 'row_heading' not in page
    assert "80238599" in cells["text/plain"]
    table(frame.set_index("network"), "cost", "The larger one costs more.", formats={"accuracy": "{:.1%}"})
    assert "12.3%" in shown[-1][0]["text/html"] and "row_heading" in shown[-1][0]["text/html"]
    assert "cost" in page and shown[-1][0]["text/html"].count("T_cost") > 2, (
        "an id of its own would change with every build"
    )


def notebook_of(*notes):
    outputs = [
        nbformat.v4.new_output("display_data", data={"text/plain": "x"}, metadata={"ferkit": note}) for note in notes
    ]
    return [nbformat.v4.new_markdown_cell("text"), nbformat.v4.new_code_cell("x", outputs=outputs)]


def test_numbered_reads_them_back():
    first, second = {"kind": "figure", "name": "a", "number": "3.1"}, {"kind": "table", "name": "a", "number": "3.1"}
    cells = notebook_of(first, {"caption_of": "a"}, second)
    assert numbered(cells, "nb") == {"fig:a": "Figure 3.1", "tab:a": "Table 3.1"}
    with pytest.raises(ValueError, match="nb shows two of the name fig:a"):
        numbered(notebook_of(first, first), "nb")
