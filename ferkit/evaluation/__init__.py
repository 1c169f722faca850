r"""What answers are worth: scores with intervals, calibration, and whether the members of an ensemble differ and help.

Members are branches, or networks. All intervals are percentiles of a bootstrap over images: they describe the finite
test set, not the spread between trainings. Within a replicate every member sees the same images, so differences are
paired.
"""

from ferkit.evaluation.agreement import (
    answers,
    cohen_kappa,
    disagreement,
    error_correlation,
    mean_probability,
    plurality,
)
from ferkit.evaluation.bootstrap import Measured, Pairwise
from ferkit.evaluation.calibration import conformal_sets, conformal_threshold, reliability
from ferkit.evaluation.gain import accuracy_by_branches, ensemble_gain, oracle_accuracy
from ferkit.evaluation.metrics import evaluate, mean_interval, paired_difference, wilson
from ferkit.evaluation.representations import attention_overlap, cka, linear_cka

__all__ = [
    "Measured",
    "Pairwise",
    "accuracy_by_branches",
    "answers",
    "attention_overlap",
    "cka",
    "cohen_kappa",
    "conformal_sets",
    "conformal_threshold",
    "disagreement",
    "ensemble_gain",
    "error_correlation",
    "evaluate",
    "linear_cka",
    "mean_interval",
    "mean_probability",
    "oracle_accuracy",
    "paired_difference",
    "plurality",
    "reliability",
    "wilson",
]
