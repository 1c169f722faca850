"""What members answer, alone and together, and whether they err on the same images."""

import numpy as np

from ferkit.evaluation.bootstrap import Pairwise, all_pairs, between_pairs, resampled_sums


def answers(outputs: np.ndarray) -> np.ndarray:
    """Return predicted classes (L, N) of members: from probabilities or logits (L, N, K) by argmax,
    or classes as they are.

    Raises:
        ValueError: neither shape, or no member or image, or classes that are not whole numbers from 0.

    """
    found = np.asarray(outputs)
    if found.ndim not in (2, 3) or 0 in found.shape:
        raise ValueError(
            f"expected classes (L, N) or probabilities (L, N, K) of L members on N images, found shape {found.shape}"
        )
    if found.ndim == 3:
        return found.argmax(2)
    if not np.issubdtype(found.dtype, np.integer) or found.min() < 0:
        raise ValueError(
            f"expected classes as whole numbers from 0, found {found.dtype}; probabilities need a third axis (L, N, K)"
        )
    return found


def plurality(outputs: np.ndarray) -> np.ndarray:
    """Return the classes (N,) with the most votes of L members; a tie goes to the lowest class,
    as in the released ESR code.

    Args:
        outputs: classes (L, N) or probabilities (L, N, K).

    """
    return votes_for(answers(outputs)).sum(0).argmax(1)


def mean_probability(probabilities: np.ndarray) -> np.ndarray:
    """Return the classes (N,) with the largest mean probability over members (L, N, K)."""
    return checked_probabilities(probabilities).mean(0).argmax(1)


def disagreement(outputs: np.ndarray, *, n_bootstrap: int = 1000, seed: int = 0) -> Pairwise:
    """Return the share of images that two members answer differently; 0 on the diagonal.

    Args:
        outputs: classes (L, N) or probabilities (L, N, K) of L members.
        n_bootstrap: replicates of the 95 % intervals.
        seed: of the bootstrap.

    """
    guess = answers(outputs)
    a, b = all_pairs(len(guess))
    sums = resampled_sums(guess[a] != guess[b], n_bootstrap, seed)
    return between_pairs(sums / guess.shape[1], len(guess), diagonal=0.0)


def cohen_kappa(outputs: np.ndarray, *, n_bootstrap: int = 1000, seed: int = 0) -> Pairwise:
    r"""Return agreement beyond chance of two members, $(p_o - p_e)/(1 - p_e)$ (Cohen 1960).

    1 for equal answers, 0 for independent ones, negative for answers that avoid each other. Two members that both
    answer one and the same class always agree fully: 1.

    Args:
        outputs, n_bootstrap, seed: as in `disagreement`.

    """
    guess = answers(outputs)
    (members, n), (a, b) = guess.shape, all_pairs(len(guess))
    votes = votes_for(guess).transpose(0, 2, 1)  # (L, K, N)
    sums = resampled_sums(np.concatenate([guess[a] == guess[b], votes.reshape(-1, n)]), n_bootstrap, seed) / n
    observed, share = sums[:, : len(a)], sums[:, len(a) :].reshape(len(sums), members, -1)  # (R, P), (R, L, K)
    chance = (share[:, a] * share[:, b]).sum(2)  # (R, P)
    certain = chance > 1 - 1e-12
    kappa = np.where(certain, 1.0, (observed - chance) / np.where(certain, 1.0, 1 - chance))
    return between_pairs(kappa, members, diagonal=1.0)


def error_correlation(
    outputs: np.ndarray, labels: np.ndarray, *, kind: str = "phi", n_bootstrap: int = 1000, seed: int = 0
) -> Pairwise:
    r"""Return whether two members err on the same images (Kuncheva and Whitaker, Machine Learning 51, 2003, table 1).

    With the counts $n_{11}$ both right, $n_{00}$ both wrong, $n_{10}$, $n_{01}$ one of them right:
    $Q = (n_{11}n_{00} - n_{01}n_{10})/(n_{11}n_{00} + n_{01}n_{10})$, and phi, the correlation of being right,
    $(n_{11}n_{00} - n_{01}n_{10})/\sqrt{(n_{11}+n_{10})(n_{01}+n_{00})(n_{11}+n_{01})(n_{10}+n_{00})}$. Both are 1 for
    equal errors, 0 for independent ones, -1 for opposite ones; nan where a member is always right or always wrong,
    which leaves nothing to correlate. Pairs and replicates without a value are left out of means and intervals.

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
    right = right_answers(outputs, labels)
    (members, n), (a, b) = right.shape, all_pairs(len(right))
    sums = resampled_sums(np.concatenate([right[a] & right[b], right]), n_bootstrap, seed)
    both, own = sums[:, : len(a)], sums[:, len(a) :]  # (R, P), (R, L)
    of_a, of_b = own[:, a], own[:, b]
    neither, only_a, only_b = n - of_a - of_b + both, of_a - both, of_b - both
    difference = both * neither - only_a * only_b
    scale = both * neither + only_a * only_b if kind == "q" else np.sqrt(of_a * (n - of_a) * of_b * (n - of_b))
    with np.errstate(invalid="ignore", divide="ignore"):
        found = np.where(scale > 0, difference / scale, np.nan)
    return between_pairs(found, members, diagonal=1.0)


def checked_probabilities(outputs: np.ndarray) -> np.ndarray:
    """Return the outputs (L, N, K) as float64. Raises ValueError for classes, which have no mean probability."""
    found = np.asarray(outputs, dtype=np.float64)
    if found.ndim != 3 or 0 in found.shape:
        raise ValueError(f"the mean probability needs probabilities (L, N, K), found shape {found.shape}")
    return found


def votes_for(guess: np.ndarray) -> np.ndarray:
    """Return classes (L, N) as (L, N, K) booleans, K one more than the highest class."""
    return guess[:, :, None] == np.arange(guess.max() + 1)


def right_answers(outputs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return booleans (L, N): whether each member is right. Raises ValueError unless there is one label per image."""
    guess, truth = answers(outputs), np.asarray(labels)
    if truth.shape != guess.shape[1:]:
        raise ValueError(f"expected {guess.shape[1]} labels, one per image, found shape {truth.shape}")
    return guess == truth
