"""Scores against truth: exact on maps made by hand, at chance for maps that know nothing,
above it for a network that reads the mouth.
"""

import copy

import numpy as np
import pytest

from ferkit.explain import (
    HEAT_METHODS,
    SCORES,
    cam,
    centre_prior,
    chance_scores,
    estimate,
    estimates,
    heat_maps,
    margins,
    occlusion_map,
    score_maps,
    score_network,
    shuffle_weights,
)
from ferkit.models import create_model
from ferkit.synthetic.faces import SyntheticBatch, make_faces
from tests.unit.region_reader import RegionReader


@pytest.fixture(scope="module")
def faces() -> SyntheticBatch:
    return make_faces(48, seed=3, masks=True, difficulty="easy", yaw=0, pitch=0, roll=0)


@pytest.fixture(scope="module")
def mouth_reader(faces: SyntheticBatch) -> RegionReader:
    where = faces.masks["mouth"].mean(0)  # (64, 64), how often a place belongs to the mouth
    return RegionReader(np.where(where > 0.9, 1.0, 0.02) * np.random.default_rng(0).uniform(0.7, 1, where.shape))


# -------------------------------------------------------------------------------------------------- scores made by hand


def by_hand(heat: list, mask: list) -> dict[str, float]:
    return {k: float(v[0]) for k, v in score_maps(np.array([heat], float), np.array([mask], bool)).items()}


def test_values_by_hand() -> None:
    mask = [[1, 1, 0, 0]]
    assert by_hand([[4, 3, 2, 1]], mask) == {"pointing": 1, "energy": 0.7, "iou": 1}
    assert by_hand([[1, 2, 3, 4]], mask) == {"pointing": 0, "energy": 0.3, "iou": 0}
    # one place of two, of the tied 3s neither is in the mask
    assert by_hand([[4, 0, 3, 3]], mask) == pytest.approx({"pointing": 1, "energy": 0.4, "iou": 1 / 3})
    assert by_hand([[4, -3, 1, -1]], mask)["energy"] == pytest.approx(4 / 5)  # what speaks against the class is no heat
    # nothing is hot: energy at chance
    assert by_hand([[-9, -1, -5, -5]], mask) == pytest.approx({"pointing": 1, "energy": 0.5, "iou": 1 / 3})


def test_ties_count_in_proportion() -> None:
    # the hottest value is tied between one place inside and two outside; two places are taken: expected overlap 2/3
    assert by_hand([[5, 0, 5, 5]], [[1, 1, 0, 0]]) == pytest.approx(
        {"pointing": 1 / 3, "energy": 1 / 3, "iou": (2 / 3) / (4 - 2 / 3)}
    )


@pytest.mark.parametrize("score", SCORES)
def test_perfect_worst_and_chance(score: str, faces: SyntheticBatch) -> None:
    masks = faces.masks["evidence"]
    assert (SCORES[score](masks.astype(float), masks) == 1).all()
    assert (SCORES[score](1.0 - masks, masks) == 0).all()
    area = masks.mean((1, 2))
    assert 0.05 < area.min() and area.max() < 0.5
    expected = area / (2 - area) if score == "iou" else area
    np.testing.assert_allclose(chance_scores(masks)[score], expected, rtol=1e-12)
    random = np.random.default_rng(0).random((40, *masks.shape))
    found = np.mean([SCORES[score](heat, masks).mean() for heat in random])
    assert found == pytest.approx(expected.mean(), abs=0.03 if score == "pointing" else 0.003)


def test_order_is_all_that_pointing_and_iou_see() -> None:
    rng = np.random.default_rng(0)
    heat, mask = rng.random((4, 9, 9)), rng.random((4, 9, 9)) > 0.6
    for score in ("pointing", "iou"):
        np.testing.assert_array_equal(SCORES[score](heat, mask), SCORES[score](np.exp(5 * heat), mask))
    assert not np.allclose(SCORES["energy"](heat, mask), SCORES["energy"](np.exp(5 * heat), mask))


