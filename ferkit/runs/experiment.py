"""A recipe in, a run folder out: data, training, one look at the test split, and a record of how it was done."""

import hashlib
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import accelerate
import numpy as np
import torch
import torchvision
from accelerate.utils import set_seed

import ferkit
from ferkit import data
from ferkit.data.faceset import FaceSet
from ferkit.evaluation.metrics import evaluate
from ferkit.files import replacing, write_json
from ferkit.models import (
    FerModel,
    count_parameters,
    create_model,
    freeze,
    initialise,
    model_options,
    save_weights,
    summarise,
)
from ferkit.predict import predict_probabilities
from ferkit.runs.folder import RunFolder
from ferkit.training import History, Recipe, fit, fit_stages, make_accelerator, make_task
from ferkit.training.precision import choose_precision

#: How a training is begun anew, in a shell and in Python.
ANEW = "--no-resume, resume=False"


@dataclass(frozen=True)
class Run:
    """A finished run: its folder, what happened, what came out, and the network with the weights of its best epoch."""

    folder: Path
    recipe: Recipe
    history: History
    result: dict[str, Any]
    model: FerModel


def load_faces(recipe: Recipe) -> FaceSet:
    """The recipe's data with a validation split: the one it names, the data's own, or one carved from train.

    With `test_fold`, the test split is that fold and train are the others.

    Raises:
        ValueError: the test split is absent, before anything is trained; a validation split that cannot be one; folds
            that cannot be dealt.

    """
    faces = data.load(recipe.data, recipe.data_path, **recipe.data_options)
    if recipe.test_fold is not None:
        faces = _fold(faces, recipe)
    faces.select(recipe.test_split)
    if recipe.validation_split is not None:
        faces.select(recipe.validation_split)
        if "validation" in faces.splits():
            raise ValueError(
                f"validation_split={recipe.validation_split!r}, but {faces.name} brings a validation split of its own"
            )
        faces = replace(faces, split=np.where(faces.split == recipe.validation_split, "validation", faces.split))
    leaked = recipe.test_split if recipe.drop_leaked else None
    if "validation" not in faces.splits():
        return data.carve_validation(faces, recipe.validation_fraction, recipe.split_seed, drop_leaked_from=leaked)
    if leaked:
        raise ValueError(f"drop_leaked works on a validation split carved here, but {faces.name} brings its own")
    return faces


def _fold(faces: FaceSet, recipe: Recipe) -> FaceSet:
    """The images dealt to folds; those of the recipe's fold are its test split, all others train."""
    if recipe.fold_pool == "train":
        faces = faces.subset(faces.split == "train")
    dealt = data.stratified_folds(faces, recipe.folds or 0, recipe.split_seed)  # (N,)
    return replace(faces, split=np.where(dealt == (recipe.test_fold or 0) - 1, recipe.test_split, "train"))


def build_model(recipe: Recipe, names: tuple[str, ...], *, say: Callable[[str], None] | None = None) -> FerModel:
    """The recipe's network, with the data's classes as logits, from the recipe's seed;
    `say` is told what `init` copied and dropped.
    """
    set_seed(recipe.seed)
    options = dict(recipe.model_options)
    if recipe.image_size is not None and "input_size" in model_options(recipe.model):
        options.setdefault("input_size", recipe.image_size)  # a network with weights for each place of its last map
    model = create_model(recipe.model, num_classes=len(names), width=recipe.width, labels=names, **options)
    if recipe.image_size is not None:
        model.input_size = recipe.image_size
    if recipe.init is not None:
        started = initialise(model, recipe.init)
        if say is not None:
            say(f"started from {recipe.init}: {started}")
    if recipe.freeze:
        freeze(model, recipe.freeze)
    return model


