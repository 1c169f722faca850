"""Measures between members against cases with known answers: equal, independent and opposite members;
intervals that cover.
"""

import numpy as np
import pytest
from sklearn import metrics as sk

from ferkit.evaluation import (
    accuracy_by_branches,
    answers,
    attention_overlap,
    cka,
    cohen_kappa,
    disagreement,
    ensemble_gain,
    error_correlation,
    linear_cka,
    mean_probability,
    oracle_accuracy,
    plurality,
)
from ferkit.evaluation.metrics import mcnemar, wilson

RNG = np.random.default_rng


def guesses(
    members: int = 4, n: int = 500, k: int = 7, *, skill: float = 0.6, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Independent members that know the label with probability `skill` and guess otherwise."""
    rng = RNG(seed)
    labels = rng.integers(k, size=n)
    return np.where(rng.random((members, n)) < skill, labels, rng.integers(k, size=(members, n))), labels


def opposite(labels: np.ndarray, k: int = 7) -> np.ndarray:
    """Two members of which exactly one is right on each image: the first on even ones."""
    even = np.arange(len(labels)) % 2 == 0
    wrong = (labels + 1) % k
    return np.stack([np.where(even, labels, wrong), np.where(even, wrong, labels)])


def probabilities(guess: np.ndarray, k: int, confidence: float | np.ndarray = 0.6) -> np.ndarray:
    confidence = np.broadcast_to(np.asarray(confidence), guess.shape)[..., None]
    return np.where(np.arange(k) == guess[..., None], confidence, (1 - confidence) / (k - 1))


# ------------------------------------------------------------------------------------------------- agreement and errors


def test_disagreement_of_equal_opposite_and_independent_members():
    guess, labels = guesses(6, 4000)
    equal = disagreement(np.stack([guess[0], guess[0]]))
    assert equal.matrix.max() == 0 and equal.mean == 0 and equal.interval == (0, 0)
    assert disagreement(opposite(labels)).mean == 1
    found = disagreement(guess, n_bootstrap=200)
    alike = 0.6**2 + (1 - 0.6**2) / 7  # both know, or a guess meets the other's answer
    assert found.mean == pytest.approx(1 - alike, abs=0.01)
    assert found.matrix.shape == found.low.shape == (6, 6) and np.array_equal(found.matrix, found.matrix.T)
    assert found.matrix[1, 4] == pytest.approx((guess[1] != guess[4]).mean()) and found.matrix.diagonal().max() == 0
    assert (found.low <= found.matrix).all() and (found.matrix <= found.high).all()
    assert found.interval[0] < found.mean < found.interval[1]
    assert np.array_equal(disagreement(probabilities(guess, 7)).matrix, found.matrix)


def test_kappa_is_that_of_scikit_learn_and_of_the_analytic_cases():
    guess, labels = guesses(5, 3000)
    found = cohen_kappa(guess, n_bootstrap=100)
    for a, b in ((0, 1), (2, 4)):
        assert found.matrix[a, b] == pytest.approx(sk.cohen_kappa_score(guess[a], guess[b]), abs=1e-12)
    assert (found.matrix.diagonal() == 1).all() and 0.3 < found.mean < 0.4  # .6^2
    independent = cohen_kappa(RNG(1).integers(7, size=(2, 20000)), n_bootstrap=100)
    assert independent.mean == pytest.approx(0, abs=0.02) and independent.interval[0] < 0 < independent.interval[1]
    assert cohen_kappa(np.stack([guess[0], guess[0]])).matrix[0, 1] == pytest.approx(1)
    coin = np.arange(1000) % 2
    assert cohen_kappa(np.stack([coin, 1 - coin])).mean == pytest.approx(-1)
    assert cohen_kappa(np.full((2, 10), 3)).mean == 1  # one class only: full agreement, not 0 / 0
    assert cohen_kappa(np.stack([np.full(10, 3), np.full(10, 2)])).mean == 0


@pytest.mark.parametrize("kind", ["phi", "q"])
def test_errors_in_common(kind):
    guess, labels = guesses(4, 20000)
    equal = error_correlation(np.stack([guess[0], guess[0]]), labels, kind=kind, n_bootstrap=50)
    assert equal.mean == pytest.approx(1) and equal.interval == pytest.approx((1, 1))
    assert error_correlation(opposite(labels), labels, kind=kind, n_bootstrap=50).mean == pytest.approx(-1)
    independent = error_correlation(guess, labels, kind=kind, n_bootstrap=200)
    assert independent.mean == pytest.approx(0, abs=0.03)
    assert independent.interval[0] < 0 < independent.interval[1] or abs(independent.mean) < 0.01
    # half of the images too hard for both: errors in common
    hard = np.where(np.arange(20000) % 2, guess, (labels + 1) % 7)
    assert 0.3 < error_correlation(hard, labels, kind=kind, n_bootstrap=50).mean < 1


def test_phi_and_q_by_hand():
    labels = np.zeros(10, dtype=int)
    right = np.array([[1, 1, 1, 1, 1, 1, 0, 0, 0, 0], [1, 1, 1, 1, 0, 0, 1, 0, 0, 0]])  # 4 both, 2, 1, 3 neither
    phi, q = (error_correlation(1 - right, labels, kind=kind).mean for kind in ("phi", "q"))
    assert phi == pytest.approx(np.corrcoef(right)[0, 1]) and phi == pytest.approx(10 / np.sqrt(6 * 4 * 5 * 5))
    assert q == pytest.approx((12 - 2) / (12 + 2))


def test_errors_of_a_member_that_is_always_right_have_no_correlation():
    guess, labels = guesses(2, 300)
    found = error_correlation(np.stack([labels, *guess]), labels)
    assert np.isnan(found.matrix[0, 1]) and np.isnan(found.low[0, 1]) and np.isfinite(found.matrix[1, 2])
    assert found.mean == pytest.approx(found.matrix[1, 2])
    assert np.isnan(error_correlation(np.stack([labels, labels]), labels).mean)


# --------------------------------------------------------------------------------------------------- features and gates


def test_cka_of_equal_rotated_and_unrelated_features():
    rng = RNG(0)
    x = rng.normal(size=(2000, 8))
    turn = np.linalg.qr(rng.normal(size=(8, 8)))[0]
    assert linear_cka(x, x) == pytest.approx(1) and linear_cka(x, -3 * x @ turn + 5) == pytest.approx(1)
    assert linear_cka(x, rng.normal(size=(2000, 5))) < 0.02
    half = np.concatenate([x[:, :4], rng.normal(size=(2000, 4))], 1)
    assert linear_cka(x, half) == pytest.approx(0.5, abs=0.03)
    assert linear_cka(x, x @ np.diag(np.arange(8.0))) < 0.95  # unequal scaling is another representation
    assert np.isnan(linear_cka(x, np.ones((2000, 2))))
    few, more = rng.normal(size=(20, 500)), rng.normal(size=(20, 500))
    assert abs(linear_cka(few, more)) < 0.2
    biased = [np.square((a - a.mean(0)).T @ (b - b.mean(0))).sum() for a, b in ((few, more), (few, few), (more, more))]
    assert biased[0] / np.sqrt(biased[1] * biased[2]) > 0.9  # what it would be with the bias


def hsic(x: np.ndarray, y: np.ndarray) -> float:
    """The unbiased estimator of Song et al. 2012, equation 5, as printed (without its factor 1 / (n (n - 3)))."""
    n, (k, m) = len(x), (z @ z.T for z in (x, y))
    np.fill_diagonal(k, 0), np.fill_diagonal(m, 0)
    one = np.ones(n)
    return np.trace(k @ m) + (one @ k @ one) * (one @ m @ one) / ((n - 1) * (n - 2)) - 2 / (n - 2) * (one @ k @ m @ one)


@pytest.mark.parametrize("width", [20, 80])
def test_cka_by_either_matrix_is_that_of_the_unbiased_estimator(width):
    rng = RNG(1)
    x, y = rng.normal(size=(60, 40)), rng.normal(size=(60, width))
    y[:, :20] += 2 * x[:, :20] + 3
    expected = hsic(x, y) / np.sqrt(hsic(x, x) * hsic(y, y))
    assert linear_cka(x, y) == pytest.approx(expected, rel=1e-9) and 0.2 < expected < 0.8


def test_cka_of_members_with_widths_of_their_own():
    rng = RNG(1)
    x, y = rng.normal(size=(60, 40)), rng.normal(size=(60, 80))
    y[:, :40] += 2 * x
    found = cka([x, y, x.reshape(60, 5, 8)], n_bootstrap=20)
    assert found.matrix[0, 1] == pytest.approx(linear_cka(x, y)) and found.matrix[0, 2] == pytest.approx(1)
    assert found.low[0, 2] == pytest.approx(1) and found.low[0, 1] < found.matrix[0, 1] < found.high[0, 1]
    again, other = (cka([x, y], n_bootstrap=20, seed=seed).interval for seed in (3, 4))
    assert again == cka([x, y], n_bootstrap=20, seed=3).interval != other


def test_intervals_of_cka_cover():
    """Four features in common, four of each one's own: one half."""
    inside = 0
    for seed in range(60):
        common, left, right = RNG(seed).normal(size=(3, 150, 4))
        low, high = cka([np.hstack([common, left]), np.hstack([common, right])], n_bootstrap=100, seed=seed).interval
        inside += low < 0.5 < high
    assert 50 <= inside <= 60


def test_overlap_of_gates():
    left, right = np.zeros((5, 4, 4)), np.zeros((5, 4, 4))
    left[:, :, :2], right[:, :, 2:] = 1, 1
    for kind in ("cosine", "iou"):
        found = attention_overlap(np.stack([left, left, right]), kind=kind, top=0.5)
        assert found.matrix == pytest.approx(np.array([[1, 1, 0], [1, 1, 0], [0, 0, 1]]))
        assert found.mean == pytest.approx(1 / 3)
    middle = np.zeros((5, 4, 4))
    middle[:, :, 1:3] = 1
    assert attention_overlap(np.stack([left, middle]), kind="iou", top=0.5).mean == pytest.approx(1 / 3)
    assert attention_overlap(np.stack([left, middle])).mean == pytest.approx(0.5)
    sigmoids = 0.5 + 0.05 * RNG(0).normal(size=(3, 200, 6, 6))
    assert attention_overlap(sigmoids).mean > 0.98
    # chance: 9 * 9/36 shared
    assert attention_overlap(sigmoids, kind="iou", top=0.25).mean == pytest.approx(9 / 63, abs=0.03)
    closed = np.zeros((2, 3, 4))
    assert attention_overlap(closed).mean == 1 and attention_overlap(np.stack([closed[0], closed[0] + 1])).mean == 0


# -------------------------------------------------------------------------------------------------- what it is good for


def test_votes():
    guess = np.array([[2, 1, 0, 3], [2, 0, 1, 3], [1, 2, 1, 0]])
    assert plurality(guess).tolist() == [2, 0, 1, 3]  # three different votes: the lowest class
    assert plurality(np.array([[3, 5], [1, 5]])).tolist() == [1, 5]
    p = np.array([[[0.9, 0.1, 0]], [[0, 0.6, 0.4]], [[0, 0.6, 0.4]]])
    assert plurality(p).tolist() == [1] and mean_probability(p).tolist() == [1]
    p[0, 0] = [1, 0, 0]
    p[1:, 0] = [0.4, 0.6, 0]
    # one sure member outweighs two unsure ones
    assert plurality(p).tolist() == [1] and mean_probability(p).tolist() == [0]


def test_equal_members_gain_nothing():
    guess, labels = guesses(1, 400)
    same = np.repeat(guess, 5, 0)
    curve = accuracy_by_branches(probabilities(same, 7), labels, n_bootstrap=100)
    accuracy = (guess[0] == labels).mean()
    for name in ("plurality", "mean_probability", "mean_branch", "oracle"):
        assert curve[name].value == pytest.approx(np.full(5, accuracy)), name
    for name in ("gain", "gain_mean_probability", "tie_rate"):
        assert np.abs([*curve[name].value, *curve[name].low, *curve[name].high]).max() < 1e-12, name


def test_independent_members_gain_and_the_curve_is_that_of_each_prefix():
    guess, labels = guesses(9, 3000, skill=0.4)
    p = probabilities(guess, 7, RNG(2).uniform(0.3, 0.9, guess.shape))
    curve = accuracy_by_branches(p, labels, n_bootstrap=200)
    right = guess == labels
    for n in (1, 2, 5, 9):
        assert curve["plurality"].value[n - 1] == pytest.approx((plurality(guess[:n]) == labels).mean())
        assert curve["mean_probability"].value[n - 1] == pytest.approx((mean_probability(p[:n]) == labels).mean())
        assert curve["mean_branch"].value[n - 1] == pytest.approx(right[:n].mean())
        assert curve["oracle"].value[n - 1] == pytest.approx(right[:n].any(0).mean())
        counts = np.sort(np.stack([np.bincount(column, minlength=7) for column in guess[:n].T]), axis=1)
        assert curve["tie_rate"].value[n - 1] == pytest.approx((counts[:, -1] == counts[:, -2]).mean())
    assert curve["tie_rate"].value[0] == 0 and curve["tie_rate"].value[1] > 0.4
    gain = ensemble_gain(guess, labels)
    assert gain.value == pytest.approx(curve["gain"].value[-1]) and gain.low > 0.2 and gain.low < gain.value < gain.high
    assert ensemble_gain(p, labels, rule="mean_probability").value == pytest.approx(
        curve["gain_mean_probability"].value[-1]
    )
    assert oracle_accuracy(guess, labels).value == pytest.approx(1 - (1 - 0.4 - 0.6 / 7) ** 9, abs=0.01)
    assert "mean_probability" not in accuracy_by_branches(guess, labels, n_bootstrap=10)


def test_opposite_members():
    """Each is right on half of the images: the oracle is always right, and a tied vote goes to the lower class."""
    labels = RNG(0).integers(1, 5, size=1000)
    curve = accuracy_by_branches(opposite(labels, 9), labels, n_bootstrap=50)
    assert curve["mean_branch"].value.tolist() == [0.5, 0.5] and curve["oracle"].value[1] == 1
    assert curve["tie_rate"].value.tolist() == [0, 1]
    assert curve["plurality"].value[1] == 1  # the wrong answer is always one class higher
    assert oracle_accuracy(opposite(labels, 9), labels, n_bootstrap=50).low == 1


def test_a_vote_can_lose():
    """Two members wrong in the same way outvote one that is right: the gain is negative, the oracle is not fooled."""
    labels = np.zeros(100, dtype=int)
    guess = np.stack([labels, labels + 1, labels + 1])
    assert ensemble_gain(guess, labels).value == pytest.approx(-1 / 3) and oracle_accuracy(guess, labels).value == 1


# ------------------------------------------------------------------------------------------------------------ intervals


def test_intervals_have_the_width_of_theory_and_repeat():
    guess, labels = guesses(2, 800)
    found = disagreement(guess, n_bootstrap=2000)
    low, high = wilson(int((guess[0] != guess[1]).sum()), 800)
    assert found.interval == pytest.approx((low, high), abs=0.008)
    assert found.interval == (found.low[0, 1], found.high[0, 1])
    assert (
        disagreement(guess, seed=1).interval
        == disagreement(guess, seed=1).interval
        != disagreement(guess, seed=2).interval
    )
    wide = disagreement(guess[:, :100]).interval
    assert 2 < (wide[1] - wide[0]) / (found.interval[1] - found.interval[0]) < 4  # sqrt(8)


def test_intervals_cover():
    inside = 0
    for seed in range(100):
        guess, labels = guesses(3, 200, seed=seed)
        low, high = cohen_kappa(guess, n_bootstrap=200, seed=seed).interval
        inside += low < 0.36 < high
    assert 87 <= inside <= 100


def test_gain_is_paired():
    """The interval of a difference on the same images is narrower than that of either accuracy."""
    guess, labels = guesses(3, 1000, skill=0.5)
    hard = np.where(np.arange(1000) % 3 == 0, (labels + 1) % 7, guess)
    curve = accuracy_by_branches(hard, labels)
    width = {name: float(found.high[-1] - found.low[-1]) for name, found in curve.items()}
    assert width["gain"] < 0.7 * width["plurality"]
    assert mcnemar(plurality(hard) == labels, hard[0] == labels)["only_a"] > 0


# ------------------------------------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: answers(np.zeros(5, int)), r"classes \(L, N\) or probabilities"),
        (lambda: answers(np.zeros((2, 0), int)), "found shape"),
        (lambda: answers(np.zeros((2, 5))), "whole numbers from 0"),
        (lambda: answers(np.full((2, 5), -1)), "whole numbers from 0"),
        (lambda: disagreement(np.zeros((1, 5), int)), "at least two"),
        (lambda: error_correlation(np.zeros((2, 5), int), np.zeros(4, int)), "expected 5 labels"),
        (lambda: error_correlation(np.zeros((2, 5), int), np.zeros(5, int), kind="rho"), "known: phi, q"),
        (lambda: mean_probability(np.zeros((2, 5), int)), "needs probabilities"),
        (
            lambda: ensemble_gain(np.zeros((2, 5), int), np.zeros(5, int), rule="mean_probability"),
            "needs probabilities",
        ),
        (lambda: ensemble_gain(np.zeros((2, 5), int), np.zeros(5, int), rule="mean"), "known: plurality"),
        (lambda: linear_cka(np.zeros((4, 2)), np.zeros((5, 2))), "same images, found 4 and 5"),
        (lambda: cka([np.zeros((4, 2)), np.zeros((5, 2))]), "same images"),
        (lambda: cka([np.zeros((3, 2)), np.zeros((3, 2))]), "at least four images"),
        (lambda: attention_overlap(np.ones((2, 5))), r"gates \(L, N, ...\)"),
        (lambda: attention_overlap(-np.ones((2, 5, 3))), "none negative"),
        (lambda: attention_overlap(np.ones((2, 5, 3)), kind="dice"), "known: cosine, iou"),
        (lambda: attention_overlap(np.ones((2, 5, 3)), top=1.0), "between 0 and 1"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
