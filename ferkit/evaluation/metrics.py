"""How good, and how sure: scores of one test set, with bootstrap intervals and paired tests."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import stats
from sklearn.metrics import confusion_matrix

from ferkit.evaluation.bootstrap import Measured, percentiles, resampled_cells, with_interval
from ferkit.evaluation.calibration import cross_entropy, expected_calibration_error

SCORES = ("accuracy", "macro_f1", "balanced_accuracy")


def scores_of_confusion(confusion: np.ndarray) -> dict[str, np.ndarray]:
    """Return accuracy, macro-F1 and balanced accuracy of integer confusion matrices (..., K, K), rows true,
    columns predicted.

    Accuracy is correct / total. A class without true images does not enter balanced accuracy, one with neither true
    nor predicted images does not enter macro-F1.
    """
    matrix = np.asarray(confusion, dtype=np.float64)
    hits = np.diagonal(matrix, axis1=-2, axis2=-1)  # (..., K)
    true, predicted = matrix.sum(-1), matrix.sum(-2)
    with np.errstate(invalid="ignore"):
        recall = np.where(true > 0, hits / true, np.nan)
        f1 = np.where(true + predicted > 0, 2 * hits / (true + predicted), np.nan)
    return {
        "accuracy": hits.sum(-1) / matrix.sum((-2, -1)),
        "macro_f1": np.nanmean(f1, axis=-1),
        "balanced_accuracy": np.nanmean(recall, axis=-1),
    }


def bootstrap_intervals(
    labels: np.ndarray,
    predictions: np.ndarray,
    n_classes: int,
    *,
    n_bootstrap: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, Measured]:
    """Return the `SCORES` with percentile intervals over images drawn with replacement.

    They describe the finite test set, not the spread between trainings: for that, train several seeds.
    """
    cells = np.bincount(labels * n_classes + predictions, minlength=n_classes**2)
    drawn = np.concatenate([cells[None], resampled_cells(cells, n_bootstrap, seed)])
    replicates = scores_of_confusion(drawn.reshape(-1, n_classes, n_classes))
    return {k: Measured(*map(float, with_interval(v, level=level))) for k, v in replicates.items()}


def evaluate(
    probabilities: np.ndarray,
    labels: np.ndarray,
    names: Sequence[str],
    *,
    n_bootstrap: int = 1000,
    seed: int = 0,
    clean: np.ndarray | None = None,
) -> dict[str, Any]:
    """Return everything a result says about one test set; plain numbers, ready for JSON.

    Args:
        probabilities: (N, K), rows sum to 1.
        labels: (N,) true classes, 0 to K-1.
        names: K emotion names in logit order.
        n_bootstrap: replicates of the 95 % intervals.
        seed: of the bootstrap.
        clean: (N,) True where the image has no copy in the training data; adds the figures on those under
            `duplicate_clean`.

    Returns:
        n, accuracy, macro_f1, balanced_accuracy, recall by name, confusion (integers, rows true), ece (15 bins, top
        label), cross_entropy (mean, in nats), intervals of the three scores, and duplicate_clean.

    Raises:
        ValueError: shapes that do not fit, labels out of range, or rows that do not sum to 1.

    """
    p, y = np.asarray(probabilities, dtype=np.float64), np.asarray(labels)
    if p.ndim != 2 or p.shape != (len(y), len(names)):
        raise ValueError(f"expected probabilities of shape ({len(y)}, {len(names)}), found {p.shape}")
    if len(y) == 0:
        raise ValueError("nothing to evaluate: the test set is empty")
    if y.min() < 0 or y.max() >= len(names):
        raise ValueError(f"labels must be 0 to {len(names) - 1}, found {y.min()} to {y.max()}")
    if not np.allclose(p.sum(1), 1, atol=1e-3) or p.min() < -1e-3:
        raise ValueError("rows of probabilities must sum to 1; give softmax outputs, not logits")
    k = len(names)
    predicted = p.argmax(1)
    confusion = confusion_matrix(y, predicted, labels=range(k))
    scores = {name: float(v) for name, v in scores_of_confusion(confusion).items()}
    true = confusion.sum(1)
    result: dict[str, Any] = {
        "n": int(len(y)),
        **scores,
        "cross_entropy": cross_entropy(p, y),
        "ece": expected_calibration_error(p, y),
        "recall": {name: float(confusion[i, i] / true[i]) if true[i] else None for i, name in enumerate(names)},
        "confusion": confusion.tolist(),
        "names": list(names),
        "intervals": {
            name: [found.low, found.high]
            for name, found in bootstrap_intervals(y, predicted, k, n_bootstrap=n_bootstrap, seed=seed).items()
        },
    }
    if clean is not None and clean.any():
        inner = evaluate(p[clean], y[clean], names, n_bootstrap=n_bootstrap, seed=seed)
        result["duplicate_clean"] = {key: inner[key] for key in ("n", *SCORES, "intervals")}
    return result


def wilson(k: int, n: int, *, level: float = 0.95) -> tuple[float, float]:
    """Return the Wilson score interval of a proportion k / n (Wilson 1927); (0, 1) for n = 0."""
    if n == 0:
        return 0.0, 1.0
    interval = stats.binomtest(k, n).proportion_ci(confidence_level=level, method="wilson")
    return float(interval.low), float(interval.high)


def mcnemar(a_correct: np.ndarray, b_correct: np.ndarray) -> dict[str, float]:
    """Return the exact McNemar test of two classifiers on the same images (McNemar 1947).

    Args:
        a_correct, b_correct: (N,) booleans.

    Returns:
        only_a, only_b: images that one got right and the other wrong; p: two-sided.

    """
    a, b = np.asarray(a_correct, dtype=bool), np.asarray(b_correct, dtype=bool)
    if a.shape != b.shape:
        raise ValueError(f"the two classifiers must answer the same images, found {a.shape} and {b.shape}")
    only_a, only_b = int((a & ~b).sum()), int((~a & b).sum())
    p = stats.binomtest(min(only_a, only_b), only_a + only_b, 0.5).pvalue if only_a + only_b else 1.0
    return {"only_a": only_a, "only_b": only_b, "p": float(min(p, 1.0))}


def mean_interval(values: Sequence[float], *, level: float = 0.95) -> Measured:
    """Return the mean over seeds and its Student-t interval, whose bounds are nan for fewer than two values."""
    v = np.asarray(values, dtype=np.float64)
    if len(v) < 2:
        return Measured(float(v.mean()), math.nan, math.nan)
    half = stats.t.ppf((1 + level) / 2, len(v) - 1) * v.std(ddof=1) / math.sqrt(len(v))
    return Measured(float(v.mean()), float(v.mean() - half), float(v.mean() + half))


def paired_difference(
    a_correct: np.ndarray, b_correct: np.ndarray, *, n_bootstrap: int = 10_000, seed: int = 0, level: float = 0.95
) -> dict[str, Any]:
    """Return how much more often classifier a is right than b on the same images, with what that is worth.

    Args:
        a_correct, b_correct: (N,) booleans.
        n_bootstrap, seed, level: of the percentile interval over images drawn with replacement, in pairs.

    Returns:
        accuracy: difference of the accuracies; interval: of that difference, [low, high]; only_a, only_b, p: see
        `mcnemar`.

    """
    test = mcnemar(a_correct, b_correct)
    n = len(np.asarray(a_correct))
    if n == 0:
        raise ValueError("nothing to compare: there are no images")
    # An image counts +1, -1 or 0; drawing images is drawing from these three.
    draws = resampled_cells(
        np.array([test["only_a"], test["only_b"], n - test["only_a"] - test["only_b"]]), n_bootstrap, seed
    )
    low, high = percentiles((draws[:, 0] - draws[:, 1]) / n, level=level)
    return {"accuracy": (test["only_a"] - test["only_b"]) / n, "interval": [float(low), float(high)], **test}
