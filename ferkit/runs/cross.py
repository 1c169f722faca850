"""Trained here, tested there: one network on several data sets, from finished run folders.

Every run is tested on the test split of every run's data, on the emotions that all the sets have: pictures of other
emotions are left out, and answers are limited to the shared ones, so that all columns pose the same question. Nothing
is trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ferkit import labels
from ferkit.data import image_hashes
from ferkit.data.faceset import FaceSet
from ferkit.evaluation.metrics import evaluate
from ferkit.models import create_model
from ferkit.predict import predict_probabilities
from ferkit.runs.experiment import environment, load_faces, split_digest
from ferkit.runs.folder import RunFolder
from ferkit.training.recipe import Recipe

#: What must be the same in all runs: otherwise a column would compare networks, not data.
SAME = ("model", "width", "model_options", "image_size", "tta")


@dataclass(frozen=True, eq=False)
class Trained:
    """A finished run: its folder, recipe, record, and the classes of its data in label order."""

    folder: Path
    recipe: Recipe
    result: dict[str, Any] = field(repr=False)
    names: tuple[str, ...]

    @property
    def data(self) -> tuple[str, str]:
        """Digest of its data, and its test split: equal for runs with the same column."""
        return str(self.result["data"]["sha256"]), self.recipe.test_split


def read_trained(folder: str | Path) -> Trained:
    """Read a run folder. Raises FileNotFoundError for one that is not finished or has lost its weights."""
    run = RunFolder.finished(folder)
    _ = run.weights
    return Trained(run.path, run.recipe, run.result, tuple(run.result["test"]["names"]))


def emotions_in_common(runs: Sequence[Trained]) -> tuple[str, ...]:
    """Return the emotions that all runs' data have.

    Raises:
        ValueError: fewer than two runs or sets, a run that is named twice, runs of different networks (`SAME`), of the
            same data split in different ways (one would be tested on what it was trained on), or data with fewer than
            two emotions in common.
    """
    if len(runs) < 2:
        raise ValueError(f"a matrix needs two runs or more, found {len(runs)}")
    first = runs[0]
    splits: dict[str, Trained] = {}
    seen: dict[str, Trained] = {}
    for run in runs:
        if run.recipe.name in seen:
            raise ValueError(
                f"{run.folder} and {seen[run.recipe.name].folder} have one name, {run.recipe.name}; name every run once"
            )
        seen[run.recipe.name] = run
        mine, its = run.recipe.as_dict(), first.recipe.as_dict()
        differs = [key for key in SAME if mine[key] != its[key]]
        if differs:
            raise ValueError(
                f"{first.recipe.name} and {run.recipe.name} differ in {', '.join(differs)}, so a column would "
                "compare networks, not data; take runs of one network"
            )
        other = splits.setdefault(run.data[0], run)
        if (
            other.result["data"]["split_sha256"] != run.result["data"]["split_sha256"]
            or other.recipe.test_split != run.recipe.test_split
        ):
            raise ValueError(
                f"{other.recipe.name} and {run.recipe.name} split the same data in different ways, so one may be "
                "tested on what it was trained on"
            )
    if len(splits) < 2:
        raise ValueError(
            f"all runs were trained on the same data ({first.result['data']['name']}), so there is nothing to cross; "
            "add a run on other data"
        )
    return labels.shared(*(run.names for run in runs))


def cross(folders: Sequence[str | Path], *, n_bootstrap: int = 1000) -> dict[str, Any]:
    """Test every run on the test split of every run's data.

    Args:
        folders: of finished runs (`ferkit.runs.experiment.run`) of one network.
        n_bootstrap: replicates of the intervals, which are over test pictures and do not hold the spread between
            trainings.

    Returns:
        A record: `labels`, the shared emotions; `runs` and `sets`, names of rows and columns; `cells`, one
        `ferkit.evaluation.metrics.evaluate` for each run and set, with the share `kept` of the test pictures and the
        number of `copies`: pictures that are, pixel for pixel, among the run's own training or validation pictures
        (`duplicate_clean` leaves them out). Own test splits are cells like the others, on the shared emotions, so they
        are not the runs' own results where some are missing.

    Raises:
        FileNotFoundError: a run that is not finished.
        ValueError: runs that cannot be compared, see `emotions_in_common`, or data that are no longer those of the
            training.
    """
    runs = [read_trained(folder) for folder in folders]
    names = emotions_in_common(runs)
    faces: dict[tuple[str, str], FaceSet] = {}
    columns: list[Trained] = []
    for run in runs:
        if run.data not in faces:
            faces[run.data] = _loaded(run)
            columns.append(run)
    cells = []
    for run in runs:
        model = create_model(run.recipe.model, weights=run.folder / "best.safetensors")
        own = faces[run.data]
        known = np.unique(image_hashes(own.images[np.isin(own.split, ("train", "validation"))]))
        cells.append(
            [
                _cell(model, run, faces[column.data].select(column.recipe.test_split), names, known, n_bootstrap)
                for column in columns
            ]
        )
    kinds = [run.result["data"]["name"] for run in columns]
    return {
        "labels": list(names),
        "runs": [run.recipe.name for run in runs],
        "trained_on": [columns.index(next(c for c in columns if c.data == run.data)) for run in runs],
        "sets": [
            kind if kinds.count(kind) == 1 else f"{kind} of {run.recipe.name}"
            for kind, run in zip(kinds, columns, strict=True)
        ],
        "data": [{**run.result["data"], "test_split": run.recipe.test_split} for run in columns],
        "network": {key: runs[0].recipe.as_dict()[key] for key in SAME},
        "cells": cells,
        "environment": environment(),
    }


def _loaded(run: Trained) -> FaceSet:
    faces = load_faces(run.recipe)
    if faces.sha256 != run.result["data"]["sha256"] or split_digest(faces) != run.result["data"]["split_sha256"]:
        raise ValueError(
            f"{run.recipe.name}: the data at {run.recipe.data_path or run.recipe.data} are no longer those of the "
            "training, or split otherwise"
        )
    return faces


def _cell(
    model: Any, run: Trained, test: FaceSet, names: tuple[str, ...], known: np.ndarray, n_bootstrap: int
) -> dict[str, Any]:
    to_shared = np.asarray(labels.index_map(test.names, names))[test.labels]
    kept = np.flatnonzero(to_shared >= 0)
    if not len(kept):
        raise ValueError(f"{test.name} has no test picture of {', '.join(names)}")
    part = test.subset(kept)
    p = predict_probabilities(model, part.images, tta=run.recipe.tta, seed=run.recipe.seed)[
        :, [model.labels.index(name) for name in names]
    ]
    p = p / np.maximum(p.sum(1, keepdims=True), 1e-12)
    copies = np.isin(image_hashes(part.images), known)
    return {
        **evaluate(p, to_shared[kept], names, n_bootstrap=n_bootstrap, clean=~copies),
        "kept": len(kept) / len(test),
        "copies": int(copies.sum()),
    }
