"""The shelf: series of long runs that are kept small enough to commit, compared image by image,
and run again by one command.

`data/results/shelf/NAME.json` is what the series of `notebooks/recipes/shelf/NAME.yaml` gave. Of every run it holds
what differs from the others, its scores with intervals, its curves, and which test images it got right, one bit for
each; no picture.
"""

import base64
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ferkit.evaluation.bootstrap import resampled_sums, with_interval
from ferkit.evaluation.metrics import mean_interval
from ferkit.files import read_json, write_json
from ferkit.models.registry import weights_folder
from ferkit.runs.experiment import NOT_THE_TRAINING, load_faces, run
from ferkit.runs.folder import RunFolder
from ferkit.runs.series import recipes_of
from ferkit.training import Recipe

PREFIX = "shelf-"  # recipes are named after their folder
CURVES = ("train_loss", "train_accuracy", "val_loss", "val_accuracy")
SCORES = ("n", "accuracy", "macro_f1", "balanced_accuracy", "cross_entropy", "ece", "intervals")
LEARNT = 1.2  # a run has learnt if its training accuracy is above so many times the share of the largest class


@dataclass(frozen=True)
class Shelf:
    """A record of the shelf, or some of its runs.

    Attributes:
        record: the file, see `shelve`; `record["runs"]` are the runs.
        right: (R, N) booleans, whether each of the R runs is right on each of the N test images, in the data's order.
        clean: (R, N) booleans, whether the image has no copy among those the run was trained or validated on.

    """

    record: dict[str, Any]
    right: np.ndarray
    clean: np.ndarray

    def select(self, values: Mapping[str, Any]) -> "Shelf":
        """The runs with these values, such as `{"model_options.ablation": "C2"}`.

        Raises ValueError if there is none.
        """
        runs = self.record["runs"]
        rows = [
            i for i, each in enumerate(runs) if all(each["values"].get(key) == value for key, value in values.items())
        ]
        if not rows:
            raise ValueError(
                f"{self.record['name']} has no run with {dict(values)}; its runs: "
                f"{', '.join(each['name'] for each in runs)}"
            )
        return Shelf({**self.record, "runs": [runs[i] for i in rows]}, self.right[rows], self.clean[rows])


def shelf_folder() -> Path:
    """Where the records lie: `data/results/shelf` of the checkout."""
    return weights_folder().parent / "results" / "shelf"


def shelve(recipe: Recipe, *, out: str | Path = "runs", tries: int = 1) -> Path:
    """Write the record of a series, finished or not, to `shelf_folder()`, and give its file.

    Args:
        recipe: of the series.
        out: where `ferkit.runs.series.run_all` put it.
        tries: recipes that were tried and looked at before this one was taken, itself included.

    The record says how many runs were `planned` and how many are `finished`. Fractions are rounded to five decimals,
    curves to four.

    Raises:
        FileNotFoundError: no run of the series is finished.
        ValueError: a run is not of this recipe, or did not learn, or they were not all tested on the same images.

    """
    series = Path(out) / recipe.name
    made = [(differs, each, RunFolder(series / each.name)) for differs, each in recipes_of(recipe)]
    finished = [(differs, folder) for differs, each, folder in made if _is_finished(folder, each)]
    if not finished:
        raise FileNotFoundError(
            f"{series} holds no finished run of {recipe.name}: run it first, with python -m ferkit sweep"
        )
    results = [folder.result for _, folder in finished]
    labels = {
        hashlib.sha256(folder.predictions["test_labels"].astype(np.int64).tobytes()).hexdigest()
        for _, folder in finished
    }
    if len(labels) > 1 or len({(r["data"]["sha256"], r["protocol"]["test_split"]) for r in results}) > 1:
        raise ValueError(
            f"the runs of {recipe.name} were not tested on the same images, so that they cannot be compared in pairs"
        )
    runs = []
    for differs, folder in finished:
        result = folder.result
        _refuse_chance(folder)
        runs.append(
            {
                "name": folder.path.name.removeprefix(f"{recipe.name}-"),
                "values": differs,
                "parameters": result["model"]["parameters"],
                "macs": result["model"]["macs"],
                "selection": result["protocol"]["selection"],
                "seconds": result["seconds"]["training"],
                "splits": result["data"]["splits"],
                "split_sha256": result["data"]["split_sha256"],
                "test": _rounded({key: result["test"][key] for key in (*SCORES, "recall", "confusion")}),
                "validation": _rounded({key: result["validation"][key] for key in SCORES}),
                "right": pack(_right(folder)),
                "clean": pack(folder.predictions["test_clean"]),
                "curves": {column: [round(value, 4) for value in folder.history.column(column)] for column in CURVES},
            }
        )
    environments = [result["environment"] for result in results]
    record = {
        "name": recipe.name.removeprefix(PREFIX),
        "source": recipe.source,
        "recipe": _what_was_chosen(recipe),
        "finished": len(runs),
        "planned": len(made),
        "tries": tries,
        "data": {key: results[0]["data"][key] for key in ("name", "sha256")}
        | {"test_split": recipe.test_split, "test_labels_sha256": labels.pop()},
        "names": results[0]["test"]["names"],
        "environments": [each for i, each in enumerate(environments) if each not in environments[:i]],
        "runs": runs,
    }
    file = shelf_folder() / f"{record['name']}.json"
    write_json(file, record)
    return file


