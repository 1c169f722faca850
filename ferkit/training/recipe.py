"""A recipe: everything that decides a training, as one flat, frozen record that reads from and writes to YAML.

The same file is a papermill parameter file (`papermill ... -f recipe.yaml`) and the input of `python -m ferkit run`.
"""

import copy
import dataclasses
import os
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One experiment. Unknown keys and values of the wrong type are refused on reading.

    Attributes:
        name: folder of the run.
        source: which row of which table this is, or why it exists.
        model, width, model_options: what `create_model` gets.
        init: what the network starts from: None for random weights, "imagenet", or a .safetensors file of a run.
        image_size: side in pixels the network sees; None for the network's own.
        data, data_path, data_options: what `ferkit.data.load` gets.
        test_split: split that is read once, after training.
        validation_split: split to select epochs on, such as "public_test"; None for the data's own, or one carved from train.
        validation_fraction, split_seed: validation carved from train where there is none otherwise.
        drop_leaked: leave out training images that reappear in the test split.
        folds, fold: cross-validation in so many folds, dealt by `split_seed`; this run tests on fold number `fold` (from 1),
            under the name of `test_split`, and trains on the others. All folds: `ferkit.runs.series.run_all`.
        fold_pool: what is dealt to folds: "all" images, or those of "train" alone, so that the official test split stays unseen.
        target: "label", or "votes" for distributions over the classes.
        augmentation: preset of `ferkit.data.transforms.AUGMENTATIONS`.
        epochs, batch_size: batch over all processes together.
        optimizer, lr, weight_decay, momentum, nesterov, sam_rho: see `ferkit.training.optim.make_optimizer`.
        schedule, warmup_epochs, lr_floor, lr_factor, plateau_patience, step_epochs: see `ferkit.training.optim.Schedule`.
        lr_factors: factors on the learning rate of parts of the network, by the beginning of their names; "criterion" is the
            loss's own centres. The longest that fits counts.
        loss, loss_options: see `ferkit.losses.make_criterion`; None for the network's own loss.
        class_weight, label_smoothing: of the cross entropy.
        flood: flood level of the total loss; 0 for none.
        sampler: "shuffle", or "balanced" to draw every class equally often, with replacement.
        per_class: at most so many training images of each class, drawn with the seed; None for all.
        stages: replacements of the recipe, one training after the other on the same network, see `ferkit.training.stages`.
        grad_clip: largest gradient norm; 0 for none.
        ema_decay: of the averaged weights that are validated and kept; 0 for none.
        early_stopping: epochs without improvement that are forgiven; None trains to the end.
        select: column of the history whose best epoch is kept.
        precision: "no", "bf16" or "fp16" (the last on GPUs only).
        channels_last: memory format of pictures and convolutions.
        tta: test-time augmentation of the test, see `predict_probabilities`.
        seed: of weights, order, augmentation and dropout.
        workers: processes that prepare batches.
        threads: torch threads per process; None leaves them.
        checkpoint_steps: write a checkpoint every so many steps, besides at the end of each epoch; 0 for never.
        sweep: key to list of values, such as `{loss_options.alpha: [0.1, 0.2], seed: [0, 1]}`: a run for every combination,
            see `ferkit.runs.series.run_all`.

    """

    name: str = "experiment"
    source: str = ""
    model: str = "resemotenet"
    width: float = 1.0
    model_options: dict[str, Any] = field(default_factory=dict)
    init: str | None = None
    image_size: int | None = None
    data: str = "synthetic"
    data_path: str | None = None
    data_options: dict[str, Any] = field(default_factory=dict)
    test_split: str = "test"
    validation_split: str | None = None
    validation_fraction: float = 0.1
    split_seed: int = 0
    drop_leaked: bool = False
    folds: int | None = None
    fold: int | None = None
    fold_pool: str = "all"
    target: str = "label"
    augmentation: str = "none"
    epochs: int = 10
    batch_size: int = 64
    optimizer: str = "sgd"
    lr: float = 0.05
    weight_decay: float = 1e-4
    momentum: float = 0.9
    nesterov: bool = False
    sam_rho: float = 0.0
    schedule: str = "constant"
    warmup_epochs: float = 0.0
    lr_floor: float = 0.0
    lr_factor: float = 0.1
    plateau_patience: int = 10
    step_epochs: int = 30
    lr_factors: dict[str, float] = field(default_factory=dict)
    loss: str | None = None
    loss_options: dict[str, Any] = field(default_factory=dict)
    class_weight: str = "none"
    label_smoothing: float = 0.0
    flood: float = 0.0
    sampler: str = "shuffle"
    per_class: int | None = None
    stages: list[dict[str, Any]] = field(default_factory=list)
    grad_clip: float = 0.0
    ema_decay: float = 0.0
    early_stopping: int | None = None
    select: str = "val_accuracy"
    precision: str = "no"
    channels_last: bool = False
    tta: str | None = None
    seed: int = 0
    workers: int = 0
    threads: int | None = None
    checkpoint_steps: int = 0
    sweep: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for f in fields(self):
            object.__setattr__(self, f.name, _checked(f.name, f.type, getattr(self, f.name)))
        choices = {
            "precision": ("no", "bf16", "fp16"),
            "target": ("label", "votes"),
            "sampler": ("shuffle", "balanced"),
            "fold_pool": ("all", "train"),
            "select": ("val_accuracy", "val_macro_f1", "val_balanced_accuracy"),
        }
        for key, known in choices.items():
            if getattr(self, key) not in known:
                raise ValueError(f"recipe key {key}={getattr(self, key)!r}; known: {', '.join(known)}")
        if self.name in ("", ".", "..") or set(self.name) & set("/\\"):
            raise ValueError(f"recipe key name is that of the run's folder, without slashes; found {self.name!r}")
        if self.sam_rho and self.precision == "fp16":
            raise ValueError("SAM needs two backward passes per step, which fp16 loss scaling does not allow; use bf16")
        if self.fold is not None and not 1 <= self.fold <= (self.folds or 0):
            raise ValueError(f"recipe key fold counts from 1 to folds, found fold={self.fold} and folds={self.folds}")
        if no_lists := [key for key, values in self.sweep.items() if not isinstance(values, list) or not values]:
            raise ValueError(f"recipe key sweep holds a list of values for each key, found {no_lists[0]}={self.sweep[no_lists[0]]!r}")
        if self.epochs < 1 or self.batch_size < 2:
            raise ValueError(f"a recipe needs epochs >= 1 and batch_size >= 2, found {self.epochs} and {self.batch_size}")

    @classmethod
    def of(cls, values: dict[str, Any]) -> "Recipe":
        """From a mapping. Raises ValueError for unknown keys, listing the known ones."""
        known = [f.name for f in fields(cls)]
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise ValueError(f"a recipe has no key {', '.join(map(repr, unknown))}; known: {', '.join(known)}")
        return cls(**values)

    @classmethod
    def load(cls, path: str | Path) -> "Recipe":
        """From a YAML file. Raises FileNotFoundError or ValueError with the file's name."""
        file = Path(path)
        if not file.is_file():
            raise FileNotFoundError(f"no recipe at {file}")
        try:
            values = yaml.safe_load(file.read_text(encoding="utf-8"))
        except yaml.YAMLError as error:
            raise ValueError(f"{file} is not YAML: {error}") from None
        if not isinstance(values, dict):
            raise ValueError(f"{file} must hold keys and values, found {type(values).__name__}")
        try:
            return cls.of(values)
        except ValueError as error:
            raise ValueError(f"{file}: {error}") from None

    def overlay(self, changes: str | dict[str, Any]) -> "Recipe":
        """The recipe with some values replaced: those of a profile, by name, or those given.

        A key with dots, such as `loss_options.alpha`, replaces one option and leaves the others.

        A profile asks no network for a width or a picture size it does not come in (`EXCEPTIONS`); values given are taken as
        they are, and refused later by a network that does not have them.
        """
        is_profile = isinstance(changes, str)
        if isinstance(changes, str):
            if changes not in PROFILES:
                raise ValueError(f"no profile {changes!r}; known: {', '.join(PROFILES)}")
            changes = PROFILES[changes] and {**PROFILES[changes], **EXCEPTIONS.get(self.model, {})}
        values = self.as_dict()
        if short := changes.get("epochs") if is_profile else None:  # a profile's epochs are those of each stage
            values["stages"] = [{**stage, "epochs": short} if "epochs" in stage else stage for stage in values["stages"]]
        for key, value in changes.items():
            *outer, last = key.split(".")
            place = values
            for part in outer:
                place = place.setdefault(part, {})
                if not isinstance(place, dict):
                    raise ValueError(f"{key} names an option of {part}, which is {place!r} and has none")
            place[last] = value
        return Recipe.of(values)

    def as_dict(self) -> dict[str, Any]:
        """All keys and values, in order."""
        return dataclasses.asdict(self)

    def save(self, path: str | Path) -> None:
        """Write YAML, atomically; only what differs from the defaults, and always name, model and data."""
        default = {f.name: f.default for f in fields(self)}
        values = {k: v for k, v in self.as_dict().items() if k in ("name", "model", "data") or (v != default[k] and v not in ({}, []))}
        file = Path(path)
        partial = file.with_name(file.name + ".partial")
        partial.write_text(yaml.safe_dump(values, sort_keys=False, allow_unicode=True), encoding="utf-8")
        os.replace(partial, file)


