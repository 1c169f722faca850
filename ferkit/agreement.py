r"""Do members of an ensemble differ, and does it help: agreement, errors in common, representations, gain, early exits.

Members are branches, or networks. All intervals are percentiles of a bootstrap over images: they describe the finite test
set, not the spread between trainings. Within a replicate every member sees the same images, so differences are paired.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ferkit.metrics import percentiles

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


# ---------------------------------------------------------------------------------------------------------------- answers


def answers(outputs: np.ndarray) -> np.ndarray:
    """Predicted classes (L, N) of members: from probabilities or logits (L, N, K) by argmax, or classes as they are.

    Raises:
        ValueError: neither shape, or no member or image, or classes that are not whole numbers from 0.

    """
    found = np.asarray(outputs)
    if found.ndim not in (2, 3) or 0 in found.shape:
        raise ValueError(f"expected classes (L, N) or probabilities (L, N, K) of L members on N images, found shape {found.shape}")
    if found.ndim == 3:
        return found.argmax(2)
    if not np.issubdtype(found.dtype, np.integer) or found.min() < 0:
        raise ValueError(f"expected classes as whole numbers from 0, found {found.dtype}; probabilities need a third axis (L, N, K)")
    return found


def plurality(outputs: np.ndarray) -> np.ndarray:
    """Classes (N,) with the most votes of L members; a tie goes to the lowest class, as in the released ESR code.

    Args:
        outputs: classes (L, N) or probabilities (L, N, K).

    """
    return _votes(answers(outputs)).sum(0).argmax(1)


def mean_probability(probabilities: np.ndarray) -> np.ndarray:
    """Classes (N,) with the largest mean probability over members (L, N, K)."""
    return _probabilities(probabilities).mean(0).argmax(1)


# -------------------------------------------------------------------------------------------------- agreement and errors


def disagreement(outputs: np.ndarray, *, n_bootstrap: int = 1000, seed: int = 0) -> Pairwise:
    """Share of images that two members answer differently; 0 on the diagonal.

    Args:
        outputs: classes (L, N) or probabilities (L, N, K) of L members.
        n_bootstrap: replicates of the 95 % intervals.
        seed: of the bootstrap.

    """
    guess = answers(outputs)
    a, b = _pairs(len(guess))
    sums = _sums(guess[a] != guess[b], n_bootstrap, seed)
    return _pairwise(sums / guess.shape[1], len(guess), diagonal=0.0)


def cohen_kappa(outputs: np.ndarray, *, n_bootstrap: int = 1000, seed: int = 0) -> Pairwise:
    r"""Agreement beyond chance of two members, $(p_o - p_e)/(1 - p_e)$ (Cohen 1960).

    1 for equal answers, 0 for independent ones, negative for answers that avoid each other. Two members that both answer
    one and the same class always agree fully: 1.

    Args:
        outputs, n_bootstrap, seed: as in `disagreement`.

    """
    guess = answers(outputs)
    (members, n), (a, b) = guess.shape, _pairs(len(guess))
    votes = _votes(guess).transpose(0, 2, 1)  # (L, K, N)
    sums = _sums(np.concatenate([guess[a] == guess[b], votes.reshape(-1, n)]), n_bootstrap, seed) / n
    observed, share = sums[:, : len(a)], sums[:, len(a) :].reshape(len(sums), members, -1)  # (R, P), (R, L, K)
    chance = (share[:, a] * share[:, b]).sum(2)  # (R, P)
    certain = chance > 1 - 1e-12
    kappa = np.where(certain, 1.0, (observed - chance) / np.where(certain, 1.0, 1 - chance))
    return _pairwise(kappa, members, diagonal=1.0)


def error_correlation(outputs: np.ndarray, labels: np.ndarray, *, kind: str = "phi", n_bootstrap: int = 1000, seed: int = 0) -> Pairwise:
    r"""Whether two members err on the same images (Kuncheva and Whitaker, Machine Learning 51, 2003, table 1).

    With the counts $n_{11}$ both right, $n_{00}$ both wrong, $n_{10}$, $n_{01}$ one of them right:
    $Q = (n_{11}n_{00} - n_{01}n_{10})/(n_{11}n_{00} + n_{01}n_{10})$, and phi, the correlation of being right,
    $(n_{11}n_{00} - n_{01}n_{10})/\sqrt{(n_{11}+n_{10})(n_{01}+n_{00})(n_{11}+n_{01})(n_{10}+n_{00})}$. Both are 1 for
    equal errors, 0 for independent ones, -1 for opposite ones; nan where a member is always right or always wrong, which
    leaves nothing to correlate. Pairs and replicates without a value are left out of means and intervals.

    Args:
        outputs: classes (L, N) or probabilities (L, N, K) of L members.
        labels: (N,) true classes.
        kind: "phi" or "q".
        n_bootstrap, seed: of the intervals.

    Raises:
        ValueError: unknown kind, or as many labels as there are not images.

    """
    if kind not in ("phi", "q"):
        raise ValueError(f"kind={kind!r} is unknown; known: phi, q")
    right = _right(outputs, labels)
    (members, n), (a, b) = right.shape, _pairs(len(right))
    sums = _sums(np.concatenate([right[a] & right[b], right]), n_bootstrap, seed)
    both, own = sums[:, : len(a)], sums[:, len(a) :]  # (R, P), (R, L)
    of_a, of_b = own[:, a], own[:, b]
    neither, only_a, only_b = n - of_a - of_b + both, of_a - both, of_b - both
    difference = both * neither - only_a * only_b
    scale = both * neither + only_a * only_b if kind == "q" else np.sqrt(of_a * (n - of_a) * of_b * (n - of_b))
    with np.errstate(invalid="ignore", divide="ignore"):
        found = np.where(scale > 0, difference / scale, np.nan)
    return _pairwise(found, members, diagonal=1.0)


# --------------------------------------------------------------------------------------------------- features and gates


def linear_cka(x: np.ndarray, y: np.ndarray) -> float:
    r"""Linear centred kernel alignment of two representations (Kornblith et al., ICML 2019, arXiv 1905.00414).

    $\lVert Y^\top X\rVert_F^2 / (\lVert X^\top X\rVert_F\,\lVert Y^\top Y\rVert_F)$ of centred features, each factor without its
    bias (Song et al., JMLR 13, 2012), which would make even noise score high where features outnumber images. 1 for
    features that are a rotation and scaling of each other, about 0 (or a little below) for features without linear
    relation; nan for constant ones.

    Args:
        x, y: (N, D1) and (N, D2), row i of both from image i.

    """
    a, b = _features(x), _features(y)
    if len(a) != len(b):
        raise ValueError(f"both representations must be of the same images, found {len(a)} and {len(b)}")
    return float(_alignment([a - a.mean(0), b - b.mean(0)])[0, 1])


def cka(features: Sequence[np.ndarray], *, n_bootstrap: int = 100, seed: int = 0) -> Pairwise:
    """Linear CKA between the features of all pairs of members.

    Args:
        features: (L, N, D), or L arrays (N, D) with widths of their own; maps are flattened.
        n_bootstrap: replicates, each of which costs as much as the value itself.
        seed: of the bootstrap.

    """
    rows = [_features(x) for x in features]
    if len({len(x) for x in rows}) != 1:
        raise ValueError(f"all representations must be of the same images, found {sorted({len(x) for x in rows})}")
    a, b = _pairs(len(rows))

    def matrix(drawn: np.ndarray | slice) -> np.ndarray:
        picked = [x[drawn] for x in rows]
        return _alignment([x - x.mean(0) for x in picked])[a, b]

    rng, n = np.random.default_rng(seed), len(rows[0])
    found = np.stack([matrix(slice(None)), *(matrix(rng.integers(n, size=n)) for _ in range(n_bootstrap))])
    found[1:] += found[0] - found[1:].mean(0)  # images drawn twice push CKA up: only the spread of the replicates is used
    return _pairwise(found, len(rows), diagonal=1.0)


def attention_overlap(gates: np.ndarray, *, kind: str = "cosine", top: float = 0.2, n_bootstrap: int = 1000, seed: int = 0) -> Pairwise:
    """How far the gates of two members cover the same places, mean over images; 1 for equal gates.

    Args:
        gates: (L, N, ...), not negative; attention maps or channel gates.
        kind: "cosine" between the gates, or "iou", intersection over union of each one's strongest entries. Gates from a
            sigmoid are all alike to the cosine; the overlap of the strongest is not.
        top: for "iou": the share of entries that count as strongest, at least one entry. Equal values go by position.
        n_bootstrap, seed: of the intervals.

    Raises:
        ValueError: unknown kind, negative gates, or top not in (0, 1).

    """
    if kind not in ("cosine", "iou"):
        raise ValueError(f"kind={kind!r} is unknown; known: cosine, iou")
    if not 0 < top < 1:
        raise ValueError(f"top must lie between 0 and 1, found {top}")
    found = np.asarray(gates, dtype=np.float64)
    if found.ndim < 3 or 0 in found.shape or found.min() < 0:
        raise ValueError(f"expected gates (L, N, ...) of L members on N images, none negative, found shape {found.shape}")
    flat = found.reshape(*found.shape[:2], -1)  # (L, N, D)
    if kind == "iou":
        count = max(1, round(top * flat.shape[2]))
        strongest = np.argsort(-flat, axis=2, kind="stable")[:, :, :count]
        flat = np.zeros_like(flat)
        np.put_along_axis(flat, strongest, 1.0, axis=2)
    a, b = _pairs(len(flat))
    products = np.stack([np.einsum("nd,nd->n", flat[i], flat[j]) for i, j in zip(a, b, strict=True)])  # (P, N)
    own = np.einsum("lnd,lnd->ln", flat, flat)
    # two gates that are closed everywhere cover the same places, one closed gate shares none with another
    closed = (own[a] == 0) & (own[b] == 0)
    size = np.sqrt(own[a] * own[b]) if kind == "cosine" else own[a] + own[b] - products
    values = np.where(closed, 1.0, products / np.where(size > 0, size, 1.0))
    return _pairwise(_sums(values, n_bootstrap, seed) / flat.shape[1], len(flat), diagonal=1.0)


# ----------------------------------------------------------------------------------------------------- what it is good for


def accuracy_by_branches(outputs: np.ndarray, labels: np.ndarray, *, n_bootstrap: int = 1000, seed: int = 0) -> dict[str, Measured]:
    """Accuracy of the first n members, n = 1 to L: what leaving an ensemble early costs.

    Args:
        outputs: classes (L, N) or probabilities (L, N, K) of L members, in the order of use.
        labels: (N,) true classes.
        n_bootstrap, seed: of the 95 % intervals over images.

    Returns:
        Arrays (L,), position n - 1 for the first n members, by name: plurality; mean_probability (with probabilities only);
        mean_branch, the mean accuracy of the n members; oracle, the share of images that at least one of them gets right;
        gain, plurality less mean_branch, and gain_mean_probability, both paired; tie_rate, the share of images with a tied
        vote, which the plurality gives to the lowest class.

    """
    right = _right(outputs, labels)
    guess, truth, counts = answers(outputs), np.asarray(labels), np.arange(1, len(right) + 1)[:, None]
    votes = _votes(guess).cumsum(0, dtype=np.int32)  # (L, N, K): row n - 1 counts the first n
    rows = {
        "plurality": votes.argmax(2) == truth,
        "mean_branch": right.cumsum(0) / counts,
        "oracle": np.logical_or.accumulate(right, axis=0),
        "tie_rate": (votes == votes.max(2, keepdims=True)).sum(2) > 1,
    }
    rows["gain"] = rows["plurality"] - rows["mean_branch"]
    if np.ndim(outputs) == 3:
        rows["mean_probability"] = _probabilities(outputs).cumsum(0).argmax(2) == truth
        rows["gain_mean_probability"] = rows["mean_probability"] - rows["mean_branch"]
    means = _sums(np.concatenate(list(rows.values())), n_bootstrap, seed) / right.shape[1]  # (1 + B, rows x L)
    return {name: _measured(part) for name, part in zip(rows, np.split(means, len(rows), axis=1), strict=True)}


def ensemble_gain(outputs: np.ndarray, labels: np.ndarray, *, rule: str = "plurality", n_bootstrap: int = 1000, seed: int = 0) -> Measured:
    """Accuracy of all members together less the mean of their accuracies, on the same images.

    Args:
        outputs, labels, n_bootstrap, seed: as in `accuracy_by_branches`.
        rule: "plurality" or "mean_probability" (needs probabilities).

    """
    name = {"plurality": "gain", "mean_probability": "gain_mean_probability"}.get(rule)
    if name is None:
        raise ValueError(f"rule={rule!r} is unknown; known: plurality, mean_probability")
    if rule == "mean_probability":
        _probabilities(outputs)
    return _last(accuracy_by_branches(outputs, labels, n_bootstrap=n_bootstrap, seed=seed)[name])


def oracle_accuracy(outputs: np.ndarray, labels: np.ndarray, *, n_bootstrap: int = 1000, seed: int = 0) -> Measured:
    """Share of images that at least one member gets right: no rule that picks among the members does better."""
    return _last(accuracy_by_branches(outputs, labels, n_bootstrap=n_bootstrap, seed=seed)["oracle"])


# ---------------------------------------------------------------------------------------------------------------- helpers


def _probabilities(outputs: np.ndarray) -> np.ndarray:
    found = np.asarray(outputs, dtype=np.float64)
    if found.ndim != 3 or 0 in found.shape:
        raise ValueError(f"the mean probability needs probabilities (L, N, K), found shape {found.shape}")
    return found


def _votes(guess: np.ndarray) -> np.ndarray:
    """Classes (L, N) to (L, N, K) booleans, K one more than the highest class."""
    return guess[:, :, None] == np.arange(guess.max() + 1)


def _right(outputs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    guess, truth = answers(outputs), np.asarray(labels)
    if truth.shape != guess.shape[1:]:
        raise ValueError(f"expected {guess.shape[1]} labels, one per image, found shape {truth.shape}")
    return guess == truth


def _features(x: np.ndarray) -> np.ndarray:
    found = np.asarray(x, dtype=np.float64)
    if found.ndim < 2 or len(found) < 4:
        raise ValueError(f"expected features (N, D) of at least four images, found shape {found.shape}")
    return found.reshape(len(found), -1)


def _alignment(centred: list[np.ndarray]) -> np.ndarray:
    """Debiased CKA (L, L) of centred features (N, D): by whichever of the matrices N x N and D x D is smaller."""
    n, width = len(centred[0]), max(x.shape[1] for x in centred)
    if n < width:
        kernels = np.stack([(x @ x.T).ravel() for x in centred])  # (L, N * N)
        products = kernels @ kernels.T
    else:
        products = np.empty((len(centred), len(centred)))
        for i, x in enumerate(centred):
            for j, y in enumerate(centred[: i + 1]):
                products[i, j] = products[j, i] = ((x.T @ y) ** 2).sum()
    norms = np.stack([np.square(x).sum(1) for x in centred])  # (L, N)
    total = norms.sum(1)
    products += np.outer(total, total) / ((n - 1) * (n - 2)) - n / (n - 2) * norms @ norms.T
    with np.errstate(invalid="ignore", divide="ignore"):
        own = np.sqrt(np.diagonal(products))
        return products / (own[:, None] * own)


def _pairs(members: int) -> tuple[np.ndarray, np.ndarray]:
    if members < 2:
        raise ValueError(f"a measure between members needs at least two, found {members}")
    a, b = np.triu_indices(members, 1)
    return a, b


def _sums(values: np.ndarray, n_bootstrap: int, seed: int) -> np.ndarray:
    """Sums over images of (M, N) values, (1 + B, M): first of the images as they are, then of B bootstrap samples."""
    # Drawing images with replacement is weighing each by how often it was drawn, so a replicate is a matrix product.
    rows, n, rng = np.asarray(values, dtype=np.float64).T, values.shape[1], np.random.default_rng(seed)
    parts = [rows.sum(0)[None]]
    for start in range(0, n_bootstrap, BATCH):
        drawn = [np.bincount(rng.integers(n, size=n), minlength=n) for _ in range(min(BATCH, n_bootstrap - start))]
        parts.append(np.stack(drawn).astype(np.float64) @ rows)  # (B, N) x (N, M)
    return np.concatenate(parts)


def _measured(replicates: np.ndarray) -> Measured:
    """(1 + B, ...): the value, then replicates of it."""
    low, high = percentiles(replicates[1:])
    return Measured(replicates[0], low, high)


def _last(measured: Measured) -> Measured:
    return Measured(*(part[-1] for part in measured))


def _pairwise(replicates: np.ndarray, members: int, *, diagonal: float) -> Pairwise:
    """(1 + B, P) over pairs to symmetric matrices."""
    a, b = _pairs(members)

    def square(values: np.ndarray) -> np.ndarray:
        matrix = np.full((members, members), diagonal)
        matrix[a, b] = matrix[b, a] = values
        return matrix

    with np.errstate(invalid="ignore"):
        known = np.isfinite(replicates)
        means = np.where(known, replicates, 0).sum(1) / np.where(known.any(1), known.sum(1), np.nan)  # nan where no pair has a value
    pairs, mean = _measured(replicates), _measured(means)
    return Pairwise(square(pairs.value), square(pairs.low), square(pairs.high), float(mean.value), (float(mean.low), float(mean.high)))
