"""Ensembles from run folders: the mean of saved probabilities, chosen on validation, measured once on test.

Nothing is trained or predicted here. A run (`ferkit.runs.experiment.run`) leaves its class probabilities on validation
and test; averaging them is what the Residual Masking paper calls "a simple no-weighted sum average" (section III-C).
How its seven members were found differs from the text: the paper says by validation accuracy, the first committed
script tries all subsets on test results (gen_ensemble.py@f9e565a of its repository's history). Here `choose` sees
validation only.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from ferkit.data import duplicate_mask
from ferkit.evaluation import disagreement, oracle_accuracy
from ferkit.evaluation.metrics import cross_entropy, evaluate, paired_difference
from ferkit.files import sha256, write_json
from ferkit.runs.experiment import environment, load_faces, split_digest
from ferkit.runs.folder import RunFolder
from ferkit.training.recipe import Recipe

MOST_SUBSETS = 2**12


@dataclass(frozen=True, eq=False)
class Member:
    """What a finished run said of the pictures.

    Attributes:
        recipe, result: of the run.
        names: the classes, in the order of the columns.
        validation, test: probabilities (N, K), with the test-time augmentation of the recipe.
        validation_labels, test_labels: (N,) true classes.
        clean: (N,) test pictures without a copy in train or validation; None in runs that did not save it.
        sha256: of the file with the probabilities.

    """

    recipe: Recipe
    result: dict[str, Any] = field(repr=False)
    names: tuple[str, ...]
    validation: np.ndarray = field(repr=False)
    test: np.ndarray = field(repr=False)
    validation_labels: np.ndarray = field(repr=False)
    test_labels: np.ndarray = field(repr=False)
    clean: np.ndarray | None = field(repr=False)
    sha256: str


def read_member(folder: str | Path) -> Member:
    """Read a run folder.

    Raises:
        FileNotFoundError: the run is not finished, or a file is gone.
        ValueError: the probabilities are not those that the run's result was computed from.

    """
    run = RunFolder.finished(folder)
    arrays = run.predictions
    member = Member(
        recipe=run.recipe,
        result=run.result,
        names=tuple(run.result["test"]["names"]),
        **{key: arrays[key] for key in ("validation", "test", "validation_labels", "test_labels")},
        clean=arrays.get("test_clean"),
        sha256=sha256(run.path / "predictions.npz"),
    )
    for split in ("validation", "test"):
        labels = getattr(member, f"{split}_labels")
        if (
            getattr(member, split).shape != (len(labels), len(member.names))
            or accuracy(getattr(member, split), labels) != run.result[split]["accuracy"]
        ):
            raise ValueError(
                f"{folder}: predictions.npz and result.json do not agree on {split}; run the recipe "
                "again with --no-resume"
            )
    return member


def accuracy(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Share of pictures (N,) whose most probable class, of (N, K), is the true one."""
    return float((probabilities.argmax(1) == labels).mean())


def refuse_unlike_members(members: Sequence[Member]) -> None:
    """Raise ValueError unless all members answer the same pictures, in the same order, with the same classes,
    and none is there twice.

    Classes in another order are refused, not sorted: equal data give an equal order, so the data are not what they
    seem.
    """
    if not members:
        raise ValueError("an ensemble needs members, found none")
    first = members[0]
    for other in members[1:]:
        pair = f"{first.recipe.name} and {other.recipe.name}"
        mine, its = first.result["data"], other.result["data"]
        if mine["name"] != its["name"] or mine["sha256"] != its["sha256"]:
            data = "; ".join(f"{d['name']} {d['sha256'][:12]}" for d in (mine, its))
            raise ValueError(f"{pair} were trained on different data ({data})")
        if first.recipe.test_split != other.recipe.test_split:
            raise ValueError(
                f"{pair} were tested on different splits: {first.recipe.test_split} and {other.recipe.test_split}"
            )
        if first.names != other.names:
            how = "in another order" if sorted(first.names) == sorted(other.names) else "of other names"
            raise ValueError(f"{pair} have classes {how}: {', '.join(first.names)}; {', '.join(other.names)}")
        if mine["split_sha256"] != its["split_sha256"]:
            raise ValueError(
                f"{pair} were trained on different splits, so one has seen pictures that the other is validated on; "
                "train them with equal validation_split, validation_fraction, split_seed and drop_leaked"
            )
        for split in ("validation", "test"):
            if not np.array_equal(getattr(first, f"{split}_labels"), getattr(other, f"{split}_labels")):
                raise ValueError(f"{pair} have other {split} labels, or the pictures in another order")
    seen: dict[str, str] = {}
    for member in members:
        if member.sha256 in seen:
            raise ValueError(
                f"{seen[member.sha256]} and {member.recipe.name} hold the same probabilities; name every run once"
            )
        seen[member.sha256] = member.recipe.name


