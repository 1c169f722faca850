"""Classes counted and held against the published tables; the order of the labels is inferred from the counts."""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment

from ferkit import labels
from ferkit.doctor.published import official_tables
from ferkit.doctor.report import Finding
from ferkit.doctor.survey import Survey

#: An inferred order is believed where its numbers are exactly the published ones, or where every class is this close to
#: its published share and some class under the claimed order is at least `_FAR` times too frequent or too rare.
_NEAR, _FAR = 1.1, 1.5
#: A class of one's own with fewer images than this in a split says little.
_FEW = 5


def check_counts(survey: Survey) -> tuple[dict[str, dict[str, int]], list[Finding]]:
    """Return the published counts that belong to a survey, and what is wrong with its own."""
    found = survey.counts()
    published = official_tables(survey.set_name, set(found))
    if published and not any(
        found.get(split) and set(found[split]) - {"contempt"} >= set(published[split]) - {"contempt"}
        for split in published
    ):
        findings = _unnamed(found, published, survey.ordered)
        return ({} if findings else published), findings
    if not published:
        return {}, _own(found)
    shared = [split for split in published if split in found]
    findings = _order(found, published, shared)
    for split, counts in published.items():
        if split not in found:
            findings.append(
                Finding(
                    severity="warning", code="missing_split", count=sum(counts.values()),
                    sentence=f"Expected {sum(counts.values()):,} images of {split}, found none: this copy is not "
                    "complete, or ends early. Get a complete one, or do without that split.",
                    numbers={"split": split, "expected": sum(counts.values()), "found": 0},
                )  # fmt: skip
            )
        elif not findings or findings[0].code != "label_order":
            findings += _differences(split, found[split], counts)
    unknown = [split for split in found if split not in published]
    if unknown:
        sentence = (
            f"Expected the splits {', '.join(published)}, found {', '.join(unknown)} as well, which the "
            "published set does not have; say where it comes from."
        )
        findings.append(
            Finding(
                severity="warning",
                code="unknown_split",
                sentence=sentence,
                count=sum(sum(found[split].values()) for split in unknown),
            )
        )
    return published, findings


def _differences(split: str, found: dict[str, int], published: dict[str, int]) -> list[Finding]:
    names = [name for name in published if found.get(name, 0) != published[name]]
    if names == ["contempt"] and not found.get("contempt"):
        return []  # the seven-class form of the set
    if not names:
        return []
    more = [name for name in names if found.get(name, 0) > published[name]]
    total, expected = sum(found.values()), sum(published.values())
    classes = ", ".join(f"{name} {found.get(name, 0):,} for {published[name]:,}" for name in names)
    advice = (
        "images were added (augmented copies?) or moved; copies of test images make every number wrong"
        if more
        else "images are missing; complete the copy"
    )
    return [
        Finding(
            severity="error" if more else "warning",
            code="class_counts",
            count=sum(abs(found.get(name, 0) - published[name]) for name in names),
            sentence=f"Expected {expected:,} images in {split}, found {total:,} ({classes}): {advice}.",
            numbers={"split": split, "expected": published, "found": found},
        )  # fmt: skip
    ]


def _order(found: dict[str, dict[str, int]], published: dict[str, dict[str, int]], shared: list[str]) -> list[Finding]:
    """Infer which class each label really is."""
    informative = [split for split in shared if len(set(published[split].values())) > 1]
    names = (
        [name for name in published[informative[0]] if any(found[split].get(name) for split in informative)]
        if informative
        else []
    )
    if len(names) < 3:
        return []
    cost = _costs(found, published, informative, names, names)
    claimed = cost.diagonal()
    rows, columns = linear_sum_assignment(cost)
    best = cost[rows, columns]
    exact = all(
        found[split][names[i]] == published[split][names[j]]
        for split in shared
        for i, j in zip(rows, columns, strict=True)
    )
    if np.array_equal(rows, columns) or not (exact or (best.max() < np.log(_NEAR) and claimed.max() > np.log(_FAR))):
        return []
    swapped = [(names[i], names[j]) for i, j in zip(rows, columns, strict=True) if i != j]
    told = ", ".join(f"what is labelled {a} has the numbers of {b}" for a, b in swapped)
    sentence = (
        f"Expected the published numbers per class, found them in another order: {told}. The labels are "
        "swapped: give the right order, or rename the folders."
    )
    return [
        Finding(
            severity="error",
            code="label_order",
            sentence=sentence,
            count=len(swapped),
            numbers={"labelled_as": dict(swapped)},
        )
    ]


def _unnamed(found: dict[str, dict[str, int]], published: dict[str, dict[str, int]], ordered: bool) -> list[Finding]:
    """Say which emotion each number is, by the counts, where nobody told the order."""
    shared = [split for split in published if split in found and len(set(published[split].values())) > 1]
    if ordered or not shared:
        return _own(found)
    codes, names = list(found[shared[0]]), list(published[shared[0]])
    if len(codes) != len(names):
        return _own(found)
    cost = _costs(found, published, shared, codes, names)
    rows, columns = linear_sum_assignment(cost)
    if cost[rows, columns].max() > np.log(_NEAR):
        return _own(found)
    inferred = tuple(names[j] for j in columns)
    key = next((key for key in labels.ORDERS if labels.order(key) == inferred), None)
    told = ", ".join(f"{code} {name}" for code, name in zip(codes, inferred, strict=True))
    sentence = (
        f"The numbers of images are those of {told}"
        + (f', which is order="{key}"' if key else "; no known order is like this")
        + ". Check a few pictures, then tell it."
    )
    return [
        Finding(
            severity="note", code="inferred_order", sentence=sentence, numbers={"order": list(inferred), "key": key}
        )
    ]


def _costs(
    found: dict[str, dict[str, int]],
    published: dict[str, dict[str, int]],
    splits: list[str],
    rows: list[str],
    columns: list[str],
) -> np.ndarray:
    """Return |log(share / published share)| of each label (row) taken for each class (column),
    the worst over the splits.
    """
    worst = np.zeros((len(rows), len(columns)))
    for split in splits:
        have = np.array([found[split].get(name, 0) for name in rows]) + 0.5
        want = np.array([published[split][name] for name in columns]) + 0.5
        worst = np.maximum(worst, np.abs(np.log(have / have.sum())[:, None] - np.log(want / want.sum())))
    return worst


def _own(found: dict[str, dict[str, int]]) -> list[Finding]:
    """Look at a set without published counts: classes that are absent or nearly so."""
    findings = []
    for split, counts in found.items():
        few = {name: n for name, n in counts.items() if n < _FEW}
        if few:
            told = ", ".join(f"{name} {n}" for name, n in few.items())
            sentence = (
                f"Expected at least {_FEW} images of every class in {split}, found {told}; a recall on so "
                "few says nothing. Add images, or leave the class out."
            )
            findings.append(
                Finding(
                    severity="warning",
                    code="few_images",
                    sentence=sentence,
                    count=len(few),
                    numbers={"split": split, "found": few},
                )
            )
    return findings
