"""A recipe in, a run folder out: data, training, one look at the test split, and a record of how it was done."""

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import time
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
from ferkit.models import FerModel, count_parameters, create_model, initialise, model_options, save_weights, summarise
from ferkit.predict import predict_probabilities, tta_views
from ferkit.training.history import History
from ferkit.training.loop import fit, make_accelerator, make_task
from ferkit.training.recipe import Recipe
from ferkit.training.stages import fit_stages


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

    With `fold`, the test split is that fold and train are the others.

    Raises:
        ValueError: the test split is absent, before anything is trained; a validation split that cannot be one; folds that
            cannot be dealt.

    """
    faces = data.load(recipe.data, recipe.data_path, **recipe.data_options)
    if recipe.fold is not None:
        faces = _fold(faces, recipe)
    faces.select(recipe.test_split)
    if recipe.validation_split is not None:
        faces.select(recipe.validation_split)
        if recipe.validation_split in ("train", recipe.test_split):
            raise ValueError(f"validation_split={recipe.validation_split!r} is trained on or tested on; choose another")
        if "validation" in faces.splits():
            raise ValueError(f"validation_split={recipe.validation_split!r}, but {faces.name} brings a validation split of its own")
        faces = replace(faces, split=np.where(faces.split == recipe.validation_split, "validation", faces.split))
    leaked = recipe.test_split if recipe.drop_leaked else None
    if "validation" not in faces.splits():
        return data.carve_validation(faces, recipe.validation_fraction, recipe.split_seed, drop_leaked_from=leaked)
    if leaked:
        raise ValueError(f"drop_leaked works on a validation split carved here, but {faces.name} brings its own")
    return faces


def _fold(faces: FaceSet, recipe: Recipe) -> FaceSet:
    """The images dealt to folds; those of the recipe's fold are its test split, all others train."""
    if recipe.test_split in ("train", "validation") or recipe.validation_split is not None:
        raise ValueError(
            "with folds, test_split is the name of the fold tested on (such as test) and validation is carved from the others; "
            f"found test_split={recipe.test_split!r} and validation_split={recipe.validation_split!r}"
        )
    if recipe.fold_pool == "train":
        faces = faces.subset(faces.split == "train")
    dealt = data.stratified_folds(faces, recipe.folds or 0, recipe.split_seed)  # (N,)
    return replace(faces, split=np.where(dealt == (recipe.fold or 0) - 1, recipe.test_split, "train"))


def build_model(recipe: Recipe, names: tuple[str, ...]) -> FerModel:
    """The recipe's network, with the data's classes as logits, from the recipe's seed."""
    set_seed(recipe.seed)
    options = dict(recipe.model_options)
    if recipe.image_size is not None and "input_size" in model_options(recipe.model):
        options.setdefault("input_size", recipe.image_size)  # a network with weights for each place of its last map
    model = create_model(recipe.model, num_classes=len(names), width=recipe.width, labels=names, **options)
    if recipe.image_size is not None:
        model.input_size = recipe.image_size
    if recipe.init is not None:
        initialise(model, recipe.init)
    return model


