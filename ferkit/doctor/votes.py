"""FER+'s votes held against FER2013's labels, row by row."""

from __future__ import annotations

import numpy as np

from ferkit import labels
from ferkit.data import ferplus
from ferkit.doctor.report import Finding
from ferkit.doctor.survey import Survey


def check_votes(survey: Survey) -> list[Finding]:
    """Return whether the votes belong to these rows, and how far the crowd agrees; [] without votes."""
    if survey.votes is None:
        return []
    n = len(survey.labels)
    try:
        votes = ferplus.read_votes(survey.votes)
    except (ValueError, OSError) as error:
        return [Finding(severity="error", code="votes", sentence=str(error))]
    if len(votes.usage) < n:
        return [
            Finding(
                severity="error",
                code="votes",
                sentence=f"Expected votes for all {n:,} images, found {len(votes.usage):,} rows in "
                f"{survey.votes.name}; get it whole.",
            )
        ]
    differs = np.flatnonzero(votes.usage[:n] != survey.split)
    if len(differs):
        sentence = (
            f"Expected {survey.votes.name} in the row order of {survey.layout}, found {len(differs):,} rows of "
            f"another split there, first data row {differs[0] + 1}; votes and images are joined by row order. Use an "
            "unsorted fer2013.csv."
        )
        return [Finding(severity="error", code="votes", sentence=sentence, count=len(differs))]
    _, majority = ferplus.vote_targets(votes.counts[:n], "majority")
    keep = majority >= 0
    if not keep.any():
        return []
    agree = float((np.asarray(labels.index_map(survey.names, "ferplus"))[survey.labels] == majority)[keep].mean())
    numbers = {"agreement": agree, "with_majority": int(keep.sum()), "no_face": int((votes.counts[:n, -1] > 5).sum())}
    wrong = ferplus.first_disagreement(survey.labels, survey.names, majority)
    if wrong is None and agree < ferplus.LEAST_AGREEMENT:  # too few rows to say where, enough to say that
        wrong = 0, agree
    if wrong is not None:
        row, share = wrong
        sentence = (
            f"Expected about two thirds of the majorities of FER+ to agree with FER2013's labels, found {share:.0%} "
            f"from about data row {row + 1:,} on: the rows are shifted there, or in another order. Use an unsorted, "
            "whole fer2013.csv."
        )
        return [Finding(severity="error", code="votes", sentence=sentence, count=int(keep.sum()), numbers=numbers)]
    sentence = (
        f"FER+: {keep.sum():,} of {n:,} images have a majority for an emotion; {agree:.1%} of those majorities are "
        f"FER2013's label. {numbers['no_face']} images are no face to most raters."
    )
    return [Finding(severity="note", code="votes", sentence=sentence, count=int(keep.sum()), numbers=numbers)]
