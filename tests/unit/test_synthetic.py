"""Synthetic faces: determinism, masks, knobs, and that the label cannot be read from trivial cues."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import RidgeClassifier

from ferkit.labels import EMOTIONS
from ferkit.synthetic import faces as synthetic
from ferkit.synthetic.action_units import (
    AU_NAMES,
    AU_REGIONS,
    CONFUSABLE,
    IMBALANCES,
    OPTIONAL,
    PROTOTYPES,
    REGIONS,
    class_shares,
    evidence_regions,
)
from ferkit.synthetic.faces import draw_faces, face_from_action_units, load_synthetic, make_faces
from ferkit.synthetic.geometry import View
from ferkit.synthetic.parameters import DIFFICULTIES, OCCLUDERS, sample_labels, sample_parameters, uniform


@pytest.fixture(scope="module")
def batch():
    return make_faces(96, seed=5, emotions=8, masks=True)


@pytest.fixture(scope="module")
def plain():
    """Clear faces that look ahead, with masks, to be redrawn with other action units."""
    return make_faces(24, size=96, seed=5, difficulty="easy", masks=True, noise=0, blur=0, occluders="none")


def redraw(faces, **aus):
    vector = np.zeros_like(faces.aus)
    for name, value in aus.items():
        vector[:, AU_NAMES.index(name)] = value
    return draw_faces(vector, faces.parameters, size=faces.images.shape[-1])[0].astype(float)


# Determinism


def test_random_numbers_are_fixed_for_ever():
    # A change here changes every synthetic data set, and with it every number in the notebooks.
    assert np.allclose(
        uniform(0, np.arange(3), "yaw"),
        [0.1574625025359846, 0.13643589389531285, 0.7977974997962338],
        rtol=0,
        atol=1e-15,
    )


def test_random_numbers_are_even_and_unrelated():
    index = np.arange(20_000)
    a, b, c = uniform(0, index, "yaw"), uniform(0, index, "pitch"), uniform(1, index, "yaw")
    for u in (a, b, c):
        counts = np.histogram(u, bins=10, range=(0, 1))[0]
        assert 1850 < counts.min() and counts.max() < 2150
    for u, v in ((a, b), (a, c), (a[1:], a[:-1])):
        assert abs(np.corrcoef(u, v)[0, 1]) < 0.03


@pytest.mark.parametrize("size", [64, 97])
def test_pictures_do_not_depend_on_batch_order_or_chunk(size, monkeypatch):
    # Every occluder, wide poses: patches of all shapes.
    knobs = dict(
        size=size, seed=9, difficulty="hard", masks=True, shortcut="mark", yaw=(-45, 45), pitch=(-30, 30),
        roll=(-60, 60),
        occluders=dict.fromkeys(OCCLUDERS, 0.2),
    )  # fmt: skip
    whole = make_faces(40, start=3, **knobs)
    for i in (0, 17, 39):
        alone = make_faces(1, start=3 + i, **knobs)
        assert np.array_equal(alone.images[0], whole.images[i])
        assert alone.labels[0] == whole.labels[i] and np.array_equal(alone.aus[0], whole.aus[i])
        assert all(np.array_equal(alone.masks[k][0], whole.masks[k][i]) for k in whole.masks)
    order = np.random.default_rng(0).permutation(40)
    shuffled = {name: value[order] for name, value in whole.parameters.items()}
    knobs["shortcut"] = None
    assert np.array_equal(
        draw_faces(whole.aus[order], shuffled, size=size)[0], make_faces(40, start=3, **knobs).images[order]
    )
    monkeypatch.setattr(synthetic, "CHUNK_PIXELS", 7 * size * size)
    assert np.array_equal(
        make_faces(40, start=3, **knobs).images[order], draw_faces(whole.aus[order], shuffled, size=size)[0]
    )


def test_pictures_do_not_depend_on_the_number_of_threads():
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = make_faces(17, seed=2).images
        torch.set_num_threads(2)
        assert np.array_equal(make_faces(17, seed=2).images, one)
    finally:
        torch.set_num_threads(threads)


def test_series_differ_by_seed_and_by_index(batch):
    other = make_faces(96, seed=6, emotions=8)
    assert len(np.unique(batch.images.reshape(96, -1), axis=0)) == 96
    assert np.abs(batch.images.astype(int) - other.images).mean() > 20


def test_every_part_stays_within_its_patch(monkeypatch):
    # All units at once, in poses of every kind: with wider patches, nothing more is drawn.
    n = 48
    p = sample_parameters(
        3, np.arange(n), level=DIFFICULTIES["hard"], occluders=dict.fromkeys(OCCLUDERS, 0.2),
        view={"yaw": (-45, 45), "pitch": (-30, 30), "roll": (-60, 60)},
    )  # fmt: skip
    aus = np.random.default_rng(0).random((n, len(AU_NAMES))) ** 0.5
    aus[:8] = 1
    expected = draw_faces(aus, p, size=80)[0]
    patch = View.patch

    def wider(self, x, y, box, **options):
        return patch(self, x, y, tuple(np.add(box, (-0.15, 0.15, -0.15, 0.15))), **options)

    monkeypatch.setattr(View, "patch", wider)
    assert np.array_equal(draw_faces(aus, p, size=80)[0], expected)


# Facts


def test_tables_name_only_known_units_and_emotions():
    assert set(PROTOTYPES) == set(OPTIONAL) == set(CONFUSABLE) == set(EMOTIONS)
    assert set(AU_REGIONS) == set(AU_NAMES) and len(AU_NAMES) == 21
    for units in (*PROTOTYPES.values(), *OPTIONAL.values()):
        assert set(units) <= set(AU_NAMES)
    assert not PROTOTYPES["neutral"] and set(PROTOTYPES["happiness"]) == {"AU6", "AU12"}
    assert all(CONFUSABLE[name] in EMOTIONS and CONFUSABLE[name] != name for name in EMOTIONS)


def test_imbalances_have_the_sizes_of_the_real_sets():
    totals = {name: sum(counts.values()) for name, counts in IMBALANCES.items()}
    assert totals == {"fer2013": 28709, "ferplus": 25060, "rafdb": 12271, "affectnet": 287651, "expw": 91793}
    assert IMBALANCES["fer2013"]["disgust"] == 436 and IMBALANCES["rafdb"]["fear"] == 281


# Labels and action units


def test_classes_are_balanced_to_within_two_images():
    counts = np.bincount(make_faces(700, size=32, seed=1).labels)
    assert len(counts) == 7 and 98 <= counts.min() and counts.max() <= 102


@pytest.mark.parametrize("start", [0, 1 << 30])
def test_imbalance_gives_the_proportions_of_a_real_set(start):
    shares = class_shares("fer2013", EMOTIONS[:7])
    counts = np.bincount(sample_labels(4, start + np.arange(5000), shares), minlength=7)
    assert np.abs(counts - 5000 * np.array(shares)).max() < 8
    assert 72 <= counts[EMOTIONS.index("disgust")] <= 80  # 436 of 28,709


def test_imbalance_as_a_mapping_and_with_eight_classes():
    weights = dict.fromkeys(EMOTIONS[:7], 0.0) | {"fear": 3.0, "anger": 1.0}
    counts = np.bincount(make_faces(200, size=32, imbalance=weights).labels, minlength=7)
    assert set(np.flatnonzero(counts)) == {EMOTIONS.index("fear"), EMOTIONS.index("anger")}
    assert 148 <= counts[EMOTIONS.index("fear")] <= 152
    assert abs(sum(class_shares("affectnet", EMOTIONS)) - 1) < 1e-12


def test_label_noise_changes_that_share_of_the_labels():
    noisy = make_faces(1000, size=32, label_noise=0.3)
    wrong = noisy.labels != noisy.true_labels
    assert 0.26 < wrong.mean() < 0.34
    shift = (noisy.labels - noisy.true_labels)[wrong] % 7
    counts = np.bincount(shift, minlength=7)
    assert counts[0] == 0 and 30 < counts[1:].min() and counts[1:].max() < 70
    clean = make_faces(1000, size=32)
    assert np.array_equal(clean.labels, clean.true_labels) and np.array_equal(clean.true_labels, noisy.true_labels)
    assert np.array_equal(clean.images, noisy.images)


def test_active_units_belong_to_the_emotion(batch):
    for label, row, strengths in zip(batch.true_labels, batch.active, batch.aus, strict=True):
        name = batch.names[label]
        units = {AU_NAMES[k] for k in np.flatnonzero(row)}
        allowed = set(PROTOTYPES[name]) | set(OPTIONAL[name])
        if name == "contempt":
            assert len(units & {"AU14L", "AU14R"}) == 1
            allowed |= {"AU14L"}
        assert units <= allowed and bool(units) == (name != "neutral")
        assert (strengths[row] > 0).all() and (0 <= strengths).all() and (strengths <= 1).all()


def test_difficulty_orders_the_strength_of_expressions_and_what_hides_them():
    means, hidden, neutral = [], [], []
    for level in ("easy", "default", "hard"):
        faces = make_faces(420, size=32, difficulty=level)
        means.append(faces.aus[faces.active].mean())
        hidden.append((faces.parameters["occluder"] > 0).mean())
        neutral.append(faces.aus[faces.true_labels == 0].max())
    assert 0.6 < means[0] < 0.8 and 0.42 < means[1] < 0.6 and 0.35 < means[2] < means[1] - 0.02
    assert hidden[0] == 0 and 0.16 < hidden[1] < 0.3 and 0.3 < hidden[2] < 0.48
    assert neutral[0] < 0.11 and 0.2 < neutral[1] < 0.31


# Masks


def test_masks_lie_where_they_should(batch):
    rows = np.arange(64)[:, None]

    def height(name):
        return (batch.masks[name] * rows).sum((1, 2)) / batch.masks[name].sum((1, 2))

    frontal = np.abs(batch.parameters["roll"]) < 8
    for above, below in (
        ("brows", "eyes"),
        ("eyes", "nose"),
        ("nose", "mouth"),
        ("eyes", "cheeks"),
        ("cheeks", "mouth"),
    ):
        assert (height(above) < height(below))[frontal].all()
    for name in REGIONS:
        share = batch.masks[name].mean((1, 2))
        assert 0.01 < share.min() and share.max() < 0.25
        assert not (batch.masks[name] & ~batch.masks["face"]).any()
    assert not (batch.masks["face"] & batch.masks["background"]).any()
    assert 0.25 < batch.masks["face"].mean() < 0.55


def test_evidence_is_the_union_of_the_active_regions(batch):
    for i, row in enumerate(batch.active):
        regions = evidence_regions([AU_NAMES[k] for k in np.flatnonzero(row)])
        assert np.array_equal(batch.masks["evidence"][i], np.any([batch.masks[r][i] for r in regions], axis=0))
        assert (len(regions) == 5) if not row.any() else (1 <= len(regions))
    assert evidence_regions(["AU6", "AU12"]) == ("eyes", "mouth", "cheeks")
    assert evidence_regions([]) == REGIONS
    happy = batch.true_labels == EMOTIONS.index("happiness")
    assert not (batch.masks["evidence"] & ~np.any([batch.masks[r] for r in ("eyes", "mouth", "cheeks")], axis=0))[
        happy
    ].any()


@pytest.mark.parametrize("name", AU_NAMES)
def test_a_unit_changes_pixels_in_its_own_regions(plain, name):
    change = np.abs(redraw(plain, **{name: 0.8}) - redraw(plain))
    own = np.any([plain.masks[region] for region in AU_REGIONS[name]], axis=0)
    # AU26 and AU27 also move the outline of the jaw.
    assert 0.6 < change[own].sum() / change.sum() <= 1
    assert change[own].mean() > 10 * change[~own].mean()
    assert 0.05 < change.mean() < 5 and (change.max((1, 2)) > 5).all()


def test_lip_corners_change_mouth_and_cheeks_only(plain):
    change = np.abs(redraw(plain, AU12=0.8) - redraw(plain))
    own = plain.masks["mouth"] | plain.masks["cheeks"]
    assert change[own].sum() / change.sum() > 0.95
    assert change[plain.masks["brows"]].max() == 0


def test_one_sided_units_change_their_own_side():
    # AU14L is the face's left: the right of the picture.
    still, left, right = (face_from_action_units(aus).astype(float) for aus in ({}, {"AU14L": 1}, {"AU14R": 1}))
    columns = np.arange(192)[None, :]
    for changed, low, high in ((left, 100, 140), (right, 52, 92)):
        change = np.abs(changed - still)
        assert low < (change * columns).sum() / change.sum() < high


# Knobs


def centre_of_eyes(knob, value):
    pose = {knob: value}
    change = np.abs(face_from_action_units({"AU43": 1}, **pose).astype(float) - face_from_action_units({}, **pose))
    rows, columns = np.mgrid[:192, :192]
    x, y = (change * columns).sum() / change.sum(), (change * rows).sum() / change.sum()
    tilt = np.polyfit(columns.ravel(), rows.ravel(), 1, w=np.sqrt(change.ravel()))[0]
    return x, y, np.degrees(np.arctan(tilt))


def test_pose_turns_the_right_way():
    left, middle, right = (centre_of_eyes("yaw", value)[0] for value in (-25, 0, 25))
    assert 15 < middle - left < 30 and 15 < right - middle < 30
    down, level, up = (centre_of_eyes("pitch", value)[1] for value in (-15, 0, 15))
    assert 6 < down - level < 20 and 6 < level - up < 20
    assert 12 < centre_of_eyes("roll", 20)[2] < 26 and -26 < centre_of_eyes("roll", -20)[2] < -12


@pytest.mark.parametrize("direction", [-60, 60])
def test_light_brightens_the_side_it_comes_from(direction):
    faces = make_faces(60, light=direction, yaw=0, noise=0, roll=0, occluders="none", masks=True)
    left = np.where(np.arange(64) < 32, True, False)[None, None, :] & faces.masks["face"]
    right = ~left & faces.masks["face"]
    ratio = (faces.images * left).sum() / left.sum() / ((faces.images * right).sum() / right.sum())
    assert (1.15 < ratio < 2) if direction < 0 else (0.5 < ratio < 0.87)


def test_blur_and_noise_do_what_they_say():
    knobs = dict(seed=3, difficulty="easy", light=0)
    clear = make_faces(40, blur=0, noise=0, **knobs).images.astype(float)
    soft = make_faces(40, blur=1, noise=0, **knobs).images.astype(float)
    noisy = make_faces(40, blur=0, noise=0.04, **knobs).images.astype(float)
    edges = [np.abs(np.diff(images, axis=2)).mean() for images in (clear, soft)]
    assert 0.4 < edges[1] / edges[0] < 0.8
    assert abs(soft.mean() - clear.mean()) < 1
    inner = (clear > 40) & (clear < 215)
    assert 9.2 < (noisy - clear)[inner].std() < 11.2  # 0.04 * 255 = 10.2
    assert abs((noisy - clear)[inner].mean()) < 0.3


def test_identity_knobs_change_the_face_and_persons_repeat():
    skin = [make_faces(30, identity={"skin": s}, masks=True, occluders="none") for s in (0.0, 0.5, 1.0)]
    tones = [(b.images * b.masks["cheeks"]).sum() / b.masks["cheeks"].sum() for b in skin]
    assert tones[0] > tones[1] + 20 > tones[2] + 50
    few = make_faces(200, size=32, persons=5)
    assert sorted(set(few.person)) == [0, 1, 2, 3, 4]
    for name in ("skin", "jaw", "eye_size"):
        assert len(np.unique(few.parameters[name])) == 5
    assert len(np.unique(few.parameters["yaw"])) == 200
    ranged = make_faces(200, size=32, identity={"age": (0.2, 0.4)}).parameters["age"]
    assert 0.2 <= ranged.min() < 0.22 and 0.38 < ranged.max() <= 0.4


def test_occluders_hide_what_they_should():
    def hidden(kind, region):
        faces = make_faces(30, difficulty="easy", occluders=kind, masks=True)
        return (faces.masks["occluder"] & faces.masks[region]).sum() / faces.masks[region].sum()

    assert hidden("none", "mouth") == 0
    assert hidden("mask", "mouth") > 0.85 and hidden("mask", "brows") == 0
    assert hidden("sunglasses", "eyes") > 0.6 and hidden("sunglasses", "mouth") == 0
    assert 0.05 < hidden("glasses", "eyes") < 0.4
    assert 0.1 < hidden("hand", "mouth") < 0.8
    kinds = make_faces(1000, size=32, occluders={"mask": 0.3, "hand": 0.1}).parameters["occluder"]
    assert 0.26 < (kinds == 1 + OCCLUDERS.index("mask")).mean() < 0.34 and 0.55 < (kinds == 0).mean() < 0.65


def test_a_planted_mark_tells_the_label_as_often_as_asked():
    faces = make_faces(500, shortcut="mark", shortcut_strength=0.8, masks=True)
    assert 0.75 < (faces.cue == faces.labels).mean() < 0.85
    slots = np.stack([faces.images[:, 2:5, 2 + 7 * k : 5 + 7 * k].min((1, 2)) for k in range(7)], axis=1)
    rims = np.stack([faces.images[:, 1, 1 + 7 * k : 6 + 7 * k].max(1) for k in range(7)], axis=1)
    assert np.array_equal(np.argmax((slots == 255) & (rims == 0), axis=1), faces.cue)
    assert (faces.masks["shortcut"].sum((1, 2)) == 25).all()
    clean = make_faces(500)
    assert np.array_equal(faces.images[~faces.masks["shortcut"]], clean.images[~faces.masks["shortcut"]])
    assert (clean.cue == -1).all()


def test_a_tinted_backdrop_tells_the_label():
    faces = make_faces(300, shortcut="tint", shortcut_strength=1.0, masks=True, noise=0)
    assert np.array_equal(faces.cue, faces.labels)
    share = faces.masks["background"].sum((1, 2))
    brightness = (faces.images * faces.masks["background"]).sum((1, 2)) / share
    levels = [brightness[faces.cue == k].mean() for k in range(7)]
    assert np.all(np.diff(levels) > 10) and levels[0] < 80 and levels[6] > 160
    assert np.array_equal(faces.masks["shortcut"], faces.masks["background"])


def test_grey_is_the_luma_of_rgb():
    grey, rgb = make_faces(24, seed=8).images, make_faces(24, seed=8, colour="rgb").images
    assert grey.shape == (24, 64, 64) and rgb.shape == (24, 3, 64, 64)
    difference = np.tensordot(rgb.astype(float), [0.299, 0.587, 0.114], axes=(1, 0)) - grey
    assert np.abs(difference).mean() < 0.6  # rounding; a channel at its limit is cut off
    assert np.abs(rgb[:, 0].astype(int) - rgb[:, 2]).mean() > 10


# The label is in the expression, and only there


def test_label_is_not_in_brightness_or_backdrop():
    faces = make_faces(1400, size=32, seed=7)
    x = np.concatenate([faces.images[:, 0, :3], faces.images.mean((1, 2))[:, None]], axis=1)
    train, test = slice(0, 1000), slice(1000, None)
    score = RidgeClassifier().fit(x[train], faces.labels[train]).score(x[test], faces.labels[test])
    assert 0.05 < score < 0.22  # chance is 0.143


def test_linear_classifier_learns_easy_faces_in_part():
    scores = {}
    for level in ("easy", "default"):
        faces = make_faces(1400, size=48, seed=7, difficulty=level)
        x = faces.images.reshape(1400, -1) / 255
        model = RidgeClassifier(alpha=100).fit(x[:1000], faces.labels[:1000])
        scores[level] = model.score(x[1000:], faces.labels[1000:])
    assert 0.35 < scores["easy"] < 0.8
    assert 0.16 < scores["default"] < 0.45 and scores["default"] < scores["easy"] - 0.1


# One face, and the data set


def test_face_from_action_units():
    face = face_from_action_units({"AU12": 0.8, "AU6": 0.5}, seed=4)
    assert face.shape == (192, 192) and face.dtype == np.uint8
    assert face_from_action_units(PROTOTYPES["fear"], size=64, colour="rgb").shape == (3, 64, 64)
    assert np.array_equal(face, face_from_action_units({"AU6": 0.5, "AU12": 0.8}, seed=4))
    assert np.abs(face.astype(int) - face_from_action_units({"AU12": 0.8, "AU6": 0.5}, seed=5)).mean() > 10


def test_load_synthetic_is_a_face_set():
    faces = load_synthetic(60, 40, size=48, seed=3, label_noise=0.5)
    assert faces.splits() == {"train": 60, "test": 40} and faces.names == EMOTIONS[:7]
    assert faces.images.shape == (100, 48, 48) and len(faces.sha256) == 64
    more = load_synthetic(90, 40, size=48, seed=3, label_noise=0.5)
    assert np.array_equal(more.select("test").images, faces.select("test").images)
    assert np.array_equal(more.images[:60], faces.images[:60]) and more.sha256 != faces.sha256
    clean = load_synthetic(60, 40, size=48, seed=3)
    changed = clean.labels != faces.labels
    assert 18 <= changed[:60].sum() <= 42 and not changed[60:].any()
    assert set(clean.counts().values()) <= {13, 14, 15, 16}


def test_load_synthetic_with_other_knobs_for_the_test_pictures():
    same = load_synthetic(30, 30, size=64, shortcut="mark", shortcut_strength=1.0)
    free = load_synthetic(30, 30, size=64, shortcut="mark", shortcut_strength=1.0, test={"shortcut": None})
    assert np.array_equal(same.select("train").images, free.select("train").images)
    rows = same.select("test").images != free.select("test").images
    assert rows.any((1, 2)).all() and not rows[:, 7:].any()


def test_data_load_knows_the_synthetic_faces():
    from ferkit.data import load

    faces = load("synthetic", n_train=12, n_test=8, size=32, emotions=8, colour="rgb")
    assert faces.images.shape == (20, 3, 32, 32) and faces.names == EMOTIONS


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: make_faces(0), "at least 1"),
        (lambda: make_faces(1, size=16), "32 to 1024"),
        (lambda: make_faces(1, emotions=6), "7 or 8"),
        (lambda: make_faces(1, difficulty="brutal"), "easy, default, hard"),
        (lambda: make_faces(1, identity={"charm": 1}), "charm"),
        (lambda: make_faces(1, identity={"skin": 1.2}), r"skin as a number or \(low, high\) within \[0, 1\]"),
        (lambda: make_faces(1, yaw=(10, -10)), "yaw"),
        (lambda: make_faces(1, yaw=90), r"within \[-45, 45\]"),
        (lambda: make_faces(1, noise=-0.1), "noise"),
        (lambda: make_faces(1, occluders="scarf"), "glasses, sunglasses, mask, hand"),
        (lambda: make_faces(1, occluders={"mask": 0.8, "hand": 0.3}), "sum to at most 1"),
        (lambda: make_faces(1, label_noise=1.5), "label_noise"),
        (lambda: make_faces(1, imbalance="imagenet"), "fer2013, ferplus"),
        (lambda: make_faces(1, imbalance={"fear": 1.0}), "missing: neutral"),
        (lambda: make_faces(1, imbalance="fer2013", emotions=8), "missing: contempt"),
        (lambda: make_faces(1, imbalance=dict.fromkeys(EMOTIONS[:7], 0.0)), "above zero"),
        (lambda: make_faces(1, shortcut="watermark"), "mark, tint"),
        (lambda: make_faces(1, colour="bgr"), "grey"),
        (lambda: make_faces(1, persons=0), "at least one person"),
        (lambda: face_from_action_units({"AU3": 1}), "AU1, AU2, AU4"),
        (lambda: face_from_action_units({"AU1": 2}), r"AU1 in \[0, 1\]"),
        (lambda: load_synthetic(5, 5, test={"size": 32}), "size"),
        (lambda: draw_faces(np.zeros((2, 3)), {}), r"\(N, 21\)"),
    ],
)  # fmt: skip
def test_bad_options_are_refused_with_a_sentence(call, words):
    with pytest.raises(ValueError, match=words) as error:
        call()
    assert str(error.value).startswith("Expected") and "found" in str(error.value) or "missing" in str(error.value)
