"""A recipe in, a folder out: single runs, series of them, ensembles, and the records that are committed."""

from ferkit.runs.cross import cross
from ferkit.runs.experiment import Run, build_model, load_faces, run
from ferkit.runs.records import read_record, record_of
from ferkit.runs.series import Series, run_all
from ferkit.runs.shelf import Shelf, compare, differences, read_shelf

__all__ = [
    "Run",
    "Series",
    "Shelf",
    "build_model",
    "compare",
    "cross",
    "differences",
    "load_faces",
    "read_record",
    "read_shelf",
    "record_of",
    "run",
    "run_all",
]
