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


def test_votes_below_draws_each_row_under_its_picture():
    votes = np.array([[7, 3, 0], [2, 2, 6]])
    figure = plots.votes_below(np.zeros((2, 8, 8), np.uint8), votes, ["fear", "anger", "unknown"], titles=["a", "b"])
    assert [ax.get_title() for ax in figure.axes[:2]] == ["a", "b"]
    assert [[bar.get_width() for bar in ax.patches] for ax in figure.axes[2:]] == votes.tolist()
    assert figure.axes[2].get_xlim() == (0, 10)
    with pytest.raises(ValueError, match="3 votes and a title"):
        plots.votes_below(np.zeros((2, 8, 8), np.uint8), votes[:, :2], ["fear", "anger", "unknown"], titles=["a", "b"])


def test_vote_rules_says_what_is_left_out():
    panels = {"votes": {"fear": 5, "anger": 5}, "majority": {"fear": 0, "anger": 0}}
    figure = plots.vote_rules(panels, limits=(10, 1))
    left, right = figure.axes
    assert not left.texts and [t.get_text() for t in right.texts] == ["left out"]
    assert (left.get_xlim(), right.get_xlim()) == ((0, 10), (0, 1))
    with pytest.raises(ValueError, match="a limit for each panel"):
        plots.vote_rules(panels, limits=(10,))