def test_an_empty_mask_is_left_out() -> None:
    heat, mask = np.ones((3, 4, 4)), np.zeros((3, 4, 4), bool)
    mask[0, :2], mask[2] = True, True
    for score, values in score_maps(heat, mask).items():
        assert np.isnan(values).tolist() == [False, True, False]
        assert estimate(values).value == pytest.approx((1 + (1 / 3 if score == "iou" else 0.5)) / 2)
    with pytest.raises(ValueError, match="are all masks empty"):
        estimate(np.full(3, np.nan))


def test_centre_prior_is_hottest_in_the_middle() -> None:
    heat = centre_prior(9, 5)
    assert heat.shape == (9, 5) and np.unravel_index(heat.argmax(), heat.shape) == (4, 2) and heat.max() == 1
    np.testing.assert_allclose(heat, heat[::-1, ::-1])
    assert centre_prior(64, 64)[31:33, 31:33].std() == 0  # four middles


# ------------------------------------------------------------------------------------------------------------ intervals


def test_intervals_cover_the_mean_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    hits = [
        low <= 0.3 <= high for _, low, high in (estimate(rng.random(60) < 0.3, n_bootstrap=200) for _ in range(200))
    ]
    assert 0.88 < np.mean(hits) < 0.99
    half = [
        low <= 0.3 <= high
        for _, low, high in (estimate(rng.random(60) < 0.3, n_bootstrap=200, level=0.5) for _ in range(200))
    ]
    assert 0.35 < np.mean(half) < 0.65
    assert estimate(np.arange(9.0)) == estimate(np.arange(9.0)) != estimate(np.arange(9.0), seed=1)


def test_margins_are_taken_picture_by_picture() -> None:
    hard = np.random.default_rng(0).random(40)  # how hard a picture is hits both rows
    scored = {"a": {"energy": hard + 0.01}, "b": {"energy": hard}}
    both = {k: v["energy"] for k, v in estimates(scored).items()}
    assert both["a"].low < both["b"].value  # apart, the two cannot be told from each other
    margin = margins(scored, "b")
    assert list(margin) == ["a"]
    assert margin["a"]["energy"][:3] == pytest.approx((0.01, 0.01, 0.01))
    with pytest.raises(ValueError, match="no row 'chance'; known: a, b"):
        margins(scored, "chance")


# ------------------------------------------------------------------------------------------------------------- networks


@pytest.mark.parametrize("method", ["gradcam", "layercam", "hirescam", "gradcam++"])
def test_a_network_that_reads_the_mouth_beats_chance_and_centre(
    method: str, faces: SyntheticBatch, mouth_reader: RegionReader
) -> None:
    scored = score_network(mouth_reader, faces.images, faces.masks["mouth"], methods=(method,), target="happiness")
    assert list(scored) == [method, "centre prior", "chance"]
    for baseline in ("chance", "centre prior"):
        for score, margin in margins(scored, baseline)[method].items():
            assert 0.2 < margin.low <= margin.value <= margin.high <= 1, (baseline, score)
    # and it does not read the brows: there it scores below chance
    brows = margins(
        score_network(mouth_reader, faces.images, faces.masks["brows"], methods=(method,), target="happiness"), "chance"
    )
    assert all(margin.high < 0 for margin in brows[method].values())


def test_occlusion_points_at_the_mouth_too(faces: SyntheticBatch, mouth_reader: RegionReader) -> None:
    steep = copy.deepcopy(mouth_reader)
    steep.sign.data *= 50
    few = faces.images[:6]
    # hiding white with grey always darkens
    bright = (few * (1 - faces.masks["mouth"][:6]) + 255 * faces.masks["mouth"][:6]).astype(np.uint8)
    heat = heat_maps(steep, bright, method="occlusion", target="happiness")
    np.testing.assert_array_equal(heat, np.maximum(occlusion_map(steep, bright, target="happiness"), 0))
    scores = score_maps(heat, faces.masks["mouth"][:6])
    assert scores["pointing"].mean() == 1 and scores["energy"].mean() > 0.4


