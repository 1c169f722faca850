"""Sums over images and over bootstrap samples of them: where every interval of this package comes from."""

from typing import NamedTuple

import numpy as np

from ferkit.evaluation.metrics import percentiles

BATCH = 100  # replicates drawn at a time, to bound memory


class Pairwise(NamedTuple):
    """Between all pairs of L members: matrix (L, L), bounds (L, L), and the mean over pairs with its own interval."""

    matrix: np.ndarray
    low: np.ndarray
    high: np.ndarray
    mean: float
    interval: tuple[float, float]


class Measured(NamedTuple):
    """A number, or an array of numbers, with the bounds of its interval."""

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray


def all_pairs(members: int) -> tuple[np.ndarray, np.ndarray]:
    """First and second member of each of the P pairs, (P,) both. Raises ValueError for fewer than two members."""
    if members < 2:
        raise ValueError(f"a measure between members needs at least two, found {members}")
    a, b = np.triu_indices(members, 1)
    return a, b


def resampled_sums(values: np.ndarray, n_bootstrap: int, seed: int) -> np.ndarray:
    """Sums over images of (M, N) values, (1 + B, M): first of the images as they are, then of B bootstrap samples."""
    # Drawing images with replacement is weighing each by how often it was drawn, so a replicate is a matrix product.
    rows, n, rng = np.asarray(values, dtype=np.float64).T, values.shape[1], np.random.default_rng(seed)
    parts = [rows.sum(0)[None]]
    for start in range(0, n_bootstrap, BATCH):
        drawn = [np.bincount(rng.integers(n, size=n), minlength=n) for _ in range(min(BATCH, n_bootstrap - start))]
        parts.append(np.stack(drawn).astype(np.float64) @ rows)  # (B, N) x (N, M)
    return np.concatenate(parts)


def with_interval(replicates: np.ndarray) -> Measured:
    """(1 + B, ...): the value, then replicates of it."""
    low, high = percentiles(replicates[1:])
    return Measured(replicates[0], low, high)


def between_pairs(replicates: np.ndarray, members: int, *, diagonal: float) -> Pairwise:
    """(1 + B, P) over pairs to symmetric matrices."""
    a, b = all_pairs(members)

    def square(values: np.ndarray) -> np.ndarray:
        matrix = np.full((members, members), diagonal)
        matrix[a, b] = matrix[b, a] = values
        return matrix

    with np.errstate(invalid="ignore"):
        known = np.isfinite(replicates)
        means = np.where(known, replicates, 0).sum(1) / np.where(known.any(1), known.sum(1), np.nan)  # nan where no pair has a value
    pairs, mean = with_interval(replicates), with_interval(means)
    return Pairwise(square(pairs.value), square(pairs.low), square(pairs.high), float(mean.value), (float(mean.low), float(mean.high)))
