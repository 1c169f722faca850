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


def binomial_half_width(p: float, n: int) -> float:
    r"""Return the half-width $1.96\sqrt{p(1-p)/n}$ of the normal 95 % interval of an accuracy `p` measured on n images."""
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
