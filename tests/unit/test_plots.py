"""Figures: readable, in one style, without global state."""

import io
from collections.abc import Callable
from functools import cache

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.text import Text
from PIL import Image

from ferkit import plots
from ferkit.evaluation.metrics import wilson
from ferkit.explain.opinions import Opinion
from ferkit.labels import EMOTIONS
from ferkit.models import create_model, summarise

NAMES = EMOTIONS[:7]
RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (10, 48, 48)).astype(np.uint8)
RGB = RNG.integers(0, 256, (3, 3, 64, 64)).astype(np.uint8)
HEAT = np.linspace(0, 1, 3 * 64 * 64, dtype=np.float32).reshape(3, 64, 64)
MATRIX = np.diag([900, 40, 30, 20, 10, 3, 0]) + np.triu(np.full((7, 7), 7), 1)
ROWS = [
    {
        "epoch": i,
        "lr": 0.1,
        "train_loss": 2 / i,
        "val_loss": 1 + 0.1 * i,
        "train_accuracy": 1 - 1 / i,
        "val_accuracy": 0.4,
    }
    for i in range(1, 9)
]
LANDMARKS = {"loss": {"knows nothing": 1.95, "frequencies": 1.87, "floor": 0.86}, "accuracy": {"all": 0.8}}
MASKS = {
    f"mask{k}: {what}": np.full((2, 16 >> k, 16 >> k), k / 9) * RNG.random((2, 1, 1))
    for k in (1, 2, 3)
    for what in ("F_R", "F_R*F_M", "F_N", "mean F_M")
}
CURVES = np.sort(RNG.random((20, 5)))
SCORES = {
    name: {score: (v, v - 0.1, v + 0.1, 48) for score in ("pointing", "energy", "iou")}
    for name, v in (("gradcam", 0.6), ("centre prior", 0.4), ("chance", 0.2))
}
POINTS = RNG.normal(size=(80, 2))
COLOURED = RGB[0].transpose(1, 2, 0)
SAYS = Opinion(
    "network teach", EMOTIONS, np.array([0.1, 0.6, 0.05, 0.05, 0.05, 0.05, 0.05, 0.05]), 0.6, ("happiness", "neutral")
)


def stages() -> list:
    with torch.device("meta"):
        return summarise(create_model("resemotenet"))