def read_shelf(name: str) -> Shelf:
    """The record of a series, such as "resemotenet-ablations". Raises FileNotFoundError listing the known ones."""
    file = shelf_folder() / f"{name}.json"
    if not file.is_file():
        known = ", ".join(sorted(f.stem for f in shelf_folder().glob("*.json"))) or "none"
        raise FileNotFoundError(f"no series named {name!r} on the shelf {shelf_folder()}; known: {known}")
    record = read_json(file)
    right, clean = (
        np.stack([unpack(each[key], each["test"]["n"]) for each in record["runs"]]) for key in ("right", "clean")
    )
    return Shelf(record, right, clean)


def compare(
    a: Shelf, b: Shelf, *, images: np.ndarray | None = None, n_bootstrap: int = 1000, seed: int = 0
) -> dict[str, Any]:
    """How much more often runs of one kind are right than runs of another, on the same images and from the same seeds.

    Args:
        a, b: runs of one kind each, see `Shelf.select`. They are compared seed by seed; a seed that only one of them
            has, as in a record that is not finished, is left out.
        images: (N,) booleans, the test images to compare on, such as those that have a copy in one's training set;
            default all.
        n_bootstrap, seed: of the interval over images.

    Returns:
        accuracy: mean accuracy of a less that of b.
        interval: its 95 % interval over test images, drawn in pairs; it holds for these very networks.
        each: the difference of every pair of runs.
        seeds: of the pairs.
        seeds_interval: the 95 % Student-t interval of the mean of `each`, for networks from other seeds on these very
            images; nan for a single pair.

    Raises:
        ValueError: other images, no seed that both have, or several runs of one seed.

    """
    if a.record["data"] != b.record["data"]:
        raise ValueError(f"{a.record['name']} and {b.record['name']} were not tested on the same images")
    rows = [_by_seed(shelf) for shelf in (a, b)]
    if any(len(found) != len(shelf.record["runs"]) for found, shelf in zip(rows, (a, b), strict=True)):
        raise ValueError("expected one run of each seed, found several of one; `select` by other values too")
    seeds = sorted(rows[0].keys() & rows[1].keys())
    if not seeds:
        raise ValueError(f"runs are compared in pairs of one seed, found seeds {sorted(rows[0])} and {sorted(rows[1])}")
    right = [
        shelf.right[[found[seed] for seed in seeds]].astype(np.int8) for found, shelf in zip(rows, (a, b), strict=True)
    ]
    differences = right[0] - right[1]  # (R, N): 1, 0 or -1
    differences = differences if images is None else differences[:, images]
    per_image = differences.mean(0)  # (N,)
    measured = with_interval(resampled_sums(per_image[None], n_bootstrap, seed)[:, 0] / len(per_image))
    each = differences.mean(1).tolist()
    mean, low, high = mean_interval(each)
    over_images = [float(measured.low), float(measured.high)]
    return {"accuracy": mean, "interval": over_images, "each": each, "seeds": seeds, "seeds_interval": [low, high]}


def differences(shelf: Shelf, key: str, reference: Any) -> dict[Any, tuple[float, float, float, list[float]]]:
    """Return what every kind of run gains over one of them: {value: (mean, low, high, each pair)} in percentage points.

    Args:
        shelf: a series whose runs differ in `key` and in their seed.
        key: of the values that differ, such as "model_options.ablation".
        reference: the value to compare with, such as "C1"; it is not among the results.

    The interval is the `seeds_interval` of `compare`; nan for a single pair of runs. Raises ValueError as
    `compare`, and if no run has the reference.
    """
    against, found = shelf.select({key: reference}), {}
    for value in dict.fromkeys(each["values"].get(key) for each in shelf.record["runs"]):
        if value != reference:
            gain = compare(shelf.select({key: value}), against)
            low, high = gain["seeds_interval"]
            found[value] = (100 * gain["accuracy"], 100 * low, 100 * high, [100 * each for each in gain["each"]])
    return found


