"""Networks by name: `create_model`, `list_models`, and the weights that come with the workbook."""

import inspect
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from ferkit.files import replacing
from ferkit.models.base import FerModel

T = TypeVar("T", bound=FerModel)
_REGISTRY: dict[str, type[FerModel]] = {}


def register(name: str) -> Callable[[type[T]], type[T]]:
    """Class decorator: make a network available to `create_model` under a name."""

    def add(cls: type[T]) -> type[T]:
        if name in _REGISTRY:
            raise ValueError(f"a network named {name!r} is registered already: {_REGISTRY[name].__qualname__}")
        _REGISTRY[name] = cls
        return cls

    return add


def list_models() -> list[str]:
    """Names that `create_model` knows, sorted."""
    return sorted(_REGISTRY)


def model_options(name: str) -> dict[str, Any]:
    """The options of a network beside `num_classes` and `width`, with their defaults. Unknown names raise ValueError."""
    if name not in _REGISTRY:
        raise ValueError(f"no network named {name!r}; known: {', '.join(list_models())}")
    parameters = inspect.signature(_REGISTRY[name]).parameters
    return {k: p.default for k, p in parameters.items() if k not in ("num_classes", "width")}


def create_model(
    name: str,
    *,
    num_classes: int | None = None,
    width: float | None = None,
    weights: str | Path | None = None,
    labels: tuple[str, ...] | None = None,
    **options: Any,
) -> FerModel:
    """Build a network, by default with random weights and at the size of the released one.

    Args:
        name: one of `list_models()`.
        num_classes: K; default 7, or what the weights were trained with.
        width: factor on every channel count; default 1, or what the weights were trained with.
        weights: a name of `list_weights()`, such as "fer2013-teach", or a .safetensors file written by a run. The file
            states width, options, labels and input size; stating another value here is an error, not a guess.
        labels: emotion names in logit order; default the network's own, or those of the weights.
        options: the network's own, see `model_options(name)`.

    Raises:
        ValueError: unknown name, unknown option, or weights of another network.
        FileNotFoundError: no such weights.

    """
    known = model_options(name)
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise ValueError(f"{name} has no option {', '.join(map(repr, unknown))}; known: {', '.join(known)}")
    stated = {"num_classes": num_classes, "width": width, **options}
    stated = {k: v for k, v in stated.items() if v is not None}
    if width is not None and not width > 0:
        raise ValueError(f"width is a factor on channel counts and must be above 0, found {width}")
    saved: dict[str, Any] = {}
    if weights is not None:
        file = weights_file(name, weights)
        saved = read_weights_header(file)
        if saved.get("model") != name:
            raise ValueError(f"{file.name} holds weights of {saved.get('model')!r}, not of {name!r}")
        arguments = {"num_classes": saved["num_classes"], "width": saved["width"], **saved["options"]}
        for key, value in stated.items():
            if arguments.get(key, known.get(key)) != value:
                raise ValueError(f"{file.name} was trained with {key}={arguments.get(key, known.get(key))!r}, not {value!r}")
    else:
        arguments = {"num_classes": 7, "width": 1.0, **stated}
    model = _REGISTRY[name](**arguments)
    model.spec = {"model": name, **{k: arguments[k] for k in ("num_classes", "width")}, "options": {k: arguments[k] for k in known if k in arguments}}
    if weights is not None:
        # .float(): published files are half precision to stay small; the network computes in single precision.
        model.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in load_file(file).items()})
        model.labels, model.input_size = tuple(saved["labels"]), saved["input_size"]
    if labels is not None:
        if saved.get("labels") and list(labels) != saved["labels"]:
            raise ValueError(f"{file.name} was trained with labels {', '.join(saved['labels'])}, not {', '.join(labels)}")
        if len(labels) != arguments["num_classes"]:
            raise ValueError(f"{len(labels)} labels for {arguments['num_classes']} classes")
        model.labels = tuple(labels)
    return model


def weights_folder() -> Path:
    """Where published weights lie: FERKIT_WEIGHTS, or data/weights of the checkout."""
    return Path(os.environ.get("FERKIT_WEIGHTS", Path(__file__).parents[2] / "data" / "weights"))


def list_weights() -> dict[str, list[str]]:
    """Network name to the names that `create_model(network, weights=...)` accepts."""
    found: dict[str, list[str]] = {}
    for file in sorted(weights_folder().glob("*.safetensors")):
        header = read_weights_header(file)
        found.setdefault(header["model"], []).append(header["weights"])
    return found


def save_weights(model: FerModel, file: Path, *, weights: str, half: bool = False) -> Path:
    """Write a network's weights with everything needed to build it again; atomic. `half` stores float16."""
    if not hasattr(model, "spec"):
        raise ValueError(f"{type(model).__name__} does not know how it was built, so its weights could not be read again; use create_model")
    header = {**model.spec, "weights": weights, "labels": list(model.labels), "input_size": model.input_size}
    return save_state(model, file, header=header, half=half)


def save_state(module: torch.nn.Module, file: Path, *, header: dict[str, Any] | None = None, half: bool = False) -> Path:
    """Write a module's state as safetensors, atomically; `header` becomes the file's metadata."""
    state = {k: v.detach().cpu().contiguous() for k, v in module.state_dict().items()}
    if half:
        state = {k: v.half() if v.is_floating_point() else v for k, v in state.items()}
    with replacing(file) as temporary:
        save_file(state, temporary, metadata={"ferkit": json.dumps(header)} if header else None)
    return file


def read_weights_header(file: Path) -> dict[str, Any]:
    """What a file of weights says of itself. Raises ValueError for a file that is not one of ours."""
    try:
        with safe_open(file, framework="pt") as handle:
            header = (handle.metadata() or {}).get("ferkit")
    except Exception as error:  # safetensors raises its own, undocumented kinds
        raise ValueError(f"{file} is not a readable .safetensors file ({error}); only safetensors are loaded") from None
    if header is None:
        raise ValueError(f"{file} has no ferkit header (network, width, labels); write it with ferkit.models.save_weights")
    return json.loads(header)


def weights_file(name: str, weights: str | Path) -> Path:
    """The file behind `create_model(name, weights=weights)`. Raises FileNotFoundError listing what there is."""
    if str(weights).endswith(".safetensors"):
        file = Path(weights)
        if not file.is_file():
            raise FileNotFoundError(f"no file of weights at {file}")
        return file
    for file in sorted(weights_folder().glob("*.safetensors")):
        header = read_weights_header(file)
        if (header["model"], header["weights"]) == (name, str(weights)):
            return file
    known = ", ".join(list_weights().get(name, [])) or "none"
    raise FileNotFoundError(f"no weights {weights!r} for {name} in {weights_folder()}; known: {known}")