FIGURES: dict[str, Callable[[], plots.Figure]] = {
    "face_grid": lambda: plots.face_grid(GREY, [f"{n}\n100%" for n in (*NAMES, "a", "b", "c")]),
    "face_grid rows": lambda: plots.face_grid(RGB[:2], ["a\nb"] * 2, columns=1, rows=["cut out\nwider", "coarser"]),
    "face_grid one": lambda: plots.face_grid([RGB[0].transpose(1, 2, 0)]),
    "probability_bars": lambda: plots.probability_bars(np.eye(7)[2], NAMES, image=RGB[0], truth="fear"),
    "confusion": lambda: plots.confusion(MATRIX, NAMES, title="validation"),
    "votes_and_labels": lambda: plots.votes_and_labels(
        {f"picture {i}": dict(zip(EMOTIONS, range(i, i + 8), strict=True)) for i in range(4)},
        labels=["fear", "anger", "neutral", "contempt"],
    ),
    "shares": lambda: plots.shares({"votes": {"all agree": 0.3, "a majority": 0.5, "none": 0.2}}),
    "dumbbells": lambda: plots.dumbbells(
        {"copies": {"unseen": [0.5, 0.52], "seen": [1.0, 1.0]}, "others": {"unseen": [0.4], "seen": [0.39]}},
        xlabel="accuracy",
    ),
    "confusion of two long names": lambda: plots.confusion(
        [[5, 1], [0, 3]], ["has been in pain before", "no pain"], title="resemotenet/fer2013-teach"
    ),
    "class_counts": lambda: plots.class_counts(
        {"train": dict(zip(NAMES, range(1, 80000, 11111), strict=False)), "test": {"fear": 3}}
    ),
    "class_counts flat": lambda: plots.class_counts({"fear": 436, "anger": 0}),
    "curves": lambda: plots.curves(ROWS, best=3),
    "curves landmarks": lambda: plots.curves(ROWS, best=3, landmarks=LANDMARKS),
    "ordered_curves": lambda: plots.ordered_curves(
        [1, 2, 3],
        {f"{r:g}": [2 + r, 1.9, 1] for r in (0.001, 0.01, 0.1)},
        landmarks=LANDMARKS["loss"],
        legend="learning rate",
    ),
    "sliding_window": lambda: plots.sliding_window(np.eye(4, 6) * 9, np.ones((3, 3)), 1, 3),
    "filtered": lambda: plots.filtered(
        GREY[0], {f"{name} edges": GREY[1] - 100.0 for name in ("upright", "level", "all")}, title="surprise"
    ),
    "price": lambda: plots.price(dict(zip(NAMES, (0.1, 0.2, 0.1, 0.3, 0.1, 0.1, 0.1), strict=True)), "happiness"),
    "walk_downhill": lambda: plots.walk_downhill([-2, 2.1, -2.205]),
    "maps_by_row": lambda: plots.maps_by_row(
        GREY[0], {"untrained": GREY[:8], "trained": HEAT[:1].repeat(8, 0)}, titles=["r = 0.95"] * 8
    ),
    "compare_curves": lambda: plots.compare_curves({"C1": ROWS, "C2": ROWS[:3]}),
    "curves with landmarks": lambda: plots.curves(
        ROWS, best=1, landmarks={"loss": {"all alike": 1.95}, "accuracy": {"always happiness": 0.25}}
    ),
    "forest": lambda: plots.forest(
        {
            "the paper": {"the gate": (-0.6, np.nan, np.nan), "block 1": (-19.4, np.nan, np.nan)},
            "ours": {"the gate": (0.4, -1, 2, [-0.2, 1.0])},
        },
        xlabel="difference (points)",
    ),
    "groups": lambda: plots.groups(
        {"the paper": [79.8], "users": [58, 60, 66]}, xlabel="accuracy (%)", bands={"the paper": (78, 81)}
    ),
    "gate_ranges": lambda: plots.gate_ranges({"dead": torch.full((9, 16), 0.5), "alive": torch.rand(9, 16)}),
    "curves one epoch": lambda: plots.curves(ROWS[:1]),
    "intervals": lambda: plots.intervals([("ours", 0.61, 0.6, 0.62), ("paper", 0.8, np.nan, np.nan)], reference=0.65),
    "overlay": lambda: plots.overlay(RGB[0], HEAT[0], title="a\nb"),
    "cam_grid": lambda: plots.cam_grid(RGB, {"gradcam": HEAT, "layercam": HEAT[::-1]}, titles=["x", "y", "z"]),
    "recall_bars": lambda: plots.recall_bars(MATRIX, NAMES),
    "feature_maps": lambda: plots.feature_maps(torch.randn(20, 8, 8), title="stage3"),
    "feature_maps zero": lambda: plots.feature_maps(torch.zeros(2, 4, 4)),
    "gate_bars": lambda: plots.gate_bars({"fear": torch.rand(16, 1, 1), "anger": torch.rand(16)}),
    "stage_bars": lambda: plots.stage_bars(stages(), title="ResEmoteNet, 64 x 64"),
    "ablation": lambda: plots.ablation({"C1": [0.6, 0.61, 0.62], "C2": [0.5, 0.52, 0.51]}, {"C1": 3.4e8, "C2": 1e8}),
    "ablation one seed": lambda: plots.ablation({"C1": [0.6]}),
    "mask_grid": lambda: plots.mask_grid(MASKS, image=GREY[0], index=1, title="masks"),
    "mask_grid ten long names": lambda: plots.mask_grid(
        {f"branches.{i}.attention4.spatial_gate": HEAT[:, :8, :8] for i in range(10)}, scale="range"
    ),
    "mask_grid strips": lambda: plots.mask_grid(
        {"a.height_gate": HEAT[:, :8, :1], "a.width_gate": HEAT[:, :1, :8], "a.product": HEAT[:, :8, :8]}
    ),
    "curve_with_band": lambda: plots.curve_with_band(
        np.linspace(0, 1, 5), {"Grad-CAM": CURVES, "random": 1 - CURVES}, title="deletion"
    ),
    "curve_with_band one": lambda: plots.curve_with_band([0, 1], {"": CURVES[:1, :2]}),
    "scores_bars": lambda: plots.scores_bars(SCORES, title="easy faces"),
    "scores_bars margins": lambda: plots.scores_bars({"gradcam": SCORES["gradcam"]}, reference=None),
    "error_gallery": lambda: plots.error_gallery(
        GREY, np.arange(10) % 7, np.roll(np.eye(7), 1, 1)[np.arange(10) % 7], NAMES
    ),
    "error_gallery none": lambda: plots.error_gallery(GREY, np.arange(10) % 7, np.eye(7)[np.arange(10) % 7], NAMES),
    "feature_map2d": lambda: plots.feature_map2d(
        POINTS, np.arange(80) % 7, NAMES, axes=("component 1: 40% of the variance", "component 2"), title="before"
    ),
    "feature_neighbours": lambda: plots.feature_neighbours(
        POINTS[:10], np.arange(10) % 7, NAMES, GREY, [3, 1, 2, 5, 8, 9], axes=("a", "b"), title="before"
    ),
    "lines": lambda: plots.lines(
        [1, 2, 3],
        {"vote": [0.5, 0.6, 0.7]},
        bands={"vote": ([0.4, 0.5, 0.6], [0.6, 0.7, 0.8])},
        xlabel="branches",
        title="one",
    ),
    "lines log": lambda: plots.lines(
        np.logspace(-3, 3, 40),
        {"s": np.linspace(1, 0, 40), "pull": np.linspace(0, 1, 40)},
        marks={"ESR spatial": 1.2, "MA-Net": 137},
        log=True,
    ),
    "paths": lambda: plots.paths(
        {"unit\ndet 0.9": np.cumsum(POINTS[:72].reshape(12, 6, 2), 0), "zero": np.zeros((2, 1, 2))}, title="uphill"
    ),
    "faces_found": lambda: plots.faces_found(
        COLOURED,
        [(5, 5, 30, 40), (40, 8, 60, 30)],
        [np.full((5, 2), 20.0)] * 2,
        {"box": COLOURED, "aligned (used)": COLOURED},
        chosen=1,
    ),
    "faces_found none": lambda: plots.faces_found(COLOURED, [], [], {"box": COLOURED}),
    "opinion_bars": lambda: plots.opinion_bars(
        [SAYS, SAYS._replace(likely=(), labels=EMOTIONS[:7])],
        EMOTIONS,
        crop=COLOURED,
        title="Two networks say happiness.",
    ),
    "opinion_bars five": lambda: plots.opinion_bars([SAYS] * 5, EMOTIONS, crop=COLOURED, title="Five networks."),
    "changes_grid": lambda: plots.changes_grid(
        {"as it is": np.eye(7)[1], "mirrored": np.eye(7)[2]}, NAMES, reference="as it is", title="network"
    ),
    "feature_map2d centres": lambda: plots.feature_map2d(POINTS, np.arange(80) % 3, NAMES, centres=POINTS[:7]),
}


