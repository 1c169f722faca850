"""What an ensemble is good for: its accuracy by the number of members, its gain, and the most that was possible."""

import numpy as np

from ferkit.evaluation.agreement import answers, checked_probabilities, right_answers, votes_for
from ferkit.evaluation.bootstrap import Measured, resampled_sums, with_interval


def accuracy_by_branches(
    outputs: np.ndarray, labels: np.ndarray, *, n_bootstrap: int = 1000, seed: int = 0
) -> dict[str, Measured]:
    """Return the accuracy of the first n members, n = 1 to L: what leaving an ensemble early costs.

    Args:
        outputs: classes (L, N) or probabilities (L, N, K) of L members, in the order of use.
        labels: (N,) true classes.
        n_bootstrap, seed: of the 95 % intervals over images.

    Returns:
        Arrays (L,), position n - 1 for the first n members, by name: plurality; mean_probability (with probabilities
        only); mean_branch, the mean accuracy of the n members; oracle, the share of images that at least one of them
        gets right; gain, plurality less mean_branch, and gain_mean_probability, both paired; tie_rate, the share of
        images with a tied vote, which the plurality gives to the lowest class.

    """
    right = right_answers(outputs, labels)
    guess, truth, counts = answers(outputs), np.asarray(labels), np.arange(1, len(right) + 1)[:, None]
    votes = votes_for(guess).cumsum(0, dtype=np.int32)  # (L, N, K): row n - 1 counts the first n
    rows = {
        "plurality": votes.argmax(2) == truth,
        "mean_branch": right.cumsum(0) / counts,
        "oracle": np.logical_or.accumulate(right, axis=0),
        "tie_rate": (votes == votes.max(2, keepdims=True)).sum(2) > 1,
    }
    rows["gain"] = rows["plurality"] - rows["mean_branch"]
    if np.ndim(outputs) == 3:
        rows["mean_probability"] = checked_probabilities(outputs).cumsum(0).argmax(2) == truth
        rows["gain_mean_probability"] = rows["mean_probability"] - rows["mean_branch"]
    means = resampled_sums(np.concatenate(list(rows.values())), n_bootstrap, seed) / right.shape[1]  # (1 + B, rows x L)
    return {name: with_interval(part) for name, part in zip(rows, np.split(means, len(rows), axis=1), strict=True)}


def ensemble_gain(
    outputs: np.ndarray, labels: np.ndarray, *, rule: str = "plurality", n_bootstrap: int = 1000, seed: int = 0
) -> Measured:
    """Return the accuracy of all members together less the mean of their accuracies, on the same images.

    Args:
        outputs, labels, n_bootstrap, seed: as in `accuracy_by_branches`.
        rule: "plurality" or "mean_probability" (needs probabilities).

    """
    name = {"plurality": "gain", "mean_probability": "gain_mean_probability"}.get(rule)
    if name is None:
        raise ValueError(f"rule={rule!r} is unknown; known: plurality, mean_probability")
    if rule == "mean_probability":
        checked_probabilities(outputs)
    return _last(accuracy_by_branches(outputs, labels, n_bootstrap=n_bootstrap, seed=seed)[name])


def oracle_accuracy(outputs: np.ndarray, labels: np.ndarray, *, n_bootstrap: int = 1000, seed: int = 0) -> Measured:
    """Return the share of images that at least one member gets right: no rule that picks among the members does better.
    """
    return _last(accuracy_by_branches(outputs, labels, n_bootstrap=n_bootstrap, seed=seed)["oracle"])


def _last(measured: Measured) -> Measured:
    return Measured(*(part[-1] for part in measured))