def _by_seed(shelf: Shelf) -> dict[int, int]:
    """Which run has which seed."""
    fixed = shelf.record["recipe"].get("seed")
    return {each["values"].get("seed", fixed): i for i, each in enumerate(shelf.record["runs"])}


def reproduce(
    name: str,
    *,
    data_path: str | None = None,
    only: str | None = None,
    out: str | Path = "runs/reproduced",
    progress: bool = True,
) -> Iterator[dict[str, Any]]:
    """Run a series of the shelf again and hold each new result against the old one.

    Args:
        name: of the record.
        data_path: where the recipe's data set lies.
        only: name of one run, such as "seed=0-ablation=C1"; default all that the record holds.
        out: folder of the runs. It has to be another one than that of the old runs, which would only be read again.
        progress: report epochs.

    Yields:
        For each run, once it is finished: name; old and new, the test accuracies; interval, the old one's, 95 %;
        within, whether new lies in it; alike, the share of test images on which both runs are right or both wrong;
        seconds, old and new.

    Raises:
        FileNotFoundError: no such record.
        ValueError: the record has no such run, or the data are not those of the record. Both before anything is
            trained.

    """
    shelf = read_shelf(name)
    known = [each["name"] for each in shelf.record["runs"]]
    if only is not None and only not in known:
        raise ValueError(f"{name} has no run {only!r}; known: {', '.join(known)}")
    recipe = Recipe(**shelf.record["recipe"]).overlay({"data_path": data_path})
    made = {each.name.removeprefix(f"{recipe.name}-"): each for _, each in recipes_of(recipe)}
    found, expected = load_faces(made[known[0]]).sha256, shelf.record["data"]["sha256"]
    if found != expected:
        raise ValueError(
            f"expected the data of the record, sha256 {expected[:16]}…, found {found[:16]}…; give the "
            "copy it was trained on"
        )
    for old, right in zip(shelf.record["runs"], shelf.right, strict=True):
        if only not in (None, old["name"]):
            continue
        done = run(made[old["name"]], out=Path(out) / recipe.name, progress=progress)
        again = _right(RunFolder(done.folder))
        low, high = old["test"]["intervals"]["accuracy"]
        yield {
            "name": old["name"],
            "old": old["test"]["accuracy"],
            "interval": [low, high],
            "new": float(again.mean()),
            "within": low <= again.mean() <= high,
            "alike": float((again == right).mean()),
            "seconds": [old["seconds"], done.result["seconds"]["training"]],
        }


def pack(right: np.ndarray) -> str:
    """Booleans (N,) as text, six to a character: `numpy.packbits` in base64."""
    return base64.b64encode(np.packbits(right).tobytes()).decode("ascii")


def unpack(text: str, n: int) -> np.ndarray:
    """The n booleans that `pack` made a text of."""
    return np.unpackbits(np.frombuffer(base64.b64decode(text), np.uint8), count=n).astype(bool)


def _is_finished(folder: RunFolder, recipe: Recipe) -> bool:
    """Whether a run is finished. Raises ValueError for one of another recipe."""
    if not folder.is_finished:
        return False
    there, asked = folder.recipe.as_dict(), recipe.as_dict()
    if differs := [key for key, value in asked.items() if there[key] != value and key not in NOT_THE_TRAINING]:
        raise ValueError(f"{folder.path} holds a run with another {', '.join(differs)} than the recipe")
    return True


def _what_was_chosen(recipe: Recipe) -> dict[str, Any]:
    """The values that are not the defaults, without the place where one machine keeps its data."""
    return {
        key: value for key, value in recipe.as_dict().items() if value != Recipe.default(key) and key != "data_path"
    }


def _right(folder: RunFolder) -> np.ndarray:
    """Which test images a finished run got right, booleans (N,)."""
    return folder.predictions["test"].argmax(1) == folder.predictions["test_labels"]


def _refuse_chance(folder: RunFolder) -> None:
    """Raise ValueError for a run whose training accuracy never left the share of the largest class."""
    counts = np.array(folder.result["validation"]["confusion"]).sum(1)
    largest, reached = counts.max() / counts.sum(), max(folder.history.column("train_accuracy"))
    if reached <= LEARNT * largest:
        raise ValueError(
            f"{folder.path.name} did not learn: its training accuracy never passed {reached:.1%}, and the largest "
            f"class alone is {largest:.1%}; mend the recipe and run it again"
        )


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_rounded(each) for each in value]
    return round(value, 5) if isinstance(value, float) else value
