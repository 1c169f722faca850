"""Data sets as FaceSets: FER2013, FER+, RAF-DB, AffectNet, ExpW, folders of one's own, synthetic faces;
splits that do not leak.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from importlib import import_module
from typing import Any

from ferkit.data.affectnet import load_affectnet
from ferkit.data.expw import load_expw
from ferkit.data.faceset import SPLITS, FaceSet
from ferkit.data.fer2013 import load_fer2013
from ferkit.data.ferplus import load_ferplus
from ferkit.data.folder import load_folder
from ferkit.data.rafdb import load_rafdb
from ferkit.data.splits import (
    cap_per_class,
    carve_validation,
    duplicate_mask,
    duplicates_across,
    image_hashes,
    stratified_folds,
)

__all__ = [
    "SPLITS",
    "FaceSet",
    "cap_per_class",
    "carve_validation",
    "duplicate_mask",
    "duplicates_across",
    "image_hashes",
    "list_datasets",
    "load",
    "load_affectnet",
    "load_expw",
    "load_fer2013",
    "load_ferplus",
    "load_folder",
    "load_rafdb",
    "stratified_folds",
]

# The synthetic faces are drawn with torch, which takes seconds to import: only when asked for.
_LOADERS = {
    "synthetic": ("ferkit.synthetic.faces", "load_synthetic"),
    "fer2013": ("ferkit.data.fer2013", "load_fer2013"),
    "ferplus": ("ferkit.data.ferplus", "load_ferplus"),
    "rafdb": ("ferkit.data.rafdb", "load_rafdb"),
    "affectnet7": ("ferkit.data.affectnet", "load_affectnet7"),
    "affectnet8": ("ferkit.data.affectnet", "load_affectnet8"),
    "expw": ("ferkit.data.expw", "load_expw"),
    "folder": ("ferkit.data.folder", "load_folder"),
}


def list_datasets() -> tuple[str, ...]:
    """Return the names that `load` knows."""
    return tuple(_LOADERS)


def load(name: str, path: str | os.PathLike[str] | None = None, **options: Any) -> FaceSet:
    """Load a data set by name; `load("synthetic")` needs no file.

    Args:
        name: one of `list_datasets()`.
        path: file or folder of the data set; each loader says where it looks without one.
        options: keyword options of the loader: `load_synthetic`, `load_fer2013`, `load_ferplus`, `load_rafdb`,
            `load_affectnet`, `load_expw`, `load_folder`.

    Raises:
        ValueError: for an unknown name or option, listing the known ones; otherwise what the loader raises.
    """
    if name not in _LOADERS:
        raise ValueError(f"Expected the name of a data set, found {name!r}. Known: {', '.join(_LOADERS)}.")
    module, function = _LOADERS[name]
    loader: Callable[..., FaceSet] = getattr(import_module(module), function)
    parameters = inspect.signature(loader).parameters
    first = next((key for key in parameters if key.endswith("path")), None)
    known = [key for key in parameters if key != first]
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise ValueError(
            f"Expected options of {name!r} among {', '.join(known) or 'none at all'}, found {', '.join(unknown)}."
        )
    if path is None:
        return loader(**options)
    if first is None:
        raise ValueError(f"Expected no path for {name!r}, which is made, not read; found {os.fspath(path)!r}.")
    return loader(path, **options)
