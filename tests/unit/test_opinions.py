"""What several networks say of one crop: numbers, sets, words; hiding parts; small changes."""

import numpy as np
import pytest
import torch

from ferkit import faces
from ferkit.evaluation.calibration import conformal_sets, conformal_threshold
from ferkit.explain.opinions import (
    CHANGES,
    PARTS,
    Network,
    Opinion,
    as_channels,
    ask,
    available_networks,
    hide,
    in_words,
    under_changes,
)
from ferkit.models import create_model, save_weights


@pytest.fixture(scope="module")
def crop():
    return np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def small():
    torch.manual_seed(0)
    return Network("small", create_model("resemotenet", width=1 / 16, head="linear").eval(), None, 0.2)


def opinion(answer, p=0.9, likely=()):
    labels = ("neutral", "happiness", "sadness")
    probabilities = np.full(3, (1 - p) / 2)
    probabilities[labels.index(answer)] = p
    return Opinion("n", labels, probabilities, 0.1, likely)


def test_every_committed_network_is_asked_with_its_own_threshold():
    networks = available_networks()
    assert {"resemotenet fer2013-teach", "resmasking fer2013-teach"} <= set(networks)
    for network in networks.values():
        assert not network.model.training
        assert network.threshold is not None and 0 < network.threshold < 0.5, network.name


def test_on_the_portrait_all_see_the_smile():
    photo = faces.portrait()
    crop = faces.crop_face(photo, faces.find_faces(photo)[0], size=224)
    found = [ask(network, crop) for network in available_networks().values()]
    assert {o.answer for o in found} == {"happiness"}
    assert all(o.likely[0] == "happiness" and 0 <= o.doubt < 0.5 for o in found)
    assert in_words(found).startswith(f"All {len(found)} networks say happiness (happy, joy).")


def test_probabilities_doubt_and_set(small, crop):
    found = ask(small, crop)
    assert found.probabilities.shape == (7,) and found.probabilities.sum() == pytest.approx(1, abs=1e-5)
    p = found.probabilities.astype(float)
    assert found.doubt == pytest.approx(-(p * np.log(p)).sum() / np.log(7), abs=1e-6)
    assert found.likely[0] == found.answer
    assert set(found.likely) == {found.labels[k] for k in range(7) if p[k] >= 0.2} | {found.answer}
    assert ask(small._replace(threshold=None), crop).likely == ()


@pytest.mark.parametrize(
    ("opinions", "words"),
    [
        ([opinion("happiness")], "One network was asked; it says happiness"),
        ([opinion("happiness")] * 3, "All 3 networks say happiness"),
        (
            [opinion(e) for e in ("sadness", "sadness", "happiness", "happiness")],
            "The 4 networks are divided: 2 say happiness (happy, joy), 2 say sadness (sad).",
        ),
        (
            [opinion(e) for e in ("sadness", "neutral", "sadness", "happiness", "happiness")],
            "are divided: 2 say happiness (happy, joy), 2 say sadness (sad), the others neutral.",
        ),
        (
            [opinion("happiness"), opinion("sadness"), opinion("happiness")],
            "2 of 3 networks say happiness (happy, joy), the others sadness.",
        ),
        (
            [opinion("happiness"), opinion("sadness"), opinion("neutral")],
            "The 3 networks disagree, each with every other.",
        ),
        ([opinion("happiness", likely=("happiness", "sadness"))], "Not ruled out by at least one: happiness, sadness."),
        ([opinion("happiness", likely=("happiness",))], "No network leaves another answer open."),
    ],
)
def test_words(opinions, words):
    said = in_words(opinions)
    assert words in said and said.endswith("not what a person feels.")


def test_a_bare_model_is_asked_as_a_network_is(small, crop):
    bare = ask(small.model, crop)
    assert (
        bare.network == "ResEmoteNet"
        and bare.likely == ()
        and np.array_equal(bare.probabilities, ask(small, crop).probabilities)
    )
    assert np.array_equal(ask(torch.nn.DataParallel(small.model), crop).probabilities, bare.probabilities)
    assert under_changes(small.model, crop).keys() == CHANGES.keys()
    nameless = create_model("resemotenet", width=1 / 16, num_classes=5)
    with pytest.raises(ValueError, match="ResEmoteNet does not name its classes: set model.labels"):
        ask(nameless, crop)
    nameless.labels = ("a", "b")
    with pytest.raises(ValueError, match="gives 5 probabilities for 2 labels: a, b"):
        ask(nameless, crop)
    with pytest.raises(ValueError, match="Linear does not say how pictures are prepared"):
        ask(torch.nn.Linear(2, 2), crop)


