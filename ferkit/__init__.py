"""ferkit: the library under a workbook on facial expression recognition (FER).

Architectures, losses, data, one training loop, explanations, figures and widgets; the notebooks import public names
from here and show what they do.
"""

from importlib import import_module as _import_module
from typing import Any as _Any

__version__ = "0.1.0"


def load(name: str) -> _Any:
    """Return a trained network by its name, such as "resemotenet/fer2013-teach"; see `ferkit.use.load`."""
    return _import_module("ferkit.use.networks").load(name)  # only now: torch takes seconds to import
