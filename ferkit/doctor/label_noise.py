r"""Doubtful labels: how far raters agree, what that allows a network at most,
and whether a network's doubts are the crowd's.

A set with votes shows what a label hides. `entropy` says how open a picture is, `agreement` how often two people, or a
person and the best possible guesser, say the same. Without votes one can only ask a network: confident learning
(Northcutt, Jiang, Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels", JAIR 70, 2021; the cleanlab
package) suspects the labels that the probabilities of *other* pictures' training speak against. Where there are both,
`against_crowd` compares. Probabilities must be out of sample: a network has learnt the labels it was trained on, wrong
ones too.
"""

from __future__ import annotations

import os
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from sklearn.metrics import roc_auc_score

from ferkit import data
from ferkit import labels as orders
from ferkit.data import ferplus
from ferkit.evaluation.bootstrap import Measured, resampled_mean
from ferkit.evaluation.metrics import wilson
from ferkit.files import sha256
from ferkit.models import create_model
from ferkit.models.registry import read_weights_header
from ferkit.predict import predict_probabilities
from ferkit.runs.experiment import environment, split_digest


def entropy(votes: np.ndarray) -> np.ndarray:
    r"""Return how open each picture is, (N,) in bits: $-\sum_k v_k \log_2 v_k$ of its votes as shares;
    0 where all agree.

    Args:
        votes: (N, K), not negative; counts or shares.

    Raises:
        ValueError: for another shape, negative votes, or a picture without any.
    """
    shares = _shares(votes)
    return -np.sum(shares * np.log2(np.where(shares > 0, shares, 1)), 1)


def agreement(counts: np.ndarray, *, n_bootstrap: int = 1000, seed: int = 0) -> dict[str, Measured]:
    r"""Return what a crowd's disagreement means for accuracies.

    - `two_raters`: chance that two of a picture's raters said the same, $\frac{\sum_k c_k (c_k - 1)}{n (n - 1)}$,
      averaged over pictures (the $\bar P$ of Fleiss, "Measuring nominal scale agreement among many raters",
      Psychological Bulletin 76, 1971).
    - `ceiling`: share of a picture's raters who said its most frequent word, averaged: the accuracy of somebody who
      knows every picture's votes and is scored against the word of one rater. No network scored against single ratings
      can expect more. It is read off the same votes, so it is too high, the more so the fewer raters.
    - `majority`: share of pictures of which more than half of the raters said one word.

    Args:
        counts: (N, K) whole numbers of votes, two a picture at least.
        n_bootstrap, seed: of the percentile intervals over pictures.

    Raises:
        ValueError: for another shape, or a picture with fewer than two votes.
    """
    _shares(counts)
    total = counts.sum(1)
    if total.min() < 2:
        raise ValueError(
            f"Expected two votes a picture at least, found {total.min():g} for picture {int(total.argmin())}; leave "
            "such pictures out."
        )
    top = counts.max(1)
    each = np.stack([(counts * (counts - 1)).sum(1) / (total * (total - 1)), top / total, top > total / 2])  # (3, N)
    found = resampled_mean(each, n_bootstrap=n_bootstrap, seed=seed)  # (3,)
    names = ("two_raters", "ceiling", "majority")
    return {name: Measured(*map(float, numbers)) for name, *numbers in zip(names, *found, strict=True)}


class Issues(NamedTuple):
    """Suspected labels (N,) bool, how good each label looks (N,) from 0 (bad) to 1,
    and the word it should perhaps be (N,).
    """

    suspected: np.ndarray
    quality: np.ndarray
    suggested: np.ndarray


