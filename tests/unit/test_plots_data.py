"""Figures of labels and votes: what is written where."""

import numpy as np
import pytest

from ferkit import plots


def test_number_table_writes_what_is_not_zero():
    figure = plots.number_table(np.array([[0.5, 0], [1, 0.25]]), ["a", "b"], ["x", "y"], form="{:.2f}")
    ax = figure.axes[0]
    assert [t.get_text() for t in ax.texts] == ["0.50", "", "1.00", "0.25"]
    assert [t.get_color() for t in ax.texts] == ["black", "black", "white", "black"]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["a", "b"]
    with pytest.raises(ValueError, match="2 rows and 1 columns"):
        plots.number_table(np.zeros((2, 2)), ["a", "b"], ["x"])


def test_word_columns_puts_each_word_at_its_position():
    figure = plots.word_columns({"one": ["fear", "anger"], "two": ["anger", "fear", "neutral"]}, title="t")
    ax = figure.axes[0]
    at = {(round(t.get_position()[0] - 0.48), round(t.get_position()[1] - 0.46)): t.get_text() for t in ax.texts}
    assert at == {(0, 0): "fear", (0, 1): "anger", (1, 0): "anger", (1, 1): "fear", (1, 2): "neutral"}
    assert ax.get_ylim() == (3, 0) and figure.get_suptitle() == "t"
    colours = {t.get_text(): p.get_facecolor() for t, p in zip(ax.texts, ax.patches, strict=True)}
    assert len(set(colours.values())) == 3
    with pytest.raises(ValueError, match="at least one column"):
        plots.word_columns({})


def test_votes_and_labels_marks_the_row_of_the_label():
    panels = {"a": {"fear": 7, "anger": 3, "unknown": 0}, "b": {"fear": 2, "anger": 2, "unknown": 6}}
    figure = plots.votes_and_labels(panels, labels=["anger", "fear"])
    drawn = [ax for ax in figure.axes if ax.axison]
    assert [ax.get_title(loc="left") for ax in drawn] == ["a", "b"]
    assert [[bar.get_width() for bar in ax.containers[0]] for ax in drawn] == [[7, 3, 0], [2, 2, 6]]
    bold = [[t.get_text() for t in ax.get_yticklabels() if t.get_fontweight() == "bold"] for ax in drawn]
    assert bold == [["anger"], ["fear"]]
    for labels, votes in ((["anger"], panels), (["anger", "joy"], panels), (["fear"] * 2, panels | {"b": {"fear": 1}})):
        with pytest.raises(ValueError, match="expected"):
            plots.votes_and_labels(votes, labels=labels)


def test_shares_begin_where_the_part_before_ends():
    figure = plots.shares({"votes": {"all": 0.25, "some": 0.75}, "labels": {"same": 0.5, "other": 0.5}})
    bars = [(bar.get_x(), bar.get_width()) for bar in figure.axes[0].patches]
    assert bars == [(0, 0.25), (0.25, 0.75), (0, 0.5), (0.5, 0.5)]
    assert [t.get_text() for t in figure.axes[0].texts] == ["25%\nall", "75%\nsome", "50%\nsame", "50%\nother"]
    for parts in ({"all": 0.5, "some": 0.4}, {"all": 0.95, "some": 0.05}, dict.fromkeys("abcdef", 1 / 6)):
        with pytest.raises(ValueError, match="expected"):
            plots.shares({"votes": parts})


def test_dumbbells_write_the_means_outside_of_the_dots():
    rows = {"copies": {"unseen": [0.5, 0.6], "seen": [1.0, 0.9]}, "others": {"unseen": [0.4], "seen": [0.3]}}
    ax = plots.dumbbells(rows, xlabel="accuracy").axes[0]
    at = {t.get_text(): (t.xy[0], t.get_position()[0]) for t in ax.texts}
    assert at == {"55%": (0.5, -8), "95%": (1.0, 8), "40%": (0.4, 8), "30%": (0.3, -8)}
    with pytest.raises(ValueError, match="two kinds, in every row"):
        plots.dumbbells({"copies": {"seen": [1.0]}}, xlabel="accuracy")