def run(
    recipe: Recipe, *, out: str | Path = "runs", resume: bool = True, progress: bool = True, until: float | None = None
) -> Run:
    """Train by a recipe, test once, and write `out/<name>/`.

    The folder holds recipe.yaml, history.csv, checkpoint/, best.safetensors, result.json, and predictions.npz (class
    probabilities on validation and test, with labels, and `test_clean`, the test pictures without a copy in train or
    validation). Epochs are selected on validation; the test split is read once, at the end: a finished run is loaded,
    not tested again. A finished run whose recipe asks for more epochs now goes on; its result says that it was tested
    before. With `until`, a training that would take longer stops between epochs, see `ferkit.training.fit`, and the
    same call goes on.

    Raises:
        ValueError: the folder holds a run of another recipe or on other data, or something damaged; the recipe does not
            fit the data, or asks for several runs.
        OutOfTime: the training is not over by `until`.

    """
    if recipe.sweep or (recipe.folds and recipe.test_fold is None):
        asked = "sweep" if recipe.sweep else "kfold"
        raise ValueError(
            f"{recipe.name} asks for several runs ({', '.join(recipe.sweep) or f'{recipe.folds} folds'}); start it "
            f"with ferkit.runs.run_all or python -m ferkit {asked}"
        )
    folder = Path(out) / recipe.name
    if recipe.threads:
        torch.set_num_threads(recipe.threads)
    accelerator = make_accelerator()
    there = RunFolder(folder)
    if resume:
        _refuse_another(there, recipe)
    faces = load_faces(recipe)
    if resume and there.is_finished:
        _refuse_other_data(there, faces)
        if there.recipe.epochs == recipe.epochs:
            return Run(folder, recipe, there.history, there.result, there.model())
    earlier = _earlier_tests(there) if resume else []
    train, validation, test = (faces.select(s) for s in ("train", "validation", recipe.test_split))
    model = build_model(recipe, faces.names, say=print if progress and accelerator.is_main_process else None)

    accelerator.wait_for_everyone()  # all have looked at what is there before one changes it
    if accelerator.is_main_process:
        _claim(folder, recipe, resume)
    accelerator.wait_for_everyone()
    began = time.perf_counter()
    if recipe.stages:
        history = fit_stages(
            model, train, validation, recipe, folder=folder, resume=resume, progress=progress, until=until
        )
        if accelerator.is_main_process:
            save_weights(model, folder / "best.safetensors", weights=recipe.name)
    else:
        train = data.cap_per_class(train, recipe.per_class, recipe.seed) if recipe.per_class else train
        task = make_task(model, recipe, train.counts())
        history = fit(task, train, validation, recipe, folder=folder, resume=resume, progress=progress, until=until)
    result: dict[str, Any] = {}
    if accelerator.is_main_process:
        clean = ~data.duplicate_mask(faces, recipe.test_split)
        parts = {"validation": validation, "test": test}
        predictions = {
            name: predict_probabilities(model, part.images, tta=recipe.tta, seed=recipe.seed)
            for name, part in parts.items()
        }
        last = [row.get("stage") for row in history.rows]
        of_the_last_stage = [i for i, stage in enumerate(last) if stage == last[-1]]
        best = history.best(recipe.select, rows=of_the_last_stage, last=recipe.equal_epochs == "last")
        result = {
            "name": recipe.name,
            "source": recipe.source,
            "recipe": recipe.as_dict(),
            "protocol": {
                "selection": (
                    f"epoch {best + 1} of {len(history.rows)}, largest {recipe.select}; {_how_often_tested(earlier)}"
                ),
                "test_split": recipe.test_split,
                "tested_before": earlier,
                "tta": recipe.tta,
                "seed": recipe.seed,
            },
            "test": evaluate(predictions["test"], test.labels, faces.names, clean=clean),
            "validation": evaluate(predictions["validation"], validation.labels, faces.names),
            "model": {
                "parameters": count_parameters(model),
                "macs": sum(row.macs for row in summarise(model)),
                "input_size": model.input_size,
            },
            "data": {
                "name": faces.name,
                "sha256": faces.sha256,
                "splits": faces.splits(),
                "split_sha256": split_digest(faces),
            },
            "seconds": {
                "training": round(sum(history.column("seconds")), 1),
                "this_call": round(time.perf_counter() - began, 1),
            },
            "environment": environment(accelerator.num_processes, accelerator.device)
            | {"precision": choose_precision(recipe.precision, model, accelerator.device)},
        }
        arrays = {
            **predictions,
            "test_labels": test.labels,
            "validation_labels": validation.labels,
            "test_clean": clean,
        }
        with replacing(folder / "predictions.npz") as temporary, temporary.open("wb") as stream:
            np.savez(stream, **arrays)  # type: ignore[arg-type]
        write_json(folder / "result.json", result)
    accelerator.wait_for_everyone()
    return Run(folder, recipe, history, result, model)


