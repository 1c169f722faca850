"""A recipe: everything that decides a training, as one flat, frozen record that reads from and writes to YAML.

The same file is a papermill parameter file (`papermill ... -f recipe.yaml`) and the input of `python -m ferkit run`.
"""

import copy
import difflib
from collections.abc import Mapping
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Self, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from ferkit.data import list_datasets
from ferkit.data.transforms import AUGMENTATIONS
from ferkit.files import write_text
from ferkit.losses import list_losses
from ferkit.models import list_models
from ferkit.predict import tta_views
from ferkit.training.optim import CLASS_WEIGHTS, OPTIMIZERS, SCHEDULES

#: Keys that had another name once: what they are called now.
RENAMED = {"lr_factor": "lr_drop", "lr_factors": "part_lr", "fold": "test_fold"}

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
BelowOne = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
CountOrZero = Annotated[int, Field(ge=0)]


class Recipe(BaseModel):
    """One experiment.

    It is checked when it is made: keys, types, bounds, names the library knows, keys that go together.

    Attributes:
        name: folder of the run.
        source: which row of which table this is, or why it exists.
        model, width, model_options: what `create_model` gets.
        init: what the network starts from: None for random weights, "imagenet", a name of `list_weights()` such as
            "fer2013-teach", or a file of weights.
        freeze: parts of the network, by the beginning of their names, that stay as they are, batch-norm statistics
            included.
        image_size: side in pixels the network sees; None for the network's own.
        data, data_path, data_options: what `ferkit.data.load` gets.
        test_split: split that is read once, after training.
        validation_split: split to select epochs on, such as "public_test"; None for the data's own, or one carved from
            train.
        validation_fraction, split_seed: validation carved from train where there is none otherwise.
        drop_leaked: leave out training images that reappear in the test split.
        folds, test_fold: cross-validation in so many folds, dealt by `split_seed`; this run tests on fold number
            `test_fold` (from 1), under the name of `test_split`, and trains on the others. All folds:
            `ferkit.runs.run_all`.
        fold_pool: what is dealt to folds: "all" images, or those of "train" alone, so that the official test split
            stays unseen.
        target: "label", or "votes" for distributions over the classes.
        augmentation: preset of `ferkit.data.transforms.AUGMENTATIONS`.
        epochs, batch_size: batch over all processes together.
        optimizer, lr, weight_decay, momentum, nesterov, sam_rho: see `ferkit.training.optim.make_optimizer`.
        part_lr: factors on the learning rate of parts of the network, by the beginning of their names; "criterion" is
            the loss's own centres. The longest that fits counts.
        schedule, warmup_epochs, lr_floor, plateau_patience, step_epochs: see `ferkit.training.optim.Schedule`.
        lr_drop: what the learning rate is multiplied with at each drop of the plateau and the step schedule.
        loss, loss_options: see `ferkit.losses.make_criterion`; None for the network's own loss.
        class_weight, label_smoothing: of the cross entropy.
        flood: flood level of the total loss; 0 for none.
        sampler: "shuffle", or "balanced" to draw every class equally often, with replacement.
        per_class: at most so many training images of each class, drawn with the seed; None for all.
        stages: replacements of the recipe, one training after the other on the same network, see
            `ferkit.training.stages`.
        grad_clip: largest gradient norm; 0 for none.
        ema_decay: of the averaged weights that are validated and kept; 0 for none.
        early_stopping: epochs without improvement that are forgiven; None trains to the end.
        select: column of the history whose best epoch is kept.
        equal_epochs: which one of several equally good epochs is kept, the "first" or the "last" of them.
        precision: "no" for float32, "bf16", "fp16" (on GPUs only), or "auto": bf16 where the machine has units for it.
        channels_last: memory format of pictures and convolutions.
        tta: test-time augmentation of the test, see `predict_probabilities`.
        seed: of weights, order, augmentation and dropout.
        workers: processes that prepare batches.
        threads: torch threads per process; None leaves them.
        checkpoint_steps: write a checkpoint every so many steps, besides at the end of each epoch; 0 for never.
        sweep: key to list of values, such as `{loss_options.alpha: [0.1, 0.2], seed: [0, 1]}`: a run for every
            combination, see `ferkit.runs.run_all`.

    Raises:
        ValueError: one sentence with the key, what was expected and what was found; for an unknown key the nearest
            known one.

    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, protected_namespaces=())

    name: str = "experiment"
    source: str = ""
    model: str = "resemotenet"
    width: Positive = 1.0
    model_options: dict[str, Any] = {}
    init: str | None = None
    freeze: list[str] = []
    image_size: Annotated[int, Field(ge=8)] | None = None
    data: str = "synthetic"
    data_path: str | None = None
    data_options: dict[str, Any] = {}
    test_split: str = "test"
    validation_split: str | None = None
    validation_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    split_seed: CountOrZero = 0
    drop_leaked: bool = False
    folds: Annotated[int, Field(ge=2)] | None = None
    test_fold: Count | None = None
    fold_pool: Literal["all", "train"] = "all"
    target: Literal["label", "votes"] = "label"
    augmentation: str = "none"
    epochs: Count = 10
    batch_size: Annotated[int, Field(ge=2)] = 64
    optimizer: str = "sgd"
    lr: Positive = 0.05
    weight_decay: NotNegative = 1e-4
    momentum: BelowOne = 0.9
    nesterov: bool = False
    sam_rho: NotNegative = 0.0
    part_lr: dict[str, NotNegative] = {}
    schedule: str = "constant"
    warmup_epochs: NotNegative = 0.0
    lr_floor: Annotated[float, Field(ge=0, le=1)] = 0.0
    lr_drop: Annotated[float, Field(gt=0, lt=1)] = 0.1
    plateau_patience: CountOrZero = 10
    step_epochs: Count = 30
    loss: str | None = None
    loss_options: dict[str, Any] = {}
    class_weight: str = "none"
    label_smoothing: BelowOne = 0.0
    flood: NotNegative = 0.0
    sampler: Literal["shuffle", "balanced"] = "shuffle"
    per_class: Count | None = None
    stages: list[dict[str, Any]] = []
    grad_clip: NotNegative = 0.0
    ema_decay: BelowOne = 0.0
    early_stopping: CountOrZero | None = None
    select: Literal["val_accuracy", "val_macro_f1", "val_balanced_accuracy"] = "val_accuracy"
    equal_epochs: Literal["first", "last"] = "first"
    precision: Literal["no", "bf16", "fp16", "auto"] = "no"
    channels_last: bool = False
    tta: str | None = None
    seed: CountOrZero = 0
    workers: CountOrZero = 0
    threads: Count | None = None
    checkpoint_steps: CountOrZero = 0
    sweep: dict[str, list[Any]] = {}

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise ValueError(_sentence(error)) from None

    @model_validator(mode="before")
    @classmethod
    def _as_yaml_has_it(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Tuples become lists, so that a recipe equals what is read back; mappings are copied, so that none is shared.
        """
        return {key: _plain(_number(key, value)) for key, value in values.items()}

    @field_validator("name")
    @classmethod
    def _is_a_folder(cls, name: str) -> str:
        if name in ("", ".", "..") or set(name) & set("/\\"):
            raise ValueError("is that of the run's folder, without slashes")
        return name

    @field_validator("model", "data", "augmentation", "optimizer", "schedule", "class_weight", "loss")
    @classmethod
    def _is_known(cls, value: str | None, info: Any) -> str | None:
        known = {
            "model": list_models,
            "data": list_datasets,
            "augmentation": lambda: AUGMENTATIONS,
            "optimizer": lambda: OPTIMIZERS,
            "schedule": lambda: SCHEDULES,
            "class_weight": lambda: CLASS_WEIGHTS,
            "loss": list_losses,
        }[info.field_name]()
        if value is not None and value not in known:
            raise ValueError(f"must be one of {', '.join(known)}{_nearest(value, known)}")
        return value

    @field_validator("tta")
    @classmethod
    def _is_an_augmentation_of_tests(cls, tta: str | None) -> str | None:
        tta_views(tta, 0)
        return tta

    @field_validator("test_split")
    @classmethod
    def _is_not_selected_on(cls, split: str) -> str:
        if split in ("train", "validation"):
            raise ValueError(
                "must be a split that is neither trained nor selected on, such as test, public_test or private_test"
            )
        return split

    @model_validator(mode="after")
    def _keys_that_go_together(self) -> Self:
        if self.sam_rho and self.precision == "fp16":
            raise ValueError(
                "sam_rho needs two backward passes per step, which precision: fp16 does not allow; use bf16"
            )
        if self.nesterov and (self.optimizer != "sgd" or not self.momentum):
            raise ValueError(
                f"nesterov belongs to optimizer: sgd with momentum above 0, found {self.optimizer} with "
                f"momentum {self.momentum:g}"
            )
        if self.schedule == "plateau" and self.warmup_epochs:
            raise ValueError("schedule: plateau has no warm-up; set warmup_epochs to 0")
        if self.test_fold is not None and self.test_fold > (self.folds or 0):
            raise ValueError(
                f"test_fold counts from 1 to folds, found test_fold={self.test_fold} and folds={self.folds}"
            )
        if self.validation_split in ("train", self.test_split):
            raise ValueError(f"validation_split={self.validation_split!r} is trained on or tested on; choose another")
        if self.folds is not None and self.validation_split is not None:
            raise ValueError(
                "with folds, validation is carved from the folds trained on; leave out "
                f"validation_split={self.validation_split!r}"
            )
        for key, values in self.sweep.items():
            if key.split(".")[0] not in type(self).model_fields:
                raise ValueError(f"sweep names {key!r}, which no recipe has{_nearest(key, type(self).model_fields)}")
            if not values:
                raise ValueError(f"sweep holds a list of values for each key, found none for {key}")
        for number, stage in enumerate(self.stages, 1):
            try:
                self.overlay({"stages": [], "sweep": {}, **{k: v for k, v in stage.items() if k != "branches"}})
            except ValueError as error:
                raise ValueError(f"stage {number}: {error}") from None
        return self

    @classmethod
    def load(cls, path: str | Path) -> "Recipe":
        """Return the recipe in a YAML file. Raises FileNotFoundError or ValueError with the file's name."""
        file = Path(path)
        if not file.is_file():
            raise FileNotFoundError(f"no recipe at {file}")
        try:
            values = yaml.safe_load(file.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ValueError(f"{file} is not YAML: {error}") from None
        if not isinstance(values, dict):
            raise ValueError(f"{file} must hold keys and values, found {type(values).__name__}")
        try:
            return cls(**{str(key): value for key, value in values.items()})
        except ValueError as error:
            raise ValueError(f"{file}: {error}") from None

    def overlay(self, changes: Mapping[str, Any]) -> "Recipe":
        """Return the recipe with some values replaced.

        A key with dots, such as `loss_options.alpha`, replaces one option and leaves the others.
        """
        values = self.as_dict()
        for key, value in changes.items():
            *outer, last = key.split(".")
            place = values
            for part in outer:
                place = place.setdefault(part, {})
                if not isinstance(place, dict):
                    raise ValueError(f"{key} names an option of {part}, which is {place!r} and has none")
            place[last] = value
        return Recipe(**values)

    def as_dict(self) -> dict[str, Any]:
        """Return all keys and values, in order, as copies."""
        return self.model_dump()

    def to_yaml(self) -> str:
        """Return YAML of what differs from the defaults, and always of name, model and data."""
        return yaml.safe_dump(
            {k: v for k, v in self.as_dict().items() if k in ("name", "model", "data") or v != Recipe.default(k)},
            sort_keys=False,
            allow_unicode=True,
        )

    def save(self, path: str | Path) -> None:
        """Write `to_yaml`, whole or not at all."""
        write_text(path, self.to_yaml())

    @classmethod
    def default(cls, key: str) -> Any:
        """Return the value a key has where a recipe does not name it."""
        return copy.deepcopy(cls.model_fields[key].default)


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
        "freeze": [],
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
        "freeze": [],
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


def resolve(
    recipe: Recipe | str | Path,
    *,
    profile: str = "paper",
    changes: Mapping[str, Any] | None = None,
    data: str | None = None,
    data_path: str | Path | None = None,
) -> Recipe:
    """Return the recipe that is run: what the file says, then the profile's values, then those given by hand.

    Args:
        recipe: a recipe, or the file of one.
        profile: "smoke", "teach" or "paper". It asks no network for a width or a picture size it does not come in
            (`EXCEPTIONS`), and its number of epochs is that of each stage.
        changes: values by key, as of `Recipe.overlay`, or YAML texts of them; they always win, and are refused later by
            a network that does not have them.
        data: another data set. The example's path, options, splits and target are those of the old one and go with it.
        data_path: where the data set lies.

    Raises:
        ValueError: an unknown profile, or what `Recipe` refuses.

    """
    chosen = recipe if isinstance(recipe, Recipe) else Recipe.load(recipe)
    if profile not in PROFILES:
        raise ValueError(f"no profile {profile!r}; known: {', '.join(PROFILES)}")
    if PROFILES[profile]:
        short = {**PROFILES[profile], **EXCEPTIONS.get(chosen.model, {})}
        stages = [{**stage, "epochs": short["epochs"]} if "epochs" in stage else stage for stage in chosen.stages]
        chosen = chosen.overlay({**short, "stages": stages})
    by_hand = dict(changes or {})
    if data is not None:
        by_hand = {"data": data, **by_hand}
    if "data" in by_hand and by_hand["data"] != chosen.data:
        of_the_old = ("data_path", "data_options", "test_split", "validation_split", "target")
        chosen = chosen.overlay({key: Recipe.default(key) for key in of_the_old})
    if data_path is not None:
        by_hand["data_path"] = str(data_path)
    return chosen.overlay({key: _from_text(key, value) for key, value in by_hand.items()})


def _from_text(key: str, value: Any) -> Any:
    """What is meant by a text where none can be, such as "true" or "{head: linear}": papermill's -p gives no other."""
    if not isinstance(value, str) or key not in Recipe.model_fields:
        return value
    kind = Recipe.model_fields[key].annotation
    is_text = kind is str or get_origin(kind) is Literal or (get_origin(kind) is UnionType and str in get_args(kind))
    return value if is_text else yaml.safe_load(value)


def _number(key: str, value: Any) -> Any:
    """What YAML takes for something else: 1e-4 for text (it wants 1.0e-4), and `precision: no` for false."""
    if key == "precision" and value is False:
        return "no"
    if isinstance(value, str) and key in Recipe.model_fields and isinstance(Recipe.default(key), float):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [_plain(each) for each in value]
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    return value


def _nearest(word: str, known: Any) -> str:
    close = difflib.get_close_matches(str(word), [str(each) for each in known], n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _sentence(error: ValidationError) -> str:
    """One sentence about the first thing that is wrong."""
    first = error.errors()[0]
    key, found, kind = ".".join(str(part) for part in first["loc"]), first["input"], first["type"]
    if kind == "extra_forbidden":
        if key in RENAMED:
            return f"a recipe has no key {key!r} any more; it is called {RENAMED[key]} now"
        return (
            f"a recipe has no key {key!r}{_nearest(key, Recipe.model_fields)}; known: {', '.join(Recipe.model_fields)}"
        )
    said = first["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    if not key:
        return said
    said, meant, nearest = said.partition("; did you mean")
    return f"recipe key {key}{' ' if said.startswith(('must', 'is')) else ': '}{said}, found {found!r}{meant}{nearest}"
