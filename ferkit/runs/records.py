"""The committed records of runs: what `data/results/` says of a network whose weights come with the workbook."""

from typing import Any

from ferkit.files import read_json
from ferkit.models.registry import weights_file, weights_folder


def read_record(name: str) -> dict[str, Any]:
    """The committed record of a run, such as "resemotenet-teach-fer2013".

    Raises FileNotFoundError listing the known ones.
    """
    folder = weights_folder().parent / "results"
    file = folder / f"{name}.json"
    if not file.is_file():
        known = ", ".join(sorted(f.stem for f in folder.glob("*.json"))) or "none"
        raise FileNotFoundError(f"no record of a run named {name!r} in {folder}; known: {known}")
    return read_json(file)


def record_of(model: str, weights: str) -> dict[str, Any]:
    """The record behind `create_model(model, weights=weights)`; empty if the weights came without one."""
    try:
        return read_record(weights_file(model, weights).stem)
    except FileNotFoundError:
        return {}