def test_what_is_no_network_with_classes_is_said(crop):
    nameless = create_model("resemotenet", num_classes=3, width=1 / 16).eval()
    for network in (nameless, Network("mine", nameless)):
        with pytest.raises(ValueError, match=r"ResEmoteNet does not name its classes: set model.labels = \(...\)"):
            ask(network, crop)
    with pytest.raises(ValueError, match="expected a network .*, found 'face.jpg'"):
        ask("face.jpg", crop)


def test_a_file_that_cannot_be_loaded_leaves_the_others(tmp_path, monkeypatch):
    monkeypatch.setenv("FERKIT_WEIGHTS", str(tmp_path))
    model = create_model("resemotenet", width=1 / 16)
    save_weights(model, tmp_path / "good.safetensors", weights="good")
    model.spec = {**model.spec, "width": 1 / 8}
    save_weights(model, tmp_path / "lying.safetensors", weights="lying")
    with pytest.warns(
        UserWarning, match="resemotenet lying is left out: lying.safetensors says of itself what its tensors are not"
    ):
        assert list(available_networks.__wrapped__()) == ["resemotenet good"]


def test_hidden_parts_are_where_the_template_has_them(crop):
    for part, (left, top, right, bottom) in PARTS.items():
        hidden = hide(crop, part)
        changed = (hidden != crop).any(2)
        inside = np.zeros((96, 96), bool)
        inside[round(96 * top) : round(96 * bottom), round(96 * left) : round(96 * right)] = True
        assert not (changed & ~inside).any() and changed.sum() > 0.95 * inside.sum()
    eyes, mouth = faces.TEMPLATE[:2], faces.TEMPLATE[3:]
    for part, points in (("eyes", eyes), ("mouth", mouth)):
        left, top, right, bottom = PARTS[part]
        assert all(left < x < right and top < y < bottom for x, y in points)
    assert (hide(crop, box=(0.5, 0, 1, 1))[:, :48] == crop[:, :48]).all()
    with pytest.raises(ValueError, match="no part 'ear' of a face; known: mouth, eyes"):
        hide(crop, "ear")
    with pytest.raises(ValueError, match="box inside the picture"):
        hide(crop, box=(0.5, 0, 1.5, 1))


def test_changes_are_small_and_right(small, crop):
    assert (CHANGES["as it is"](crop) == crop).all()
    assert (CHANGES["mirrored"](crop) == crop[:, ::-1]).all()
    assert (CHANGES["moved right"](crop)[:, 6:] == crop[:, :-6]).all()
    assert (CHANGES["moved up"](crop)[:-6] == crop[6:]).all()
    assert CHANGES["darker"](crop).mean() < crop.mean() < CHANGES["brighter"](crop).mean()
    assert CHANGES["less contrast"](crop).std() < 0.6 * crop.std()
    for name, change in CHANGES.items():
        assert change(crop).shape == crop.shape and change(crop).dtype == np.uint8, name
    found = under_changes(small, crop)
    assert list(found) == list(CHANGES)
    assert found["as it is"] == pytest.approx(ask(small, crop).probabilities, abs=1e-5)


def test_what_is_no_crop_is_said(small):
    for wrong in (np.zeros((9, 9)), np.zeros((9, 9, 4), np.uint8), "face"):
        with pytest.raises(ValueError, match=r"expected a crop as uint8 \(H, W, 3\), found"):
            ask(small, wrong)
    assert as_channels(np.zeros((9, 8, 3), np.uint8)).shape == (1, 3, 9, 8)


def test_conformal_sets_hold_the_label_as_often_as_promised():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(6000, 7)) * 2
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = np.array([rng.choice(7, p=row) for row in p])
    for level in (0.5, 0.8, 0.9):
        threshold = conformal_threshold(p[:3000], labels[:3000], level=level)
        inside = conformal_sets(p[3000:], threshold)
        coverage = inside[np.arange(3000), labels[3000:]].mean()
        assert level - 0.025 < coverage < level + 0.1, (level, coverage)
        assert inside.any(1).all()


def test_conformal_threshold_by_hand():
    p = np.array([[0.9, 0.1], [0.6, 0.4], [0.3, 0.7], [0.8, 0.2]])
    labels = np.array([0, 0, 0, 0])  # the labels' probabilities: 0.9, 0.8, 0.6, 0.3
    assert conformal_threshold(p, labels, level=0.6) == 0.6  # ceil(5 x 0.6) = 3rd
    assert conformal_threshold(p, labels, level=0.8) == 0.3
    assert conformal_threshold(p, labels, level=0.9) == 0.0  # five would be needed
    assert conformal_sets(p, 0.65).tolist() == [[True, False], [True, False], [False, True], [True, False]]
    for wrong in (0, 1):
        with pytest.raises(ValueError, match="between 0 and 1"):
            conformal_threshold(p, labels, level=wrong)
