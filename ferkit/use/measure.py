"""What trained networks are worth on data with labels: any weights, any loader, one's own classes; several in pairs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np

from ferkit import labels
from ferkit.data import duplicate_mask
from ferkit.data.faceset import FaceSet
from ferkit.evaluation.metrics import evaluate, paired_difference
from ferkit.explain.opinions import Network
from ferkit.use.networks import Ensemble, probabilities

#: The split that is asked about unless another is named: the first of these that the data have.
FIRST = ("test", "public_test", "private_test", "validation", "train")


def measure(
    networks: Sequence[Network | Ensemble], faces: FaceSet, *, split: str | None = None, n_bootstrap: int = 1000
) -> dict[str, Any]:
    """Ask networks about labelled pictures, and say how good their answers are.

    Pictures of a class that a network does not know are left out, for all of the networks, and answers are limited to
    the classes that all have, so that everyone is asked the same question.

    Args:
        networks: from `ferkit.use.load`.
        faces: from `ferkit.data.load`.
        split: the pictures to ask about; by default the first of `FIRST` that there is.
        n_bootstrap: replicates of the intervals, which are over pictures.

    Returns:
        A record: `data` (name, sha256, split, n, and the share `kept`), `labels` (the shared classes), `networks`: for
        each its `name`, what is known `about` it and its scores as of `ferkit.evaluation.evaluate`, with
        `duplicate_clean` on the pictures without a copy in train or validation of the same data; and `pairs`: for each
        two networks `a` and `b` and the difference of their accuracies on the same pictures, a minus b, as of
        `paired_difference`.

    Raises:
        ValueError: no such split, or fewer than two classes in common.

    """
    chosen = split or next(name for name in FIRST if name in faces.splits())
    part = faces.select(chosen)
    names = labels.shared(faces.names, *(network.labels for network in networks))
    place = np.asarray(labels.index_map(faces.names, names))[part.labels]  # (N,), -1 for other classes
    kept = np.flatnonzero(place >= 0)
    if not len(kept):
        raise ValueError(f"expected pictures of {', '.join(names)} in {chosen}, found none")
    held_out = chosen not in ("train", "validation") and len(faces.splits()) > 1
    clean = ~duplicate_mask(faces, chosen)[kept] if held_out else None
    scores, right = [], []
    asked = part.subset(kept)
    for network in networks:
        p = probabilities(network, asked.images)[:, list(labels.index_map(names, network.labels))].astype(np.float64)
        p /= np.maximum(p.sum(1, keepdims=True), 1e-12)
        found = evaluate(p, place[kept], names, clean=clean, n_bootstrap=n_bootstrap)
        scores.append({"name": network.name, "about": str(network), **found})
        right.append(p.argmax(1) == place[kept])
    return {
        "data": {
            "name": faces.name,
            "sha256": faces.sha256,
            "split": chosen,
            "n": len(kept),
            "kept": len(kept) / len(part),
        },
        "labels": list(names),
        "networks": scores,
        "pairs": [
            {"a": networks[i].name, "b": networks[j].name, **paired_difference(right[i], right[j])}
            for i, j in combinations(range(len(networks)), 2)
        ],
    }


def in_lines(record: dict[str, Any]) -> list[str]:
    """Return a record of `measure` as lines to read."""
    data = record["data"]
    lines = [f"{data['name']}, {data['split']}: {data['n']:,} pictures of {', '.join(record['labels'])}"]
    if data["kept"] < 1:
        lines.append(f"  ({1 - data['kept']:.1%} of the pictures are of other classes and left out)")
    for network in record["networks"]:
        lines.append(f"{network['name']}:")
        lines.append(f"  accuracy {_interval(network, 'accuracy')}, macro-F1 {_interval(network, 'macro_f1')}")
        if "duplicate_clean" in network:
            inner = network["duplicate_clean"]
            lines.append(
                f"  without copies in train or validation: accuracy {_interval(inner, 'accuracy')}, n = {inner['n']:,}"
            )
        lines.append(f"  calibration error {network['ece']:.3f}, cross entropy {network['cross_entropy']:.3f} nats")
        recalls = [f"{name} {'–' if value is None else f'{value:.0%}'}" for name, value in network["recall"].items()]
        lines.append(f"  recognised: {', '.join(recalls)}")
    for pair in record["pairs"]:
        low, high = (100 * bound for bound in pair["interval"])
        lines.append(
            f"{pair['a']} minus {pair['b']}: {100 * pair['accuracy']:+.1f} points "
            f"({low:+.1f} to {high:+.1f}), McNemar p = {pair['p']:.2g}"
        )
    if len(record["pairs"]) > 1:
        lines.append(f"{len(record['pairs'])} comparisons: by chance one in 20 has p below 0.05")
    return lines


def _interval(scores: dict[str, Any], what: str) -> str:
    low, high = (100 * bound for bound in scores["intervals"][what])
    return f"{100 * scores[what]:.1f} % ({low:.1f} to {high:.1f})"
