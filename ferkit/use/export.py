"""A network as one file for elsewhere: preprocessing, network and labels together, checked against the network."""

from __future__ import annotations

import json
import logging
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ferkit.data.faceset import FaceSet
from ferkit.evaluation.metrics import paired_difference
from ferkit.explain.opinions import Network
from ferkit.files import replacing
from ferkit.labels import index_map
from ferkit.models import FerModel
from ferkit.models.registry import save_state
from ferkit.synthetic import make_faces
from ferkit.use.measure import FIRST
from ferkit.use.networks import Ensemble, probabilities

#: What each kind of file ends in.
KINDS = {"onnx": ".onnx", "torch": ".pt2", "safetensors": ".safetensors"}
#: The most a file may differ from its network, in probability, at the network's own size: rounding, and no more.
ROUNDING = 1e-3
LUMA = (
    0.2989,
    0.587,
    0.114,
)  # torchvision's grey, with its digits: `ferkit.data.transforms.prepare` is to be met exactly
CALIBRATION = 256  # pictures from which the ranges of int8 values are taken


class Portable(nn.Module):
    """A network that takes pictures as files hold them: uint8 RGB (N, H, W, 3) of any size to probabilities (N, K).

    Inside are `ferkit.data.transforms.prepare`, the network, softmax and, where the network was measured so, the mean
    over the picture and its mirror image.

    Args:
        model: in evaluation mode.
        mirrored: average over the mirror image.

    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: FerModel, *, mirrored: bool = False) -> None:
        super().__init__()
        self.model, self.mirrored = model, mirrored
        self.size, self.colour = model.input_size, model.colour
        self.register_buffer("mean", torch.tensor(model.mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(model.std).view(1, -1, 1, 1))

    def forward(self, pictures: Tensor) -> Tensor:
        """(N, H, W, 3) uint8 to (N, K) float32, rows sum to 1."""
        x = pictures.permute(0, 3, 1, 2).float()  # (N, 3, H, W)
        # First the width and then the height, whole numbers after each, as torchvision scales uint8 pictures.
        for size in ((x.shape[-2], self.size), (self.size, self.size)):
            x = F.interpolate(x, size=size, mode="bilinear", antialias=True).round().clamp(0, 255)
        if self.colour != "rgb":
            red, green, blue = x.unbind(1)
            x = (red * LUMA[0] + green * LUMA[1] + blue * LUMA[2]).floor()[:, None]
            x = x.expand(-1, 3, -1, -1) if self.colour == "grey3" else x
        x = (x / 255 - self.mean) / self.std  # (N, C, S, S)
        said = self.model(x).softmax(1)
        return (said + self.model(x.flip(-1)).softmax(1)) / 2 if self.mirrored else said


class Exported(NamedTuple):
    """A file that was written.

    Attributes:
        file: where.
        difference: the most its probabilities differ from the network's, at the network's own size; None for weights.
        resized: the same at other sizes, where pictures are scaled by another library's arithmetic.

    """

    file: Path
    difference: float | None = None
    resized: float | None = None


def export(network: Network | Ensemble, file: str | os.PathLike[str], *, to: str = "onnx") -> Exported:
    """Write a network as one file, and compare what the file says with what the network says.

    Args:
        network: from `ferkit.use.load`.
        file: the file; folders that are absent are made.
        to: "onnx", for onnxruntime; "torch", for `torch.export.load`; both take uint8 RGB (N, H, W, 3), N, H and W as
            they come, give probabilities (N, K), and carry `about_file` beside the network. "safetensors": the weights
            alone, with what is needed to build the network again.

    Raises:
        ValueError: an unknown kind, an ensemble, or a file that does not say what its network says.
        ImportError: onnx, onnxscript or onnxruntime are not installed.

    """
    if to not in KINDS:
        raise ValueError(f"expected a kind of file among {', '.join(KINDS)}, found {to!r}")
    if isinstance(network, Ensemble):
        raise ValueError(f"expected one network, found the mean of {len(network.members)}; export each of them")
    target = Path(file)
    if to == "safetensors":
        model = network.model
        header = {**model.spec, "weights": network.name, "input_size": model.input_size, **about_file(network)}
        return Exported(save_state(model, target, header=header))
    portable = Portable(network.model, mirrored=network.tta == "flip").eval()
    with replacing(target) as temporary:
        WRITERS[to](portable, about_file(network), temporary)
        own, resized = (_difference(network, temporary, to, side) for side in (network.model.input_size, 100))
        if not own <= ROUNDING:
            raise ValueError(
                f"{target.name} gives other probabilities than {network.name}, by up to {own:.2g}; not kept"
            )
    return Exported(target, own, resized)


def about_file(network: Network) -> dict[str, Any]:
    """Return what an exported file says of itself: labels in order, threshold, preprocessing, limits."""
    model = network.model
    mirrored = network.tta in (None, "none", "flip")  # what the file does is then what the threshold was found with
    return {
        "labels": list(network.labels),
        "input": "pictures: uint8 RGB (N, H, W, 3), each a face cut out as in training, of any size",
        "output": "probabilities: float32 (N, K), rows sum to 1",
        "threshold": network.threshold if mirrored else None,
        "preprocessing": {
            "size": model.input_size,
            "mean": list(model.mean),
            "std": list(model.std),
            "colour": model.colour,
        },
        "mirrored": network.tta == "flip",
        "about": str(network),
        "limits": "It names how raters would label a face, not what a person feels. Not for decisions about people.",
    }


def _write_onnx(portable: Portable, about: dict[str, Any], file: Path) -> None:
    try:
        import onnxscript  # noqa: F401  (what torch writes ONNX with)
    except ImportError:
        raise ImportError(
            "writing ONNX needs onnx, onnxruntime and onnxscript: pip install 'ferkit[export]'"
        ) from None
    with warnings.catch_warnings(), redirect_stdout(StringIO()):
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            portable,
            (_example(portable),),
            input_names=["pictures"],
            output_names=["probabilities"],
            dynamic_shapes=(_free(),),
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    program.model.metadata_props.update({k: v if isinstance(v, str) else json.dumps(v) for k, v in about.items()})
    program.save(str(file))


def _write_torch(portable: Portable, about: dict[str, Any], file: Path) -> None:
    program = torch.export.export(portable, (_example(portable),), dynamic_shapes=(_free(),))
    with file.open("wb") as stream:  # by its name torch would insist on .pt2
        torch.export.save(program, stream, extra_files={"ferkit.json": json.dumps(about, ensure_ascii=False)})


WRITERS: dict[str, Callable[[Portable, dict[str, Any], Path], None]] = {"onnx": _write_onnx, "torch": _write_torch}


def _example(portable: Portable) -> Tensor:
    return torch.zeros(2, portable.size + 1, portable.size + 2, 3, dtype=torch.uint8)


def _free() -> dict[int, Any]:
    """Number, height and width of the pictures are left open."""
    return {0: torch.export.Dim("n"), 1: torch.export.Dim("height", min=2), 2: torch.export.Dim("width", min=2)}


def run_file(
    file: str | os.PathLike[str], pictures: np.ndarray, *, to: str = "onnx", batch_size: int = 64
) -> np.ndarray:
    """Return what an exported file says of pictures, uint8 RGB (N, H, W, 3): probabilities (N, K)."""
    ask = _open_onnx(Path(file)) if to == "onnx" else _open_torch(Path(file))
    return np.concatenate([ask(pictures[i : i + batch_size]) for i in range(0, len(pictures), batch_size)])


def _open_onnx(file: Path) -> Callable[[np.ndarray], np.ndarray]:
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    return lambda pictures: session.run(None, {"pictures": pictures})[0]


def _open_torch(file: Path) -> Callable[[np.ndarray], np.ndarray]:
    with file.open("rb") as stream:
        module = torch.export.load(stream).module()
    return lambda pictures: module(torch.from_numpy(pictures)).detach().numpy()


def _difference(network: Network, file: Path, to: str, side: int) -> float:
    """The most that a file and its network differ on eight drawn faces of a size."""
    faces = make_faces(8, size=max(32, side), colour="rgb", seed=0).images
    found = run_file(file, np.ascontiguousarray(faces.transpose(0, 2, 3, 1)), to=to)
    return float(np.abs(found - probabilities(network, faces)).max())


def quantise(file: str | os.PathLike[str], faces: FaceSet, out: str | os.PathLike[str]) -> Path:
    """Write an exported ONNX file again with its convolutions and matrix products in int8 (onnxruntime, static, QDQ).

    Args:
        file: from `export`.
        faces: pictures like those it will see; the ranges of values inside the network are taken from 256 of them.
        out: the file to write.

    Raises:
        ImportError: onnx or onnxruntime are not installed.

    """
    try:
        from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
    except ImportError:
        raise ImportError("int8 needs onnx and onnxruntime: pip install 'ferkit[export]'") from None

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            rows = np.random.default_rng(0).permutation(len(faces))[:CALIBRATION]
            self._pictures = _last_channels(faces.subset(np.sort(rows)))

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(({"pictures": part} for part in self._pictures), None)

    logging.disable(logging.WARNING)  # it advises to fold normalisations first, which torch's exporter has done
    try:
        with replacing(out) as temporary:
            quantize_static(
                str(file),
                str(temporary),
                Reader(),
                op_types_to_quantize=["Conv", "Gemm", "MatMul"],
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
            )
    finally:
        logging.disable(logging.NOTSET)
    return Path(out)


def _last_channels(faces: FaceSet, batch_size: int = 32) -> Iterator[np.ndarray]:
    """Pictures as an exported file takes them, in batches."""
    for i in range(0, len(faces), batch_size):
        part = np.asarray(faces.images[i : i + batch_size])
        part = part[:, None].repeat(3, 1) if part.ndim == 3 else part
        yield np.ascontiguousarray(part.transpose(0, 2, 3, 1))


def write_int8(network: Network, file: Path, faces: FaceSet, *, split: str | None = None) -> dict[str, Any]:
    """Write `<file>.int8.onnx` beside an exported file, tuned on train pictures, and say what it costs on others.

    Args:
        network: what the file was exported from.
        file: from `export`.
        faces: labelled pictures with a `train` split and another one.
        split: the pictures that are counted; by default the first split of `ferkit.use.measure.FIRST` that there is.

    Returns:
        What `cost_of_int8` returns, and `file`.

    Raises:
        ValueError: the pictures that are counted would be those the file was tuned on, or are of other classes.

    """
    counted = split or next(name for name in FIRST if name in faces.splits())
    if "train" not in faces.splits() or counted == "train":
        there = ", ".join(faces.splits())
        raise ValueError(f"int8 needs pictures to tune it on (train) and others to measure it on, found {there}")
    part = faces.select(counted)
    place = np.asarray(index_map(faces.names, network.labels))[part.labels]  # (N,), -1 for other classes
    if (place < 0).any():
        other = ", ".join(name for name in faces.names if name not in network.labels)
        raise ValueError(f"expected pictures of {', '.join(network.labels)}, found {other} among them")
    small = quantise(file, faces.select("train"), file.with_suffix(".int8.onnx"))
    return {
        "file": str(small),
        **cost_of_int8(file, small, replace(part, labels=place, names=network.labels, votes=None)),
    }


def cost_of_int8(file: str | os.PathLike[str], small: str | os.PathLike[str], faces: FaceSet) -> dict[str, Any]:
    """Return what int8 costs on labelled pictures, whose classes must be the file's, in its order.

    Returns:
        n; accuracy of the `file` and of the `small` one; and the difference as `paired_difference` gives it, int8 minus
        float32.

    """
    asked = [_open_onnx(Path(f)) for f in (file, small)]
    right = (
        np.concatenate([[ask(part).argmax(1) for ask in asked] for part in _last_channels(faces)], 1) == faces.labels
    )  # (2, N)
    return {
        "n": len(faces),
        "float32": float(right[0].mean()),
        "int8": float(right[1].mean()),
        "difference": paired_difference(right[1], right[0]),
    }
