"""Drawn faces with known action units: the data set that needs no download, no licence and no real person."""

from ferkit.synthetic.action_units import AU_DESCRIPTIONS, AU_NAMES, PROTOTYPES, REGIONS
from ferkit.synthetic.clip import Clip, draw_clip
from ferkit.synthetic.faces import SyntheticBatch, draw_faces, face_from_action_units, load_synthetic, make_faces

__all__ = [
    "AU_DESCRIPTIONS",
    "AU_NAMES",
    "PROTOTYPES",
    "REGIONS",
    "Clip",
    "SyntheticBatch",
    "draw_clip",
    "draw_faces",
    "face_from_action_units",
    "load_synthetic",
    "make_faces",
]
