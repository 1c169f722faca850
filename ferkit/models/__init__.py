"""The networks of the papers, each under one contract (`FerModel`)."""

from ferkit.models import resemotenet as _resemotenet  # noqa: F401  (registers)
from ferkit.models.base import FerModel, count_parameters
from ferkit.models.registry import create_model, list_models, list_weights, model_options, save_weights
from ferkit.models.summary import StageRow, summarise

__all__ = [
    "FerModel",
    "StageRow",
    "count_parameters",
    "create_model",
    "list_models",
    "list_weights",
    "model_options",
    "save_weights",
    "summarise",
]
