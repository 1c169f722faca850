"""What several networks say of one face, how sure they are, how far they agree, and how little it takes to change them.

Plain functions over a crop, uint8 RGB (S, S, 3), as `ferkit.faces.crop_face` cuts it. Nothing is written anywhere.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import nn
from torchvision.transforms.v2 import functional as F

from ferkit.evaluation.calibration import conformal_sets
from ferkit.labels import ALIASES, in_order
from ferkit.models import FerModel, create_model, list_weights
from ferkit.models.guard import refuse_unprepared, unwrapped
from ferkit.predict import graded, predict_probabilities
from ferkit.runs.records import record_of

#: Parts of an aligned face as left, top, right, bottom in a unit square; the landmarks lie where
#: `ferkit.faces.TEMPLATE` says.
PARTS: dict[str, tuple[float, float, float, float]] = {
    "mouth": (0.24, 0.68, 0.76, 0.94),
    "eyes": (0.12, 0.28, 0.88, 0.50),
    "brows": (0.12, 0.14, 0.88, 0.32),
    "nose": (0.36, 0.42, 0.64, 0.68),
    "left half": (0.0, 0.0, 0.5, 1.0),
    "right half": (0.5, 0.0, 1.0, 1.0),
    "upper half": (0.0, 0.0, 1.0, 0.5),
    "lower half": (0.0, 0.5, 1.0, 1.0),
}


class Network(NamedTuple):
    """A trained network, and what its validation images say of its probabilities.

    Attributes:
        name: of network and weights, as "resemotenet fer2013-teach".
        model: in evaluation mode.
        tta: the test-time augmentation that its figures were measured with; `ask` uses the same.
        threshold: classes of at least this probability form the conformal set; None if it was never calibrated.
        about: a sentence on what it was trained on and how often it is right, for `str()`; "" where nobody measured it.
    """

    name: str
    model: FerModel
    tta: str | None = None
    threshold: float | None = None
    about: str = ""

    def __str__(self) -> str:
        return f"{self.name}: {self.about or 'nobody has measured how often it is right'}"

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of its classes, in the order of its probabilities."""
        return tuple(self.model.labels)


class Opinion(NamedTuple):
    """What a network says of one face.

    Attributes:
        network: its name.
        labels: K emotions.
        probabilities: (K,), of sum 1.
        doubt: entropy as a share of the largest possible, 0 (sure) to 1 (all classes alike).
        likely: the conformal set, most probable first; empty for a network without calibration.
    """

    network: str
    labels: tuple[str, ...]
    probabilities: np.ndarray
    doubt: float
    likely: tuple[str, ...]

    @property
    def answer(self) -> str:
        """The most probable emotion."""
        return self.labels[int(self.probabilities.argmax())]


@lru_cache(maxsize=1)
def available_networks() -> dict[str, Network]:
    """Return every network whose weights come with the workbook, by name; loaded once.

    One that votes answers with probabilities here.

    A file that cannot be loaded is left out with a warning.
    """
    found = {}
    for model, names in list_weights().items():
        for weights in names:
            try:
                network = published(model, weights)
            except ValueError as error:
                warnings.warn(f"{model} {weights} is left out: {error}", stacklevel=2)
                continue
            found[network.name] = network
    return found


def published(model: str, weights: str) -> Network:
    """Return a network whose weights come with the workbook, or lie in a file, with what its record says of it.

    Raises what `create_model` raises.
    """
    network = graded(create_model(model, weights=weights)).eval()
    record = record_of(model, weights)
    conformal = record.get("conformal", {})
    return Network(f"{model} {weights}", network, conformal.get("tta"), conformal.get("threshold"), worth(record))


def worth(record: Mapping[str, Any]) -> str:
    """Return a sentence on what a run was trained on and how often it was right, from its record, if any."""
    if not record:
        return ""
    data, test, split = record["data"], record["test"], record["protocol"]["test_split"]
    low, high = (100 * bound for bound in test["intervals"]["accuracy"])
    return (
        f"trained on {data['splits'].get('train', 0):,} pictures of {data['name']}; "
        f"right on {100 * test['accuracy']:.1f} % of the {test['n']:,} pictures of its {split} "
        f"(95 % interval {low:.1f} to {high:.1f})"
    )


