"""The whole examination of a data set, from its rows to its pictures."""

from __future__ import annotations

import os
import time

from ferkit.doctor.copies import check_copies, near_copies
from ferkit.doctor.counts import check_counts
from ferkit.doctor.looks import check_looks
from ferkit.doctor.report import SEVERITIES, Report
from ferkit.doctor.scan import look
from ferkit.doctor.survey import survey
from ferkit.doctor.votes import check_votes


def examine(
    path: str | os.PathLike[str],
    *,
    set_name: str | None = None,
    order: str | None = None,
    workers: int | None = None,
    progress: bool = True,
) -> Report:
    """Look at every row and every picture of a data set.

    What was seen of the pictures is kept in the cache folder (0.3 kB each), so that an interrupted examination goes on
    where it stopped, and the next one looks at changed files only.

    Args:
        path: file or folder of the data set, in any layout that `ferkit.data.load` reads.
        set_name: which set it is meant to be; default: what it looks like.
        order: which class each number is, a key of `ferkit.labels.ORDERS`, for class folders or a csv with numbers.
        workers: threads that decode; default one per processor, eight at most.
        progress: show a bar where it takes more than two seconds.

    Raises:
        NotRecognised: where no known data set lies at the path.
        ValueError: for an unknown `set_name` or `order`.
    """
    start = time.monotonic()
    found = survey(path, set_name=set_name, order=order)
    published, findings = check_counts(found)
    findings = [*found.findings, *findings, *check_votes(found)]
    if len(found.labels):
        records = look(found, workers=workers, progress=progress)
        findings += [*check_looks(found, records), *check_copies(found, records, near_copies(records))]
    return Report(
        path=os.fspath(path),
        set_name=found.set_name,
        layout=found.layout,
        images=len(found.labels),
        counts=found.counts(),
        official=published,
        findings=tuple(sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))),
        seconds=time.monotonic() - start,
    )
