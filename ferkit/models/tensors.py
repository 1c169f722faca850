"""Tensors out of a file that somebody brings: safetensors or torch, read without running any code that it may hold."""

import pickle
import re
import warnings
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import safe_open
from torch import Tensor


class Contents(NamedTuple):
    """A file's tensors by name, what lies beside them (settings, scores), and the metadata of a safetensors file."""

    tensors: dict[str, Tensor]
    beside: dict[str, Any]
    metadata: dict[str, str]


def read_tensors(file: str | Path) -> Contents:
    """Read the state dict of a network from a file, wherever in the file it lies.

    Understood are safetensors; what `torch.save` wrote of a state dict, of a dictionary that holds one under any name
    ("state_dict", "model_state_dict", "net", ...), and of a whole network. Objects of other classes that lie beside or
    around the tensors (a meter of losses, numpy's numbers) are not built: an inert stand-in takes their place.

    Args:
        file: its kind is told from its first bytes, not from its name.

    Returns:
        The tensors on the CPU. A prefix that a wrapper left before all names ("module.", "_orig_mod.") is gone.

    Raises:
        FileNotFoundError: no such file.
        ValueError: an empty or cut file, a pointer of Git LFS, a web page, or a file without tensors; one sentence.

    """
    file = Path(file)
    if file.is_dir():
        raise ValueError(f"{file} is a folder; expected a file of weights")
    if not file.is_file():
        raise FileNotFoundError(f"no file of weights at {file}")
    with file.open("rb") as stream:
        head = stream.read(512)
    _refuse_what_is_no_weights(file, head)
    if head[8:9] == b"{":  # the length of the header, eight bytes, then the header
        return _safetensors(file)
    content = _unpickled(file)
    tensors = _state_dict(content)
    if not tensors:
        raise ValueError(
            f"{file.name} holds no state dict: expected names and tensors, or a dictionary with them under "
            "'state_dict' or the like"
        )
    beside = {k: v for k, v in content.items() if _plain(v)} if isinstance(content, dict) else {}
    return Contents(_without_wrapper(tensors), beside, {})


def _refuse_what_is_no_weights(file: Path, head: bytes) -> None:
    if not head:
        raise ValueError(f"{file.name} is empty (0 bytes); copy or download it again")
    if head.startswith(b"version https://git-lfs"):
        raise ValueError(
            f"{file.name} is a pointer of Git LFS, not the weights themselves; fetch them with: git lfs pull"
        )
    if head.lstrip()[:1] == b"<":
        raise ValueError(
            f"{file.name} is a web page, not weights; the link leads to a page or a login: download the file itself"
        )


def _safetensors(file: Path) -> Contents:
    try:
        with safe_open(file, framework="pt") as handle:
            metadata = dict(handle.metadata() or {})
            return Contents(_without_wrapper({name: handle.get_tensor(name) for name in handle.keys()}), {}, metadata)  # noqa: SIM118
    except Exception as error:  # safetensors raises its own, undocumented kinds
        raise ValueError(
            f"{file.name} is not a readable .safetensors file ({error}); it is damaged or cut off: copy "
            "or download it again"
        ) from None


class _Skipped(list):
    """Takes the place of an object whose class is not known to be safe; keeps what would have been its state."""

    state: Any = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _SkippedMapping:
    """The same for subclasses of dict, into which unpickling writes: a Counter is the only one that torch lets it fill.
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        return Counter()


def _unpickled(file: Path) -> Any:
    names: set[str] = set()
    if zipfile.is_zipfile(file):
        try:
            names = set(torch.serialization.get_unsafe_globals_in_checkpoint(file))
        except Exception as error:
            raise _unreadable(file, error) from None
    stand_in: type = _Skipped
    for _ in range(100):
        # numpy's arrays are never filled like a dict
        known: list[Any] = [(_Skipped if name.startswith("numpy") else stand_in, name) for name in names]
        with torch.serialization.safe_globals(known), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # about pickle protocols
            try:
                return torch.load(file, map_location="cpu", weights_only=True)
            except pickle.UnpicklingError as error:
                # Files older than zip cannot be asked beforehand: their classes come up one by one.
                unknown = re.search(r"GLOBAL ([\w.]+) was not an allowed global", str(error))
                name = unknown and (unknown[1] if "." in unknown[1] else f"builtins.{unknown[1]}")
                if name and name not in names:
                    names.add(name)
                elif "Can only SETITEM" in str(error) and stand_in is _Skipped:
                    stand_in = _SkippedMapping
                else:
                    raise _unreadable(file, error) from None
            except Exception as error:  # torch.load has no error type of its own
                raise _unreadable(file, error) from None
    raise ValueError(f"{file.name} holds objects of more than a hundred unknown classes; save its state_dict() alone")


def _unreadable(file: Path, error: Exception) -> ValueError:
    said = str(error).strip() or type(error).__name__
    inner = re.search(r"WeightsUnpickler error: *(.*)", said)  # torch's own advice to switch its guard off is left out
    reason = re.split(r"\n|\. ", inner[1] if inner else said)[0].strip().rstrip(".")
    reason = f" ({reason})" if len(reason) > 5 else ""
    return ValueError(
        f"{file.name} cannot be read as weights{reason}: it is damaged, cut off, or no file of torch or safetensors; "
        "only safetensors, and what torch.save wrote of a state dict, are loaded"
    )


def _plain(value: Any) -> bool:
    """Return whether a value is made of numbers and texts alone."""
    if isinstance(value, _Skipped | Counter):
        return False
    if isinstance(value, dict):
        return all(_plain(v) for v in value.values())
    return (
        all(map(_plain, value))
        if isinstance(value, list | tuple)
        else isinstance(value, str | int | float | bool | None)
    )


def _state_dict(content: Any) -> dict[str, Tensor]:
    """The largest group of named tensors in what a file holds, other than an optimiser's."""
    found = list(_groups(content))
    return max(found, key=len) if found else {}


def _groups(content: Any, depth: int = 0) -> Iterator[dict[str, Tensor]]:
    if isinstance(content, _Skipped):
        if isinstance(content.state, Mapping) and "_modules" in content.state:  # a whole network
            yield dict(_of_module(content.state, ""))
        return
    if not isinstance(content, Mapping) or depth > 3:
        return
    tensors = {k: v for k, v in content.items() if isinstance(k, str) and isinstance(v, Tensor)}
    if len(tensors) > len(content) / 2:
        yield tensors
    for name, inner in content.items():
        if "optim" not in str(name):
            yield from _groups(inner, depth + 1)


def _of_module(state: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Tensor]]:
    for kind in ("_parameters", "_buffers"):
        for name, value in state.get(kind, {}).items():
            if isinstance(value, Tensor):
                yield prefix + name, value.detach()
    for name, child in state.get("_modules", {}).items():
        inner = getattr(child, "state", None)
        if isinstance(inner, Mapping):
            yield from _of_module(inner, f"{prefix}{name}.")


def _without_wrapper(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    for wrapper in ("module.", "_orig_mod.", "module."):
        if all(name.startswith(wrapper) for name in tensors):
            tensors = {name.removeprefix(wrapper): value for name, value in tensors.items()}
    return tensors
