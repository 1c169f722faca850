"""Networks by name: `create_model`, `list_models`, and the weights that come with the workbook."""

import inspect
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from ferkit.files import replacing
from ferkit.models.base import FerModel
from ferkit.models.released import misfit, read_released, told_by_names

T = TypeVar("T", bound=Callable[..., FerModel])
_REGISTRY: dict[str, Callable[..., FerModel]] = {}
_SUFFIXES = (".safetensors", ".pth", ".pt", ".tar", ".ckpt", ".bin", ".t7", ".pkl")


def register(name: str) -> Callable[[T], T]:
    """Return a decorator that makes a class, or a function that builds a network,
    available to `create_model` under a name.
    """

    def add(build: T) -> T:
        if name in _REGISTRY:
            raise ValueError(f"a network named {name!r} is registered already: {_REGISTRY[name].__qualname__}")
        _REGISTRY[name] = build
        return build

    return add


def list_models() -> list[str]:
    """Return the names that `create_model` knows, sorted."""
    return sorted(_REGISTRY)


def model_options(name: str) -> dict[str, Any]:
    """Return the options of a network beside `num_classes` and `width`, with their defaults.

    Unknown names raise ValueError.
    """
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
        weights: a name of `list_weights()`, such as "fer2013-teach"; a .safetensors file written by a run; or a file of
            the authors' code, as `ferkit.models.read_released` reads it. A file of a run states width, options, labels
            and input size, of one of the authors width and number of classes are told by the shapes of its tensors.
            Stating another value here is an error, not a guess.
        labels: emotion names in logit order; default the network's own, or those of the weights.
        options: the network's own, see `model_options(name)`. None is a value like any other: `attention=None` asks for
            a network without attention.

    Raises:
        ValueError: unknown name or option, or weights of another network, width or options; one sentence says which.
        FileNotFoundError: no such weights.

    """
    known = model_options(name)
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise ValueError(f"{name} has no option {', '.join(map(repr, unknown))}; known: {', '.join(known)}")
    absent = sorted(k for k, v in options.items() if v is None and known[k] is not None)
    if absent and weights is None:
        raise ValueError(f"{name} needs a value for {absent[0]}, found None; its default is {known[absent[0]]!r}")
    if width is not None and not width > 0:
        raise ValueError(f"width is a factor on channel counts and must be above 0, found {width}")
    stated = {k: v for k, v in (("num_classes", num_classes), ("width", width)) if v is not None} | options
    saved: dict[str, Any] = {}
    state: dict[str, Tensor] = {}
    if weights is None:
        arguments = {"num_classes": 7, "width": 1.0, **stated}
    else:
        file = weights_file(name, weights)
        saved = _header_of_a_run(file)
        arguments, state = _of_a_run(name, file, saved, stated) if saved else _of_the_authors(name, file, stated)
    model = _build(name, arguments)
    if weights is not None:
        # .float(): published files are half precision to stay small; the network computes in single precision.
        counters = {k: v for k, v in model.state_dict().items() if k.endswith("num_batches_tracked")}
        model.load_state_dict(counters | {k: v.float() if v.is_floating_point() else v for k, v in state.items()})
    if saved:
        model.labels, model.input_size = tuple(saved["labels"]), saved["input_size"]
    if labels is not None:
        if saved.get("labels") and list(labels) != saved["labels"]:
            raise ValueError(
                f"{file.name} was trained with labels {', '.join(saved['labels'])}, not {', '.join(labels)}"
            )
        if len(labels) != arguments["num_classes"]:
            raise ValueError(f"{len(labels)} labels for {arguments['num_classes']} classes")
        model.labels = tuple(labels)
    return model


def _build(name: str, arguments: Mapping[str, Any], device: str | None = None) -> FerModel:
    if device is None:
        model = _REGISTRY[name](**arguments)
    else:
        with torch.device(device):
            model = _REGISTRY[name](**arguments)
    chosen = {k: arguments[k] for k in model_options(name) if k in arguments}
    model.spec = {"model": name, **{k: arguments[k] for k in ("num_classes", "width")}, "options": chosen}
    return model


def _shapes(name: str, arguments: Mapping[str, Any]) -> dict[str, Tensor]:
    """The state dict that a network would have, without values."""
    return _build(name, arguments, "meta").state_dict()


def _as_json(value: Any) -> Any:
    """A value as a header stores it: tuples are lists there."""
    return [_as_json(v) for v in value] if isinstance(value, list | tuple) else value


def _of_a_run(
    name: str, file: Path, saved: Mapping[str, Any], stated: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Arguments and state dict of a file that `save_weights` wrote; what is stated must agree with its header."""
    if saved["model"] != name:
        raise ValueError(f"{file.name} holds weights of {saved['model']!r}, not of {name!r}")
    known = model_options(name)
    arguments = {"num_classes": saved["num_classes"], "width": saved["width"], **saved["options"]}
    for key, value in stated.items():
        found = arguments.get(key, known.get(key))
        if _as_json(found) != _as_json(value):
            raise ValueError(f"{file.name} was trained with {key}={found!r}, not {value!r}")
    state = load_file(file)
    if problem := misfit(state, _shapes(name, arguments)):
        raise ValueError(
            f"{file.name} says of itself what its tensors are not: {problem}; it is damaged, write it again"
        )
    return arguments, state