def ensemble(members: Sequence[Member], weights: Sequence[float] | None = None) -> dict[str, np.ndarray]:
    """The mean of the members' probabilities.

    Args:
        members: of equal data, splits and classes.
        weights: one per member, not negative; None for equal ones.

    Returns:
        "validation" and "test", each (N, K) with rows that sum to 1.

    Raises:
        ValueError: members that do not fit together, see `refuse_unlike_members`, or weights that do not fit them.

    """
    refuse_unlike_members(members)
    w = np.ones(len(members)) if weights is None else np.asarray(weights, dtype=np.float64)
    if w.shape != (len(members),) or not np.isfinite(w).all() or (w < 0).any() or w.sum() == 0:
        raise ValueError(f"expected {len(members)} weights, none below 0 and one above, found {weights}")
    return {split: np.tensordot(w / w.sum(), _stack(members, split), 1) for split in ("validation", "test")}


def _stack(members: Sequence[Member], split: str) -> np.ndarray:
    return np.stack([getattr(m, split) for m in members]).astype(np.float64)  # (M, N, K)


def choose(members: Sequence[Member], max_size: int | None = None) -> list[Member]:
    """The subset whose mean has the best accuracy on validation, of all subsets; test results are not looked at.

    Among equals the smaller one is taken, then the one of lower cross entropy. A single member may win. The validation
    accuracy of what is chosen flatters it, the more so the more subsets there are; its test accuracy does not.

    Args:
        members: candidates.
        max_size: of the subset; None for any.

    Raises:
        ValueError: members that do not fit together, or more than 4,096 subsets (those of 12 members).

    """
    refuse_unlike_members(members)
    if max_size is not None and max_size < 1:
        raise ValueError(f"max_size must be 1 or more, found {max_size}")
    subsets = subsets_of(len(members), max_size)
    if len(subsets) > MOST_SUBSETS:
        raise ValueError(
            f"{len(members)} candidates have {len(subsets):,} subsets, more than {MOST_SUBSETS:,}; name fewer "
            "runs, or set max_size"
        )
    p, labels = _stack(members, "validation"), members[0].validation_labels
    best = max(subsets, key=lambda subset: _worth(p[list(subset)].mean(0), labels, len(subset)))
    return [members[i] for i in best]


def subsets_of(n: int, max_size: int | None) -> list[tuple[int, ...]]:
    """All subsets of n members with 1 to `max_size` in them; one more than `choose` takes, if there are that many."""
    found: list[tuple[int, ...]] = []
    for size in range(1, min(n, max_size or n) + 1):
        for subset in combinations(range(n), size):
            found.append(subset)
            if len(found) > MOST_SUBSETS:
                return found
    return found


def _worth(probabilities: np.ndarray, labels: np.ndarray, size: int) -> tuple[float, int, float]:
    return accuracy(probabilities, labels), -size, -cross_entropy(probabilities, labels)


def diversity(members: Sequence[Member]) -> dict[str, Any]:
    """How different the members' test answers are, which is what an ensemble lives on; intervals over images.

    Returns:
        oracle_accuracy: share of pictures that at least one member names rightly, an upper bound for any way of
        choosing between them; disagreement: share of pictures on which two members answer differently, as a matrix by
        member; mean_disagreement: over all pairs. The first alone for a single member.

    """
    p = _stack(members, "test")
    oracle = oracle_accuracy(p, members[0].test_labels)
    found = {"oracle_accuracy": float(oracle.value), "oracle_interval": [float(oracle.low), float(oracle.high)]}
    if len(members) == 1:
        return found
    pairs = disagreement(p)
    return {
        **found,
        "mean_disagreement": pairs.mean,
        "mean_disagreement_interval": list(pairs.interval),
        "disagreement": pairs.matrix.tolist(),
    }


