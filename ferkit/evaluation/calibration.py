"""Whether a network that says 80 % is right in 80 % of such cases, and the one-number repair if it is not."""

from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize_scalar

#: Temperatures that `fit_temperature` looks at; a best one at either end means that there is none between.
TEMPERATURES = (0.05, 20.0)


class Reliability(NamedTuple):
    """Of each bin (B,) of the largest probability: how many images, their mean probability,
    and the share that is right.
    """

    n: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray


def reliability(probabilities: np.ndarray, labels: np.ndarray, n_bins: int = 15) -> Reliability:
    """Return what a reliability diagram draws (Guo et al., ICML 2017, section 3): bins of equal width,
    nan where one is empty.

    A bin holds its upper end, as in the paper. Shares of votes such as 5 of 9 lie on these ends, so what is within a
    millionth of an end counts as being there: the bin must not depend on how the share was rounded.

    Args:
        probabilities: (N, K), rows sum to 1.
        labels: (N,) true classes.
        n_bins: of the unit interval.

    """
    p = np.asarray(probabilities, dtype=np.float64)
    top, right = p.max(1), p.argmax(1) == np.asarray(labels)
    bins = np.clip(np.ceil(top * n_bins - 1e-6).astype(int) - 1, 0, n_bins - 1)
    count = np.bincount(bins, minlength=n_bins)
    with np.errstate(invalid="ignore"):
        confidence, accuracy = (
            np.bincount(bins, weights=v, minlength=n_bins) / count for v in (top, right.astype(float))
        )
    return Reliability(count, confidence, accuracy)


def expected_calibration_error(probabilities: np.ndarray, labels: np.ndarray, n_bins: int = 15) -> float:
    """Return the mean over images of |accuracy - confidence| in their bins of `reliability` (Guo et al., equation 3),
    in [0, 1].
    """
    bins = reliability(probabilities, labels, n_bins)
    return float(np.nansum(bins.n * np.abs(bins.accuracy - bins.confidence)) / bins.n.sum())


def cross_entropy(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean negative log of the probability (N, K) of the true class (N,), in nats;
    one below 1e-12 counts as 1e-12.
    """
    return float(-np.log(np.clip(probabilities[np.arange(len(labels)), labels], 1e-12, None)).mean())


def temper(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    r"""Return the probabilities (N, K) of the logits divided by T: $p_k^{1/T} / \sum_j p_j^{1/T}$.

    The largest stays the largest.

    Raises:
        ValueError: a temperature that is not above 0.

    """
    if not temperature > 0:
        raise ValueError(f"a temperature is above 0, found {temperature}")
    scaled = np.log(np.clip(probabilities, 1e-30, None)) / temperature
    powers = np.exp(scaled - scaled.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def fit_temperature(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Return the temperature of least mean cross entropy on these images (Guo et al. 2017, section 4.2);
    use validation images.

    Above 1 for a network that is too sure of itself, below 1 for one that is not sure enough.
    """

    def loss(log_temperature: float) -> float:
        return cross_entropy(temper(probabilities, float(np.exp(log_temperature))), labels)

    low, high = np.log(TEMPERATURES)
    return float(np.exp(minimize_scalar(loss, bounds=(low, high), method="bounded").x))


def conformal_threshold(probabilities: np.ndarray, labels: np.ndarray, *, level: float = 0.9) -> float:
    """Return the least probability a class may have to belong to a set that holds the label in at least `level`
    of such images.

    Split conformal prediction with the score 1 - p(label) (Sadinle et al., JASA 2019, arXiv 1609.00451; Angelopoulos &
    Bates, arXiv 2107.07511, section 1). The promise holds for images drawn as these were, on average over all of them,
    and for no class or group by itself.

    Args:
        probabilities: (N, K) of images that neither training nor selection saw; validation images are the usual
            compromise.
        labels: (N,) true classes.
        level: share of sets that are to hold the label, above 0 and below 1.

    Returns:
        A probability; 0 where N is too small for the level, so that every class belongs.

    Raises:
        ValueError: no images, or a level outside (0, 1).

    """
    p = np.asarray(probabilities, dtype=np.float64)
    if not 0 < level < 1 or len(p) == 0:
        raise ValueError(f"expected a level between 0 and 1 and at least one image, found {level} and {len(p)}")
    own = np.sort(p[np.arange(len(p)), np.asarray(labels)])[::-1]  # probabilities of the labels, largest first
    rank = int(np.ceil((len(p) + 1) * level - 1e-9))
    return 0.0 if rank > len(p) else float(own[rank - 1])


def conformal_sets(probabilities: np.ndarray, threshold: float) -> np.ndarray:
    """Return which classes belong to each image's set, bool (N, K): those of at least the threshold,
    and always the most probable.

    Keeping the most probable one can only raise the share of sets that hold the label, and no set is empty.
    """
    p = np.asarray(probabilities)
    inside = p >= threshold
    inside[np.arange(len(p)), p.argmax(1)] = True
    return inside