def label_issues(labels: np.ndarray, probabilities: np.ndarray) -> Issues:
    r"""Return the labels that confident learning suspects, by cleanlab ("prune by noise rate", its default).

    A picture counts as confidently of class $j$ where $p_j$ reaches the mean of $p_j$ over the pictures labelled $j$;
    from the counts of (label, confident class) follows how many labels of each kind are wrong, and so many are
    suspected, those with the largest margin $p_j - p_{label}$ first. Quality is cleanlab's self-confidence: the
    probability of the label, corrected for how sure the network is of that class.

    Args:
        labels: (N,) the labels given, each class at least once.
        probabilities: (N, K) out of sample, rows sum to 1.

    Raises:
        ValueError: shapes that do not fit, or a class without labels.
        ImportError: cleanlab is not installed.
    """
    labels, p = np.asarray(labels), np.asarray(probabilities, np.float64)
    if p.ndim != 2 or labels.shape != (len(p),) or not len(p):
        raise ValueError(f"Expected labels (N,) and probabilities (N, K), found {labels.shape} and {p.shape}.")
    if not np.allclose(p.sum(1), 1, atol=1e-3):
        raise ValueError(
            "Expected rows of probabilities that sum to 1, found others; give softmax outputs, not logits."
        )
    absent = sorted(set(range(p.shape[1])) - set(labels.tolist()))
    if absent:
        raise ValueError(
            f"Expected every class among the labels, found none of {', '.join(map(str, absent))}; leave its column out."
        )
    try:
        from cleanlab.filter import find_label_issues
        from cleanlab.rank import get_label_quality_scores
    except ImportError:
        raise ImportError('Expected the package cleanlab, found none; pip install "ferkit[datasets]".') from None
    p = p / p.sum(1, keepdims=True)
    suspected = find_label_issues(labels, p, filter_by="prune_by_noise_rate", n_jobs=1)
    quality = get_label_quality_scores(labels, p, adjust_pred_probs=True)
    return Issues(np.asarray(suspected, bool), np.asarray(quality), p.argmax(1))


def against_crowd(issues: Issues, labels: np.ndarray, counts: np.ndarray) -> dict[str, Any]:
    """Compare suspected labels with what a crowd says of the same pictures.

    A label is *disputed* where more than half of the raters said another word. Pictures without a majority are left
    out, and reported: there the crowd itself does not know.

    Args:
        issues: from `label_issues`.
        labels: (N,) the labels given, columns of `counts`.
        counts: (N, C) votes, C not smaller than K; columns after those of the labels are words that no label has.

    Returns:
        n pictures with a majority; no_majority; suspected, disputed, both; precision (suspected labels that are
        disputed), recall (disputed labels that are suspected) and base_rate (disputed labels among all), each an
        `Measured` (Wilson); lift, precision over base rate; suggestion_agrees: of the labels that are both, how often
        the crowd's word is the network's; auroc of low quality for disputed labels (0.5 knows nothing);
        suspected_without_majority.
    """
    _shares(counts)
    if not len(labels) == len(counts) == len(issues.suspected):
        raise ValueError(f"Expected as many votes as labels, found {len(counts)} and {len(labels)}.")
    word = counts.argmax(1)
    known = counts.max(1) > counts.sum(1) / 2
    suspected, disputed = issues.suspected[known], (word != labels)[known]
    n, both = int(known.sum()), int((suspected & disputed).sum())
    right = int((suspected & disputed & (issues.suggested == word)[known]).sum())
    base = float(disputed.mean()) if n else np.nan
    mixed = 0 < disputed.sum() < n
    return {
        "n": n,
        "no_majority": int((~known).sum()),
        "suspected": int(suspected.sum()),
        "disputed": int(disputed.sum()),
        "both": both,
        "base_rate": _share(int(disputed.sum()), n),
        "precision": _share(both, int(suspected.sum())),
        "recall": _share(both, int(disputed.sum())),
        "lift": both / suspected.sum() / base if suspected.any() and base else np.nan,
        "suggestion_agrees": _share(right, both),
        "auroc": float(roc_auc_score(disputed, -issues.quality[known])) if mixed else np.nan,
        "suspected_without_majority": int(issues.suspected[~known].sum()),
    }


