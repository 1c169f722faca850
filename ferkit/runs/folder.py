"""What lies in the folder of a run, read in one place: nothing damaged or absent is ever taken for a result."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from ferkit.files import read_json
from ferkit.models import FerModel, create_model
from ferkit.training.history import History
from ferkit.training.recipe import Recipe

#: What a result.json must name to be one.
PARTS = ("test", "validation", "data")


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run. Each part is read when it is first asked for.

    Every part raises FileNotFoundError where its file is absent (the run is not finished, or has lost it), and
    ValueError with the file's name where it is damaged.
    """

    path: Path

    @classmethod
    def finished(cls, path: str | Path) -> "RunFolder":
        """Return the folder of a finished run, its recipe and result read."""
        folder = cls(Path(path))
        _ = folder.result, folder.recipe
        return folder

    @property
    def is_begun(self) -> bool:
        """Whether a training has left anything here that another one would overwrite."""
        return any((self.path / trace).exists() for trace in ("checkpoint", "stages", "history.csv", "result.json"))

    @property
    def is_finished(self) -> bool:
        """Whether a result is here."""
        return (self.path / "result.json").is_file()

    @cached_property
    def recipe(self) -> Recipe:
        """The recipe it was run by."""
        return Recipe.load(self._file("recipe.yaml"))

    @cached_property
    def result(self) -> dict[str, Any]:
        """What came out."""
        result = read_json(self._file("result.json"))
        if absent := [part for part in PARTS if part not in result]:
            raise ValueError(f"{self.path / 'result.json'} is no result of a run: it has no {', '.join(absent)}")
        return result

    @cached_property
    def history(self) -> History:
        """What happened in each epoch."""
        return History.read(self._file("history.csv"))

    @cached_property
    def predictions(self) -> dict[str, np.ndarray]:
        """Class probabilities (N, K) on `validation` and `test`, their `..._labels` (N,), and `test_clean` (N,) bool.
        """
        file = self._file("predictions.npz")
        try:
            with np.load(file) as kept:
                arrays = {name: kept[name] for name in kept.files}
        except (ValueError, OSError, EOFError, BadZipFile) as error:
            raise ValueError(f"{file} cannot be read ({error}); run the recipe again with --no-resume") from None
        if absent := [key for key in ("validation", "test", "validation_labels", "test_labels") if key not in arrays]:
            raise ValueError(f"{file} lacks {', '.join(absent)}; run the recipe again with --no-resume")
        return arrays

    @property
    def weights(self) -> Path:
        """The file of its best weights."""
        return self._file("best.safetensors")

    def model(self) -> FerModel:
        """Return the network with its best weights."""
        return create_model(self.recipe.model, weights=self.weights)

    def _file(self, name: str) -> Path:
        if not (self.path / name).is_file():
            raise FileNotFoundError(f"{self.path} has no {name}: expected the folder of a finished run")
        return self.path / name
