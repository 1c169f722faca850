"""The networks of the papers, each under one contract (`FerModel`)."""

from ferkit.models import comparators as _comparators  # noqa: F401  (registers)
from ferkit.models import esr as _esr  # noqa: F401  (registers)
from ferkit.models import lfnsb as _lfnsb  # noqa: F401  (registers)
from ferkit.models import manet as _manet  # noqa: F401  (registers)
from ferkit.models import mobilefacenet as _mobilefacenet  # noqa: F401  (registers)
from ferkit.models import resemotenet_ablations as _resemotenet  # noqa: F401  (registers)
from ferkit.models import residual_attention as _residual_attention  # noqa: F401  (registers)
from ferkit.models import resmasking as _resmasking  # noqa: F401  (registers)
from ferkit.models.base import FerModel, count_parameters
from ferkit.models.registry import create_model, list_models, list_weights, model_options, save_state, save_weights
from ferkit.models.released import read_released
from ferkit.models.summary import StageRow, summarise
from ferkit.models.transfer import Initialised, freeze, initialise, load_released, thaw

load_released_manet = load_released  # its name while it knew MA-Net's files alone

__all__ = [
    "FerModel",
    "Initialised",
    "StageRow",
    "count_parameters",
    "create_model",
    "freeze",
    "initialise",
    "list_models",
    "list_weights",
    "load_released",
    "load_released_manet",
    "model_options",
    "read_released",
    "save_state",
    "save_weights",
    "summarise",
    "thaw",
]