def texts(figure: plots.Figure) -> list[str]:
    return [t.get_text() for t in figure.findobj(Text) if t.get_visible() and t.get_text()]


@cache
def drawn(name: str) -> tuple[plots.Figure, bytes]:
    torch.manual_seed(0)
    figure = FIGURES[name]()
    return figure, plots.to_png(figure)


@pytest.mark.parametrize("name", FIGURES)
def test_is_a_small_png_with_every_word_inside(name: str) -> None:
    figure, png = drawn(name)
    assert isinstance(figure, plots.Figure)
    width, height = Image.open(io.BytesIO(png)).size
    assert 100 < width <= 800 and 100 < height <= 720
    assert 1_000 < len(png) < 250_000
    box = figure.get_tightbbox()  # in inches, of everything that is drawn
    assert box.x0 > -0.01 and box.y0 > -0.01
    assert box.x1 < width / 100 + 0.01 and box.y1 < height / 100 + 0.01


@pytest.mark.parametrize("name", FIGURES)
def test_leaves_nothing_behind_and_does_not_depend_on_the_callers_style(name: str) -> None:
    import matplotlib.pyplot as plt

    _, expected = drawn(name)
    torch.manual_seed(0)
    with matplotlib.rc_context({"font.size": 20, "axes.spines.top": True, "axes.titlesize": 30, "savefig.dpi": 30}):
        before = dict(matplotlib.rcParams)
        assert plots.to_png(FIGURES[name]()) == expected
        assert dict(matplotlib.rcParams) == before
    assert plt.get_fignums() == []


