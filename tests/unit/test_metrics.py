"""Metrics against scikit-learn and textbook values; intervals that cover."""

import json
import math

import numpy as np
import pytest
from sklearn import metrics as sk

from ferkit.evaluation.metrics import (
    SCORES,
    bootstrap_intervals,
    evaluate,
    mcnemar,
    mean_interval,
    scores_of_confusion,
    wilson,
)
from ferkit.labels import EMOTIONS

NAMES = EMOTIONS[:7]


def answers(n: int, *, seed: int = 0, k: int = 7, skill: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    """Random probabilities that know something, and unequal classes."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(k, n, p=np.arange(1, k + 1) / (k * (k + 1) / 2))
    logits = rng.normal(size=(n, k))
    logits[np.arange(n), labels] += skill
    p = np.exp(logits)
    return p / p.sum(1, keepdims=True), labels


def test_scores_are_those_of_scikit_learn():
    p, y = answers(500)
    found = evaluate(p, y, NAMES, n_bootstrap=50)
    guess = p.argmax(1)
    assert found["n"] == 500 and found["names"] == list(NAMES)
    assert found["accuracy"] == pytest.approx(sk.accuracy_score(y, guess), abs=1e-12)
    assert found["macro_f1"] == pytest.approx(sk.f1_score(y, guess, average="macro"), abs=1e-12)
    assert found["balanced_accuracy"] == pytest.approx(sk.balanced_accuracy_score(y, guess), abs=1e-12)
    assert found["cross_entropy"] == pytest.approx(sk.log_loss(y, p), abs=1e-9)
    assert found["confusion"] == sk.confusion_matrix(y, guess).tolist()
    assert list(found["recall"].values()) == pytest.approx(sk.recall_score(y, guess, average=None))
    assert list(found["recall"]) == list(NAMES)
    assert 0.5 < found["accuracy"] < 0.9  # the comparison is of something


def test_calibration_error_by_hand():
    p, y = answers(400, seed=1, skill=1.0)
    confidence, right = p.max(1), p.argmax(1) == y
    bins = np.clip(np.ceil(confidence * 15).astype(int) - 1, 0, 14)
    by_hand = sum(
        abs(right[bins == b].mean() - confidence[bins == b].mean()) * (bins == b).mean()
        for b in range(15)
        if (bins == b).any()
    )
    assert evaluate(p, y, NAMES, n_bootstrap=10)["ece"] == pytest.approx(by_hand, abs=1e-5)
    certain = np.eye(7)[y]
    assert evaluate(certain, y, NAMES, n_bootstrap=10)["ece"] == pytest.approx(0, abs=1e-6)
    assert evaluate(np.roll(certain, 1, 1), y, NAMES, n_bootstrap=10)["ece"] == pytest.approx(1, abs=1e-6)


def test_result_is_plain_numbers():
    p, y = answers(60)
    found = evaluate(p.astype(np.float32), y, NAMES, n_bootstrap=20, clean=np.arange(60) < 40)
    assert json.loads(json.dumps(found)) == found
    assert all(isinstance(v, int) for row in found["confusion"] for v in row)


def test_absent_class_has_no_recall_and_does_not_count():
    y = np.array([0, 0, 1, 1])
    p = np.eye(3)[[0, 0, 1, 0]]
    found = evaluate(p, y, ("a", "b", "c"), n_bootstrap=20)
    assert found["recall"] == {"a": 1.0, "b": 0.5, "c": None}
    assert found["balanced_accuracy"] == 0.75
    assert found["macro_f1"] == pytest.approx((0.8 + 2 / 3) / 2)
    # predicted but never true: it enters macro-F1 as zero, as in scikit-learn
    p[3] = [0, 0, 1]
    assert evaluate(p, y, ("a", "b", "c"), n_bootstrap=20)["macro_f1"] == pytest.approx(
        sk.f1_score(y, p.argmax(1), average="macro")
    )


def test_ties_are_decided_alike_everywhere():
    y = np.array([0, 1, 2, 2])
    found = evaluate(np.full((4, 3), 1 / 3), y, ("a", "b", "c"), n_bootstrap=200)
    assert np.array(found["confusion"])[:, 0].tolist() == [1, 1, 2]
    assert found["accuracy"] == 0.25 and found["intervals"]["accuracy"][0] <= 0.25 <= found["intervals"]["accuracy"][1]


def test_duplicate_clean_figures_are_those_of_the_clean_rows():
    p, y = answers(300, seed=2)
    clean = np.arange(300) % 3 > 0
    found = evaluate(p, y, NAMES, n_bootstrap=50, clean=clean)
    alone = evaluate(p[clean], y[clean], NAMES, n_bootstrap=50)
    assert found["duplicate_clean"] == {k: alone[k] for k in ("n", *SCORES, "intervals")}
    assert found["duplicate_clean"]["n"] == 200 and found["n"] == 300
    assert "duplicate_clean" not in evaluate(p, y, NAMES, n_bootstrap=5, clean=np.zeros(300, bool))


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    truth, n, covered = 0.7, 200, 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        labels = rng.integers(0, 4, n)
        predictions = np.where(rng.random(n) < truth, labels, (labels + 1) % 4)
        _, low, high = bootstrap_intervals(labels, predictions, 4, n_bootstrap=300, seed=seed)["accuracy"]
        assert 0 < low < high < 1
        covered += low <= truth <= high
    assert 0.90 <= covered / 300 <= 0.985


def test_bootstrap_of_accuracy_has_the_binomial_width():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 7, 3589)
    predictions = np.where(rng.random(3589) < 0.65, labels, (labels + 1) % 7)
    _, low, high = bootstrap_intervals(labels, predictions, 7, n_bootstrap=2000)["accuracy"]
    assert (high - low) / 2 == pytest.approx(1.96 * math.sqrt(0.65 * 0.35 / 3589), rel=0.1)


def test_bootstrap_draws_images_not_cells():
    """Equal in distribution to resampling images one by one."""
    p, y = answers(150, seed=3)
    guess = p.argmax(1)
    fast = bootstrap_intervals(y, guess, 7, n_bootstrap=4000, seed=0)
    rng = np.random.default_rng(1)
    slow = []
    for _ in range(2000):
        rows = rng.integers(0, 150, 150)
        counts = np.bincount(7 * y[rows] + guess[rows], minlength=49).reshape(7, 7)
        slow.append(scores_of_confusion(counts)["macro_f1"])
    assert fast["macro_f1"][1:] == pytest.approx(tuple(np.percentile(slow, [2.5, 97.5])), abs=0.015)


def test_same_seed_same_interval():
    p, y = answers(100)
    first, second, other = (evaluate(p, y, NAMES, n_bootstrap=100, seed=s)["intervals"] for s in (0, 0, 1))
    assert first == second != other


@pytest.mark.parametrize(
    ("p", "y", "complaint"),
    [
        (np.eye(3), np.array([0, 1]), r"shape \(2, 3\), found \(3, 3\)"),
        (np.eye(4)[:3], np.arange(3), r"shape \(3, 3\), found \(3, 4\)"),
        (np.zeros((0, 3)), np.zeros(0, int), "test set is empty"),
        (np.eye(3), np.array([0, 1, 3]), "labels must be 0 to 2, found 0 to 3"),
        (np.eye(3), np.array([-1, 1, 2]), "found -1 to 2"),
        (np.eye(3) * 5, np.arange(3), "softmax outputs, not logits"),
        (np.full((3, 3), np.nan), np.arange(3), "must sum to 1"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(p, y, complaint):
    with pytest.raises(ValueError, match=complaint):
        evaluate(p, y, ("a", "b", "c"))


def test_scores_of_many_matrices_at_once():
    stack = np.random.default_rng(0).integers(0, 20, (5, 3, 3))
    together = scores_of_confusion(stack)
    for i, matrix in enumerate(stack):
        for name, value in scores_of_confusion(matrix).items():
            assert together[name][i] == pytest.approx(float(value))


@pytest.mark.parametrize(
    ("k", "n", "low", "high"),
    # 81 of 263: Newcombe, Statistics in Medicine 17 (1998), table I, method 3. Of 10: closed forms, z = 1.959964.
    [(81, 263, 0.2553, 0.3662), (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (15, 148, 0.0624, 0.1605)],
)
def test_wilson_interval(k, n, low, high):
    assert wilson(k, n) == pytest.approx((low, high), abs=5.1e-5)


def test_wilson_interval_of_nothing_and_other_levels():
    assert wilson(0, 0) == (0.0, 1.0)
    narrow, wide = wilson(50, 100, level=0.5), wilson(50, 100, level=0.99)
    assert wide[0] < narrow[0] < 0.5 < narrow[1] < wide[1]


def pairs(both: int, only_a: int, only_b: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    a = np.repeat([True, True, False, False], [both, only_a, only_b, neither])
    b = np.repeat([True, False, True, False], [both, only_a, only_b, neither])
    return a, b


@pytest.mark.parametrize(
    ("only_a", "only_b", "p"),
    # two-sided binomial tails: 2 * sum_{i<=min} C(n, i) / 2^n
    [(5, 5, 1.0), (1, 9, 22 / 1024), (0, 6, 2 / 64), (10, 2, 2 * (1 + 12 + 66) / 4096), (0, 0, 1.0)],
)
def test_mcnemar(only_a, only_b, p):
    found = mcnemar(*pairs(30, only_a, only_b, 20))
    assert found == {"only_a": only_a, "only_b": only_b, "p": pytest.approx(p, abs=1e-12)}
    assert mcnemar(*pairs(0, only_a, only_b, 0))["p"] == found["p"]  # images that both get right or wrong say nothing
    assert mcnemar(*reversed(pairs(1, only_a, only_b, 1)))["only_a"] == only_b


def test_mcnemar_needs_the_same_images():
    with pytest.raises(ValueError, match="the same images"):
        mcnemar(np.ones(3, bool), np.ones(4, bool))


def test_mean_over_seeds():
    mean, low, high = mean_interval([0.61, 0.63, 0.65])
    assert mean == pytest.approx(0.63)
    assert high - mean == mean - low == pytest.approx(4.30265 * 0.02 / math.sqrt(3), rel=1e-4)  # t quantile, 2 degrees
    assert math.isnan(mean_interval([0.6])[1])
