r"""Can a printed number be true? Arithmetic that needs a paper and no network.

Accuracies are fractions in [0, 1] unless the name says percent; cross entropies are means in nats.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Literal


def reachable(percent: float | str, n: int, decimals: int = 2) -> list[tuple[int, Literal["rounded", "truncated"]]]:
    """List every number k of correct answers out of `n` that would be printed as `percent`.

    Each k comes with how it gets there: "rounded" (k/n lies within half a last digit, ties either way) or, where only
    cutting off digits gives the number, "truncated". An empty list means: no single run on `n` images prints this.
    Exact rational arithmetic. A random two-decimal number is hit with probability of about n/10000 per way, so a hit is
    weak evidence and a miss is strict.

    Raises ValueError for a percentage outside 0-100 or with more than `decimals` decimals, or for n < 1.
    """
    printed = Fraction(Decimal(str(percent)))
    unit = Fraction(1, 10**decimals)
    if n < 1 or not 0 <= printed <= 100 or printed % unit:
        raise ValueError(
            f"Expected a percentage from 0 to 100 with at most {decimals} decimals and n >= 1, "
            f"found {percent} and n = {n}; pass the number as printed and its count of decimals."
        )
    hits: list[tuple[int, Literal["rounded", "truncated"]]] = []
    first = max(0, math.ceil((printed - unit / 2) * n / 100))
    last = min(n, math.floor((printed + unit) * n / 100))
    for k in range(first, last + 1):
        value = Fraction(100 * k, n)
        if abs(value - printed) <= unit / 2:
            hits.append((k, "rounded"))
        elif printed <= value < printed + unit:
            hits.append((k, "truncated"))
    return hits


def ways_to_print(percent: str, images: Sequence[int], runs: int = 10) -> list[str]:
    """Say every way in which `percent` can be the accuracy of one run, a mean of runs, or a sum of printed numbers.

    `images` are the sizes of all sets that can be meant; each number may be rounded or cut. Decimals are those of
    `percent` as printed. Means are those of 2 to `runs` runs. A sum (a printed accuracy plus a printed gain) may be off
    by one last digit downwards and two upwards. With three runs on 3,068 images every number of two decimals can be
    printed: counting images alone excludes little.
    """
    decimals = len(percent.partition(".")[2])
    printed, unit = Fraction(Decimal(percent)), Fraction(1, 10**decimals)
    found = []
    for n in images:
        for r in range(1, runs + 1):
            of = f"{n}" if r == 1 else f"{r} runs on {n}"
            found += [f"{k} of {of}, {way}" for k, way in reachable(percent, r * n, decimals)]
        least, most = math.ceil((printed - unit) * n / 100), math.ceil((printed + 2 * unit) * n / 100)
        found += [f"{k} of {n}, as a sum of two printed numbers" for k in range(least, most)]
    return found


def exclusion(
    *,
    accuracy: str = "",
    images: Sequence[int] = (),
    loss: str = "",
    batch: int = 0,
    total: int | None = None,
    parts: Sequence[int] = (),
) -> list[str]:
    """Check that printed numbers exclude each other; return the ways in which they do not, none if they do.

    Three forms, numbers as printed: `total` with `parts`, counts that have to add up; `accuracy` in percent with the
    sizes `images` of all sets that can be meant; and these with a `loss`, read as 100 times the mean cross entropy in
    nats of the same images, as a mean over images or over batches of `batch`. Rounding, cutting and means of several
    runs are allowed throughout: the bound on a loss is linear in the accuracy, so what holds for each run holds for
    their means.

    Raises ValueError if the numbers are of none of these forms.
    """
    if total is not None and parts and not accuracy:
        return [f"{' + '.join(map(str, parts))} = {total}"] if sum(parts) == total else []
    if not accuracy or not images:
        raise ValueError("expected total and parts, or accuracy and images with or without loss and batch")
    if not loss:
        return ways_to_print(accuracy, images)
    digit = [10.0 ** -len(text.partition(".")[2]) for text in (loss, accuracy)]
    # of the highest accuracy that prints so
    least = 100 * minimal_cross_entropy(min(1.0, (float(accuracy) + digit[1]) / 100))
    found = []
    for n in images:
        # all errors in full batches, the short one counting as much
        share = n / (batch * -(-n // batch)) if batch else 1.0
        if float(loss) + digit[0] > least * share:
            found.append(f"a loss of at least {least * share:.3f} on {n} images")
    return found


def minimal_cross_entropy(accuracy: float) -> float:
    r"""Return the least mean cross entropy (nats) that a classifier of this accuracy can have: $(1-a)\ln 2$.

    A wrong answer means that another class got at least as much probability as the true one, so $p_y \le 1/2$ and the
    example costs at least $\ln 2$; a right answer can cost nothing. Holds for the plain mean over examples; for a
    class-weighted mean see `minimal_weighted_cross_entropy`.
    """
    _fraction(accuracy)
    return (1 - accuracy) * math.log(2)


def minimal_weighted_cross_entropy(accuracy: float, counts: Sequence[int], weights: Sequence[float]) -> float:
    r"""Return the bound of `minimal_cross_entropy` for a class-weighted mean $\sum w_{y_i}\ell_i / \sum w_{y_i}$.

    Every error is put into the class where it costs least, which no real classifier does: the bound is generous.
    `counts` are the images per class of the evaluated set, `weights` the loss weights in the same order.
    """
    _fraction(accuracy)
    _same_length(counts=counts, weights=weights)
    errors = (1 - accuracy) * sum(counts)
    cost = 0.0
    for weight, count in sorted(zip(weights, counts, strict=True)):
        taken = min(errors, count)
        cost, errors = cost + weight * taken, errors - taken
    return cost * math.log(2) / sum(w * c for w, c in zip(weights, counts, strict=True))


def confusion_implied_accuracy(
    diagonal: Sequence[float], counts: Sequence[int], half_width: float = 0.005
) -> tuple[float, float]:
    """Return the least and greatest accuracy that agree with the printed diagonal of a row-normalised confusion matrix.

    `diagonal` holds the recalls as printed, `counts` the images per class in the same order; every recall may be off by
    `half_width` (0.005 for two rounded decimals).
    """
    _same_length(diagonal=diagonal, counts=counts)
    n = sum(counts)
    low = sum(max(0.0, recall - half_width) * count for recall, count in zip(diagonal, counts, strict=True)) / n
    high = sum(min(1.0, recall + half_width) * count for recall, count in zip(diagonal, counts, strict=True)) / n
    return low, high


def confusion_implied_accuracy_by_prediction(
    cells: Sequence[Sequence[float]], counts: Sequence[int], half_width: float = 0.005
) -> tuple[float, float]:
    """Return the least and greatest accuracy if the rows of a printed confusion matrix are the *predicted* classes.

    `cells` (K, K) are shares of the rows as printed, each off by `half_width` at most; `counts` the images per true
    class, in the same order. How often each class was predicted is not known, so a linear programme looks for the
    numbers of images that fit all cells and counts. Where rows are the true classes, `confusion_implied_accuracy` is
    the answer.

    Raises ValueError if no numbers fit, or for shapes that do not belong together.
    """
    import numpy as np
    from scipy.optimize import linprog

    k = len(counts)
    shares = np.asarray(cells, dtype=float)
    if shares.shape != (k, k):
        raise ValueError(f"Expected one row and one column per class ({k}), found {shares.shape}.")
    eye, each, none = np.eye(k), np.eye(k * k), np.zeros((k, k))
    row_of = np.repeat(eye, k, axis=0)  # (K*K, K); unknowns are the images of each cell, then those of each row
    below, above = np.maximum(shares.ravel() - half_width, 0), shares.ravel() + half_width
    limits = np.vstack([np.hstack([each, -above[:, None] * row_of]), np.hstack([-each, below[:, None] * row_of])])
    sums = np.vstack([np.hstack([row_of.T, -eye]), np.hstack([np.tile(eye, k), none])])
    totals = np.concatenate([np.zeros(k), counts])
    hits = np.concatenate([eye.ravel(), np.zeros(k)])
    ends = [linprog(sign * hits, limits, np.zeros(len(limits)), sums, totals) for sign in (1, -1)]
    if any(end.status for end in ends):
        raise ValueError(
            "No numbers of images fit these cells and counts with the predicted classes as rows; check "
            "both for misprints."
        )
    return float(ends[0].fun) / sum(counts), float(-ends[1].fun) / sum(counts)


def binomial_half_width(p: float, n: int) -> float:
    r"""Return the half-width $1.96\sqrt{p(1-p)/n}$ of the normal 95 % interval of an accuracy `p` measured on n images.
    """
    _fraction(p)
    return 1.96 * math.sqrt(p * (1 - p) / n)


def pooled_binary_accuracy(accuracy: float, classes: int) -> float:
    r"""Return what $(TP+TN)/(TP+TN+FP+FN)$ gives when every class is scored against the rest and the cells are pooled.

    Each error is one false positive and one false negative among K cells per image: $1 - 2(1-a)/K$.
    """
    _fraction(accuracy)
    return 1 - 2 * (1 - accuracy) / classes


def two_proportion_z(k1: int, n1: int, k2: int, n2: int) -> float:
    """Return the z statistic (pooled variance) of k1/n1 against k2/n2."""
    pooled = (k1 + k2) / (n1 + n2)
    return (k1 / n1 - k2 / n2) / math.sqrt(pooled * (1 - pooled) * (1 / n1 + 1 / n2))


def images_per_second(n: int, epochs: int, hours: float) -> float:
    """Return the mean training throughput that `epochs` passes over `n` images in `hours` imply."""
    return n * epochs / (hours * 3600)


def balanced_weights(counts: Sequence[int]) -> list[float]:
    r"""Return the balanced class weights $w_c = N/(K n_c)$."""
    return [sum(counts) / (len(counts) * count) for count in counts]


def output_side(side: int, *, kernel: int, stride: int = 1, padding: int = 0) -> int:
    """Return the side of the map that a convolution or pooling leaves, rounding down as PyTorch does."""
    return (side + 2 * padding - kernel) // stride + 1


def conv_parameters(c_in: int, c_out: int, kernel: int, *, bias: bool = True, batch_norm: bool = True) -> int:
    """Return the trainable parameters of a square convolution, with its batch norm's scale and shift if it has one."""
    return c_in * c_out * kernel**2 + c_out * bias + 2 * c_out * batch_norm


def linear_parameters(*widths: int, bias: bool = True) -> int:
    """Return the trainable parameters of a chain of linear layers; `linear_parameters(256, 7)` is one layer."""
    return sum(a * b + b * bias for a, b in zip(widths, widths[1:], strict=False))


def receptive_field(layers: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Return (receptive field, stride), in input pixels, after a chain of (kernel, stride) layers."""
    field, jump = 1, 1
    for kernel, stride in layers:
        field, jump = field + (kernel - 1) * jump, jump * stride
    return field, jump


def _fraction(value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"Expected an accuracy as a fraction from 0 to 1, found {value}; divide a percentage by 100.")


def _same_length(**columns: Sequence[float]) -> None:
    if len({len(column) for column in columns.values()}) != 1:
        sizes = ", ".join(f"{name}: {len(column)}" for name, column in columns.items())
        raise ValueError(f"Expected one number per class in each column, found {sizes}.")