def test_shows_itself_where_pyplot_is_not_set_up() -> None:
    from IPython.core.formatters import DisplayFormatter

    data, _ = DisplayFormatter().format(FIGURES["intervals"]())
    assert data["image/png"].startswith(b"\x89PNG")


def test_colours_stay_apart_with_any_colour_vision() -> None:
    from skimage.color import deltaE_ciede2000, rgb2lab

    simulations = {  # Machado, Oliveira & Fernandes 2009, severity 1, on linear RGB
        "normal": np.eye(3),
        "protanopia": [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ],
        "deuteranopia": [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ],
        "tritanopia": [
            [1.255528, -0.076749, -0.178779],
            [-0.078411, 0.930809, 0.147602],
            [0.004733, 0.691367, 0.303900],
        ],
    }
    srgb = np.array([matplotlib.colors.to_rgb(plots.EMOTION_COLOURS[n]) for n in EMOTIONS])
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    for name, matrix in simulations.items():
        seen = np.clip(linear @ np.transpose(matrix), 0, 1)
        lab = rgb2lab(np.where(seen <= 0.0031308, seen * 12.92, 1.055 * seen ** (1 / 2.4) - 0.055)[None])[0]
        apart = deltaE_ciede2000(lab[:, None], lab[None])[np.triu_indices(8, 1)]
        assert 20 < apart.min() < 100, name
        assert lab[:, 0].max() < 80, "too pale on white"


def test_confusion_says_counts_and_shares() -> None:
    said = texts(plots.confusion([[3, 1], [0, 8]], ["fear", "anger"]))
    assert {"3\n75%", "1\n25%", "0", "8\n100%", "fear  (n=4)", "anger  (n=8)"} <= set(said)


def test_recall_bars_draw_wilson_intervals() -> None:
    figure = plots.recall_bars([[3, 1], [0, 0]], ["fear", "anger"])
    assert "75%  (3 of 4)" in texts(figure) and "no image" in texts(figure)
    [low, high] = figure.axes[0].lines[-1].get_xdata()
    assert (low, high) == pytest.approx(wilson(3, 4)) and 0.30 < low < 0.31 and 0.95 < high < 0.96


def test_class_counts_keep_the_order_and_fill_gaps() -> None:
    figure = plots.class_counts({"train": {"fear": 3, "anger": 1}, "test": {"anger": 2}})
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == ["fear", "anger"]
    assert "train: 4" in texts(figure) and "0  (0%)" in texts(figure) and "3  (75%)" in texts(figure)


def test_probability_bars_mark_the_truth() -> None:
    figure = plots.probability_bars([0.25, 0.75], ["fear", "anger"], truth="anger")
    labels = figure.axes[0].get_yticklabels()
    assert [t.get_text() for t in labels] == ["fear", "true: anger"]
    assert [t.get_fontweight() for t in labels] == ["normal", "bold"]
    assert [p.get_facecolor()[:3] for p in figure.axes[0].patches] == [
        matplotlib.colors.to_rgb(plots.colour("fear")),
        matplotlib.colors.to_rgb(plots.colour("anger")),
    ]


def test_ablation_shows_each_seed_mean_and_cost() -> None:
    figure = plots.ablation({"C1": [0.60, 0.62], "C2": [0.5]}, {"C1": 3.4e8, "C2": 85e6})
    ax = figure.axes[0]
    means = [line.get_ydata()[0] for line in ax.lines if len(set(line.get_ydata())) == 1 and len(line.get_xdata()) == 2]
    assert means == pytest.approx([0.61, 0.5])
    assert {"340 M", "85 M"} <= set(texts(figure))


