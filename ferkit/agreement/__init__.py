r"""Do members of an ensemble differ, and does it help: agreement, errors in common, representations, gain, early exits.

Members are branches, or networks. All intervals are percentiles of a bootstrap over images: they describe the finite test
set, not the spread between trainings. Within a replicate every member sees the same images, so differences are paired.
"""

from ferkit.agreement.answers import answers, cohen_kappa, disagreement, error_correlation, mean_probability, plurality
from ferkit.agreement.bootstrap import Measured, Pairwise
from ferkit.agreement.gain import accuracy_by_branches, ensemble_gain, oracle_accuracy
from ferkit.agreement.representations import attention_overlap, cka, linear_cka

__all__ = [
    "Measured",
    "Pairwise",
    "accuracy_by_branches",
    "answers",
    "attention_overlap",
    "cka",
    "cohen_kappa",
    "disagreement",
    "ensemble_gain",
    "error_correlation",
    "linear_cka",
    "mean_probability",
    "oracle_accuracy",
    "plurality",
]
