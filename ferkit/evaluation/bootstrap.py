"""Where every interval comes from: images drawn with replacement, and percentiles of what they give."""

import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

BATCH = 100  # replicates drawn at a time, to bound memory


class Measured(NamedTuple):
    """A number, or an array of numbers, with the bounds of its interval."""

    value: Any
    low: Any
    high: Any


class Pairwise(NamedTuple):
    """Between all pairs of L members: matrix (L, L), bounds (L, L), and the mean over pairs with its own interval."""

    matrix: np.ndarray
    low: np.ndarray
    high: np.ndarray
    mean: float
    interval: tuple[float, float]


def percentiles(replicates: np.ndarray, *, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Return both bounds of an interval from bootstrap replicates (B, ...), without those that are nan; nan if all are.
    """
    tail = 50 * (1 - level)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # numpy's for columns without a number
        low, high = np.nanpercentile(replicates, [tail, 100 - tail], axis=0)
    return low, high


def resampled_rows(n: int, n_bootstrap: int, seed: int) -> Iterator[np.ndarray]:
    """Yield the positions (n,) of each bootstrap sample of n images."""
    rng = np.random.default_rng(seed)
    for _ in range(n_bootstrap):
        yield rng.integers(n, size=n)


def resampled_sums(values: np.ndarray, n_bootstrap: int, seed: int) -> np.ndarray:
    """Return sums over images of (M, N) values, (1 + B, M): first of the images as they are,
    then of B bootstrap samples.
    """
    # Drawing images with replacement is weighing each by how often it was drawn, so a replicate is a matrix product.
    rows, n = np.asarray(values, dtype=np.float64).T, values.shape[1]
    samples, parts = resampled_rows(n, n_bootstrap, seed), [rows.sum(0)[None]]
    for start in range(0, n_bootstrap, BATCH):
        drawn = [np.bincount(next(samples), minlength=n) for _ in range(min(BATCH, n_bootstrap - start))]
        parts.append(np.stack(drawn).astype(np.float64) @ rows)  # (B, N) x (N, M)
    return np.concatenate(parts)


def resampled_cells(counts: np.ndarray, n_bootstrap: int, seed: int) -> np.ndarray:
    """Return how many of the images fall into each cell, (B, M), where counts (M,) of the images as they are do.

    Where only the cells matter (of a confusion matrix, say), drawing images is one multinomial draw per replicate.
    """
    n = int(counts.sum())
    return np.random.default_rng(seed).multinomial(n, counts / n, size=n_bootstrap)


def resampled_mean(values: np.ndarray, *, n_bootstrap: int = 1000, seed: int = 0, level: float = 0.95) -> Measured:
    """Return the means of (M, N) or (N,) values over images, with intervals."""
    rows = np.atleast_2d(np.asarray(values, dtype=np.float64))
    means = resampled_sums(rows, n_bootstrap, seed) / rows.shape[1]  # (1 + B, M)
    return with_interval(means if np.ndim(values) > 1 else means[:, 0], level=level)


def with_interval(replicates: np.ndarray, *, level: float = 0.95) -> Measured:
    """Return what (1 + B, ...) holds, a value and then replicates of it, as the value with its interval."""
    low, high = percentiles(replicates[1:], level=level)
    return Measured(replicates[0], low, high)


def all_pairs(members: int) -> tuple[np.ndarray, np.ndarray]:
    """Return first and second member of each of the P pairs, (P,) both. Raise ValueError for fewer than two members."""
    if members < 2:
        raise ValueError(f"a measure between members needs at least two, found {members}")
    a, b = np.triu_indices(members, 1)
    return a, b


def between_pairs(replicates: np.ndarray, members: int, *, diagonal: float) -> Pairwise:
    """Return (1 + B, P) over pairs as symmetric matrices."""
    a, b = all_pairs(members)

    def square(values: np.ndarray) -> np.ndarray:
        matrix = np.full((members, members), diagonal)
        matrix[a, b] = matrix[b, a] = values
        return matrix

    with np.errstate(invalid="ignore"):
        known = np.isfinite(replicates)
        # nan where no pair has a value
        means = np.where(known, replicates, 0).sum(1) / np.where(known.any(1), known.sum(1), np.nan)
    pairs, mean = with_interval(replicates), with_interval(means)
    return Pairwise(
        square(pairs.value),
        square(pairs.low),
        square(pairs.high),
        float(mean.value),
        (float(mean.low), float(mean.high)),
    )
