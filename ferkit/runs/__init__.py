"""A recipe in, a folder out: single runs, series of them, ensembles, and the records that are committed."""

from ferkit.runs.cross import cross
from ferkit.runs.experiment import Run, build_model, load_faces, run
from ferkit.runs.records import read_record, record_of
from ferkit.runs.series import Series, run_all

__all__ = ["Run", "Series", "build_model", "cross", "load_faces", "read_record", "record_of", "run", "run_all"]
