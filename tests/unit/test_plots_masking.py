"""Figures of masks, and the sides of the maps that they draw."""

import numpy as np
import pytest
import torch

from ferkit import plots
from ferkit.explain import capture
from ferkit.models.resmasking import MaskingBlock, block_sides, legal_size


def texts(ax):
    return [t.get_text() for t in ax.texts if t.get_text()]


def test_sides_are_those_of_the_block_and_decide_what_is_legal():
    first, second, third, fourth = block_sides(224)
    assert first.down == (56, 28, 14, 7) and first.up == ((14, 14), (28, 28), (56, 56))
    assert (second.down, third.down, fourth.down) == ((28, 14, 7), (14, 7), (7,)) and fourth.up == ()
    assert block_sides(48)[0].up == ((2, 3), (6, 6), (12, 12))  # 12 -> 6 -> 3 -> 1, which comes up as 2
    assert block_sides(112)[0].up[0] == (6, 7)
    assert block_sides(64, (0, 0, 1, 0))[:2] == [None, None]
    block = MaskingBlock(2, 4).eval()
    with (
        capture(block, ["encode.0", "encode.1", "encode.2", "encode.3", "up.0", "up.1", "up.2"]) as seen,
        torch.no_grad(),
    ):
        block(torch.zeros(1, 2, 56, 56))
    assert tuple(seen[f"encode.{i}"].shape[-1] for i in range(4)) == first.down
    assert tuple(seen[f"up.{i}"].shape[-1] for i in range(3)) == tuple(up for up, _ in first.up)
    for side in range(29, 130):
        assert legal_size(side) == all(up == skip for b in block_sides(side) for up, skip in b.up), side


def test_mask_sizes_marks_what_does_not_fit():
    refused = plots.mask_sizes(48)
    assert "refused" in refused.get_suptitle() and "32 and 61" in refused.get_suptitle()
    assert "2 ≠ 3" in texts(refused.axes[0]) and "≠" not in "".join(texts(refused.axes[3]))  # depth 1 takes every side
    taken = plots.mask_sizes(64, depths=(4, 3, 0, 1))
    assert taken.get_suptitle().endswith("taken") and not any("≠" in t for ax in taken.axes for t in texts(ax))
    assert "left out" in taken.axes[2].get_title(loc="left")
    assert plots.to_png(refused) != plots.to_png(taken)


def test_reweighted_draws_both_ways_of_combining():
    figure = plots.reweighted([2.0, 0.0, 3.0], [0.5, 0.9, 0.1])
    heights = [[bar.get_height() for bar in container] for container in figure.axes[0].containers]
    assert np.allclose(heights, [[2, 0, 3], [3, 0, 3.3], [1, 0, 0.3]])
    for bad in (([1.0], [0.5, 0.5]), ([1.0], [1.5]), ([], [])):
        with pytest.raises(ValueError, match="expected"):
            plots.reweighted(*bad)


def test_schedule_replay_shows_both_series():
    figure = plots.schedule_replay([50.0, 60.0, 55.0], [1e-4, 1e-4, 1e-5])
    best, accuracy = (line.get_ydata() for line in figure.axes[0].lines)
    assert list(best) == [50, 60, 60] and list(accuracy) == [50, 60, 55]
    assert list(figure.axes[1].lines[0].get_ydata()) == [1e-4, 1e-4, 1e-5]
    with pytest.raises(ValueError, match="one learning rate per epoch"):
        plots.schedule_replay([50.0], [])
