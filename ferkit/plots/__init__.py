"""Figures in one house style. Every function is pure: data in, a matplotlib Figure out, nothing shown or kept.

Figures are made without pyplot, so there is no global state, nothing is drawn twice, and nothing has to be closed. In a
notebook the last expression of a cell shows itself; `to_png` gives the same bytes.
"""

from ferkit.plots import gallery
from ferkit.plots.basics import filtered, maps_by_row, ordered_curves, price, sliding_window, walk_downhill
from ferkit.plots.comparison import cost_scatter, dumbbells, forest, groups, reliability_diagram
from ferkit.plots.data import number_table, shares, votes_and_labels, word_columns
from ferkit.plots.diagram import Box, Diagram, Frame, Parallel, Series, Skip
from ferkit.plots.diversity import lines, paths
from ferkit.plots.explanations import curve_with_band, feature_map2d, feature_neighbours, mask_grid, scores_bars
from ferkit.plots.house import (
    COLOURS,
    EMOTION_COLOURS,
    PAGE_INCHES,
    STYLE,
    Figure,
    colour,
    forget,
    in_few_colours,
    style,
    to_png,
)
from ferkit.plots.legible import problems
from ferkit.plots.light import cost_steps, footprint, matrices, stacked_costs
from ferkit.plots.masking import mask_sizes, reweighted, schedule_replay
from ferkit.plots.networks import chain, feature_maps, gate_bars, gate_ranges, stage_bars
from ferkit.plots.pictures import cam_grid, error_gallery, face_grid, overlay, probability_bars
from ferkit.plots.results import (
    ablation,
    class_counts,
    compare_curves,
    confusion,
    cross_matrix,
    curves,
    intervals,
    recall_bars,
)
from ferkit.plots.uploads import changes_grid, faces_found, opinion_bars
from ferkit.plots.video import over_time

__all__ = [
    "COLOURS",
    "EMOTION_COLOURS",
    "PAGE_INCHES",
    "STYLE",
    "Box",
    "Diagram",
    "Figure",
    "Frame",
    "Parallel",
    "Series",
    "Skip",
    "ablation",
    "cam_grid",
    "chain",
    "changes_grid",
    "class_counts",
    "colour",
    "compare_curves",
    "confusion",
    "cost_scatter",
    "cost_steps",
    "cross_matrix",
    "curve_with_band",
    "curves",
    "dumbbells",
    "error_gallery",
    "face_grid",
    "faces_found",
    "feature_map2d",
    "feature_maps",
    "feature_neighbours",
    "filtered",
    "footprint",
    "forest",
    "forget",
    "gallery",
    "gate_bars",
    "gate_ranges",
    "groups",
    "in_few_colours",
    "intervals",
    "lines",
    "maps_by_row",
    "mask_grid",
    "mask_sizes",
    "matrices",
    "number_table",
    "opinion_bars",
    "ordered_curves",
    "over_time",
    "overlay",
    "paths",
    "price",
    "probability_bars",
    "problems",
    "recall_bars",
    "reliability_diagram",
    "reweighted",
    "schedule_replay",
    "scores_bars",
    "shares",
    "sliding_window",
    "stacked_costs",
    "stage_bars",
    "style",
    "to_png",
    "votes_and_labels",
    "walk_downhill",
    "word_columns",
]