def as_network(network: Network | nn.Module, name: str = "") -> Network:
    """Return a `Network`, of a bare model one without calibration, called `name` or after its class.

    Raises ValueError for a module that lacks what `predict_probabilities` needs, or names of its classes.
    """
    net = unwrapped(network.model if isinstance(network, Network) else network)
    refuse_unprepared(net)
    if not getattr(net, "labels", ()):
        raise ValueError(
            f"{type(net).__name__} does not name its classes: set model.labels = (...), in the order of its logits"
        )
    return network if isinstance(network, Network) else Network(name or type(net).__name__, cast(FerModel, net))


def ask(network: Network | nn.Module, crop: np.ndarray) -> Opinion:
    """Return what one network, or a bare model, says of a crop.

    Raises ValueError for something that is no uint8 RGB picture (H, W, 3).
    """
    network = as_network(network)
    p = predict_probabilities(network.model, as_channels(crop), tta=network.tta)  # (1, K)
    return opinions_of(network.name, network.labels, p, network.threshold)[0]


def opinions_of(
    name: str, labels: Sequence[str], probabilities: np.ndarray, threshold: float | None = None
) -> list[Opinion]:
    """Return probabilities (N, K) of N faces as opinions: with doubt and, given a threshold, the conformal set.

    Raises ValueError where the probabilities are not one for each of the K labels.
    """
    if probabilities.shape[1] != len(labels):
        found = probabilities.shape[1]
        raise ValueError(f"{name} gives {found} probabilities for {len(labels)} labels: {', '.join(labels)}")
    doubts = -(probabilities * np.log(np.maximum(probabilities, 1e-30))).sum(1) / np.log(len(labels))  # (N,)
    none = np.zeros(probabilities.shape, bool)
    inside = none if threshold is None else conformal_sets(probabilities, threshold)  # (N, K)
    said = []
    for p, doubt, within in zip(probabilities, doubts, inside, strict=True):
        likely = tuple(labels[k] for k in np.argsort(-p, kind="stable") if within[k])
        said.append(Opinion(name, tuple(labels), p, float(doubt), likely))
    return said


def in_words(opinions: Sequence[Opinion]) -> str:
    """Return two or three sentences on what networks say together and how far to believe it."""
    said = _count([opinion.answer for opinion in opinions])
    sets = [set(o.likely) for o in opinions if o.likely]
    if sets:
        together = in_order(name for s in sets for name in s)
        said += (
            f" Not ruled out by at least one: {', '.join(together)}."
            if len(together) > 1
            else " No network leaves another answer open."
        )
    doubt = float(np.mean([o.doubt for o in opinions]))
    strength = "little" if doubt < 0.35 else "some" if doubt < 0.65 else "much"
    return (
        f"{said} Their probabilities show {strength} doubt. They name how raters would label a face, not "
        "what a person feels."
    )


def _count(answers: Sequence[str]) -> str:
    """A sentence on how the votes fall."""
    votes = {answer: answers.count(answer) for answer in in_order(answers)}
    n, most = len(answers), max(votes.values())
    first = [
        f"{answer} ({', '.join(ALIASES[answer][:2])})" if answer in ALIASES else answer
        for answer, k in votes.items()
        if k == most
    ]
    others = [answer for answer, k in votes.items() if k < most]
    if n == 1:
        return f"One network was asked; it says {first[0]}."
    if most == n:
        return f"All {n} networks say {first[0]}."
    if most == 1:
        return f"The {n} networks disagree, each with every other."
    if len(first) > 1:
        split = ", ".join(
            [*(f"{most} say {answer}" for answer in first), *([f"the others {', '.join(others)}"] if others else [])]
        )
        return f"The {n} networks are divided: {split}."
    return f"{most} of {n} networks say {first[0]}, the others {', '.join(others)}."