def split_digest(faces: FaceSet) -> str:
    """sha256 over every row's split, in order: equal for equal splits of equal data."""
    return hashlib.sha256("\n".join(faces.split.astype(str)).encode()).hexdigest()


def environment(processes: int = 1, device: torch.device | None = None) -> dict[str, Any]:
    """What a result depends on besides the recipe."""
    return {
        "ferkit": ferkit.__version__,
        "commit": _commit(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "accelerate": accelerate.__version__,
        "device": torch.cuda.get_device_name(device) if device is not None and device.type == "cuda" else _processor(),
        "processes": processes,
        "threads": torch.get_num_threads(),
        "system": f"{platform.system()} {platform.machine()}",
    }


#: What may differ when a run goes on: it does not change what is trained. More epochs may be asked for, too.
NOT_THE_TRAINING = ("workers", "checkpoint_steps", "data_path", "source", "threads")


def _refuse_another(there: RunFolder, recipe: Recipe) -> None:
    """Raise ValueError for a folder that holds a run of another recipe, or one whose recipe is gone."""
    if not there.is_begun:
        return
    if not (there.path / "recipe.yaml").is_file():
        raise ValueError(
            f"{there.path} holds a run whose recipe.yaml is gone, so it cannot be told which; give this one another "
            f"name, or begin anew ({ANEW})"
        )
    other = there.recipe.as_dict()
    differs = [k for k, v in recipe.as_dict().items() if other[k] != v and k not in NOT_THE_TRAINING]
    if "epochs" in differs and not recipe.stages:
        differs.remove("epochs")
        if recipe.epochs < there.recipe.epochs and not differs:
            raise ValueError(
                f"{there.path} holds a run of {there.recipe.epochs} epochs, found epochs={recipe.epochs}; ask for "
                f"{there.recipe.epochs} or more, or begin anew ({ANEW})"
            )
    if differs:
        raise ValueError(
            f"{there.path} holds a run with another {', '.join(differs)}; give this one another name, or "
            f"begin anew ({ANEW})"
        )


def _refuse_other_data(there: RunFolder, faces: FaceSet) -> None:
    """Raise ValueError for a result that was made with other pictures, labels or splits than these."""
    found = there.result["data"]
    if (found["sha256"], found["split_sha256"]) != (faces.sha256, split_digest(faces)):
        raise ValueError(
            f"{there.path} holds the result of a run on other data ({found['name']}, {found['sha256'][:12]}…); give "
            f"this one another name, or begin anew ({ANEW})"
        )


def _earlier_tests(there: RunFolder) -> list[dict[str, Any]]:
    """Epochs and test accuracy of the results a run had before it was made longer."""
    if not there.is_finished:
        return []
    result = there.result
    return [
        *result["protocol"].get("tested_before", []),
        {"epochs": there.recipe.epochs, "test_accuracy": result["test"]["accuracy"]},
    ]


def _how_often_tested(earlier: list[dict[str, Any]]) -> str:
    if not earlier:
        return "the test split was read once, afterwards"
    return (
        f"the test split was read {len(earlier) + 1} times, before after "
        f"{', '.join(str(e['epochs']) for e in earlier)} epochs: whoever went on for its sake selected on it"
    )


def _claim(folder: Path, recipe: Recipe, resume: bool) -> None:
    """Make the folder and write the recipe into it; without `resume`, remove what an earlier run left there."""
    if not resume:
        for training in ("checkpoint", "stages"):
            shutil.rmtree(folder / training, ignore_errors=True)
        for stale in ("result.json", "history.csv", "best.safetensors", "criterion.safetensors", "predictions.npz"):
            (folder / stale).unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    recipe.save(folder / "recipe.yaml")


def _commit() -> str | None:
    """The commit of ferkit's own checkout; None where it was installed without one, or where there is no git."""
    root = Path(ferkit.__file__).parents[1]
    if not (root / ".git").exists():
        return None
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty"], cwd=root, capture_output=True, text=True, check=False
        )
    except OSError:
        return None
    return done.stdout.strip() or None


def _processor() -> str:
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text(errors="ignore").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or "CPU"