def run(recipe: Recipe, *, out: str | Path = "runs", resume: bool = True, progress: bool = True) -> Run:
    """Train by a recipe, test once, and write `out/<name>/`.

    The folder holds recipe.yaml, history.csv, checkpoint/, best.safetensors, result.json, and predictions.npz (class
    probabilities on validation and test, with labels, and `test_clean`, the test pictures without a copy in train or
    validation). Epochs are selected on validation; the test split is read once, at the end: a finished run is loaded, not
    tested again.

    Raises:
        ValueError: the folder holds a run of another recipe, the recipe does not fit the data, or it asks for several runs.

    """
    if recipe.sweep or (recipe.folds and recipe.fold is None):
        asked = "sweep" if recipe.sweep else "kfold"
        raise ValueError(f"{recipe.name} asks for several runs ({', '.join(recipe.sweep) or f'{recipe.folds} folds'}); start it with ferkit.runs.series.run_all or python -m ferkit {asked}")
    folder = Path(out) / recipe.name
    if recipe.threads:
        torch.set_num_threads(recipe.threads)
    tta_views(recipe.tta, 0)  # a wrong name is refused now, not after the training
    accelerator = make_accelerator(recipe)
    _refuse_another(folder, recipe, resume)
    faces = load_faces(recipe)
    train, validation, test = (faces.select(s) for s in ("train", "validation", recipe.test_split))
    model = build_model(recipe, faces.names)
    done = folder / "result.json"
    if resume and done.is_file():
        trained = create_model(recipe.model, weights=folder / "best.safetensors")
        return Run(folder, recipe, History.read(folder / "history.csv"), json.loads(done.read_text("utf-8")), trained)

    accelerator.wait_for_everyone()  # all have looked at what is there before one changes it
    if accelerator.is_main_process:
        _claim(folder, recipe, resume)
    accelerator.wait_for_everyone()
    began = time.perf_counter()
    if recipe.stages:
        history = fit_stages(model, train, validation, recipe, folder=folder, resume=resume, progress=progress)
        if accelerator.is_main_process:
            save_weights(model, folder / "best.safetensors", weights=recipe.name)
    else:
        train = data.cap_per_class(train, recipe.per_class, recipe.seed) if recipe.per_class else train
        task = make_task(model, recipe, train.counts())
        history = fit(task, train, validation, recipe, folder=folder, resume=resume, progress=progress, accelerator=accelerator)
    result: dict[str, Any] = {}
    if accelerator.is_main_process:
        clean = ~data.duplicate_mask(faces, recipe.test_split)
        parts = {"validation": validation, "test": test}
        predictions = {name: predict_probabilities(model, part.images, tta=recipe.tta, seed=recipe.seed) for name, part in parts.items()}
        last = [row.get("stage") for row in history.rows]
        best = history.best(recipe.select, rows=[i for i, stage in enumerate(last) if stage == last[-1]])
        result = {
            "name": recipe.name,
            "source": recipe.source,
            "recipe": recipe.as_dict(),
            "protocol": {
                "selection": f"epoch {best + 1} of {len(history.rows)}, largest {recipe.select}; the test split was read once, afterwards",
                "test_split": recipe.test_split,
                "tta": recipe.tta,
                "seed": recipe.seed,
            },
            "test": evaluate(predictions["test"], test.labels, faces.names, clean=clean),
            "validation": evaluate(predictions["validation"], validation.labels, faces.names),
            "model": {"parameters": count_parameters(model), "macs": sum(row.macs for row in summarise(model)), "input_size": model.input_size},
            "data": {"name": faces.name, "sha256": faces.sha256, "splits": faces.splits(), "split_sha256": split_digest(faces)},
            "seconds": {"training": round(sum(history.column("seconds")), 1), "this_call": round(time.perf_counter() - began, 1)},
            "environment": environment(accelerator.num_processes, str(accelerator.device)),
        }
        arrays = {**predictions, "test_labels": test.labels, "validation_labels": validation.labels, "test_clean": clean}
        np.savez(folder / "predictions.npz", **arrays)  # type: ignore[arg-type]
        write_json(done, result)
    accelerator.wait_for_everyone()
    return Run(folder, recipe, history, result, model)


def split_digest(faces: FaceSet) -> str:
    """sha256 over every row's split, in order: equal for equal splits of equal data."""
    return hashlib.sha256("\n".join(faces.split.astype(str)).encode()).hexdigest()


def environment(processes: int, device: str) -> dict[str, Any]:
    """What a result depends on besides the recipe."""
    return {
        "ferkit": ferkit.__version__,
        "commit": _commit(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "accelerate": accelerate.__version__,
        "device": torch.cuda.get_device_name() if device.startswith("cuda") else _processor(),
        "processes": processes,
        "threads": torch.get_num_threads(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def write_json(file: Path, values: dict[str, Any]) -> None:
    """Write JSON, atomically."""
    partial = file.with_name(file.name + ".partial")
    partial.write_text(json.dumps(values, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(partial, file)


def _refuse_another(folder: Path, recipe: Recipe, resume: bool) -> None:
    """Raise ValueError for a folder that holds a run of another recipe, unless it never got anywhere or is to be replaced."""
    file = folder / "recipe.yaml"
    begun = any((folder / trace).exists() for trace in ("checkpoint", "stages", "history.csv"))
    if resume and file.is_file() and begun:
        other = Recipe.load(file).as_dict()
        differs = [k for k, v in recipe.as_dict().items() if other[k] != v and k not in ("workers", "checkpoint_steps", "data_path")]
        if differs:
            raise ValueError(f"{folder} holds a run with another {', '.join(differs)}; give this one another name, or pass resume=False")


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
    git = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    return git.stdout.strip() or None


def _processor() -> str:
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text(errors="ignore").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or "CPU"