def test_forest_draws_what_has_no_interval_hollow_and_keeps_the_order_of_rows() -> None:
    figure, _ = drawn("forest")
    ax = figure.axes[0]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["the gate", "block 1"]
    assert {"-0.6", "-19.4", "+0.4"} <= set(texts(figure))
    points = {
        round(float(line.get_xdata()[0]), 1): line
        for line in ax.lines
        if line.get_marker() in "os" and len(line.get_xdata()) == 1
    }
    assert points[-19.4].get_markerfacecolor() == "white" != points[0.4].get_markerfacecolor()
    bands = [line.get_xdata().tolist() for line in ax.lines if line.get_linewidth() == 6]
    assert bands == [[-1, 2]]
    assert [line.get_xdata().tolist() for line in ax.lines if line.get_markersize() == 2.5] == [[-0.2, 1.0]]
    with pytest.raises(ValueError, match="one to four series"):
        plots.forest({}, xlabel="x")


def test_gate_ranges_order_channels_by_their_mean_and_reach_from_least_to_most() -> None:
    gates = np.array([[0.9, 0.1, 0.5], [0.7, 0.3, 0.5]])
    ax = plots.gate_ranges({"": gates}).axes[0]
    assert ax.lines[0].get_ydata().tolist() == pytest.approx([0.2, 0.5, 0.8])
    assert [s[:, 1].tolist() for s in ax.collections[0].get_segments()] == [
        pytest.approx([0.1, 0.3]),
        [0.5, 0.5],
        pytest.approx([0.7, 0.9]),
    ]
    with pytest.raises(ValueError, match=r"gates \(N, C\)"):
        plots.gate_ranges({"": np.ones(3)})


def test_stage_bars_add_up() -> None:
    said = texts(plots.stage_bars(stages()))
    assert "parameters: 80.2 M" in said and "multiply-adds: 337 M" in said
    assert "58.7 M  73.2%" in said  # res_block3
    assert "128  <0.1%" in said  # bn1


def test_grey_is_not_stretched() -> None:
    dim = np.full((8, 8), 100, np.uint8)
    image = plots.face_grid([dim]).axes[0].images[0]
    assert (image.norm.vmin, image.norm.vmax) == (0, 255)


def test_feature_maps_share_one_scale_around_zero() -> None:
    maps = torch.zeros(3, 4, 4)
    maps[0, 0, 0], maps[1, 0, 0] = -2, 1
    figure = plots.feature_maps(maps)
    assert {(i.norm.vmin, i.norm.vmax) for ax in figure.axes[:3] for i in ax.images} == {(-2, 2)}