def assess(
    members: Sequence[Member], *, name: str, searched: Sequence[Member] | None = None, max_size: int | None = None
) -> dict[str, Any]:
    """Everything a record says of an ensemble with equal weights; the one place that reads test results.

    If `members` were chosen on validation, `searched` are the candidates, in subsets of at most `max_size`.
    """
    candidates = list(searched or members)
    refuse_unlike_members(candidates)
    probabilities, first = ensemble(members), members[0]
    clean = _clean(first)
    # Compared with what one would use otherwise: the best single network, also as validation has it.
    best = max(candidates, key=lambda m: _worth(m.validation, m.validation_labels, 1))
    ours, theirs = (p.argmax(1) == first.test_labels for p in (probabilities["test"], best.test))
    gain = {"over": best.recipe.name, **paired_difference(ours, theirs)}
    if clean.any():
        gain["duplicate_clean"] = paired_difference(ours[clean], theirs[clean])
    how = (
        "all runs that were given"
        if searched is None
        else f"the subset of {len(candidates)} runs with the best validation accuracy"
    )
    return {
        "name": name,
        "members": [_entry(m) for m in members],
        **({} if searched is None else {"candidates": [_entry(m) for m in candidates]}),
        "protocol": {
            "combination": "mean of the members' probabilities, equal weights",
            "selection": f"{how}; the test split was read once, afterwards",
            "subsets": 1 if searched is None else len(subsets_of(len(candidates), max_size)),
            "best_member": "the one with the best validation accuracy",
            "test_split": first.recipe.test_split,
        },
        "test": evaluate(probabilities["test"], first.test_labels, first.names, clean=clean),
        "validation": evaluate(probabilities["validation"], first.validation_labels, first.names),
        "gain": gain,
        "diversity": diversity(members),
        "data": first.result["data"],
        "environment": environment(),
    }


def _entry(member: Member) -> dict[str, Any]:
    result = member.result
    return {
        "name": member.recipe.name,
        "model": member.recipe.model,
        "parameters": result["model"]["parameters"],
        "macs": result["model"]["macs"],
        "tta": member.recipe.tta,
        "seed": member.recipe.seed,
        "validation_accuracy": result["validation"]["accuracy"],
        "test_accuracy": result["test"]["accuracy"],
        "predictions_sha256": member.sha256,
        "commit": result["environment"]["commit"],
    }


def _clean(member: Member) -> np.ndarray:
    """The member's mask of test pictures without copies; found again from the data where the run did not save it."""
    if member.clean is not None:
        return member.clean
    faces = load_faces(member.recipe)
    if split_digest(faces) != member.result["data"]["split_sha256"]:
        raise ValueError(
            f"{member.recipe.name}: the data at {member.recipe.data_path} are no longer split as they were in training"
        )
    return ~duplicate_mask(faces, member.recipe.test_split)


def run_ensemble(
    folders: Sequence[str | Path],
    *,
    name: str,
    out: str | Path = "runs",
    choosing: bool = False,
    max_size: int | None = None,
) -> dict[str, Any]:
    """Read two finished runs or more, combine all of them or, `choosing`,
    the best subset on validation of at most `max_size`.

    Writes `out/<name>/ensemble.json` and returns it, see `assess`. Raises FileNotFoundError or ValueError for runs that
    are not finished or do not fit together, and for a folder that holds a training.
    """
    if len(folders) < 2:
        raise ValueError(f"an ensemble needs two runs or more, found {len(folders)}")
    if max_size is not None and not choosing:
        raise ValueError("max_size limits the choice among the runs; ask for one")
    folder = Path(out) / Recipe(name=name).name  # which refuses slashes
    if (folder / "recipe.yaml").exists():
        raise ValueError(f"{folder} holds a training; give the ensemble another name")
    candidates = [read_member(f) for f in folders]
    members = choose(candidates, max_size) if choosing else candidates
    record = assess(members, name=name, searched=candidates if choosing else None, max_size=max_size)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "ensemble.json", record)
    return record


def publish_ensemble(folder: str | Path, *, data_folder: Path) -> Path:
    """Copy the record of an ensemble to `data_folder/results/<name>.json`,
    where `ferkit.runs.read_record` finds it.
    """
    file = Path(folder) / "ensemble.json"
    if not file.is_file():
        raise FileNotFoundError(f"{folder} has no ensemble.json; make one with ferkit.runs.ensemble.run_ensemble")
    record = json.loads(file.read_text("utf-8"))
    target = data_folder / "results" / f"{record['name']}.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    write_json(target, record)
    return target
