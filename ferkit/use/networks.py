"""A trained network by one name: with its labels, its preprocessing, its threshold, and what its answers are worth."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ferkit.explain.opinions import Network, Opinion, opinions_of, published, worth
from ferkit.models import create_model, list_weights
from ferkit.models.registry import read_weights_header, weights_file
from ferkit.predict import graded, predict_probabilities
from ferkit.runs.folder import RunFolder
from ferkit.runs.publish import conformal_record

#: Between the members of an ensemble.
AND = "+"


class Ensemble(NamedTuple):
    """Several networks with the same classes that answer with the mean of their probabilities, each weighing the same.

    Attributes:
        name: the members' names with a + between them.
        members: at least two.

    """

    name: str
    members: tuple[Network, ...]

    def __str__(self) -> str:
        said = f"the mean of {len(self.members)} networks; nobody has measured how often it is right; its members:"
        return "\n  ".join([said, *map(str, self.members)])

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of its classes, in the order of its probabilities: the first member's."""
        return self.members[0].labels

    @property
    def threshold(self) -> None:
        """None: a threshold needs the ensemble's own answers on validation images, which nobody has kept."""
        return None


def load(name: str | os.PathLike[str]) -> Network | Ensemble:
    """Return a trained network, ready to be asked.

    Args:
        name: a network and its weights, such as "resemotenet/fer2013-teach" (`python -m ferkit weights` lists them);
            the folder of a finished run; a .safetensors file that a run wrote; or several of these with a + between
            them, for the mean of their probabilities.

    Returns:
        `network.model` carries its preprocessing, `network.labels` its classes; `str(network)` says what it was trained
        on and how often it is right.

    Raises:
        ValueError: another form of name, weights that cannot be used, or members with different classes.
        FileNotFoundError: no such weights, or a run that is not finished.

    """
    text = os.fspath(name)
    if AND in text and not Path(text).exists():
        return _together([_one(part.strip()) for part in text.split(AND)])
    return _one(text)


def _one(name: str) -> Network:
    path = Path(name).expanduser()
    if path.is_dir():
        return _of_a_run(path, name)
    if path.is_file():
        header = read_weights_header(path)
        return Network(name, graded(create_model(header["model"], weights=path)).eval())
    network, _, weights = name.replace(" ", "/").partition("/")
    known = list_weights()
    if network in known and weights:
        weights_file(network, weights)  # which says what there is
        return published(network, weights)._replace(name=name)
    listed = ", ".join(f"{model}/{weights}" for model, names in known.items() for weights in names) or "none"
    raise FileNotFoundError(
        f"expected a network and its weights, the folder of a finished run, or a .safetensors file, found {name!r}; "
        f"known: {listed}"
    )


def _of_a_run(folder: Path, name: str) -> Network:
    run = RunFolder.finished(folder)
    model = run.model()
    threshold = None
    if getattr(model, "decision", None) != "plurality":  # a run keeps votes of such a network, which have no degrees
        threshold = conformal_record(run.predictions, tta=run.recipe.tta)["threshold"]
    return Network(name, graded(model).eval(), run.recipe.tta, threshold, worth(run.result))


def _together(members: Sequence[Network]) -> Ensemble:
    first = members[0]
    for other in members[1:]:
        if set(other.labels) != set(first.labels):
            raise ValueError(
                f"expected networks with the same classes, found {', '.join(first.labels)} ({first.name}) "
                f"and {', '.join(other.labels)} ({other.name})"
            )
    if len({member.name for member in members}) < len(members):
        raise ValueError(f"expected every network once, found {AND.join(member.name for member in members)}")
    return Ensemble(AND.join(member.name for member in members), tuple(members))


def probabilities(network: Network | Ensemble, pictures: np.ndarray) -> np.ndarray:
    """Return what a network or an ensemble says of faces: (N, K) float32 in the order of `network.labels`.

    Args:
        network: from `load`; it is asked with the test-time augmentation that it was measured with.
        pictures: uint8 (N, H, W) or (N, 3, H, W), as `predict_probabilities` takes them.

    """
    if isinstance(network, Network):
        return predict_probabilities(network.model, pictures, tta=network.tta)
    found = [
        probabilities(member, pictures)[:, [member.labels.index(name) for name in network.labels]]
        for member in network.members
    ]
    return np.asarray(np.mean(found, axis=0, dtype=np.float64), np.float32)


def opinions(network: Network | Ensemble, pictures: np.ndarray) -> list[Opinion]:
    """Return an opinion on each of N faces, uint8 (N, 3, H, W): answer, probabilities, doubt and conformal set."""
    return opinions_of(network.name, network.labels, probabilities(network, pictures), network.threshold)