def as_channels(crop: np.ndarray) -> np.ndarray:
    """Return (H, W, 3) as a batch of one, (1, 3, H, W). Raises ValueError for something else."""
    if not isinstance(crop, np.ndarray) or crop.dtype != np.uint8 or crop.ndim != 3 or crop.shape[2] != 3:
        found = f"{crop.dtype} {crop.shape}" if isinstance(crop, np.ndarray) else type(crop).__name__
        raise ValueError(f"expected a crop as uint8 (H, W, 3), found {found}; ferkit.faces.crop_face makes one")
    return np.ascontiguousarray(crop.transpose(2, 0, 1)[None])


def hide(crop: np.ndarray, part: str = "mouth", *, box: tuple[float, float, float, float] | None = None) -> np.ndarray:
    """Return a copy of the crop with one part of the face covered by the crop's mean colour.

    Args:
        crop: uint8 (H, W, 3), aligned.
        part: one of `PARTS`.
        box: instead of a part, left, top, right, bottom as shares of the sides.

    Raises:
        ValueError: an unknown part, or a box that leaves the picture.

    """
    if box is None and part not in PARTS:
        raise ValueError(f"no part {part!r} of a face; known: {', '.join(PARTS)}")
    left, top, right, bottom = PARTS[part] if box is None else box
    if not (0 <= left <= right <= 1 and 0 <= top <= bottom <= 1):
        raise ValueError(f"expected a box inside the picture, left, top, right, bottom from 0 to 1, found {box}")
    height, width = crop.shape[:2]
    hidden = crop.copy()
    rows, columns = slice(round(top * height), round(bottom * height)), slice(round(left * width), round(right * width))
    hidden[rows, columns] = crop.mean((0, 1)).round().astype(np.uint8)
    return hidden


def _tensor(change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[np.ndarray], np.ndarray]:
    def changed(crop: np.ndarray) -> np.ndarray:
        return change(torch.from_numpy(crop.transpose(2, 0, 1).copy())).permute(1, 2, 0).contiguous().numpy()

    return changed


def _moved(right: float, down: float) -> Callable[[np.ndarray], np.ndarray]:
    def move(crop: np.ndarray) -> np.ndarray:
        dx, dy = round(right * crop.shape[1]), round(down * crop.shape[0])
        pad = max(abs(dx), abs(dy))
        wide = np.pad(crop, ((pad, pad), (pad, pad), (0, 0)), mode="edge")
        return np.ascontiguousarray(wide[pad - dy : pad - dy + crop.shape[0], pad - dx : pad - dx + crop.shape[1]])

    return move


#: Changes after which a person would not say another word of a face.
CHANGES: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "as it is": lambda crop: crop,
    "mirrored": lambda crop: np.ascontiguousarray(crop[:, ::-1]),
    "moved left": _moved(-1 / 16, 0),
    "moved right": _moved(1 / 16, 0),
    "moved up": _moved(0, -1 / 16),
    "moved down": _moved(0, 1 / 16),
    "darker": _tensor(lambda x: F.adjust_brightness(x, 0.6)),
    "brighter": _tensor(lambda x: F.adjust_brightness(x, 1.5)),
    "less contrast": _tensor(lambda x: F.adjust_contrast(x, 0.5)),
    "blurred": _tensor(lambda x: F.gaussian_blur(x, [9, 9], [max(1.0, x.shape[-1] / 96)] * 2)),
    "tilted": _tensor(lambda x: F.rotate(x, 10.0, interpolation=F.InterpolationMode.BILINEAR)),
}


def under_changes(network: Network | nn.Module, crop: np.ndarray) -> dict[str, np.ndarray]:
    """Return probabilities (K,) of the crop and of copies changed a little, by the name of the change (`CHANGES`).

    Without test-time augmentation, which would average the first of these changes away.
    """
    copies = np.concatenate([as_channels(change(crop)) for change in CHANGES.values()])
    return dict(zip(CHANGES, predict_probabilities(as_network(network).model, copies), strict=True))
