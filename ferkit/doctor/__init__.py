"""Is this machine ready, and is this copy of a data set right?

`examine` says what lies at a path and all that is wrong with it.

    python -m ferkit doctor data/raw/rafdb

`ferkit.doctor.environment` must speak where packages are missing, so nothing heavy is imported before it is asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ferkit.doctor.examination import examine
    from ferkit.doctor.report import SEVERITIES, Finding, Report
    from ferkit.doctor.survey import SETS, NotRecognised

__all__ = ["SETS", "SEVERITIES", "Finding", "NotRecognised", "Report", "examine"]

_HOMES = {
    "examine": "examination",
    "SEVERITIES": "report",
    "Finding": "report",
    "Report": "report",
    "SETS": "survey",
    "NotRecognised": "survey",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