def test_shuffled_weights_drop_to_chance(faces: SyntheticBatch, mouth_reader: RegionReader) -> None:
    found = {score: [] for score in SCORES}
    for seed in range(40):
        net = copy.deepcopy(mouth_reader)
        shuffle_weights(net, seed=seed)
        heat = cam(net, faces.images[:12], target=int(net.sign.argmax()))
        for score, values in score_maps(heat, faces.masks["mouth"][:12]).items():
            found[score].append(values.mean())
    chance = chance_scores(faces.masks["mouth"][:12])
    for score, per_network in found.items():
        mean, low, high = estimate(np.array(per_network))
        expected = chance[score].mean()
        # pixels under the template still weigh by their brightness, and the mouth is not as bright as the mean
        assert low - 0.02 < expected < high + 0.02 and mean < 0.15, score
    intact = score_maps(cam(mouth_reader, faces.images[:12], target=0), faces.masks["mouth"][:12])
    assert all(v.mean() > 0.5 for v in intact.values())


def test_a_network_trained_on_real_faces_looks_at_drawn_ones() -> None:
    net = create_model("resemotenet", weights="fer2013-teach")
    batch = make_faces(48, seed=0, masks=True, difficulty="easy")
    labels = np.array([net.labels.index(batch.names[k]) for k in batch.labels])
    scored = score_network(net, batch.images, batch.masks["evidence"], methods=("layercam",), target=labels)
    shuffled = copy.deepcopy(net)
    shuffle_weights(shuffled)
    scored["shuffled"] = score_maps(
        cam(shuffled, batch.images, target=labels, method="layercam"), batch.masks["evidence"]
    )
    for baseline in ("chance", "centre prior", "shuffled"):
        margin = margins(scored, baseline)["layercam"]
        assert 0.1 < margin["pointing"].low < margin["pointing"].high < 0.97, baseline
    over_chance = margins(scored, "chance")["shuffled"]
    # no better than a map that knows nothing
    assert over_chance["pointing"].low < 0.05 and over_chance["energy"].low < 0.05


def test_a_planted_shortcut_is_found_where_it_was_planted() -> None:
    batch = make_faces(24, seed=1, masks=True, difficulty="easy", shortcut="mark", shortcut_strength=1.0)
    # the upper edge, where marks are
    reader = RegionReader(np.where(np.arange(64)[:, None] < 6, 1.0, 0.01) * np.ones((64, 64)))
    dark = (batch.images * np.where(batch.masks["shortcut"], 1.0, 0.3)).astype(np.uint8)
    on_mark = score_network(reader, dark, batch.masks["shortcut"], target="happiness")
    on_face = score_network(reader, dark, batch.masks["evidence"], target="happiness")
    assert margins(on_mark, "centre prior")["gradcam"]["pointing"].low > 0.9
    assert margins(on_face, "chance")["gradcam"]["pointing"].high < 0


def test_bad_input_is_one_sentence(faces: SyntheticBatch, mouth_reader: RegionReader) -> None:
    images, masks = faces.images[:4], faces.masks["mouth"][:4]
    for call, words in [
        (lambda: heat_maps(mouth_reader, images, method="saliency"), "known: gradcam, .*eigencam, occlusion"),
        (lambda: score_network(mouth_reader, images, masks[:2]), r"\(4, 64, 64\), found bool \(2, 64, 64\)"),
        (lambda: score_network(mouth_reader, images, masks.astype(float)), "one bool mask per picture"),
        (lambda: score_network(mouth_reader, images, masks, target="boredom"), "no class 'boredom'"),
        (lambda: score_maps(np.zeros((3, 8, 8)), masks), r"found \(3, 8, 8\) and bool \(4, 64, 64\)"),
        (lambda: score_maps(np.full(masks.shape, np.nan), masks), "NaN"),
    ]:
        with pytest.raises(ValueError, match=words):
            call()
    assert HEAT_METHODS[-1] == "occlusion"