def examine_fer2013(
    path: str | os.PathLike[str],
    weights: str | os.PathLike[str],
    *,
    votes_path: str | os.PathLike[str] | None = None,
    split: str = "public_test",
    tta: str | None = "flip",
    seed: int = 0,
) -> dict[str, Any]:
    """Measure FER2013's labels on a split that a network was not trained on: what FER+'s crowd says,
    what confident learning says.

    Args:
        path: FER2013 as csv (FER+ is joined by row order).
        weights: .safetensors file of a network of FER2013's seven classes, trained on another split.
        votes_path: fer2013new.csv; default: beside FER2013's csv.
        split: the rows to look at.
        tta: see `ferkit.predict.predict_probabilities`.
        seed: of the bootstrap.

    Returns:
        A record of plain numbers: `crowd` (entropy in bits, `agreement`), and for `all` rows and those `without_copies`
        in train `issues` (`against_crowd`) and the network's accuracy against FER2013's labels and against the crowd's
        words, on the pictures whose majority is one of the seven emotions. Intervals are over pictures.

    Raises:
        ValueError: votes that do not belong to these rows, or a network of other classes.
    """
    faces = data.load_fer2013(path)
    source = data.fer2013.find_source(path)
    votes_file = Path(votes_path) if votes_path else source.parent / ferplus.VOTES_NAME
    data.load_ferplus(path, votes_file)  # refuses votes of other rows
    votes = ferplus.read_votes(votes_file).counts[: len(faces)]
    seven = orders.order("fer2013")
    columns = [orders.FERPLUS_COLUMNS.index(name) for name in seven]
    columns += [i for i in range(len(orders.FERPLUS_COLUMNS)) if i not in columns]
    rows = np.flatnonzero(faces.split == split)
    part, counts = faces.select(split), votes[rows][:, columns]  # the seven, contempt, unknown, no face
    header = read_weights_header(Path(weights))
    model = create_model(header["model"], weights=Path(weights))
    if set(model.labels) != set(seven):
        raise ValueError(f"Expected a network of {', '.join(seven)}, found {', '.join(model.labels)} in {weights}.")
    p = predict_probabilities(model, part.images, tta=tta, seed=seed)[:, [model.labels.index(name) for name in seven]]
    clean = ~data.duplicate_mask(faces, split)
    voted = counts.sum(1) >= 2
    bits = entropy(counts[voted])
    word = counts.argmax(1)
    emotion = (counts.max(1) > counts.sum(1) / 2) & (word < len(seven))

    def look(mask: np.ndarray) -> dict[str, Any]:
        issues = label_issues(part.labels[mask], p[mask])
        known = emotion & mask
        hits = [p.argmax(1)[known] == truth[known] for truth in (part.labels, word)]
        return {
            "n": int(mask.sum()),
            "issues": against_crowd(issues, part.labels[mask], counts[mask]),
            "suspected": _share(int(issues.suspected.sum()), int(mask.sum())),
            "accuracy_against_labels": _share(int(hits[0].sum()), len(hits[0])),
            "accuracy_against_crowd": _share(int(hits[1].sum()), len(hits[1])),
        }

    return {
        "name": f"label-noise-fer2013-{split}",
        "protocol": {
            "split": split,
            "tta": tta,
            "seed": seed,
            "method": f"cleanlab {version('cleanlab')}, prune_by_noise_rate",
            "votes": "all ten columns, single votes kept",
        },
        "crowd": {
            "n": int(voted.sum()),
            "entropy_bits": {
                "mean": float(bits.mean()),
                **{f"q{q}": float(np.percentile(bits, q)) for q in (25, 50, 75)},
            },
            "unanimous": _share(int((bits == 0).sum()), len(bits)),
            **agreement(counts[voted], seed=seed),
        },
        "all": look(np.ones(len(part), bool)),
        "without_copies": look(clean),
        "model": {"name": header["model"], "weights": Path(weights).name, "sha256": sha256(Path(weights))},
        "data": {
            "name": faces.name,
            "sha256": faces.sha256,
            "votes_sha256": sha256(votes_file),
            "splits": faces.splits(),
            "split_sha256": split_digest(faces),
        },
        "environment": environment(),
    }


def plain(value: Any) -> Any:
    """Return a record with its estimates as {"value", "interval"}, ready for JSON; nan becomes None."""
    if isinstance(value, Measured):
        return {"value": plain(value.value), "interval": [plain(value.low), plain(value.high)]}
    if isinstance(value, dict):
        return {key: plain(entry) for key, entry in value.items()}
    return None if isinstance(value, float) and np.isnan(value) else value


def _share(k: int, n: int) -> Measured:
    return Measured(k / n if n else np.nan, *wilson(k, n))


def _shares(votes: np.ndarray) -> np.ndarray:
    v = np.asarray(votes, np.float64)
    if v.ndim != 2 or not len(v):
        raise ValueError(f"Expected votes of shape (N, K), found {v.shape}.")
    if not (v >= 0).all() or not np.isfinite(v).all():
        raise ValueError("Expected votes of 0 or more, found others.")
    total = v.sum(1, keepdims=True)
    if (total == 0).any():
        raise ValueError(
            f"Expected votes for every picture, found none for {int((total == 0).sum()):,}, first picture "
            f"{int((total[:, 0] == 0).argmax())}."
        )
    return v / total