def _of_the_authors(name: str, file: Path, stated: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Arguments and state dict of a file without our header:
    what is not stated is told by names and shapes of its tensors.
    """
    state = read_released(name, file).tensors
    arguments = {"num_classes": 7, "width": 1.0, **told_by_names(name, state), **stated}
    width = width_of(name, state, arguments)
    if "width" not in stated and width is not None:
        arguments["width"] = width
    axes = class_axes(name, arguments)
    if "num_classes" not in stated:
        arguments["num_classes"] = next(
            (state[k].shape[axis] for k, axis in axes.items() if k in state and state[k].ndim > axis), 7
        )
    own = _shapes(name, arguments)
    if not misfit(state, own):
        return arguments, state
    if width is not None and width != arguments["width"]:
        raise ValueError(f"{file.name} is of width {width:g}, not {arguments['width']:g}")
    if not any(k in state for k in axes) and not misfit(state, own, may_differ=list(axes)):
        raise ValueError(
            f"{file.name} has no classifier ({', '.join(axes)}): start from it with initialise(model, "
            f"{str(file)!r}) and train"
        )
    options = ", ".join(f"{k}={arguments.get(k, default)!r}" for k, default in model_options(name).items())
    raise ValueError(
        f"{file.name} is not of this network: {misfit(state, own)}. The network was {name} of width "
        f"{arguments['width']:g}{' with ' + options if options else ''}"
    )


def class_axes(name: str, arguments: Mapping[str, Any]) -> dict[str, int]:
    """Return the axis that counts classes, of each tensor that has one:
    what changes if the network gets one class more.
    """
    own, larger = (_shapes(name, {**arguments, "num_classes": arguments["num_classes"] + more}) for more in (0, 1))
    changed = (
        (k, [i for i, (a, b) in enumerate(zip(v.shape, larger[k].shape, strict=True)) if a != b])
        for k, v in own.items()
    )
    return {k: axes[0] for k, axes in changed if axes}


def width_of(name: str, state: Mapping[str, Tensor], arguments: Mapping[str, Any]) -> float | None:
    """Return the width at which all convolutions of a state dict have their shapes, or None if there is no such width.
    """

    def fits(width: float) -> bool:
        try:
            own = _shapes(name, {**arguments, "width": width})
        except ValueError:  # networks that come in one size
            return False
        return all(state[k].shape == own[k].shape for k in shared)

    full = _shapes(name, {**arguments, "width": 1.0})
    shared = [k for k, v in full.items() if v.ndim == 4 and k in state and state[k].ndim == 4]
    if len(shared) < len([v for v in full.values() if v.ndim == 4]) / 2:
        return None
    widest = max(shared, key=lambda k: len(full[k]))
    ratio = len(state[widest]) / len(full[widest])
    return next(
        (w for w in (round(ratio * 64) / 64, round(ratio, 2), round(ratio, 3), ratio) if w > 0 and fits(w)), None
    )


def weights_folder() -> Path:
    """Return where published weights lie: FERKIT_WEIGHTS, data/weights of the checkout,
    or what was installed with the package.
    """
    if "FERKIT_WEIGHTS" in os.environ:
        return Path(os.environ["FERKIT_WEIGHTS"])
    checkout = Path(__file__).parents[2] / "data" / "weights"
    return checkout if checkout.is_dir() else Path(__file__).parents[1] / "shipped" / "weights"


def list_weights() -> dict[str, list[str]]:
    """Return for each network the names that `create_model(network, weights=...)` accepts;
    files that are none of ours are passed over.
    """
    found: dict[str, list[str]] = {}
    for header in _published()[0].values():
        if header["model"] in _REGISTRY:
            found.setdefault(header["model"], []).append(header["weights"])
    return found


def _published() -> tuple[dict[Path, dict[str, Any]], dict[Path, str]]:
    """Headers of the files in `weights_folder()`, and of those that cannot be used the reason."""
    headers, broken = {}, {}
    for file in sorted(weights_folder().glob("*.safetensors")):
        try:
            headers[file] = read_weights_header(file)
        except (ValueError, OSError) as error:
            broken[file] = str(error)
    return headers, broken


def save_weights(model: FerModel, file: Path, *, weights: str, half: bool = False) -> Path:
    """Write a network's weights with everything needed to build it again; atomic. `half` stores float16.

    Return the file.
    """
    if not hasattr(model, "spec"):
        raise ValueError(
            f"{type(model).__name__} does not know how it was built, so its weights could not be read "
            "again; use create_model"
        )
    header = {**model.spec, "weights": weights, "labels": list(model.labels), "input_size": model.input_size}
    return save_state(model, file, header=header, half=half)


def save_state(
    module: torch.nn.Module, file: Path, *, header: dict[str, Any] | None = None, half: bool = False
) -> Path:
    """Write a module's state as safetensors, atomically; `header` becomes the file's metadata. Return the file."""
    state = {k: v.detach().cpu().contiguous() for k, v in module.state_dict().items()}
    if half:
        state = {k: v.half() if v.is_floating_point() else v for k, v in state.items()}
    with replacing(file) as temporary:
        save_file(state, temporary, metadata={"ferkit": json.dumps(header)} if header else None)
    return file


def read_weights_header(file: Path) -> dict[str, Any]:
    """Return what a file of weights says of itself. Raise ValueError for a file that is not one of ours."""
    try:
        with safe_open(file, framework="pt") as handle:
            header = (handle.metadata() or {}).get("ferkit")
    except FileNotFoundError:
        raise
    except Exception as error:  # safetensors raises its own, undocumented kinds
        raise ValueError(f"{file} is not a readable .safetensors file ({error}); only safetensors are loaded") from None
    if header is None:
        raise ValueError(
            f"{file} has no ferkit header (network, width, labels); write it with ferkit.models.save_weights"
        )
    try:
        found = json.loads(header)
        lacking = [
            k for k in ("model", "weights", "num_classes", "width", "options", "labels", "input_size") if k not in found
        ]
    except (ValueError, TypeError):
        lacking = ["a readable form"]
    if lacking:
        raise ValueError(
            f"{file} has a ferkit header without {', '.join(lacking)}; write it with ferkit.models.save_weights"
        )
    return found


def _header_of_a_run(file: Path) -> dict[str, Any]:
    """The header of a file that a run wrote; empty for any other file, which `read_released` then has to understand."""
    try:
        with safe_open(file, framework="pt") as handle:
            if "ferkit" not in (handle.metadata() or {}):
                return {}
    except Exception:  # not safetensors, or damaged: reading it says what is wrong
        return {}
    return read_weights_header(file)


def weights_file(name: str, weights: str | Path) -> Path:
    """Return the file behind `create_model(name, weights=weights)`.

    Args:
        name: of the network.
        weights: a published name, or a path.

    Raises:
        FileNotFoundError: neither; the message lists the published names.
        ValueError: the published file is damaged.

    """
    headers, broken = _published()
    for file, header in headers.items():
        if (header["model"], header["weights"]) == (name, str(weights)):
            return file
    path = Path(weights).expanduser()
    if path.exists():
        return path
    if isinstance(weights, Path) or path.suffix in _SUFFIXES or len(path.parts) > 1:
        raise FileNotFoundError(f"no file of weights at {weights}")
    damaged = [file for file in broken if str(weights) in file.stem]
    if damaged:
        raise ValueError(broken[damaged[0]])
    if not weights_folder().is_dir():
        raise FileNotFoundError(
            f"no weights {str(weights)!r} for {name}: there is no folder {weights_folder()}; "
            "set FERKIT_WEIGHTS to the folder data/weights of a checkout"
        )
    known = ", ".join(list_weights().get(name, [])) or "none"
    raise FileNotFoundError(f"no weights {str(weights)!r} for {name} in {weights_folder()}; known: {known}")
