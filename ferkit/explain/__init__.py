"""Looking inside: captured activations, class activation maps, gates and masks,
and how far such pictures can be trusted.
"""

from ferkit.explain.cams import METHODS, cam, grad_cam_by_hand, raw_cam
from ferkit.explain.faithfulness import average_drop, insertion_deletion, occlusion_map
from ferkit.explain.features import PROJECTIONS, features_of, project
from ferkit.explain.gates import attention_maps, channel_gates, spatial_maps
from ferkit.explain.randomisation import compare_maps, randomisation_check, shuffle_weights
from ferkit.explain.scores import (
    HEAT_METHODS,
    SCORES,
    centre_prior,
    chance_scores,
    estimate,
    estimates,
    heat_maps,
    margins,
    score_maps,
    score_network,
)
from ferkit.models.capture import capture, module_by_name

__all__ = [
    "HEAT_METHODS",
    "METHODS",
    "PROJECTIONS",
    "SCORES",
    "attention_maps",
    "average_drop",
    "cam",
    "capture",
    "centre_prior",
    "chance_scores",
    "channel_gates",
    "estimate",
    "estimates",
    "features_of",
    "grad_cam_by_hand",
    "heat_maps",
    "insertion_deletion",
    "margins",
    "module_by_name",
    "occlusion_map",
    "project",
    "randomisation_check",
    "raw_cam",
    "score_maps",
    "score_network",
    "shuffle_weights",
    "compare_maps",
    "spatial_maps",
]