# What a profile replaces in a recipe. "smoke" proves in seconds that everything runs; "teach" is minutes on a laptop;
# "paper" is the recipe itself.
PROFILES: dict[str, dict[str, Any]] = {
    "smoke": {
        "data": "synthetic",
        "data_path": None,
        "data_options": {"n_train": 280, "n_test": 140, "size": 48, "seed": 0},
        "test_split": "test",
        "validation_split": None,
        "init": None,
        "width": 0.0625,
        "epochs": 1,
        "image_size": 48,
        "target": "label",
        "workers": 0,
    },
    "teach": {
        "data": "synthetic",
        "data_path": None,
        "data_options": {"n_train": 4000, "n_test": 1000, "size": 64, "seed": 0, "difficulty": "easy"},
        "test_split": "test",
        "validation_split": None,
        "init": None,
        "width": 0.125,
        "epochs": 6,
        "image_size": 64,
        "target": "label",
        "workers": 0,
    },
    "paper": {},
}
# Networks that come in one width only, or not at every side that the profiles ask for, and what they get instead.
EXCEPTIONS: dict[str, dict[str, Any]] = {
    "efficientnet_b2": {"width": 1.0},
    "esr": {"image_size": 64},
    "googlenet": {"width": 1.0},
    "inception_v3": {"width": 1.0, "image_size": 96},
    "resmasking": {"image_size": 64},
}


def _checked(name: str, kind: Any, value: Any) -> Any:
    """The value, with whole numbers given where fractions are meant turned into those."""
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    ok = not (isinstance(value, bool) and kind is not bool) and isinstance(value, _plain(kind))
    if not ok:
        hint = " (YAML reads 1e-4 as text: write 1.0e-4)" if isinstance(value, str) and kind is float else ""
        raise ValueError(f"recipe key {name} must be {getattr(kind, '__name__', kind)}, found {value!r}{hint}")
    return copy.deepcopy(value)  # mappings are shared with whoever gave them otherwise


def _plain(kind: Any) -> Any:
    return getattr(kind, "__origin__", kind)
