"""Votes, ceilings and doubtful labels: values worked out by hand, and noise that was planted."""

import numpy as np
import pytest

from ferkit.doctor import label_noise
from ferkit.doctor.label_noise import against_crowd, agreement, entropy, label_issues


def test_entropy_by_hand():
    votes = np.array([[10, 0, 0, 0], [5, 5, 0, 0], [1, 1, 1, 1], [6, 3, 1, 0]])
    by_hand = -(0.6 * np.log2(0.6) + 0.3 * np.log2(0.3) + 0.1 * np.log2(0.1))
    np.testing.assert_allclose(entropy(votes), [0, 1, 2, by_hand])
    np.testing.assert_allclose(entropy(votes / votes.sum(1, keepdims=True)), entropy(votes))


def test_agreement_by_hand():
    found = agreement(np.array([[10, 0], [5, 5], [8, 2], [0, 10]]))
    # pairs: 1, (20 + 20) / 90, (56 + 2) / 90, 1
    np.testing.assert_allclose(found["two_raters"].value, (1 + 40 / 90 + 58 / 90 + 1) / 4)
    np.testing.assert_allclose(found["ceiling"].value, (1 + 0.5 + 0.8 + 1) / 4)
    np.testing.assert_allclose(found["majority"].value, 0.75)
    for low, value, high in ((e.low, e.value, e.high) for e in found.values()):
        assert low <= value <= high and low < high


def test_the_interval_holds_the_truth():
    """Raters who say the right one of three words with probability 0.7: two agree in 0.7^2 + 2 * 0.15^2."""
    truth, hit = 0.7**2 + 2 * 0.15**2, 0
    for seed in range(40):
        counts = np.random.default_rng(seed).multinomial(10, [0.7, 0.15, 0.15], size=300)
        found = agreement(counts, n_bootstrap=200, seed=seed)["two_raters"]
        hit += found.low <= truth <= found.high
    assert 34 <= hit <= 40


@pytest.mark.parametrize(
    ("votes", "sentence"),
    [
        (np.ones(3), "shape"),
        (np.array([[1, -1]]), "0 or more"),
        (np.array([[1, np.nan]]), "0 or more"),
        (np.array([[1, 1], [0, 0]]), "first picture 1"),
        (np.ones((0, 2)), "shape"),
    ],
)
def test_votes_that_are_none(votes, sentence):
    for fn in (entropy, agreement):
        with pytest.raises(ValueError, match=sentence):
            fn(votes)


def test_one_vote_says_nothing_of_agreement():
    with pytest.raises(ValueError, match="two votes a picture at least, found 1 for picture 1"):
        agreement(np.array([[2, 0], [0, 1]]))


def planted(n=2000, k=5, noise=0.1, sharp=3.0, seed=0):
    """Labels of which a known part was changed, and probabilities of a network that is right more often than not."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(k, size=n)
    logits = rng.normal(0, 1, (n, k))
    logits[np.arange(n), truth] += sharp
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    wrong = rng.random(n) < noise
    given = np.where(wrong, (truth + rng.integers(1, k, size=n)) % k, truth)
    counts = rng.multinomial(10, [0.8] + [0.05] * 4, size=n)  # first column: the true word
    votes = np.stack([np.roll(row, t) for row, t in zip(counts, truth, strict=True)])
    return given, p, wrong, votes


def test_planted_noise_is_found_and_the_crowd_confirms():
    pytest.importorskip("cleanlab")
    given, p, wrong, votes = planted()
    issues = label_issues(given, p)
    assert 0.8 < (wrong & issues.suspected).sum() / wrong.sum() <= 1
    assert 0.7 < (wrong & issues.suspected).sum() / issues.suspected.sum() <= 1
    assert issues.quality[wrong].mean() < 0.4 < issues.quality[~wrong].mean()
    found = against_crowd(issues, given, votes)
    assert found["n"] + found["no_majority"] == len(given) and found["n"] > 1900
    assert (
        0.08 < found["base_rate"].value < 0.13
        and 0.7 < found["precision"].value <= 1
        and 0.8 < found["recall"].value <= 1
    )
    assert 6 < found["lift"] < 12 and 0.95 < found["auroc"] <= 1 and 0.9 < found["suggestion_agrees"].value <= 1
    assert (
        found["both"]
        == round(found["precision"].value * found["suspected"])
        == round(found["recall"].value * found["disputed"])
    )


def test_a_network_that_knows_nothing_finds_nothing():
    pytest.importorskip("cleanlab")
    given, p, _, votes = planted(sharp=0.0)
    found = against_crowd(label_issues(given, p), given, votes)
    assert 0.4 < found["auroc"] < 0.6 and 0.5 < found["lift"] < 1.5


def test_labels_without_noise_are_left_alone():
    pytest.importorskip("cleanlab")
    given, p, _, votes = planted(noise=0.0, sharp=6.0)
    issues = label_issues(given, p)
    assert issues.suspected.sum() < 20
    assert against_crowd(issues, given, votes)["disputed"] == 0


def test_words_that_no_label_has():
    """FER+'s contempt, unknown and not-a-face are columns after those of the labels;
    a majority there disputes the label.
    """
    issues = label_noise.Issues(np.array([True, False, False]), np.array([0.1, 0.9, 0.8]), np.array([1, 1, 0]))
    found = against_crowd(issues, np.array([0, 1, 0]), np.array([[0, 0, 10], [1, 9, 0], [4, 3, 3]]))
    assert (found["n"], found["no_majority"], found["disputed"], found["both"]) == (2, 1, 1, 1)
    assert found["precision"].value == 1 and found["suggestion_agrees"].value == 0 and found["auroc"] == 1


@pytest.mark.parametrize(
    ("labels", "p", "sentence"),
    [
        (np.array([0, 1]), np.eye(3), "Expected labels"),
        (np.array([0, 1]), np.full((2, 3), 1 / 3), "found none of 2"),
        (np.array([0, 1]), np.array([[3.0, 1.0], [0.5, 0.5]]), "softmax"),
    ],
)
def test_what_does_not_fit(labels, p, sentence):
    with pytest.raises(ValueError, match=sentence):
        label_issues(labels, p)