@pytest.mark.parametrize(
    ("draw", "words"),
    [
        (lambda: plots.face_grid([]), "expected pictures"),
        (lambda: plots.face_grid(GREY, ["one"]), "10 and 1"),
        (lambda: plots.face_grid([np.zeros((2, 5, 5))]), "expected a picture"),
        (lambda: plots.probability_bars([0.1, 0.9], NAMES), r"\(7\), found \(2,\)"),
        (lambda: plots.probability_bars(np.eye(7)[0], NAMES, truth="joy"), "among the names neutral.*found joy"),
        (lambda: plots.confusion(MATRIX[:6], NAMES), "7 rows and columns"),
        (lambda: plots.curves([]), "at least one epoch"),
        (lambda: plots.curves(ROWS, metrics=("f1",)), "train_f1 or val_f1, found epoch, lr"),
        (lambda: plots.overlay(RGB[0], HEAT[0][:10]), r"picture's size \(64, 64\), found \(10, 64\)"),
        (lambda: plots.feature_maps(torch.zeros(1, 3, 4, 4)), r"maps\[0\]"),
    ],
)
def test_what_does_not_fit_is_said(draw: Callable, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        draw()


def test_mask_grid_shares_one_scale_before_and_after_a_block_and_begins_at_zero() -> None:
    maps = {
        "mask1: F_R": np.full((1, 2, 2), 3.0),
        "mask1: F_N": np.full((1, 2, 2), 4.0),
        "mask1: F_R*F_M": np.full((1, 2, 2), 1.0),
    }
    figure = plots.mask_grid({**maps, "mask2: F_R": np.full((1, 2, 2), 7.0), "b.signed": np.array([[[-2.0, 1.0]]])})
    limits = {
        ax.get_title(loc="center") or i: [(m.norm.vmin, m.norm.vmax) for m in ax.images]
        for i, ax in enumerate(figure.axes)
    }
    assert limits["F_R"] == limits["F_N"] == [(0, 4)] and limits["F_R · F_M"] == [(0, 1)]
    assert [(0, 7)] in limits.values() and [(-2, 2)] in limits.values()
    assert {"0", "4", "7", "-2", "mask1", "mask2"} <= set(texts(figure))


def test_mask_grid_keeps_a_constant_map_constant() -> None:
    nearly = 0.125 + 1e-9 * RNG.random((1, 4, 4))
    varied = 0.48 + 1e-3 * RNG.random((1, 4, 4))
    for scale, low, high in (("zero", 0, varied.max()), ("range", varied.min(), varied.max())):
        constant, gate = (plots.mask_grid({"x": m}, scale=scale).axes[0].images[0].norm for m in (nearly, varied))
        assert (constant.vmin, constant.vmax) == pytest.approx((0, 0.125))  # never stretched
        assert (gate.vmin, gate.vmax) == pytest.approx((low, high))
    said = [t for t in texts(plots.mask_grid({"x": varied}, scale="range")) if t.startswith("0.4")]
    assert len(set(said)) == 2  # the bar says how little it varies


def test_mask_grid_shows_the_picture_asked_for() -> None:
    stack = np.stack([np.zeros((2, 2)), np.arange(4.0).reshape(2, 2)])
    assert plots.mask_grid({"x": stack}, index=1).axes[0].images[0].get_array().tolist() == [[0, 1], [2, 3]]


def test_curve_with_band_says_mean_interval_and_area() -> None:
    values = np.array([[1.0, 0.5, 0.0], [0.8, 0.3, 0.0]])
    figure = plots.curve_with_band([0, 0.5, 1], {"deletion": values})
    assert figure.axes[0].lines[0].get_ydata().tolist() == pytest.approx([0.9, 0.4, 0])
    assert f"deletion: area {0.25 * 0.9 + 0.5 * 0.4:.3f}" in texts(figure)
    band = figure.axes[0].collections[0].get_paths()[0].vertices[:, 1]
    half = 12.706 * 0.1  # Student t of one degree of freedom, times the standard error of 0.8 and 1.0
    assert (band.min(), band.max()) == pytest.approx((0.4 - half, 0.9 + half), abs=0.01)


def test_scores_bars_have_a_panel_per_score_and_the_reference() -> None:
    figure = plots.scores_bars(SCORES)
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["pointing", "energy", "iou"]
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == ["gradcam", "centre prior", "chance"]
    assert figure.axes[0].lines[0].get_xdata() == pytest.approx([0.5, 0.7])
    assert set(figure.axes[1].lines[-1].get_xdata()) == {0.2}
    assert set(plots.scores_bars(SCORES, reference=None).axes[1].lines[-1].get_xdata()) == {0.0}


def test_error_gallery_shows_the_surest_mistakes_first() -> None:
    p = np.array([[0.9, 0.1], [0.3, 0.7], [0.05, 0.95], [0.4, 0.6], [0.2, 0.8]])
    figure = plots.error_gallery(GREY[:5], [0, 0, 0, 1, 0], p, ["fear", "anger"], maximum=2)
    assert [ax.get_title() for ax in figure.axes] == ["fear\n→ anger 95%", "fear\n→ anger 80%"]
    assert [ax.images[0].get_array().tolist() for ax in figure.axes] == [GREY[2].tolist(), GREY[4].tolist()]
    assert "3 of 5 wrong, the surest 2: truth → answer" in texts(figure)
    assert texts(plots.error_gallery(GREY[:1], [0], p[:1], ["fear", "anger"])) == ["0 of 1 answers are wrong."]


def test_feature_map2d_draws_means_or_given_centres() -> None:
    labels = [0, 0, 1]
    points = np.array([[0.0, 0], [2, 2], [5, 1]])
    rings = [
        line.get_xydata()[0].tolist()
        for line in plots.feature_map2d(points, labels, NAMES).axes[0].lines
        if line.get_marker() == "o"
    ]
    assert rings == [[1, 1], [5, 1]]  # classes without points have no mean
    given = plots.feature_map2d(points, labels, NAMES[:2], centres=np.array([[9.0, 9], [8, 8]]))
    assert [line.get_xydata()[0].tolist() for line in given.axes[0].lines if line.get_marker() == "o"] == [
        [9, 9],
        [8, 8],
    ]
    drawn = given.axes[0].collections[0]
    for (x, _), ink in zip(drawn.get_offsets(), drawn.get_facecolors(), strict=True):
        assert ink[:3].tolist() == list(matplotlib.colors.to_rgb(plots.colour(NAMES[1 if x == 5 else 0])))


@pytest.mark.parametrize(
    ("draw", "words"),
    [
        (lambda: plots.lines([1, 2], {"a": [1, 2, 3]}), r"curves of 2 points, found \{'a': \(3,\)\}"),
        (lambda: plots.lines([1, 2], {"a": [1, 2]}, bands={"b": ([0, 0], [1, 1])}), "bands of a, found b"),
        (lambda: plots.paths({"a": POINTS}), r"paths \(steps, points, 2\)"),
        (
            lambda: plots.feature_neighbours(POINTS[:10], np.zeros(10, int), NAMES, GREY, [11]),
            "one to six positions of 10",
        ),
        (lambda: plots.opinion_bars([], EMOTIONS), "at least one opinion"),
        (lambda: plots.changes_grid({"mirrored": np.eye(7)[0]}, NAMES, reference="as it is"), "for 'as it is'"),
        (
            lambda: plots.faces_found(COLOURED, [(0, 0, 1, 1)], [], {"box": COLOURED}),
            "landmarks for each box, found 0 for 1",
        ),
        (lambda: plots.mask_grid({}), "no gates or masks"),
        (lambda: plots.mask_grid({"x": HEAT[0]}), r"maps \(N, h, w\).*'x', found \(64, 64\)"),
        (lambda: plots.mask_grid({"x": HEAT}, index=3), "picture 3"),
        (lambda: plots.mask_grid({"x": HEAT}, scale="log"), "found 'log'"),
        (lambda: plots.mask_grid({f"{i}.x": HEAT for i in range(11)}), "at most 10 blocks, choose some, found 11"),
        (lambda: plots.curve_with_band([0, 1], {"a": CURVES}), r"\(N, 2\), under 'a', found \(20, 5\)"),
        (lambda: plots.scores_bars(SCORES, reference="centre"), "among gradcam, centre prior, chance, found centre"),
        (lambda: plots.scores_bars({}), "at least one method"),
        (lambda: plots.error_gallery(GREY, [0], np.eye(7)[:1], NAMES), "each of 10 pictures"),
        (lambda: plots.error_gallery(GREY[:1], [7], np.eye(7)[:1], NAMES), "labels of 0 to 6, found 7 to 7"),
        (lambda: plots.feature_map2d(POINTS, [0], NAMES), r"points \(1, 2\)"),
        (lambda: plots.feature_map2d(POINTS[:1], [7], NAMES), "labels of 0 to 6"),
        (lambda: plots.feature_map2d(POINTS[:1], [0], NAMES, centres=POINTS[:3]), r"centres \(7, 2\), found \(3, 2\)"),
    ],
)
def test_explanations_that_do_not_fit_are_said(draw: Callable, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        draw()


def test_opinion_bars_fade_what_is_ruled_out_and_say_what_was_not_asked() -> None:
    figure = plots.opinion_bars(
        [SAYS, SAYS._replace(likely=(), labels=EMOTIONS[:7], probabilities=np.full(7, 1 / 7))], EMOTIONS
    )
    first, second = figure.axes
    # neutral and happiness are not ruled out
    assert [bar.get_alpha() for bar in first.patches] == [1.0, 1.0] + [0.35] * 6
    assert [bar.get_alpha() for bar in second.patches] == [1.0] * 8  # never calibrated
    assert texts(figure).count("not asked") == 1  # contempt, of the second


def test_changes_grid_counts_and_frames_what_turned() -> None:
    rows = {"as it is": np.eye(7)[1], "mirrored": np.eye(7)[1], "darker": np.eye(7)[4], "blurred": np.eye(7)[4]}
    (ax,) = plots.changes_grid(rows, NAMES, reference="as it is").axes
    assert ax.get_title(loc="left") == "2 of 3 changes turn the answer"
    assert [tuple(line.get_xydata().mean(0)[:1].round()) for line in ax.lines] == [(4.0,), (4.0,)]


def test_feature_figure_shows_the_nearest_faces() -> None:
    from ferkit.widgets import feature_figure

    features = np.zeros((10, 4))
    features[:, 0] = 1
    features[:, 1] = np.arange(10) / 10
    labels = np.array([0] * 5 + [1] * 5)
    figure = feature_figure(features, labels, NAMES, GREY, face=0, title="before")
    shown = [t for t in texts(figure) if ": " in t and t[0].isdigit()]
    assert shown == [f"{n}: {NAMES[0]}" for n in (1, 2, 3, 4)] + [f"5: {NAMES[1]}"]
    assert "before: 4 of the 5 nearest faces share its label" in texts(figure)


# -- what a reader cannot read
# ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_can_be_read(name: str) -> None:
    assert plots.problems(drawn(name)[0]) == []


def said_of(change: Callable[..., None], inches: tuple[float, float] = (6, 3)) -> list[str]:
    from ferkit.plots.house import new_figure

    figure, axes = new_figure(1, 1, inches)
    axes[0, 0].plot([0, 1], [0, 1])
    change(figure, axes[0, 0])
    return plots.problems(figure)


@pytest.mark.parametrize(
    ("change", "inches", "says"),
    [
        (lambda f, ax: ax.text(0.5, 0.5, "tiny", fontsize=8.5), (6, 3), "'tiny' has 8.5 points"),
        (lambda f, ax: ax.set_title("wide", fontsize=10.5), (12, 3), "'wide' has 7.0 points at page width"),
        (lambda f, ax: (ax.text(0.5, 0.5, "one"), ax.text(0.51, 0.51, "two")), (6, 3), "'one' and 'two' overlap"),
        (lambda f, ax: ax.set_xticks([0, 0.01], ["left", "right"]), (6, 3), "'left' and 'right' overlap"),
        (
            lambda f, ax: ax.text(
                0.9, 0.5, "a text that does not fit into the picture at all", clip_on=False
            ).set_in_layout(False),
            (6, 3),
            "runs off the edge",
        ),
        (lambda f, ax: ax.plot([0, 1], [1, 0], color=plots.colour("fear")), (6, 3), "the colour of fear"),
        (lambda f, ax: ax.bar([0, 1], [1, 0], color=plots.colour("neutral")), (6, 3), "the colour of neutral"),
        (lambda f, ax: ax.scatter([0, 1], [1, 0], color=[plots.colour("anger")]), (6, 3), "the colour of anger"),
    ],
)
def test_what_cannot_be_read_is_said(change: Callable[..., None], inches: tuple[float, float], says: str) -> None:
    assert says in "\n".join(said_of(change, inches))


@pytest.mark.parametrize(
    "change",
    [
        lambda f, ax: None,
        lambda f, ax: ax.text(0.2, 0.8, "nine", fontsize=9),
        lambda f, ax: (ax.text(0.2, 0.8, "one"), ax.text(0.2, 0.6, "two"), ax.text(0.2, 0.8, "three", visible=False)),
        lambda f, ax: ax.set_xticks([0, 0.2, 1, 7], ["a", "b", "c", "far outside the axis"]) and ax.set_xlim(0, 1),
        lambda f, ax: (ax.axis("off"), ax.set_xlabel("hidden", fontsize=3)),
        lambda f, ax: (ax.bar([0], [1], color=plots.colour("fear")), ax.set_title("Fear is rare")),
        lambda f, ax: ax.set_xticks(
            [0, 0.1, 0.2],
            ["neutral faces", "happy faces", "fearful faces"],
            rotation=40,
            ha="right",
            rotation_mode="anchor",
        ),
    ],
)
def test_what_can_be_read_is_left_alone(change: Callable[..., None]) -> None:
    assert said_of(change) == []


def test_series_colours_are_no_colours_of_emotions() -> None:
    from skimage.color import deltaE_ciede2000, rgb2lab

    series, emotions = (
        np.array([[matplotlib.colors.to_rgb(c) for c in group]])
        for group in (plots.COLOURS, plots.EMOTION_COLOURS.values())
    )
    apart = deltaE_ciede2000(rgb2lab(series)[0][:, None], rgb2lab(emotions)[0][None])
    assert 16 < apart.min() < 30
