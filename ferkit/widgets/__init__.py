"""Live controls over plain functions. The only importer of ipywidgets.

Every widget here draws what a plain function returns, a figure made from values, so each is also usable, and tested,
without a browser; most are `explore` over such a function. A reader on GitHub sees the first picture; in JupyterLab the
controls below it redraw it.
"""

from ferkit.widgets.architecture import architecture_explorer, architecture_figure
from ferkit.widgets.attention import cam_explorer, cam_figure, map_layers
from ferkit.widgets.claims import claim_checker, claim_figure
from ferkit.widgets.controls import explore, sweep_values
from ferkit.widgets.data import doctor_panel, doctor_report, source_panel, source_table
from ferkit.widgets.features import feature_explorer, feature_figure
from ferkit.widgets.upload import (
    FaceUpload,
    answers_figure,
    found_figure,
    hidden_figure,
    side_by_side_figure,
    stability_figure,
    upload_face,
)
from ferkit.widgets.webcam import Webcam

__all__ = [
    "FaceUpload",
    "Webcam",
    "answers_figure",
    "architecture_explorer",
    "architecture_figure",
    "cam_explorer",
    "cam_figure",
    "claim_checker",
    "claim_figure",
    "doctor_panel",
    "doctor_report",
    "explore",
    "feature_explorer",
    "feature_figure",
    "found_figure",
    "hidden_figure",
    "map_layers",
    "side_by_side_figure",
    "source_panel",
    "source_table",
    "stability_figure",
    "sweep_values",
    "upload_face",
]
